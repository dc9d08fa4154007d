"""ADOPT, written by hand after the authors' description of it.

pytorch_optimizer 4.1.0 differs: its bound counts this step too, so that the first update is
bounded by 2**0.25 and not by 1, and its decoupled decay starts a step earlier.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class ADOPT(Optimizer):
    """Adam that divides by the second moment of the gradients before.

    Taniguchi et al. (2024), ADOPT: Modified Adam Can Converge with Any beta2 with the
    Optimal Rate.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.9999),
        eps=1e-6,
        clip_exp=0.25,
        weight_decay=0.0,
        decoupled_weight_decay=False,
    ):
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError("lr, eps and weight_decay are not negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "clip_exp": clip_exp,
            "weight_decay": weight_decay,
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
            decay = group["weight_decay"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad
                if not group["decoupled_weight_decay"]:
                    grad = grad + decay * p
                elif p in self.state:
                    p.mul_(1 - group["lr"] * decay)
                self.update(p, grad, self.state[p], group)
        return loss

    def update(self, p, grad, state, group):
        if len(state) == 0:
            state["step"] = 1
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = grad.square()
            return
        beta1, beta2 = group["betas"]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        normed = grad / v.sqrt().clamp(min=group["eps"])
        if group["clip_exp"] is not None:
            bound = state["step"] ** group["clip_exp"]
            normed = normed.clamp(-bound, bound)
        m.mul_(beta1).add_(normed, alpha=1 - beta1)
        p.sub_(group["lr"] * m)
        v.mul_(beta2).add_(grad.square(), alpha=1 - beta2)
        state["step"] += 1


REFERENCE = Reference(
    ADOPT,
    (
        {},
        {"clip_exp": None, "eps": 0.3},
        {"clip_exp": 0.5, "betas": (0.5, 0.8), "lr": 0.01},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "lr": 0.01},
    ),
)
