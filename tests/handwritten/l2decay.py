"""Gradient descent with weight decay before each step, written by hand."""

import torch
from torch.optim import Optimizer


class L2Decay(Optimizer):
    """Gradient descent whose weights decay, as a method that the training loop calls.

    Hanson and Pratt (1988), Comparing biases for minimal network construction with
    back-propagation. The loop is: backward, apply_weight_decay, step.
    """

    def __init__(self, params, lr=1e-3, weight_decay=1e-5):
        if lr < 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if weight_decay < 0:
            raise ValueError(f"Invalid weight decay: {weight_decay}")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def apply_weight_decay(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.mul_(1 - group["lr"] * group["weight_decay"])

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
                p.add_(p.grad, alpha=-group["lr"])
        return loss
