"""What the authors' schedule-free classes have in common, written by hand."""

import torch
from torch.optim import Optimizer


class ScheduleFree(Optimizer):
    """Of a subclass: the momentum and the rate of a group, and the update of the iterate."""

    def momentum_of(self, group):
        raise NotImplementedError

    def rate(self, group, t):
        raise NotImplementedError

    def update(self, p, state, group, t):
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)

    def _move(self, p, group):
        state = self.state[p]
        if not state:
            state["z"] = p.clone()
            state["exp_avg_sq"] = torch.zeros_like(p)
            state["weight_sum"] = torch.tensor(0.0)
            state["lr_max"] = torch.tensor(0.0)
            state["step"] = torch.tensor(0.0)
        state["step"] += 1
        t = state["step"].item()
        rate = self.rate(group, t)
        state["lr_max"].fill_(max(rate, state["lr_max"].item()))
        weight = t ** group["r"] * state["lr_max"].item() ** group["weight_lr_power"]
        state["weight_sum"] += weight
        total = state["weight_sum"].item()
        share = weight / total if total > 0 else 0.0
        update = self.update(p, state, group, t)
        momentum, z = self.momentum_of(group), state["z"]
        p.mul_(1 - share).add_(z, alpha=share)
        p.add_(update, alpha=-rate * (1 - momentum * (1 - share)))
        z.sub_(update, alpha=rate)

    @torch.no_grad()
    def eval(self):
        self._mix(lambda beta: 1 - 1 / beta)

    @torch.no_grad()
    def train(self):
        self._mix(lambda beta: 1 - beta)

    def _mix(self, share):
        for group in self.param_groups:
            for p in group["params"]:
                if p in self.state:
                    part = share(self.momentum_of(group))
                    p.mul_(1 - part).add_(self.state[p]["z"], alpha=part)
