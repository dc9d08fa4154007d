"""MARS in its AdamW form: Adam over gradients with less variance.

Yuan et al. (2024), MARS: Unleashing the Power of Variance Reduction for Training Large
Models, https://arxiv.org/abs/2411.10438
Follows the authors' code, https://github.com/AGI-Arena/MARS, in its approximate form,
which takes the last gradient as it was. Vectors are stepped by AdamW. As in timm and
pytorch_optimizer, whatever has two axes or more is a matrix, theirs has two; as in
timm, the learning rate of vectors is a share of lr, so that a schedule reaches it.
"""
# Compiled by optdsl from mars.opt, content 1aba15e8a066.

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

__all__ = ["MARS"]


class MARS(Optimizer):
    """MARS in its AdamW form: Adam over gradients with less variance.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 3e-3).
        betas (tuple[float, float], optional): decay of the first and the second moment,
            in [0, 1) (default: (0.95, 0.99)).
        eps (float, optional): added to the denominator, in [0, inf) (default: 1e-8).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0).
        gamma (float, optional): how much of the gradient's change is added, in [0, inf)
            (default: 0.025).
        optimize_1d (bool, optional): step vectors as matrices (default: False).
        lr_1d_factor (float, optional): learning rate of vectors, as a share of lr, in
            [0, inf) (default: 1).
        betas_1d (tuple[float, float], optional): betas of vectors, in [0, 1) (default:
            (0.9, 0.95)).
        weight_decay_1d (float, optional): weight_decay of vectors, in [0, inf)
            (default: 0.1).
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
        last_grad: gradient of the last step (like p).
        exp_avg: first moment of the corrected gradient (like p).
        exp_avg_sq: second moment of the corrected gradient (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0,
        gamma: float = 0.025,
        optimize_1d: bool = False,
        lr_1d_factor: float = 1,
        betas_1d: tuple[float, float] = (0.9, 0.95),
        weight_decay_1d: float = 0.1,
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
            "gamma": gamma,
            "optimize_1d": optimize_1d,
            "lr_1d_factor": lr_1d_factor,
            "betas_1d": betas_1d,
            "weight_decay_1d": weight_decay_1d,
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
            group.setdefault("lr", 3e-3)
            group.setdefault("betas", (0.95, 0.99))
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0)
            group.setdefault("gamma", 0.025)
            group.setdefault("optimize_1d", False)
            group.setdefault("lr_1d_factor", 1)
            group.setdefault("betas_1d", (0.9, 0.95))
            group.setdefault("weight_decay_1d", 0.1)
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
        for name in (
            "lr",
            "betas",
            "eps",
            "weight_decay",
            "gamma",
            "lr_1d_factor",
            "betas_1d",
            "weight_decay_1d",
        ):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        last_grads: list[Tensor | None],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("MARS does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("MARS does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            if (group["optimize_1d"] or p.ndim > 1) and "last_grad" not in state:
                state["last_grad"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            last_grads.append(state.get("last_grad"))
            exp_avgs.append(state["exp_avg"])
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
            last_grads: list[Tensor | None] = []
            exp_avgs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, last_grads, exp_avgs, exp_avg_sqs, steps
            )
            groups.append(
                (group, [params, grads, last_grads, exp_avgs, exp_avg_sqs, steps])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, last_grads, exp_avgs, exp_avg_sqs, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_mars if use_foreach else _single_tensor_mars
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_mars_capturable
                if use_foreach:
                    update = _multi_tensor_mars_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_mars
                if group["capturable"]:
                    update = _differentiable_mars_capturable
            update(
                params,
                grads,
                last_grads,
                exp_avgs,
                exp_avg_sqs,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                gamma=group["gamma"],
                optimize_1d=group["optimize_1d"],
                lr_1d_factor=group["lr_1d_factor"],
                betas_1d=group["betas_1d"],
                weight_decay_1d=group["weight_decay_1d"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    gamma = group["gamma"]
    optimize_1d = group["optimize_1d"]
    lr_1d_factor = group["lr_1d_factor"]
    betas_1d = group["betas_1d"]
    weight_decay_1d = group["weight_decay_1d"]
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
    _check_number("gamma", gamma)
    if not 0 <= gamma < math.inf:
        raise ValueError(f"Invalid gamma: {gamma!r}, expected a number in [0, inf)")
    if optimize_1d not in (False, True):
        raise ValueError(
            f"Invalid optimize_1d: {optimize_1d!r}, expected True or False"
        )
    _check_number("lr_1d_factor", lr_1d_factor)
    if not 0 <= lr_1d_factor < math.inf:
        raise ValueError(
            f"Invalid lr_1d_factor: {lr_1d_factor!r}, expected a number in [0, inf)"
        )
    _check_numbers("betas_1d", betas_1d, 2)
    if not all(0 <= each < 1 for each in betas_1d):
        raise ValueError(
            f"Invalid betas_1d: {betas_1d!r}, expected 2 numbers in [0, 1)"
        )
    _check_number("weight_decay_1d", weight_decay_1d)
    if not 0 <= weight_decay_1d < math.inf:
        raise ValueError(
            f"Invalid weight_decay_1d: {weight_decay_1d!r}, "
            f"expected a number in [0, inf)"
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


def _single_tensor_mars(
    params: list[Tensor],
    grads: list[Tensor],
    last_grads: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    gamma: float,
    optimize_1d: bool,
    lr_1d_factor: float,
    betas_1d: tuple[float, float],
    weight_decay_1d: float,
    maximize: bool,
) -> None:
    for p, grad, last_grad, exp_avg, exp_avg_sq, step in zip(
        params, grads, last_grads, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if optimize_1d or p.ndim > 1:
            beta1, beta2 = betas
            rate, decay = (lr, weight_decay)

            # corrected = grad + gamma*beta1/(1 - beta1)*(grad - last_grad)
            corrected = grad.add(grad - last_grad, alpha=gamma * beta1 / (1 - beta1))

            # corrected /= max(1, norm(corrected))
            corrected.div_(torch.linalg.vector_norm(corrected).clamp(min=1))

            # last_grad = grad
            last_grad.copy_(grad)
        else:
            beta1, beta2 = betas_1d
            rate, decay = (lr * lr_1d_factor, weight_decay_1d)
            corrected = grad

        # exp_avg = lerp(exp_avg, corrected, 1 - beta1)
        exp_avg.lerp_(corrected, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*corrected*corrected
        exp_avg_sq.mul_(beta2).addcmul_(corrected, corrected, value=1 - beta2)
        if decay != 0:
            # p *= 1 - rate*decay
            p.mul_(1 - rate * decay)

        # p -= rate/(1 - beta1**t)*exp_avg/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        p.addcdiv_(
            exp_avg,
            exp_avg_sq.sqrt().div_((1 - beta2**t) ** 0.5).add_(eps),
            value=-rate / (1 - beta1**t),
        )


def _multi_tensor_mars(
    params: list[Tensor],
    grads: list[Tensor],
    last_grads: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    gamma: float,
    optimize_1d: bool,
    lr_1d_factor: float,
    betas_1d: tuple[float, float],
    weight_decay_1d: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps, weight_decay, gamma, lr_1d_factor, weight_decay_1d = map(
        float, (lr, eps, weight_decay, gamma, lr_1d_factor, weight_decay_1d)
    )
    betas = tuple(map(float, betas))
    betas_1d = tuple(map(float, betas_1d))

    columns = [params, grads, last_grads, exp_avgs, exp_avg_sqs, steps]
    keys = [(p.ndim, step.item()) for p, step in zip(params, steps, strict=True)]
    for params, grads, last_grads, exp_avgs, exp_avg_sqs, steps in _alike(
        columns, keys
    ):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if optimize_1d or params[0].ndim > 1:
            beta1, beta2 = betas
            rate, decay = (lr, weight_decay)

            # corrected = grad + gamma*beta1/(1 - beta1)*(grad - last_grad)
            differences = torch._foreach_sub(grads, last_grads)
            correcteds = torch._foreach_add(
                grads, differences, alpha=gamma * beta1 / (1 - beta1)
            )
            del differences

            # corrected /= max(1, norm(corrected))
            norms = torch._foreach_norm(correcteds)
            clampeds = torch._foreach_clamp_min(norms, 1)
            torch._foreach_div_(correcteds, clampeds)

            # last_grad = grad
            torch._foreach_copy_(last_grads, grads)
        else:
            beta1, beta2 = betas_1d
            rate, decay = (lr * lr_1d_factor, weight_decay_1d)
            correcteds = grads
        del grads

        # exp_avg = lerp(exp_avg, corrected, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, correcteds, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*corrected*corrected
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, correcteds, correcteds, value=1 - beta2)
        del correcteds
        if decay != 0:
            # p *= 1 - rate*decay
            torch._foreach_mul_(params, 1 - rate * decay)

        # p -= rate/(1 - beta1**t)*exp_avg/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        roots = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_div_(roots, (1 - beta2**t) ** 0.5)
        torch._foreach_add_(roots, eps)
        torch._foreach_addcdiv_(params, exp_avgs, roots, value=-rate / (1 - beta1**t))


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


def _differentiable_mars(
    params: list[Tensor],
    grads: list[Tensor],
    last_grads: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    gamma: float,
    optimize_1d: bool,
    lr_1d_factor: float,
    betas_1d: tuple[float, float],
    weight_decay_1d: float,
    maximize: bool,
) -> None:
    for p, grad, last_grad, exp_avg, exp_avg_sq, step in zip(
        params, grads, last_grads, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, last_grad, exp_avg, exp_avg_sq, step)
        p, last_grad, exp_avg, exp_avg_sq, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        t = step.item()
        if optimize_1d or p.ndim > 1:
            beta1, beta2 = betas
            rate, decay = (lr, weight_decay)

            # corrected = grad + gamma*beta1/(1 - beta1)*(grad - last_grad)
            corrected = _scaled_add(grad, grad - last_grad, gamma * beta1 / (1 - beta1))

            # corrected /= max(1, norm(corrected))
            corrected = corrected / torch.linalg.vector_norm(corrected).clamp(min=1)
            last_grad = grad
        else:
            beta1, beta2 = betas_1d
            rate, decay = (lr * lr_1d_factor, weight_decay_1d)
            corrected = grad

        # exp_avg = lerp(exp_avg, corrected, 1 - beta1)
        exp_avg = exp_avg.lerp(corrected, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*corrected*corrected
        exp_avg_sq = _scaled_addcmul(
            exp_avg_sq * beta2, corrected, corrected, 1 - beta2
        )
        if decay != 0:
            # p *= 1 - rate*decay
            p = p * (1 - rate * decay)

        # p -= rate/(1 - beta1**t)*exp_avg/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        p = _scaled_addcdiv(
            p,
            exp_avg,
            exp_avg_sq.sqrt() / (1 - beta2**t) ** 0.5 + eps,
            -rate / (1 - beta1**t),
        )

        for each, new in zip(
            kept, (p, last_grad, exp_avg, exp_avg_sq, step), strict=True
        ):
            if each is not None:
                each.copy_(new)


def _single_tensor_mars_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    last_grads: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    gamma: float,
    optimize_1d: bool,
    lr_1d_factor: float,
    betas_1d: tuple[float, float],
    weight_decay_1d: float,
    maximize: bool,
) -> None:
    for p, grad, last_grad, exp_avg, exp_avg_sq, step in zip(
        params, grads, last_grads, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if optimize_1d or p.ndim > 1:
            beta1, beta2 = betas
            rate, decay = (lr, weight_decay)

            # corrected = grad + gamma*beta1/(1 - beta1)*(grad - last_grad)
            corrected = grad.add(grad - last_grad, alpha=gamma * beta1 / (1 - beta1))

            # corrected /= max(1, norm(corrected))
            corrected.div_(torch.linalg.vector_norm(corrected).clamp(min=1))

            # last_grad = grad
            last_grad.copy_(grad)
        else:
            beta1, beta2 = betas_1d
            rate, decay = (lr * lr_1d_factor, weight_decay_1d)
            corrected = grad

        # exp_avg = lerp(exp_avg, corrected, 1 - beta1)
        exp_avg.lerp_(corrected, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*corrected*corrected
        exp_avg_sq.mul_(beta2).addcmul_(corrected, corrected, value=1 - beta2)
        if decay != 0:
            # p *= 1 - rate*decay
            p.mul_(1 - rate * decay)

        # p -= rate/(1 - beta1**t)*exp_avg/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        p.addcdiv_(
            rate / (1 - beta1**step) * exp_avg,
            exp_avg_sq.sqrt().div_((1 - beta2**step).pow(0.5)).add_(eps),
            value=-1,
        )


def _multi_tensor_mars_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    last_grads: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    gamma: float,
    optimize_1d: bool,
    lr_1d_factor: float,
    betas_1d: tuple[float, float],
    weight_decay_1d: float,
    maximize: bool,
) -> None:
    columns = [params, grads, last_grads, exp_avgs, exp_avg_sqs, steps]
    keys = [p.ndim for p in params]
    for params, grads, last_grads, exp_avgs, exp_avg_sqs, steps in _alike(
        columns, keys
    ):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if optimize_1d or params[0].ndim > 1:
            beta1, beta2 = betas
            rate, decay = (lr, weight_decay)

            # corrected = grad + gamma*beta1/(1 - beta1)*(grad - last_grad)
            differences = torch._foreach_sub(grads, last_grads)
            products = torch._foreach_mul(differences, gamma * beta1 / (1 - beta1))
            del differences
            correcteds = torch._foreach_add(grads, products)
            del products

            # corrected /= max(1, norm(corrected))
            norms = torch._foreach_norm(correcteds)
            clampeds = torch._foreach_clamp_min(norms, 1)
            torch._foreach_div_(correcteds, clampeds)

            # last_grad = grad
            torch._foreach_copy_(last_grads, grads)
        else:
            beta1, beta2 = betas_1d
            rate, decay = (lr * lr_1d_factor, weight_decay_1d)
            correcteds = grads
        del grads

        # exp_avg = lerp(exp_avg, corrected, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, correcteds, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*corrected*corrected
        torch._foreach_mul_(exp_avg_sqs, beta2)
        products = torch._foreach_mul(correcteds, 1 - beta2)
        torch._foreach_addcmul_(exp_avg_sqs, products, correcteds)
        del correcteds, products
        if decay != 0:
            # p *= 1 - rate*decay
            torch._foreach_mul_(params, 1 - rate * decay)

        # p -= rate/(1 - beta1**t)*exp_avg/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        powers = torch._foreach_pow(beta1, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        torch._foreach_reciprocal_(powers)
        torch._foreach_mul_(powers, rate)
        products = torch._foreach_mul(powers, exp_avgs)
        roots = torch._foreach_sqrt(exp_avg_sqs)
        power_2s = torch._foreach_pow(beta2, steps)
        torch._foreach_neg_(power_2s)
        torch._foreach_add_(power_2s, 1)
        power_3s = torch._foreach_pow(power_2s, 0.5)
        torch._foreach_div_(roots, power_3s)
        torch._foreach_add_(roots, eps)
        torch._foreach_addcdiv_(params, products, roots, value=-1)


def _differentiable_mars_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    last_grads: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    gamma: float,
    optimize_1d: bool,
    lr_1d_factor: float,
    betas_1d: tuple[float, float],
    weight_decay_1d: float,
    maximize: bool,
) -> None:
    for p, grad, last_grad, exp_avg, exp_avg_sq, step in zip(
        params, grads, last_grads, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, last_grad, exp_avg, exp_avg_sq, step)
        p, last_grad, exp_avg, exp_avg_sq, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        if optimize_1d or p.ndim > 1:
            beta1, beta2 = betas
            rate, decay = (lr, weight_decay)

            # corrected = grad + gamma*beta1/(1 - beta1)*(grad - last_grad)
            corrected = _scaled_add(grad, grad - last_grad, gamma * beta1 / (1 - beta1))

            # corrected /= max(1, norm(corrected))
            corrected = corrected / torch.linalg.vector_norm(corrected).clamp(min=1)
            last_grad = grad
        else:
            beta1, beta2 = betas_1d
            rate, decay = (lr * lr_1d_factor, weight_decay_1d)
            corrected = grad

        # exp_avg = lerp(exp_avg, corrected, 1 - beta1)
        exp_avg = exp_avg.lerp(corrected, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*corrected*corrected
        exp_avg_sq = _scaled_addcmul(
            exp_avg_sq * beta2, corrected, corrected, 1 - beta2
        )
        if decay != 0:
            # p *= 1 - rate*decay
            p = p * (1 - rate * decay)

        # p -= rate/(1 - beta1**t)*exp_avg/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        p = p.addcdiv(
            rate / (1 - beta1**step) * exp_avg,
            exp_avg_sq.sqrt() / (1 - beta2**step).pow(0.5) + eps,
            value=-1,
        )

        for each, new in zip(
            kept, (p, last_grad, exp_avg, exp_avg_sq, step), strict=True
        ):
            if each is not None:
                each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["eps"],
        group["weight_decay"],
        group["gamma"],
        group["lr_1d_factor"],
        group["betas_1d"][0],
        group["betas_1d"][1],
        group["weight_decay_1d"],
    ]
    options = [group["maximize"], group["optimize_1d"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, last_grads, exp_avgs, exp_avg_sqs, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, last_grads, exp_avgs, exp_avg_sqs],
            numbers=[steps],
            asked=[[p.ndim for p in params]],
        )
    return launch.run()


_CPU = r"""// MARS in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    last_grad_t *last_grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_t *exp_avg_sq;
    corrected_t *corrected;
    step_t *step;
    double lr;
    double betas[2];
    double eps;
    double weight_decay;
    double gamma;
    double lr_1d_factor;
    double betas_1d[2];
    double weight_decay_1d;
    double ndim;
};

