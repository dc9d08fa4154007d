"""AdaBound, written by hand after the paper and the authors' code."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class AdaBound(Optimizer):
    """Adam with step sizes between two bounds that meet in `final_lr`.

    Luo et al. (2019), Adaptive Gradient Methods with Dynamic Bound of Learning Rate.
    Follows https://github.com/Luolc/AdaBound, but for groups that are added later, whose
    first rate the authors' list does not know.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        final_lr=0.1,
        gamma=1e-3,
        eps=1e-8,
        weight_decay=0,
        amsbound=False,
    ):
        hypers = {
            "lr": lr,
            "betas": betas,
            "final_lr": final_lr,
            "gamma": gamma,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsbound": amsbound,
        }
        super().__init__(params, hypers)
        self.first_rates = [float(group["lr"]) for group in self.param_groups]

    @torch.no_grad()
    def step(self):
        for group, first_rate in zip(self.param_groups, self.first_rates, strict=True):
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                    if group["amsbound"]:
                        state["max_exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1
                t = state["step"]
                grad = p.grad + group["weight_decay"] * p
                state["exp_avg"] = beta1 * state["exp_avg"] + (1 - beta1) * grad
                state["exp_avg_sq"] = (
                    beta2 * state["exp_avg_sq"] + (1 - beta2) * grad**2
                )
                second = state["exp_avg_sq"]
                if group["amsbound"]:
                    second = torch.maximum(state["max_exp_avg_sq"], second)
                    state["max_exp_avg_sq"] = second
                denom = second.sqrt() + group["eps"]
                rate = group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
                final = group["final_lr"] * group["lr"] / first_rate
                low = final * (1 - 1 / (group["gamma"] * t + 1))
                high = final * (1 + 1 / (group["gamma"] * t))
                sizes = (torch.full_like(denom, rate) / denom).clamp(low, high)
                p.sub_(sizes * state["exp_avg"])


REFERENCE = Reference(
    AdaBound,
    (
        {},
        {"lr": 0.01, "final_lr": 0.03, "gamma": 0.2, "weight_decay": 0.1},
        {"amsbound": True, "betas": (0.5, 0.6), "gamma": 0.9, "eps": 1e-3},
    ),
    falling=True,
)
