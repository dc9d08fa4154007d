"""StableAdamW, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same, from defaults of its own.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class StableAdamW(Optimizer):
    """AdamW whose learning rate falls where the gradient outgrows the second moment.

    Wortsman et al. (2023), Stable and low-precision training for large-scale
    vision-language models.
    """

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.2):
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
                t = state["step"]
                hat1 = (beta1 - beta1**t) / (1 - beta1**t)
                hat2 = (beta2 - beta2**t) / (1 - beta2**t)
                v = hat1 * state["exp_avg"] + (1 - hat1) * p.grad
                u = hat2 * state["exp_avg_sq"] + (1 - hat2) * p.grad**2
                state["exp_avg"], state["exp_avg_sq"] = v, u
                lr = group["lr"]
                if p.numel() > 0:
                    floor = torch.full_like(u, group["eps"] ** 2)
                    rms = (p.grad**2 / torch.maximum(u, floor)).mean().sqrt().item()
                    lr /= max(1.0, rms)
                p.sub_(lr * group["weight_decay"] * p)
                p.sub_(lr * v / (u.sqrt() + group["eps"]))
        return loss


REFERENCE = Reference(
    StableAdamW,
    (
        {},
        {"weight_decay": 0.0},
        {"betas": (0.5, 0.9), "eps": 0.3, "lr": 0.05},
    ),
)
