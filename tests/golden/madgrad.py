"""MADGRAD: dual averaging with a cube root for denominator, and with momentum.

Defazio and Jelassi (2022), Adaptivity without Compromise: A Momentumized, Adaptive,
Dual Averaged Gradient Method for Stochastic Optimization,
https://arxiv.org/abs/2101.11075
Follows the authors' code, https://github.com/facebookresearch/madgrad, which adds eps
to lr; its k is t - 1. It refuses lr = 0, which moves nothing here, and is NaN at first
where eps and momentum are 0; here a root of 0 divides nothing.
"""
# Compiled by optdsl from madgrad.opt, content 57aa6affe1ee.

import math
import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    ParamsT,
    _default_to_fused_or_foreach,
    _get_capturable_supported_devices,
    _get_scalar_dtype,
    _to_scalar,
    _use_grad_for_differentiable,
)

try:
    from optdsl.runtime.kernel import Kernel as _Kernel
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None

__all__ = ["MADGRAD"]


class MADGRAD(Optimizer):
    """MADGRAD: dual averaging with a cube root for denominator, and with momentum.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-2).
        momentum (float, optional): share of p that stays when it follows the average,
            in [0, 1) (default: 0.9).
        weight_decay (float, optional): L2 penalty, or share of a weight that decays, in
            [0, inf) (default: 0).
        eps (float, optional): added to the denominator, in [0, inf) (default: 1e-6).
        decoupled_weight_decay (bool, optional): decay the weights, as AdamW does
            (default: False).
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): update by kernels that pass over memory as few times as
            can be; None does so where they carry all tensors of a group (default:
            None).

    State of a parameter, made at its first step with a gradient:
        step: number of updates (0-d tensor).
        grad_sum_sq: weighted sum of squares (like p).
        s: weighted sum of gradients (like p).
        x0: where p started (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0,
        eps: float = 1e-6,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eps": eps,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        _check_hypers(defaults)
        super().__init__(params, defaults)
        if fused:
            self._step_supports_amp_scaling = True
            if _KERNELS is None:
                warnings.warn(
                    "no fused kernels here: foreach in their place", stacklevel=2
                )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._trial = False
        for group in self.param_groups:
            group.setdefault("lr", 1e-2)
            group.setdefault("momentum", 0.9)
            group.setdefault("weight_decay", 0)
            group.setdefault("eps", 1e-6)
            group.setdefault("decoupled_weight_decay", False)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step",):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "momentum", "weight_decay", "eps"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        grad_sum_sqs: list[Tensor],
        ses: list[Tensor],
        x0s: list[Tensor | None],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("MADGRAD does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["grad_sum_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["s"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            if group["momentum"] != 0 and "x0" not in state:
                state["x0"] = p.clone(memory_format=torch.preserve_format)
            params.append(p)
            grads.append(grad)
            grad_sum_sqs.append(state["grad_sum_sq"])
            ses.append(state["s"])
            x0s.append(state.get("x0"))
            steps.append(state["step"])

    def _is_trial(self) -> bool:
        """Whether a step is to make the state of a new optimizer and change nothing."""
        if torch.compiler.is_compiling() or self.state:
            return False
        return all(
            group["lr"] == 0
            and not any(p.grad is None or p.grad.any() for p in group["params"])
            for group in self.param_groups
        )

    def _unscale(self) -> bool:
        """Take the scale of a GradScaler out of the gradients; false where one of them
        has overflowed, so that there is no step.
        """
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            if _KERNELS and _KERNELS.reads_scale(self):
                return True  # kernels do so, and do not wait for the device
            if found_inf.item():
                return False
        scale = getattr(self, "grad_scale", None)
        if scale is not None:
            groups = self.param_groups
            grads = [p.grad for group in groups for p in group["params"]]
            torch._foreach_div_([x for x in grads if x is not None], scale.item())
        return True

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform a single optimization step.

        Args:
            closure (Callable, optional): reevaluates the model and returns the loss.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        if self._trial:
            self._trial = False
            self.state.clear()
        if self._is_trial():
            # torch.distributed.checkpoint asks for the state; the first step is to
            #     come.
            self._trial = True
            for group in self.param_groups:
                self._init_group(group, [], [], [], [], [], [])
            return loss

        if not self._unscale():
            return loss

        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        waiting = self.param_groups
        if not torch.compiler.is_compiling() and _KERNELS:
            waiting = _KERNELS.repeat(self)
        for group in waiting:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            grad_sum_sqs: list[Tensor] = []
            ses: list[Tensor] = []
            x0s: list[Tensor | None] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, grad_sum_sqs, ses, x0s, steps)
            groups.append((group, [params, grads, grad_sum_sqs, ses, x0s, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, grad_sum_sqs, ses, x0s, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_madgrad if use_foreach else _single_tensor_madgrad
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_madgrad_capturable
                if use_foreach:
                    update = _multi_tensor_madgrad_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_madgrad
                if group["capturable"]:
                    update = _differentiable_madgrad_capturable
            update(
                params,
                grads,
                grad_sum_sqs,
                ses,
                x0s,
                steps,
                lr=group["lr"],
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                decoupled_weight_decay=group["decoupled_weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    weight_decay = group["weight_decay"]
    eps = group["eps"]
    decoupled_weight_decay = group["decoupled_weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"Invalid momentum: {momentum!r}, expected a number in [0, 1)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    _check_number("eps", eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
    if decoupled_weight_decay not in (False, True):
        raise ValueError(
            f"Invalid decoupled_weight_decay: {decoupled_weight_decay!r}, "
            f"expected True or False"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")


def _check_number(name: str, value: Any) -> None:
    """Raise where a value is no number, nor a tensor of one element."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"Invalid {name}: {value!r}, expected one number")
    if not isinstance(value, (Real, Tensor)):
        raise TypeError(f"Invalid {name}: {value!r}, expected a number")