// What is worked out once a tensor.
struct Numbers {
    double t, beta1, beta2, rate, decay, quotient, norm, larger_, quotient_2, power;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    if (optimize_1d || row.ndim > 1.0) {
        // beta1, beta2 = betas
        n.beta1 = row.betas[0];
        n.beta2 = row.betas[1];
        // rate, decay = (lr, weight_decay)
        n.rate = row.lr;
        n.decay = row.weight_decay;
        // gamma*beta1/(1 - beta1)
        n.quotient = row.gamma * n.beta1 / (1.0 - n.beta1);
    } else {
        // beta1, beta2 = betas_1d
        n.beta1 = row.betas_1d[0];
        n.beta2 = row.betas_1d[1];
        // rate, decay = (lr*lr_1d_factor, weight_decay_1d)
        n.rate = row.lr * row.lr_1d_factor;
        n.decay = row.weight_decay_1d;
    }
    // rate/(1 - beta1**t)
    n.quotient_2 = n.rate / (1.0 - std::pow(n.beta1, n.t));
    // (1 - beta2**t)**0.5
    n.power = std::pow(1.0 - std::pow(n.beta2, n.t), 0.5);
    return are_finite(n.quotient, n.rate, n.quotient_2, n.power);
}

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double norm = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::last_grad, &Row::corrected);
        #pragma omp simd reduction(+: norm)
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real last_grad = has_last_grad ? load(row.last_grad[i]) : 0;
            real corrected = load(row.corrected[i]);
            if (optimize_1d || row.ndim > 1.0) {
                // corrected = grad + gamma*beta1/(1 - beta1)*(grad - last_grad)
                corrected = grad + real(n.quotient) * (grad - last_grad);
                // norm(corrected)
                norm += square_(double(corrected));
                // last_grad = grad
                last_grad = grad;
            }
            if (n.decay != 0.0) {
                // p *= 1 - rate*decay
                p = kept<p_t>(p * real(1.0 - n.rate * n.decay));
            }
            store(row.p[i], p);
            if (has_last_grad) store(row.last_grad[i], last_grad);
            store(row.corrected[i], corrected);
        }
    }
    sums[0] = norm;
}

