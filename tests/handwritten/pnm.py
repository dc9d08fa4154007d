"""PNM, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same where all parameters start at once; its eps is read
by no line.
"""

import math

import torch
from torch.optim import Optimizer

from .reference import Reference


class PNM(Optimizer):
    """A momentum of the odd steps and one of the even steps, each taken off the other.

    Xie et al. (2021), Positive-Negative Momentum: Manipulating Stochastic Gradient Noise to
    Improve Generalization. Follows
    https://github.com/zeke-xie/Positive-Negative-Momentum.
    """

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 1.0), weight_decay=0.0, decoupled=True
    ):
        if not 0 <= betas[0] < 1 or betas[1] < 0:
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            decay, (beta1, beta2) = group["weight_decay"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["pos_momentum"] = torch.zeros_like(p)
                    state["neg_momentum"] = torch.zeros_like(p)
                state["step"] += 1
                grad = p.grad
                if group["decoupled"]:
                    p.sub_(group["lr"] * decay * p)
                else:
                    grad = grad + decay * p
                mine, other = state["pos_momentum"], state["neg_momentum"]
                if state["step"] % 2 == 0:
                    mine, other = other, mine
                mine.mul_(beta1**2).add_(grad, alpha=1 - beta1**2)
                norm = math.hypot(1 + beta2, beta2)
                p.sub_(group["lr"] / norm * ((1 + beta2) * mine - beta2 * other))
        return loss


REFERENCE = Reference(
    PNM,
    (
        {},
        {"betas": (0.5, 0.3), "lr": 0.01},
        {"weight_decay": 0.2},
        {"weight_decay": 0.2, "decoupled": False},
    ),
)
