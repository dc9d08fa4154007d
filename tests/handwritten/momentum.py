"""SGD with heavy-ball momentum, written by hand."""

import torch
from torch.optim import Optimizer


class Momentum(Optimizer):
    """Heavy-ball momentum.

    Polyak (1964), Some methods of speeding up the convergence of iteration methods.
    """

    def __init__(self, params, lr=1e-3, momentum=0.9):
        if lr < 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum: {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum})

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
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buf = state["momentum_buffer"]
                buf.mul_(momentum).add_(p.grad)
                p.add_(buf, alpha=-lr)
        return loss
