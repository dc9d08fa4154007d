"""AdamW: Adam whose weights decay apart from the moments.

Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization,
https://arxiv.org/abs/1711.05101
AMSGrad: Reddi et al. (2018), On the Convergence of Adam and Beyond,
https://openreview.net/forum?id=ryQu7f-RZ
Betas that are tensors keep their precision; torch rounds them to the dtype of p.

Reference: torch.optim.AdamW
"""
# Compiled by optdsl from adamw.opt, content ed97f29ceea8.

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

__all__ = ["AdamW"]


class AdamW(Optimizer):
    """AdamW: Adam whose weights decay apart from the moments.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf] (default: 1e-3).
        betas (tuple[float, float], optional): decay of the first and the second moment,
            in [0, 1) (default: (0.9, 0.999)).
        eps (float, optional): added to the denominator, in [0, inf] (default: 1e-8).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf] (default: 1e-2).
        amsgrad (bool, optional): divide by the largest second moment so far (default:
            False).
        decoupled_weight_decay (bool, optional): part of every group, as in torch
            (default: True).
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
        exp_avg: first moment of the gradient (like p).
        exp_avg_sq: second moment of the gradient (like p).
        max_exp_avg_sq: largest second moment so far (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
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
            "amsgrad": amsgrad,
            "decoupled_weight_decay": True,
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
            group.setdefault("lr", 1e-3)
            group.setdefault("betas", (0.9, 0.999))
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 1e-2)
            group.setdefault("amsgrad", False)
            group.setdefault("decoupled_weight_decay", True)
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
        max_exp_avg_sqs: list[Tensor | None],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("AdamW does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            if group["amsgrad"] and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            max_exp_avg_sqs.append(state.get("max_exp_avg_sq"))
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
            max_exp_avg_sqs: list[Tensor | None] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps
            )
            groups.append(
                (group, [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_adamw if use_foreach else _single_tensor_adamw
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_adamw_capturable
                if use_foreach:
                    update = _multi_tensor_adamw_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_adamw
            update(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                max_exp_avg_sqs,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                amsgrad=group["amsgrad"],
                decoupled_weight_decay=group["decoupled_weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    amsgrad = group["amsgrad"]
    decoupled_weight_decay = group["decoupled_weight_decay"]
    foreach = group["foreach"]
    capturable = group["capturable"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    _check_number("eps", eps)
    if not 0 <= eps <= math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf]")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay <= math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf]"
        )
    if amsgrad not in (False, True):
        raise ValueError(f"Invalid amsgrad: {amsgrad!r}, expected True or False")
    if decoupled_weight_decay not in (False, True):
        raise ValueError(
            f"Invalid decoupled_weight_decay: {decoupled_weight_decay!r}, "
            f"expected True or False"
        )
    if not isinstance(betas[0], Tensor) == isinstance(betas[1], Tensor):
        raise ValueError(f"betas are two numbers or two tensors (got betas={betas!r})")
    if (
        foreach
        and (isinstance(lr, Tensor) or isinstance(betas[0], Tensor))
        and not capturable
    ):
        raise ValueError(
            "tensors need capturable "
            f"(got foreach={foreach!r}, lr={lr!r}, betas={betas!r}, "
            f"capturable={capturable!r})"
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


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _single_tensor_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
            if max_exp_avg_sq is not None:
                max_exp_avg_sq = torch.view_as_real(max_exp_avg_sq)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg.lerp_(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            torch.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
        second = max_exp_avg_sq if amsgrad else exp_avg_sq

        # denom = sqrt(second)/(1 - beta2**t)**0.5 + eps
        denom = second.sqrt().div_((1 - beta2**t) ** 0.5).add_(eps)

        # p -= lr/(1 - beta1**t) * exp_avg/denom
        p.addcdiv_(exp_avg, denom, value=-lr / (1 - beta1**t))


def _multi_tensor_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps, weight_decay = map(float, (lr, eps, weight_decay))
    betas = tuple(map(float, betas))
    beta1, beta2 = betas

    columns = [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps]
    keys = [step.item() for step in steps]
    for params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps in _alike(
        columns, keys
    ):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
            max_exp_avg_sqs = [
                each if each is None else torch.view_as_real(each)
                for each in max_exp_avg_sqs
            ]
            given = grads

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)
        del grads
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            torch._foreach_maximum_(max_exp_avg_sqs, exp_avg_sqs)

        # second = max_exp_avg_sq if amsgrad else exp_avg_sq
        seconds = max_exp_avg_sqs if amsgrad else exp_avg_sqs

        # denom = sqrt(second)/(1 - beta2**t)**0.5 + eps
        denoms = torch._foreach_sqrt(seconds)
        torch._foreach_div_(denoms, (1 - beta2**t) ** 0.5)
        torch._foreach_add_(denoms, eps)

        # p -= lr/(1 - beta1**t) * exp_avg/denom
        torch._foreach_addcdiv_(params, exp_avgs, denoms, value=-lr / (1 - beta1**t))


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


def _differentiable_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg, exp_avg_sq, max_exp_avg_sq, step)
        p, exp_avg, exp_avg_sq, max_exp_avg_sq, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        is_complex = torch.is_complex(p)
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        if is_complex:
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
            if max_exp_avg_sq is not None:
                max_exp_avg_sq = torch.view_as_real(max_exp_avg_sq)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg = exp_avg.lerp(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            max_exp_avg_sq = torch.maximum(max_exp_avg_sq, exp_avg_sq)
        second = max_exp_avg_sq if amsgrad else exp_avg_sq

        # minus_rate = -(lr/(1 - beta1**as_tensor(t)))
        minus_rate = -(lr / (1 - beta1**step))

        # p += exp_avg/(sqrt(second)/(sqrt(1 - beta2**as_tensor(t))*minus_rate) +
        #     eps/minus_rate)
        p = p.addcdiv(
            exp_avg,
            second.sqrt() / ((1 - beta2**step).sqrt() * minus_rate) + eps / minus_rate,
        )
        if is_complex:
            p, exp_avg, exp_avg_sq = map(
                torch.view_as_complex, (p, exp_avg, exp_avg_sq)
            )
            if max_exp_avg_sq is not None:
                max_exp_avg_sq = torch.view_as_complex(max_exp_avg_sq)

        for each, new in zip(
            kept, (p, exp_avg, exp_avg_sq, max_exp_avg_sq, step), strict=True
        ):
            if each is not None:
                each.copy_(new)


def _single_tensor_adamw_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
            if max_exp_avg_sq is not None:
                max_exp_avg_sq = torch.view_as_real(max_exp_avg_sq)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg.lerp_(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            torch.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
        second = max_exp_avg_sq if amsgrad else exp_avg_sq

        # minus_rate = -(lr/(1 - beta1**as_tensor(t)))
        minus_rate = -(lr / (1 - beta1**step))

        # p += exp_avg/(sqrt(second)/(sqrt(1 - beta2**as_tensor(t))*minus_rate) +
        #     eps/minus_rate)
        p.addcdiv_(
            exp_avg,
            second.sqrt()
            .div_((1 - beta2**step).sqrt() * minus_rate)
            .add_(eps / minus_rate),
        )


def _multi_tensor_adamw_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    columns = [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps]
    for params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if weight_decay != 0 and decoupled_weight_decay:
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
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
            max_exp_avg_sqs = [
                each if each is None else torch.view_as_real(each)
                for each in max_exp_avg_sqs
            ]
            given = grads

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        products = torch._foreach_mul(grads, 1 - beta2)
        torch._foreach_addcmul_(exp_avg_sqs, products, grads)
        del grads, products
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            torch._foreach_maximum_(max_exp_avg_sqs, exp_avg_sqs)

        # second = max_exp_avg_sq if amsgrad else exp_avg_sq
        seconds = max_exp_avg_sqs if amsgrad else exp_avg_sqs

        # minus_rate = -(lr/(1 - beta1**as_tensor(t)))
        powers = torch._foreach_pow(beta1, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        torch._foreach_reciprocal_(powers)
        torch._foreach_mul_(powers, lr)
        minus_rates = torch._foreach_neg(powers)

        # p += exp_avg/(sqrt(second)/(sqrt(1 - beta2**as_tensor(t))*minus_rate) +
        #     eps/minus_rate)
        roots = torch._foreach_sqrt(seconds)
        powers = torch._foreach_pow(beta2, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        root_2s = torch._foreach_sqrt(powers)
        products = torch._foreach_mul(root_2s, minus_rates)
        torch._foreach_div_(roots, products)
        reciprocals = torch._foreach_reciprocal(minus_rates)
        torch._foreach_mul_(reciprocals, eps)
        torch._foreach_add_(roots, reciprocals)
        torch._foreach_addcdiv_(params, exp_avgs, roots)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["eps"],
        group["weight_decay"],
    ]
    options = [
        group["maximize"],
        group["weight_decay"] != 0,
        group["decoupled_weight_decay"],
        group["amsgrad"],
    ]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs],
            numbers=[steps],
        )
    return launch.run()


_CPU = r"""// AdamW in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_t *exp_avg_sq;
    max_exp_avg_sq_t *max_exp_avg_sq;
    step_t *step;
    double lr;
    double betas[2];
    double eps;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double t, beta1, beta2, power, quotient;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    // (1 - beta2**t)**0.5
    n.power = std::pow(1.0 - std::pow(n.beta2, n.t), 0.5);
    // lr/(1 - beta1**t)
    n.quotient = row.lr / (1.0 - std::pow(n.beta1, n.t));
    return are_finite(n.power, n.quotient);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg, &Row::exp_avg_sq,
            &Row::max_exp_avg_sq);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            real max_exp_avg_sq = has_max_exp_avg_sq ? load(row.max_exp_avg_sq[i]) : 0;
            if (weight_decay_is_not_0 && decoupled_weight_decay) {
                // p *= 1 - lr*weight_decay
                p = p * real(1.0 - row.lr * row.weight_decay);
            } else if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // exp_avg = lerp(exp_avg, grad, 1 - beta1)
            exp_avg = lerp_(exp_avg, grad, real(1.0 - n.beta1));
            // exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq = real(n.beta2) * exp_avg_sq + real(1.0 - n.beta2) * grad * grad;
            if (amsgrad) {
                // max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
                max_exp_avg_sq = max_(max_exp_avg_sq, exp_avg_sq);
            }
            // second = max_exp_avg_sq if amsgrad else exp_avg_sq
            const real second = amsgrad ? max_exp_avg_sq : exp_avg_sq;
            // denom = sqrt(second)/(1 - beta2**t)**0.5 + eps
            const real denom = sqrt_(second) * real(1.0 / n.power) + real(row.eps);
            // p -= lr/(1 - beta1**t) * exp_avg/denom
            p = p - real(n.quotient) * exp_avg / denom;
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
            store(row.exp_avg_sq[i], exp_avg_sq);
            if (has_max_exp_avg_sq) store(row.max_exp_avg_sq[i], max_exp_avg_sq);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_adamw(const Table *table) {
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
        row.max_exp_avg_sq = (max_exp_avg_sq_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        const double *hyper = table->hypers + 5 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
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

_CUDA = r"""# AdamW in one pass over memory.

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
    larger,
    lerp,
    number,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "exp_avg_t", "exp_avg_sq_t", "max_exp_avg_sq_t", "step_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "decoupled_weight_decay", "amsgrad")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 5 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    t = number(columns, rows, row, 5, step_t) + 1
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    # (1 - beta2**t)**0.5
    power = libdevice.pow(1.0 - libdevice.pow(beta2, t), double(0.5))
    # lr/(1 - beta1**t)
    quotient = lr / (1.0 - libdevice.pow(beta1, t))
    tl.store(n + 0 * rows, beta1)
    tl.store(n + 1 * rows, beta2)
    tl.store(n + 2 * rows, power)
    tl.store(n + 3 * rows, quotient)
    keep_number(columns, rows, row, 5, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
    max_exp_avg_sq_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    decoupled_weight_decay: tl.constexpr,
    amsgrad: tl.constexpr,
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
    of = hypers + 5 * tl.load(group + row)
    lr = tl.load(of + 0)
    eps = tl.load(of + 3)
    weight_decay = tl.load(of + 4)
    beta1 = tl.load(n + 0 * rows)
    beta2 = tl.load(n + 1 * rows)
    power = tl.load(n + 2 * rows)
    quotient = tl.load(n + 3 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    max_exp_avg_sq_at = column(columns, rows, row, 4, max_exp_avg_sq_t, aligned) + begin
    max_exp_avg_sq_left = if_there(columns, rows, row, 4, left)
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    max_exp_avg_sq = elements(max_exp_avg_sq_at, i, max_exp_avg_sq_left, real)
    if weight_decay_is_not_0 and decoupled_weight_decay:
        # p *= 1 - lr*weight_decay
        p = p * (1.0 - lr * weight_decay).to(real)
    elif weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # exp_avg = lerp(exp_avg, grad, 1 - beta1)
    exp_avg = lerp(exp_avg, grad, (1.0 - beta1).to(real))
    # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
    exp_avg_sq = beta2.to(real) * exp_avg_sq + (1.0 - beta2).to(real) * grad * grad
    if amsgrad:
        # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
        max_exp_avg_sq = larger(max_exp_avg_sq, exp_avg_sq)
    # second = max_exp_avg_sq if amsgrad else exp_avg_sq
    second = max_exp_avg_sq if amsgrad else exp_avg_sq
    # denom = sqrt(second)/(1 - beta2**t)**0.5 + eps
    denom = tl.sqrt(second) / power.to(real) + eps.to(real)
    # p -= lr/(1 - beta1**t) * exp_avg/denom
    p = p - quotient.to(real) * exp_avg / denom
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)
    keep(max_exp_avg_sq_at, i, max_exp_avg_sq_left, max_exp_avg_sq)


def launch(x):
    x.numbers = x.new(4 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_adamw",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    numbers=("step",),
    optional=("max_exp_avg_sq",),
    options=("maximize", "weight_decay_is_not_0", "decoupled_weight_decay", "amsgrad"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
