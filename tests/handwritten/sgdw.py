"""SGDW, written by hand. pytorch_optimizer 4.1.0 gives the same."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class SGDW(Optimizer):
    """torch's SGD, whose weights decay apart from the gradient.

    Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0.0,
        dampening=0.0,
        weight_decay=0.0,
        nesterov=False,
    ):
        if lr < 0 or momentum < 0 or weight_decay < 0:
            raise ValueError("lr, momentum and weight_decay are not negative")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.sub_(p * (lr * group["weight_decay"]))
                step = p.grad
                if momentum != 0:
                    state = self.state[p]
                    if "momentum_buffer" in state:
                        state["momentum_buffer"].mul_(momentum)
                        state["momentum_buffer"].add_((1 - group["dampening"]) * p.grad)
                    else:
                        state["momentum_buffer"] = p.grad.clone()
                    step = state["momentum_buffer"]
                    if group["nesterov"]:
                        step = p.grad + momentum * step
                p.sub_(lr * step)
        return loss


REFERENCE = Reference(
    SGDW,
    (
        {},
        {"lr": 0.02, "weight_decay": 0.1},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"momentum": 0.9, "dampening": 0.3},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
)
