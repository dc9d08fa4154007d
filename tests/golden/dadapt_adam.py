"""Adam with D-adaptation: steps as long as a growing bound of the way to go.

Defazio and Mishchenko (2023), Learning-Rate-Free Learning by D-Adaptation,
https://arxiv.org/abs/2301.07733
Follows the authors' https://github.com/facebookresearch/dadaptation, but each group
steps by its own lr, where theirs takes the largest for all, and bias corrections count
the updates of a parameter.
"""
# Compiled by optdsl from dadapt_adam.opt, content c5461832d562.

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

__all__ = ["DAdaptAdam"]


class DAdaptAdam(Optimizer):
    """Adam with D-adaptation: steps as long as a growing bound of the way to go.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): factor of the estimated step size; leave it at 1, in [0,
            inf) (default: 1.0).
        betas (tuple[float, float], optional): decay of the first and the second moment,
            in [0, 1) (default: (0.9, 0.999)).
        eps (float, optional): added to the denominator, in [0, inf) (default: 1e-8).
        weight_decay (float, optional): weight decay, in [0, inf) (default: 0).
        decouple (bool, optional): decay the weights, as AdamW does (default: False).
        use_bias_correction (bool, optional): correct the moments, as Adam does
            (default: False).
        d0 (float, optional): first estimate of the distance, in (0, inf) (default:
            1e-6).
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
        numerator: running mean of steps times inner products (0-d tensor).
        exp_avg: first moment of the steps (like p).
        exp_avg_sq: second moment of the gradient (like p).
        s: running mean of steps times gradients (like p).

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
        eps: float = 1e-8,
        weight_decay: float = 0,
        decouple: bool = False,
        use_bias_correction: bool = False,
        d0: float = 1e-6,
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
            "eps": eps,
            "weight_decay": weight_decay,
            "decouple": decouple,
            "use_bias_correction": use_bias_correction,
            "d0": d0,
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
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0)
            group.setdefault("decouple", False)
            group.setdefault("use_bias_correction", False)
            group.setdefault("d0", 1e-6)
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
            for name in ("betas", "d0", "growth_rate"):
                if param_group.setdefault(name, group[name]) != group[name]:
                    given = f"Invalid {name}: {param_group[name]!r}, "
                    raise ValueError(f"{given}expected the same in all groups")
        super().add_param_group(param_group)
        for name in ("lr", "betas", "eps", "weight_decay", "d0", "growth_rate"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        ses: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("DAdaptAdam does not support sparse gradients")
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
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            ses.append(state["s"])
            steps.append(state["step"])

    def _init_shared(self) -> None:
        """Make the numbers of groups and of the model, next to the parameters."""
        p = next(p for group in self.param_groups for p in group["params"])
        dtype = torch.promote_types(_get_scalar_dtype(), p.real.dtype)
        for group in self.param_groups:
            new = {
                "d": float(group["d0"]),
                "numerator": 0.0,
            }
            for name, value in new.items():
                if name not in group:
                    group[name] = torch.tensor(value, dtype=dtype)
                group[name] = group[name].to(p.device)
        for name in ("d", "numerator"):
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
                for name in ("d", "numerator"):
                    group.pop(name, None)
        if self._is_trial():
            # torch.distributed.checkpoint asks for the state; the first step is to
            #     come.
            self._trial = True
            for group in self.param_groups:
                self._init_group(group, [], [], [], [], [], [])
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
            steps: list[Tensor] = []
            self._init_group(group, params, grads, exp_avgs, exp_avg_sqs, ses, steps)
            if params:
                groups.append(
                    (group, [params, grads, exp_avgs, exp_avg_sqs, ses, steps])
                )
        if groups:
            self._init_shared()
        if not torch.compiler.is_compiling() and _KERNELS:
            groups = _by_kernels(self, groups)
        if groups:
            group, (params, grads, exp_avgs, exp_avg_sqs, ses, steps) = groups[0]
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = (
                _multi_tensor_dadapt_adam if use_foreach else _single_tensor_dadapt_adam
            )
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_dadapt_adam_capturable
                if use_foreach:
                    update = _multi_tensor_dadapt_adam_capturable
            update(groups)

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    decouple = group["decouple"]
    use_bias_correction = group["use_bias_correction"]
    d0 = group["d0"]
    growth_rate = group["growth_rate"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
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
            "DAdaptAdam is not differentiable: its parameters step together"
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


def _single_tensor_dadapt_adam(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, ses, steps.
    """
    (group, _), *_ = groups
    betas = group["betas"]
    growth_rate = group["growth_rate"]
    d = group["d"]
    numerator = group["numerator"]

    beta1, beta2 = betas

    # beta3 = sqrt(beta2)
    beta3 = math.sqrt(beta2)

    inner_parts: list[Tensor] = []
    length_parts: list[Tensor] = []
    for group, (params, grads, exp_avgs, exp_avg_sqs, ses, steps) in groups:
        lr = group["lr"]
        eps = group["eps"]
        weight_decay = group["weight_decay"]
        decouple = group["decouple"]
        use_bias_correction = group["use_bias_correction"]

        dlr = d * lr
        for p, grad, exp_avg, exp_avg_sq, s, step in zip(
            params, grads, exp_avgs, exp_avg_sqs, ses, steps, strict=True
        ):
            grad = grad if not group["maximize"] else -grad
            step += 1
            t = step.item()
            if torch.is_complex(p):
                p, grad, exp_avg, exp_avg_sq, s = map(
                    torch.view_as_real, (p, grad, exp_avg, exp_avg_sq, s)
                )

            # corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
            #     1
            corrected = (
                math.sqrt(1 - beta2**t) / (1 - beta1**t) if use_bias_correction else 1
            )
            if weight_decay != 0 and not decouple:
                # grad += weight_decay*p
                grad = grad.add(p, alpha=weight_decay)

            # inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)),
            #     over=model)
            inner_parts.append(
                dlr * (grad * (s / exp_avg_sq.sqrt().add_(eps))).sum() * corrected
            )

            # exp_avg = beta1*exp_avg + (1 - beta1)*corrected*dlr*grad
            exp_avg.mul_(beta1).addcmul_(dlr, grad, value=(1 - beta1) * corrected)

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

            # s = beta3*s + (1 - beta3)*corrected*dlr*grad
            s.mul_(beta3).addcmul_(dlr, grad, value=(1 - beta3) * corrected)

            # length = sum(abs(s), over=model)
            length_parts.append(s.abs().sum())
            if weight_decay != 0 and decouple:
                # p -= weight_decay*corrected*dlr*p
                p.addcmul_(dlr, p, value=-weight_decay * corrected)

            # p -= exp_avg/(sqrt(exp_avg_sq) + eps)
            p.addcdiv_(exp_avg, exp_avg_sq.sqrt().add_(eps), value=-1)

    # inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)), over=model)
    inner = _stacked(inner_parts).sum()

    # numerator = beta3*numerator + (1 - beta3)*inner
    numerator.mul_(beta3).add_(inner, alpha=1 - beta3)

    # length = sum(abs(s), over=model)
    length = _stacked(length_parts).sum()

    # d_hat = where(length > 0, numerator/((1 - beta3)*length), d)
    d_hat = torch.where(length > 0, numerator / (length * (1 - beta3)), d)

    # d = max(d, min(d_hat, d*growth_rate))
    torch.maximum(d, torch.minimum(d * growth_rate, d_hat), out=d)


