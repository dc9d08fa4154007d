"""SGD-SaI, written by hand after the authors' code.

pytorch_optimizer 4.1.0 differs: the ratio of vectors is their norm, and the momentum starts
at zero; matrices without momentum give the same.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class SGDSaI(Optimizer):
    """SGD with momentum, each parameter scaled by a ratio of its first gradient.

    Xu et al. (2024), No More Adam: Learning Rate Scaling at Initialization is All You Need.
    Follows https://github.com/AnonymousAlethiometer/SGD_SaI, but for gradients without
    deviation.
    """

    def __init__(self, params, lr=1e-2, momentum=0.9, eps=1e-8, weight_decay=1e-2):
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError("lr, eps and weight_decay are not negative")
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum: {momentum}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "eps": eps,
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
            lr, momentum = group["lr"], group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    sigma = p.grad.std().item() if p.numel() > 1 else 0.0
                    ratio = p.grad.norm().item()
                    if sigma > 0:
                        ratio /= sigma + group["eps"]
                    state["gsnr"], state["momentum_buffer"] = ratio, p.grad.clone()
                buf = state["momentum_buffer"]
                buf.mul_(momentum).add_(p.grad, alpha=1 - momentum)
                p.sub_(lr * group["weight_decay"] * p)
                p.sub_(lr * state["gsnr"] * buf)
        return loss


REFERENCE = Reference(
    SGDSaI,
    (
        {},
        {"weight_decay": 0.0, "momentum": 0.5},
        {"momentum": 0.0, "eps": 0.5},
    ),
)
