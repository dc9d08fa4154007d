"""QHM, written by hand after the paper. pytorch_optimizer 4.1.0 gives the same."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class QHM(Optimizer):
    """A step along the gradient and along its mean.

    Ma and Yarats (2019), Quasi-hyperbolic momentum and Adam for deep learning.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0.999,
        nu=0.7,
        weight_decay=0.0,
        decoupled_weight_decay=False,
    ):
        if lr < 0 or weight_decay < 0:
            raise ValueError("lr and weight_decay are not negative")
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum: {momentum}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nu": nu,
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
            lr, nu, momentum = group["lr"], group["nu"], group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad
                if group["decoupled_weight_decay"]:
                    p.sub_(lr * group["weight_decay"] * p)
                else:
                    grad = grad + group["weight_decay"] * p
                state = self.state[p]
                if len(state) == 0:
                    state["momentum_buffer"] = torch.zeros_like(p)
                mean = state["momentum_buffer"]
                mean.mul_(momentum).add_(grad, alpha=1 - momentum)
                p.sub_(lr * ((1 - nu) * grad + nu * mean))
        return loss


REFERENCE = Reference(
    QHM,
    (
        {},
        {"lr": 0.1, "momentum": 0.9, "nu": 1.0},
        {"nu": 0.5, "weight_decay": 0.1},
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
)
