"""QHAdam, written by hand after the paper, with the states of the authors' code.

pytorch_optimizer 4.1.0 gives the same, but that it rounds its two weights to float32.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class QHAdam(Optimizer):
    """Adam whose moments are averaged with the gradient of the step.

    Ma and Yarats (2019), Quasi-hyperbolic momentum and Adam for deep learning.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        nus=(1.0, 1.0),
        weight_decay=0.0,
        decoupled_weight_decay=False,
        eps=1e-8,
    ):
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError("lr, eps and weight_decay are not negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "nus": nus,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "eps": eps,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            decay = group["weight_decay"]
            nu1, nu2 = group["nus"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad
                if group["decoupled_weight_decay"]:
                    p.mul_(1 - group["lr"] * decay)
                else:
                    grad = grad + decay * p
                mean, square = self.moments(grad, self.state[p], *group["betas"])
                numerator = (1 - nu1) * grad + nu1 * mean
                denominator = ((1 - nu2) * grad**2 + nu2 * square).sqrt()
                p.sub_(group["lr"] * numerator / (denominator + group["eps"]))
        return loss

    def moments(self, grad, state, beta1, beta2):
        """The mean of the gradients and of their squares, each the weight beta**age."""
        if len(state) == 0:
            state["beta1_weight"] = state["beta2_weight"] = 0.0
            state["exp_avg"] = torch.zeros_like(grad)
            state["exp_avg_sq"] = torch.zeros_like(grad)
        state["beta1_weight"] = beta1 * state["beta1_weight"] + 1
        state["beta2_weight"] = beta2 * state["beta2_weight"] + 1
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean += (grad - mean) / state["beta1_weight"]
        square += (grad**2 - square) / state["beta2_weight"]
        return mean, square


REFERENCE = Reference(
    QHAdam,
    (
        {},
        {"nus": (0.7, 1.0), "betas": (0.995, 0.999)},
        {"nus": (1.0, 0.6), "eps": 0.1},
        {"nus": (0.8, 0.9), "weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True, "lr": 0.01},
    ),
    states={"step": None},
)
