"""AdaGrad-Norm, written by hand from algorithm 1 of the paper."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class AdaGradNorm(Optimizer):
    """Ward, Wu and Bottou (2019), AdaGrad Stepsizes."""

    def __init__(self, params, lr=1.0, b0=1e-2, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.b_sq = b0 * b0

    @torch.no_grad()
    def step(self, closure=None):
        moving = [
            (group["lr"], p, p.grad + group["weight_decay"] * p)
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        self.b_sq += sum((grad * grad).sum().item() for _, _, grad in moving)
        for lr, p, grad in moving:
            p.sub_(lr / self.b_sq**0.5 * grad)


REFERENCE = Reference(AdaGradNorm, ({}, {"weight_decay": 0.1, "b0": 2.0}, {"lr": 0.1}))
