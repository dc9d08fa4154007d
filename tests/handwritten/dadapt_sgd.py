"""D-adapted SGD, written by hand after the authors' code, with a rate for each group.

pytorch_optimizer 4.1.0 has the authors' rule: one rate, the largest, for all groups.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class DAdaptSGD(Optimizer):
    """Defazio and Mishchenko (2023), Learning-Rate-Free Learning by D-Adaptation."""

    def __init__(
        self, params, lr=1.0, momentum=0.0, weight_decay=0.0, d0=1e-6,
        growth_rate=float("inf"),
    ):  # fmt: skip
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.d, self.growth_rate = d0, growth_rate
        self.numerator, self.g0_norm = 0.0, 0.0

    @torch.no_grad()
    def step(self, closure=None):
        moving = [
            (group, p, p.grad + group["weight_decay"] * p)
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        if self.g0_norm == 0:
            self.g0_norm = sum((g * g).sum().item() for _, _, g in moving) ** 0.5
        if self.g0_norm == 0:
            return
        squares = 0.0
        for group, p, grad in moving:
            state = self.state[p]
            if not state:
                state["x0"], state["s"] = p.clone(), torch.zeros_like(p)
            rate = self.d * group["lr"] / self.g0_norm
            self.numerator += rate * (grad * state["s"]).sum().item()
            state["s"] += rate * grad
            squares += (state["s"] ** 2).sum().item()
        for group, p, _ in moving:
            z = self.state[p]["x0"] - self.state[p]["s"]
            p.copy_(group["momentum"] * p + (1 - group["momentum"]) * z)
        if squares > 0:
            found = 2 * self.numerator / squares**0.5
            self.d = max(self.d, min(found, self.d * self.growth_rate))


REFERENCE = Reference(
    DAdaptSGD,
    (
        {},
        {"momentum": 0.9, "weight_decay": 0.1, "d0": 0.01},
        {"growth_rate": 1.02, "d0": 0.1, "lr": 0.5},
    ),
)
