"""SGDP, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same, but for its coupled decay, which does nothing.
"""

import math

import torch
from torch.nn.functional import cosine_similarity
from torch.optim import Optimizer

from .reference import Reference


class SGDP(Optimizer):
    """SGD with updates that do not lengthen weights which are free to scale.

    Heo et al. (2021), AdamP: Slowing Down the Slowdown for Momentum Optimizers on
    Scale-invariant Weights. Follows https://github.com/clovaai/AdamP.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0.0,
        dampening=0.0,
        weight_decay=0.0,
        nesterov=False,
        eps=1e-8,
        delta=0.1,
        wd_ratio=0.1,
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum: {momentum}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "eps": eps,
            "delta": delta,
            "wd_ratio": wd_ratio,
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
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buf, momentum = state["momentum_buffer"], group["momentum"]
                buf.mul_(momentum).add_(p.grad, alpha=1 - group["dampening"])
                update = p.grad + momentum * buf if group["nesterov"] else buf
                ratio = 1.0
                if p.ndim > 1 and p.numel() > 0:
                    update, ratio = self.projected(p, p.grad, update, *options)
                decay = group["lr"] * group["weight_decay"] * ratio / (1 - momentum)
                p.sub_(decay * p)
                p.sub_(group["lr"] * update)
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
    SGDP,
    (
        {},
        {"momentum": 0.9, "nesterov": True, "dampening": 0.3, "lr": 0.01},
        {"momentum": 0.5, "delta": 0.6, "weight_decay": 0.2, "wd_ratio": 0.3},
        {"momentum": 0.5, "delta": 1.5, "weight_decay": 0.2, "eps": 0.1},
        {"momentum": 0.5, "delta": 5.0, "weight_decay": 0.2, "lr": 0.01},
    ),
)