def _multi_tensor_dadapt_adam(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, ses, steps.
    """
    batches = []
    for group, (params, grads, exp_avgs, exp_avg_sqs, ses, steps) in groups:
        columns = [params, grads, exp_avgs, exp_avg_sqs, ses, steps]
        keys = [step.item() for step in steps]
        batches.append((group, _alike(columns, keys)))
    (group, _), *_ = groups
    betas = tuple(map(float, group["betas"]))
    growth_rate = float(group["growth_rate"])
    d = group["d"]
    numerator = group["numerator"]

    beta1, beta2 = betas

    # beta3 = sqrt(beta2)
    beta3 = math.sqrt(beta2)

    inner_parts: list[Tensor] = []
    length_parts: list[Tensor] = []
    for group, rows in batches:
        lr = float(group["lr"])
        eps = float(group["eps"])
        weight_decay = float(group["weight_decay"])
        decouple = group["decouple"]
        use_bias_correction = group["use_bias_correction"]

        dlr = d * lr
        for params, grads, exp_avgs, exp_avg_sqs, ses, steps in rows:
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

            # corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
            #     1
            corrected = (
                math.sqrt(1 - beta2**t) / (1 - beta1**t) if use_bias_correction else 1
            )
            if weight_decay != 0 and not decouple:
                # grad += weight_decay*p
                grads = torch._foreach_add(grads, params, alpha=weight_decay)

            # inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)),
            #     over=model)
            roots = torch._foreach_sqrt(exp_avg_sqs)
            torch._foreach_add_(roots, eps)
            torch._foreach_reciprocal_(roots)
            torch._foreach_mul_(roots, ses)
            products = torch._foreach_mul(grads, roots)
            del roots
            sums = [product.sum() for product in products]
            del products
            product_2s = torch._foreach_mul(sums, dlr)
            inner_parts += torch._foreach_mul(product_2s, corrected)

            # exp_avg = beta1*exp_avg + (1 - beta1)*corrected*dlr*grad
            torch._foreach_mul_(exp_avgs, beta1)
            products = torch._foreach_mul(grads, dlr)
            torch._foreach_add_(exp_avgs, products, alpha=(1 - beta1) * corrected)
            del products

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            torch._foreach_mul_(exp_avg_sqs, beta2)
            torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)

            # s = beta3*s + (1 - beta3)*corrected*dlr*grad
            torch._foreach_mul_(ses, beta3)
            products = torch._foreach_mul(grads, dlr)
            del grads
            torch._foreach_add_(ses, products, alpha=(1 - beta3) * corrected)
            del products

            # length = sum(abs(s), over=model)
            magnitudes = torch._foreach_abs(ses)
            length_parts += [magnitude.sum() for magnitude in magnitudes]
            del magnitudes
            if weight_decay != 0 and decouple:
                # p -= weight_decay*corrected*dlr*p
                products = torch._foreach_mul(params, dlr)
                torch._foreach_add_(params, products, alpha=-weight_decay * corrected)
                del products

            # p -= exp_avg/(sqrt(exp_avg_sq) + eps)
            roots = torch._foreach_sqrt(exp_avg_sqs)
            torch._foreach_add_(roots, eps)
            torch._foreach_addcdiv_(params, exp_avgs, roots, value=-1)

    # inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)), over=model)
    inner = _stacked(inner_parts).sum()

    # numerator = beta3*numerator + (1 - beta3)*inner
    numerator.mul_(beta3).add_(inner, alpha=1 - beta3)

    # length = sum(abs(s), over=model)
    length = _stacked(length_parts).sum()

    # d_hat = where(length > 0, numerator/((1 - beta3)*length), d)
    d_hat = torch.where(length > 0, numerator / (length * (1 - beta3)), d)

    # d = max(d, min(d_hat, d*growth_rate))
    torch.maximum(d, torch.minimum(d * growth_rate, d_hat), out=d)


def _single_tensor_dadapt_adam_capturable(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, ses, steps.
    """
    (group, _), *_ = groups
    betas = group["betas"]
    growth_rate = group["growth_rate"]
    d = group["d"]
    numerator = group["numerator"]

    beta1, beta2 = betas

    # beta3 = sqrt(beta2)
    beta3 = math.sqrt(beta2)

    inner_parts: list[Tensor] = []
    length_parts: list[Tensor] = []
    for group, (params, grads, exp_avgs, exp_avg_sqs, ses, steps) in groups:
        lr = group["lr"]
        eps = group["eps"]
        weight_decay = group["weight_decay"]
        decouple = group["decouple"]
        use_bias_correction = group["use_bias_correction"]

        dlr = d * lr
        for p, grad, exp_avg, exp_avg_sq, s, step in zip(
            params, grads, exp_avgs, exp_avg_sqs, ses, steps, strict=True
        ):
            grad = grad if not group["maximize"] else -grad
            step += 1
            if torch.is_complex(p):
                p, grad, exp_avg, exp_avg_sq, s = map(
                    torch.view_as_real, (p, grad, exp_avg, exp_avg_sq, s)
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

            # inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)),
            #     over=model)
            inner_parts.append(
                corrected * dlr * (grad * (s / exp_avg_sq.sqrt().add_(eps))).sum()
            )

            # exp_avg = beta1*exp_avg + (1 - beta1)*corrected*dlr*grad
            exp_avg.mul_(beta1).addcmul_(corrected * dlr, grad, value=1 - beta1)

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

            # s = beta3*s + (1 - beta3)*corrected*dlr*grad
            s.mul_(beta3).addcmul_(corrected * dlr, grad, value=1 - beta3)

            # length = sum(abs(s), over=model)
            length_parts.append(s.abs().sum())
            if weight_decay != 0 and decouple:
                # p -= weight_decay*corrected*dlr*p
                p.addcmul_(corrected * dlr, p, value=-weight_decay)

            # p -= exp_avg/(sqrt(exp_avg_sq) + eps)
            p.addcdiv_(exp_avg, exp_avg_sq.sqrt().add_(eps), value=-1)

    # inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)), over=model)
    inner = _stacked(inner_parts).sum()

    # numerator = beta3*numerator + (1 - beta3)*inner
    numerator.mul_(beta3).add_(inner, alpha=1 - beta3)

    # length = sum(abs(s), over=model)
    length = _stacked(length_parts).sum()

    # d_hat = where(length > 0, numerator/((1 - beta3)*length), d)
    d_hat = torch.where(length > 0, numerator / (length * (1 - beta3)), d)

    # d = max(d, min(d_hat, d*growth_rate))
    torch.maximum(d, torch.minimum(d * growth_rate, d_hat), out=d)


def _multi_tensor_dadapt_adam_capturable(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, exp_avgs,
    exp_avg_sqs, ses, steps.
    """
    batches = []
    for group, (params, grads, exp_avgs, exp_avg_sqs, ses, steps) in groups:
        columns = [params, grads, exp_avgs, exp_avg_sqs, ses, steps]
        batches.append((group, _alike(columns)))
    (group, _), *_ = groups
    betas = group["betas"]
    growth_rate = group["growth_rate"]
    d = group["d"]
    numerator = group["numerator"]

    beta1, beta2 = betas

    # beta3 = sqrt(beta2)
    beta3 = math.sqrt(beta2)

    inner_parts: list[Tensor] = []
    length_parts: list[Tensor] = []
    for group, rows in batches:
        lr = group["lr"]
        eps = group["eps"]
        weight_decay = group["weight_decay"]
        decouple = group["decouple"]
        use_bias_correction = group["use_bias_correction"]

        dlr = d * lr
        for params, grads, exp_avgs, exp_avg_sqs, ses, steps in rows:
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            torch._foreach_add_(steps, 1)
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                grads = [torch.view_as_real(each) for each in grads]
                exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
                exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
                ses = [torch.view_as_real(each) for each in ses]

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

            # inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)),
            #     over=model)
            products = torch._foreach_mul(correcteds, dlr)
            roots = torch._foreach_sqrt(exp_avg_sqs)
            torch._foreach_add_(roots, eps)
            torch._foreach_reciprocal_(roots)
            torch._foreach_mul_(roots, ses)
            product_2s = torch._foreach_mul(grads, roots)
            del roots
            sums = [product_2.sum() for product_2 in product_2s]
            del product_2s
            inner_parts += torch._foreach_mul(products, sums)

            # exp_avg = beta1*exp_avg + (1 - beta1)*corrected*dlr*grad
            torch._foreach_mul_(exp_avgs, beta1)
            products = torch._foreach_mul(correcteds, dlr)
            product_2s = torch._foreach_mul(products, 1 - beta1)
            torch._foreach_addcmul_(exp_avgs, product_2s, grads)

            # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            torch._foreach_mul_(exp_avg_sqs, beta2)
            products = torch._foreach_mul(grads, 1 - beta2)
            torch._foreach_addcmul_(exp_avg_sqs, products, grads)
            del products

            # s = beta3*s + (1 - beta3)*corrected*dlr*grad
            torch._foreach_mul_(ses, beta3)
            products = torch._foreach_mul(correcteds, dlr)
            product_2s = torch._foreach_mul(products, 1 - beta3)
            torch._foreach_addcmul_(ses, product_2s, grads)
            del grads

            # length = sum(abs(s), over=model)
            magnitudes = torch._foreach_abs(ses)
            length_parts += [magnitude.sum() for magnitude in magnitudes]
            del magnitudes
            if weight_decay != 0 and decouple:
                # p -= weight_decay*corrected*dlr*p
                products = torch._foreach_mul(correcteds, dlr)
                product_2s = torch._foreach_mul(products, -weight_decay)
                torch._foreach_addcmul_(params, product_2s, params)

            # p -= exp_avg/(sqrt(exp_avg_sq) + eps)
            roots = torch._foreach_sqrt(exp_avg_sqs)
            torch._foreach_add_(roots, eps)
            torch._foreach_addcdiv_(params, exp_avgs, roots, value=-1)

    # inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)), over=model)
    inner = _stacked(inner_parts).sum()

    # numerator = beta3*numerator + (1 - beta3)*inner
    numerator.mul_(beta3).add_(inner, alpha=1 - beta3)

    # length = sum(abs(s), over=model)
    length = _stacked(length_parts).sum()

    # d_hat = where(length > 0, numerator/((1 - beta3)*length), d)
    d_hat = torch.where(length > 0, numerator / (length * (1 - beta3)), d)

    # d = max(d, min(d_hat, d*growth_rate))
    torch.maximum(d, torch.minimum(d * growth_rate, d_hat), out=d)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["eps"],
        group["weight_decay"],
        group["growth_rate"],
    ]
    options = [
        group["maximize"],
        group["use_bias_correction"],
        group["weight_decay"] != 0,
        group["decouple"],
    ]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avgs, exp_avg_sqs, ses, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs, exp_avg_sqs, ses],
            numbers=[
                [group["d"]] * len(params),
                [group["numerator"]] * len(params),
                steps,
            ],
        )
    return launch.run()


_CPU = r"""// DAdaptAdam in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_t *exp_avg_sq;
    s_t *s;
    d_t *d;
    numerator_t *numerator;
    step_t *step;
    double lr;
    double betas[2];
    double eps;
    double weight_decay;
    double growth_rate;
    bool maximize, use_bias_correction, weight_decay_is_not_0, decouple;
};

// What is worked out once a tensor.
struct Numbers {
    double d, numerator, t, beta1, beta2, beta3, dlr, corrected, dot, inner_part,
        length_part, inner, length, d_hat;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    // beta3 = sqrt(beta2)
    n.beta3 = sqrt_(n.beta2);
    // dlr = d*lr
    n.dlr = n.d * row.lr;
    // corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
    //     1
    n.corrected = row.use_bias_correction ? sqrt_(1.0 - std::pow(n.beta2, n.t)) / (1.0 -
        std::pow(n.beta1, n.t)) : 1.0;
    return are_finite(n.beta3, n.corrected);
}

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double dot = 0;
    double length_part = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg, &Row::exp_avg_sq, &Row::s);
        #pragma omp simd reduction(+: dot, length_part)
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (row.maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            real s = load(row.s[i]);
            if (row.weight_decay_is_not_0 && !row.decouple) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // dot(grad, s/(sqrt(exp_avg_sq) + eps))
            dot += double(grad * (s / (sqrt_(exp_avg_sq) + real(row.eps))));
            // exp_avg = beta1*exp_avg + (1 - beta1)*corrected*dlr*grad
            exp_avg = real(n.beta1) * exp_avg + real((1.0 - n.beta1) * n.corrected *
                n.dlr) * grad;
            // exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq = real(n.beta2) * exp_avg_sq + real(1.0 - n.beta2) * grad * grad;
            // s = beta3*s + (1 - beta3)*corrected*dlr*grad
            s = real(n.beta3) * s + real((1.0 - n.beta3) * n.corrected * n.dlr) * grad;
            // length = sum(abs(s), over=model)
            length_part += double(abs_(s));
            if (row.weight_decay_is_not_0 && row.decouple) {
                // p -= weight_decay*corrected*dlr*p
                p = p - real(row.weight_decay * n.corrected * n.dlr) * p;
            }
            // p -= exp_avg/(sqrt(exp_avg_sq) + eps)
            p = p - exp_avg / (sqrt_(exp_avg_sq) + real(row.eps));
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
            store(row.exp_avg_sq[i], exp_avg_sq);
            store(row.s[i], s);
        }
    }
    sums[0] = dot;
    sums[1] = length_part;
}

