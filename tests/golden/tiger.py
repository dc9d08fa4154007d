"""Tiger: the sign of a momentum, scaled to the weights that it moves.

Su (2023), Tiger: A Tight-fisted Optimizer, https://kexue.fm/archives/9512
Follows the author's code, https://github.com/bojone/tiger, without its accumulation of
gradients and its guard against NaN. It knows biases and gains by their names; here they
are what has one axis. pytorch_optimizer scales no parameter.
"""
# Compiled by optdsl from tiger.opt, content a333ec12c382.

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
    _to_scalar,
    _use_grad_for_differentiable,
)

__all__ = ["Tiger"]


class Tiger(Optimizer):
    """Tiger: the sign of a momentum, scaled to the weights that it moves.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, relative to the weights, in [0, inf)
            (default: 1e-3).
        beta (float, optional): decay of the momentum, in [0, 1) (default: 0.965).
        weight_decay (float, optional): share of a weight that decays, times its rate,
            in [0, inf) (default: 0.01).
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): there are no fused kernels in this file; foreach stands
            in for them (default: None).

    State of a parameter, made at its first step with a gradient:
        m: running mean of the gradient (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        beta: float = 0.965,
        weight_decay: float = 0.01,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta": beta,
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
            group.setdefault("lr", 1e-3)
            group.setdefault("beta", 0.965)
            group.setdefault("weight_decay", 0.01)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "beta", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        ms: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                raise RuntimeError("Tiger does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Tiger does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["m"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            params.append(p)
            grads.append(p.grad)
            ms.append(state["m"])

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
        if self._is_trial():
            # torch.distributed.checkpoint asks for the state; the first step is to
            #     come.
            self._trial = True
            for group in self.param_groups:
                self._init_group(group, [], [], [])
            return loss

        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            ms: list[Tensor] = []
            self._init_group(group, params, grads, ms)
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_tiger if use_foreach else _single_tensor_tiger
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_tiger_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_tiger
            update(
                params,
                grads,
                ms,
                lr=group["lr"],
                beta=group["beta"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    beta = group["beta"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("beta", beta)
    if not 0 <= beta < 1:
        raise ValueError(f"Invalid beta: {beta!r}, expected a number in [0, 1)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
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


def _single_tensor_tiger(
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    *,
    lr: float,
    beta: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, m in zip(params, grads, ms, strict=True):
        grad = grad if not maximize else -grad

        # m = lerp(m, grad, 1 - beta)
        m.lerp_(grad, 1 - beta)
        if p.ndim > 1:
            # rate = lr*norm(p)/max(1, numel(p))**0.5
            rate = torch.linalg.vector_norm(p) * (lr / max(1, p.numel()) ** 0.5)

            # p *= 1 - rate*weight_decay
            p.mul_(1 - rate * weight_decay)

            # p -= rate*sign(m)
            p.addcmul_(rate, m.sign(), value=-1)
        else:
            # p -= 0.5*lr*sign(m)
            p.add_(m.sign(), alpha=-0.5 * lr)


def _multi_tensor_tiger(
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    *,
    lr: float,
    beta: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, beta, weight_decay = map(float, (lr, beta, weight_decay))

    columns = [params, grads, ms]
    keys = [p.shape for p in params]
    for params, grads, ms in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)

        # m = lerp(m, grad, 1 - beta)
        torch._foreach_lerp_(ms, grads, 1 - beta)
        del grads
        if params[0].ndim > 1:
            # rate = lr*norm(p)/max(1, numel(p))**0.5
            norms = torch._foreach_norm(params)
            rates = torch._foreach_mul(norms, lr / max(1, params[0].numel()) ** 0.5)

            # p *= 1 - rate*weight_decay
            products = torch._foreach_mul(rates, weight_decay)
            torch._foreach_neg_(products)
            torch._foreach_add_(products, 1)
            torch._foreach_mul_(params, products)

            # p -= rate*sign(m)
            signs = torch._foreach_sign(ms)
            torch._foreach_addcmul_(params, rates, signs, value=-1)
        else:
            # p -= 0.5*lr*sign(m)
            signs = torch._foreach_sign(ms)
            torch._foreach_add_(params, signs, alpha=-0.5 * lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_tiger(
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    *,
    lr: float,
    beta: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, m in zip(params, grads, ms, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, m)
        p, m = (each.clone() for each in kept)

        # m = lerp(m, grad, 1 - beta)
        m = m.lerp(grad, 1 - beta)
        if p.ndim > 1:
            # rate = lr*norm(p)/max(1, numel(p))**0.5
            rate = torch.linalg.vector_norm(p) * (lr / max(1, p.numel()) ** 0.5)

            # p *= 1 - rate*weight_decay
            p = p * (1 - rate * weight_decay)

            # p -= rate*sign(m)
            p = p.addcmul(rate, m.sign(), value=-1)
        else:
            # p -= 0.5*lr*sign(m)
            p = _scaled_add(p, m.sign(), -0.5 * lr)

        for each, new in zip(kept, (p, m), strict=True):
            each.copy_(new)


def _multi_tensor_tiger_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    *,
    lr: float,
    beta: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    columns = [params, grads, ms]
    keys = [p.shape for p in params]
    for params, grads, ms in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)

        # m = lerp(m, grad, 1 - beta)
        torch._foreach_lerp_(ms, grads, 1 - beta)
        del grads
        if params[0].ndim > 1:
            # rate = lr*norm(p)/max(1, numel(p))**0.5
            norms = torch._foreach_norm(params)
            rates = torch._foreach_mul(norms, lr / max(1, params[0].numel()) ** 0.5)

            # p *= 1 - rate*weight_decay
            products = torch._foreach_mul(rates, weight_decay)
            torch._foreach_neg_(products)
            torch._foreach_add_(products, 1)
            torch._foreach_mul_(params, products)

            # p -= rate*sign(m)
            signs = torch._foreach_sign(ms)
            torch._foreach_addcmul_(params, rates, signs, value=-1)
        else:
            # p -= 0.5*lr*sign(m)
            signs = torch._foreach_sign(ms)
            products = torch._foreach_mul(signs, -0.5 * lr)
            torch._foreach_add_(params, products)
