"""Amos, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same for vectors; for others it has one mean square for
the whole parameter and other scales.
"""

import math

import torch
from torch.optim import Optimizer

from .reference import Reference


class Amos(Optimizer):
    """Adam whose learning rate and weight decay fall as the weights near their scale.

    Tian and Parikh (2022), Amos: An Adam-style Optimizer with Adaptive Weight Decay towards
    Model-Oriented Scale. Follows https://github.com/google-research/jestimator, with a
    mean square for each row.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        eta=None,
        beta=0.999,
        zeta=0.25,
        momentum=0.0,
        eps=2.4e-38,
    ):
        if not 0 <= beta < 1 or not 0 <= momentum < 1:
            raise ValueError(f"Invalid decays: {beta}, {momentum}")
        defaults = {"lr": lr, "eta": eta, "beta": beta, "zeta": zeta}
        super().__init__(params, {**defaults, "momentum": momentum, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            xi, zeta = group["lr"], group["zeta"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                squares = p.grad.square()
                g2 = squares.mean(dim=-1, keepdim=True) if p.ndim > 0 else squares
                if len(state) == 0:
                    state["step"] = 0
                    state["v"], state["b"] = torch.zeros_like(g2), torch.zeros_like(g2)
                    state["exp_avg"] = torch.zeros_like(p)
                state["step"] += 1
                v, b = state["v"], state["b"]
                v.mul_(group["beta"]).add_(g2, alpha=1 - group["beta"])
                v_hat = v.clamp(min=group["eps"]) / (1 - group["beta"] ** state["step"])
                c = 1 / torch.sqrt(1 + zeta * math.sqrt(xi) * b)
                gamma = c * xi**2 * g2 / v_hat
                eta = xi * self.scale(p, group["eta"])
                d = 1 / (1 + zeta * math.sqrt(eta) * b)
                update = d * (eta * p.grad / v_hat.sqrt() + gamma / 2 * p)
                state["b"] = b + gamma * (1 + b)
                mean = state["exp_avg"]
                mean.mul_(group["momentum"]).add_(update, alpha=1 - group["momentum"])
                p.sub_(mean)
        return loss

    @staticmethod
    def scale(p, eta):
        if eta is not None:
            return eta
        if p.ndim < 2:
            return 0.5
        return 1 / math.sqrt(p[0].numel()) if p.numel() > 0 else 1.0


REFERENCE = Reference(
    Amos,
    (
        {},
        {"lr": 0.1, "eta": 2.0, "zeta": 3.0},
        {"lr": 0.1, "momentum": 0.9, "beta": 0.5, "zeta": 0.0},
        {"lr": 0.1, "eps": 5.0},
    ),
)