def _as_scalar(value: Any) -> Any:
    """A tensor of one element without its axes; anything else as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_as_scalar, value))
    return _to_scalar(value)


def _zero_dim(value: float, group: dict[str, Any], p: Tensor) -> Tensor:
    """A number as a tensor: on the CPU, unless steps are to be captured, or kernels on
    the parameter's device read it.
    """
    near = group["capturable"]
    if _KERNELS:
        near = near or _KERNELS.has_numbers_near(group, p)
    device = p.device if near else None
    return torch.tensor(value, dtype=_get_scalar_dtype(), device=device)


def _check_capturable(params: list[Tensor], *kept: list[Tensor | None]) -> None:
    """Raise where a step cannot be captured; a compiler looks after this by itself."""
    if torch.compiler.is_compiling():
        return
    devices = _get_capturable_supported_devices()
    for p, *scalars in zip(params, *kept, strict=True):
        if p.device.type not in devices:
            raise AssertionError(f"If capturable=True, params must be on {devices}")
        if any(each is not None and each.device != p.device for each in scalars):
            raise AssertionError("capturable=True, but a state is on another device")


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _single_tensor_madgrad(
    params: list[Tensor],
    grads: list[Tensor],
    grad_sum_sqs: list[Tensor],
    ses: list[Tensor],
    x0s: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    eps: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    rate = lr + eps if lr != 0 else 0

    for p, grad, grad_sum_sq, s, x0, step in zip(
        params, grads, grad_sum_sqs, ses, x0s, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if torch.is_complex(p):
            p, grad, grad_sum_sq, s = map(torch.view_as_real, (p, grad, grad_sum_sq, s))
            if x0 is not None:
                x0 = torch.view_as_real(x0)
        lamb = rate * t**0.5
        if weight_decay != 0 and not decoupled_weight_decay:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        if momentum == 0:
            # root = grad_sum_sq**(1/3) + eps
            root = grad_sum_sq.pow(1 / 3).add_(eps)
            if eps == 0:
                # root = where(root == 0, inf, root)
                root = torch.where(root == 0, math.inf, root)

            # start = p + s/root
            start = p.addcdiv(s, root)
        else:
            start = x0

        # grad_sum_sq += lamb*grad*grad
        grad_sum_sq.addcmul_(grad, grad, value=lamb)

        # s += lamb*grad
        s.add_(grad, alpha=lamb)

        # root = grad_sum_sq**(1/3) + eps
        root = grad_sum_sq.pow(1 / 3).add_(eps)
        if eps == 0:
            # root = where(root == 0, inf, root)
            root = torch.where(root == 0, math.inf, root)

        # z = start - s/root
        z = start.addcdiv(s, root, value=-1)
        if weight_decay != 0 and decoupled_weight_decay:
            # z -= rate*weight_decay/(1 - momentum)*p
            z.add_(p, alpha=-rate * weight_decay / (1 - momentum))

        # p = lerp(p, z, 1 - momentum)
        p.lerp_(z, 1 - momentum)


def _multi_tensor_madgrad(
    params: list[Tensor],
    grads: list[Tensor],
    grad_sum_sqs: list[Tensor],
    ses: list[Tensor],
    x0s: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    eps: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, weight_decay, eps = map(float, (lr, momentum, weight_decay, eps))
    rate = lr + eps if lr != 0 else 0

    columns = [params, grads, grad_sum_sqs, ses, x0s, steps]
    keys = [step.item() for step in steps]
    for params, grads, grad_sum_sqs, ses, x0s, steps in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            grad_sum_sqs = [torch.view_as_real(each) for each in grad_sum_sqs]
            ses = [torch.view_as_real(each) for each in ses]
            x0s = [each if each is None else torch.view_as_real(each) for each in x0s]
            given = grads
        lamb = rate * t**0.5
        if weight_decay != 0 and not decoupled_weight_decay:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        if momentum == 0:
            # root = grad_sum_sq**(1/3) + eps
            roots = torch._foreach_pow(grad_sum_sqs, 1 / 3)
            torch._foreach_add_(roots, eps)
            if eps == 0:
                # root = where(root == 0, inf, root)
                roots = [torch.where(root == 0, math.inf, root) for root in roots]

            # start = p + s/root
            starts = torch._foreach_addcdiv(params, ses, roots)
        else:
            starts = x0s

        # grad_sum_sq += lamb*grad*grad
        torch._foreach_addcmul_(grad_sum_sqs, grads, grads, value=lamb)

        # s += lamb*grad
        torch._foreach_add_(ses, grads, alpha=lamb)
        del grads

        # root = grad_sum_sq**(1/3) + eps
        roots = torch._foreach_pow(grad_sum_sqs, 1 / 3)
        torch._foreach_add_(roots, eps)
        if eps == 0:
            # root = where(root == 0, inf, root)
            roots = [torch.where(root == 0, math.inf, root) for root in roots]

        # z = start - s/root
        zs = torch._foreach_addcdiv(starts, ses, roots, value=-1)
        if weight_decay != 0 and decoupled_weight_decay:
            # z -= rate*weight_decay/(1 - momentum)*p
            torch._foreach_add_(zs, params, alpha=-rate * weight_decay / (1 - momentum))

        # p = lerp(p, z, 1 - momentum)
        torch._foreach_lerp_(params, zs, 1 - momentum)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _scaled_addcmul(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcmul(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcmul(y * scale, z)
    return x.addcmul(y, z, value=scale)


def _differentiable_madgrad(
    params: list[Tensor],
    grads: list[Tensor],
    grad_sum_sqs: list[Tensor],
    ses: list[Tensor],
    x0s: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    eps: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    rate = lr + eps if lr != 0 else 0

    for p, grad, grad_sum_sq, s, x0, step in zip(
        params, grads, grad_sum_sqs, ses, x0s, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, grad_sum_sq, s, x0, step)
        p, grad_sum_sq, s, x0, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        t = step.item()
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, grad_sum_sq, s = map(torch.view_as_real, (p, grad, grad_sum_sq, s))
            if x0 is not None:
                x0 = torch.view_as_real(x0)
        lamb = rate * t**0.5
        if weight_decay != 0 and not decoupled_weight_decay:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        if momentum == 0:
            # root = grad_sum_sq**(1/3) + eps
            root = grad_sum_sq.pow(1 / 3) + eps
            if eps == 0:
                # root = where(root == 0, inf, root)
                root = torch.where(root == 0, math.inf, root)

            # start = p + s/root
            start = p.addcdiv(s, root)
        else:
            start = x0

        # grad_sum_sq += lamb*grad*grad
        grad_sum_sq = _scaled_addcmul(grad_sum_sq, grad, grad, lamb)

        # s += lamb*grad
        s = _scaled_add(s, grad, lamb)

        # root = grad_sum_sq**(1/3) + eps
        root = grad_sum_sq.pow(1 / 3) + eps
        if eps == 0:
            # root = where(root == 0, inf, root)
            root = torch.where(root == 0, math.inf, root)

        # z = start - s/root
        z = start.addcdiv(s, root, value=-1)
        if weight_decay != 0 and decoupled_weight_decay:
            # z -= rate*weight_decay/(1 - momentum)*p
            z = _scaled_add(z, p, -rate * weight_decay / (1 - momentum))

        # p = lerp(p, z, 1 - momentum)
        p = p.lerp(z, 1 - momentum)
        if is_complex:
            p, grad_sum_sq, s = map(torch.view_as_complex, (p, grad_sum_sq, s))
            if x0 is not None:
                x0 = torch.view_as_complex(x0)

        for each, new in zip(kept, (p, grad_sum_sq, s, x0, step), strict=True):
            if each is not None:
                each.copy_(new)


def _single_tensor_madgrad_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    grad_sum_sqs: list[Tensor],
    ses: list[Tensor],
    x0s: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    eps: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    rate = lr + eps if lr != 0 else 0

    for p, grad, grad_sum_sq, s, x0, step in zip(
        params, grads, grad_sum_sqs, ses, x0s, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad, grad_sum_sq, s = map(torch.view_as_real, (p, grad, grad_sum_sq, s))
            if x0 is not None:
                x0 = torch.view_as_real(x0)

        # lamb = rate*t**0.5
        lamb = step.pow(0.5) * rate
        if weight_decay != 0 and not decoupled_weight_decay:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        if momentum == 0:
            # root = grad_sum_sq**(1/3) + eps
            root = grad_sum_sq.pow(1 / 3).add_(eps)
            if eps == 0:
                # root = where(root == 0, inf, root)
                root = torch.where(root == 0, math.inf, root)

            # start = p + s/root
            start = p.addcdiv(s, root)
        else:
            start = x0

        # grad_sum_sq += lamb*grad*grad
        grad_sum_sq.addcmul_(lamb * grad, grad)

        # s += lamb*grad
        s.addcmul_(lamb, grad)

        # root = grad_sum_sq**(1/3) + eps
        root = grad_sum_sq.pow(1 / 3).add_(eps)
        if eps == 0:
            # root = where(root == 0, inf, root)
            root = torch.where(root == 0, math.inf, root)

        # z = start - s/root
        z = start.addcdiv(s, root, value=-1)
        if weight_decay != 0 and decoupled_weight_decay:
            # z -= rate*weight_decay/(1 - momentum)*p
            z.add_(p, alpha=-rate * weight_decay / (1 - momentum))

        # p = lerp(p, z, 1 - momentum)
        p.lerp_(z, 1 - momentum)


def _multi_tensor_madgrad_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    grad_sum_sqs: list[Tensor],
    ses: list[Tensor],
    x0s: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    eps: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    rate = lr + eps if lr != 0 else 0

    columns = [params, grads, grad_sum_sqs, ses, x0s, steps]
    for params, grads, grad_sum_sqs, ses, x0s, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            grad_sum_sqs = [torch.view_as_real(each) for each in grad_sum_sqs]
            ses = [torch.view_as_real(each) for each in ses]
            x0s = [each if each is None else torch.view_as_real(each) for each in x0s]
            given = grads

        # lamb = rate*t**0.5
        powers = torch._foreach_pow(steps, 0.5)
        lambs = torch._foreach_mul(powers, rate)
        if weight_decay != 0 and not decoupled_weight_decay:
            # grad += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)
            del products
        if momentum == 0:
            # root = grad_sum_sq**(1/3) + eps
            roots = torch._foreach_pow(grad_sum_sqs, 1 / 3)
            torch._foreach_add_(roots, eps)
            if eps == 0:
                # root = where(root == 0, inf, root)
                roots = [torch.where(root == 0, math.inf, root) for root in roots]

            # start = p + s/root
            starts = torch._foreach_addcdiv(params, ses, roots)
        else:
            starts = x0s

        # grad_sum_sq += lamb*grad*grad
        products = torch._foreach_mul(lambs, grads)
        torch._foreach_addcmul_(grad_sum_sqs, products, grads)
        del products

        # s += lamb*grad
        torch._foreach_addcmul_(ses, lambs, grads)
        del grads

        # root = grad_sum_sq**(1/3) + eps
        roots = torch._foreach_pow(grad_sum_sqs, 1 / 3)
        torch._foreach_add_(roots, eps)
        if eps == 0:
            # root = where(root == 0, inf, root)
            roots = [torch.where(root == 0, math.inf, root) for root in roots]

        # z = start - s/root
        zs = torch._foreach_addcdiv(starts, ses, roots, value=-1)
        del roots, starts
        if weight_decay != 0 and decoupled_weight_decay:
            # z -= rate*weight_decay/(1 - momentum)*p
            products = torch._foreach_mul(params, -rate * weight_decay / (1 - momentum))
            torch._foreach_add_(zs, products)

        # p = lerp(p, z, 1 - momentum)
        torch._foreach_lerp_(params, zs, 1 - momentum)


def _differentiable_madgrad_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    grad_sum_sqs: list[Tensor],
    ses: list[Tensor],
    x0s: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    eps: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    rate = lr + eps if lr != 0 else 0

    for p, grad, grad_sum_sq, s, x0, step in zip(
        params, grads, grad_sum_sqs, ses, x0s, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, grad_sum_sq, s, x0, step)
        p, grad_sum_sq, s, x0, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, grad_sum_sq, s = map(torch.view_as_real, (p, grad, grad_sum_sq, s))
            if x0 is not None:
                x0 = torch.view_as_real(x0)

        # lamb = rate*t**0.5
        lamb = step.pow(0.5) * rate
        if weight_decay != 0 and not decoupled_weight_decay:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        if momentum == 0:
            # root = grad_sum_sq**(1/3) + eps
            root = grad_sum_sq.pow(1 / 3) + eps
            if eps == 0:
                # root = where(root == 0, inf, root)
                root = torch.where(root == 0, math.inf, root)

            # start = p + s/root
            start = p.addcdiv(s, root)
        else:
            start = x0

        # grad_sum_sq += lamb*grad*grad
        grad_sum_sq = grad_sum_sq.addcmul(lamb * grad, grad)

        # s += lamb*grad
        s = s.addcmul(lamb, grad)

        # root = grad_sum_sq**(1/3) + eps
        root = grad_sum_sq.pow(1 / 3) + eps
        if eps == 0:
            # root = where(root == 0, inf, root)
            root = torch.where(root == 0, math.inf, root)

        # z = start - s/root
        z = start.addcdiv(s, root, value=-1)
        if weight_decay != 0 and decoupled_weight_decay:
            # z -= rate*weight_decay/(1 - momentum)*p
            z = _scaled_add(z, p, -rate * weight_decay / (1 - momentum))

        # p = lerp(p, z, 1 - momentum)
        p = p.lerp(z, 1 - momentum)
        if is_complex:
            p, grad_sum_sq, s = map(torch.view_as_complex, (p, grad_sum_sq, s))
            if x0 is not None:
                x0 = torch.view_as_complex(x0)

        for each, new in zip(kept, (p, grad_sum_sq, s, x0, step), strict=True):
            if each is not None:
                each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["momentum"], group["weight_decay"], group["eps"]]
    options = [
        group["maximize"],
        group["lr"] != 0,
        group["weight_decay"] != 0,
        group["decoupled_weight_decay"],
        group["momentum"] == 0,
        group["eps"] == 0,
    ]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, grad_sum_sqs, ses, x0s, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, grad_sum_sqs, ses, x0s],
            numbers=[steps],
        )
    return launch.run()


_CPU = r"""// MADGRAD in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    grad_sum_sq_t *grad_sum_sq;
    s_t *s;
    x0_t *x0;
    step_t *step;
    double lr;
    double momentum;
    double weight_decay;
    double eps;
};

