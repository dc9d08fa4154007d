"""Optimizers as they should be, each the twin of some that are broken by one mistake."""

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import _use_grad_for_differentiable


class Loop(Optimizer):
    """What the others share: groups that are checked, a closure, a loop over parameters."""

    def __init__(self, params, **defaults):
        super().__init__(params, defaults)

    def add_param_group(self, param_group):
        hypers = {**self.defaults, **param_group}
        if not 0 <= hypers["lr"]:
            raise ValueError(f"Invalid lr: {hypers['lr']}")
        for name in ("momentum", "weight_decay", "eps", "pull"):
            if not 0 <= hypers.get(name, 0):
                raise ValueError(f"Invalid {name}: {hypers[name]}")
        if not all(0 <= beta < 1 for beta in hypers.get("betas", ())):
            raise ValueError(f"Invalid betas: {hypers['betas']}")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure=None):
        return self.steps(closure)

    def steps(self, closure):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, self.state[p], group)
        return loss

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        raise NotImplementedError


class Momentum(Loop):
    def __init__(self, params, lr=1e-2, momentum=0.9, weight_decay=0.0, maximize=False):
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    def update(self, p, grad, state, group):
        grad = -grad if group["maximize"] else grad
        grad = grad.add(p, alpha=group["weight_decay"])
        if "buf" not in state:
            state["buf"] = torch.zeros_like(p)
        state["buf"].mul_(group["momentum"]).add_(grad)
        p.add_(state["buf"], alpha=-group["lr"])


class Adam(Loop):
    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
        amsgrad=False, maximize=False,
    ):  # fmt: skip
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
            amsgrad=amsgrad, maximize=maximize,
        )  # fmt: skip

    def update(self, p, grad, state, group):
        grad = -grad if group["maximize"] else grad
        if torch.is_complex(p):
            p, grad = torch.view_as_real(p), torch.view_as_real(grad)
        self.prepare(p, state, group)
        state["step"] += 1
        p.mul_(1 - group["lr"] * group["weight_decay"])
        self.average(grad, state, *group["betas"])
        self.move(p, state, group, *self.corrections(state, group))

    def prepare(self, p, state, group):
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
            if group["amsgrad"]:
                state["max_exp_avg_sq"] = torch.zeros_like(p)

    def average(self, grad, state, beta1, beta2):
        state["exp_avg"].lerp_(grad, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

    def corrections(self, state, group):
        beta1, beta2 = group["betas"]
        t = state["step"].item()
        return 1 - beta1**t, 1 - beta2**t

    def second(self, state, group):
        if group["amsgrad"]:
            largest = state["max_exp_avg_sq"]
            largest.copy_(torch.maximum(largest, state["exp_avg_sq"]))
            return largest
        return state["exp_avg_sq"]

    def move(self, p, state, group, first, second):
        denom = (self.second(state, group) / second).sqrt().add_(group["eps"])
        p.addcdiv_(state["exp_avg"], denom, value=-group["lr"] / first)


class Anchored(Loop):
    """Descent that is pulled to where a parameter began, after its first decay."""

    def __init__(self, params, lr=1e-2, pull=0.1, weight_decay=0.1):
        super().__init__(params, lr=lr, pull=pull, weight_decay=weight_decay)

    def decay(self, p, group):
        p.mul_(1 - group["lr"] * group["weight_decay"])

    def prepare(self, p, state):
        if "anchor" not in state:
            state["anchor"] = p.clone()

    def update(self, p, grad, state, group):
        self.decay(p, group)
        self.prepare(p, state)
        grad = grad.add(p - state["anchor"], alpha=group["pull"])
        p.add_(grad, alpha=-group["lr"])


class Unit(Loop):
    """Each step as long as the learning rate: the momentum over its norm."""

    def __init__(self, params, lr=1e-2, momentum=0.9):
        super().__init__(params, lr=lr, momentum=momentum)

    def update(self, p, grad, state, group):
        if "buf" not in state:
            state["buf"] = torch.zeros_like(p)
        buf = state["buf"].mul_(group["momentum"]).add_(grad)
        p.add_(self.direction(buf), alpha=-group["lr"])

    def direction(self, buf):
        return buf / buf.norm().clamp(min=1e-8)


class Lists(Momentum):
    """Momentum that may run over lists of parameters."""

    def __init__(self, params, lr=1e-2, momentum=0.9, weight_decay=0.0, foreach=None):
        super().__init__(params, lr, momentum, weight_decay)
        for group in self.param_groups:
            group["foreach"] = foreach
        self.defaults["foreach"] = foreach

    @torch.no_grad()
    def step(self, closure=None):
        if not self.param_groups[0]["foreach"]:
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self.update_lists(params, [p.grad for p in params], group)
        return loss

    def update_lists(self, params, grads, group):
        grads = self.decayed(params, grads, group)
        for p in params:
            self.state[p].setdefault("buf", torch.zeros_like(p))
        bufs = [self.state[p]["buf"] for p in params]
        torch._foreach_mul_(bufs, group["momentum"])
        torch._foreach_add_(bufs, grads)
        torch._foreach_add_(params, bufs, alpha=-group["lr"])

    def decayed(self, params, grads, group):
        return torch._foreach_add(grads, params, alpha=group["weight_decay"])


class Differentiable(Loop):
    """Momentum through which gradients flow."""

    def __init__(self, params, lr=1e-2, momentum=0.9, differentiable=False):
        super().__init__(
            params, lr=lr, momentum=momentum, differentiable=differentiable
        )

    @_use_grad_for_differentiable
    def step(self, closure=None):
        return self.steps(closure)

    def update(self, p, grad, state, group):
        before = state["buf"] if "buf" in state else torch.zeros_like(p)
        state["buf"] = group["momentum"] * before + grad
        p.add_(state["buf"], alpha=-group["lr"])


SOUND = (Momentum, Adam, Anchored, Unit, Lists, Differentiable)
