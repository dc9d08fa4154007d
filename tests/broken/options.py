"""Optimizers whose options or formulas are not what they say."""

import torch

from .sound import Adam, Momentum


class SwallowsAnything(Momentum):
    """`**kwargs` takes what nobody knows, a slip of the pen too."""

    def __init__(
        self, params, lr=1e-2, momentum=0.9, weight_decay=0.0, maximize=False, **kwargs
    ):
        super().__init__(params, lr, momentum, weight_decay, maximize)


class DeadAmsgrad(Adam):
    """The largest second moment is kept, and never used."""

    def second(self, state, group):
        super().second(state, group)
        return state["exp_avg_sq"]


class EpsInsideRoot(Adam):
    """eps is added under the root."""

    def move(self, p, state, group, first, second):
        denom = (self.second(state, group) / second).add_(group["eps"]).sqrt_()
        p.addcdiv_(state["exp_avg"], denom, value=-group["lr"] / first)


class CorrectedTooLate(Adam):
    """The bias correction is that of the next step."""

    def corrections(self, state, group):
        beta1, beta2 = group["betas"]
        t = state["step"].item() + 1
        return 1 - beta1**t, 1 - beta2**t


class CoupledDecay(Adam):
    """The decay joins the gradient, where its paper keeps them apart."""

    def update(self, p, grad, state, group):
        sign = -1 if group["maximize"] else 1
        grad = grad.add(p, alpha=sign * group["weight_decay"])
        super().update(p, grad, state, {**group, "weight_decay": 0.0})


class CrashesWithOption(Adam):
    """An option needs a state that is made only without it."""

    def second(self, state, group):
        if group["amsgrad"] and state["exp_avg_sq"].ndim == 0:
            return state["largest"]
        return super().second(state, group)


class SquaredTwice(Adam):
    """What enters the second moment is squared twice."""

    def average(self, grad, state, beta1, beta2):
        state["exp_avg"].lerp_(grad, 1 - beta1)
        square = torch.square(grad)
        state["exp_avg_sq"].mul_(beta2).addcmul_(square, square, value=1 - beta2)
