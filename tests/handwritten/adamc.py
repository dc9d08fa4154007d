"""AdamC, written by hand after the paper."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class AdamC(Optimizer):
    """AdamW with its decay times the rate over the largest rate, where the weights are
    normalized.

    Defazio (2025), Why Gradients Rapidly Increase Near the End of Training, algorithm 1.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        normalized=True,
    ):
        hypers = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "normalized": normalized,
        }
        super().__init__(params, hypers)
        for group in self.param_groups:
            group["largest"] = float(group["lr"])

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            rate, largest = group["lr"], group["largest"]
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1
                state["exp_avg"] = torch.lerp(p.grad, state["exp_avg"], beta1)
                state["exp_avg_sq"] = torch.lerp(p.grad**2, state["exp_avg_sq"], beta2)
                mean = state["exp_avg"] / (1 - beta1 ** state["step"])
                second = state["exp_avg_sq"] / (1 - beta2 ** state["step"])
                decay = rate * group["weight_decay"]
                if group["normalized"]:
                    decay = rate**2 / largest * group["weight_decay"]
                p.sub_(rate * mean / (second.sqrt() + group["eps"]) + decay * p)


REFERENCE = Reference(
    AdamC,
    (
        {},
        {"lr": 0.01, "weight_decay": 0.3, "betas": (0.5, 0.6)},
        {"lr": 0.02, "weight_decay": 0.1, "normalized": False, "eps": 1e-3},
    ),
    falling=True,
)
