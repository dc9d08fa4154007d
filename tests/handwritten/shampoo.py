"""Shampoo, written by hand after algorithm 2 of the paper."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class Shampoo(Optimizer):
    """Gradients preconditioned along each axis. Gupta, Koren and Singer (2018).

    The momentum is that of the authors' tf.contrib.opt.ShampooOptimizer: a running sum
    of gradients is preconditioned by factors of the gradients themselves.
    """

    def __init__(
        self,
        params,
        lr=0.1,
        momentum=0.0,
        weight_decay=0.0,
        epsilon=1e-4,
        every=1,
        max_size=8192,
    ):
        defaults = dict(lr=lr, momentum=momentum, weight_decay=weight_decay)
        defaults |= dict(epsilon=epsilon, every=every, max_size=max_size)
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, self.state[p], group)

    def _move(self, p, state, group):
        grad = p.grad + group["weight_decay"] * p
        update, order = grad, 2 * p.ndim
        if group["momentum"]:
            old = state.get("momentum_buffer", torch.zeros_like(p))
            update = state["momentum_buffer"] = group["momentum"] * old + grad
        refreshes = state.setdefault("step", 0) % group["every"] == 0
        state["step"] += 1
        for axis, size in enumerate(p.shape):
            if size > group["max_size"]:
                continue
            others = [each for each in range(p.ndim) if each != axis]
            fresh = group["epsilon"] * torch.eye(size, dtype=p.dtype)
            factor = state.get(f"factor_{axis}", fresh)
            factor = factor + torch.tensordot(grad, grad, dims=(others, others))
            state[f"factor_{axis}"] = factor
            if refreshes:
                values, vectors = torch.linalg.eigh(factor)
                state[f"root_{axis}"] = (
                    vectors @ (values ** (-1 / order)).diag() @ vectors.T
                )
            turned = torch.tensordot(update, state[f"root_{axis}"], dims=([axis], [0]))
            update = turned.movedim(-1, axis)
        p.sub_(group["lr"] * update)


REFERENCE = Reference(
    Shampoo,
    (
        {"epsilon": 0.1},
        {"epsilon": 0.1, "momentum": 0.9, "every": 3},
        {"epsilon": 1.0, "weight_decay": 0.1, "max_size": 3, "lr": 0.01},
    ),
)
