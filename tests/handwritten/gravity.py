"""Gravity, written by hand after the paper and the authors' code."""

import torch
from torch.optim import Optimizer

from .noise import normal
from .reference import Reference


class Gravity(Optimizer):
    """A velocity that starts at random and averages gradients of limited size.

    Bahrami and Pakzad Zadeh (2021), Gravity Optimizer: a Kinematic Approach on Optimization
    in Deep Learning. Follows https://github.com/dariush-bahrami/gravity.optimizer, where
    the first step has the number 0.
    """

    def __init__(self, params, lr=0.1, alpha=0.01, beta=0.9):
        super().__init__(params, {"lr": lr, "alpha": alpha, "beta": beta})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for place, p in enumerate(group["params"]):
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    size = group["alpha"] / group["lr"]
                    state["step"] = 0
                    state["velocity"] = size * normal(p, group, place, 1)
                t = state["step"]
                share = (group["beta"] * t + 1) / (t + 2)
                steepest = 1 / p.grad.abs().max() if p.numel() else 1
                held = p.grad / (1 + (p.grad / steepest) ** 2)
                state["velocity"] = share * state["velocity"] + (1 - share) * held
                state["step"] += 1
                p.sub_(group["lr"] * state["velocity"])


REFERENCE = Reference(
    Gravity,
    ({}, {"lr": 0.01, "alpha": 0.001}, {"lr": 0.5, "beta": 0.5, "alpha": 0.2}),
    states={"step": None},
    random=True,
)
