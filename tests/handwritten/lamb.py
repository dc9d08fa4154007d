"""LAMB, written by hand after the paper.

pytorch_optimizer 4.1.0 differs: it corrects the bias of the first moment alone, bounds the
norm of the parameter by 10, and its default decay stands outside the ratio.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class LAMB(Optimizer):
    """Adam whose update is scaled to the norm of its layer.

    You et al. (2020), Large Batch Optimization for Deep Learning: Training BERT in 76
    minutes.
    """

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-2
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
                m_hat = m / (1 - beta1 ** state["step"])
                v_hat = v / (1 - beta2 ** state["step"])
                update = m_hat / (v_hat.sqrt() + group["eps"])
                update += group["weight_decay"] * p
                weights, updates = p.norm().item(), update.norm().item()
                ratio = weights / updates if weights > 0 and updates > 0 else 1.0
                p.sub_(group["lr"] * ratio * update)
        return loss


REFERENCE = Reference(
    LAMB,
    (
        {},
        {"weight_decay": 0.0},
        {"betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.3, "lr": 0.01},
    ),
)
