"""Fromage, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same; its p_bound is the constructor's alone.
"""

import math

import torch
from torch.optim import Optimizer

from .reference import Reference


class Fromage(Optimizer):
    """Steps whose length is a share of that of the weights.

    Bernstein et al. (2020), On the distance between two neural networks and the stability
    of learning. Follows https://github.com/jxbz/fromage.
    """

    def __init__(self, params, lr=0.01, p_bound=None):
        if lr < 0 or (p_bound is not None and p_bound < 1):
            raise ValueError("lr is not negative, p_bound at least 1")
        super().__init__(params, {"lr": lr, "p_bound": p_bound})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, p_bound = group["lr"], group["p_bound"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if p_bound is not None and len(state) == 0:
                    state["bound"] = p_bound * p.norm().item()
                length, steepness = p.norm().item(), p.grad.norm().item()
                scale = length / steepness if length > 0 and steepness > 0 else 1.0
                p.sub_(lr * scale * p.grad)
                p.div_(math.sqrt(1 + lr**2))
                if p_bound is not None and p.norm().item() > state["bound"]:
                    p.mul_(state["bound"] / p.norm().item())
        return loss


REFERENCE = Reference(
    Fromage, ({}, {"lr": 0.3}, {"p_bound": 1.0}, {"p_bound": 1.1, "lr": 0.3})
)
