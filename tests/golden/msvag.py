"""M-SVAG: momentum that is shorter, entry by entry, where gradients vary.

Balles and Hennig (2018), Dissecting Adam: The Sign, Magnitude and Variance of
Stochastic Gradients, https://arxiv.org/abs/1705.07774
Follows the authors' code, https://github.com/lballes/msvag, where rho is at most
0.9999. One gradient has no variance: the first step is a whole one, as there but for
what rounding makes of 0/1e-4.
"""
# Compiled by optdsl from msvag.opt, content 61f117b33879.

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

__all__ = ["MSVAG"]


class MSVAG(Optimizer):
    """M-SVAG: momentum that is shorter, entry by entry, where gradients vary.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 0.1).
        beta (float, optional): decay of the first and the second moment, in [0, 1)
            (default: 0.9).
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

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        beta: float = 0.9,
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
            group.setdefault("beta", 0.9)
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
        for name in ("lr", "beta"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        firsts: list[bool],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("MSVAG does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["first"] = True
                state["step"] = _zero_dim(0.0, group, p)
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            firsts.append(state.get("first", False))
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
            for state in self.state.values():
                state.pop("first", None)
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
            firsts: list[bool] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, exp_avgs, exp_avg_sqs, firsts, steps)
            groups.append(
                (group, [params, grads, exp_avgs, exp_avg_sqs, firsts, steps])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, exp_avgs, exp_avg_sqs, firsts, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_msvag if use_foreach else _single_tensor_msvag
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_msvag_capturable
                if use_foreach:
                    update = _multi_tensor_msvag_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_msvag
                if group["capturable"]:
                    update = _differentiable_msvag_capturable
            update(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                firsts,
                steps,
                lr=group["lr"],
                beta=group["beta"],
                maximize=group["maximize"],
            )
        for _, columns in groups:
            params, firsts = columns[0], columns[4]
            for p, first in zip(params, firsts, strict=True):
                if first:
                    self.state[p].pop("first")

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    beta = group["beta"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("beta", beta)
    if not 0 <= beta < 1:
        raise ValueError(f"Invalid beta: {beta!r}, expected a number in [0, 1)")
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


def _single_tensor_msvag(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    lr: float,
    beta: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg, exp_avg_sq, first, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, firsts, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )

        # exp_avg = lerp(exp_avg, grad, 1 - beta)
        exp_avg.lerp_(grad, 1 - beta)

        # exp_avg_sq = beta*exp_avg_sq + (1 - beta)*grad*grad
        exp_avg_sq.mul_(beta).addcmul_(grad, grad, value=1 - beta)
        if first:
            # p -= lr*grad
            p.add_(grad, alpha=-lr)
        else:
            mean = exp_avg / (1 - beta**t)
            square = exp_avg_sq / (1 - beta**t)
            signal = mean * mean
            rho = min((1 - beta) * (1 + beta**t) / ((1 + beta) * (1 - beta**t)), 0.9999)

            # variance = max(square - signal, 0)/(1 - rho)
            variance = square.sub_(signal).clamp_(min=0).div_(1 - rho)

            # total = signal + rho*variance
            total = signal.add(variance, alpha=rho)

            # p -= lr*where(total > 0, signal/total, 0)*mean
            p.addcmul_(torch.where(total > 0, signal.div_(total), 0), mean, value=-lr)


def _multi_tensor_msvag(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    lr: float,
    beta: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, beta = map(float, (lr, beta))

    columns = [params, grads, exp_avgs, exp_avg_sqs, firsts, steps]
    keys = [(first, step.item()) for first, step in zip(firsts, steps, strict=True)]
    for params, grads, exp_avgs, exp_avg_sqs, firsts, steps in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        first = firsts[0]
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]

        # exp_avg = lerp(exp_avg, grad, 1 - beta)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta)

        # exp_avg_sq = beta*exp_avg_sq + (1 - beta)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta)
        if first:
            # p -= lr*grad
            torch._foreach_add_(params, grads, alpha=-lr)
        else:
            # mean = exp_avg/(1 - beta**t)
            means = torch._foreach_div(exp_avgs, 1 - beta**t)

            # square = exp_avg_sq/(1 - beta**t)
            squares = torch._foreach_div(exp_avg_sqs, 1 - beta**t)

            # signal = mean*mean
            signals = torch._foreach_mul(means, means)
            rho = min((1 - beta) * (1 + beta**t) / ((1 + beta) * (1 - beta**t)), 0.9999)

            # variance = max(square - signal, 0)/(1 - rho)
            torch._foreach_sub_(squares, signals)
            torch._foreach_clamp_min_(squares, 0)
            torch._foreach_div_(squares, 1 - rho)
            variances = squares
            del squares

            # total = signal + rho*variance
            totals = torch._foreach_add(signals, variances, alpha=rho)

            # p -= lr*where(total > 0, signal/total, 0)*mean
            torch._foreach_div_(signals, totals)
            for p, total, signal, mean in zip(
                params, totals, signals, means, strict=True
            ):
                p.addcmul_(torch.where(total > 0, signal, 0), mean, value=-lr)


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


def _differentiable_msvag(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    lr: float,
    beta: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg, exp_avg_sq, first, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, firsts, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg, exp_avg_sq, step)
        p, exp_avg, exp_avg_sq, step = (each.clone() for each in kept)
        step = step + 1
        t = step.item()
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )

        # exp_avg = lerp(exp_avg, grad, 1 - beta)
        exp_avg = exp_avg.lerp(grad, 1 - beta)

        # exp_avg_sq = beta*exp_avg_sq + (1 - beta)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta, grad, grad, 1 - beta)
        if first:
            # p -= lr*grad
            p = _scaled_add(p, grad, -lr)
        else:
            mean = exp_avg / (1 - beta**t)
            square = exp_avg_sq / (1 - beta**t)
            signal = mean * mean
            rho = min((1 - beta) * (1 + beta**t) / ((1 + beta) * (1 - beta**t)), 0.9999)

            # variance = max(square - signal, 0)/(1 - rho)
            variance = (square - signal).clamp(min=0) / (1 - rho)

            # total = signal + rho*variance
            total = _scaled_add(signal, variance, rho)

            # p -= lr*where(total > 0, signal/total, 0)*mean
            p = _scaled_addcmul(p, torch.where(total > 0, signal / total, 0), mean, -lr)
        if is_complex:
            p, exp_avg, exp_avg_sq = map(
                torch.view_as_complex, (p, exp_avg, exp_avg_sq)
            )

        for each, new in zip(kept, (p, exp_avg, exp_avg_sq, step), strict=True):
            each.copy_(new)


def _single_tensor_msvag_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    lr: float,
    beta: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg, exp_avg_sq, first, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, firsts, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )

        # exp_avg = lerp(exp_avg, grad, 1 - beta)
        exp_avg.lerp_(grad, 1 - beta)

        # exp_avg_sq = beta*exp_avg_sq + (1 - beta)*grad*grad
        exp_avg_sq.mul_(beta).addcmul_(grad, grad, value=1 - beta)
        if first:
            # p -= lr*grad
            p.add_(grad, alpha=-lr)
        else:
            # mean = exp_avg/(1 - beta**t)
            mean = exp_avg / (1 - beta**step)

            # square = exp_avg_sq/(1 - beta**t)
            square = exp_avg_sq / (1 - beta**step)
            signal = mean * mean

            # rho = min((1 - beta)*(1 + beta**t)/((1 + beta)*(1 - beta**t)), 0.9999)
            rho = (
                (beta**step + 1) * (1 - beta) / ((1 - beta**step) * (1 + beta))
            ).clamp(max=0.9999)

            # variance = max(square - signal, 0)/(1 - rho)
            variance = square.sub_(signal).clamp_(min=0).div_(1 - rho)

            # total = signal + rho*variance
            total = signal.addcmul(rho, variance)

            # p -= lr*where(total > 0, signal/total, 0)*mean
            p.addcmul_(torch.where(total > 0, signal.div_(total), 0), mean, value=-lr)


def _multi_tensor_msvag_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    lr: float,
    beta: float,
    maximize: bool,
) -> None:
    columns = [params, grads, exp_avgs, exp_avg_sqs, firsts, steps]
    keys = firsts
    for params, grads, exp_avgs, exp_avg_sqs, firsts, steps in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        first = firsts[0]
        torch._foreach_add_(steps, 1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]

        # exp_avg = lerp(exp_avg, grad, 1 - beta)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta)

        # exp_avg_sq = beta*exp_avg_sq + (1 - beta)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta)
        products = torch._foreach_mul(grads, 1 - beta)
        torch._foreach_addcmul_(exp_avg_sqs, products, grads)
        del products
        if first:
            # p -= lr*grad
            products = torch._foreach_mul(grads, -lr)
            torch._foreach_add_(params, products)
        else:
            # mean = exp_avg/(1 - beta**t)
            powers = torch._foreach_pow(beta, steps)
            torch._foreach_neg_(powers)
            torch._foreach_add_(powers, 1)
            means = torch._foreach_div(exp_avgs, powers)

            # square = exp_avg_sq/(1 - beta**t)
            powers = torch._foreach_pow(beta, steps)
            torch._foreach_neg_(powers)
            torch._foreach_add_(powers, 1)
            squares = torch._foreach_div(exp_avg_sqs, powers)

            # signal = mean*mean
            signals = torch._foreach_mul(means, means)

            # rho = min((1 - beta)*(1 + beta**t)/((1 + beta)*(1 - beta**t)), 0.9999)
            powers = torch._foreach_pow(beta, steps)
            sums = torch._foreach_add(powers, 1)
            products = torch._foreach_mul(sums, 1 - beta)
            power_2s = torch._foreach_pow(beta, steps)
            torch._foreach_neg_(power_2s)
            torch._foreach_add_(power_2s, 1)
            product_2s = torch._foreach_mul(power_2s, 1 + beta)
            quotients = torch._foreach_div(products, product_2s)
            rhos = torch._foreach_clamp_max(quotients, 0.9999)

            # variance = max(square - signal, 0)/(1 - rho)
            torch._foreach_sub_(squares, signals)
            torch._foreach_clamp_min_(squares, 0)
            opposites = torch._foreach_neg(rhos)
            torch._foreach_add_(opposites, 1)
            torch._foreach_div_(squares, opposites)
            variances = squares
            del squares

            # total = signal + rho*variance
            totals = torch._foreach_addcmul(signals, rhos, variances)

            # p -= lr*where(total > 0, signal/total, 0)*mean
            torch._foreach_div_(signals, totals)
            for p, total, signal, mean in zip(
                params, totals, signals, means, strict=True
            ):
                p.addcmul_(torch.where(total > 0, signal, 0), mean, value=-lr)


def _differentiable_msvag_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    lr: float,
    beta: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg, exp_avg_sq, first, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, firsts, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg, exp_avg_sq, step)
        p, exp_avg, exp_avg_sq, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )

        # exp_avg = lerp(exp_avg, grad, 1 - beta)
        exp_avg = exp_avg.lerp(grad, 1 - beta)

        # exp_avg_sq = beta*exp_avg_sq + (1 - beta)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta, grad, grad, 1 - beta)
        if first:
            # p -= lr*grad
            p = _scaled_add(p, grad, -lr)
        else:
            # mean = exp_avg/(1 - beta**t)
            mean = exp_avg / (1 - beta**step)

            # square = exp_avg_sq/(1 - beta**t)
            square = exp_avg_sq / (1 - beta**step)
            signal = mean * mean

            # rho = min((1 - beta)*(1 + beta**t)/((1 + beta)*(1 - beta**t)), 0.9999)
            rho = (
                (beta**step + 1) * (1 - beta) / ((1 - beta**step) * (1 + beta))
            ).clamp(max=0.9999)

            # variance = max(square - signal, 0)/(1 - rho)
            variance = (square - signal).clamp(min=0) / (1 - rho)

            # total = signal + rho*variance
            total = signal.addcmul(rho, variance)

            # p -= lr*where(total > 0, signal/total, 0)*mean
            p = _scaled_addcmul(p, torch.where(total > 0, signal / total, 0), mean, -lr)
        if is_complex:
            p, exp_avg, exp_avg_sq = map(
                torch.view_as_complex, (p, exp_avg, exp_avg_sq)
            )

        for each, new in zip(kept, (p, exp_avg, exp_avg_sq, step), strict=True):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["beta"]]
    options = [group["maximize"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avgs, exp_avg_sqs, firsts, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs, exp_avg_sqs],
            numbers=[steps],
            asked=[firsts],
        )
    return launch.run()


_CPU = r"""// MSVAG in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_t *exp_avg_sq;
    step_t *step;
    double lr;
    double beta;
    double first;
};

