"""AdamW with GaLore's projection, written by hand after the authors' code."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class GaLoreAdamW(Optimizer):
    """AdamW on projected gradients. Zhao et al. (2024).

    Follows https://github.com/jiaweizzhao/GaLore with proj_type "std". Matrices that are
    no larger than the rank, and other tensors, are updated as AdamW does.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-6,
        weight_decay=0.0,
        rank=128,
        every=200,
        scale=0.25,
    ):
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, defaults | dict(rank=rank, every=every, scale=scale))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, self.state[p], group)

    def _move(self, p, state, group):
        beta1, beta2 = group["betas"]
        rank, grad = group["rank"], p.grad
        projects = p.ndim == 2 and min(p.shape) > rank
        is_tall = p.ndim == 2 and p.shape[0] >= p.shape[1]
        if projects:
            if state.get("step", 0) % group["every"] == 0:
                u, _, vh = torch.linalg.svd(grad, full_matrices=False)
                state["side"] = vh[:rank] if is_tall else u[:, :rank]
            side = state["side"]
            grad = grad @ side.T if is_tall else side.T @ grad
        step = state["step"] = state.get("step", 0) + 1
        for name, value, beta in (("m", grad, beta1), ("v", grad**2, beta2)):
            old = state.get(name, torch.zeros_like(value))
            state[name] = beta * old + (1 - beta) * value
        update = state["m"] / (state["v"].sqrt() + group["eps"])
        if projects:
            update = update @ side if is_tall else side @ update
            update = group["scale"] * update
        size = group["lr"] * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        p.sub_(size * update)
        p.mul_(1 - group["lr"] * group["weight_decay"])


# Moments of wide matrices are transposed, and bases as well.
_LAID_OUT_OTHERWISE = {"exp_avg": None, "exp_avg_sq": None, "basis": None}
REFERENCE = Reference(
    GaLoreAdamW,
    (
        {"rank": 1, "every": 1},
        {"rank": 2, "every": 5, "scale": 0.7, "weight_decay": 0.1},
        {"lr": 0.01, "betas": (0.5, 0.9)},
    ),
    states=_LAID_OUT_OTHERWISE,
)