static void numbers_2(const Row &row, Numbers &n) {
    if (optimize_1d || row.ndim > 1.0) {
        // max(1, norm(corrected))
        n.larger_ = max_(1.0, n.norm);
    }
}

static void pass_2(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg, &Row::exp_avg_sq,
            &Row::corrected);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            real corrected = load(row.corrected[i]);
            if (optimize_1d || row.ndim > 1.0) {
                // corrected /= max(1, norm(corrected))
                corrected = corrected * real(1.0 / n.larger_);
            } else {
                // corrected = grad
                corrected = grad;
            }
            // exp_avg = lerp(exp_avg, corrected, 1 - beta1)
            exp_avg = lerp_(exp_avg, corrected, real(1.0 - n.beta1));
            // exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*corrected*corrected
            exp_avg_sq = real(n.beta2) * exp_avg_sq + real(1.0 - n.beta2) * corrected *
                corrected;
            // p -= rate/(1 - beta1**t)*exp_avg/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 +
            //     eps)
            p = p - real(n.quotient_2) * exp_avg / (sqrt_(exp_avg_sq) * real(1.0 /
                n.power) + real(row.eps));
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
            store(row.exp_avg_sq[i], exp_avg_sq);
            store(row.corrected[i], corrected);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_mars(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.last_grad = (last_grad_t *)table->columns[2][at];
        row.exp_avg = (exp_avg_t *)table->columns[3][at];
        row.exp_avg_sq = (exp_avg_sq_t *)table->columns[4][at];
        row.corrected = (corrected_t *)table->columns[5][at];
        row.step = (step_t *)table->columns[6][at];
        const double *hyper = table->hypers + 10 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        row.gamma = *hyper++;
        row.lr_1d_factor = *hyper++;
        row.betas_1d[0] = *hyper++;
        row.betas_1d[1] = *hyper++;
        row.weight_decay_1d = *hyper++;
        row.ndim = table->asked[at];
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 1, rows, numbers, numbers_1)) return 1;
    std::vector<double> parts(1 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[1 * at]);
    });
    const auto sums = gathered<1>(
        *table, chunks, parts, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].norm = std::sqrt(sums[1 * at + 0]);
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# MARS in 2 passes over memory.

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
    kept,
    larger,
    lerp,
    number,
    overflowed,
    square,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "last_grad_t", "exp_avg_t", "exp_avg_sq_t", "real", "step_t")