// What is worked out once a tensor.
struct Numbers {
    double t, difference, difference_2, rho;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    if (!row.first) {
        // 1 - beta**t
        n.difference = 1.0 - std::pow(row.beta, n.t);
        n.difference_2 = 1.0 - std::pow(row.beta, n.t);
        // rho = min((1 - beta)*(1 + beta**t)/((1 + beta)*(1 - beta**t)), 0.9999)
        n.rho = min_((1.0 - row.beta) * (1.0 + std::pow(row.beta, n.t)) / ((1.0 +
            row.beta) * (1.0 - std::pow(row.beta, n.t))), 0.9999);
    }
    return are_finite(n.difference, n.difference_2, n.rho);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg, &Row::exp_avg_sq);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            real mean = 0;
            real signal = 0;
            real square = 0;
            real total = 0;
            real variance = 0;
            // exp_avg = lerp(exp_avg, grad, 1 - beta)
            exp_avg = lerp_(exp_avg, grad, real(1.0 - row.beta));
            // exp_avg_sq = beta*exp_avg_sq + (1 - beta)*grad*grad
            exp_avg_sq = real(row.beta) * exp_avg_sq + real(1.0 - row.beta) * grad *
                grad;
            if (row.first) {
                // p -= lr*grad
                p = p - real(row.lr) * grad;
            } else {
                // mean = exp_avg/(1 - beta**t)
                mean = exp_avg * real(1.0 / n.difference);
                // square = exp_avg_sq/(1 - beta**t)
                square = exp_avg_sq * real(1.0 / n.difference_2);
                // signal = mean*mean
                signal = mean * mean;
                // variance = max(square - signal, 0)/(1 - rho)
                variance = max_(square - signal, real(0.0)) * real(1.0 / (1.0 - n.rho));
                // total = signal + rho*variance
                total = signal + real(n.rho) * variance;
                // p -= lr*where(total > 0, signal/total, 0)*mean
                p = p - real(row.lr) * (total > real(0.0) ? signal / total : real(0.0))
                    * mean;
            }
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
            store(row.exp_avg_sq[i], exp_avg_sq);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_msvag(const Table *table) {
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
        row.step = (step_t *)table->columns[4][at];
        const double *hyper = table->hypers + 2 * table->group[at];
        row.lr = *hyper++;
        row.beta = *hyper++;
        row.first = table->asked[at];
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 1, rows, numbers, numbers_1)) return 1;
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# MSVAG in one pass over memory.

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
TYPES = ("p_t", "grad_t", "exp_avg_t", "exp_avg_sq_t", "step_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, asked, numbers, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 2 * tl.load(group + row)
    beta = tl.load(of + 1)
    first = tl.load(asked + 0 * rows + row) != 0
    t = number(columns, rows, row, 4, step_t) + 1
    difference = double(0.0)
    difference_2 = double(0.0)
    rho = double(0.0)
    if not first:
        # 1 - beta**t
        difference = 1.0 - libdevice.pow(beta, t)
        difference_2 = 1.0 - libdevice.pow(beta, t)
        # rho = min((1 - beta)*(1 + beta**t)/((1 + beta)*(1 - beta**t)), 0.9999)
        rho = smaller(
            (1.0 - beta)
            * (1.0 + libdevice.pow(beta, t))
            / ((1.0 + beta) * (1.0 - libdevice.pow(beta, t))),
            double(0.9999),
        )
    tl.store(n + 0 * rows, difference)
    tl.store(n + 1 * rows, difference_2)
    tl.store(n + 2 * rows, rho)
    keep_number(columns, rows, row, 4, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, asked, numbers, found_inf,
    grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
    maximize: tl.constexpr,
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
    of = hypers + 2 * tl.load(group + row)
    lr = tl.load(of + 0)
    beta = tl.load(of + 1)
    first = tl.load(asked + 0 * rows + row) != 0
    difference = tl.load(n + 0 * rows)
    difference_2 = tl.load(n + 1 * rows)
    rho = tl.load(n + 2 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    # exp_avg = lerp(exp_avg, grad, 1 - beta)
    exp_avg = lerp(exp_avg, grad, (1.0 - beta).to(real))
    # exp_avg_sq = beta*exp_avg_sq + (1 - beta)*grad*grad
    exp_avg_sq = beta.to(real) * exp_avg_sq + (1.0 - beta).to(real) * grad * grad
    if first:
        # p -= lr*grad
        p = p - lr.to(real) * grad
    else:
        # mean = exp_avg/(1 - beta**t)
        mean = exp_avg / difference.to(real)
        # square = exp_avg_sq/(1 - beta**t)
        square_ = exp_avg_sq / difference_2.to(real)
        # signal = mean*mean
        signal = mean * mean
        # variance = max(square - signal, 0)/(1 - rho)
        variance = larger(square_ - signal, 0.0) / (1.0 - rho).to(real)
        # total = signal + rho*variance
        total_ = signal + rho.to(real) * variance
        # p -= lr*where(total > 0, signal/total, 0)*mean
        p = p - lr.to(real) * tl.where(
            total_ > 0.0, signal / total_, tl.full([], 0.0, real)
        ) * mean
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)


def launch(x):
    x.numbers = x.new(3 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_msvag",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg", "exp_avg_sq"),
    numbers=("step",),
    options=("maximize",),
    elementwise=True,
    cuda=_CUDA,
)
