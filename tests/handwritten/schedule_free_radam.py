"""Schedule-free RAdam, written by hand after the authors' code."""

import torch

from .reference import Reference
from .schedule_free import ScheduleFree


class ScheduleFreeRAdam(ScheduleFree):
    """The iterate rests, or steps along the gradient, until the variance can be trusted.

    Defazio et al. (2024), The Road Less Scheduled. As pytorch_optimizer's
    ScheduleFreeRAdam with its weights decayed at p.
    """

    def __init__(
        self, params, lr=2.5e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
        r=0.0, weight_lr_power=2.0, silent_sgd_phase=True,
    ):  # fmt: skip
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "silent_sgd_phase": silent_sgd_phase,
        }
        super().__init__(params, defaults)

    def momentum_of(self, group):
        return group["betas"][0]

    def _length(self, group, t):
        """Of the moving average that the second moment stands for, now and in the end."""
        beta2 = group["betas"][1]
        last = 2 / (1 - beta2) - 1
        return last - 2 * t * beta2**t / (1 - beta2**t), last

    def rate(self, group, t):
        now, last = self._length(group, t)
        if now <= 4:
            return 0.0 if group["silent_sgd_phase"] else group["lr"]
        share = (now - 4) * (now - 2) * last / ((last - 4) * (last - 2) * now)
        return group["lr"] * share**0.5

    def update(self, p, state, group, t):
        beta2 = group["betas"][1]
        second = state["exp_avg_sq"]
        second.mul_(beta2).add_(p.grad * p.grad, alpha=1 - beta2)
        step = p.grad.clone()
        if self._length(group, t)[0] > 4:
            step /= torch.sqrt(second / (1 - beta2**t)) + group["eps"]
        return step + group["weight_decay"] * p


REFERENCE = Reference(
    ScheduleFreeRAdam,
    (
        {},
        {"silent_sgd_phase": False, "weight_decay": 0.1},
        {"betas": (0.7, 0.9), "r": 1.0, "weight_lr_power": 1.0, "eps": 0.1},
    ),
    by_hand=("eval", "train"),
)
