"""Prodigy: Adam whose step size is an estimate of the distance to the solution.

Mishchenko and Defazio (2023), Prodigy: An Expeditiously Adaptive Parameter-Free
Learner, https://arxiv.org/abs/2306.06101
Follows the authors' https://github.com/konstmish/prodigy (without slice_p), but each
group steps by its own lr, and bias corrections count the updates of a parameter.
"""
# Compiled by optdsl from prodigy.opt, content 49e5fe047ce7.

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

__all__ = ["Prodigy"]


class Prodigy(Optimizer):
    """Prodigy: Adam whose step size is an estimate of the distance to the solution.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): factor of the estimated step size; leave it at 1, in [0,
            inf) (default: 1.0).
        betas (tuple[float, float], optional): decay of the first and the second moment,
            in [0, 1) (default: (0.9, 0.999)).
        beta3 (float | None, optional): decay of the estimate; none: the root of
            betas[1], in [0, 1) (default: None).
        eps (float, optional): added to the denominator, times d, in [0, inf) (default:
            1e-8).
        weight_decay (float, optional): weight decay, in [0, inf) (default: 0).
        decouple (bool, optional): decay the weights, as AdamW does (default: True).
        use_bias_correction (bool, optional): correct the moments, as Adam does
            (default: False).
        d0 (float, optional): first estimate of the distance, in (0, inf) (default:
            1e-6).
        d_coef (float, optional): factor of the estimate, in (0, inf) (default: 1.0).
        growth_rate (float, optional): largest growth of the estimate in a step, in [1,
            inf] (default: math.inf).
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
        d: estimate of the distance to the solution (0-d tensor).
        d_max: the largest estimate (0-d tensor).
        d_numerator: decaying sum of steps times inner products (0-d tensor).
        exp_avg: first moment of the gradient, times d (like p).
        exp_avg_sq: second moment of the gradient, times d squared (like p).
        s: decaying sum of steps times gradients (like p).
        p0: where it started (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = math.inf,
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
            "beta3": beta3,
            "eps": eps,
            "weight_decay": weight_decay,
            "decouple": decouple,
            "use_bias_correction": use_bias_correction,
            "d0": d0,
            "d_coef": d_coef,
            "growth_rate": growth_rate,
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
            group.setdefault("lr", 1.0)
            group.setdefault("betas", (0.9, 0.999))
            group.setdefault("beta3", None)
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0)
            group.setdefault("decouple", True)
            group.setdefault("use_bias_correction", False)
            group.setdefault("d0", 1e-6)
            group.setdefault("d_coef", 1.0)
            group.setdefault("growth_rate", math.inf)
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
        for group in self.param_groups[:1]:
            for name in ("betas", "beta3", "d0", "d_coef", "growth_rate"):
                if param_group.setdefault(name, group[name]) != group[name]:
                    given = f"Invalid {name}: {param_group[name]!r}, "
                    raise ValueError(f"{given}expected the same in all groups")
        super().add_param_group(param_group)
        for name in (
            "lr",
            "betas",
            "beta3",
            "eps",
            "weight_decay",
            "d0",
            "d_coef",
            "growth_rate",
        ):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        ses: list[Tensor],
        p0s: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Prodigy does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["s"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["p0"] = p.clone(memory_format=torch.preserve_format)
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            ses.append(state["s"])
            p0s.append(state["p0"])
            steps.append(state["step"])

    def _init_shared(self) -> None:
        """Make the numbers of groups and of the model, next to the parameters."""
        p = next(p for group in self.param_groups for p in group["params"])
        dtype = torch.promote_types(_get_scalar_dtype(), p.real.dtype)
        for group in self.param_groups:
            new = {
                "d": float(group["d0"]),
                "d_max": float(group["d0"]),
                "d_numerator": 0.0,
            }
            for name, value in new.items():
                if name not in group:
                    group[name] = torch.tensor(value, dtype=dtype)
                group[name] = group[name].to(p.device)
        for name in ("d", "d_max", "d_numerator"):
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
            for group in self.param_groups:
                for name in ("d", "d_max", "d_numerator"):
                    group.pop(name, None)
        if self._is_trial():
            # torch.distributed.checkpoint asks for the state; the first step is to
            #     come.
            self._trial = True
            for group in self.param_groups:
                self._init_group(group, [], [], [], [], [], [], [])
            self._init_shared()
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
            ses: list[Tensor] = []
            p0s: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps
            )
            if params:
                groups.append(
                    (group, [params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps])
                )
        if groups:
            self._init_shared()
        if not torch.compiler.is_compiling() and _KERNELS:
            groups = _by_kernels(self, groups)
        if groups:
            group, (params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps) = groups[0]
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_prodigy if use_foreach else _single_tensor_prodigy
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_prodigy_capturable
                if use_foreach:
                    update = _multi_tensor_prodigy_capturable
            update(groups)

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    beta3 = group["beta3"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    decouple = group["decouple"]
    use_bias_correction = group["use_bias_correction"]
    d0 = group["d0"]
    d_coef = group["d_coef"]
    growth_rate = group["growth_rate"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    if beta3 is not None:
        _check_number("beta3", beta3)
    if not (beta3 is None or 0 <= beta3 < 1):
        raise ValueError(
            f"Invalid beta3: {beta3!r}, expected a number in [0, 1), or None"
        )
    _check_number("eps", eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if decouple not in (False, True):
        raise ValueError(f"Invalid decouple: {decouple!r}, expected True or False")
    if use_bias_correction not in (False, True):
        raise ValueError(
            f"Invalid use_bias_correction: {use_bias_correction!r}, "
            f"expected True or False"
        )
    _check_number("d0", d0)
    if not 0 < d0 < math.inf:
        raise ValueError(f"Invalid d0: {d0!r}, expected a number in (0, inf)")
    _check_number("d_coef", d_coef)
    if not 0 < d_coef < math.inf:
        raise ValueError(f"Invalid d_coef: {d_coef!r}, expected a number in (0, inf)")
    _check_number("growth_rate", growth_rate)
    if not 1 <= growth_rate <= math.inf:
        raise ValueError(
            f"Invalid growth_rate: {growth_rate!r}, expected a number in [1, inf]"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["differentiable"]:
        raise RuntimeError(
            "Prodigy is not differentiable: its parameters step together"
        )


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


def _single_tensor_prodigy(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, ses, p0s, steps.
    """
    (group, _), *_ = groups
    betas = group["betas"]
    beta3 = group["beta3"]
    d0 = group["d0"]
    d_coef = group["d_coef"]
    growth_rate = group["growth_rate"]
    d = group["d"]
    d_max = group["d_max"]
    d_numerator = group["d_numerator"]

    beta1, beta2 = betas

    # decay = sqrt(beta2) if beta3 == none else beta3
    decay = math.sqrt(beta2) if beta3 is None else beta3

    d_denom_parts: list[Tensor] = []
    d_numerator_parts: list[Tensor] = []
    dlrs: list[Any] = []
    for group, columns in groups:
        lr = group["lr"]
        weight_decay = group["weight_decay"]
        decouple = group["decouple"]
        use_bias_correction = group["use_bias_correction"]

        dlr = d * lr
        params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps = columns
        correcteds: list[Any] = []
        for p, grad, exp_avg, exp_avg_sq, s, p0, step in zip(
            params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps, strict=True
        ):
            grad = grad if not group["maximize"] else -grad
            step += 1
            t = step.item()
            if torch.is_complex(p):
                p, grad, exp_avg, exp_avg_sq, s, p0 = map(
                    torch.view_as_real, (p, grad, exp_avg, exp_avg_sq, s, p0)
                )

            # corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
            #     1
            corrected = (
                math.sqrt(1 - beta2**t) / (1 - beta1**t) if use_bias_correction else 1
            )
            if weight_decay != 0 and not decouple:
                # grad += weight_decay*p
                grad = grad.add(p, alpha=weight_decay)

            # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 -
            #     p), over=model)
            d_numerator_parts.append(d / d0 * dlr * (grad * (p0 - p)).sum() * corrected)

            # exp_avg = beta1*exp_avg + (1 - beta1)*d*grad
            exp_avg.mul_(beta1).addcmul_(d, grad, value=1 - beta1)

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*d*d*grad*grad
            exp_avg_sq.mul_(beta2).addcmul_(d * d * grad, grad, value=1 - beta2)

            # s = decay*s + d/d0*corrected*dlr*grad
            s.mul_(decay).addcmul_(d / d0 * dlr, grad, value=corrected)

            # d_denom = sum(abs(s), over=model)
            d_denom_parts.append(s.abs().sum())
            if weight_decay != 0 and decouple:
                # p -= weight_decay*corrected*dlr*p
                p.addcmul_(dlr, p, value=-weight_decay * corrected)
            correcteds.append(corrected)
        columns += [correcteds]
        dlrs.append(dlr)

    # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 - p),
    #     over=model)
    d_numerator_total = _stacked(d_numerator_parts).sum()
    d_numerator.mul_(decay).add_(d_numerator_total)

    # d_denom = sum(abs(s), over=model)
    d_denom = _stacked(d_denom_parts).sum()

    # d_hat = where(d_denom > 0, d_coef*d_numerator/d_denom, d)
    d_hat = torch.where(d_denom > 0, d_numerator * d_coef / d_denom, d)

    # d_max = max(d_max, d_hat)
    torch.maximum(d_max, d_hat, out=d_max)

    # d = min(d_max, where(d == d0, max(d, d_hat), d)*growth_rate)
    d.copy_(
        torch.minimum(
            d_max, torch.where(d == d0, torch.maximum(d, d_hat), d) * growth_rate
        )
    )

    for (group, columns), dlr in zip(groups, dlrs, strict=True):
        eps = group["eps"]
        params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps, correcteds = columns
        for p, exp_avg, exp_avg_sq, corrected in zip(
            params, exp_avgs, exp_avg_sqs, correcteds, strict=True
        ):
            if torch.is_complex(p):
                p, exp_avg, exp_avg_sq = map(
                    torch.view_as_real, (p, exp_avg, exp_avg_sq)
                )

            # p -= corrected*dlr*exp_avg/(sqrt(exp_avg_sq) + d*eps)
            p.addcdiv_(
                dlr * exp_avg, exp_avg_sq.sqrt().add_(d, alpha=eps), value=-corrected
            )


