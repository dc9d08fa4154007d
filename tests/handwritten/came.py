"""CAME, written by hand after the authors' code.

pytorch_optimizer 4.1.0 gives the same; its eps and threshold are the constructor's alone.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class CAME(Optimizer):
    """Adafactor with momentum, scaled by how far the update is from it.

    Luo et al. (2023), CAME: Confidence-guided Adaptive Memory Efficient Optimization.
    Follows https://github.com/yangluo7/CAME; means keep their axes.
    """

    def __init__(
        self,
        params,
        lr=2e-4,
        eps=(1e-30, 1e-16),
        clip_threshold=1.0,
        betas=(0.9, 0.999, 0.9999),
        weight_decay=0.0,
    ):
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Invalid betas: {betas}")
        defaults = {
            "lr": lr,
            "eps": eps,
            "clip_threshold": clip_threshold,
            "betas": betas,
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
            beta1, beta2, beta3 = group["betas"]
            eps1, eps2 = group["eps"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["exp_avg"] = torch.zeros_like(p)
                update = p.grad * self.factor("sq", state, p.grad**2 + eps1, beta2)
                if p.numel() > 0:
                    rms = update.square().mean().sqrt().item()
                    update = update / max(1.0, rms / group["clip_threshold"])
                m = state["exp_avg"]
                m.mul_(beta1).add_(update, alpha=1 - beta1)
                step = m
                if p.ndim > 1:
                    instability = (update - m) ** 2 + eps2
                    step = m * self.factor("res", state, instability, beta3)
                p.sub_(group["lr"] * group["weight_decay"] * p)
                p.sub_(group["lr"] * step)
        return loss

    @staticmethod
    def factor(name, state, squares, beta):
        """One over the root of the running mean of some squares, of matrices from the
        means of rows and columns.
        """
        new = {f"exp_avg_{name}": squares}
        if squares.ndim > 1:
            rows, cols = (squares.mean(dim=dim, keepdim=True) for dim in (-1, -2))
            new = {
                f"exp_avg_{name}_row": rows,
                f"exp_avg_{name}_col": cols.nan_to_num(0.0),  # of no rows
            }
        for key, value in new.items():
            old = state.get(key, torch.zeros_like(value))
            state[key] = beta * old + (1 - beta) * value
        if squares.ndim <= 1:
            return 1 / state[f"exp_avg_{name}"].sqrt()
        row, col = (state[key] for key in new)
        return 1 / ((row / row.mean(dim=-2, keepdim=True)).sqrt() * col.sqrt())


REFERENCE = Reference(
    CAME,
    (
        {},
        {"weight_decay": 0.2, "lr": 0.01},
        {"betas": (0.5, 0.6, 0.7), "clip_threshold": 0.3},
        {"eps": (0.1, 0.2), "lr": 0.01},
    ),
)
