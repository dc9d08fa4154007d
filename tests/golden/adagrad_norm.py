"""AdaGrad-Norm: one step size for the whole model, from the norms of its gradients.

Ward, Wu and Bottou (2019), AdaGrad Stepsizes: Sharp Convergence Over Nonconvex
Landscapes, https://arxiv.org/abs/1806.01811
"""
# Compiled by optdsl from adagrad_norm.opt, content 145ec9514a35.

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

__all__ = ["AdaGradNorm"]


class AdaGradNorm(Optimizer):
    """AdaGrad-Norm: one step size for the whole model, from the norms of its gradients.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): factor of the step size, in [0, inf) (default: 1.0).
        b0 (float, optional): first divisor, in (0, inf) (default: 1e-2).
        weight_decay (float, optional): L2 penalty, in [0, inf) (default: 0).
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): there are no fused kernels in this file; foreach stands
            in for them (default: None).

    State of a parameter, made at its first step with a gradient:
        b_sq: square of the divisor (0-d tensor).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        b0: float = 1e-2,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "b0": b0,
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
            warnings.warn("no fused kernels here: foreach in their place", stacklevel=2)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._trial = False
        for group in self.param_groups:
            group.setdefault("lr", 1.0)
            group.setdefault("b0", 1e-2)
            group.setdefault("weight_decay", 0)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        for group in self.param_groups[:1]:
            for name in ("b0",):
                if param_group.setdefault(name, group[name]) != group[name]:
                    given = f"Invalid {name}: {param_group[name]!r}, "
                    raise ValueError(f"{given}expected the same in all groups")
        super().add_param_group(param_group)
        for name in ("lr", "b0", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
    ) -> None:
        """Collect what has a gradient."""
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                raise RuntimeError("AdaGradNorm does not support sparse gradients")
            params.append(p)
            grads.append(p.grad)

    def _init_shared(self) -> None:
        """Make the numbers of groups and of the model, next to the parameters."""
        p = next(p for group in self.param_groups for p in group["params"])
        dtype = torch.promote_types(_get_scalar_dtype(), p.real.dtype)
        for group in self.param_groups:
            new = {
                "b_sq": float(group["b0"] * group["b0"]),
            }
            for name, value in new.items():
                if name not in group:
                    group[name] = torch.tensor(value, dtype=dtype)
                group[name] = group[name].to(p.device)
        for name in ("b_sq",):
            for group in self.param_groups:
                group[name] = self.param_groups[0][name]

    def _is_trial(self) -> bool:
        """Whether a step is to make the state of a new optimizer and change nothing."""
        if torch.compiler.is_compiling() or self.state:
            return False
        return all(
            group["lr"] == 0
            and not any(p.grad is None or p.grad.any() for p in group["params"])
            for group in self.param_groups
        )

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
            for group in self.param_groups:
                for name in ("b_sq",):
                    group.pop(name, None)
        if self._is_trial():
            # torch.distributed.checkpoint asks for the state; the first step is to
            #     come.
            self._trial = True
            for group in self.param_groups:
                self._init_group(group, [], [])
            self._init_shared()
            return loss

        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            self._init_group(group, params, grads)
            if params:
                groups.append((group, [params, grads]))
        if groups:
            self._init_shared()
            group, (params, grads) = groups[0]
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = (
                _multi_tensor_ada_grad_norm
                if use_foreach
                else _single_tensor_ada_grad_norm
            )
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_ada_grad_norm_capturable
            update(groups)

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    b0 = group["b0"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("b0", b0)
    if not 0 < b0 < math.inf:
        raise ValueError(f"Invalid b0: {b0!r}, expected a number in (0, inf)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["differentiable"]:
        raise RuntimeError(
            "AdaGradNorm is not differentiable: its parameters step together"
        )


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


def _single_tensor_ada_grad_norm(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads."""
    (group, _), *_ = groups
    b_sq = group["b_sq"]

    b_sq_parts: list[Tensor] = []
    for group, columns in groups:
        weight_decay = group["weight_decay"]
        params, grads = columns
        grads_: list[Any] = []
        for p, grad in zip(params, grads, strict=True):
            grad = grad if not group["maximize"] else -grad
            if torch.is_complex(p):
                p, grad = map(torch.view_as_real, (p, grad))
            if weight_decay != 0:
                # grad += weight_decay*p
                grad = grad.add(p, alpha=weight_decay)

            # b_sq += norm(grad, over=model)**2
            b_sq_parts.append(torch.linalg.vector_norm(grad))
            grads_.append(grad)
        columns += [grads_]

    # b_sq += norm(grad, over=model)**2
    b_sq_total = torch.linalg.vector_norm(_stacked(b_sq_parts))
    b_sq.addcmul_(b_sq_total, b_sq_total)

    for group, columns in groups:
        lr = group["lr"]
        params, grads, grads_ = columns
        for p, grad in zip(params, grads_, strict=True):
            if torch.is_complex(p):
                p = torch.view_as_real(p)

            # p -= lr*grad/sqrt(b_sq)
            p.addcdiv_(grad, b_sq.sqrt(), value=-lr)


