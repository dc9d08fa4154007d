"""Adai: momentum whose decay differs from weight to weight, and one learning rate.

Xie et al. (2022), Adaptive Inertia: Disentangling the Effects of Adaptive Learning Rate
and Momentum, https://arxiv.org/abs/2006.15815
Follows the authors' code, https://github.com/zeke-xie/adaptive-inertia-adai, which has
no default for lr: what is good for SGD without momentum is good here. It keeps the
product of all inertias, which in bfloat16 is 1 for long; `weight` is 1 less that
product. While all gradients are zero nothing moves; theirs makes NaN of 0/0.
"""
# Compiled by optdsl from adai.opt, content cd990311c6e7.

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

__all__ = ["Adai"]


class Adai(Optimizer):
    """Adai: momentum whose decay differs from weight to weight, and one learning rate.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 0.1).
        betas (tuple[float, float], optional): share of a new gradient of typical size;
            decay of squares, in [0, 1) (default: (0.1, 0.99)).
        eps (float, optional): least share of a new gradient, in (0, 1] (default: 1e-3).
        weight_decay (float, optional): L2 penalty, or share of a weight that decays, in
            [0, inf) (default: 0).
        decoupled (bool, optional): decay the weights, as AdamW does (default: False).
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
        exp_avg: momentum (like p).
        exp_avg_sq: second moment of the gradient (like p).
        weight: how much of the momentum is gradients, and not its first 0 (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        betas: tuple[float, float] = (0.1, 0.99),
        eps: float = 1e-3,
        weight_decay: float = 0,
        decoupled: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
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
            group.setdefault("lr", 0.1)
            group.setdefault("betas", (0.1, 0.99))
            group.setdefault("eps", 1e-3)
            group.setdefault("weight_decay", 0)
            group.setdefault("decoupled", False)
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
        for name in ("lr", "betas", "eps", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        weights: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Adai does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Adai does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["weight"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            weights.append(state["weight"])
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
            exp_avgs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            weights: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, exp_avgs, exp_avg_sqs, weights, steps
            )
            if params:
                groups.append(
                    (group, [params, grads, exp_avgs, exp_avg_sqs, weights, steps])
                )
        if not torch.compiler.is_compiling() and _KERNELS:
            groups = _by_kernels(self, groups)
        if groups:
            group, (params, grads, exp_avgs, exp_avg_sqs, weights, steps) = groups[0]
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_adai if use_foreach else _single_tensor_adai
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_adai_capturable
                if use_foreach:
                    update = _multi_tensor_adai_capturable
            update(groups)

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    decoupled = group["decoupled"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    _check_number("eps", eps)
    if not 0 < eps <= 1:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in (0, 1]")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if decoupled not in (False, True):
        raise ValueError(f"Invalid decoupled: {decoupled!r}, expected True or False")
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["differentiable"]:
        raise RuntimeError("Adai is not differentiable: its parameters step together")


def _check_number(name: str, value: Any) -> None:
    """Raise where a value is no number, nor a tensor of one element."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"Invalid {name}: {value!r}, expected one number")
    if not isinstance(value, (Real, Tensor)):
        raise TypeError(f"Invalid {name}: {value!r}, expected a number")


def _check_numbers(name: str, values: Any, size: int, nones: Any = ()) -> None:
    """Raise where a value is no tuple of numbers; those at `nones` may be None."""
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"Invalid {name}: {values!r}, expected {size} numbers")
    if len(values) != size:
        raise ValueError(f"Invalid {name}: {values!r}, expected {size} numbers")
    for at, value in enumerate(values):
        if not (value is None and at in nones):
            _check_number(name, value)


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


