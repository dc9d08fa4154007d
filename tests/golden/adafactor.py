"""Adafactor: second moments of matrices kept as a row and a column.

Shazeer and Stern (2018), Adafactor: Adaptive Learning Rates with Sublinear Memory Cost,
https://arxiv.org/abs/1804.04235

As in torch, lr bounds the relative step size, and axes before the last two are a batch.
With eps[0] = none, each parameter takes the eps of its own dtype; torch takes that
of the first parameter of the group for all of them.

Reference: torch.optim.Adafactor
"""
# Compiled by optdsl from adafactor.opt, content 48116e1547ce.

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

__all__ = ["Adafactor"]


class Adafactor(Optimizer):
    """Adafactor: second moments of matrices kept as a row and a column.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): largest relative step size, in [0, inf] (default: 1e-2).
        beta2_decay (float, optional): power of t by which the new square enters, in
            [-inf, 0] (default: -0.8).
        eps (tuple[float | None, float], optional): least root of a second moment; least
            scale, in [0, inf] (default: (None, 1e-3)).
        d (float, optional): largest root mean square of the update, in [1, inf]
            (default: 1.0).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf] (default: 0.0).
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
        row_var: mean squares of rows (like p with one of axes -1).
        col_var: mean squares of columns (like p with one of axes -2).
        variance: running mean of squares (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
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
            group.setdefault("beta2_decay", -0.8)
            group.setdefault("eps", (None, 1e-3))
            group.setdefault("d", 1.0)
            group.setdefault("weight_decay", 0.0)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step",):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        # What torch's class does not have is in a group only where it is on.
        for name, off in {
            "capturable": False,
            "differentiable": False,
            "fused": None,
        }.items():
            if param_group[name] is off:
                del param_group[name]
        for name in ("lr", "beta2_decay", "eps", "d", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        row_vars: list[Tensor | None],
        col_vars: list[Tensor | None],
        variances: list[Tensor | None],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Adafactor does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Adafactor does not support complex parameters")
            state = self.state[p]
            grad = p.grad if not group["maximize"] else -p.grad
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
            if p.ndim > 1 and "row_var" not in state:
                state["row_var"] = torch.zeros_like(grad.mean(dim=-1, keepdim=True))
            if p.ndim > 1 and "col_var" not in state:
                state["col_var"] = torch.zeros_like(grad.mean(dim=-2, keepdim=True))
            if p.ndim <= 1 and "variance" not in state:
                state["variance"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(p.grad)
            row_vars.append(state.get("row_var"))
            col_vars.append(state.get("col_var"))
            variances.append(state.get("variance"))
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
            row_vars: list[Tensor | None] = []
            col_vars: list[Tensor | None] = []
            variances: list[Tensor | None] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, row_vars, col_vars, variances, steps)
            groups.append(
                (group, [params, grads, row_vars, col_vars, variances, steps])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, row_vars, col_vars, variances, steps = columns
            use_foreach = group["foreach"] or group.get("fused")
            if group["foreach"] is None and group.get("fused") is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group.get("differentiable", False)
                )
            update = (
                _multi_tensor_adafactor if use_foreach else _single_tensor_adafactor
            )
            if group.get("capturable", False):
                _check_capturable(params, steps)
            if group.get("capturable", False) or torch.compiler.is_compiling():
                update = _single_tensor_adafactor_capturable
                if use_foreach:
                    update = _multi_tensor_adafactor_capturable
            if group.get("differentiable", False):
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_adafactor
                if group.get("capturable", False):
                    update = _differentiable_adafactor_capturable
            update(
                params,
                grads,
                row_vars,
                col_vars,
                variances,
                steps,
                lr=group["lr"],
                beta2_decay=group["beta2_decay"],
                eps=group["eps"],
                d=group["d"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    beta2_decay = group["beta2_decay"]
    eps = group["eps"]
    d = group["d"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_number("beta2_decay", beta2_decay)
    if not -math.inf <= beta2_decay <= 0:
        raise ValueError(
            f"Invalid beta2_decay: {beta2_decay!r}, expected a number in [-inf, 0]"
        )
    _check_numbers("eps", eps, 2, nones=(0,))
    if not ((eps[0] is None or 0 <= eps[0] <= math.inf) and 0 <= eps[1] <= math.inf):
        raise ValueError(
            f"Invalid eps: {eps!r}, expected 2 numbers in [0, inf], or None"
        )
    _check_number("d", d)
    if not 1 <= d <= math.inf:
        raise ValueError(f"Invalid d: {d!r}, expected a number in [1, inf]")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay <= math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf]"
        )
    if group.get("fused") and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group.get("fused") and group.get("differentiable", False):
        raise RuntimeError("`fused` does not support `differentiable`")


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
    near = group.get("capturable", False)
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


def _single_tensor_adafactor(
    params: list[Tensor],
    grads: list[Tensor],
    row_vars: list[Tensor | None],
    col_vars: list[Tensor | None],
    variances: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    beta2_decay: float,
    eps: tuple[float | None, float],
    d: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    least, scale = eps

    for p, grad, row_var, col_var, variance, step in zip(
        params, grads, row_vars, col_vars, variances, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()

        # floor = finfo_eps(p) if least == none else least
        floor = torch.finfo(p.dtype).eps if least is None else least

        # new = t**beta2_decay
        new_ = t**beta2_decay

        # size_root = max(1, numel(p))**0.5
        size_root = max(1, p.numel()) ** 0.5

        # alpha = max(scale, item(norm(p))/size_root)*min(lr, 1/t**0.5)
        alpha = max(scale, torch.linalg.vector_norm(p).item() / size_root) * min(
            lr, 1 / t**0.5
        )
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        if p.ndim > 1:
            # row_var = lerp(row_var, norm(grad, dim=-1, keepdim=true)**2/size(grad,
            #     -1), new)
            row_var.lerp_(
                torch.linalg.vector_norm(grad, dim=-1, keepdim=True)
                .square()
                .div_(grad.shape[-1]),
                new_,
            )

            # col_var = lerp(col_var, norm(grad, dim=-2, keepdim=true)**2/size(grad,
            #     -2), new)
            col_var.lerp_(
                torch.linalg.vector_norm(grad, dim=-2, keepdim=True)
                .square()
                .div_(grad.shape[-2]),
                new_,
            )

            # second = row_var @ col_var/max(mean(row_var, dim=-2, keepdim=true), floor)
            second = (row_var @ col_var).div_(
                row_var.mean(dim=-2, keepdim=True).clamp_(min=floor)
            )
        else:
            # variance = lerp(variance, grad*grad, new)
            variance.lerp_(grad * grad, new_)

            # second = max(variance, floor*floor)
            second = variance.clamp(min=floor * floor)

        # update = rsqrt(max(second, floor*floor))*grad
        update = second.clamp_(min=floor * floor).rsqrt_().mul_(grad)

        # p -= alpha/max(1.0, item(norm(update))/(size_root*d))*update
        p.add_(
            update,
            alpha=-alpha
            / max(1.0, torch.linalg.vector_norm(update).item() / (size_root * d)),
        )


def _multi_tensor_adafactor(
    params: list[Tensor],
    grads: list[Tensor],
    row_vars: list[Tensor | None],
    col_vars: list[Tensor | None],
    variances: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    beta2_decay: float,
    eps: tuple[float | None, float],
    d: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, beta2_decay, d, weight_decay = map(float, (lr, beta2_decay, d, weight_decay))
    least, scale = eps

    columns = [params, grads, row_vars, col_vars, variances, steps]
    keys = [(p.shape, step.item()) for p, step in zip(params, steps, strict=True)]
    for params, grads, row_vars, col_vars, variances, steps in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()

        # floor = finfo_eps(p) if least == none else least
        floor = torch.finfo(params[0].dtype).eps if least is None else least

        # new = t**beta2_decay
        new_ = t**beta2_decay

        # size_root = max(1, numel(p))**0.5
        size_root = max(1, params[0].numel()) ** 0.5

        # alpha = max(scale, item(norm(p))/size_root)*min(lr, 1/t**0.5)
        norms = torch._foreach_norm(params)
        quotients = torch._foreach_div(norms, size_root)
        clampeds = torch._foreach_clamp_min(quotients, scale)
        alphas = torch._foreach_mul(clampeds, min(lr, 1 / t**0.5))
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        if params[0].ndim > 1:
            # row_var = lerp(row_var, norm(grad, dim=-1, keepdim=true)**2/size(grad,
            #     -1), new)
            norms = [
                torch.linalg.vector_norm(grad, dim=-1, keepdim=True) for grad in grads
            ]
            torch._foreach_mul_(norms, norms)
            torch._foreach_div_(norms, grads[0].shape[-1])
            torch._foreach_lerp_(row_vars, norms, new_)
            del norms

            # col_var = lerp(col_var, norm(grad, dim=-2, keepdim=true)**2/size(grad,
            #     -2), new)
            norms = [
                torch.linalg.vector_norm(grad, dim=-2, keepdim=True) for grad in grads
            ]
            torch._foreach_mul_(norms, norms)
            torch._foreach_div_(norms, grads[0].shape[-2])
            torch._foreach_lerp_(col_vars, norms, new_)
            del norms

            # second = row_var @ col_var/max(mean(row_var, dim=-2, keepdim=true), floor)
            seconds = [
                row_var @ col_var
                for row_var, col_var in zip(row_vars, col_vars, strict=True)
            ]
            means = [row_var.mean(dim=-2, keepdim=True) for row_var in row_vars]
            torch._foreach_clamp_min_(means, floor)
            torch._foreach_div_(seconds, means)
        else:
            # variance = lerp(variance, grad*grad, new)
            products = torch._foreach_mul(grads, grads)
            torch._foreach_lerp_(variances, products, new_)
            del products

            # second = max(variance, floor*floor)
            seconds = torch._foreach_clamp_min(variances, floor * floor)

        # update = rsqrt(max(second, floor*floor))*grad
        torch._foreach_clamp_min_(seconds, floor * floor)
        torch._foreach_rsqrt_(seconds)
        torch._foreach_mul_(seconds, grads)
        updates = seconds

        # p -= alpha/max(1.0, item(norm(update))/(size_root*d))*update
        norms = torch._foreach_norm(updates)
        quotients = torch._foreach_div(norms, size_root * d)
        clampeds = torch._foreach_clamp_min(quotients, 1.0)
        quotient_2s = torch._foreach_div(alphas, clampeds)
        torch._foreach_addcmul_(params, quotient_2s, updates, value=-1)


def _differentiable_adafactor(
    params: list[Tensor],
    grads: list[Tensor],
    row_vars: list[Tensor | None],
    col_vars: list[Tensor | None],
    variances: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    beta2_decay: float,
    eps: tuple[float | None, float],
    d: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    least, scale = eps

    for p, grad, row_var, col_var, variance, step in zip(
        params, grads, row_vars, col_vars, variances, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, row_var, col_var, variance, step)
        p, row_var, col_var, variance, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        t = step.item()

        # floor = finfo_eps(p) if least == none else least
        floor = torch.finfo(p.dtype).eps if least is None else least

        # new = t**beta2_decay
        new_ = t**beta2_decay

        # size_root = max(1, numel(p))**0.5
        size_root = max(1, p.numel()) ** 0.5

        # alpha = max(scale, item(norm(p))/size_root)*min(lr, 1/t**0.5)
        alpha = (torch.linalg.vector_norm(p) / size_root).clamp(min=scale) * min(
            lr, 1 / t**0.5
        )
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        if p.ndim > 1:
            # row_var = lerp(row_var, norm(grad, dim=-1, keepdim=true)**2/size(grad,
            #     -1), new)
            row_var = row_var.lerp(
                torch.linalg.vector_norm(grad, dim=-1, keepdim=True).square()
                / grad.shape[-1],
                new_,
            )

            # col_var = lerp(col_var, norm(grad, dim=-2, keepdim=true)**2/size(grad,
            #     -2), new)
            col_var = col_var.lerp(
                torch.linalg.vector_norm(grad, dim=-2, keepdim=True).square()
                / grad.shape[-2],
                new_,
            )

            # second = row_var @ col_var/max(mean(row_var, dim=-2, keepdim=true), floor)
            second = (
                row_var @ col_var / row_var.mean(dim=-2, keepdim=True).clamp(min=floor)
            )
        else:
            # variance = lerp(variance, grad*grad, new)
            variance = variance.lerp(grad * grad, new_)

            # second = max(variance, floor*floor)
            second = variance.clamp(min=floor * floor)

        # update = rsqrt(max(second, floor*floor))*grad
        update = second.clamp(min=floor * floor).rsqrt() * grad

        # p -= alpha/max(1.0, item(norm(update))/(size_root*d))*update
        p = p.addcmul(
            alpha / (torch.linalg.vector_norm(update) / (size_root * d)).clamp(min=1.0),
            update,
            value=-1,
        )

        for each, new in zip(kept, (p, row_var, col_var, variance, step), strict=True):
            if each is not None:
                each.copy_(new)


def _single_tensor_adafactor_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    row_vars: list[Tensor | None],
    col_vars: list[Tensor | None],
    variances: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    beta2_decay: float,
    eps: tuple[float | None, float],
    d: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    least, scale = eps

    for p, grad, row_var, col_var, variance, step in zip(
        params, grads, row_vars, col_vars, variances, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1

        # floor = finfo_eps(p) if least == none else least
        floor = torch.finfo(p.dtype).eps if least is None else least

        # new = t**beta2_decay
        new_ = step.pow(beta2_decay)

        # size_root = max(1, numel(p))**0.5
        size_root = max(1, p.numel()) ** 0.5

        # alpha = max(scale, item(norm(p))/size_root)*min(lr, 1/t**0.5)
        alpha = (torch.linalg.vector_norm(p) / size_root).clamp(min=scale) * (
            1 / step.pow(0.5)
        ).clamp(max=lr)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        if p.ndim > 1:
            # row_var = lerp(row_var, norm(grad, dim=-1, keepdim=true)**2/size(grad,
            #     -1), new)
            row_var.lerp_(
                torch.linalg.vector_norm(grad, dim=-1, keepdim=True)
                .square()
                .div_(grad.shape[-1]),
                new_,
            )

            # col_var = lerp(col_var, norm(grad, dim=-2, keepdim=true)**2/size(grad,
            #     -2), new)
            col_var.lerp_(
                torch.linalg.vector_norm(grad, dim=-2, keepdim=True)
                .square()
                .div_(grad.shape[-2]),
                new_,
            )

            # second = row_var @ col_var/max(mean(row_var, dim=-2, keepdim=true), floor)
            second = (row_var @ col_var).div_(
                row_var.mean(dim=-2, keepdim=True).clamp_(min=floor)
            )
        else:
            # variance = lerp(variance, grad*grad, new)
            variance.lerp_(grad * grad, new_)

            # second = max(variance, floor*floor)
            second = variance.clamp(min=floor * floor)

        # update = rsqrt(max(second, floor*floor))*grad
        update = second.clamp_(min=floor * floor).rsqrt_().mul_(grad)

        # p -= alpha/max(1.0, item(norm(update))/(size_root*d))*update
        p.addcmul_(
            alpha / (torch.linalg.vector_norm(update) / (size_root * d)).clamp(min=1.0),
            update,
            value=-1,
        )


def _multi_tensor_adafactor_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    row_vars: list[Tensor | None],
    col_vars: list[Tensor | None],
    variances: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    beta2_decay: float,
    eps: tuple[float | None, float],
    d: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    least, scale = eps

    columns = [params, grads, row_vars, col_vars, variances, steps]
    keys = [p.shape for p in params]
    for params, grads, row_vars, col_vars, variances, steps in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)

        # floor = finfo_eps(p) if least == none else least
        floor = torch.finfo(params[0].dtype).eps if least is None else least

        # new = t**beta2_decay
        news = torch._foreach_pow(steps, beta2_decay)

        # size_root = max(1, numel(p))**0.5
        size_root = max(1, params[0].numel()) ** 0.5

        # alpha = max(scale, item(norm(p))/size_root)*min(lr, 1/t**0.5)
        norms = torch._foreach_norm(params)
        quotients = torch._foreach_div(norms, size_root)
        clampeds = torch._foreach_clamp_min(quotients, scale)
        powers = torch._foreach_pow(steps, 0.5)
        torch._foreach_reciprocal_(powers)
        clamped_2s = torch._foreach_clamp_max(powers, lr)
        alphas = torch._foreach_mul(clampeds, clamped_2s)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        if params[0].ndim > 1:
            # row_var = lerp(row_var, norm(grad, dim=-1, keepdim=true)**2/size(grad,
            #     -1), new)
            norms = [
                torch.linalg.vector_norm(grad, dim=-1, keepdim=True) for grad in grads
            ]
            torch._foreach_mul_(norms, norms)
            torch._foreach_div_(norms, grads[0].shape[-1])
            torch._foreach_lerp_(row_vars, norms, news)
            del norms

            # col_var = lerp(col_var, norm(grad, dim=-2, keepdim=true)**2/size(grad,
            #     -2), new)
            norms = [
                torch.linalg.vector_norm(grad, dim=-2, keepdim=True) for grad in grads
            ]
            torch._foreach_mul_(norms, norms)
            torch._foreach_div_(norms, grads[0].shape[-2])
            torch._foreach_lerp_(col_vars, norms, news)
            del norms

            # second = row_var @ col_var/max(mean(row_var, dim=-2, keepdim=true), floor)
            seconds = [
                row_var @ col_var
                for row_var, col_var in zip(row_vars, col_vars, strict=True)
            ]
            means = [row_var.mean(dim=-2, keepdim=True) for row_var in row_vars]
            torch._foreach_clamp_min_(means, floor)
            torch._foreach_div_(seconds, means)
        else:
            # variance = lerp(variance, grad*grad, new)
            products = torch._foreach_mul(grads, grads)
            torch._foreach_lerp_(variances, products, news)
            del products

            # second = max(variance, floor*floor)
            seconds = torch._foreach_clamp_min(variances, floor * floor)

        # update = rsqrt(max(second, floor*floor))*grad
        torch._foreach_clamp_min_(seconds, floor * floor)
        torch._foreach_rsqrt_(seconds)
        torch._foreach_mul_(seconds, grads)
        updates = seconds

        # p -= alpha/max(1.0, item(norm(update))/(size_root*d))*update
        norms = torch._foreach_norm(updates)
        quotients = torch._foreach_div(norms, size_root * d)
        clampeds = torch._foreach_clamp_min(quotients, 1.0)
        quotient_2s = torch._foreach_div(alphas, clampeds)
        torch._foreach_addcmul_(params, quotient_2s, updates, value=-1)


def _differentiable_adafactor_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    row_vars: list[Tensor | None],
    col_vars: list[Tensor | None],
    variances: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    beta2_decay: float,
    eps: tuple[float | None, float],
    d: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    least, scale = eps

    for p, grad, row_var, col_var, variance, step in zip(
        params, grads, row_vars, col_vars, variances, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, row_var, col_var, variance, step)
        p, row_var, col_var, variance, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1

        # floor = finfo_eps(p) if least == none else least
        floor = torch.finfo(p.dtype).eps if least is None else least

        # new = t**beta2_decay
        new_ = step.pow(beta2_decay)

        # size_root = max(1, numel(p))**0.5
        size_root = max(1, p.numel()) ** 0.5

        # alpha = max(scale, item(norm(p))/size_root)*min(lr, 1/t**0.5)
        alpha = (torch.linalg.vector_norm(p) / size_root).clamp(min=scale) * (
            1 / step.pow(0.5)
        ).clamp(max=lr)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        if p.ndim > 1:
            # row_var = lerp(row_var, norm(grad, dim=-1, keepdim=true)**2/size(grad,
            #     -1), new)
            row_var = row_var.lerp(
                torch.linalg.vector_norm(grad, dim=-1, keepdim=True).square()
                / grad.shape[-1],
                new_,
            )

            # col_var = lerp(col_var, norm(grad, dim=-2, keepdim=true)**2/size(grad,
            #     -2), new)
            col_var = col_var.lerp(
                torch.linalg.vector_norm(grad, dim=-2, keepdim=True).square()
                / grad.shape[-2],
                new_,
            )

            # second = row_var @ col_var/max(mean(row_var, dim=-2, keepdim=true), floor)
            second = (
                row_var @ col_var / row_var.mean(dim=-2, keepdim=True).clamp(min=floor)
            )
        else:
            # variance = lerp(variance, grad*grad, new)
            variance = variance.lerp(grad * grad, new_)

            # second = max(variance, floor*floor)
            second = variance.clamp(min=floor * floor)

        # update = rsqrt(max(second, floor*floor))*grad
        update = second.clamp(min=floor * floor).rsqrt() * grad

        # p -= alpha/max(1.0, item(norm(update))/(size_root*d))*update
        p = p.addcmul(
            alpha / (torch.linalg.vector_norm(update) / (size_root * d)).clamp(min=1.0),
            update,
            value=-1,
        )

        for each, new in zip(kept, (p, row_var, col_var, variance, step), strict=True):
            if each is not None:
                each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["beta2_decay"],
        group["eps"][0],
        group["eps"][1],
        group["d"],
        group["weight_decay"],
    ]
    options = [group["maximize"], group["eps"][0] is None, group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, row_vars, col_vars, variances, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, row_vars, col_vars, variances],
            numbers=[steps],
            asked=[
                [p.numel() for p in params],
                [p.ndim for p in params],
                [p.shape[-1] if p.ndim >= 1 else 1 for p in params],
                [p.shape[-2] if p.ndim >= 2 else 1 for p in params],
            ],
        )
    return launch.run()


_CPU = r"""// Adafactor in 3 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    int64_t matrices, height, width;
    p_t *p;
    const grad_t *grad;
    row_var_t *row_var;
    col_var_t *col_var;
    variance_t *variance;
    step_t *step;
    double *norm_2;
    double *norm_3;
    double *mean;
    double *larger_;
    double lr;
    double beta2_decay;
    double eps[2];
    double d;
    double weight_decay;
    double numel__;
    double ndim;
    double size_last_1;
    double size_last_2;
};

