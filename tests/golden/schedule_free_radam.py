"""Schedule-free RAdam: an average of the iterates in place of schedule and warm-up.

Defazio et al. (2024), The Road Less Scheduled, https://arxiv.org/abs/2405.15682
As the authors' schedulefree 1.4, but each parameter counts its own steps. Gradients are
taken at p in train mode; `eval()` turns p into the average, which is to be kept.
"""
# Compiled by optdsl from schedule_free_radam.opt, content 792fafdbb5b4.

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

__all__ = ["ScheduleFreeRAdam"]


class ScheduleFreeRAdam(Optimizer):
    """Schedule-free RAdam: an average of the iterates in place of schedule and warm-up.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 2.5e-3).
        betas (tuple[float, float], optional): how far p is from the iterate to the
            average; decay of the second moment, in [0, 1) (default: (0.9, 0.999)).
        eps (float, optional): added to the denominator, in [0, inf) (default: 1e-8).
        weight_decay (float, optional): share of p that is added to the step, in [0,
            inf) (default: 0).
        r (float, optional): power of t in the weight of an iterate, in (-inf, inf)
            (default: 0.0).
        weight_lr_power (float, optional): power of the largest learning rate in it, in
            (-inf, inf) (default: 2.0).
        silent_sgd_phase (bool, optional): whether p rests while the second moment is
            too young (default: True).
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
        z: iterate (like p).
        exp_avg_sq: second moment of the gradient (like p).
        weight_sum: sum of the weights of the iterates (0-d tensor).
        lr_max: largest learning rate so far (0-d tensor).

    A group keeps as well, and `state_dict` with it:
        train_mode (bool): whether the parameters are those of training, which `train()`
            and `eval()` set.

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        silent_sgd_phase: bool = True,
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
            "r": r,
            "weight_lr_power": weight_lr_power,
            "silent_sgd_phase": silent_sgd_phase,
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
            group.setdefault("lr", 2.5e-3)
            group.setdefault("betas", (0.9, 0.999))
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0)
            group.setdefault("r", 0.0)
            group.setdefault("weight_lr_power", 2.0)
            group.setdefault("silent_sgd_phase", True)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)
            group.setdefault("train_mode", True)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step", "weight_sum", "lr_max"):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        modes = [group["train_mode"] for group in self.param_groups]
        param_group.setdefault("train_mode", all(modes))
        super().add_param_group(param_group)
        for name in ("lr", "betas", "eps", "weight_decay", "r", "weight_lr_power"):
            param_group[name] = _as_scalar(param_group[name])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does, but keep the precision of `weight_sum` and `lr_max`.

        torch casts every state but `step` to the dtype of its parameter.
        """

        def note(_: Optimizer, state_dict: dict[str, Any]) -> None:
            loaded.update(state_dict)

        def keep(_: Optimizer) -> None:
            pairs = zip(loaded["param_groups"], self.param_groups, strict=True)
            for saved, group in pairs:
                for key, p in zip(saved["params"], group["params"], strict=True):
                    values = loaded["state"].get(key, {})
                    for name in ("weight_sum", "lr_max"):
                        if name in values:
                            value = _zero_dim(float(values[name]), group, p)
                            self.state[p][name] = value

        loaded: dict[str, Any] = {}
        hooks = [
            self.register_load_state_dict_pre_hook(note),
            self.register_load_state_dict_post_hook(keep, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        zs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        weight_sums: list[Tensor],
        lr_maxes: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError(
                    "ScheduleFreeRAdam does not support sparse gradients"
                )
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["z"] = p.clone(memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["weight_sum"] = _zero_dim(0.0, group, p)
                state["lr_max"] = _zero_dim(0.0, group, p)
            params.append(p)
            grads.append(grad)
            zs.append(state["z"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            weight_sums.append(state["weight_sum"])
            lr_maxes.append(state["lr_max"])
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
        if not all(group["train_mode"] for group in self.param_groups):
            raise RuntimeError("a step is for train mode: call train() before it")
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
                self._init_group(group, [], [], [], [], [], [], [])
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
            zs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            weight_sums: list[Tensor] = []
            lr_maxes: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps
            )
            groups.append(
                (group, [params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = (
                _multi_tensor_schedule_freeradam
                if use_foreach
                else _single_tensor_schedule_freeradam
            )
            if group["capturable"]:
                _check_capturable(params, weight_sums, lr_maxes, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_schedule_freeradam_capturable
                if use_foreach:
                    update = _multi_tensor_schedule_freeradam_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_schedule_freeradam
                if group["capturable"]:
                    update = _differentiable_schedule_freeradam_capturable
            update(
                params,
                grads,
                zs,
                exp_avg_sqs,
                weight_sums,
                lr_maxes,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                r=group["r"],
                weight_lr_power=group["weight_lr_power"],
                silent_sgd_phase=group["silent_sgd_phase"],
                maximize=group["maximize"],
            )

        return loss

    @torch.no_grad()
    def train(self) -> None:
        """Turn the parameters into those of training, if they are not yet."""
        for group in self.param_groups:
            if group["train_mode"]:
                continue
            group["train_mode"] = True
            betas = group["betas"]
            for param in group["params"]:
                if param not in self.state:
                    continue
                p = torch.view_as_real(param) if torch.is_complex(param) else param
                state = self.state[param]
                z = state["z"]
                if torch.is_complex(z):
                    z = torch.view_as_real(z)
                # p = lerp(p, z, 1 - betas[0])
                p.lerp_(z, 1 - betas[0])

    @torch.no_grad()
    def eval(self) -> None:
        """Turn the parameters into those to evaluate, if they are not yet."""
        for group in self.param_groups:
            if not group["train_mode"]:
                continue
            group["train_mode"] = False
            betas = group["betas"]
            for param in group["params"]:
                if param not in self.state:
                    continue
                p = torch.view_as_real(param) if torch.is_complex(param) else param
                state = self.state[param]
                z = state["z"]
                if torch.is_complex(z):
                    z = torch.view_as_real(z)
                # p = lerp(p, z, 1 - 1/betas[0])
                p.lerp_(z, 1 - 1 / betas[0])


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    r = group["r"]
    weight_lr_power = group["weight_lr_power"]
    silent_sgd_phase = group["silent_sgd_phase"]
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
    _check_number("r", r)
    if not -math.inf < r < math.inf:
        raise ValueError(f"Invalid r: {r!r}, expected a number in (-inf, inf)")
    _check_number("weight_lr_power", weight_lr_power)
    if not -math.inf < weight_lr_power < math.inf:
        raise ValueError(
            f"Invalid weight_lr_power: {weight_lr_power!r}, "
            f"expected a number in (-inf, inf)"
        )
    if silent_sgd_phase not in (False, True):
        raise ValueError(
            f"Invalid silent_sgd_phase: {silent_sgd_phase!r}, expected True or False"
        )
    if not betas[0] > 0:
        raise ValueError(f"schedule-free methods need a momentum (got betas={betas!r})")
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


def _rectified(rho: float, rho_inf: float) -> float:
    # rectified(rho, rho_inf) = ((rho - 4)*(rho - 2)*rho_inf/((rho_inf - 4)*(rho_inf -
    #     2)*rho))**0.5
    return (
        (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    ) ** 0.5


def _rectified_2(rho: Tensor, rho_inf: float) -> Tensor:
    # rectified(rho, rho_inf) = ((rho - 4)*(rho - 2)*rho_inf/((rho_inf - 4)*(rho_inf -
    #     2)*rho))**0.5
    return (
        (rho - 4) * (rho - 2) * rho_inf / (rho * ((rho_inf - 4) * (rho_inf - 2)))
    ).pow(0.5)


def _single_tensor_schedule_freeradam(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    r: float,
    weight_lr_power: float,
    silent_sgd_phase: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    rho_inf = 2 / (1 - beta2) - 1
    young = 0 if silent_sgd_phase else 1

    for p, grad, z, exp_avg_sq, weight_sum, lr_max, step in zip(
        params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if torch.is_complex(p):
            p, grad, z, exp_avg_sq = map(torch.view_as_real, (p, grad, z, exp_avg_sq))
        correction2 = 1 - beta2**t
        rho = rho_inf - 2 * t * beta2**t / correction2

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

        # denom = sqrt(exp_avg_sq/correction2) + eps
        denom = (exp_avg_sq / correction2).sqrt_().add_(eps)

        # rate = lr*(rectified(rho, rho_inf) if rho > 4 else young)
        rate = lr * (_rectified(rho, rho_inf) if rho > 4 else young)

        # update = grad/denom if rho > 4 else grad
        if rho > 4:
            update = grad / denom
        else:
            update = grad

        # lr_max = max(lr_max, rate)
        lr_max.fill_(max(lr_max.item(), rate))

        # weight = t**r*lr_max**weight_lr_power
        weight = t**r * lr_max.item() ** weight_lr_power

        # weight_sum += weight
        weight_sum.add_(weight)

        # share = weight/weight_sum if weight_sum > 0 else 0
        share = weight / weight_sum.item() if weight_sum.item() > 0 else 0
        if weight_decay != 0:
            # update += weight_decay*p
            update = update.add(p, alpha=weight_decay)

        # p = lerp(p, z, share) - rate*(1 - beta1*(1 - share))*update
        p.lerp_(z, share).add_(update, alpha=-rate * (1 - beta1 * (1 - share)))

        # z -= rate*update
        z.add_(update, alpha=-rate)


def _multi_tensor_schedule_freeradam(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    r: float,
    weight_lr_power: float,
    silent_sgd_phase: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps, weight_decay, r, weight_lr_power = map(
        float, (lr, eps, weight_decay, r, weight_lr_power)
    )
    betas = tuple(map(float, betas))
    beta1, beta2 = betas
    rho_inf = 2 / (1 - beta2) - 1
    young = 0 if silent_sgd_phase else 1

    columns = [params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps]
    keys = [
        (weight_sum.item(), lr_max.item(), step.item())
        for weight_sum, lr_max, step in zip(weight_sums, lr_maxes, steps, strict=True)
    ]
    for params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps in _alike(
        columns, keys
    ):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            zs = [torch.view_as_real(each) for each in zs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
            given = grads
        correction2 = 1 - beta2**t
        rho = rho_inf - 2 * t * beta2**t / correction2

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)

        # denom = sqrt(exp_avg_sq/correction2) + eps
        denoms = torch._foreach_div(exp_avg_sqs, correction2)
        torch._foreach_sqrt_(denoms)
        torch._foreach_add_(denoms, eps)

        # rate = lr*(rectified(rho, rho_inf) if rho > 4 else young)
        rate = lr * (_rectified(rho, rho_inf) if rho > 4 else young)

        # update = grad/denom if rho > 4 else grad
        if rho > 4:
            if grads is given:
                updates = torch._foreach_div(grads, denoms)
            else:
                torch._foreach_div_(grads, denoms)
                updates = grads
        else:
            updates = grads
        del denoms, grads

        # lr_max = max(lr_max, rate)
        new_lr_max = max(lr_maxes[0].item(), rate)
        for lr_max in lr_maxes:
            lr_max.fill_(new_lr_max)

        # weight = t**r*lr_max**weight_lr_power
        weight = t**r * lr_maxes[0].item() ** weight_lr_power

        # weight_sum += weight
        new_weight_sum = weight_sums[0].item() + weight
        for weight_sum in weight_sums:
            weight_sum.fill_(new_weight_sum)

        # share = weight/weight_sum if weight_sum > 0 else 0
        share = weight / weight_sums[0].item() if weight_sums[0].item() > 0 else 0
        if weight_decay != 0:
            # update += weight_decay*p
            updates = torch._foreach_add(updates, params, alpha=weight_decay)

        # p = lerp(p, z, share) - rate*(1 - beta1*(1 - share))*update
        torch._foreach_lerp_(params, zs, share)
        torch._foreach_add_(params, updates, alpha=-rate * (1 - beta1 * (1 - share)))

        # z -= rate*update
        torch._foreach_add_(zs, updates, alpha=-rate)


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


def _differentiable_schedule_freeradam(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    r: float,
    weight_lr_power: float,
    silent_sgd_phase: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    rho_inf = 2 / (1 - beta2) - 1
    young = 0 if silent_sgd_phase else 1

    for p, grad, z, exp_avg_sq, weight_sum, lr_max, step in zip(
        params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, z, exp_avg_sq, weight_sum, lr_max, step)
        p, z, exp_avg_sq, weight_sum, lr_max, step = (each.clone() for each in kept)
        step = step + 1
        t = step.item()
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, z, exp_avg_sq = map(torch.view_as_real, (p, grad, z, exp_avg_sq))
        correction2 = 1 - beta2**t
        rho = rho_inf - 2 * t * beta2**t / correction2

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)

        # denom = sqrt(exp_avg_sq/correction2) + eps
        denom = (exp_avg_sq / correction2).sqrt() + eps

        # rate = lr*(rectified(rho, rho_inf) if rho > 4 else young)
        rate = lr * (_rectified(rho, rho_inf) if rho > 4 else young)

        # update = grad/denom if rho > 4 else grad
        if rho > 4:
            update = grad / denom
        else:
            update = grad

        # lr_max = max(lr_max, rate)
        lr_max = torch.full_like(lr_max, max(lr_max.item(), rate))

        # weight = t**r*lr_max**weight_lr_power
        weight = t**r * lr_max.item() ** weight_lr_power

        # weight_sum += weight
        weight_sum = weight_sum.add(weight)

        # share = weight/weight_sum if weight_sum > 0 else 0
        share = weight / weight_sum.item() if weight_sum.item() > 0 else 0
        if weight_decay != 0:
            # update += weight_decay*p
            update = _scaled_add(update, p, weight_decay)

        # p = lerp(p, z, share) - rate*(1 - beta1*(1 - share))*update
        p = _scaled_add(p.lerp(z, share), update, -rate * (1 - beta1 * (1 - share)))

        # z -= rate*update
        z = _scaled_add(z, update, -rate)
        if is_complex:
            p, z, exp_avg_sq = map(torch.view_as_complex, (p, z, exp_avg_sq))

        for each, new in zip(
            kept, (p, z, exp_avg_sq, weight_sum, lr_max, step), strict=True
        ):
            each.copy_(new)


def _single_tensor_schedule_freeradam_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    r: float,
    weight_lr_power: float,
    silent_sgd_phase: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    rho_inf = 2 / (1 - beta2) - 1
    young = 0 if silent_sgd_phase else 1

    for p, grad, z, exp_avg_sq, weight_sum, lr_max, step in zip(
        params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad, z, exp_avg_sq = map(torch.view_as_real, (p, grad, z, exp_avg_sq))

        # correction2 = 1 - beta2**t
        correction2 = 1 - beta2**step

        # rho = rho_inf - 2*t*beta2**t/correction2
        rho = rho_inf - step * beta2**step * 2 / correction2

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

        # denom = sqrt(exp_avg_sq/correction2) + eps
        denom = (exp_avg_sq / correction2).sqrt_().add_(eps)

        # rate = lr*where(rho > 4, rectified(max(rho, 4), rho_inf), young)
        rate = torch.where(rho > 4, _rectified_2(rho.clamp(min=4), rho_inf), young) * lr

        # update = grad/where(rho > 4, denom, 1)
        update = grad / torch.where(rho > 4, denom, 1)

        # lr_max = max(lr_max, rate)
        torch.maximum(lr_max, rate, out=lr_max)

        # weight = t**r*lr_max**weight_lr_power
        weight = step.pow(r) * lr_max.pow(weight_lr_power)

        # weight_sum += weight
        weight_sum.add_(weight)

        # share = weight/weight_sum if weight_sum > 0 else 0
        share = torch.where(weight_sum > 0, weight / weight_sum, 0)
        if weight_decay != 0:
            # update += weight_decay*p
            update.add_(p, alpha=weight_decay)

        # p = lerp(p, z, share) - rate*(1 - beta1*(1 - share))*update
        p.lerp_(z, share).addcmul_(rate * (1 - (1 - share) * beta1), update, value=-1)

        # z -= rate*update
        z.addcmul_(rate, update, value=-1)


def _multi_tensor_schedule_freeradam_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    r: float,
    weight_lr_power: float,
    silent_sgd_phase: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    rho_inf = 2 / (1 - beta2) - 1
    young = 0 if silent_sgd_phase else 1

    columns = [params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps]
    for params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            zs = [torch.view_as_real(each) for each in zs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]

        # correction2 = 1 - beta2**t
        correction2s = torch._foreach_pow(beta2, steps)
        torch._foreach_neg_(correction2s)
        torch._foreach_add_(correction2s, 1)

        # rho = rho_inf - 2*t*beta2**t/correction2
        powers = torch._foreach_pow(beta2, steps)
        products = torch._foreach_mul(steps, powers)
        product_2s = torch._foreach_mul(products, 2)
        rhos = torch._foreach_div(product_2s, correction2s)
        torch._foreach_neg_(rhos)
        torch._foreach_add_(rhos, rho_inf)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        products = torch._foreach_mul(grads, 1 - beta2)
        torch._foreach_addcmul_(exp_avg_sqs, products, grads)
        del products

        # denom = sqrt(exp_avg_sq/correction2) + eps
        denoms = torch._foreach_div(exp_avg_sqs, correction2s)
        torch._foreach_sqrt_(denoms)
        torch._foreach_add_(denoms, eps)

        # rate = lr*where(rho > 4, rectified(max(rho, 4), rho_inf), young)
        clampeds = torch._foreach_clamp_min(rhos, 4)
        wheres = [
            torch.where(rho > 4, _rectified_2(clamped, rho_inf), young)
            for rho, clamped in zip(rhos, clampeds, strict=True)
        ]
        rates = torch._foreach_mul(wheres, lr)

        # update = grad/where(rho > 4, denom, 1)
        wheres = [
            torch.where(rho > 4, denom, 1)
            for rho, denom in zip(rhos, denoms, strict=True)
        ]
        del denoms
        torch._foreach_reciprocal_(wheres)
        torch._foreach_mul_(wheres, grads)
        del grads
        updates = wheres
        del wheres

        # lr_max = max(lr_max, rate)
        torch._foreach_maximum_(lr_maxes, rates)

        # weight = t**r*lr_max**weight_lr_power
        powers = torch._foreach_pow(steps, r)
        power_2s = torch._foreach_pow(lr_maxes, weight_lr_power)
        weights = torch._foreach_mul(powers, power_2s)

        # weight_sum += weight
        torch._foreach_add_(weight_sums, weights)

        # share = weight/weight_sum if weight_sum > 0 else 0
        quotients = torch._foreach_div(weights, weight_sums)
        shares = [
            torch.where(weight_sum > 0, quotient, 0)
            for weight_sum, quotient in zip(weight_sums, quotients, strict=True)
        ]
        if weight_decay != 0:
            # update += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            torch._foreach_add_(updates, products)

        # p = lerp(p, z, share) - rate*(1 - beta1*(1 - share))*update
        torch._foreach_lerp_(params, zs, shares)
        opposites = torch._foreach_neg(shares)
        torch._foreach_add_(opposites, 1)
        products = torch._foreach_mul(opposites, beta1)
        torch._foreach_neg_(products)
        torch._foreach_add_(products, 1)
        product_2s = torch._foreach_mul(rates, products)
        torch._foreach_addcmul_(params, product_2s, updates, value=-1)

        # z -= rate*update
        torch._foreach_addcmul_(zs, rates, updates, value=-1)


def _differentiable_schedule_freeradam_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    r: float,
    weight_lr_power: float,
    silent_sgd_phase: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    rho_inf = 2 / (1 - beta2) - 1
    young = 0 if silent_sgd_phase else 1

    for p, grad, z, exp_avg_sq, weight_sum, lr_max, step in zip(
        params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, z, exp_avg_sq, weight_sum, lr_max, step)
        p, z, exp_avg_sq, weight_sum, lr_max, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, z, exp_avg_sq = map(torch.view_as_real, (p, grad, z, exp_avg_sq))

        # correction2 = 1 - beta2**t
        correction2 = 1 - beta2**step

        # rho = rho_inf - 2*t*beta2**t/correction2
        rho = rho_inf - step * beta2**step * 2 / correction2

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)

        # denom = sqrt(exp_avg_sq/correction2) + eps
        denom = (exp_avg_sq / correction2).sqrt() + eps

        # rate = lr*where(rho > 4, rectified(max(rho, 4), rho_inf), young)
        rate = torch.where(rho > 4, _rectified_2(rho.clamp(min=4), rho_inf), young) * lr

        # update = grad/where(rho > 4, denom, 1)
        update = grad / torch.where(rho > 4, denom, 1)

        # lr_max = max(lr_max, rate)
        lr_max = torch.maximum(lr_max, rate)

        # weight = t**r*lr_max**weight_lr_power
        weight = step.pow(r) * lr_max.pow(weight_lr_power)

        # weight_sum += weight
        weight_sum = weight_sum + weight

        # share = weight/weight_sum if weight_sum > 0 else 0
        share = torch.where(weight_sum > 0, weight / weight_sum, 0)
        if weight_decay != 0:
            # update += weight_decay*p
            update = _scaled_add(update, p, weight_decay)

        # p = lerp(p, z, share) - rate*(1 - beta1*(1 - share))*update
        p = p.lerp(z, share).addcmul(rate * (1 - (1 - share) * beta1), update, value=-1)

        # z -= rate*update
        z = z.addcmul(rate, update, value=-1)
        if is_complex:
            p, z, exp_avg_sq = map(torch.view_as_complex, (p, z, exp_avg_sq))

        for each, new in zip(
            kept, (p, z, exp_avg_sq, weight_sum, lr_max, step), strict=True
        ):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["eps"],
        group["weight_decay"],
        group["r"],
        group["weight_lr_power"],
    ]
    options = [group["maximize"], group["silent_sgd_phase"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, zs, exp_avg_sqs, weight_sums, lr_maxes, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, zs, exp_avg_sqs],
            numbers=[weight_sums, lr_maxes, steps],
        )
    return launch.run()


_CPU = r"""// ScheduleFreeRAdam in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    z_t *z;
    exp_avg_sq_t *exp_avg_sq;
    weight_sum_t *weight_sum;
    lr_max_t *lr_max;
    step_t *step;
    double lr;
    double betas[2];
    double eps;
    double weight_decay;
    double r;
    double weight_lr_power;
};

// What is worked out once a tensor.
struct Numbers {
    double weight_sum, lr_max, t, beta1, beta2, correction2, rho_inf, rho, young,
        rectified_rho, rectified_rho_inf, rate, weight, share;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    // correction2 = 1 - beta2**t
    n.correction2 = 1.0 - std::pow(n.beta2, n.t);
    // rho_inf = 2/(1 - beta2) - 1
    n.rho_inf = 2.0 / (1.0 - n.beta2) - 1.0;
    // rho = rho_inf - 2*t*beta2**t/correction2
    n.rho = n.rho_inf - 2.0 * n.t * std::pow(n.beta2, n.t) / n.correction2;
    // young = 0 if silent_sgd_phase else 1
    n.young = silent_sgd_phase ? 0.0 : 1.0;
    // rectified(rho, rho_inf)
    n.rectified_rho = n.rho;
    n.rectified_rho_inf = n.rho_inf;
    // rate = lr*(rectified(rho, rho_inf) if rho > 4 else young)
    n.rate = row.lr * (n.rho > 4.0 ? std::pow((n.rectified_rho - 4.0) * (n.rectified_rho
        - 2.0) * n.rectified_rho_inf / ((n.rectified_rho_inf - 4.0) *
        (n.rectified_rho_inf - 2.0) * n.rectified_rho), 0.5) : n.young);
    // lr_max = max(lr_max, rate)
    n.lr_max = max_(n.lr_max, n.rate);
    // weight = t**r*lr_max**weight_lr_power
    n.weight = std::pow(n.t, row.r) * std::pow(n.lr_max, row.weight_lr_power);
    // weight_sum += weight
    n.weight_sum = n.weight_sum + n.weight;
    // share = weight/weight_sum if weight_sum > 0 else 0
    n.share = n.weight_sum > 0.0 ? n.weight / n.weight_sum : 0.0;
    return are_finite(n.correction2, n.rho_inf, n.rho, n.young, n.rate, n.lr_max,
        n.weight, n.weight_sum, n.share);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::z, &Row::exp_avg_sq);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real z = load(row.z[i]);
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            // exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq = real(n.beta2) * exp_avg_sq + real(1.0 - n.beta2) * grad * grad;
            // denom = sqrt(exp_avg_sq/correction2) + eps
            const real denom = sqrt_(exp_avg_sq * real(1.0 / n.correction2)) +
                real(row.eps);
            // update = grad/denom if rho > 4 else grad
            real update = n.rho > 4.0 ? grad / denom : grad;
            if (weight_decay_is_not_0) {
                // update += weight_decay*p
                update = update + real(row.weight_decay) * p;
            }
            // p = lerp(p, z, share) - rate*(1 - beta1*(1 - share))*update
            p = lerp_(p, z, real(n.share)) - real(n.rate * (1.0 - n.beta1 * (1.0 -
                n.share))) * update;
            // z -= rate*update
            z = z - real(n.rate) * update;
            store(row.p[i], p);
            store(row.z[i], z);
            store(row.exp_avg_sq[i], exp_avg_sq);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_schedule_freeradam(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.z = (z_t *)table->columns[2][at];
        row.exp_avg_sq = (exp_avg_sq_t *)table->columns[3][at];
        row.weight_sum = (weight_sum_t *)table->columns[4][at];
        row.lr_max = (lr_max_t *)table->columns[5][at];
        row.step = (step_t *)table->columns[6][at];
        const double *hyper = table->hypers + 7 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        row.r = *hyper++;
        row.weight_lr_power = *hyper++;
        numbers[at].weight_sum = load(*row.weight_sum);
        numbers[at].lr_max = load(*row.lr_max);
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].weight_sum, numbers[at].weight_sum);
        store(*rows[at].lr_max, numbers[at].lr_max);
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# ScheduleFreeRAdam in one pass over memory.

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
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "z_t", "exp_avg_sq_t", "weight_sum_t", "lr_max_t", "step_t")
OPTIONS = ("maximize", "silent_sgd_phase", "weight_decay_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    weight_sum_t: tl.constexpr,
    lr_max_t: tl.constexpr,
    step_t: tl.constexpr,
    silent_sgd_phase: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 7 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    r = tl.load(of + 5)
    weight_lr_power = tl.load(of + 6)
    weight_sum = number(columns, rows, row, 4, weight_sum_t)
    lr_max = number(columns, rows, row, 5, lr_max_t)
    t = number(columns, rows, row, 6, step_t) + 1
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    # correction2 = 1 - beta2**t
    correction2 = 1.0 - libdevice.pow(beta2, t)
    # rho_inf = 2/(1 - beta2) - 1
    rho_inf = 2.0 / (1.0 - beta2) - 1.0
    # rho = rho_inf - 2*t*beta2**t/correction2
    rho = rho_inf - 2.0 * t * libdevice.pow(beta2, t) / correction2
    # young = 0 if silent_sgd_phase else 1
    young = double(0.0) if silent_sgd_phase else double(1.0)
    # rectified(rho, rho_inf)
    rectified_rho = rho
    rectified_rho_inf = rho_inf
    # rate = lr*(rectified(rho, rho_inf) if rho > 4 else young)
    rate = lr * tl.where(
        rho > 4.0,
        libdevice.pow(
            (rectified_rho - 4.0)
            * (rectified_rho - 2.0)
            * rectified_rho_inf
            / ((rectified_rho_inf - 4.0) * (rectified_rho_inf - 2.0) * rectified_rho),
            double(0.5),
        ),
        young,
    )
    # lr_max = max(lr_max, rate)
    lr_max = larger(lr_max, rate)
    # weight = t**r*lr_max**weight_lr_power
    weight = libdevice.pow(t, r) * libdevice.pow(lr_max, weight_lr_power)
    # weight_sum += weight
    weight_sum = weight_sum + weight
    # share = weight/weight_sum if weight_sum > 0 else 0
    share = tl.where(weight_sum > 0.0, weight / weight_sum, double(0.0))
    tl.store(n + 0 * rows, beta1)
    tl.store(n + 1 * rows, beta2)
    tl.store(n + 2 * rows, correction2)
    tl.store(n + 3 * rows, rate)
    tl.store(n + 4 * rows, rho)
    tl.store(n + 5 * rows, share)
    keep_number(columns, rows, row, 4, weight_sum_t, weight_sum)
    keep_number(columns, rows, row, 5, lr_max_t, lr_max)
    keep_number(columns, rows, row, 6, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    z_t: tl.constexpr,
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
    of = hypers + 7 * tl.load(group + row)
    eps = tl.load(of + 3)
    weight_decay = tl.load(of + 4)
    beta1 = tl.load(n + 0 * rows)
    beta2 = tl.load(n + 1 * rows)
    correction2 = tl.load(n + 2 * rows)
    rate = tl.load(n + 3 * rows)
    rho = tl.load(n + 4 * rows)
    share = tl.load(n + 5 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    z_at = column(columns, rows, row, 2, z_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    z = elements(z_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
    exp_avg_sq = beta2.to(real) * exp_avg_sq + (1.0 - beta2).to(real) * grad * grad
    # denom = sqrt(exp_avg_sq/correction2) + eps
    denom = tl.sqrt(exp_avg_sq / correction2.to(real)) + eps.to(real)
    # update = grad/denom if rho > 4 else grad
    update = tl.where(rho > 4.0, grad / denom, grad)
    if weight_decay_is_not_0:
        # update += weight_decay*p
        update = update + weight_decay.to(real) * p
    # p = lerp(p, z, share) - rate*(1 - beta1*(1 - share))*update
    p = lerp(p, z, share.to(real)) - (rate * (1.0 - beta1 * (1.0 - share))).to(
        real
    ) * update
    # z -= rate*update
    z = z - rate.to(real) * update
    keep(p_at, i, left, p)
    keep(z_at, i, left, z)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)


def launch(x):
    x.numbers = x.new(6 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_schedule_freeradam",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "z", "exp_avg_sq"),
    numbers=("weight_sum", "lr_max", "step"),
    options=("maximize", "silent_sgd_phase", "weight_decay_is_not_0"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
