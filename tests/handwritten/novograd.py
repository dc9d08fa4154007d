"""NovoGrad, written by hand after NVIDIA's code.

pytorch_optimizer 4.1.0 gives the same without `grad_averaging`, which there spares the
first gradient, and unless the first gradient is zero, where it does not start anew.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class NovoGrad(Optimizer):
    """Momentum of gradients that are normed layer by layer.

    Ginsburg et al. (2019), Stochastic Gradient Methods with Layer-wise Adaptive Moments
    for Training of Deep Networks.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.95, 0.98),
        eps=1e-8,
        weight_decay=0.0,
        grad_averaging=False,
    ):
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError("lr, eps and weight_decay are not negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "grad_averaging": grad_averaging,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = 0.0
                square = p.grad.pow(2).sum().item()
                if state["exp_avg_sq"] == 0:
                    state["exp_avg_sq"] = square
                else:
                    state["exp_avg_sq"] *= beta2
                    state["exp_avg_sq"] += (1 - beta2) * square
                normed = p.grad / (state["exp_avg_sq"] ** 0.5 + group["eps"])
                normed += group["weight_decay"] * p
                if group["grad_averaging"]:
                    normed *= 1 - beta1
                state["exp_avg"].mul_(beta1).add_(normed)
                p.sub_(group["lr"] * state["exp_avg"])
        return loss


REFERENCE = Reference(
    NovoGrad,
    (
        {},
        {"betas": (0.5, 0.25), "eps": 0.1, "lr": 0.01},
        {"weight_decay": 0.1},
        {"weight_decay": 0.01, "grad_averaging": True, "lr": 0.01},
    ),
)