static void numbers_2(const Row &row, Numbers &n) {
    // inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)),
    //     over=model)
    n.inner_part = n.corrected * n.dlr * n.dot;
}

static void numbers_3(const Row &row, Numbers &n) {
    // numerator = beta3*numerator + (1 - beta3)*inner
    n.numerator = n.beta3 * n.numerator + (1.0 - n.beta3) * n.inner;
    // d_hat = where(length > 0, numerator/((1 - beta3)*length), d)
    n.d_hat = n.length > 0.0 ? n.numerator / ((1.0 - n.beta3) * n.length) : n.d;
    // d = max(d, min(d_hat, d*growth_rate))
    n.d = max_(n.d, min_(n.d_hat, n.d * row.growth_rate));
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_dadapt_adam(const Table *table) {
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
        row.d = (d_t *)table->columns[5][at];
        row.numerator = (numerator_t *)table->columns[6][at];
        row.step = (step_t *)table->columns[7][at];
        const double *hyper = table->hypers + 10 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        row.growth_rate = *hyper++;
        row.maximize = *hyper++ != 0;
        row.use_bias_correction = *hyper++ != 0;
        row.weight_decay_is_not_0 = *hyper++ != 0;
        row.decouple = *hyper++ != 0;
        numbers[at].d = load(*row.d);
        numbers[at].numerator = load(*row.numerator);
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
        numbers[at].length_part = sums[2 * at + 1];
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    // sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)), over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].inner_part); },
           [&](int64_t at, double value, double count) {
               numbers[at].inner = value;
           });
    // sum(abs(s), over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].length_part); },
           [&](int64_t at, double value, double count) {
               numbers[at].length = value;
           });
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_3(rows[at], numbers[at]);
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].d, numbers[at].d);
        store(*rows[at].numerator, numbers[at].numerator);
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# DAdaptAdam in one pass over memory.

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
    "d_t",
    "numerator_t",
    "step_t",
)
OPTIONS = ()


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    d_t: tl.constexpr,
    numerator_t: tl.constexpr,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 10 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    use_bias_correction = tl.load(of + 7) != 0
    d = number(columns, rows, row, 5, d_t)
    numerator = number(columns, rows, row, 6, numerator_t)
    t = number(columns, rows, row, 7, step_t) + 1
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    # beta3 = sqrt(beta2)
    beta3 = tl.sqrt(beta2)
    # dlr = d*lr
    dlr = d * lr
    # corrected = sqrt(1 - beta2**t)/(1 - beta1**t) if use_bias_correction else
    #     1
    corrected = tl.where(
        use_bias_correction,
        tl.sqrt(1.0 - libdevice.pow(beta2, t)) / (1.0 - libdevice.pow(beta1, t)),
        double(1.0),
    )
    tl.store(n + 0 * rows, beta1)
    tl.store(n + 1 * rows, beta2)
    tl.store(n + 2 * rows, beta3)
    tl.store(n + 3 * rows, corrected)
    tl.store(n + 4 * rows, dlr)
    tl.store(n + 7 * rows, d)
    tl.store(n + 10 * rows, numerator)
    tl.store(n + 11 * rows, t)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, group, hypers, numbers, parts,
    found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
    s_t: tl.constexpr,
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
    of = hypers + 10 * tl.load(group + row)
    eps = tl.load(of + 3)
    weight_decay = tl.load(of + 4)
    maximize = tl.load(of + 6) != 0
    weight_decay_is_not_0 = tl.load(of + 8) != 0
    decouple = tl.load(of + 9) != 0
    beta1 = tl.load(n + 0 * rows)
    beta2 = tl.load(n + 1 * rows)
    beta3 = tl.load(n + 2 * rows)
    corrected = tl.load(n + 3 * rows)
    dlr = tl.load(n + 4 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    s_at = column(columns, rows, row, 4, s_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    s = elements(s_at, i, left, real)
    if weight_decay_is_not_0 and not decouple:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # dot(grad, s/(sqrt(exp_avg_sq) + eps))
    dot = total(grad * (s / (tl.sqrt(exp_avg_sq) + eps.to(real))), i, left)
    # exp_avg = beta1*exp_avg + (1 - beta1)*corrected*dlr*grad
    exp_avg = beta1.to(real) * exp_avg + ((1.0 - beta1) * corrected * dlr).to(
        real
    ) * grad
    # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
    exp_avg_sq = beta2.to(real) * exp_avg_sq + (1.0 - beta2).to(real) * grad * grad
    # s = beta3*s + (1 - beta3)*corrected*dlr*grad
    s = beta3.to(real) * s + ((1.0 - beta3) * corrected * dlr).to(real) * grad
    # length = sum(abs(s), over=model)
    length_part = total(tl.abs(s), i, left)
    if weight_decay_is_not_0 and decouple:
        # p -= weight_decay*corrected*dlr*p
        p = p - (weight_decay * corrected * dlr).to(real) * p
    # p -= exp_avg/(sqrt(exp_avg_sq) + eps)
    p = p - exp_avg / (tl.sqrt(exp_avg_sq) + eps.to(real))
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)
    keep(s_at, i, left, s)
    tl.store(parts + 0 * chunks + chunk, dot)
    tl.store(parts + 1 * chunks + chunk, length_part)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    rows, chunks, starts, numbers, parts, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    corrected = tl.load(n + 3 * rows)
    dlr = tl.load(n + 4 * rows)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # dot(grad, s/(sqrt(exp_avg_sq) + eps))
    dot = sum_of(parts + 0 * chunks, begin, end)
    # length = sum(abs(s), over=model)
    length_part = sum_of(parts + 1 * chunks, begin, end)
    # inner = sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)),
    #     over=model)
    inner_part = corrected * dlr * dot
    tl.store(n + 5 * rows, inner_part)
    tl.store(n + 6 * rows, length_part)


@triton.jit(do_not_specialize=["rows"])
def across_1(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # sum(corrected*dlr*dot(grad, s/(sqrt(exp_avg_sq) + eps)), over=model)
    inner = sum_of(numbers + 5 * rows, begin, end)
    spread(numbers + 8 * rows, begin, end, inner)


@triton.jit(do_not_specialize=["rows"])
def across_2(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # sum(abs(s), over=model)
    length = sum_of(numbers + 6 * rows, begin, end)
    spread(numbers + 9 * rows, begin, end, length)


@triton.jit(do_not_specialize=["rows"])
def numbers_3(
    columns, rows, group, hypers, numbers, found_inf,
    d_t: tl.constexpr,
    numerator_t: tl.constexpr,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 10 * tl.load(group + row)
    growth_rate = tl.load(of + 5)
    beta3 = tl.load(n + 2 * rows)
    d = tl.load(n + 7 * rows)
    inner = tl.load(n + 8 * rows)
    length = tl.load(n + 9 * rows)
    numerator = tl.load(n + 10 * rows)
    t = tl.load(n + 11 * rows)
    # numerator = beta3*numerator + (1 - beta3)*inner
    numerator = beta3 * numerator + (1.0 - beta3) * inner
    # d_hat = where(length > 0, numerator/((1 - beta3)*length), d)
    d_hat = tl.where(length > 0.0, numerator / ((1.0 - beta3) * length), d)
    # d = max(d, min(d_hat, d*growth_rate))
    d = larger(d, smaller(d_hat, d * growth_rate))
    keep_number(columns, rows, row, 5, d_t, d)
    keep_number(columns, rows, row, 6, numerator_t, numerator)
    keep_number(columns, rows, row, 7, step_t, t)


def launch(x):
    x.numbers = x.new(12 * x.rows)
    x.each_row(numbers_1)
    x.parts = x.new(2 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.once(across_1)
    x.once(across_2)
    x.each_row(numbers_3)
"""

_KERNELS = _Kernel and _Kernel(
    "step_dadapt_adam",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg", "exp_avg_sq", "s"),
    numbers=("d", "numerator", "step"),
    options=("maximize", "use_bias_correction", "weight_decay_is_not_0", "decouple"),
    together=True,
    cuda=_CUDA,
    scaled=True,
)
