"""signSGD and Signum, written by hand.

pytorch_optimizer 4.1.0 gives the same for real parameters; of complex ones it takes the
direction, where here the real and the imaginary part have a sign each.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class SignSGD(Optimizer):
    """The sign of the gradient, or of its running mean.

    Bernstein et al. (2018), signSGD: Compressed Optimisation for Non-Convex Problems.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        momentum=0.9,
        weight_decay=0.0,
        decoupled_weight_decay=True,
    ):
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1:
            raise ValueError("lr and weight_decay in [0, inf), momentum in [0, 1)")
        defaults = {
            "lr": lr,
            "momentum": momentum,
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
            lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad
                if group["decoupled_weight_decay"]:
                    p.mul_(1 - lr * decay)
                else:
                    grad = grad + decay * p
                if momentum > 0:
                    state = self.state[p]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = torch.zeros_like(p)
                    grad = momentum * state["momentum_buffer"] + (1 - momentum) * grad
                    state["momentum_buffer"] = grad
                p.sub_(lr * grad.sign())
        return loss


REFERENCE = Reference(
    SignSGD,
    (
        {},
        {"momentum": 0.0},
        {"momentum": 0.0, "weight_decay": 0.5, "decoupled_weight_decay": False},
        {"weight_decay": 0.5},
        {"weight_decay": 0.5, "decoupled_weight_decay": False, "lr": 0.1},
    ),
)