// What is worked out once a tensor.
struct Numbers {
    double t, scale, floor, new_, size_root, norm, alpha, norm_4, quotient;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // least, scale = eps
    n.scale = row.eps[1];
    // floor = finfo_eps(p) if least == none else least
    n.floor = eps_decide ? epsilon_of<p_t>() : row.eps[0];
    // new = t**beta2_decay
    n.new_ = std::pow(n.t, row.beta2_decay);
    // size_root = max(1, numel(p))**0.5
    n.size_root = std::pow(max_(1.0, row.numel__), 0.5);
    return are_finite(n.floor, n.new_, n.size_root);
}

static void pass_1(
    const Row row, const Numbers n, const Tile tile, double *sums, double *norm_2_parts,
        double *norm_3_parts) {
    double norm = 0;
    for (int64_t line = tile.line; line < tile.line_end; ++line) {
        const int64_t matrix = line / row.height;
        double norm_2 = 0;
        double *norm_3 = norm_3_parts + tile.before(matrix, row.height);
        const int64_t begin = line * row.width;
        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {
            const int64_t to = end_of_block(at, tile.column_end);
            ask(begin + at, begin + to, row, &Row::p, &Row::grad);
            #pragma omp simd reduction(+: norm, norm_2)
            for (int64_t column = at; column < to; ++column) {
                const int64_t i = begin + column;
                const real p = load(row.p[i]);
                const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
                // norm(p)
                norm += square_(double(p));
                if (row.ndim > 1.0) {
                    // norm(grad, dim=-1, keepdim=true)
                    norm_2 += square_(double(grad));
                    // norm(grad, dim=-2, keepdim=true)
                    norm_3[column - tile.column] += square_(double(grad));
                }
            }
        }
        norm_2_parts[line - tile.line] = norm_2;
    }
    sums[0] = norm;
}