def _stacked(parts: list[Tensor]) -> Tensor:
    """What every parameter gives to a reduction, next to the first; of one that is
    sharded, what all shards give.
    """
    whole = [x.full_tensor() if hasattr(x, "full_tensor") else x for x in parts]
    dtype = torch.promote_types(whole[0].dtype, _get_scalar_dtype())
    return torch.stack([x.to(whole[0].device, dtype) for x in whole])


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _single_tensor_adai(groups: list[tuple[dict[str, Any], list[list[Any]]]]) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, weights, steps.
    """
    typical_part_2s: list[Any] = []
    typical_parts: list[Tensor] = []
    for group, columns in groups:
        lr = group["lr"]
        betas = group["betas"]
        weight_decay = group["weight_decay"]
        decoupled = group["decoupled"]

        beta0, beta2 = betas
        params, grads, exp_avgs, exp_avg_sqs, weights, steps = columns
        grads_: list[Any] = []
        seconds: list[Any] = []
        for p, grad, exp_avg_sq, step in zip(
            params, grads, exp_avg_sqs, steps, strict=True
        ):
            grad = grad if not group["maximize"] else -grad
            step += 1
            t = step.item()
            if weight_decay != 0 and decoupled:
                # p *= 1 - lr*weight_decay
                p.mul_(1 - lr * weight_decay)
            elif weight_decay != 0:
                # grad += weight_decay*p
                grad = grad.add(p, alpha=weight_decay)

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            second = exp_avg_sq / (1 - beta2**t)

            # typical = mean(second, over=model)
            typical_parts.append(second.sum())
            typical_part_2s.append(p.numel())
            grads_.append(grad)
            seconds.append(second)
        columns += [grads_, seconds]

    # typical = mean(second, over=model)
    typical_total = _stacked(typical_parts).sum()
    typical_total_2 = sum(typical_part_2s)
    typical = typical_total / typical_total_2

    for group, columns in groups:
        lr = group["lr"]
        betas = group["betas"]
        eps = group["eps"]

        beta0, beta2 = betas
        params, grads, exp_avgs, exp_avg_sqs, weights, steps, grads_, seconds = columns
        for p, exp_avg, weight, grad, second in zip(
            params, exp_avgs, weights, grads_, seconds, strict=True
        ):
            # size = second/where(typical > 0, typical, 1)
            size = second / torch.where(typical > 0, typical, 1)

            # fresh = clamp(beta0*size, eps, 1)
            fresh = (size * beta0).clamp_(min=eps, max=1)

            # exp_avg = lerp(exp_avg, grad, fresh)
            exp_avg.lerp_(grad, fresh)

            # weight += fresh*(1 - weight)
            weight.addcmul_(fresh, 1 - weight)

            # p -= lr*exp_avg/weight
            p.addcdiv_(exp_avg, weight, value=-lr)


def _multi_tensor_adai(groups: list[tuple[dict[str, Any], list[list[Any]]]]) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, weights, steps.
    """
    batches = []
    for group, (params, grads, exp_avgs, exp_avg_sqs, weights, steps) in groups:
        columns = [params, grads, exp_avgs, exp_avg_sqs, weights, steps]
        keys = [(p.shape, step.item()) for p, step in zip(params, steps, strict=True)]
        batches.append((group, _alike(columns, keys)))

    typical_part_2s: list[Any] = []
    typical_parts: list[Tensor] = []
    for group, rows in batches:
        lr = float(group["lr"])
        betas = tuple(map(float, group["betas"]))
        weight_decay = float(group["weight_decay"])
        decoupled = group["decoupled"]

        beta0, beta2 = betas
        for columns in rows:
            params, grads, exp_avgs, exp_avg_sqs, weights, steps = columns
            given = grads
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
            t = steps[0].item()
            if weight_decay != 0 and decoupled:
                # p *= 1 - lr*weight_decay
                torch._foreach_mul_(params, 1 - lr * weight_decay)
            elif weight_decay != 0:
                # grad += weight_decay*p
                if grads is given:
                    grads = torch._foreach_add(grads, params, alpha=weight_decay)
                else:
                    torch._foreach_add_(grads, params, alpha=weight_decay)

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            torch._foreach_mul_(exp_avg_sqs, beta2)
            torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)

            # second = exp_avg_sq/(1 - beta2**t)
            seconds = torch._foreach_div(exp_avg_sqs, 1 - beta2**t)

            # typical = mean(second, over=model)
            typical_parts += [second.sum() for second in seconds]
            typical_part_2s += [params[0].numel()] * len(params)
            columns += [grads, seconds]

    # typical = mean(second, over=model)
    typical_total = _stacked(typical_parts).sum()
    typical_total_2 = sum(typical_part_2s)
    typical = typical_total / typical_total_2

    for group, rows in batches:
        lr = float(group["lr"])
        betas = tuple(map(float, group["betas"]))
        eps = float(group["eps"])

        beta0, beta2 = betas
        for columns in rows:
            params, grads, exp_avgs, exp_avg_sqs, weights, steps, grads, seconds = (
                columns
            )
            # size = second/where(typical > 0, typical, 1)
            scale = torch.where(typical > 0, typical, 1)
            sizes = torch._foreach_div(seconds, scale)

            # fresh = clamp(beta0*size, eps, 1)
            freshs = torch._foreach_mul(sizes, beta0)
            del sizes
            torch._foreach_clamp_min_(freshs, eps)
            torch._foreach_clamp_max_(freshs, 1)

            # exp_avg = lerp(exp_avg, grad, fresh)
            torch._foreach_lerp_(exp_avgs, grads, freshs)

            # weight += fresh*(1 - weight)
            opposites = torch._foreach_neg(weights)
            torch._foreach_add_(opposites, 1)
            for weight, fresh, opposite in zip(weights, freshs, opposites, strict=True):
                weight.addcmul_(fresh, opposite)

            # p -= lr*exp_avg/weight
            torch._foreach_addcdiv_(params, exp_avgs, weights, value=-lr)


