"""Optimizers that do something wrong with gradients."""

import torch

from .sound import Adam, Anchored, Momentum, Unit


class DecayTooLate(Momentum):
    """The decay joins the gradient when the momentum has already taken it."""

    def update(self, p, grad, state, group):
        grad = -grad if group["maximize"] else grad
        if "buf" not in state:
            state["buf"] = torch.zeros_like(p)
        state["buf"].mul_(group["momentum"]).add_(grad)
        grad = grad.add(p, alpha=group["weight_decay"])
        p.add_(state["buf"], alpha=-group["lr"])


class MaximizedDecay(Momentum):
    """`maximize` turns the whole update around, the decay in it too."""

    def update(self, p, grad, state, group):
        grad = grad.add(p, alpha=group["weight_decay"])
        if "buf" not in state:
            state["buf"] = torch.zeros_like(p)
        state["buf"].mul_(group["momentum"]).add_(grad)
        p.add_(state["buf"], alpha=group["lr"] if group["maximize"] else -group["lr"])


class DifferenceOfSigns(Momentum):
    """The previous gradient starts as it is before `maximize` turns it around."""

    def update(self, p, grad, state, group):
        if "previous" not in state:
            state["previous"] = grad.clone()
        grad = -grad if group["maximize"] else grad
        change = grad - state["previous"]
        state["previous"].copy_(grad)
        super().update(p, grad + 0.1 * change, state, {**group, "maximize": False})


class OverwrittenGrad(Momentum):
    """The decay is added to p.grad itself."""

    def update(self, p, grad, state, group):
        grad.add_(p, alpha=group["weight_decay"])
        super().update(p, grad, state, {**group, "weight_decay": 0.0})


class ReplacedGrad(Momentum):
    """p.grad becomes another tensor, of the same values."""

    def update(self, p, grad, state, group):
        super().update(p, grad, state, group)
        p.grad = grad.clone()


class MissingIsZero(Momentum):
    """A gradient that is not there counts as zero, so that the momentum goes on."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None or self.state[p]:
                    grad = torch.zeros_like(p) if p.grad is None else p.grad
                    self.update(p, grad, self.state[p], group)
        return loss


class CountedByGroup(Adam):
    """Steps are counted by the group, so that a late parameter is corrected too little."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1
        return super().step(closure)

    def corrections(self, state, group):
        beta1, beta2 = group["betas"]
        return 1 - beta1 ** group["count"], 1 - beta2 ** group["count"]


class NothingOverNothing(Unit):
    """The norm that divides may be zero."""

    def direction(self, buf):
        return buf / buf.norm()


class OverFirstRate(Momentum):
    """The momentum starts as the gradient over the learning rate, which may be zero."""

    def update(self, p, grad, state, group):
        if "scale" not in state:
            state["scale"] = torch.tensor(0.01 / group["lr"])
        super().update(p, grad * state["scale"], state, group)


class AnchorBeforeHook(Anchored):
    """The anchor is taken before the decay that runs before each step."""

    def update(self, p, grad, state, group):
        self.prepare(p, state)
        super().update(p, grad, state, group)
