"""Optimizers that do something wrong with states."""

import torch

from .sound import Adam, Momentum


class MadeAtOnce(Momentum):
    """States are made by the constructor, for parameters that may never move."""

    def __init__(self, params, lr=1e-2, momentum=0.9, weight_decay=0.0, maximize=False):
        super().__init__(params, lr, momentum, weight_decay, maximize)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["buf"] = torch.zeros_like(p)


class AliasedMomentum(Momentum):
    """The momentum starts as the gradient itself, not as a copy."""

    def update(self, p, grad, state, group):
        if "buf" in state:
            return super().update(p, grad, state, group)
        grad = -grad if group["maximize"] else grad
        state["buf"] = (
            grad.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else grad
        )
        return p.add_(state["buf"], alpha=-group["lr"])


class KeptOutside(Momentum):
    """The momentum is in a dict of the optimizer's own, which no checkpoint holds."""

    def update(self, p, grad, state, group):
        if not hasattr(self, "bufs"):
            self.bufs = {}
        own = self.bufs.setdefault(p, {})
        super().update(p, grad, own, group)
        state["moved"] = torch.tensor(True)


class CastOnLoad(Momentum):
    """The momentum is float32 whatever the parameter is, until a checkpoint is loaded."""

    def update(self, p, grad, state, group):
        grad = -grad if group["maximize"] else grad
        grad = grad.add(p, alpha=group["weight_decay"])
        wide = torch.promote_types(p.dtype, torch.float32)
        if "buf" not in state:
            state["buf"] = torch.zeros_like(p, dtype=wide)
        state["buf"].mul_(group["momentum"]).add_(grad)
        p.add_(state["buf"].to(p.dtype), alpha=-group["lr"])


class ForgetsOnCopy(Momentum):
    """An option is an attribute of the optimizer; copies and pickles do not hold those."""

    def __init__(
        self,
        params,
        lr=1e-2,
        momentum=0.9,
        weight_decay=0.0,
        maximize=False,
        nesterov=False,
    ):
        super().__init__(params, lr, momentum, weight_decay, maximize)
        self.nesterov = nesterov

    def update(self, p, grad, state, group):
        super().update(p, grad, state, group)
        if self.nesterov:
            p.add_(state["buf"], alpha=-group["lr"] * group["momentum"])


class NotOnlyTensors(Adam):
    """A state is an object that `torch.load(weights_only=True)` does not let in."""

    def prepare(self, p, state, group):
        super().prepare(p, state, group)
        state.setdefault("history", History())


class History:
    """Something of the optimizer's own."""
