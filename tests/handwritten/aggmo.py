"""AggMo, written by hand after the paper."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class AggMo(Optimizer):
    """The mean of several momenta. Lucas et al. (2019), Aggregated Momentum."""

    def __init__(self, params, lr=1e-3, betas=(0.0, 0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            betas = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad + group["weight_decay"] * p
                state = self.state[p]
                for number, beta in enumerate(betas):
                    old = state.get(f"momentum_buffer_{number}", torch.zeros_like(p))
                    state[f"momentum_buffer_{number}"] = beta * old + grad
                buffers = [state[f"momentum_buffer_{i}"] for i in range(len(betas))]
                p.sub_(group["lr"] * sum(buffers) / len(betas))


REFERENCE = Reference(
    AggMo,
    ({}, {"betas": (0.9,), "lr": 0.01}, {"betas": (0.9, 0.9), "weight_decay": 0.1}),
)
