"""DiffGrad, written by hand after the authors' corrected code.

pytorch_optimizer 4.1.0 agrees to 2e-9 with weight_decouple=False: it adds 1e-15 under the
root.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class DiffGrad(Optimizer):
    """Adam with a friction where the gradient stays as it was.

    Dubey et al. (2020), diffGrad: An Optimization Method for Convolutional Neural
    Networks. Follows https://github.com/shivram1987/diffGrad, diffGrad_v2.py.
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
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
                    for key in ("exp_avg", "exp_avg_sq", "previous_grad"):
                        state[key] = torch.zeros_like(p)
                state["step"] += 1
                grad = p.grad + group["weight_decay"] * p
                m, v = state["exp_avg"], state["exp_avg_sq"]
                m.mul_(beta1).add_(grad, alpha=1 - beta1)
                v.mul_(beta2).add_(grad.square(), alpha=1 - beta2)
                change = (state["previous_grad"] - grad).abs()
                friction = 1 / (1 + torch.exp(-change))
                state["previous_grad"] = grad
                rate = group["lr"] * (1 - beta2 ** state["step"]) ** 0.5
                rate /= 1 - beta1 ** state["step"]
                p.sub_(rate * friction * m / (v.sqrt() + group["eps"]))
        return loss


REFERENCE = Reference(
    DiffGrad,
    (
        {},
        {"weight_decay": 0.2, "lr": 0.01},
        {"betas": (0.5, 0.6), "eps": 0.1},
    ),
)