OPTIONS = ("maximize", "optimize_1d")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, asked, numbers, found_inf,
    step_t: tl.constexpr,
    optimize_1d: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 10 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    weight_decay = tl.load(of + 4)
    gamma = tl.load(of + 5)
    lr_1d_factor = tl.load(of + 6)
    betas_1d_0 = tl.load(of + 7)
    betas_1d_1 = tl.load(of + 8)
    weight_decay_1d = tl.load(of + 9)
    ndim = tl.load(asked + 0 * rows + row)
    t = number(columns, rows, row, 6, step_t) + 1
    quotient = double(0.0)
    if optimize_1d or ndim > 1.0:
        # beta1, beta2 = betas
        beta1 = betas_0
        beta2 = betas_1
        # rate, decay = (lr, weight_decay)
        rate = lr
        decay = weight_decay
        # gamma*beta1/(1 - beta1)
        quotient = gamma * beta1 / (1.0 - beta1)
    else:
        # beta1, beta2 = betas_1d
        beta1 = betas_1d_0
        beta2 = betas_1d_1
        # rate, decay = (lr*lr_1d_factor, weight_decay_1d)
        rate = lr * lr_1d_factor
        decay = weight_decay_1d
    # rate/(1 - beta1**t)
    quotient_2 = rate / (1.0 - libdevice.pow(beta1, t))
    # (1 - beta2**t)**0.5
    power = libdevice.pow(1.0 - libdevice.pow(beta2, t), double(0.5))
    tl.store(n + 0 * rows, decay)
    tl.store(n + 1 * rows, quotient)
    tl.store(n + 2 * rows, rate)
    tl.store(n + 3 * rows, t)
    tl.store(n + 4 * rows, beta1)
    tl.store(n + 5 * rows, beta2)
    tl.store(n + 7 * rows, power)
    tl.store(n + 8 * rows, quotient_2)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, asked, numbers, parts, found_inf,
    grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    last_grad_t: tl.constexpr,
    real: tl.constexpr,
    maximize: tl.constexpr,
    optimize_1d: tl.constexpr,
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
    ndim = tl.load(asked + 0 * rows + row)
    decay = tl.load(n + 0 * rows)
    quotient = tl.load(n + 1 * rows)
    rate = tl.load(n + 2 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    last_grad_at = column(columns, rows, row, 2, last_grad_t, aligned) + begin
    last_grad_left = if_there(columns, rows, row, 2, left)
    corrected_at = column(columns, rows, row, 5, real, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    last_grad = elements(last_grad_at, i, last_grad_left, real)
    corrected = elements(corrected_at, i, left, real)
    norm = double(0.0)
    if optimize_1d or ndim > 1.0:
        # corrected = grad + gamma*beta1/(1 - beta1)*(grad - last_grad)
        corrected = grad + quotient.to(real) * (grad - last_grad)
        # norm(corrected)
        norm = norm + total(square(corrected.to(tl.float64)), i, left)
        # last_grad = grad
        last_grad = grad
    if decay != 0.0:
        # p *= 1 - rate*decay
        p = kept(p * (1.0 - rate * decay).to(real), p_t)
    keep(p_at, i, left, p)
    keep(last_grad_at, i, last_grad_left, last_grad)
    keep(corrected_at, i, left, corrected)
    tl.store(parts + 0 * chunks + chunk, norm)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    columns, rows, chunks, starts, asked, numbers, parts, found_inf,
    step_t: tl.constexpr,
    optimize_1d: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    ndim = tl.load(asked + 0 * rows + row)
    t = tl.load(n + 3 * rows)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # norm(corrected)
    norm = tl.sqrt(sum_of(parts + 0 * chunks, begin, end))
    larger_ = double(0.0)
    if optimize_1d or ndim > 1.0:
        # max(1, norm(corrected))
        larger_ = larger(double(1.0), norm)
    tl.store(n + 6 * rows, larger_)
    keep_number(columns, rows, row, 6, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_2(
    columns, rows, row_of, starts, numel, group, hypers, asked, numbers, found_inf,
    grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
    real: tl.constexpr,
    maximize: tl.constexpr,
    optimize_1d: tl.constexpr,
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
    ndim = tl.load(asked + 0 * rows + row)
    beta1 = tl.load(n + 4 * rows)
    beta2 = tl.load(n + 5 * rows)
    larger_ = tl.load(n + 6 * rows)
    power = tl.load(n + 7 * rows)
    quotient_2 = tl.load(n + 8 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 3, exp_avg_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 4, exp_avg_sq_t, aligned) + begin
    corrected_at = column(columns, rows, row, 5, real, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    corrected = elements(corrected_at, i, left, real)
    if optimize_1d or ndim > 1.0:
        # corrected /= max(1, norm(corrected))
        corrected = corrected / larger_.to(real)
    else:
        # corrected = grad
        corrected = grad
    # exp_avg = lerp(exp_avg, corrected, 1 - beta1)
    exp_avg = lerp(exp_avg, corrected, (1.0 - beta1).to(real))
    # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*corrected*corrected
    exp_avg_sq = beta2.to(real) * exp_avg_sq + (1.0 - beta2).to(
        real
    ) * corrected * corrected
    # p -= rate/(1 - beta1**t)*exp_avg/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 +
    #     eps)
    p = p - quotient_2.to(real) * exp_avg / (
        tl.sqrt(exp_avg_sq) / power.to(real) + eps.to(real)
    )
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)
    keep(corrected_at, i, left, corrected)


def launch(x):
    x.numbers = x.new(9 * x.rows)
    x.each_row(numbers_1)
    x.parts = x.new(1 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.each_chunk(pass_2)
"""

_KERNELS = _Kernel and _Kernel(
    "step_mars",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "last_grad", "exp_avg", "exp_avg_sq"),
    numbers=("step",),
    optional=("last_grad",),
    scratch=("corrected",),
    options=("maximize", "optimize_1d"),
    cuda=_CUDA,
    scaled=True,
)