def _multi_tensor_prodigy(groups: list[tuple[dict[str, Any], list[list[Any]]]]) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, ses, p0s, steps.
    """
    batches = []
    for group, (params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps) in groups:
        columns = [params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps]
        keys = [step.item() for step in steps]
        batches.append((group, _alike(columns, keys)))
    (group, _), *_ = groups
    betas = tuple(map(float, group["betas"]))
    beta3 = group["beta3"]
    d0 = float(group["d0"])
    d_coef = float(group["d_coef"])
    growth_rate = float(group["growth_rate"])
    d = group["d"]
    d_max = group["d_max"]
    d_numerator = group["d_numerator"]

    beta1, beta2 = betas

    # decay = sqrt(beta2) if beta3 == none else beta3
    decay = math.sqrt(beta2) if beta3 is None else beta3

    d_denom_parts: list[Tensor] = []
    d_numerator_parts: list[Tensor] = []
    dlrs: list[Any] = []
    for group, rows in batches:
        lr = float(group["lr"])
        weight_decay = float(group["weight_decay"])
        decouple = group["decouple"]
        use_bias_correction = group["use_bias_correction"]

        dlr = d * lr
        for columns in rows:
            params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps = columns
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
            t = steps[0].item()
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                grads = [torch.view_as_real(each) for each in grads]
                exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
                exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
                ses = [torch.view_as_real(each) for each in ses]
                p0s = [torch.view_as_real(each) for each in p0s]

            # corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
            #     1
            corrected = (
                math.sqrt(1 - beta2**t) / (1 - beta1**t) if use_bias_correction else 1
            )
            if weight_decay != 0 and not decouple:
                # grad += weight_decay*p
                grads = torch._foreach_add(grads, params, alpha=weight_decay)

            # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 -
            #     p), over=model)
            differences = torch._foreach_sub(p0s, params)
            products = torch._foreach_mul(grads, differences)
            del differences
            sums = [product.sum() for product in products]
            del products
            scale = d / d0 * dlr
            product_2s = torch._foreach_mul(sums, scale)
            d_numerator_parts += torch._foreach_mul(product_2s, corrected)

            # exp_avg = beta1*exp_avg + (1 - beta1)*d*grad
            torch._foreach_mul_(exp_avgs, beta1)
            products = torch._foreach_mul(grads, d)
            torch._foreach_add_(exp_avgs, products, alpha=1 - beta1)
            del products

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*d*d*grad*grad
            torch._foreach_mul_(exp_avg_sqs, beta2)
            scale_2 = d * d
            products = torch._foreach_mul(grads, scale_2)
            torch._foreach_addcmul_(exp_avg_sqs, products, grads, value=1 - beta2)
            del products

            # s = decay*s + d/d0*corrected*dlr*grad
            torch._foreach_mul_(ses, decay)
            scale_3 = d / d0 * dlr
            products = torch._foreach_mul(grads, scale_3)
            del grads
            torch._foreach_add_(ses, products, alpha=corrected)
            del products

            # d_denom = sum(abs(s), over=model)
            magnitudes = torch._foreach_abs(ses)
            d_denom_parts += [magnitude.sum() for magnitude in magnitudes]
            del magnitudes
            if weight_decay != 0 and decouple:
                # p -= weight_decay*corrected*dlr*p
                products = torch._foreach_mul(params, dlr)
                torch._foreach_add_(params, products, alpha=-weight_decay * corrected)
            columns += [corrected]
        dlrs.append(dlr)

    # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 - p),
    #     over=model)
    d_numerator_total = _stacked(d_numerator_parts).sum()
    d_numerator.mul_(decay).add_(d_numerator_total)

    # d_denom = sum(abs(s), over=model)
    d_denom = _stacked(d_denom_parts).sum()

    # d_hat = where(d_denom > 0, d_coef*d_numerator/d_denom, d)
    d_hat = torch.where(d_denom > 0, d_numerator * d_coef / d_denom, d)

    # d_max = max(d_max, d_hat)
    torch.maximum(d_max, d_hat, out=d_max)

    # d = min(d_max, where(d == d0, max(d, d_hat), d)*growth_rate)
    d.copy_(
        torch.minimum(
            d_max, torch.where(d == d0, torch.maximum(d, d_hat), d) * growth_rate
        )
    )

    for (group, rows), dlr in zip(batches, dlrs, strict=True):
        eps = float(group["eps"])
        for columns in rows:
            params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps, corrected = columns
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
                exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]

            # p -= corrected*dlr*exp_avg/(sqrt(exp_avg_sq) + d*eps)
            products = torch._foreach_mul(exp_avgs, dlr)
            roots = torch._foreach_sqrt(exp_avg_sqs)
            torch._foreach_add_(roots, d, alpha=eps)
            torch._foreach_addcdiv_(params, products, roots, value=-corrected)


def _single_tensor_prodigy_capturable(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, ses, p0s, steps.
    """
    (group, _), *_ = groups
    betas = group["betas"]
    beta3 = group["beta3"]
    d0 = group["d0"]
    d_coef = group["d_coef"]
    growth_rate = group["growth_rate"]
    d = group["d"]
    d_max = group["d_max"]
    d_numerator = group["d_numerator"]

    beta1, beta2 = betas

    # decay = sqrt(beta2) if beta3 == none else beta3
    decay = math.sqrt(beta2) if beta3 is None else beta3

    d_denom_parts: list[Tensor] = []
    d_numerator_parts: list[Tensor] = []
    dlrs: list[Any] = []
    for group, columns in groups:
        lr = group["lr"]
        weight_decay = group["weight_decay"]
        decouple = group["decouple"]
        use_bias_correction = group["use_bias_correction"]

        dlr = d * lr
        params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps = columns
        correcteds: list[Any] = []
        for p, grad, exp_avg, exp_avg_sq, s, p0, step in zip(
            params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps, strict=True
        ):
            grad = grad if not group["maximize"] else -grad
            step += 1
            if torch.is_complex(p):
                p, grad, exp_avg, exp_avg_sq, s, p0 = map(
                    torch.view_as_real, (p, grad, exp_avg, exp_avg_sq, s, p0)
                )

            # corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
            #     1
            if use_bias_correction:
                corrected = (1 - beta2**step).sqrt() / (1 - beta1**step)
            else:
                corrected = torch.as_tensor(1, dtype=_get_scalar_dtype())
            if weight_decay != 0 and not decouple:
                # grad += weight_decay*p
                grad = grad.add(p, alpha=weight_decay)

            # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 -
            #     p), over=model)
            d_numerator_parts.append(d / d0 * corrected * dlr * (grad * (p0 - p)).sum())

            # exp_avg = beta1*exp_avg + (1 - beta1)*d*grad
            exp_avg.mul_(beta1).addcmul_(d, grad, value=1 - beta1)

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*d*d*grad*grad
            exp_avg_sq.mul_(beta2).addcmul_(d * d * grad, grad, value=1 - beta2)

            # s = decay*s + d/d0*corrected*dlr*grad
            s.mul_(decay).addcmul_(d / d0 * corrected * dlr, grad)

            # d_denom = sum(abs(s), over=model)
            d_denom_parts.append(s.abs().sum())
            if weight_decay != 0 and decouple:
                # p -= weight_decay*corrected*dlr*p
                p.addcmul_(corrected * dlr, p, value=-weight_decay)
            correcteds.append(corrected)
        columns += [correcteds]
        dlrs.append(dlr)

    # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 - p),
    #     over=model)
    d_numerator_total = _stacked(d_numerator_parts).sum()
    d_numerator.mul_(decay).add_(d_numerator_total)

    # d_denom = sum(abs(s), over=model)
    d_denom = _stacked(d_denom_parts).sum()

    # d_hat = where(d_denom > 0, d_coef*d_numerator/d_denom, d)
    d_hat = torch.where(d_denom > 0, d_numerator * d_coef / d_denom, d)

    # d_max = max(d_max, d_hat)
    torch.maximum(d_max, d_hat, out=d_max)

    # d = min(d_max, where(d == d0, max(d, d_hat), d)*growth_rate)
    d.copy_(
        torch.minimum(
            d_max, torch.where(d == d0, torch.maximum(d, d_hat), d) * growth_rate
        )
    )

    for (group, columns), dlr in zip(groups, dlrs, strict=True):
        eps = group["eps"]
        params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps, correcteds = columns
        for p, exp_avg, exp_avg_sq, corrected in zip(
            params, exp_avgs, exp_avg_sqs, correcteds, strict=True
        ):
            if torch.is_complex(p):
                p, exp_avg, exp_avg_sq = map(
                    torch.view_as_real, (p, exp_avg, exp_avg_sq)
                )

            # p -= corrected*dlr*exp_avg/(sqrt(exp_avg_sq) + d*eps)
            p.addcdiv_(
                corrected * dlr * exp_avg,
                exp_avg_sq.sqrt().add_(d, alpha=eps),
                value=-1,
            )


