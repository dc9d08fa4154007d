"""AdaMod, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same bits with betas of (0.9, 0.999, 0.999).
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class AdaMod(Optimizer):
    """Adam whose step sizes are bounded by their own running mean.

    Ding et al. (2019), An Adaptive and Momental Bound Method for Stochastic Learning.
    Follows https://github.com/lancopku/AdaMod.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        beta3=0.999,
        eps=1e-8,
        weight_decay=0.0,
    ):
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError("lr, eps and weight_decay are not negative")
        if not all(0 <= beta < 1 for beta in (*betas, beta3)):
            raise ValueError(f"Invalid betas: {betas}, {beta3}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "beta3": beta3,
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
            (beta1, beta2), beta3 = group["betas"], group["beta3"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    for key in ("exp_avg", "exp_avg_sq", "exp_avg_lr"):
                        state[key] = torch.zeros_like(p)
                state["step"] += 1
                m, v = state["exp_avg"], state["exp_avg_sq"]
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.mul_(beta2).add_(p.grad.square(), alpha=1 - beta2)
                rate = group["lr"] * (1 - beta2 ** state["step"]) ** 0.5
                rate /= 1 - beta1 ** state["step"]
                eta = rate / (v.sqrt() + group["eps"])
                mean = state["exp_avg_lr"]
                mean.mul_(beta3).add_(eta, alpha=1 - beta3)
                p.sub_(group["lr"] * group["weight_decay"] * p)
                p.sub_(torch.minimum(eta, mean) * m)
        return loss


REFERENCE = Reference(
    AdaMod,
    (
        {},
        {"weight_decay": 0.2, "lr": 0.01},
        {"betas": (0.5, 0.6), "beta3": 0.3, "eps": 0.1},
    ),
)
