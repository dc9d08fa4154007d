"""Train on handwritten digits with a compiled optimizer and with the same rule by hand.

    python -m examples.digits

Compiles specs/momentum.opt, shows the file, trains two copies of one network on
scikit-learn's digits with the same batches, and compares the parameters at the end. The
compiled file and a plot of both loss curves are written to build/demo.
"""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import torch
from rich.console import Console
from rich.progress import Progress
from rich.syntax import Syntax
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from optdsl import load_optimizer
from tests.handwritten.momentum import Momentum as ByHand

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (after the choice of a backend without a screen)

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "specs" / "momentum.opt"
OUTPUT = ROOT / "build" / "demo"
EPOCHS, BATCH = 40, 64
OPTIONS = {"lr": 0.02, "momentum": 0.9}


@dataclass
class Run:
    """One network with its optimizer, and what training it gave."""

    title: str
    network: nn.Module
    optimizer: torch.optim.Optimizer
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def train(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        """One epoch; the mean loss of its batches is kept."""
        start, total = time.perf_counter(), 0.0
        for images, digits in batches:
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.network(images), digits)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        self.seconds += time.perf_counter() - start
        self.losses.append(total / len(batches))

    def accuracy(self, images: Tensor, digits: Tensor) -> float:
        with torch.no_grad():
            return (self.network(images).argmax(1) == digits).float().mean().item()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def digits() -> list[Tensor]:
    """Images and digits to train on, images and digits to test with; 8x8 pixels in 0..1."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, labels, test_size=0.25, random_state=0)
    train_x, test_x, train_y, test_y = parts
    as_images = [torch.tensor(each, dtype=torch.float32) for each in (train_x, test_x)]
    return [as_images[0], torch.tensor(train_y), as_images[1], torch.tensor(test_y)]


def show_compiled(console: Console) -> None:
    command = [
        "compile",
        str(SPEC.relative_to(ROOT)),
        "-o",
        str(OUTPUT.relative_to(ROOT)),
    ]
    console.print("$ optdsl", " ".join(command), style="bold", highlight=False)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "optdsl", *command], check=True, cwd=ROOT)
    text = (OUTPUT / "momentum.py").read_text()
    if console.is_terminal:
        console.print(Syntax(text, "python", background_color="default"))
    else:
        print(text)


def train(runs: list[Run], images: Tensor, labels: Tensor, console: Console) -> None:
    shuffle = torch.Generator().manual_seed(1)
    with Progress(console=console) as progress:
        for _ in progress.track(range(EPOCHS), description=f"{EPOCHS} epochs"):
            order = torch.randperm(len(images), generator=shuffle).split(BATCH)
            batches = [(images[each], labels[each]) for each in order]
            for run in runs:
                run.train(batches)


def plot(runs: list[Run], path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for run, style in zip(runs, ("-", ":"), strict=True):
        axes.semilogy(run.losses, style, linewidth=3, label=run.title)
    axes.set(
        xlabel="epoch", ylabel="training loss", title="digits, heavy-ball momentum"
    )
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    # So small a network is fastest on one thread, and then waits for no busy core.
    torch.set_num_threads(1)
    console = Console()
    show_compiled(console)
    images, labels, test_images, test_labels = digits()
    models = [network(), network()]
    # The loop calls torch as the one by hand does; kernels would round otherwise.
    compiled = load_optimizer(SPEC)(models[0].parameters(), foreach=False, **OPTIONS)
    by_hand = ByHand(models[1].parameters(), **OPTIONS)
    runs = [Run("compiled", models[0], compiled), Run("by hand", models[1], by_hand)]
    train(runs, images, labels, console)

    table = Table("optimizer", "first loss", "last loss", "test accuracy", "seconds")
    table.columns[0].no_wrap = True
    for run in runs:
        accuracy = f"{run.accuracy(test_images, test_labels):.1%}"
        first, last = f"{run.losses[0]:.4f}", f"{run.losses[-1]:.6f}"
        table.add_row(run.title, first, last, accuracy, f"{run.seconds:.1f}")
    pairs = zip(runs[0].network.parameters(), runs[1].network.parameters(), strict=True)
    largest = max((ours - theirs).abs().max().item() for ours, theirs in pairs)
    table.add_section()
    table.add_row("largest difference of parameters", f"{largest:g}")
    console.print(table)
    plot(runs, OUTPUT / "loss.png")
    console.print(
        "wrote", str((OUTPUT / "loss.png").relative_to(ROOT)), highlight=False
    )
    if largest != 0:
        sys.exit("the compiled optimizer and the one by hand differ")


if __name__ == "__main__":
    main()
