"""MARS in its AdamW form, written by hand after the authors' code.

pytorch_optimizer 4.1.0 agrees to 6e-6: it adds 1e-15 under the root; its lr_1d is a learning
rate, and its coupled decay spoils the last gradient.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class MARS(Optimizer):
    """AdamW over gradients with less variance; plain AdamW for vectors.

    Yuan et al. (2024), MARS: Unleashing the Power of Variance Reduction for Training Large
    Models. Follows https://github.com/AGI-Arena/MARS.
    """

    def __init__(
        self,
        params,
        lr=3e-3,
        betas=(0.95, 0.99),
        eps=1e-8,
        weight_decay=0.0,
        gamma=0.025,
        optimize_1d=False,
        lr_1d_factor=1.0,
        betas_1d=(0.9, 0.95),
        weight_decay_1d=0.1,
    ):
        if not all(0 <= beta < 1 for beta in (*betas, *betas_1d)):
            raise ValueError(f"Invalid betas: {betas}, {betas_1d}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "gamma": gamma,
            "optimize_1d": optimize_1d,
            "lr_1d_factor": lr_1d_factor,
            "betas_1d": betas_1d,
            "weight_decay_1d": weight_decay_1d,
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
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    for key in ("exp_avg", "exp_avg_sq", "last_grad"):
                        state[key] = torch.zeros_like(p)
                state["step"] += 1
                if group["optimize_1d"] or p.ndim >= 2:
                    lr, decay = group["lr"], group["weight_decay"]
                    betas = group["betas"]
                    c = self.corrected(p.grad, state["last_grad"], group)
                    state["last_grad"] = p.grad.clone()
                else:
                    lr = group["lr"] * group["lr_1d_factor"]
                    decay, betas = group["weight_decay_1d"], group["betas_1d"]
                    c = p.grad
                update = self.adam(c, state, betas, group["eps"])
                p.sub_(lr * (decay * p + update))
        return loss

    @staticmethod
    def corrected(grad, last_grad, group):
        beta1 = group["betas"][0]
        c = grad + group["gamma"] * beta1 / (1 - beta1) * (grad - last_grad)
        norm = c.norm().item()
        return c / norm if norm > 1 else c

    @staticmethod
    def adam(c, state, betas, eps):
        m, v, (beta1, beta2) = state["exp_avg"], state["exp_avg_sq"], betas
        m.mul_(beta1).add_(c, alpha=1 - beta1)
        v.mul_(beta2).add_(c.square(), alpha=1 - beta2)
        m_hat = m / (1 - beta1 ** state["step"])
        v_hat = v / (1 - beta2 ** state["step"])
        return m_hat / (v_hat.sqrt() + eps)


REFERENCE = Reference(
    MARS,
    (
        {},
        {"weight_decay": 0.3, "weight_decay_1d": 0.0, "lr": 0.01},
        {"optimize_1d": True, "weight_decay": 0.2},
        {"gamma": 0.5, "betas": (0.5, 0.6), "eps": 0.1},
        {"lr_1d_factor": 3.0, "betas_1d": (0.3, 0.7)},
    ),
)
