"""AdEMAMix, written by hand after the paper.

pytorch_optimizer 4.1.0 gives the same where both warm-ups are one, `t_alpha_beta3`; its
default alpha is 5, and its default weight decay an L2 penalty.
"""

import math

import torch
from torch.optim import Optimizer

from .reference import Reference


class AdEMAMix(Optimizer):
    """Adam with a fast and a slow mean of the gradient.

    Pagliardini, Ablin and Grangier (2024), The AdEMAMix Optimizer: Better, Faster, Older.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999, 0.9999),
        alpha=2.0,
        beta3_warmup=None,
        alpha_warmup=None,
        eps=1e-8,
        weight_decay=0.0,
    ):
        if lr < 0 or alpha < 0 or eps < 0 or weight_decay < 0:
            raise ValueError("lr, alpha, eps and weight_decay are not negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "alpha": alpha,
            "beta3_warmup": beta3_warmup,
            "alpha_warmup": alpha_warmup,
            "eps": eps,
            "weight_decay": weight_decay,
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
                    self.update(p, p.grad, self.state[p], group)
        return loss

    def update(self, p, grad, state, group):
        if len(state) == 0:
            state["step"] = 0
            for name in ("exp_avg_fast", "exp_avg_slow", "exp_avg_sq"):
                state[name] = torch.zeros_like(p)
        state["step"] += 1
        beta1, beta2, beta3 = group["betas"]
        fast, slow = state["exp_avg_fast"], state["exp_avg_slow"]
        squares = state["exp_avg_sq"]
        alpha = group["alpha"]
        if group["alpha_warmup"] is not None and state["step"] < group["alpha_warmup"]:
            alpha *= state["step"] / group["alpha_warmup"]
        if group["beta3_warmup"] is not None and state["step"] < group["beta3_warmup"]:
            beta3 = warmed(beta1, beta3, state["step"] / group["beta3_warmup"])
        fast.mul_(beta1).add_(grad, alpha=1 - beta1)
        slow.mul_(beta3).add_(grad, alpha=1 - beta3)
        squares.mul_(beta2).add_(grad**2, alpha=1 - beta2)
        root = (squares / (1 - beta2 ** state["step"])).sqrt()
        mixed = fast / (1 - beta1 ** state["step"]) + alpha * slow
        update = mixed / (root + group["eps"])
        p.sub_(group["lr"] * (update + group["weight_decay"] * p))


def warmed(start, end, share):
    """The decay whose half-life is that share of the way from the one to the other."""
    if start == 0:
        start = 1e-8
    one, other = math.log(start), math.log(end)
    return math.exp(one * other / ((1 - share) * other + share * one))


REFERENCE = Reference(
    AdEMAMix,
    (
        {},
        {"betas": (0.5, 0.8, 0.95), "alpha": 5.0, "eps": 0.1, "lr": 0.01},
        {"beta3_warmup": 20, "betas": (0.5, 0.9, 0.99)},
        {"beta3_warmup": 20, "betas": (0.0, 0.9, 0.99)},
        {"alpha_warmup": 15},
        {"weight_decay": 0.1, "lr": 0.01},
    ),
)