def _multi_tensor_ada_grad_norm(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads."""
    batches = []
    for group, (params, grads) in groups:
        columns = [params, grads]
        batches.append((group, _alike(columns)))
    (group, _), *_ = groups
    b_sq = group["b_sq"]

    b_sq_parts: list[Tensor] = []
    for group, rows in batches:
        weight_decay = float(group["weight_decay"])
        for columns in rows:
            params, grads = columns
            given = grads
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                grads = [torch.view_as_real(each) for each in grads]
                given = grads
            if weight_decay != 0:
                # grad += weight_decay*p
                if grads is given:
                    grads = torch._foreach_add(grads, params, alpha=weight_decay)
                else:
                    torch._foreach_add_(grads, params, alpha=weight_decay)

            # b_sq += norm(grad, over=model)**2
            b_sq_parts += torch._foreach_norm(grads)
            columns += [grads]

    # b_sq += norm(grad, over=model)**2
    b_sq_total = torch.linalg.vector_norm(_stacked(b_sq_parts))
    b_sq.addcmul_(b_sq_total, b_sq_total)

    for group, rows in batches:
        lr = float(group["lr"])
        for columns in rows:
            params, grads, grads = columns
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]

            # p -= lr*grad/sqrt(b_sq)
            scale = b_sq.sqrt()
            quotients = torch._foreach_div(grads, scale)
            torch._foreach_add_(params, quotients, alpha=-lr)


def _multi_tensor_ada_grad_norm_capturable(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads."""
    batches = []
    for group, (params, grads) in groups:
        columns = [params, grads]
        batches.append((group, _alike(columns)))
    (group, _), *_ = groups
    b_sq = group["b_sq"]

    b_sq_parts: list[Tensor] = []
    for group, rows in batches:
        weight_decay = group["weight_decay"]
        for columns in rows:
            params, grads = columns
            given = grads
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                grads = [torch.view_as_real(each) for each in grads]
                given = grads
            if weight_decay != 0:
                # grad += weight_decay*p
                products = torch._foreach_mul(params, weight_decay)
                if grads is given:
                    grads = torch._foreach_add(grads, products)
                else:
                    torch._foreach_add_(grads, products)

            # b_sq += norm(grad, over=model)**2
            b_sq_parts += torch._foreach_norm(grads)
            columns += [grads]

    # b_sq += norm(grad, over=model)**2
    b_sq_total = torch.linalg.vector_norm(_stacked(b_sq_parts))
    b_sq.addcmul_(b_sq_total, b_sq_total)

    for group, rows in batches:
        lr = group["lr"]
        for columns in rows:
            params, grads, grads = columns
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]

            # p -= lr*grad/sqrt(b_sq)
            scale = b_sq.sqrt()
            quotients = torch._foreach_div(grads, scale)
            products = torch._foreach_mul(quotients, -lr)
            torch._foreach_add_(params, products)
