"""How much memory a foreach step takes beside parameters, gradients and states, as a
multiple of the parameters, next to torch's foreach of the same rule.

    python benchmarks/peak_memory.py [RULE ...]

The tensors that a step makes are counted while they are alive, by torch's own dispatch:
the numbers are the same in every run, on every machine.
"""

import argparse
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from optdsl import load_optimizer

RULES = {
    "adadelta": "Adadelta", "adafactor": "Adafactor", "adagrad": "Adagrad",
    "adam": "Adam", "adamw": "AdamW", "adamax": "Adamax", "asgd": "ASGD",
    "nadam": "NAdam", "radam": "RAdam", "rmsprop": "RMSprop", "rprop": "Rprop",
    "sgd": "SGD",
}  # fmt: skip
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"weight_decay": 0.1},
    {"maximize": True},
    {"weight_decay": 0.1, "maximize": True},
    {"amsgrad": True},
    {"momentum": 0.9},
    {"momentum": 0.9, "centered": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    {"decoupled_weight_decay": True, "weight_decay": 0.1},
)
SHAPE, COUNT = (64, 64), 16


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are made in it, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.owners: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = {each.untyped_storage()._cdata for each in _tensors((args, kwargs))}
        result = function(*args, **(kwargs or {}))
        for each in _tensors(result):
            storage = each.untyped_storage()
            key = storage._cdata
            if key in before and key not in self.owners:
                continue
            if key not in self.owners:
                self.owners[key] = 0
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
            self.owners[key] += 1
            weakref.finalize(each, self._drop, key, storage.nbytes())
        return result

    def _drop(self, key: int, size: int) -> None:
        self.owners[key] -= 1
        if not self.owners[key]:
            del self.owners[key]
            self.now -= size


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(tree) if isinstance(each, torch.Tensor)]


def peak(make: Callable[..., Optimizer], **options: Any) -> float:
    """The most that an eighth step takes at once, in parameters of the model: RAdam moves
    by another equation in the first five.
    """
    params = [torch.nn.Parameter(torch.randn(SHAPE)) for _ in range(COUNT)]
    optimizer = make(params, foreach=True, **options)
    for _ in range(8):
        for p in params:
            p.grad = torch.randn_like(p)
        with Alive() as alive:
            optimizer.step()
    return alive.peak / sum(p.numel() * p.element_size() for p in params)


def options_of(rule: str) -> list[dict[str, Any]]:
    """The options of the table that a rule has."""
    known = inspect.signature(getattr(torch.optim, RULES[rule])).parameters
    return [each for each in OPTIONS if each.keys() <= known.keys()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rules", nargs="*", default=list(RULES), metavar="RULE")
    print("| rule | options | optdsl | torch |\n| --- | --- | ---: | ---: |")
    for rule in parser.parse_args().rules:
        for options in options_of(rule):
            said = ", ".join(f"{key}={value}" for key, value in options.items())
            ours = peak(load_optimizer(rule), **options)
            theirs = peak(getattr(torch.optim, RULES[rule]), **options)
            print(f"| {rule} | {said or 'defaults'} | {ours:.2f} | {theirs:.2f} |")


if __name__ == "__main__":
    main()