// What is worked out once a tensor.
struct Numbers {
    double t, rate, lamb, quotient, quotient_2, quotient_3;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // rate = lr + eps if lr != 0 else 0
    n.rate = lr_is_not_0 ? row.lr + row.eps : 0.0;
    // lamb = rate*t**0.5
    n.lamb = n.rate * std::pow(n.t, 0.5);
    if (momentum_is_0) {
        // 1/3
        n.quotient = 1.0 / 3.0;
    }
    // 1/3
    n.quotient_2 = 1.0 / 3.0;
    if (weight_decay_is_not_0 && decoupled_weight_decay) {
        // rate*weight_decay/(1 - momentum)
        n.quotient_3 = n.rate * row.weight_decay / (1.0 - row.momentum);
    }
    return are_finite(n.rate, n.lamb, n.quotient, n.quotient_2, n.quotient_3);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::grad_sum_sq, &Row::s, &Row::x0);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real grad_sum_sq = load(row.grad_sum_sq[i]);
            real s = load(row.s[i]);
            const real x0 = has_x0 ? load(row.x0[i]) : 0;
            real root = 0;
            real start = 0;
            if (weight_decay_is_not_0 && !decoupled_weight_decay) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            if (momentum_is_0) {
                // root = grad_sum_sq**(1/3) + eps
                root = pow_(grad_sum_sq, real(n.quotient)) + real(row.eps);
                if (eps_is_0) {
                    // root = where(root == 0, inf, root)
                    root = root == real(0.0) ? real(infinity) : root;
                }
                // start = p + s/root
                start = p + s / root;
            } else {
                // start = x0
                start = x0;
            }
            // grad_sum_sq += lamb*grad*grad
            grad_sum_sq = grad_sum_sq + real(n.lamb) * grad * grad;
            // s += lamb*grad
            s = s + real(n.lamb) * grad;
            // root = grad_sum_sq**(1/3) + eps
            root = pow_(grad_sum_sq, real(n.quotient_2)) + real(row.eps);
            if (eps_is_0) {
                // root = where(root == 0, inf, root)
                root = root == real(0.0) ? real(infinity) : root;
            }
            // z = start - s/root
            real z = start - s / root;
            if (weight_decay_is_not_0 && decoupled_weight_decay) {
                // z -= rate*weight_decay/(1 - momentum)*p
                z = z - real(n.quotient_3) * p;
            }
            // p = lerp(p, z, 1 - momentum)
            p = lerp_(p, z, real(1.0 - row.momentum));
            store(row.p[i], p);
            store(row.grad_sum_sq[i], grad_sum_sq);
            store(row.s[i], s);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_madgrad(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.grad_sum_sq = (grad_sum_sq_t *)table->columns[2][at];
        row.s = (s_t *)table->columns[3][at];
        row.x0 = (x0_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.lr = *hyper++;
        row.momentum = *hyper++;
        row.weight_decay = *hyper++;
        row.eps = *hyper++;
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# MADGRAD in one pass over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    if_there,
    keep,
    keep_number,
    lerp,
    number,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "grad_sum_sq_t", "s_t", "x0_t", "step_t")
OPTIONS = (
    "maximize",
    "lr_is_not_0",
    "weight_decay_is_not_0",
    "decoupled_weight_decay",
    "momentum_is_0",
    "eps_is_0",
)


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    step_t: tl.constexpr,
    lr_is_not_0: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    decoupled_weight_decay: tl.constexpr,
    momentum_is_0: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 4 * tl.load(group + row)
    lr = tl.load(of + 0)
    momentum = tl.load(of + 1)
    weight_decay = tl.load(of + 2)
    eps = tl.load(of + 3)
    t = number(columns, rows, row, 5, step_t) + 1
    # rate = lr + eps if lr != 0 else 0
    rate = lr + eps if lr_is_not_0 else double(0.0)
    # lamb = rate*t**0.5
    lamb = rate * libdevice.pow(t, double(0.5))
    quotient = double(0.0)
    if momentum_is_0:
        # 1/3
        quotient = double(1.0 / 3.0)
    # 1/3
    quotient_2 = double(1.0 / 3.0)
    quotient_3 = double(0.0)
    if weight_decay_is_not_0 and decoupled_weight_decay:
        # rate*weight_decay/(1 - momentum)
        quotient_3 = rate * weight_decay / (1.0 - momentum)
    tl.store(n + 0 * rows, lamb)
    tl.store(n + 1 * rows, quotient)
    tl.store(n + 2 * rows, quotient_2)
    tl.store(n + 3 * rows, quotient_3)
    keep_number(columns, rows, row, 5, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    grad_sum_sq_t: tl.constexpr,
    s_t: tl.constexpr,
    x0_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    decoupled_weight_decay: tl.constexpr,
    momentum_is_0: tl.constexpr,
    eps_is_0: tl.constexpr,
    real: tl.constexpr,
    aligned: tl.constexpr,
    BLOCK: tl.constexpr,
):
    if overflowed(found_inf):
        return
    chunk = tl.program_id(0)
    row = tl.load(row_of + chunk)
    begin = (chunk - tl.load(starts + row)) * BLOCK
    left = tl.load(numel + row) - begin
    i = tl.arange(0, BLOCK)
    n = numbers + row
    of = hypers + 4 * tl.load(group + row)
    momentum = tl.load(of + 1)
    weight_decay = tl.load(of + 2)
    eps = tl.load(of + 3)
    lamb = tl.load(n + 0 * rows)
    quotient = tl.load(n + 1 * rows)
    quotient_2 = tl.load(n + 2 * rows)
    quotient_3 = tl.load(n + 3 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    grad_sum_sq_at = column(columns, rows, row, 2, grad_sum_sq_t, aligned) + begin
    s_at = column(columns, rows, row, 3, s_t, aligned) + begin
    x0_at = column(columns, rows, row, 4, x0_t, aligned) + begin
    x0_left = if_there(columns, rows, row, 4, left)
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    grad_sum_sq = elements(grad_sum_sq_at, i, left, real)
    s = elements(s_at, i, left, real)
    x0 = elements(x0_at, i, x0_left, real)
    if weight_decay_is_not_0 and not decoupled_weight_decay:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    root = tl.zeros([BLOCK], real)
    if momentum_is_0:
        # root = grad_sum_sq**(1/3) + eps
        root = libdevice.pow(grad_sum_sq, quotient.to(real)) + eps.to(real)
        if eps_is_0:
            # root = where(root == 0, inf, root)
            root = tl.where(root == 0.0, tl.full([], float("inf"), real), root)
        # start = p + s/root
        start = p + s / root
    else:
        # start = x0
        start = x0
    # grad_sum_sq += lamb*grad*grad
    grad_sum_sq = grad_sum_sq + lamb.to(real) * grad * grad
    # s += lamb*grad
    s = s + lamb.to(real) * grad
    # root = grad_sum_sq**(1/3) + eps
    root = libdevice.pow(grad_sum_sq, quotient_2.to(real)) + eps.to(real)
    if eps_is_0:
        # root = where(root == 0, inf, root)
        root = tl.where(root == 0.0, tl.full([], float("inf"), real), root)
    # z = start - s/root
    z = start - s / root
    if weight_decay_is_not_0 and decoupled_weight_decay:
        # z -= rate*weight_decay/(1 - momentum)*p
        z = z - quotient_3.to(real) * p
    # p = lerp(p, z, 1 - momentum)
    p = lerp(p, z, (1.0 - momentum).to(real))
    keep(p_at, i, left, p)
    keep(grad_sum_sq_at, i, left, grad_sum_sq)
    keep(s_at, i, left, s)


def launch(x):
    x.numbers = x.new(4 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_madgrad",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "grad_sum_sq", "s", "x0"),
    numbers=("step",),
    optional=("x0",),
    options=(
        "maximize",
        "lr_is_not_0",
        "weight_decay_is_not_0",
        "decoupled_weight_decay",
        "momentum_is_0",
        "eps_is_0",
    ),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
