"""Lion, written by hand after the authors' code."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class Lion(Optimizer):
    """The sign of an interpolated momentum, with decoupled weight decay.

    Chen et al. (2023), Symbolic Discovery of Optimization Algorithms. Follows
    https://github.com/google/automl/blob/master/lion/lion_pytorch.py
    """

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        if lr < 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        super().__init__(
            params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.data.mul_(1 - group["lr"] * group["weight_decay"])
                grad = p.grad
                state = self.state[p]
                if len(state) == 0:
                    state["exp_avg"] = torch.zeros_like(p)
                exp_avg = state["exp_avg"]
                update = exp_avg * beta1 + grad * (1 - beta1)
                p.add_(update.sign_(), alpha=-group["lr"])
                exp_avg.mul_(beta2).add_(grad, alpha=1 - beta2)
        return loss


REFERENCE = Reference(
    Lion, ({}, {"betas": (0.5, 0.6)}, {"weight_decay": 0.1, "lr": 0.01})
)
