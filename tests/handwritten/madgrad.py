"""MADGRAD, written by hand after the authors' description of it.

pytorch_optimizer 4.1.0 gives the same, but that its k counts the steps of the optimizer,
not those of the parameter.
"""

import math

import torch
from torch.optim import Optimizer

from .reference import Reference


class MADGRAD(Optimizer):
    """Dual averaging with a cube root for denominator, and with momentum.

    Defazio and Jelassi (2022), Adaptivity without Compromise: A Momentumized, Adaptive,
    Dual Averaged Gradient Method for Stochastic Optimization.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        momentum=0.9,
        weight_decay=0.0,
        eps=1e-6,
        decoupled_weight_decay=False,
    ):
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError("lr, eps and weight_decay are not negative")
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum: {momentum}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eps": eps,
            "decoupled_weight_decay": decoupled_weight_decay,
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
                if p.grad is not None:
                    self.update(p, self.state[p], group)
        return loss

    def update(self, p, state, group):
        momentum, eps = group["momentum"], group["eps"]
        if len(state) == 0:
            state["step"] = 0
            state["grad_sum_sq"] = torch.zeros_like(p)
            state["s"] = torch.zeros_like(p)
            if momentum != 0:
                state["x0"] = p.clone()
        s, squares = state["s"], state["grad_sum_sq"]
        if momentum != 0:
            start = state["x0"]
        else:
            start = p + quotient(s, squares, eps)
        state["step"] += 1
        lr = group["lr"] + eps if group["lr"] > 0 else 0.0
        weight = lr * math.sqrt(state["step"])
        grad, decay = p.grad, group["weight_decay"]
        if not group["decoupled_weight_decay"]:
            grad = grad + decay * p
        squares.add_(weight * grad**2)
        s.add_(weight * grad)
        averaged = start - quotient(s, squares, eps)
        moved = momentum * p + (1 - momentum) * averaged
        if group["decoupled_weight_decay"]:
            moved -= lr * decay * p
        p.copy_(moved)


def quotient(s, squares, eps):
    """The sum of gradients over the root of the sum of squares; of nothing, 0."""
    divided = s / (squares ** (1 / 3) + eps)
    return torch.where(squares > 0, divided, torch.zeros_like(s))


REFERENCE = Reference(
    MADGRAD,
    (
        {},
        {"momentum": 0.0, "eps": 0.0},
        {"lr": 0.001, "momentum": 0.5, "eps": 0.0},
        {"weight_decay": 0.1, "eps": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "momentum": 0.0},
    ),
)
