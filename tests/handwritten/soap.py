"""SOAP, written by hand after the authors' code."""

import torch
from torch.optim import Optimizer

from .reference import Reference


class SOAP(Optimizer):
    """Adam in the eigenbases of Shampoo's factors. Vyas et al. (2024).

    Follows https://github.com/nikhilvyas/SOAP without merge_dims, precondition_1d and
    normalize_grads.
    """

    def __init__(
        self,
        params,
        lr=3e-3,
        betas=(0.95, 0.95),
        shampoo_beta=None,
        eps=1e-8,
        weight_decay=0.01,
        precondition_frequency=10,
        max_precond_dim=10000,
    ):
        defaults = dict(lr=lr, betas=betas, shampoo_beta=shampoo_beta, eps=eps)
        defaults |= dict(weight_decay=weight_decay, every=precondition_frequency)
        super().__init__(params, defaults | dict(largest=max_precond_dim))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, self.state[p], group)

    def _move(self, p, grad, state, group):
        beta1, beta2 = group["betas"]
        axes = [at for at, size in enumerate(p.shape) if size <= group["largest"]]
        axes = axes if p.ndim > 1 else []
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
            state["updates"] = 0
            for axis in axes:
                empty = torch.zeros(p.shape[axis], p.shape[axis], dtype=p.dtype)
                state[f"factor_{axis}"] = empty
            self._observe(grad, state, group, axes)
            for axis in axes:
                values, vectors = torch.linalg.eigh(state[f"factor_{axis}"])
                state[f"basis_{axis}"] = vectors.flip(1)
            return
        state["updates"] += 1
        updates = state["updates"]
        state["exp_avg"] = beta1 * state["exp_avg"] + (1 - beta1) * grad
        seen, mean = grad, state["exp_avg"]
        for axis in axes:
            seen = _turned(seen, state[f"basis_{axis}"], axis)
            mean = _turned(mean, state[f"basis_{axis}"], axis)
        state["exp_avg_sq"] = beta2 * state["exp_avg_sq"] + (1 - beta2) * seen**2
        update = mean / (state["exp_avg_sq"].sqrt() + group["eps"])
        for axis in axes:
            update = _turned(update, state[f"basis_{axis}"].T, axis)
        size = group["lr"] * (1 - beta2**updates) ** 0.5 / (1 - beta1**updates)
        p.sub_(size * update)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        self._observe(grad, state, group, axes)
        if updates % group["every"] == 0:
            for axis in axes:
                self._refresh(state, axis)

    def _observe(self, grad, state, group, axes):
        beta = group["shampoo_beta"]
        beta = group["betas"][1] if beta is None else beta
        for axis in axes:
            others = [each for each in range(grad.ndim) if each != axis]
            outer = torch.tensordot(grad, grad, dims=(others, others))
            state[f"factor_{axis}"] = (
                beta * state[f"factor_{axis}"] + (1 - beta) * outer
            )

    def _refresh(self, state, axis):
        """One power iteration, with the basis sorted by the eigenvalues it estimates."""
        factor, basis = state[f"factor_{axis}"], state[f"basis_{axis}"]
        order = (basis.T @ factor @ basis).diag().argsort(descending=True)
        state["exp_avg_sq"] = state["exp_avg_sq"].index_select(axis, order)
        state[f"basis_{axis}"] = torch.linalg.qr(factor @ basis[:, order]).Q


def _turned(x, basis, axis):
    return torch.tensordot(x, basis, dims=([axis], [0])).movedim(-1, axis)


# The spec takes the first basis in the order of eigh, this one the other way round.
_UNORDERED = {"exp_avg_sq": None, "step": None} | {
    f"basis_{axis}": None for axis in range(4)
}
REFERENCE = Reference(
    SOAP,
    (
        {"precondition_frequency": 1},
        {"precondition_frequency": 3, "weight_decay": 0.1, "shampoo_beta": 0.8},
        {"max_precond_dim": 3, "betas": (0.8, 0.9), "lr": 0.01},
    ),
    states=_UNORDERED,
)