def _multi_tensor_prodigy_capturable(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, ses, p0s, steps.
    """
    batches = []
    for group, (params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps) in groups:
        columns = [params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps]
        batches.append((group, _alike(columns)))
    (group, _), *_ = groups
    betas = group["betas"]
    beta3 = group["beta3"]
    d0 = group["d0"]
    d_coef = group["d_coef"]
    growth_rate = group["growth_rate"]
    d = group["d"]
    d_max = group["d_max"]
    d_numerator = group["d_numerator"]

    beta1, beta2 = betas

    # decay = sqrt(beta2) if beta3 == none else beta3
    decay = math.sqrt(beta2) if beta3 is None else beta3

    d_denom_parts: list[Tensor] = []
    d_numerator_parts: list[Tensor] = []
    dlrs: list[Any] = []
    for group, rows in batches:
        lr = group["lr"]
        weight_decay = group["weight_decay"]
        decouple = group["decouple"]
        use_bias_correction = group["use_bias_correction"]

        dlr = d * lr
        for columns in rows:
            params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps = columns
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            torch._foreach_add_(steps, 1)
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                grads = [torch.view_as_real(each) for each in grads]
                exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
                exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
                ses = [torch.view_as_real(each) for each in ses]
                p0s = [torch.view_as_real(each) for each in p0s]

            # corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
            #     1
            if use_bias_correction:
                powers = torch._foreach_pow(beta2, steps)
                torch._foreach_neg_(powers)
                torch._foreach_add_(powers, 1)
                roots = torch._foreach_sqrt(powers)
                power_2s = torch._foreach_pow(beta1, steps)
                torch._foreach_neg_(power_2s)
                torch._foreach_add_(power_2s, 1)
                correcteds = torch._foreach_div(roots, power_2s)
            else:
                correcteds = [
                    torch.as_tensor(1, dtype=_get_scalar_dtype()) for _ in params
                ]
            if weight_decay != 0 and not decouple:
                # grad += weight_decay*p
                products = torch._foreach_mul(params, weight_decay)
                grads = torch._foreach_add(grads, products)
                del products

            # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 -
            #     p), over=model)
            scale = d / d0
            products = torch._foreach_mul(correcteds, scale)
            product_2s = torch._foreach_mul(products, dlr)
            differences = torch._foreach_sub(p0s, params)
            product_3s = torch._foreach_mul(grads, differences)
            del differences
            sums = [product_3.sum() for product_3 in product_3s]
            del product_3s
            d_numerator_parts += torch._foreach_mul(product_2s, sums)

            # exp_avg = beta1*exp_avg + (1 - beta1)*d*grad
            torch._foreach_mul_(exp_avgs, beta1)
            products = torch._foreach_mul(grads, d)
            product_2s = torch._foreach_mul(products, 1 - beta1)
            del products
            torch._foreach_add_(exp_avgs, product_2s)
            del product_2s

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*d*d*grad*grad
            torch._foreach_mul_(exp_avg_sqs, beta2)
            scale_2 = d * d
            products = torch._foreach_mul(grads, scale_2)
            product_2s = torch._foreach_mul(products, 1 - beta2)
            del products
            torch._foreach_addcmul_(exp_avg_sqs, product_2s, grads)
            del product_2s

            # s = decay*s + d/d0*corrected*dlr*grad
            torch._foreach_mul_(ses, decay)
            scale_3 = d / d0
            products = torch._foreach_mul(correcteds, scale_3)
            product_2s = torch._foreach_mul(products, dlr)
            torch._foreach_addcmul_(ses, product_2s, grads)
            del grads

            # d_denom = sum(abs(s), over=model)
            magnitudes = torch._foreach_abs(ses)
            d_denom_parts += [magnitude.sum() for magnitude in magnitudes]
            if weight_decay != 0 and decouple:
                # p -= weight_decay*corrected*dlr*p
                products = torch._foreach_mul(correcteds, dlr)
                product_2s = torch._foreach_mul(products, -weight_decay)
                torch._foreach_addcmul_(params, product_2s, params)
            columns += [correcteds]
        dlrs.append(dlr)

    # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 - p),
    #     over=model)
    d_numerator_total = _stacked(d_numerator_parts).sum()
    d_numerator.mul_(decay).add_(d_numerator_total)

    # d_denom = sum(abs(s), over=model)
    d_denom = _stacked(d_denom_parts).sum()

    # d_hat = where(d_denom > 0, d_coef*d_numerator/d_denom, d)
    d_hat = torch.where(d_denom > 0, d_numerator * d_coef / d_denom, d)

    # d_max = max(d_max, d_hat)
    torch.maximum(d_max, d_hat, out=d_max)

    # d = min(d_max, where(d == d0, max(d, d_hat), d)*growth_rate)
    d.copy_(
        torch.minimum(
            d_max, torch.where(d == d0, torch.maximum(d, d_hat), d) * growth_rate
        )
    )

    for (group, rows), dlr in zip(batches, dlrs, strict=True):
        eps = group["eps"]
        for columns in rows:
            params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps, correcteds = columns
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
                exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]

            # p -= corrected*dlr*exp_avg/(sqrt(exp_avg_sq) + d*eps)
            products = torch._foreach_mul(correcteds, dlr)
            product_2s = torch._foreach_mul(products, exp_avgs)
            roots = torch._foreach_sqrt(exp_avg_sqs)
            scale_4 = d * eps
            torch._foreach_add_(roots, scale_4)
            torch._foreach_addcdiv_(params, product_2s, roots, value=-1)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["beta3"],
        group["eps"],
        group["weight_decay"],
        group["d0"],
        group["d_coef"],
        group["growth_rate"],
    ]
    options = [
        group["maximize"],
        group["beta3"] is None,
        group["use_bias_correction"],
        group["weight_decay"] != 0,
        group["decouple"],
    ]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avgs, exp_avg_sqs, ses, p0s, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs, exp_avg_sqs, ses, p0s],
            numbers=[
                [group["d"]] * len(params),
                [group["d_max"]] * len(params),
                [group["d_numerator"]] * len(params),
                steps,
            ],
        )
    return launch.run()


_CPU = r"""// Prodigy in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_t *exp_avg_sq;
    s_t *s;
    p0_t *p0;
    d_t *d;
    d_max_t *d_max;
    d_numerator_t *d_numerator;
    step_t *step;
    double lr;
    double betas[2];
    double beta3;
    double eps;
    double weight_decay;
    double d0;
    double d_coef;
    double growth_rate;
    bool maximize, beta3_is_none, use_bias_correction, weight_decay_is_not_0, decouple;
};

