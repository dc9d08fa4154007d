"""SM3-II, written by hand after the paper."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class SM3(Optimizer):
    """Sums of squares for the slices of each axis. Anil et al. (2019).

    Follows https://github.com/google-research/google-research/tree/master/sm3
    """

    def __init__(self, params, lr=0.1, momentum=0.9, eps=1e-30):
        super().__init__(params, dict(lr=lr, momentum=momentum, eps=eps))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, self.state[p], group)

    def _move(self, p, state, group):
        if p.ndim == 0:
            second = state["total"] = state.get("total", 0) + p.grad**2
        else:
            bounds = []
            for axis, size in enumerate(p.shape):
                kept = state.setdefault(
                    f"accumulator_{axis}", torch.zeros(size, dtype=p.dtype)
                )
                ones = [1] * p.ndim
                ones[axis] = size
                bounds.append(kept.view(ones).expand(p.shape))
            second = torch.stack(bounds).min(dim=0).values + p.grad**2
            for axis in range(p.ndim if p.numel() else 0):
                others = [each for each in range(p.ndim) if each != axis]
                largest = second.amax(dim=others) if others else second
                state[f"accumulator_{axis}"] = largest
        update = p.grad / (second + group["eps"]).sqrt()
        decay = group["momentum"]
        if decay:
            old = state.get("momentum_buffer", torch.zeros_like(p))
            update = state["momentum_buffer"] = decay * old + (1 - decay) * update
        p.sub_(group["lr"] * update)


REFERENCE = Reference(SM3, ({}, {"momentum": 0.0, "lr": 0.01}, {"eps": 0.1}))
