"""Optimizers that do something wrong with groups, or with who stands beside whom."""

import torch

from .sound import Adam, Loop, Momentum


class BetasOfFirstGroup(Adam):
    """Every group has the betas of the first."""

    def update(self, p, grad, state, group):
        super().update(
            p, grad, state, {**group, "betas": self.param_groups[0]["betas"]}
        )


class RateOfConstructor(Momentum):
    """Every group has the momentum that the constructor was given."""

    def update(self, p, grad, state, group):
        own = {**group, "momentum": self.defaults["momentum"]}
        super().update(p, grad, state, own)


class AveragedByGroup(Momentum):
    """A number of the whole optimizer moves on once for each group."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.warmth = 0.9 * getattr(self, "warmth", 0.0) + 0.1
            for p in group["params"]:
                if p.grad is not None:
                    own = {**group, "lr": group["lr"] * self.warmth}
                    self.update(p, p.grad, self.state[p], own)
        return loss


class DecayWithoutRate(Adam):
    """The decay is not times the learning rate."""

    def update(self, p, grad, state, group):
        p.mul_(1 - 0.01 * group["weight_decay"])
        super().update(p, grad, state, {**group, "weight_decay": 0.0})


class ListOfRates(Momentum):
    """The learning rates of the groups are kept in a list by the constructor."""

    def __init__(self, params, lr=1e-2, momentum=0.9, weight_decay=0.0, maximize=False):
        super().__init__(params, lr, momentum, weight_decay, maximize)
        for at, group in enumerate(self.param_groups):
            group["at"] = at
        self.defaults["rates"] = [group["lr"] for group in self.param_groups]

    def update(self, p, grad, state, group):
        scale = group["lr"] and group["lr"] / self.defaults["rates"][group["at"]]
        super().update(p, grad, state, {**group, "lr": scale * group["lr"]})


class CarriedOver(Momentum):
    """A number of one parameter is still there when the next has its turn."""

    def update(self, p, grad, state, group):
        size = grad.abs().max().item() if grad.numel() else 0.0
        before = getattr(self, "size", size)
        self.size = size
        super().update(p, grad / (1 + before), state, group)


class CountedByParameter(Adam):
    """Steps are counted by a number that every parameter moves on."""

    def corrections(self, state, group):
        beta1, beta2 = group["betas"]
        self.count = getattr(self, "count", 0) + 1
        return 1 - beta1**self.count, 1 - beta2**self.count


class CheckedAtFirst(Momentum):
    """Only the constructor looks at values; groups may bring any."""

    def __init__(self, params, lr=1e-2, momentum=0.9, weight_decay=0.0, maximize=False):
        if lr < 0 or momentum < 0 or weight_decay < 0:
            raise ValueError("lr, momentum and weight_decay are not negative")
        super().__init__(params, lr, momentum, weight_decay, maximize)

    def add_param_group(self, param_group):
        super(Loop, self).add_param_group(param_group)