// What is worked out once a tensor.
struct Numbers {
    double d, d_max, d_numerator, t, beta1, beta2, decay, dlr, corrected, dot,
        d_numerator_part, product, d_denom_part, d_numerator_total, d_denom, d_hat;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    // decay = sqrt(beta2) if beta3 == none else beta3
    n.decay = row.beta3_is_none ? sqrt_(n.beta2) : row.beta3;
    // dlr = d*lr
    n.dlr = n.d * row.lr;
    // corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
    //     1
    n.corrected = row.use_bias_correction ? sqrt_(1.0 - std::pow(n.beta2, n.t)) / (1.0 -
        std::pow(n.beta1, n.t)) : 1.0;
    // d/d0*corrected*dlr
    n.product = n.d / row.d0 * n.corrected * n.dlr;
    return are_finite(n.decay, n.corrected);
}

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double dot = 0;
    double d_denom_part = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg, &Row::exp_avg_sq, &Row::s,
            &Row::p0);
        #pragma omp simd reduction(+: dot, d_denom_part)
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (row.maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            real s = load(row.s[i]);
            const real p0 = load(row.p0[i]);
            if (row.weight_decay_is_not_0 && !row.decouple) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // dot(grad, p0 - p)
            dot += double(grad * (p0 - p));
            // exp_avg = beta1*exp_avg + (1 - beta1)*d*grad
            exp_avg = kept<exp_avg_t>(real(n.beta1) * exp_avg + real((1.0 - n.beta1) *
                n.d) * grad);
            // exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*d*d*grad*grad
            exp_avg_sq = kept<exp_avg_sq_t>(real(n.beta2) * exp_avg_sq + real((1.0 -
                n.beta2) * n.d * n.d) * grad * grad);
            // s = decay*s + d/d0*corrected*dlr*grad
            s = real(n.decay) * s + real(n.product) * grad;
            // d_denom = sum(abs(s), over=model)
            d_denom_part += double(abs_(s));
            if (row.weight_decay_is_not_0 && row.decouple) {
                // p -= weight_decay*corrected*dlr*p
                p = kept<p_t>(p - real(row.weight_decay * n.corrected * n.dlr) * p);
            }
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
            store(row.exp_avg_sq[i], exp_avg_sq);
            store(row.s[i], s);
        }
    }
    sums[0] = dot;
    sums[1] = d_denom_part;
}