def _single_tensor_adai_capturable(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, weights, steps.
    """
    typical_part_2s: list[Any] = []
    typical_parts: list[Tensor] = []
    for group, columns in groups:
        lr = group["lr"]
        betas = group["betas"]
        weight_decay = group["weight_decay"]
        decoupled = group["decoupled"]

        beta0, beta2 = betas
        params, grads, exp_avgs, exp_avg_sqs, weights, steps = columns
        grads_: list[Any] = []
        seconds: list[Any] = []
        for p, grad, exp_avg_sq, step in zip(
            params, grads, exp_avg_sqs, steps, strict=True
        ):
            grad = grad if not group["maximize"] else -grad
            step += 1
            if weight_decay != 0 and decoupled:
                # p *= 1 - lr*weight_decay
                p.mul_(1 - lr * weight_decay)
            elif weight_decay != 0:
                # grad += weight_decay*p
                grad = grad.add(p, alpha=weight_decay)

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

            # second = exp_avg_sq/(1 - beta2**t)
            second = exp_avg_sq / (1 - beta2**step)

            # typical = mean(second, over=model)
            typical_parts.append(second.sum())
            typical_part_2s.append(p.numel())
            grads_.append(grad)
            seconds.append(second)
        columns += [grads_, seconds]

    # typical = mean(second, over=model)
    typical_total = _stacked(typical_parts).sum()
    typical_total_2 = sum(typical_part_2s)
    typical = typical_total / typical_total_2

    for group, columns in groups:
        lr = group["lr"]
        betas = group["betas"]
        eps = group["eps"]

        beta0, beta2 = betas
        params, grads, exp_avgs, exp_avg_sqs, weights, steps, grads_, seconds = columns
        for p, exp_avg, weight, grad, second in zip(
            params, exp_avgs, weights, grads_, seconds, strict=True
        ):
            # size = second/where(typical > 0, typical, 1)
            size = second / torch.where(typical > 0, typical, 1)

            # fresh = clamp(beta0*size, eps, 1)
            fresh = (size * beta0).clamp_(min=eps, max=1)

            # exp_avg = lerp(exp_avg, grad, fresh)
            exp_avg.lerp_(grad, fresh)

            # weight += fresh*(1 - weight)
            weight.addcmul_(fresh, 1 - weight)

            # p -= lr*exp_avg/weight
            p.addcdiv_(exp_avg, weight, value=-lr)


def _multi_tensor_adai_capturable(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, weights, steps.
    """
    batches = []
    for group, (params, grads, exp_avgs, exp_avg_sqs, weights, steps) in groups:
        columns = [params, grads, exp_avgs, exp_avg_sqs, weights, steps]
        keys = [p.shape for p in params]
        batches.append((group, _alike(columns, keys)))

    typical_part_2s: list[Any] = []
    typical_parts: list[Tensor] = []
    for group, rows in batches:
        lr = group["lr"]
        betas = group["betas"]
        weight_decay = group["weight_decay"]
        decoupled = group["decoupled"]

        beta0, beta2 = betas
        for columns in rows:
            params, grads, exp_avgs, exp_avg_sqs, weights, steps = columns
            given = grads
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            torch._foreach_add_(steps, 1)
            if weight_decay != 0 and decoupled:
                # p *= 1 - lr*weight_decay
                torch._foreach_mul_(params, 1 - lr * weight_decay)
            elif weight_decay != 0:
                # grad += weight_decay*p
                products = torch._foreach_mul(params, weight_decay)
                if grads is given:
                    grads = torch._foreach_add(grads, products)
                else:
                    torch._foreach_add_(grads, products)
                del products

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            torch._foreach_mul_(exp_avg_sqs, beta2)
            products = torch._foreach_mul(grads, 1 - beta2)
            torch._foreach_addcmul_(exp_avg_sqs, products, grads)
            del products

            # second = exp_avg_sq/(1 - beta2**t)
            powers = torch._foreach_pow(beta2, steps)
            torch._foreach_neg_(powers)
            torch._foreach_add_(powers, 1)
            seconds = torch._foreach_div(exp_avg_sqs, powers)

            # typical = mean(second, over=model)
            typical_parts += [second.sum() for second in seconds]
            typical_part_2s += [params[0].numel()] * len(params)
            columns += [grads, seconds]

    # typical = mean(second, over=model)
    typical_total = _stacked(typical_parts).sum()
    typical_total_2 = sum(typical_part_2s)
    typical = typical_total / typical_total_2

    for group, rows in batches:
        lr = group["lr"]
        betas = group["betas"]
        eps = group["eps"]

        beta0, beta2 = betas
        for columns in rows:
            params, grads, exp_avgs, exp_avg_sqs, weights, steps, grads, seconds = (
                columns
            )
            # size = second/where(typical > 0, typical, 1)
            scale = torch.where(typical > 0, typical, 1)
            sizes = torch._foreach_div(seconds, scale)

            # fresh = clamp(beta0*size, eps, 1)
            freshs = torch._foreach_mul(sizes, beta0)
            del sizes
            torch._foreach_clamp_min_(freshs, eps)
            torch._foreach_clamp_max_(freshs, 1)

            # exp_avg = lerp(exp_avg, grad, fresh)
            torch._foreach_lerp_(exp_avgs, grads, freshs)

            # weight += fresh*(1 - weight)
            opposites = torch._foreach_neg(weights)
            torch._foreach_add_(opposites, 1)
            for weight, fresh, opposite in zip(weights, freshs, opposites, strict=True):
                weight.addcmul_(fresh, opposite)
            del freshs, opposites

            # p -= lr*exp_avg/weight
            products = torch._foreach_mul(exp_avgs, -lr)
            torch._foreach_addcdiv_(params, products, weights)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["eps"],
        group["weight_decay"],
    ]
    options = [group["maximize"], group["weight_decay"] != 0, group["decoupled"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avgs, exp_avg_sqs, weights, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs, exp_avg_sqs, weights],
            numbers=[steps],
            asked=[[p.numel() for p in params]],
        )
    return launch.run()


