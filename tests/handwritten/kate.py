"""Kate, written by hand after the authors' code.

pytorch_optimizer 4.1.0 agrees to 7e-8 with its delta as eta: it adds eps to b anew in every
step. Its complex parameters do not decay in the coupled mode.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class Kate(Optimizer):
    """AdaGrad without its root, whose scale grows to make up for it.

    Choudhury et al. (2024), Remove that Square Root: A New Efficient Scale-Invariant
    Version of AdaGrad. Follows https://github.com/nazya/KATE.
    """

    def __init__(self, params, lr=1e-3, eta=0.9, eps=1e-8):
        if lr < 0 or eta < 0 or eps < 0:
            raise ValueError("lr, eta and eps are not negative")
        super().__init__(params, {"lr": lr, "eta": eta, "eps": eps})

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
                    state["m"], state["b"] = torch.zeros_like(p), torch.zeros_like(p)
                squares = p.grad**2
                state["b"] = state["b"] + squares
                bounded = state["b"] + group["eps"]
                state["m"] = state["m"] + group["eta"] * squares + squares / bounded
                p.sub_(group["lr"] * state["m"].sqrt() * p.grad / bounded)
        return loss


REFERENCE = Reference(Kate, ({}, {"eta": 0.0}, {"eta": 0.1, "eps": 0.3, "lr": 0.01}))