static void numbers_2(const Row &row, Numbers &n) {
    // alpha = max(scale, item(norm(p))/size_root)*min(lr, 1/t**0.5)
    n.alpha = max_(n.scale, n.norm / n.size_root) * min_(row.lr, 1.0 / std::pow(n.t,
        0.5));
}

// Once a line.
static void along_1(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        double mean = 0;
        for (int64_t line = matrix * row.height; line < (matrix + 1) * row.height;
            ++line) {
            const double norm_2 = load(row.norm_2[line]);
            double row_var = has_row_var ? load(row.row_var[line]) : 0;
            if (row.ndim > 1.0) {
                // row_var = lerp(row_var, norm(grad, dim=-1,
                //     keepdim=true)**2/size(grad,
                //     -1), new)
                row_var = kept<row_var_t>(lerp_(row_var, std::pow(norm_2, 2.0) /
                    row.size_last_1, n.new_));
                // mean(row_var, dim=-2, keepdim=true)
                mean += row_var;
            }
            if (has_row_var) store(row.row_var[line], row_var);
        }
        row.mean[matrix] = mean / row.height;
    }
}

// Once a column.
static void along_2(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        for (int64_t column = 0; column < row.width; ++column) {
            const double norm_3 = load(row.norm_3[matrix * row.width + column]);
            double col_var = has_col_var ? load(row.col_var[matrix * row.width +
                column]) : 0;
            if (row.ndim > 1.0) {
                // col_var = lerp(col_var, norm(grad, dim=-2,
                //     keepdim=true)**2/size(grad,
                //     -2), new)
                col_var = kept<col_var_t>(lerp_(col_var, std::pow(norm_3, 2.0) /
                    row.size_last_2, n.new_));
            }
            if (has_col_var) store(row.col_var[matrix * row.width + column], col_var);
        }
    }
}