static void numbers_2(const Row &row, Numbers &n) {
    // d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 -
    //     p), over=model)
    n.d_numerator_part = n.d / row.d0 * n.corrected * n.dlr * n.dot;
}

static void numbers_3(const Row &row, Numbers &n) {
    // d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 -
    //     p), over=model)
    n.d_numerator = n.decay * n.d_numerator + n.d_numerator_total;
    // d_hat = where(d_denom > 0, d_coef*d_numerator/d_denom, d)
    n.d_hat = n.d_denom > 0.0 ? row.d_coef * n.d_numerator / n.d_denom : n.d;
    // d_max = max(d_max, d_hat)
    n.d_max = max_(n.d_max, n.d_hat);
    // d = min(d_max, where(d == d0, max(d, d_hat), d)*growth_rate)
    n.d = min_(n.d_max, (kept<d_t>(n.d) == kept<d_t>(row.d0) ? max_(n.d, n.d_hat) : n.d)
        * row.growth_rate);
}

static void pass_2(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::exp_avg, &Row::exp_avg_sq);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real exp_avg = load(row.exp_avg[i]);
            const real exp_avg_sq = load(row.exp_avg_sq[i]);
            // p -= corrected*dlr*exp_avg/(sqrt(exp_avg_sq) + d*eps)
            p = p - real(n.corrected * n.dlr) * exp_avg / (sqrt_(exp_avg_sq) + real(n.d
                * row.eps));
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_prodigy(const Table *table) {
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
        row.s = (s_t *)table->columns[4][at];
        row.p0 = (p0_t *)table->columns[5][at];
        row.d = (d_t *)table->columns[6][at];
        row.d_max = (d_max_t *)table->columns[7][at];
        row.d_numerator = (d_numerator_t *)table->columns[8][at];
        row.step = (step_t *)table->columns[9][at];
        const double *hyper = table->hypers + 14 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.beta3 = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        row.d0 = *hyper++;
        row.d_coef = *hyper++;
        row.growth_rate = *hyper++;
        row.maximize = *hyper++ != 0;
        row.beta3_is_none = *hyper++ != 0;
        row.use_bias_correction = *hyper++ != 0;
        row.weight_decay_is_not_0 = *hyper++ != 0;
        row.decouple = *hyper++ != 0;
        numbers[at].d = load(*row.d);
        numbers[at].d_max = load(*row.d_max);
        numbers[at].d_numerator = load(*row.d_numerator);
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    std::vector<double> parts(2 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[2 * at]);
    });
    const auto sums = gathered<2>(
        *table, chunks, parts, {0, 0},
        {added, added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].dot = sums[2 * at + 0];
        numbers[at].d_denom_part = sums[2 * at + 1];
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    // sum(d/d0*corrected*dlr*dot(grad, p0 - p), over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].d_numerator_part); },
           [&](int64_t at, double value, double count) {
               numbers[at].d_numerator_total = value;
           });
    // sum(abs(s), over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].d_denom_part); },
           [&](int64_t at, double value, double count) {
               numbers[at].d_denom = value;
           });
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_3(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].d, numbers[at].d);
        store(*rows[at].d_max, numbers[at].d_max);
        store(*rows[at].d_numerator, numbers[at].d_numerator);
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# Prodigy in 2 passes over memory.

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
    kept,
    larger,
    number,
    overflowed,
    smaller,
    spread,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = (
    "p_t",
    "grad_t",
    "exp_avg_t",
    "exp_avg_sq_t",
    "s_t",
    "p0_t",
    "d_t",
    "d_max_t",
    "d_numerator_t",
    "step_t",
)
OPTIONS = ()


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    d_t: tl.constexpr,
    d_max_t: tl.constexpr,
    d_numerator_t: tl.constexpr,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 14 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    beta3 = tl.load(of + 3)
    d0 = tl.load(of + 6)
    beta3_is_none = tl.load(of + 10) != 0
    use_bias_correction = tl.load(of + 11) != 0
    d = number(columns, rows, row, 6, d_t)
    d_max = number(columns, rows, row, 7, d_max_t)
    d_numerator = number(columns, rows, row, 8, d_numerator_t)
    t = number(columns, rows, row, 9, step_t) + 1
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    # decay = sqrt(beta2) if beta3 == none else beta3
    decay = tl.where(beta3_is_none, tl.sqrt(beta2), beta3)
    # dlr = d*lr
    dlr = d * lr
    # corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
    #     1
    corrected = tl.where(
        use_bias_correction,
        tl.sqrt(1.0 - libdevice.pow(beta2, t)) / (1.0 - libdevice.pow(beta1, t)),
        double(1.0),
    )
    # d/d0*corrected*dlr
    product = d / d0 * corrected * dlr
    tl.store(n + 0 * rows, beta1)
    tl.store(n + 1 * rows, beta2)
    tl.store(n + 2 * rows, corrected)
    tl.store(n + 3 * rows, d)
    tl.store(n + 4 * rows, decay)
    tl.store(n + 5 * rows, dlr)
    tl.store(n + 6 * rows, product)
    tl.store(n + 10 * rows, d_max)
    tl.store(n + 11 * rows, d_numerator)
    tl.store(n + 13 * rows, t)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, group, hypers, numbers, parts,
    found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
    s_t: tl.constexpr,
    p0_t: tl.constexpr,
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
    of = hypers + 14 * tl.load(group + row)
    weight_decay = tl.load(of + 5)
    maximize = tl.load(of + 9) != 0
    weight_decay_is_not_0 = tl.load(of + 12) != 0
    decouple = tl.load(of + 13) != 0
    beta1 = tl.load(n + 0 * rows)
    beta2 = tl.load(n + 1 * rows)
    corrected = tl.load(n + 2 * rows)
    d = tl.load(n + 3 * rows)
    decay = tl.load(n + 4 * rows)
    dlr = tl.load(n + 5 * rows)
    product = tl.load(n + 6 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    s_at = column(columns, rows, row, 4, s_t, aligned) + begin
    p0_at = column(columns, rows, row, 5, p0_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    s = elements(s_at, i, left, real)
    p0 = elements(p0_at, i, left, real)
    if weight_decay_is_not_0 and not decouple:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # dot(grad, p0 - p)
    dot = total(grad * (p0 - p), i, left)
    # exp_avg = beta1*exp_avg + (1 - beta1)*d*grad
    exp_avg = kept(
        beta1.to(real) * exp_avg + ((1.0 - beta1) * d).to(real) * grad, exp_avg_t
    )
    # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*d*d*grad*grad
    exp_avg_sq = kept(
        beta2.to(real) * exp_avg_sq + ((1.0 - beta2) * d * d).to(real) * grad * grad,
        exp_avg_sq_t,
    )
    # s = decay*s + d/d0*corrected*dlr*grad
    s = decay.to(real) * s + product.to(real) * grad
    # d_denom = sum(abs(s), over=model)
    d_denom_part = total(tl.abs(s), i, left)
    if weight_decay_is_not_0 and decouple:
        # p -= weight_decay*corrected*dlr*p
        p = kept(p - (weight_decay * corrected * dlr).to(real) * p, p_t)
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)
    keep(s_at, i, left, s)
    tl.store(parts + 0 * chunks + chunk, dot)
    tl.store(parts + 1 * chunks + chunk, d_denom_part)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    rows, chunks, starts, group, hypers, numbers, parts, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 14 * tl.load(group + row)
    d0 = tl.load(of + 6)
    corrected = tl.load(n + 2 * rows)
    d = tl.load(n + 3 * rows)
    dlr = tl.load(n + 5 * rows)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # dot(grad, p0 - p)
    dot = sum_of(parts + 0 * chunks, begin, end)
    # d_denom = sum(abs(s), over=model)
    d_denom_part = sum_of(parts + 1 * chunks, begin, end)
    # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 -
    #     p), over=model)
    d_numerator_part = d / d0 * corrected * dlr * dot
    tl.store(n + 7 * rows, d_numerator_part)
    tl.store(n + 8 * rows, d_denom_part)


@triton.jit(do_not_specialize=["rows"])
def across_1(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # sum(d/d0*corrected*dlr*dot(grad, p0 - p), over=model)
    d_numerator_total = sum_of(numbers + 7 * rows, begin, end)
    spread(numbers + 12 * rows, begin, end, d_numerator_total)


@triton.jit(do_not_specialize=["rows"])
def across_2(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # sum(abs(s), over=model)
    d_denom = sum_of(numbers + 8 * rows, begin, end)
    spread(numbers + 9 * rows, begin, end, d_denom)


@triton.jit(do_not_specialize=["rows"])
def numbers_3(
    columns, rows, group, hypers, numbers, found_inf,
    d_t: tl.constexpr,
    d_max_t: tl.constexpr,
    d_numerator_t: tl.constexpr,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 14 * tl.load(group + row)
    d0 = tl.load(of + 6)
    d_coef = tl.load(of + 7)
    growth_rate = tl.load(of + 8)
    d = tl.load(n + 3 * rows)
    decay = tl.load(n + 4 * rows)
    d_denom = tl.load(n + 9 * rows)
    d_max = tl.load(n + 10 * rows)
    d_numerator = tl.load(n + 11 * rows)
    d_numerator_total = tl.load(n + 12 * rows)
    t = tl.load(n + 13 * rows)
    # d_numerator = decay*d_numerator + sum(d/d0*corrected*dlr*dot(grad, p0 -
    #     p), over=model)
    d_numerator = decay * d_numerator + d_numerator_total
    # d_hat = where(d_denom > 0, d_coef*d_numerator/d_denom, d)
    d_hat = tl.where(d_denom > 0.0, d_coef * d_numerator / d_denom, d)
    # d_max = max(d_max, d_hat)
    d_max = larger(d_max, d_hat)
    # d = min(d_max, where(d == d0, max(d, d_hat), d)*growth_rate)
    d = smaller(
        d_max,
        tl.where(kept(d, d_t) == kept(d0, d_t), larger(d, d_hat), d) * growth_rate,
    )
    tl.store(n + 3 * rows, d)
    keep_number(columns, rows, row, 6, d_t, d)
    keep_number(columns, rows, row, 7, d_max_t, d_max)
    keep_number(columns, rows, row, 8, d_numerator_t, d_numerator)
    keep_number(columns, rows, row, 9, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_2(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf,
    p_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
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
    of = hypers + 14 * tl.load(group + row)
    eps = tl.load(of + 4)
    corrected = tl.load(n + 2 * rows)
    d = tl.load(n + 3 * rows)
    dlr = tl.load(n + 5 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    p = elements(p_at, i, left, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    # p -= corrected*dlr*exp_avg/(sqrt(exp_avg_sq) + d*eps)
    p = p - (corrected * dlr).to(real) * exp_avg / (
        tl.sqrt(exp_avg_sq) + (d * eps).to(real)
    )
    keep(p_at, i, left, p)


def launch(x):
    x.numbers = x.new(14 * x.rows)
    x.each_row(numbers_1)
    x.parts = x.new(2 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.once(across_1)
    x.once(across_2)
    x.each_row(numbers_3)
    x.each_chunk(pass_2)
"""

_KERNELS = _Kernel and _Kernel(
    "step_prodigy",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg", "exp_avg_sq", "s", "p0"),
    numbers=("d", "d_max", "d_numerator", "step"),
    options=(
        "maximize",
        "beta3_is_none",
        "use_bias_correction",
        "weight_decay_is_not_0",
        "decouple",
    ),
    together=True,
    cuda=_CUDA,
    scaled=True,
)
