"""LARS, written by hand. pytorch_optimizer 4.1.0 gives the same."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class LARS(Optimizer):
    """Momentum whose gradient is scaled to the norm of its layer.

    You, Gitman and Ginsburg (2017), Large Batch Training of Convolutional Networks.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0.9,
        weight_decay=0.0,
        trust_coefficient=1e-3,
    ):
        if lr < 0 or weight_decay < 0 or trust_coefficient < 0:
            raise ValueError("lr, weight_decay and trust_coefficient are not negative")
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum: {momentum}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }
        super().__init__(params, defaults)

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
                state = self.state[p]
                if len(state) == 0:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buf = state["momentum_buffer"]
                buf.mul_(group["momentum"]).add_(self.scaled(p, group))
                p.add_(buf, alpha=-group["lr"])
        return loss

    def scaled(self, p, group):
        """The gradient with its decay, times the trust ratio; of a vector, as it is."""
        if p.dim() < 2:
            return p.grad
        decay = group["weight_decay"]
        weights, gradients = p.pow(2).sum().sqrt(), p.grad.pow(2).sum().sqrt()
        total = gradients + decay * weights
        ratio = 1.0
        if weights > 0 and total > 0:
            ratio = group["trust_coefficient"] * weights / total
        return ratio * (p.grad + decay * p)


REFERENCE = Reference(
    LARS,
    (
        {},
        {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.5},
        {"trust_coefficient": 0.1, "weight_decay": 0.01},
    ),
)
