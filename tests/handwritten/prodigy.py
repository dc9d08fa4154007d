"""Prodigy, written by hand after the authors' code, with a rate for each group and a step
count for each parameter.

pytorch_optimizer 4.1.0 has the authors' rule, but for weight_decouple=False, which decays
nothing there: the decay is added to a gradient that was used already.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class Prodigy(Optimizer):
    """Mishchenko and Defazio (2023), Prodigy."""

    def __init__(
        self, params, lr=1.0, betas=(0.9, 0.999), beta3=None, eps=1e-8, weight_decay=0.0,
        decouple=True, use_bias_correction=False, d0=1e-6, d_coef=1.0,
        growth_rate=float("inf"),
    ):  # fmt: skip
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.betas, self.eps, self.decouple = betas, eps, decouple
        self.beta3 = betas[1] ** 0.5 if beta3 is None else beta3
        self.corrects, self.growth_rate = use_bias_correction, growth_rate
        self.d = self.d0 = self.d_max = d0
        self.d_coef, self.numerator = d_coef, 0.0

    @torch.no_grad()
    def step(self, closure=None):
        beta1, beta2 = self.betas
        self.numerator *= self.beta3
        denominator, rates, d = 0.0, {}, self.d
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"], state["p0"] = 0, p.clone()
                    for name in ("exp_avg", "exp_avg_sq", "s"):
                        state[name] = torch.zeros_like(p)
                state["step"] += 1
                rate = d * group["lr"]
                if self.corrects:
                    rate *= (1 - beta2 ** state["step"]) ** 0.5
                    rate /= 1 - beta1 ** state["step"]
                rates[p] = rate
                grad = p.grad.clone()
                if not self.decouple:
                    grad += group["weight_decay"] * p
                way = (grad * (state["p0"] - p)).sum().item()
                self.numerator += d / self.d0 * rate * way
                state["exp_avg"].mul_(beta1).add_(grad, alpha=d * (1 - beta1))
                state["exp_avg_sq"].mul_(beta2)
                state["exp_avg_sq"].addcmul_(grad, grad, value=d * d * (1 - beta2))
                state["s"].mul_(self.beta3).add_(grad, alpha=d / self.d0 * rate)
                denominator += state["s"].abs().sum().item()
        if denominator > 0:
            found = self.d_coef * self.numerator / denominator
            if self.d == self.d0:
                self.d = max(self.d, found)
            self.d_max = max(self.d_max, found)
            self.d = min(self.d_max, self.d * self.growth_rate)
        for group in self.param_groups:
            for p in group["params"]:
                if p not in rates:
                    continue
                if self.decouple:
                    p.mul_(1 - group["weight_decay"] * rates[p])
                denom = self.state[p]["exp_avg_sq"].sqrt() + self.d * self.eps
                p.sub_(rates[p] * self.state[p]["exp_avg"] / denom)


REFERENCE = Reference(
    Prodigy,
    (
        {},
        {"betas": (0.8, 0.9), "weight_decay": 0.1, "d0": 0.01, "eps": 1e-3},
        {"use_bias_correction": True, "weight_decay": 0.1, "decouple": False},
        {"growth_rate": 1.02, "d0": 0.1, "d_coef": 2.0, "beta3": 0.9, "lr": 0.5},
    ),
)
