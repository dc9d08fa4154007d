"""Schedule-free SGD, written by hand after the authors' code."""

import torch

from .reference import Reference
from .schedule_free import ScheduleFree


class ScheduleFreeSGD(ScheduleFree):
    """The gradient step of the iterate, with an average that is kept beside it.

    Defazio et al. (2024), The Road Less Scheduled. As pytorch_optimizer's ScheduleFreeSGD,
    which decays at z where asked for decoupled decay; here, as in the authors', at p.
    """

    def __init__(
        self, params, lr=1.0, momentum=0.9, weight_decay=0.0, warmup_steps=0, r=0.0,
        weight_lr_power=2.0,
    ):  # fmt: skip
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
        }
        super().__init__(params, defaults)

    def momentum_of(self, group):
        return group["momentum"]

    def rate(self, group, t):
        warmup = group["warmup_steps"]
        return group["lr"] * min(1.0, t / warmup if warmup else 1.0)

    def update(self, p, state, group, t):
        return torch.add(p.grad, p, alpha=group["weight_decay"])


REFERENCE = Reference(
    ScheduleFreeSGD,
    (
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "warmup_steps": 5},
        {"lr": 0.2, "r": 1.0, "weight_lr_power": 1.0},
    ),
    by_hand=("eval", "train"),
)
