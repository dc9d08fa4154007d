"""FTRL-proximal, written by hand after the paper.

pytorch_optimizer 4.1.0 gives the same with its lr_power of -0.5 and equal beta.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class FTRL(Optimizer):
    """Follow the proximally regularized leader, for each coordinate.

    McMahan et al. (2013), Ad Click Prediction: a View from the Trenches. `z` is kept times
    lr.
    """

    def __init__(self, params, lr=1e-3, beta=1.0, lambda_1=0.0, lambda_2=0.0):
        if lr <= 0 or beta < 0 or lambda_1 < 0 or lambda_2 < 0:
            raise ValueError("lr is positive, beta and penalties are not negative")
        defaults = {"lr": lr, "beta": beta, "lambda_1": lambda_1, "lambda_2": lambda_2}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alpha, beta = group["lr"], group["beta"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["z"], state["n"] = torch.zeros_like(p), torch.zeros_like(p)
                n = state["n"] + p.grad**2
                sigma = (n.sqrt() - state["n"].sqrt()) / alpha
                z = state["z"] / alpha + p.grad - sigma * p
                strength = (beta + n.sqrt()) / alpha + group["lambda_2"]
                weights = -(z - z.sign() * group["lambda_1"]) / strength
                p.copy_(torch.where(z.abs() <= group["lambda_1"], 0.0, weights))
                state["z"], state["n"] = alpha * z, n
        return loss


REFERENCE = Reference(
    FTRL,
    (
        {},
        {"lr": 0.5},
        {"lr": 0.5, "beta": 0.0},
        {"lr": 0.5, "lambda_1": 0.5, "lambda_2": 0.3},
        {"lr": 0.5, "lambda_1": 2.0, "beta": 0.1},
    ),
)
