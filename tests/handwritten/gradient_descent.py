"""Gradient descent, written by hand."""

import torch
from torch.optim import Optimizer


class GradientDescent(Optimizer):
    """Gradient descent.

    Cauchy (1847), Methode generale pour la resolution des systemes d'equations simultanees.
    """

    def __init__(self, params, lr=1e-3):
        if lr < 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.add_(p.grad, alpha=-group["lr"])
        return loss
