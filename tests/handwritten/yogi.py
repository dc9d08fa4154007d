"""Yogi, written by hand after the description of TensorFlow Addons.

pytorch_optimizer 4.1.0 differs: its first moment starts at the initial accumulator too, its
eps is not scaled by the bias correction, and its decay that of AdamW.
"""

import math

import torch
from torch.optim import Optimizer

from .reference import Reference


class Yogi(Optimizer):
    """Adam whose second moment grows and shrinks by a square at most.

    Zaheer et al. (2018), Adaptive Methods for Nonconvex Optimization.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        betas=(0.9, 0.999),
        eps=1e-3,
        initial_accumulator=1e-6,
        weight_decay=0.0,
    ):
        if lr < 0 or eps < 0 or initial_accumulator < 0 or weight_decay < 0:
            raise ValueError("all but the betas are not negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "initial_accumulator": initial_accumulator,
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
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    start = group["initial_accumulator"]
                    state["exp_avg_sq"] = torch.full_like(p, start)
                state["step"] += 1
                m, v, square = state["exp_avg"], state["exp_avg_sq"], p.grad**2
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.add_((1 - beta2) * (square - v).sign() * square)
                unbiased = math.sqrt(1 - beta2 ** state["step"])
                unbiased /= 1 - beta1 ** state["step"]
                rates = group["lr"] * unbiased / (v.sqrt() + group["eps"])
                p.copy_((p - rates * m) / (1 + group["weight_decay"] * rates))
        return loss


REFERENCE = Reference(
    Yogi,
    (
        {},
        {"betas": (0.5, 0.7), "eps": 0.1},
        {"initial_accumulator": 0.5},
        {"weight_decay": 0.1, "lr": 0.05},
    ),
)
