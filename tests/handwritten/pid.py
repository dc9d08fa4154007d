"""PID, written by hand after the paper.

pytorch_optimizer 4.1.0 gives the same with a momentum, which there is 0 by default; without
one it takes the gradient alone.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class PID(Optimizer):
    """The gradient, its sum and its change, as a controller adds them.

    An et al. (2018), A PID Controller Approach for Stochastic Optimization of Deep
    Networks.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0.9,
        weight_decay=0.0,
        integral=5.0,
        derivative=10.0,
    ):
        if lr < 0 or integral < 0 or derivative < 0 or weight_decay < 0:
            raise ValueError("all but the momentum are not negative")
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum: {momentum}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "integral": integral,
            "derivative": derivative,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            momentum = group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad + group["weight_decay"] * p
                state = self.state[p]
                if len(state) == 0:
                    state["i_buffer"] = torch.zeros_like(p)
                    state["d_buffer"] = torch.zeros_like(p)
                    state["grad_buffer"] = grad
                change = grad - state["grad_buffer"]
                state["grad_buffer"] = grad
                state["i_buffer"].mul_(momentum).add_(grad)
                state["d_buffer"].mul_(momentum).add_(change, alpha=1 - momentum)
                controlled = grad + group["integral"] * state["i_buffer"]
                controlled += group["derivative"] * state["d_buffer"]
                p.sub_(group["lr"] * controlled)
        return loss


REFERENCE = Reference(
    PID,
    (
        {},
        {"momentum": 0.0},
        {"momentum": 0.5, "integral": 2.0, "weight_decay": 0.1},
        {"derivative": 3.0, "lr": 0.01},
    ),
)