// Once a matrix.
static void along_3(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        const double mean = load(row.mean[matrix]);
        double larger_ = load(row.larger_[matrix]);
        if (row.ndim > 1.0) {
            // max(mean(row_var, dim=-2, keepdim=true), floor)
            larger_ = max_(mean, n.floor);
        }
        store(row.larger_[matrix], larger_);
    }
}

static void pass_2(const Row row, const Numbers n, const Tile tile, double *sums) {
    double norm_4 = 0;
    for (int64_t line = tile.line; line < tile.line_end; ++line) {
        const int64_t matrix = line / row.height;
        const double row_var = has_row_var ? load(row.row_var[line]) : 0;
        const double larger_ = load(row.larger_[matrix]);
        const int64_t begin = line * row.width;
        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {
            const int64_t to = end_of_block(at, tile.column_end);
            ask(begin + at, begin + to, row, &Row::grad, &Row::variance);
            #pragma omp simd reduction(+: norm_4)
            for (int64_t column = at; column < to; ++column) {
                const int64_t i = begin + column;
                const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
                real variance = has_variance ? load(row.variance[i]) : 0;
                const real col_var = has_col_var ? load(row.col_var[matrix * row.width +
                    column]) : 0;
                real second = 0;
                if (row.ndim > 1.0) {
                    // second = row_var @ col_var/max(mean(row_var, dim=-2,
                    //     keepdim=true),
                    //     floor)
                    second = real(row_var) * col_var * real(1.0 / larger_);
                } else {
                    // variance = lerp(variance, grad*grad, new)
                    variance = kept<variance_t>(lerp_(variance, grad * grad,
                        real(n.new_)));
                    // second = max(variance, floor*floor)
                    second = max_(variance, real(n.floor * n.floor));
                }
                // update = rsqrt(max(second, floor*floor))*grad
                const real update = rsqrt_(max_(second, real(n.floor * n.floor))) *
                    grad;
                // norm(update)
                norm_4 += square_(double(update));
                if (has_variance) store(row.variance[i], variance);
            }
        }
    }
    sums[0] = norm_4;
}

