"""AdaBelief, written by hand after the authors' adabelief-pytorch 0.2.1.

pytorch_optimizer 4.1.0 gives the same; its `rectify` is off by default.
"""

import math

import torch
from torch.optim import Optimizer

from .reference import Reference


class AdaBelief(Optimizer):
    """Adam that divides by how far gradients are from their mean.

    Zhuang et al. (2020), AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
    Gradients.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-16,
        weight_decay=0.0,
        decoupled_weight_decay=True,
        rectify=True,
    ):
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError("lr, eps and weight_decay are not negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "rectify": rectify,
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
            lr, decay, eps = group["lr"], group["weight_decay"], group["eps"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_var"] = torch.zeros_like(p)
                state["step"] += 1
                grad = p.grad
                if group["decoupled_weight_decay"]:
                    p.mul_(1 - lr * decay)
                else:
                    grad = grad + decay * p
                mean, variance = state["exp_avg"], state["exp_avg_var"]
                mean.mul_(beta1).add_(grad, alpha=1 - beta1)
                variance.mul_(beta2).add_((grad - mean) ** 2, alpha=1 - beta2)
                variance.add_(eps)
                p.sub_(self.update(group, mean, variance, state["step"]))
        return loss

    def update(self, group, mean, variance, step):
        """What is subtracted from the parameter."""
        beta1, beta2 = group["betas"]
        rate = group["lr"] / (1 - beta1**step)
        unbiased = 1 - beta2**step
        if not group["rectify"]:
            denom = (variance / unbiased).sqrt() + group["eps"]
            return rate * mean / denom
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * step * beta2**step / unbiased
        if length < 5:
            return rate * mean
        share = (length - 4) * (length - 2) / length
        share /= (longest - 4) * (longest - 2) / longest
        denom = variance.sqrt() + group["eps"]
        return rate * math.sqrt(unbiased * share) * mean / denom


REFERENCE = Reference(
    AdaBelief,
    (
        {},
        {"rectify": False, "eps": 1e-3},
        {"betas": (0.5, 0.8), "eps": 1e-4},
        {"lr": 0.01, "weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": False, "rectify": False},
    ),
)
