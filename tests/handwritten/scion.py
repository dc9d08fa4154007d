"""Scion, written by hand after the authors' code, with the iteration in the precision of
the parameters.

With that, the authors' code gives the same. pytorch_optimizer 4.1.0 is unconstrained by
default and orthogonalizes in bfloat16 too; for vectors and signs it gives the same.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class Scion(Optimizer):
    """Steps as far as a norm allows along the mean of the gradient.

    Pethick et al. (2025), Training Deep Learning Models with Norm-Constrained LMOs.
    Follows https://github.com/LIONS-EPFL/scion with the norms Auto and Sign.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=1.0,
        norm="Auto",
        scale=1.0,
        unconstrained=False,
        steps=5,
    ):
        if lr < 0 or scale < 0 or not 0 < momentum <= 1:
            raise ValueError("lr, scale or momentum is out of range")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "norm": norm,
            "scale": scale,
            "unconstrained": unconstrained,
            "steps": steps,
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
                    self.move(p, p.grad, self.state[p], group)
        return loss

    def move(self, p, grad, state, group):
        if group["momentum"] != 1:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(p)
            share = group["momentum"]
            state["momentum_buffer"].mul_(1 - share).add_(grad, alpha=share)
            grad = state["momentum_buffer"]
        best = -group["scale"] * _steepest(grad, group["norm"], group["steps"])
        if group["unconstrained"]:
            p.add_(group["lr"] * best)
        else:
            p.copy_((1 - group["lr"]) * p + group["lr"] * best)


def _steepest(g, norm, steps):
    """The point of the unit ball with the largest inner product with g."""
    if g.numel() == 0:
        return torch.zeros_like(g)
    if norm == "Sign":
        return g.sign() / (g[0].numel() if g.ndim > 1 else 1)
    if g.ndim < 2:
        return g / (g.square().mean().sqrt() + 1e-8)
    rows, columns, *kernel = g.shape
    wide = (rows / columns) ** 0.5 * _orthogonal(g.reshape(rows, -1), steps)
    return wide.reshape(g.shape) / torch.Size(kernel).numel()


def _orthogonal(g, steps):
    x = g / (torch.linalg.matrix_norm(g) + 1e-7)
    for _ in range(steps):
        inner = x.T @ x
        square = inner @ inner
        x = 3.4445 * x - 4.7750 * x @ inner + 2.0315 * x @ square
    return x


REFERENCE = Reference(
    Scion,
    (
        {},
        {"momentum": 0.1, "scale": 3.0, "lr": 0.01},
        {"norm": "Sign", "momentum": 0.5, "lr": 0.01},
        {"unconstrained": True, "steps": 3, "momentum": 0.3},
    ),
)
