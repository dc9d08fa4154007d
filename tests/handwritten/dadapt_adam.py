"""D-adapted Adam, written by hand after the authors' code, with a rate for each group and a
step count for each parameter.

pytorch_optimizer 4.1.0 has the authors' rule: one rate and one count for all.
"""

import torch
from torch.optim import Optimizer

from .reference import Reference


class DAdaptAdam(Optimizer):
    """Defazio and Mishchenko (2023), Learning-Rate-Free Learning by D-Adaptation."""

    def __init__(
        self, params, lr=1.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
        decouple=False, use_bias_correction=False, d0=1e-6, growth_rate=float("inf"),
    ):  # fmt: skip
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.betas, self.eps, self.decouple = betas, eps, decouple
        self.corrects, self.growth_rate = use_bias_correction, growth_rate
        self.d, self.numerator = d0, 0.0

    @torch.no_grad()
    def step(self, closure=None):
        beta1, beta2 = self.betas
        beta3 = beta2**0.5
        inner, length, rates = 0.0, 0.0, {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = 0
                    for name in ("exp_avg", "exp_avg_sq", "s"):
                        state[name] = torch.zeros_like(p)
                state["step"] += 1
                rate = self.d * group["lr"]
                if self.corrects:
                    rate *= (1 - beta2 ** state["step"]) ** 0.5
                    rate /= 1 - beta1 ** state["step"]
                rates[p] = rate
                grad = p.grad.clone()
                if not self.decouple:
                    grad += group["weight_decay"] * p
                denom = state["exp_avg_sq"].sqrt() + self.eps
                inner += rate * (grad * state["s"] / denom).sum().item()
                state["exp_avg"].mul_(beta1).add_(grad, alpha=rate * (1 - beta1))
                state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                state["s"].mul_(beta3).add_(grad, alpha=rate * (1 - beta3))
                length += state["s"].abs().sum().item()
        self.numerator = beta3 * self.numerator + (1 - beta3) * inner
        for group in self.param_groups:
            for p in group["params"]:
                if p in rates:
                    if self.decouple:
                        p.mul_(1 - group["weight_decay"] * rates[p])
                    denom = self.state[p]["exp_avg_sq"].sqrt() + self.eps
                    p.sub_(self.state[p]["exp_avg"] / denom)
        if length > 0:
            found = self.numerator / ((1 - beta3) * length)
            self.d = max(self.d, min(found, self.d * self.growth_rate))


REFERENCE = Reference(
    DAdaptAdam,
    (
        {},
        {"betas": (0.8, 0.9), "weight_decay": 0.1, "d0": 0.01, "eps": 1e-3},
        {"use_bias_correction": True, "weight_decay": 0.1, "decouple": True},
        {"growth_rate": 1.02, "d0": 0.1, "lr": 0.5},
    ),
)
