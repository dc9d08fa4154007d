"""Adam-atan2, written by hand after adam-atan2-pytorch.

pytorch_optimizer 4.1.0 has no such rule.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class AdamAtan2(Optimizer):
    """Adam whose division is an arc tangent of two arguments.

    Everett et al. (2024), Scaling Exponents Across Parameterizations and Optimizers.
    Follows https://github.com/lucidrains/adam-atan2-pytorch.
    """

    def __init__(
        self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, a=1.27, b=1.0
    ):
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "a": a, "b": b})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p)
                    state["exp_avg_sq"] = torch.zeros_like(p)
                state["step"] += 1
                m, v = state["exp_avg"], state["exp_avg_sq"]
                m.mul_(beta1).add_(p.grad, alpha=1 - beta1)
                v.mul_(beta2).add_(p.grad.square(), alpha=1 - beta2)
                m_hat = m / (1 - beta1 ** state["step"])
                v_hat = v / (1 - beta2 ** state["step"])
                p.sub_(lr * group["weight_decay"] * p)
                p.sub_(lr * group["a"] * torch.atan2(m_hat, group["b"] * v_hat.sqrt()))
        return loss


REFERENCE = Reference(
    AdamAtan2,
    (
        {},
        {"weight_decay": 0.2, "lr": 0.01},
        {"betas": (0.5, 0.6), "a": 2.0, "b": 3.0},
    ),
)
