"""M-SVAG, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same; it too divides by 1e-4 in the first step, which is
why it goes wrong in bfloat16.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class MSVAG(Optimizer):
    """Momentum, shortened entry by entry where gradients vary.

    Balles and Hennig (2018), Dissecting Adam: The Sign, Magnitude and Variance of
    Stochastic Gradients. Follows https://github.com/lballes/msvag.
    """

    def __init__(self, params, lr=0.1, beta=0.9):
        if lr < 0 or not 0 <= beta < 1:
            raise ValueError("lr or beta is out of range")
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(
                        group["lr"] * self.move(p.grad, self.state[p], group["beta"])
                    )
        return loss

    def move(self, grad, state, beta):
        if len(state) == 0:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(grad)
            state["exp_avg_sq"] = torch.zeros_like(grad)
        state["step"] += 1
        state["exp_avg"].mul_(beta).add_(grad, alpha=1 - beta)
        state["exp_avg_sq"].mul_(beta).add_(grad**2, alpha=1 - beta)
        power = beta ** state["step"]
        m = state["exp_avg"] / (1 - power)
        v = state["exp_avg_sq"] / (1 - power)
        rho = (1 - beta) ** 2 * (1 - power**2)
        rho = min(rho / ((1 - power) ** 2 * (1 - beta**2)), 0.9999)
        variance = (v - m**2) / (1 - rho)
        factor = m**2 / (m**2 + rho * variance)
        return factor.nan_to_num(0.0).clamp(0, 1) * m


REFERENCE = Reference(MSVAG, ({}, {"beta": 0.5, "lr": 0.01}, {"beta": 0.0}))