_CPU = r"""// Adai in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_t *exp_avg_sq;
    weight_t *weight;
    step_t *step;
    double lr;
    double betas[2];
    double eps;
    double weight_decay;
    double numel__;
    bool maximize, weight_decay_is_not_0, decoupled;
};

// What is worked out once a tensor.
struct Numbers {
    double t, beta0, beta2, difference, typical_part, typical_part_2, typical_total,
        typical_total_2, typical, where;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta0, beta2 = betas
    n.beta0 = row.betas[0];
    n.beta2 = row.betas[1];
    // 1 - beta2**t
    n.difference = 1.0 - std::pow(n.beta2, n.t);
    // typical = mean(second, over=model)
    n.typical_part_2 = row.numel__;
    // beta0, beta2 = betas
    n.beta0 = row.betas[0];
    return are_finite(n.difference);
}

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double typical_part = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg_sq);
        #pragma omp simd reduction(+: typical_part)
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (row.maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            if (row.weight_decay_is_not_0 && row.decoupled) {
                // p *= 1 - lr*weight_decay
                p = kept<p_t>(p * real(1.0 - row.lr * row.weight_decay));
            } else if (row.weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq = kept<exp_avg_sq_t>(real(n.beta2) * exp_avg_sq + real(1.0 -
                n.beta2) * grad * grad);
            // second = exp_avg_sq/(1 - beta2**t)
            const real second = exp_avg_sq * real(1.0 / n.difference);
            // typical = mean(second, over=model)
            typical_part += double(second);
            store(row.p[i], p);
            store(row.exp_avg_sq[i], exp_avg_sq);
        }
    }
    sums[0] = typical_part;
}

static void numbers_2(const Row &row, Numbers &n) {
    // beta0, beta2 = betas
    n.beta2 = row.betas[1];
}

static void numbers_3(const Row &row, Numbers &n) {
    // typical = mean(second, over=model)
    n.typical = n.typical_total / n.typical_total_2;
    // where(typical > 0, typical, 1)
    n.where = n.typical > 0.0 ? n.typical : 1.0;
}

static void pass_2(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg, &Row::exp_avg_sq,
            &Row::weight);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (row.maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            const real exp_avg_sq = load(row.exp_avg_sq[i]);
            real weight = load(row.weight[i]);
            if (!(row.weight_decay_is_not_0 && row.decoupled)) {
                if (row.weight_decay_is_not_0) {
                    // grad += weight_decay*p
                    grad = grad + real(row.weight_decay) * p;
                }
            }
            // second = exp_avg_sq/(1 - beta2**t)
            const real second = exp_avg_sq * real(1.0 / n.difference);
            // size = second/where(typical > 0, typical, 1)
            const real size = second * real(1.0 / n.where);
            // fresh = clamp(beta0*size, eps, 1)
            const real fresh = clamp_(real(n.beta0) * size, real(row.eps), real(1.0));
            // exp_avg = lerp(exp_avg, grad, fresh)
            exp_avg = lerp_(exp_avg, grad, fresh);
            // weight += fresh*(1 - weight)
            weight = weight + fresh * (real(1.0) - weight);
            // p -= lr*exp_avg/weight
            p = p - real(row.lr) * exp_avg / weight;
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
            store(row.weight[i], weight);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_adai(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.exp_avg = (exp_avg_t *)table->columns[2][at];
        row.exp_avg_sq = (exp_avg_sq_t *)table->columns[3][at];
        row.weight = (weight_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        const double *hyper = table->hypers + 8 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        row.maximize = *hyper++ != 0;
        row.weight_decay_is_not_0 = *hyper++ != 0;
        row.decoupled = *hyper++ != 0;
        row.numel__ = table->asked[at];
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 1, rows, numbers, numbers_1)) return 1;
    // mean(second, over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].typical_part_2); },
           [&](int64_t at, double value, double count) {
               numbers[at].typical_total_2 = value;
           });
    std::vector<double> parts(1 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[1 * at]);
    });
    const auto sums = gathered<1>(
        *table, chunks, parts, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].typical_part = sums[1 * at + 0];
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    // mean(second, over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].typical_part); },
           [&](int64_t at, double value, double count) {
               numbers[at].typical_total = value;
           });
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_3(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# Adai in 2 passes over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

from optdsl.runtime.arithmetic import (
    clamp,
    column,
    double,
    elements,
    gradient,
    keep,
    keep_number,
    kept,
    lerp,
    number,
    overflowed,
    spread,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "exp_avg_t", "exp_avg_sq_t", "weight_t", "step_t")
OPTIONS = ()


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, asked, numbers, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 8 * tl.load(group + row)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    numel_ = tl.load(asked + 0 * rows + row)
    t = number(columns, rows, row, 5, step_t) + 1
    # beta0, beta2 = betas
    beta0 = betas_0
    beta2 = betas_1
    # 1 - beta2**t
    difference = 1.0 - libdevice.pow(beta2, t)
    # typical = mean(second, over=model)
    typical_part_2 = numel_
    # beta0, beta2 = betas
    beta0 = betas_0
    tl.store(n + 0 * rows, typical_part_2)
    tl.store(n + 1 * rows, beta2)
    tl.store(n + 2 * rows, difference)
    tl.store(n + 4 * rows, t)
    tl.store(n + 7 * rows, beta0)


@triton.jit(do_not_specialize=["rows"])
def across_1(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # mean(second, over=model)
    typical_total_2 = sum_of(numbers + 0 * rows, begin, end)
    spread(numbers + 6 * rows, begin, end, typical_total_2)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, group, hypers, numbers, parts,
    found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
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
    of = hypers + 8 * tl.load(group + row)
    lr = tl.load(of + 0)
    weight_decay = tl.load(of + 4)
    maximize = tl.load(of + 5) != 0
    weight_decay_is_not_0 = tl.load(of + 6) != 0
    decoupled = tl.load(of + 7) != 0
    beta2 = tl.load(n + 1 * rows)
    difference = tl.load(n + 2 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    if weight_decay_is_not_0 and decoupled:
        # p *= 1 - lr*weight_decay
        p = kept(p * (1.0 - lr * weight_decay).to(real), p_t)
    elif weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
    exp_avg_sq = kept(
        beta2.to(real) * exp_avg_sq + (1.0 - beta2).to(real) * grad * grad, exp_avg_sq_t
    )
    # second = exp_avg_sq/(1 - beta2**t)
    second = exp_avg_sq / difference.to(real)
    # typical = mean(second, over=model)
    typical_part = total(second, i, left)
    keep(p_at, i, left, p)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)
    tl.store(parts + 0 * chunks + chunk, typical_part)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    rows, chunks, starts, group, hypers, numbers, parts, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 8 * tl.load(group + row)
    betas_1 = tl.load(of + 2)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # typical = mean(second, over=model)
    typical_part = sum_of(parts + 0 * chunks, begin, end)
    # beta0, beta2 = betas
    beta2 = betas_1
    tl.store(n + 3 * rows, typical_part)


@triton.jit(do_not_specialize=["rows"])
def across_2(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # mean(second, over=model)
    typical_total = sum_of(numbers + 3 * rows, begin, end)
    spread(numbers + 5 * rows, begin, end, typical_total)


@triton.jit(do_not_specialize=["rows"])
def numbers_3(
    columns, rows, numbers, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    t = tl.load(n + 4 * rows)
    typical_total = tl.load(n + 5 * rows)
    typical_total_2 = tl.load(n + 6 * rows)
    # typical = mean(second, over=model)
    typical = typical_total / typical_total_2
    # where(typical > 0, typical, 1)
    where = tl.where(typical > 0.0, typical, double(1.0))
    tl.store(n + 8 * rows, where)
    keep_number(columns, rows, row, 5, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_2(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
    weight_t: tl.constexpr,
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
    of = hypers + 8 * tl.load(group + row)
    lr = tl.load(of + 0)
    eps = tl.load(of + 3)
    weight_decay = tl.load(of + 4)
    maximize = tl.load(of + 5) != 0
    weight_decay_is_not_0 = tl.load(of + 6) != 0
    decoupled = tl.load(of + 7) != 0
    difference = tl.load(n + 2 * rows)
    beta0 = tl.load(n + 7 * rows)
    where = tl.load(n + 8 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    weight_at = column(columns, rows, row, 4, weight_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    weight = elements(weight_at, i, left, real)
    if not (weight_decay_is_not_0 and decoupled):
        if weight_decay_is_not_0:
            # grad += weight_decay*p
            grad = grad + weight_decay.to(real) * p
    # second = exp_avg_sq/(1 - beta2**t)
    second = exp_avg_sq / difference.to(real)
    # size = second/where(typical > 0, typical, 1)
    size = second / where.to(real)
    # fresh = clamp(beta0*size, eps, 1)
    fresh = clamp(beta0.to(real) * size, eps.to(real), 1.0)
    # exp_avg = lerp(exp_avg, grad, fresh)
    exp_avg = lerp(exp_avg, grad, fresh)
    # weight += fresh*(1 - weight)
    weight = weight + fresh * (1.0 - weight)
    # p -= lr*exp_avg/weight
    p = p - lr.to(real) * exp_avg / weight
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)
    keep(weight_at, i, left, weight)


def launch(x):
    x.numbers = x.new(9 * x.rows)
    x.each_row(numbers_1)
    x.once(across_1)
    x.parts = x.new(1 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.once(across_2)
    x.each_row(numbers_3)
    x.each_chunk(pass_2)
"""

_KERNELS = _Kernel and _Kernel(
    "step_adai",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg", "exp_avg_sq", "weight"),
    numbers=("step",),
    options=("maximize", "weight_decay_is_not_0", "decoupled"),
    together=True,
    cuda=_CUDA,
    scaled=True,
)
