"""Adai, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same while the mean second moment of the model is above
1e-3: below it divides by 1e-3, the eps of the constructor.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class Adai(Optimizer):
    """Momentum whose decay differs from weight to weight.

    Xie et al. (2022), Adaptive Inertia: Disentangling the Effects of Adaptive Learning
    Rate and Momentum. Follows https://github.com/zeke-xie/adaptive-inertia-adai.
    """

    def __init__(
        self,
        params,
        lr=0.1,
        betas=(0.1, 0.99),
        eps=1e-3,
        weight_decay=0.0,
        decoupled=False,
    ):
        if lr < 0 or weight_decay < 0 or not 0 < eps <= 1:
            raise ValueError("lr, eps or weight_decay is out of range")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        moving = [
            (group, p, self.state[p])
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        seen, total, count = [], 0.0, 0
        for group, p, state in moving:
            grad, squares = self.observe(p, state, group)
            seen.append((grad, squares))
            total += squares.sum().item()
            count += p.numel()
        for (group, p, state), (grad, squares) in zip(moving, seen, strict=True):
            share = group["betas"][0] * squares / (total / count)
            inertia = (1 - share).clamp(0, 1 - group["eps"])
            state["beta1_prod"].mul_(inertia)
            state["weight"] = 1 - state["beta1_prod"]
            state["exp_avg"].mul_(inertia).add_((1 - inertia) * grad)
            p.sub_(group["lr"] * state["exp_avg"] / state["weight"])

    def observe(self, p, state, group):
        """The gradient with its decay, and the second moment without its bias."""
        if len(state) == 0:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
            state["beta1_prod"] = torch.ones_like(p)
        state["step"] += 1
        grad, beta2 = p.grad, group["betas"][1]
        if group["decoupled"]:
            p.sub_(group["lr"] * group["weight_decay"] * p)
        else:
            grad = grad + group["weight_decay"] * p
        state["exp_avg_sq"].mul_(beta2).add_(grad**2, alpha=1 - beta2)
        return grad, state["exp_avg_sq"] / (1 - beta2 ** state["step"])


REFERENCE = Reference(
    Adai,
    (
        {},
        {"betas": (0.5, 0.6), "lr": 0.01},
        {"eps": 0.5, "weight_decay": 0.1, "lr": 0.01},
        {"weight_decay": 0.1, "decoupled": True, "betas": (0.9, 0.9)},
    ),
)
