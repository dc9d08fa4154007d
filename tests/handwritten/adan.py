"""Adan, written by hand after the paper; the betas are those of the authors' code.

pytorch_optimizer 4.1.0 gives the same, but with `maximize`: there the gradient that it
remembers of the first step is not negated.
"""

import math

import torch
from torch.optim import Optimizer

from .reference import Reference


class Adan(Optimizer):
    """Adam with Nesterov's momentum, from differences of gradients.

    Xie et al. (2022), Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing
    Deep Models.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.98, 0.92, 0.99),
        eps=1e-8,
        weight_decay=0.0,
        no_prox=False,
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
            "no_prox": no_prox,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, self.state[p], group)
        return loss

    def update(self, p, grad, state, group):
        if len(state) == 0:
            state["step"] = 0
            for name in ("exp_avg", "exp_avg_diff", "exp_avg_sq"):
                state[name] = torch.zeros_like(p)
            state["pre_grad"] = grad.clone()
        state["step"] += 1
        lr, decay = group["lr"], group["weight_decay"]
        beta1, beta2, beta3 = group["betas"]
        m, v, n = state["exp_avg"], state["exp_avg_diff"], state["exp_avg_sq"]
        change = grad - state["pre_grad"]
        m.copy_(beta1 * m + (1 - beta1) * grad)
        v.copy_(beta2 * v + (1 - beta2) * change)
        n.copy_(beta3 * n + (1 - beta3) * (grad + beta2 * change) ** 2)
        m_hat = m / (1 - beta1 ** state["step"])
        v_hat = v / (1 - beta2 ** state["step"])
        root = n.sqrt() / math.sqrt(1 - beta3 ** state["step"])
        step = lr * (m_hat + beta2 * v_hat) / (root + group["eps"])
        if group["no_prox"]:
            p.copy_((1 - lr * decay) * p - step)
        else:
            p.copy_((p - step) / (1 + lr * decay))
        state["pre_grad"] = grad.clone()


REFERENCE = Reference(
    Adan,
    (
        {},
        {"betas": (0.5, 0.6, 0.7), "eps": 0.1, "lr": 0.01},
        {"weight_decay": 0.1, "lr": 0.01},
        {"weight_decay": 0.1, "lr": 0.01, "no_prox": True},
    ),
)
