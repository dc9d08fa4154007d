"""AdamP, written by hand after the authors' code.

pytorch_optimizer 4.1.0 differs: it adds eps before the second moment is corrected; with eps
= 0 the two give the same. Its coupled decay does nothing.
"""

import math

import torch
from torch.nn.functional import cosine_similarity
from torch.optim import Optimizer

from .reference import Reference


class AdamP(Optimizer):
    """Adam with updates that do not lengthen weights which are free to scale.

    Heo et al. (2021), AdamP: Slowing Down the Slowdown for Momentum Optimizers on
    Scale-invariant Weights. Follows https://github.com/clovaai/AdamP.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        delta=0.1,
        wd_ratio=0.1,
        nesterov=False,
    ):
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "delta": delta,
            "wd_ratio": wd_ratio,
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
            options = group["delta"], group["wd_ratio"], group["eps"]
            beta1, beta2 = group["betas"]
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
                v_hat = v / (1 - beta2 ** state["step"])
                ahead = beta1 * m + (1 - beta1) * p.grad if group["nesterov"] else m
                update = ahead / (v_hat.sqrt() + group["eps"])
                ratio = 1.0
                if p.ndim > 1 and p.numel() > 0:
                    update, ratio = self.projected(p, p.grad, update, *options)
                p.sub_(group["lr"] * group["weight_decay"] * ratio * p)
                p.sub_(group["lr"] / (1 - beta1 ** state["step"]) * update)
        return loss

    @staticmethod
    def projected(p, grad, update, delta, wd_ratio, eps):
        """The update across the weights, where these are free to scale, and the share
        of the decay.
        """
        axes = (-1,) + (1,) * (p.ndim - 1)
        for rows in (p.shape[0], 1):
            flat = p.reshape(rows, -1)
            cosines = cosine_similarity(grad.reshape(rows, -1), flat, dim=1, eps=eps)
            if cosines.abs().max() < delta / math.sqrt(flat.shape[1]):
                unit = flat / (flat.norm(dim=1, keepdim=True) + eps)
                along = (unit * update.reshape(rows, -1)).sum(dim=1).view(axes)
                return update - unit.view(p.shape) * along, wd_ratio
        return update, 1.0


REFERENCE = Reference(
    AdamP,
    (
        {},
        {"nesterov": True, "lr": 0.01},
        {"delta": 0.6, "weight_decay": 0.2, "wd_ratio": 0.3},
        {"delta": 1.5, "weight_decay": 0.2, "eps": 0.1, "betas": (0.5, 0.6)},
        {"delta": 5.0, "weight_decay": 0.2, "lr": 0.01},
    ),
)
