"""AccSGD, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same; it calls small_const `constant`.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class AccSGD(Optimizer):
    """A short step, averaged with the running mean of long ones.

    Kidambi et al. (2018), On the Insufficiency of Existing Momentum Schemes for Stochastic
    Optimization. Follows https://github.com/rahulkidambi/AccSGD.
    """

    def __init__(
        self, params, lr=1e-3, kappa=1000.0, xi=10.0, small_const=0.7, weight_decay=0.0
    ):
        if not 0 < small_const <= 1 or small_const**2 * xi > kappa:
            raise ValueError(f"Invalid constants: {kappa}, {xi}, {small_const}")
        defaults = {
            "lr": lr,
            "kappa": kappa,
            "xi": xi,
            "small_const": small_const,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, small = group["lr"], group["small_const"]
            long_lr = lr * group["kappa"] / small
            alpha = 1 - small**2 * group["xi"] / group["kappa"]
            beta = 1 - alpha
            zeta = small / (small + beta)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["momentum_buffer"] = p.clone()
                grad = p.grad + group["weight_decay"] * p
                long = p - long_lr * grad
                mean = alpha * state["momentum_buffer"] + beta * long
                state["momentum_buffer"] = mean
                p.copy_(zeta * (p - lr * grad) + (1 - zeta) * mean)
        return loss


REFERENCE = Reference(
    AccSGD,
    (
        {},
        {"weight_decay": 0.2, "lr": 0.01},
        {"kappa": 10.0, "xi": 3.0, "small_const": 0.5},
    ),
)
