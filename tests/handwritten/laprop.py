"""LaProp, written by hand after the paper.

pytorch_optimizer 4.1.0 agrees to 5e-8 while lr is constant: it adds 1e-15 under the root,
and has lr inside the momentum. Its coupled decay does nothing.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class LaProp(Optimizer):
    """Momentum of normalized gradients.

    Ziyin, Wang and Ueda (2020), LaProp: Separating Momentum and Adaptivity in Adam.
    """

    def __init__(
        self, params, lr=4e-4, betas=(0.9, 0.999), eps=1e-15, weight_decay=0.0
    ):
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError("lr, eps and weight_decay are not negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1
                m, v = state["exp_avg"], state["exp_avg_sq"]
                v.mul_(beta2).add_(p.grad.square(), alpha=1 - beta2)
                v_hat = v / (1 - beta2 ** state["step"])
                normalized = p.grad / (v_hat.sqrt() + group["eps"])
                m.mul_(beta1).add_(normalized, alpha=1 - beta1)
                p.sub_(lr * m / (1 - beta1 ** state["step"]))
                p.sub_(lr * group["weight_decay"] * p)
        return loss


REFERENCE = Reference(
    LaProp,
    (
        {},
        {"weight_decay": 0.2, "lr": 0.01},
        {"betas": (0.5, 0.6), "eps": 0.1},
    ),
)
