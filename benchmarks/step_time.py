"""How long a step takes, as a ratio to torch's class for the same rule: the loop to
torch's for-loop, foreach to torch's foreach.

    python benchmarks/step_time.py [--rounds N] [--target loop|foreach] [RULE ...]

Both optimizers step in turn in one run on the same gradients; the table holds the median
of the ratios of each pair, and the medians of both in milliseconds. Shapes: those of
GPT-2 small (148 tensors, 124.4 million parameters), and 1000 tensors of 64x64. Muon steps
the matrices of one layer of GPT-2 small; torch's has no foreach, its loop stands in.
"""

import argparse
import inspect
import statistics
import time

import torch

from optdsl import load_optimizer

RULES = {
    "sgd": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "adadelta": ("Adadelta", {}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "asgd": ("ASGD", {}),
    "rprop": ("Rprop", {}),
    "adafactor": ("Adafactor", {}),
    "muon": ("Muon", {}),
}
WIDTH = 768
LAYER = (
    *((WIDTH,), (WIDTH,), (WIDTH, 3 * WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,)),
    *(
        (WIDTH,),
        (WIDTH,),
        (WIDTH, 4 * WIDTH),
        (4 * WIDTH,),
        (4 * WIDTH, WIDTH),
        (WIDTH,),
    ),
)
GPT2_SMALL = [(50257, WIDTH), (1024, WIDTH), *LAYER * 12, (WIDTH,), (WIDTH,)]
SHAPES = {"GPT-2 small": GPT2_SMALL, "1000 x 64x64": [(64, 64)] * 1000}
MATRICES = {"GPT-2 layer": [shape for shape in LAYER if len(shape) == 2]}


def parameters(shapes: list[tuple[int, ...]]) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in made:
        p.grad = torch.randn_like(p)
    return made


def seconds(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def compare(
    rule: str, shapes: list[tuple[int, ...]], rounds: int, foreach: bool
) -> tuple[float, float, float]:
    """Median ratio ours to torch's, and both medians in seconds."""
    name, options = RULES[rule]
    cls = getattr(torch.optim, name)
    ours = load_optimizer(rule)(parameters(shapes), foreach=foreach, **options)
    if "foreach" in inspect.signature(cls).parameters:
        options = {**options, "foreach": foreach}
    theirs = cls(parameters(shapes), **options)
    for _ in range(2):
        ours.step()
        theirs.step()
    pairs = []
    for turn in range(rounds):
        # Who goes first alternates, so that neither always finds the caches of the other.
        if turn % 2:
            later = seconds(theirs.step)
            pairs.append((seconds(ours.step), later))
        else:
            first = seconds(ours.step)
            pairs.append((first, seconds(theirs.step)))
    ratio = statistics.median(mine / its for mine, its in pairs)
    mine, its = (statistics.median(column) for column in zip(*pairs, strict=True))
    return ratio, mine, its


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rules", nargs="*", default=list(RULES), metavar="RULE")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--target", choices=("loop", "foreach"))
    options = parser.parse_args()
    targets = (options.target,) if options.target else ("loop", "foreach")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32\n")
    print("| target | parameters | rule | ratio | optdsl ms | torch ms |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for target in targets:
        for rule in options.rules:
            for label, shapes in (MATRICES if rule == "muon" else SHAPES).items():
                found = compare(rule, shapes, options.rounds, target == "foreach")
                ratio, mine, its = found
                print(
                    f"| {target} | {label} | {rule} | {ratio:.3f} "
                    f"| {mine * 1e3:.1f} | {its * 1e3:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
