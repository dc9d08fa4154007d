"""SGLD, written by hand after the paper."""

import torch
from torch.optim import Optimizer

from .noise import normal
from .reference import Reference


class SGLD(Optimizer):
    """Half a step along the gradient of the log-posterior, and noise of variance `lr`.

    Welling and Teh (2011), Bayesian Learning via Stochastic Gradient Langevin Dynamics,
    equation 4.
    """

    def __init__(self, params, lr=1e-4, temperature=1.0, weight_decay=0.0):
        hypers = {"lr": lr, "temperature": temperature, "weight_decay": weight_decay}
        super().__init__(params, hypers)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            deviation = (group["temperature"] * group["lr"]) ** 0.5
            for place, p in enumerate(group["params"]):
                if p.grad is None:
                    continue
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                prior = group["weight_decay"] * p
                noise = deviation * normal(p, group, place, state["step"])
                p.add_(noise - group["lr"] / 2 * (p.grad + prior))


REFERENCE = Reference(
    SGLD,
    ({}, {"lr": 0.1, "weight_decay": 0.3}, {"lr": 0.01, "temperature": 0.25}),
    random=True,
)
