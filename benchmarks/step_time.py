"""How long a step in loop mode takes, as a ratio to torch's for-loop of the same rule.

    python benchmarks/step_time.py [--rounds N] [RULE ...]

Both optimizers step in turn in one run on the same gradients; the table holds the median
of the ratios of each pair, and the medians of both in milliseconds. Shapes: those of
GPT-2 small (148 tensors, 124.4 million parameters), and 1000 tensors of 64x64.
"""

import argparse
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
}


def gpt2_small() -> list[tuple[int, ...]]:
    """The shapes of the parameters of GPT-2 small, the head tied to the embedding."""
    width = 768
    layer = [
        *(
            (width,),
            (width,),
            (width, 3 * width),
            (3 * width,),
            (width, width),
            (width,),
        ),
        *(
            (width,),
            (width,),
            (width, 4 * width),
            (4 * width,),
            (4 * width, width),
            (width,),
        ),
    ]
    return [(50257, width), (1024, width), *layer * 12, (width,), (width,)]


SHAPES = {"GPT-2 small": gpt2_small(), "1000 x 64x64": [(64, 64)] * 1000}


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
    rule: str, shapes: list[tuple[int, ...]], rounds: int
) -> tuple[float, float, float]:
    """Median ratio ours to torch's, and both medians in seconds."""
    name, options = RULES[rule]
    ours = load_optimizer(rule)(parameters(shapes), **options)
    theirs = getattr(torch.optim, name)(parameters(shapes), foreach=False, **options)
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
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32")
    print(
        f"{'rule':10} {'parameters':14} {'ratio':>7} {'optdsl ms':>10} {'torch ms':>10}"
    )
    for label, shapes in SHAPES.items():
        for rule in options.rules:
            ratio, mine, its = compare(rule, shapes, options.rounds)
            print(
                f"{rule:10} {label:14} {ratio:7.3f} {mine * 1e3:10.1f} {its * 1e3:10.1f}"
            )


if __name__ == "__main__":
    main()
