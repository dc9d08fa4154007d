"""Cautious AdamW, written by hand after the authors' code.

pytorch_optimizer 4.1.0 has the mask as an option of other rules, and scales it otherwise: by
the number of entries over that of those that stay and one.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class CautiousAdamW(Optimizer):
    """AdamW without the entries of its update that go against the gradient.

    Liang et al. (2024), Cautious Optimizers: Improving Training with One Line of Code.
    Follows https://github.com/kyleliang919/C-Optim.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
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
            beta1, beta2 = group["betas"]
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
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.mul_(beta2).add_(p.grad.square(), alpha=1 - beta2)
                rate = group["lr"] * (1 - beta2 ** state["step"]) ** 0.5
                rate /= 1 - beta1 ** state["step"]
                agree = m * p.grad > 0
                if p.numel() > 0:
                    rate /= max(agree.sum().item() / p.numel(), 1e-3)
                update = m / (v.sqrt() + group["eps"])
                update[~agree] = 0
                p.sub_(group["lr"] * group["weight_decay"] * p)
                p.sub_(rate * update)
        return loss


REFERENCE = Reference(
    CautiousAdamW,
    (
        {},
        {"weight_decay": 0.2, "lr": 0.01},
        {"betas": (0.5, 0.6), "eps": 0.1},
    ),
)