static void numbers_3(const Row &row, Numbers &n) {
    // alpha/max(1.0, item(norm(update))/(size_root*d))
    n.quotient = n.alpha / max_(1.0, n.norm_4 / (n.size_root * row.d));
}

static void pass_3(const Row row, const Numbers n, const Tile tile) {
    for (int64_t line = tile.line; line < tile.line_end; ++line) {
        const int64_t matrix = line / row.height;
        const double row_var = has_row_var ? load(row.row_var[line]) : 0;
        const double larger_ = load(row.larger_[matrix]);
        const int64_t begin = line * row.width;
        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {
            const int64_t to = end_of_block(at, tile.column_end);
            ask(begin + at, begin + to, row, &Row::p, &Row::grad, &Row::variance);
            #pragma omp simd
            for (int64_t column = at; column < to; ++column) {
                const int64_t i = begin + column;
                real p = load(row.p[i]);
                const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
                const real variance = has_variance ? load(row.variance[i]) : 0;
                const real col_var = has_col_var ? load(row.col_var[matrix * row.width +
                    column]) : 0;
                real second = 0;
                if (weight_decay_is_not_0) {
                    // p *= 1 - lr*weight_decay
                    p = p * real(1.0 - row.lr * row.weight_decay);
                }
                if (row.ndim > 1.0) {
                    // second = row_var @ col_var/max(mean(row_var, dim=-2,
                    //     keepdim=true),
                    //     floor)
                    second = real(row_var) * col_var * real(1.0 / larger_);
                } else {
                    // second = max(variance, floor*floor)
                    second = max_(variance, real(n.floor * n.floor));
                }
                // update = rsqrt(max(second, floor*floor))*grad
                const real update = rsqrt_(max_(second, real(n.floor * n.floor))) *
                    grad;
                // p -= alpha/max(1.0, item(norm(update))/(size_root*d))*update
                p = p - real(n.quotient) * update;
                store(row.p[i], p);
            }
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_adafactor(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    Memory memory;
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.row_var = (row_var_t *)table->columns[2][at];
        row.col_var = (col_var_t *)table->columns[3][at];
        row.variance = (variance_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        row.matrices = table->shapes[at].matrices;
        row.height = table->shapes[at].height;
        row.width = table->shapes[at].width;
        row.norm_2 = memory.zeros(row.matrices * row.height);
        row.norm_3 = memory.zeros(row.matrices * row.width);
        row.mean = memory.zeros(row.matrices);
        row.larger_ = memory.zeros(row.matrices);
        const double *hyper = table->hypers + 6 * table->group[at];
        row.lr = *hyper++;
        row.beta2_decay = *hyper++;
        row.eps[0] = *hyper++;
        row.eps[1] = *hyper++;
        row.d = *hyper++;
        row.weight_decay = *hyper++;
        row.numel__ = table->asked[at];
        row.ndim = table->asked[1 * table->rows + at];
        row.size_last_1 = table->asked[2 * table->rows + at];
        row.size_last_2 = table->asked[3 * table->rows + at];
        numbers[at].t = load(*row.step) + 1;
    }
    const Tiles tiles = tiles_of(*table);
    if (!each_row(*table, 4, rows, numbers, numbers_1)) return 1;
    std::vector<double> parts(1 * tiles.all.size());
    std::vector<double> norm_2_parts(tiles.lines, 0);
    std::vector<double> norm_3_parts(tiles.columns, 0);
    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x, &parts[1 * at], &norm_2_parts[x.lines],
            &norm_3_parts[x.columns]);
    });
    const auto sums = gathered<1>(
        *table, tiles.all, parts, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].norm = std::sqrt(sums[1 * at + 0]);
    }
    join_lines(*table, tiles, norm_2_parts, 0, added,
        [&](int64_t at) { return rows[at].norm_2; },
        [](double value, double) { return double(std::sqrt(value)); });
    join_columns(*table, tiles, norm_3_parts, 0, added,
        [&](int64_t at) { return rows[at].norm_3; },
        [](double value, double) { return double(std::sqrt(value)); });
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    each_tensor(*table, [&](int64_t at) {
        along_1(rows[at], numbers[at]);
    });
    each_tensor(*table, [&](int64_t at) {
        along_2(rows[at], numbers[at]);
    });
    each_tensor(*table, [&](int64_t at) {
        along_3(rows[at], numbers[at]);
    });
    std::vector<double> parts_2(1 * tiles.all.size());
    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t at) {
        pass_2(rows[x.row], numbers[x.row], x, &parts_2[1 * at]);
    });
    const auto sums_2 = gathered<1>(
        *table, tiles.all, parts_2, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].norm_4 = std::sqrt(sums_2[1 * at + 0]);
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_3(rows[at], numbers[at]);
    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t) {
        pass_3(rows[x.row], numbers[x.row], x);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_KERNELS = _Kernel and _Kernel(
    "step_adafactor",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "row_var", "col_var", "variance"),
    numbers=("step",),
    optional=("col_var", "row_var", "variance"),
    options=("maximize", "eps_decide", "weight_decay_is_not_0"),
    view="last",
    least=2,
    reduced={"row_var": "line", "col_var": "column"},
)
