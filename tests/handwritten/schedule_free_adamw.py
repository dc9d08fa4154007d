"""Schedule-free AdamW, written by hand after the authors' code."""

import torch

from .reference import Reference
from .schedule_free import ScheduleFree


class ScheduleFreeAdamW(ScheduleFree):
    """The iterate steps as RMSprop does with a bias correction.

    Defazio et al. (2024), The Road Less Scheduled. As pytorch_optimizer's
    ScheduleFreeAdamW with its weights decayed at p.
    """

    def __init__(
        self, params, lr=2.5e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
        warmup_steps=0, r=0.0, weight_lr_power=2.0,
    ):  # fmt: skip
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
        }
        super().__init__(params, defaults)

    def momentum_of(self, group):
        return group["betas"][0]

    def rate(self, group, t):
        warmup = group["warmup_steps"]
        return group["lr"] * min(1.0, t / warmup if warmup else 1.0)

    def update(self, p, state, group, t):
        beta2 = group["betas"][1]
        second = state["exp_avg_sq"]
        second.mul_(beta2).add_(p.grad * p.grad, alpha=1 - beta2)
        denom = torch.sqrt(second / (1 - beta2**t)) + group["eps"]
        return p.grad / denom + group["weight_decay"] * p


REFERENCE = Reference(
    ScheduleFreeAdamW,
    (
        {},
        {"betas": (0.7, 0.9), "weight_decay": 0.1, "warmup_steps": 5},
        {"r": 1.0, "weight_lr_power": 1.0, "eps": 0.1},
    ),
    by_hand=("eval", "train"),
)
