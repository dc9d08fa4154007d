"""AdEMAMix: Adam with a fast and a slow mean of the gradient.

Pagliardini, Ablin and Grangier (2024), The AdEMAMix Optimizer: Better, Faster, Older,
https://arxiv.org/abs/2409.03137
Follows the authors' code, https://github.com/apple/ml-ademamix, and the paper in the
warm-up of beta3, where a 1e-8 in the code makes a difference as small.

decay: Weight decay apart from the gradient, times the learning rate.

Loshchilov and Hutter (2017), Decoupled Weight Decay Regularization,
https://arxiv.org/abs/1711.05101
As in torch's AdamW: before the step, and times lr as a scheduler has set it.
"""
# Compiled by optdsl from ademamix.opt, content 14010ef9a8a7.

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

__all__ = ["AdEMAMix"]


class AdEMAMix(Optimizer):
    """AdEMAMix: Adam with a fast and a slow mean of the gradient.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        betas (tuple[float, float, float], optional): decay of the fast mean, of
            squares, of the slow mean, in [0, 1) (default: (0.9, 0.999, 0.9999)).
        alpha (float, optional): share of the slow mean, in [0, inf) (default: 2.0).
        beta3_warmup (int | None, optional): steps in which betas[2] grows from
            betas[0], in [1, inf) (default: None).
        alpha_warmup (int | None, optional): steps in which alpha grows from 0, in [1,
            inf) (default: None).
        eps (float, optional): added to the denominator, in [0, inf) (default: 1e-8).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0).
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
        exp_avg_fast: fast mean of the gradient (like p).
        exp_avg_slow: slow mean of the gradient (like p).
        exp_avg_sq: second moment of the gradient (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        beta3_warmup: int | None = None,
        alpha_warmup: int | None = None,
        eps: float = 1e-8,
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
            "betas": betas,
            "alpha": alpha,
            "beta3_warmup": beta3_warmup,
            "alpha_warmup": alpha_warmup,
            "eps": eps,
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
            group.setdefault("lr", 1e-3)
            group.setdefault("betas", (0.9, 0.999, 0.9999))
            group.setdefault("alpha", 2.0)
            group.setdefault("beta3_warmup", None)
            group.setdefault("alpha_warmup", None)
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0)
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
        for name in ("lr", "betas", "alpha", "eps", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avg_fasts: list[Tensor],
        exp_avg_slows: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("AdEMAMix does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["exp_avg_fast"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_slow"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            exp_avg_fasts.append(state["exp_avg_fast"])
            exp_avg_slows.append(state["exp_avg_slow"])
            exp_avg_sqs.append(state["exp_avg_sq"])
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
            exp_avg_fasts: list[Tensor] = []
            exp_avg_slows: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps
            )
            groups.append(
                (
                    group,
                    [params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps],
                )
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_ademamix if use_foreach else _single_tensor_ademamix
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_ademamix_capturable
                if use_foreach:
                    update = _multi_tensor_ademamix_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_ademamix
                if group["capturable"]:
                    update = _differentiable_ademamix_capturable
            update(
                params,
                grads,
                exp_avg_fasts,
                exp_avg_slows,
                exp_avg_sqs,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                alpha=group["alpha"],
                beta3_warmup=group["beta3_warmup"],
                alpha_warmup=group["alpha_warmup"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    alpha = group["alpha"]
    beta3_warmup = group["beta3_warmup"]
    alpha_warmup = group["alpha_warmup"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("betas", betas, 3)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 3 numbers in [0, 1)")
    _check_number("alpha", alpha)
    if not 0 <= alpha < math.inf:
        raise ValueError(f"Invalid alpha: {alpha!r}, expected a number in [0, inf)")
    if beta3_warmup is not None:
        _check_int("beta3_warmup", beta3_warmup)
    if not (beta3_warmup is None or 1 <= beta3_warmup < math.inf):
        raise ValueError(
            f"Invalid beta3_warmup: {beta3_warmup!r}, "
            f"expected an int in [1, inf), or None"
        )
    if alpha_warmup is not None:
        _check_int("alpha_warmup", alpha_warmup)
    if not (alpha_warmup is None or 1 <= alpha_warmup < math.inf):
        raise ValueError(
            f"Invalid alpha_warmup: {alpha_warmup!r}, "
            f"expected an int in [1, inf), or None"
        )
    _check_number("eps", eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
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


def _check_numbers(name: str, values: Any, size: int, nones: Any = ()) -> None:
    """Raise where a value is no tuple of numbers; those at `nones` may be None."""
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"Invalid {name}: {values!r}, expected {size} numbers")
    if len(values) != size:
        raise ValueError(f"Invalid {name}: {values!r}, expected {size} numbers")
    for at, value in enumerate(values):
        if not (value is None and at in nones):
            _check_number(name, value)


def _check_int(name: str, value: Any) -> None:
    """Raise where a value is no whole number."""
    if not isinstance(value, int):
        raise TypeError(f"Invalid {name}: {value!r}, expected an int")


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


def _life(beta: float) -> float:
    # life(beta) = -1/log(max(beta, 1e-8)) # of a mean, in steps; beta may be 0
    return -1 / math.log(max(beta, 1e-8))


def _single_tensor_ademamix(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg_fasts: list[Tensor],
    exp_avg_slows: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float, float],
    alpha: float,
    beta3_warmup: int | None,
    alpha_warmup: int | None,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq, step in zip(
        params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if torch.is_complex(p):
            p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq)
            )
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        beta1, beta2, beta3 = betas

        # warm = min(1, t/(1 if beta3_warmup == none else beta3_warmup))
        warm = min(1, t / (1 if beta3_warmup is None else beta3_warmup))

        # beta3 **= 1/(warm + (1 - warm)*life(beta1)/life(beta3))
        beta3 = beta3 ** (1 / (warm + (1 - warm) * _life(beta1) / _life(beta3)))

        # share = alpha*min(1, t/(1 if alpha_warmup == none else alpha_warmup))
        share = alpha * min(1, t / (1 if alpha_warmup is None else alpha_warmup))

        # exp_avg_fast = lerp(exp_avg_fast, grad, 1 - beta1)
        exp_avg_fast.lerp_(grad, 1 - beta1)

        # exp_avg_slow = lerp(exp_avg_slow, grad, 1 - beta3)
        exp_avg_slow.lerp_(grad, 1 - beta3)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

        # denom = sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps
        denom = exp_avg_sq.sqrt().div_((1 - beta2**t) ** 0.5).add_(eps)

        # p -= lr*(exp_avg_fast/(1 - beta1**t) + share*exp_avg_slow)/denom
        p.addcdiv_(
            (exp_avg_fast / (1 - beta1**t)).add_(exp_avg_slow, alpha=share),
            denom,
            value=-lr,
        )


def _multi_tensor_ademamix(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg_fasts: list[Tensor],
    exp_avg_slows: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float, float],
    alpha: float,
    beta3_warmup: int | None,
    alpha_warmup: int | None,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, alpha, eps, weight_decay = map(float, (lr, alpha, eps, weight_decay))
    betas = tuple(map(float, betas))

    columns = [params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps]
    keys = [step.item() for step in steps]
    for params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps in _alike(
        columns, keys
    ):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avg_fasts = [torch.view_as_real(each) for each in exp_avg_fasts]
            exp_avg_slows = [torch.view_as_real(each) for each in exp_avg_slows]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        beta1, beta2, beta3 = betas

        # warm = min(1, t/(1 if beta3_warmup == none else beta3_warmup))
        warm = min(1, t / (1 if beta3_warmup is None else beta3_warmup))

        # beta3 **= 1/(warm + (1 - warm)*life(beta1)/life(beta3))
        beta3 = beta3 ** (1 / (warm + (1 - warm) * _life(beta1) / _life(beta3)))

        # share = alpha*min(1, t/(1 if alpha_warmup == none else alpha_warmup))
        share = alpha * min(1, t / (1 if alpha_warmup is None else alpha_warmup))

        # exp_avg_fast = lerp(exp_avg_fast, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avg_fasts, grads, 1 - beta1)

        # exp_avg_slow = lerp(exp_avg_slow, grad, 1 - beta3)
        torch._foreach_lerp_(exp_avg_slows, grads, 1 - beta3)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)
        del grads

        # denom = sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps
        denoms = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_div_(denoms, (1 - beta2**t) ** 0.5)
        torch._foreach_add_(denoms, eps)

        # p -= lr*(exp_avg_fast/(1 - beta1**t) + share*exp_avg_slow)/denom
        quotients = torch._foreach_div(exp_avg_fasts, 1 - beta1**t)
        torch._foreach_add_(quotients, exp_avg_slows, alpha=share)
        torch._foreach_addcdiv_(params, quotients, denoms, value=-lr)


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


def _scaled_addcdiv(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcdiv(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcdiv(y * scale, z)
    return x.addcdiv(y, z, value=scale)


def _differentiable_ademamix(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg_fasts: list[Tensor],
    exp_avg_slows: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float, float],
    alpha: float,
    beta3_warmup: int | None,
    alpha_warmup: int | None,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq, step in zip(
        params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg_fast, exp_avg_slow, exp_avg_sq, step)
        p, exp_avg_fast, exp_avg_slow, exp_avg_sq, step = (
            each.clone() for each in kept
        )
        step = step + 1
        t = step.item()
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq)
            )
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        beta1, beta2, beta3 = betas

        # warm = min(1, t/(1 if beta3_warmup == none else beta3_warmup))
        warm = min(1, t / (1 if beta3_warmup is None else beta3_warmup))

        # beta3 **= 1/(warm + (1 - warm)*life(beta1)/life(beta3))
        beta3 = beta3 ** (1 / (warm + (1 - warm) * _life(beta1) / _life(beta3)))

        # share = alpha*min(1, t/(1 if alpha_warmup == none else alpha_warmup))
        share = alpha * min(1, t / (1 if alpha_warmup is None else alpha_warmup))

        # exp_avg_fast = lerp(exp_avg_fast, grad, 1 - beta1)
        exp_avg_fast = exp_avg_fast.lerp(grad, 1 - beta1)

        # exp_avg_slow = lerp(exp_avg_slow, grad, 1 - beta3)
        exp_avg_slow = exp_avg_slow.lerp(grad, 1 - beta3)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)

        # denom = sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps
        denom = exp_avg_sq.sqrt() / (1 - beta2**t) ** 0.5 + eps

        # p -= lr*(exp_avg_fast/(1 - beta1**t) + share*exp_avg_slow)/denom
        p = _scaled_addcdiv(
            p,
            _scaled_add(exp_avg_fast / (1 - beta1**t), exp_avg_slow, share),
            denom,
            -lr,
        )
        if is_complex:
            p, exp_avg_fast, exp_avg_slow, exp_avg_sq = map(
                torch.view_as_complex, (p, exp_avg_fast, exp_avg_slow, exp_avg_sq)
            )

        for each, new in zip(
            kept, (p, exp_avg_fast, exp_avg_slow, exp_avg_sq, step), strict=True
        ):
            each.copy_(new)


def _single_tensor_ademamix_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg_fasts: list[Tensor],
    exp_avg_slows: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float, float],
    alpha: float,
    beta3_warmup: int | None,
    alpha_warmup: int | None,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq, step in zip(
        params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq)
            )
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        beta1, beta2, beta3 = betas

        # warm = min(1, t/(1 if beta3_warmup == none else beta3_warmup))
        warm = (step / (1 if beta3_warmup is None else beta3_warmup)).clamp(max=1)

        # beta3 **= 1/(warm + (1 - warm)*life(beta1)/life(beta3))
        beta3 = beta3 ** (1 / warm.add(1 - warm, alpha=_life(beta1) / _life(beta3)))

        # share = alpha*min(1, t/(1 if alpha_warmup == none else alpha_warmup))
        share = (step / (1 if alpha_warmup is None else alpha_warmup)).clamp(
            max=1
        ) * alpha

        # exp_avg_fast = lerp(exp_avg_fast, grad, 1 - beta1)
        exp_avg_fast.lerp_(grad, 1 - beta1)

        # exp_avg_slow = lerp(exp_avg_slow, grad, 1 - beta3)
        exp_avg_slow.lerp_(grad, 1 - beta3)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

        # denom = sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps
        denom = exp_avg_sq.sqrt().div_((1 - beta2**step).pow(0.5)).add_(eps)

        # p -= lr*(exp_avg_fast/(1 - beta1**t) + share*exp_avg_slow)/denom
        p.addcdiv_(
            (exp_avg_fast / (1 - beta1**step)).addcmul_(share, exp_avg_slow),
            denom,
            value=-lr,
        )


def _multi_tensor_ademamix_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg_fasts: list[Tensor],
    exp_avg_slows: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float, float],
    alpha: float,
    beta3_warmup: int | None,
    alpha_warmup: int | None,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    columns = [params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps]
    for params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps in _alike(
        columns
    ):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avg_fasts = [torch.view_as_real(each) for each in exp_avg_fasts]
            exp_avg_slows = [torch.view_as_real(each) for each in exp_avg_slows]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        beta1, beta2, beta3 = betas

        # warm = min(1, t/(1 if beta3_warmup == none else beta3_warmup))
        quotients = torch._foreach_div(
            steps, 1 if beta3_warmup is None else beta3_warmup
        )
        warms = torch._foreach_clamp_max(quotients, 1)

        # beta3 **= 1/(warm + (1 - warm)*life(beta1)/life(beta3))
        opposites = torch._foreach_neg(warms)
        torch._foreach_add_(opposites, 1)
        products = torch._foreach_mul(opposites, _life(beta1) / _life(beta3))
        sums = torch._foreach_add(warms, products)
        torch._foreach_reciprocal_(sums)
        beta3s = torch._foreach_pow(beta3, sums)

        # share = alpha*min(1, t/(1 if alpha_warmup == none else alpha_warmup))
        quotients = torch._foreach_div(
            steps, 1 if alpha_warmup is None else alpha_warmup
        )
        clampeds = torch._foreach_clamp_max(quotients, 1)
        shares = torch._foreach_mul(clampeds, alpha)

        # exp_avg_fast = lerp(exp_avg_fast, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avg_fasts, grads, 1 - beta1)

        # exp_avg_slow = lerp(exp_avg_slow, grad, 1 - beta3)
        opposites = torch._foreach_neg(beta3s)
        torch._foreach_add_(opposites, 1)
        torch._foreach_lerp_(exp_avg_slows, grads, opposites)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        products = torch._foreach_mul(grads, 1 - beta2)
        torch._foreach_addcmul_(exp_avg_sqs, products, grads)
        del grads, products

        # denom = sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps
        denoms = torch._foreach_sqrt(exp_avg_sqs)
        powers = torch._foreach_pow(beta2, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        power_2s = torch._foreach_pow(powers, 0.5)
        torch._foreach_div_(denoms, power_2s)
        torch._foreach_add_(denoms, eps)

        # p -= lr*(exp_avg_fast/(1 - beta1**t) + share*exp_avg_slow)/denom
        powers = torch._foreach_pow(beta1, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        quotients = torch._foreach_div(exp_avg_fasts, powers)
        torch._foreach_addcmul_(quotients, shares, exp_avg_slows)
        products = torch._foreach_mul(quotients, -lr)
        torch._foreach_addcdiv_(params, products, denoms)


def _differentiable_ademamix_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg_fasts: list[Tensor],
    exp_avg_slows: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float, float],
    alpha: float,
    beta3_warmup: int | None,
    alpha_warmup: int | None,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq, step in zip(
        params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg_fast, exp_avg_slow, exp_avg_sq, step)
        p, exp_avg_fast, exp_avg_slow, exp_avg_sq, step = (
            each.clone() for each in kept
        )
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg_fast, exp_avg_slow, exp_avg_sq)
            )
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        beta1, beta2, beta3 = betas

        # warm = min(1, t/(1 if beta3_warmup == none else beta3_warmup))
        warm = (step / (1 if beta3_warmup is None else beta3_warmup)).clamp(max=1)

        # beta3 **= 1/(warm + (1 - warm)*life(beta1)/life(beta3))
        beta3 = beta3 ** (1 / _scaled_add(warm, 1 - warm, _life(beta1) / _life(beta3)))

        # share = alpha*min(1, t/(1 if alpha_warmup == none else alpha_warmup))
        share = (step / (1 if alpha_warmup is None else alpha_warmup)).clamp(
            max=1
        ) * alpha

        # exp_avg_fast = lerp(exp_avg_fast, grad, 1 - beta1)
        exp_avg_fast = exp_avg_fast.lerp(grad, 1 - beta1)

        # exp_avg_slow = lerp(exp_avg_slow, grad, 1 - beta3)
        exp_avg_slow = exp_avg_slow.lerp(grad, 1 - beta3)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)

        # denom = sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps
        denom = exp_avg_sq.sqrt() / (1 - beta2**step).pow(0.5) + eps

        # p -= lr*(exp_avg_fast/(1 - beta1**t) + share*exp_avg_slow)/denom
        p = _scaled_addcdiv(
            p,
            (exp_avg_fast / (1 - beta1**step)).addcmul(share, exp_avg_slow),
            denom,
            -lr,
        )
        if is_complex:
            p, exp_avg_fast, exp_avg_slow, exp_avg_sq = map(
                torch.view_as_complex, (p, exp_avg_fast, exp_avg_slow, exp_avg_sq)
            )

        for each, new in zip(
            kept, (p, exp_avg_fast, exp_avg_slow, exp_avg_sq, step), strict=True
        ):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["betas"][2],
        group["alpha"],
        group["beta3_warmup"],
        group["alpha_warmup"],
        group["eps"],
        group["weight_decay"],
    ]
    options = [
        group["maximize"],
        group["weight_decay"] != 0,
        group["beta3_warmup"] is None,
        group["alpha_warmup"] is None,
    ]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avg_fasts, exp_avg_slows, exp_avg_sqs],
            numbers=[steps],
        )
    return launch.run()


_CPU = r"""// AdEMAMix in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_fast_t *exp_avg_fast;
    exp_avg_slow_t *exp_avg_slow;
    exp_avg_sq_t *exp_avg_sq;
    step_t *step;
    double lr;
    double betas[3];
    double alpha;
    double beta3_warmup;
    double alpha_warmup;
    double eps;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double t, beta1, beta2, beta3, warm, life_beta, life_beta_2, share, power,
        difference;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2, beta3 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    n.beta3 = row.betas[2];
    // warm = min(1, t/(1 if beta3_warmup == none else beta3_warmup))
    n.warm = min_(1.0, n.t / (beta3_warmup_is_none ? 1.0 : row.beta3_warmup));
    // life(beta1)
    n.life_beta = n.beta1;
    // life(beta3)
    n.life_beta_2 = n.beta3;
    // beta3 **= 1/(warm + (1 - warm)*life(beta1)/life(beta3))
    n.beta3 = std::pow(n.beta3, 1.0 / (n.warm + (1.0 - n.warm) * (-1.0 /
        log_(max_(n.life_beta, 1e-8))) / (-1.0 / log_(max_(n.life_beta_2, 1e-8)))));
    // share = alpha*min(1, t/(1 if alpha_warmup == none else alpha_warmup))
    n.share = row.alpha * min_(1.0, n.t / (alpha_warmup_is_none ? 1.0 :
        row.alpha_warmup));
    // (1 - beta2**t)**0.5
    n.power = std::pow(1.0 - std::pow(n.beta2, n.t), 0.5);
    // 1 - beta1**t
    n.difference = 1.0 - std::pow(n.beta1, n.t);
    return are_finite(n.warm, n.beta3, n.share, n.power, n.difference);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg_fast, &Row::exp_avg_slow,
            &Row::exp_avg_sq);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg_fast = load(row.exp_avg_fast[i]);
            real exp_avg_slow = load(row.exp_avg_slow[i]);
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            if (weight_decay_is_not_0) {
                // p *= 1 - lr*weight_decay
                p = p * real(1.0 - row.lr * row.weight_decay);
            }
            // exp_avg_fast = lerp(exp_avg_fast, grad, 1 - beta1)
            exp_avg_fast = lerp_(exp_avg_fast, grad, real(1.0 - n.beta1));
            // exp_avg_slow = lerp(exp_avg_slow, grad, 1 - beta3)
            exp_avg_slow = lerp_(exp_avg_slow, grad, real(1.0 - n.beta3));
            // exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq = real(n.beta2) * exp_avg_sq + real(1.0 - n.beta2) * grad * grad;
            // denom = sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps
            const real denom = sqrt_(exp_avg_sq) * real(1.0 / n.power) + real(row.eps);
            // p -= lr*(exp_avg_fast/(1 - beta1**t) + share*exp_avg_slow)/denom
            p = p - real(row.lr) * (exp_avg_fast * real(1.0 / n.difference) +
                real(n.share) * exp_avg_slow) / denom;
            store(row.p[i], p);
            store(row.exp_avg_fast[i], exp_avg_fast);
            store(row.exp_avg_slow[i], exp_avg_slow);
            store(row.exp_avg_sq[i], exp_avg_sq);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_ademamix(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.exp_avg_fast = (exp_avg_fast_t *)table->columns[2][at];
        row.exp_avg_slow = (exp_avg_slow_t *)table->columns[3][at];
        row.exp_avg_sq = (exp_avg_sq_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        const double *hyper = table->hypers + 9 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.betas[2] = *hyper++;
        row.alpha = *hyper++;
        row.beta3_warmup = *hyper++;
        row.alpha_warmup = *hyper++;
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

_CUDA = r"""# AdEMAMix in one pass over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    keep,
    keep_number,
    larger,
    lerp,
    number,
    overflowed,
    smaller,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "exp_avg_fast_t", "exp_avg_slow_t", "exp_avg_sq_t", "step_t")
OPTIONS = (
    "maximize",
    "weight_decay_is_not_0",
    "beta3_warmup_is_none",
    "alpha_warmup_is_none",
)


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    step_t: tl.constexpr,
    beta3_warmup_is_none: tl.constexpr,
    alpha_warmup_is_none: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 9 * tl.load(group + row)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    betas_2 = tl.load(of + 3)
    alpha = tl.load(of + 4)
    beta3_warmup = tl.load(of + 5)
    alpha_warmup = tl.load(of + 6)
    t = number(columns, rows, row, 5, step_t) + 1
    # beta1, beta2, beta3 = betas
    beta1 = betas_0
    beta2 = betas_1
    beta3 = betas_2
    # warm = min(1, t/(1 if beta3_warmup == none else beta3_warmup))
    warm = smaller(
        double(1.0), t / (double(1.0) if beta3_warmup_is_none else beta3_warmup)
    )
    # life(beta1)
    life_beta = beta1
    # life(beta3)
    life_beta_2 = beta3
    # beta3 **= 1/(warm + (1 - warm)*life(beta1)/life(beta3))
    beta3 = libdevice.pow(
        beta3,
        1.0
        / (
            warm
            + (1.0 - warm) * (-1.0 / libdevice.log(larger(life_beta, double(1e-8)))) / (
                -1.0 / libdevice.log(larger(life_beta_2, double(1e-8)))
            )
        ),
    )
    # share = alpha*min(1, t/(1 if alpha_warmup == none else alpha_warmup))
    share = alpha * smaller(
        double(1.0), t / (double(1.0) if alpha_warmup_is_none else alpha_warmup)
    )
    # (1 - beta2**t)**0.5
    power = libdevice.pow(1.0 - libdevice.pow(beta2, t), double(0.5))
    # 1 - beta1**t
    difference = 1.0 - libdevice.pow(beta1, t)
    tl.store(n + 0 * rows, beta1)
    tl.store(n + 1 * rows, beta2)
    tl.store(n + 2 * rows, beta3)
    tl.store(n + 3 * rows, difference)
    tl.store(n + 4 * rows, power)
    tl.store(n + 5 * rows, share)
    keep_number(columns, rows, row, 5, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_fast_t: tl.constexpr,
    exp_avg_slow_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
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
    of = hypers + 9 * tl.load(group + row)
    lr = tl.load(of + 0)
    eps = tl.load(of + 7)
    weight_decay = tl.load(of + 8)
    beta1 = tl.load(n + 0 * rows)
    beta2 = tl.load(n + 1 * rows)
    beta3 = tl.load(n + 2 * rows)
    difference = tl.load(n + 3 * rows)
    power = tl.load(n + 4 * rows)
    share = tl.load(n + 5 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_fast_at = column(columns, rows, row, 2, exp_avg_fast_t, aligned) + begin
    exp_avg_slow_at = column(columns, rows, row, 3, exp_avg_slow_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 4, exp_avg_sq_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg_fast = elements(exp_avg_fast_at, i, left, real)
    exp_avg_slow = elements(exp_avg_slow_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    if weight_decay_is_not_0:
        # p *= 1 - lr*weight_decay
        p = p * (1.0 - lr * weight_decay).to(real)
    # exp_avg_fast = lerp(exp_avg_fast, grad, 1 - beta1)
    exp_avg_fast = lerp(exp_avg_fast, grad, (1.0 - beta1).to(real))
    # exp_avg_slow = lerp(exp_avg_slow, grad, 1 - beta3)
    exp_avg_slow = lerp(exp_avg_slow, grad, (1.0 - beta3).to(real))
    # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
    exp_avg_sq = beta2.to(real) * exp_avg_sq + (1.0 - beta2).to(real) * grad * grad
    # denom = sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps
    denom = tl.sqrt(exp_avg_sq) / power.to(real) + eps.to(real)
    # p -= lr*(exp_avg_fast/(1 - beta1**t) + share*exp_avg_slow)/denom
    p = p - lr.to(real) * (
        exp_avg_fast / difference.to(real) + share.to(real) * exp_avg_slow
    ) / denom
    keep(p_at, i, left, p)
    keep(exp_avg_fast_at, i, left, exp_avg_fast)
    keep(exp_avg_slow_at, i, left, exp_avg_slow)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)


def launch(x):
    x.numbers = x.new(6 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_ademamix",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg_fast", "exp_avg_slow", "exp_avg_sq"),
    numbers=("step",),
    options=(
        "maximize",
        "weight_decay_is_not_0",
        "beta3_warmup_is_none",
        "alpha_warmup_is_none",
    ),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
