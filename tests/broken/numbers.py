"""Optimizers that stumble over shapes, dtypes, closures, lists or graphs."""

import torch

from .sound import Differentiable, Lists, Momentum, Unit


class Flat(Momentum):
    """A view that only contiguous memory has."""

    def update(self, p, grad, state, group):
        super().update(p, grad.view(-1).view(grad.shape), state, group)


class WrongOrder(Momentum):
    """Elements are taken in the order of memory, not of the axes."""

    def update(self, p, grad, state, group):
        flat = grad.as_strided((grad.numel(),), (1,))
        super().update(p, flat.reshape(grad.shape), state, group)


class UnitInPlace(Unit):
    """The direction is made in place in a tensor that for bfloat16 is the momentum itself."""

    def direction(self, buf):
        short = buf.bfloat16()
        return short.div_(short.norm().clamp(min=1e-8)).to(buf.dtype)


class ClosureWithoutGrad(Momentum):
    """The closure runs under no_grad, where no loss can be differentiated."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else closure()
        super().step()
        return loss


class ClosureTwice(Momentum):
    """The closure is run again for the loss that is returned."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        return loss if closure is None else closure()


class LossIsLost(Momentum):
    """The loss is not returned."""

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)


class ListsWithoutDecay(Lists):
    """Over lists, weights do not decay."""

    def decayed(self, params, grads, group):
        return grads


class Detached(Differentiable):
    """The gradient is cut from the graph on its way into the momentum."""

    def update(self, p, grad, state, group):
        super().update(p, grad.detach(), state, group)
