"""Sophia, written by hand after the authors' SophiaG."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class Sophia(Optimizer):
    """Steps of at most `lr`, less where the Hessian is large.

    Liu et al. (2023), Sophia: A Scalable Stochastic Second-order Optimizer for Language
    Model Pre-training. Follows https://github.com/Liuhong99/Sophia/blob/main/sophia.py,
    whose batch size is an argument of `step`.
    """

    def __init__(
        self,
        params,
        lr=1e-4,
        betas=(0.965, 0.99),
        rho=0.04,
        batch_size=5120,
        weight_decay=0.1,
        eps=1e-15,
    ):
        hypers = {
            "lr": lr,
            "betas": betas,
            "rho": rho,
            "batch_size": batch_size,
            "weight_decay": weight_decay,
            "eps": eps,
        }
        super().__init__(params, hypers)

    @torch.no_grad()
    def update_hessian(self):
        for group in self.param_groups:
            beta = group["betas"][1]
            for p in group["params"]:
                if p.grad is not None and p in self.state:
                    square = (1 - beta) * p.grad * p.grad
                    self.state[p]["hessian"].mul_(beta).add_(square)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, beta = group["lr"], group["betas"][0]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["exp_avg"] = torch.zeros_like(p)
                    state["hessian"] = torch.zeros_like(p)
                p.mul_(1 - lr * group["weight_decay"])
                state["exp_avg"].mul_(beta).add_(p.grad, alpha=1 - beta)
                scale = group["rho"] * group["batch_size"]
                denom = scale * state["hessian"] + group["eps"]
                ratio = (state["exp_avg"].abs() / denom).clamp(max=1)
                p.sub_(lr * state["exp_avg"].sign() * ratio)


REFERENCE = Reference(
    Sophia,
    (
        {},
        {"lr": 0.01, "rho": 0.5, "batch_size": 20, "weight_decay": 0.3},
        {"betas": (0.5, 0.6), "batch_size": 100, "eps": 0.1, "weight_decay": 0},
    ),
    by_hand=("update_hessian",),
)
