"""Tiger, written by hand after the author's description of it.

pytorch_optimizer 4.1.0 differs: it is Signum with decoupled decay, and no parameter has a
rate of its own.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class Tiger(Optimizer):
    """The sign of a momentum, scaled to the root mean square of the weights.

    Su (2023), Tiger: A Tight-fisted Optimizer, https://kexue.fm/archives/9512
    """

    def __init__(self, params, lr=1e-3, beta=0.965, weight_decay=0.01):
        if lr < 0 or weight_decay < 0:
            raise ValueError("lr and weight_decay are not negative")
        if not 0 <= beta < 1:
            raise ValueError(f"Invalid beta: {beta}")
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta = group["beta"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["m"] = torch.zeros_like(p)
                state["m"] = beta * state["m"] + (1 - beta) * p.grad
                update = state["m"].sign()
                scale = 0.5
                if p.dim() > 1:
                    update += group["weight_decay"] * p
                    scale = p.square().mean().sqrt()
                p.sub_(group["lr"] * scale * update)
        return loss


REFERENCE = Reference(
    Tiger,
    (
        {},
        {"lr": 0.02, "beta": 0.5},
        {"lr": 0.02, "weight_decay": 0.5},
        {"weight_decay": 0.0},
    ),
)
