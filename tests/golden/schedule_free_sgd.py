"""Schedule-free SGD: the average of the iterates in place of a schedule.

Defazio et al. (2024), The Road Less Scheduled, https://arxiv.org/abs/2405.15682
Follows the authors' schedulefree 1.4. Gradients are taken at p in train mode; `eval()`
turns p into the average, which is to be evaluated and kept. A parameter counts its own
steps; theirs count those of the group. With batch norm,
pass some batches through the model before an evaluation.
"""
# Compiled by optdsl from schedule_free_sgd.opt, content cf30cfc2461c.

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

__all__ = ["ScheduleFreeSGD"]


class ScheduleFreeSGD(Optimizer):
    """Schedule-free SGD: the average of the iterates in place of a schedule.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, after the warm-up, in [0, inf) (default:
            1.0).
        momentum (float, optional): how far p is from the iterate to the average, in (0,
            1) (default: 0.9).
        weight_decay (float, optional): share of p that is added to the gradient, in [0,
            inf) (default: 0).
        warmup_steps (int, optional): steps in which the learning rate rises, in [0,
            inf) (default: 0).
        r (float, optional): power of t in the weight of an iterate, in (-inf, inf)
            (default: 0.0).
        weight_lr_power (float, optional): power of the largest learning rate in it, in
            (-inf, inf) (default: 2.0).
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
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
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
            group.setdefault("momentum", 0.9)
            group.setdefault("weight_decay", 0)
            group.setdefault("warmup_steps", 0)
            group.setdefault("r", 0.0)
            group.setdefault("weight_lr_power", 2.0)
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
        for name in ("lr", "momentum", "weight_decay", "r", "weight_lr_power"):
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
                raise RuntimeError("ScheduleFreeSGD does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["z"] = p.clone(memory_format=torch.preserve_format)
                state["weight_sum"] = _zero_dim(0.0, group, p)
                state["lr_max"] = _zero_dim(0.0, group, p)
            params.append(p)
            grads.append(grad)
            zs.append(state["z"])
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
            zs: list[Tensor] = []
            weight_sums: list[Tensor] = []
            lr_maxes: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, zs, weight_sums, lr_maxes, steps)
            groups.append((group, [params, grads, zs, weight_sums, lr_maxes, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, zs, weight_sums, lr_maxes, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = (
                _multi_tensor_schedule_freesgd
                if use_foreach
                else _single_tensor_schedule_freesgd
            )
            if group["capturable"]:
                _check_capturable(params, weight_sums, lr_maxes, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_schedule_freesgd_capturable
                if use_foreach:
                    update = _multi_tensor_schedule_freesgd_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_schedule_freesgd
                if group["capturable"]:
                    update = _differentiable_schedule_freesgd_capturable
            update(
                params,
                grads,
                zs,
                weight_sums,
                lr_maxes,
                steps,
                lr=group["lr"],
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                warmup_steps=group["warmup_steps"],
                r=group["r"],
                weight_lr_power=group["weight_lr_power"],
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
            momentum = group["momentum"]
            for param in group["params"]:
                if param not in self.state:
                    continue
                p = torch.view_as_real(param) if torch.is_complex(param) else param
                state = self.state[param]
                z = state["z"]
                if torch.is_complex(z):
                    z = torch.view_as_real(z)
                # p = lerp(p, z, 1 - momentum)
                p.lerp_(z, 1 - momentum)

    @torch.no_grad()
    def eval(self) -> None:
        """Turn the parameters into those to evaluate, if they are not yet."""
        for group in self.param_groups:
            if not group["train_mode"]:
                continue
            group["train_mode"] = False
            momentum = group["momentum"]
            for param in group["params"]:
                if param not in self.state:
                    continue
                p = torch.view_as_real(param) if torch.is_complex(param) else param
                state = self.state[param]
                z = state["z"]
                if torch.is_complex(z):
                    z = torch.view_as_real(z)
                # p = lerp(p, z, 1 - 1/momentum)
                p.lerp_(z, 1 - 1 / momentum)


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    weight_decay = group["weight_decay"]
    warmup_steps = group["warmup_steps"]
    r = group["r"]
    weight_lr_power = group["weight_lr_power"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 < momentum < 1:
        raise ValueError(f"Invalid momentum: {momentum!r}, expected a number in (0, 1)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    _check_int("warmup_steps", warmup_steps)
    if not 0 <= warmup_steps < math.inf:
        raise ValueError(
            f"Invalid warmup_steps: {warmup_steps!r}, expected an int in [0, inf)"
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


def _single_tensor_schedule_freesgd(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    warmup_steps: int,
    r: float,
    weight_lr_power: float,
    maximize: bool,
) -> None:
    for p, grad, z, weight_sum, lr_max, step in zip(
        params, grads, zs, weight_sums, lr_maxes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if torch.is_complex(p):
            p, grad, z = map(torch.view_as_real, (p, grad, z))
        rate = lr * min(1, t / max(1, warmup_steps))

        # lr_max = max(lr_max, rate)
        lr_max.fill_(max(lr_max.item(), rate))

        # weight = t**r*lr_max**weight_lr_power
        weight = t**r * lr_max.item() ** weight_lr_power

        # weight_sum += weight
        weight_sum.add_(weight)

        # share = weight/weight_sum if weight_sum > 0 else 0
        share = weight / weight_sum.item() if weight_sum.item() > 0 else 0
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # p = lerp(p, z, share)
        p.lerp_(z, share)

        # p -= rate*(1 - momentum*(1 - share))*grad
        p.add_(grad, alpha=-rate * (1 - momentum * (1 - share)))

        # z -= rate*grad
        z.add_(grad, alpha=-rate)


def _multi_tensor_schedule_freesgd(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    warmup_steps: int,
    r: float,
    weight_lr_power: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, weight_decay, r, weight_lr_power = map(
        float, (lr, momentum, weight_decay, r, weight_lr_power)
    )

    columns = [params, grads, zs, weight_sums, lr_maxes, steps]
    keys = [
        (weight_sum.item(), lr_max.item(), step.item())
        for weight_sum, lr_max, step in zip(weight_sums, lr_maxes, steps, strict=True)
    ]
    for params, grads, zs, weight_sums, lr_maxes, steps in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            zs = [torch.view_as_real(each) for each in zs]
            given = grads
        rate = lr * min(1, t / max(1, warmup_steps))

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
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)

        # p = lerp(p, z, share)
        torch._foreach_lerp_(params, zs, share)

        # p -= rate*(1 - momentum*(1 - share))*grad
        torch._foreach_add_(params, grads, alpha=-rate * (1 - momentum * (1 - share)))

        # z -= rate*grad
        torch._foreach_add_(zs, grads, alpha=-rate)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_schedule_freesgd(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    warmup_steps: int,
    r: float,
    weight_lr_power: float,
    maximize: bool,
) -> None:
    for p, grad, z, weight_sum, lr_max, step in zip(
        params, grads, zs, weight_sums, lr_maxes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, z, weight_sum, lr_max, step)
        p, z, weight_sum, lr_max, step = (each.clone() for each in kept)
        step = step + 1
        t = step.item()
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, z = map(torch.view_as_real, (p, grad, z))
        rate = lr * min(1, t / max(1, warmup_steps))

        # lr_max = max(lr_max, rate)
        lr_max = torch.full_like(lr_max, max(lr_max.item(), rate))

        # weight = t**r*lr_max**weight_lr_power
        weight = t**r * lr_max.item() ** weight_lr_power

        # weight_sum += weight
        weight_sum = weight_sum.add(weight)

        # share = weight/weight_sum if weight_sum > 0 else 0
        share = weight / weight_sum.item() if weight_sum.item() > 0 else 0
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # p = lerp(p, z, share)
        p = p.lerp(z, share)

        # p -= rate*(1 - momentum*(1 - share))*grad
        p = _scaled_add(p, grad, -rate * (1 - momentum * (1 - share)))

        # z -= rate*grad
        z = _scaled_add(z, grad, -rate)
        if is_complex:
            p, z = map(torch.view_as_complex, (p, z))

        for each, new in zip(kept, (p, z, weight_sum, lr_max, step), strict=True):
            each.copy_(new)


def _single_tensor_schedule_freesgd_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    warmup_steps: int,
    r: float,
    weight_lr_power: float,
    maximize: bool,
) -> None:
    for p, grad, z, weight_sum, lr_max, step in zip(
        params, grads, zs, weight_sums, lr_maxes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad, z = map(torch.view_as_real, (p, grad, z))

        # rate = lr*min(1, t/max(1, warmup_steps))
        rate = (step / max(1, warmup_steps)).clamp(max=1) * lr

        # lr_max = max(lr_max, rate)
        torch.maximum(lr_max, rate, out=lr_max)

        # weight = t**r*lr_max**weight_lr_power
        weight = step.pow(r) * lr_max.pow(weight_lr_power)

        # weight_sum += weight
        weight_sum.add_(weight)

        # share = weight/weight_sum if weight_sum > 0 else 0
        share = torch.where(weight_sum > 0, weight / weight_sum, 0)
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # p = lerp(p, z, share)
        p.lerp_(z, share)

        # p -= rate*(1 - momentum*(1 - share))*grad
        p.addcmul_(rate * (1 - (1 - share) * momentum), grad, value=-1)

        # z -= rate*grad
        z.addcmul_(rate, grad, value=-1)


def _multi_tensor_schedule_freesgd_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    warmup_steps: int,
    r: float,
    weight_lr_power: float,
    maximize: bool,
) -> None:
    columns = [params, grads, zs, weight_sums, lr_maxes, steps]
    for params, grads, zs, weight_sums, lr_maxes, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            zs = [torch.view_as_real(each) for each in zs]
            given = grads

        # rate = lr*min(1, t/max(1, warmup_steps))
        quotients = torch._foreach_div(steps, max(1, warmup_steps))
        clampeds = torch._foreach_clamp_max(quotients, 1)
        rates = torch._foreach_mul(clampeds, lr)

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
            # grad += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)

        # p = lerp(p, z, share)
        torch._foreach_lerp_(params, zs, shares)

        # p -= rate*(1 - momentum*(1 - share))*grad
        opposites = torch._foreach_neg(shares)
        torch._foreach_add_(opposites, 1)
        products = torch._foreach_mul(opposites, momentum)
        torch._foreach_neg_(products)
        torch._foreach_add_(products, 1)
        product_2s = torch._foreach_mul(rates, products)
        torch._foreach_addcmul_(params, product_2s, grads, value=-1)

        # z -= rate*grad
        torch._foreach_addcmul_(zs, rates, grads, value=-1)


def _differentiable_schedule_freesgd_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    weight_sums: list[Tensor],
    lr_maxes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    warmup_steps: int,
    r: float,
    weight_lr_power: float,
    maximize: bool,
) -> None:
    for p, grad, z, weight_sum, lr_max, step in zip(
        params, grads, zs, weight_sums, lr_maxes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, z, weight_sum, lr_max, step)
        p, z, weight_sum, lr_max, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, z = map(torch.view_as_real, (p, grad, z))

        # rate = lr*min(1, t/max(1, warmup_steps))
        rate = (step / max(1, warmup_steps)).clamp(max=1) * lr

        # lr_max = max(lr_max, rate)
        lr_max = torch.maximum(lr_max, rate)

        # weight = t**r*lr_max**weight_lr_power
        weight = step.pow(r) * lr_max.pow(weight_lr_power)

        # weight_sum += weight
        weight_sum = weight_sum + weight

        # share = weight/weight_sum if weight_sum > 0 else 0
        share = torch.where(weight_sum > 0, weight / weight_sum, 0)
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # p = lerp(p, z, share)
        p = p.lerp(z, share)

        # p -= rate*(1 - momentum*(1 - share))*grad
        p = p.addcmul(rate * (1 - (1 - share) * momentum), grad, value=-1)

        # z -= rate*grad
        z = z.addcmul(rate, grad, value=-1)
        if is_complex:
            p, z = map(torch.view_as_complex, (p, z))

        for each, new in zip(kept, (p, z, weight_sum, lr_max, step), strict=True):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["momentum"],
        group["weight_decay"],
        group["warmup_steps"],
        group["r"],
        group["weight_lr_power"],
    ]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, zs, weight_sums, lr_maxes, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, zs],
            numbers=[weight_sums, lr_maxes, steps],
        )
    return launch.run()


_CPU = r"""// ScheduleFreeSGD in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    z_t *z;
    weight_sum_t *weight_sum;
    lr_max_t *lr_max;
    step_t *step;
    double lr;
    double momentum;
    double weight_decay;
    double warmup_steps;
    double r;
    double weight_lr_power;
};

// What is worked out once a tensor.
struct Numbers {
    double weight_sum, lr_max, t, rate, weight, share;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // rate = lr*min(1, t/max(1, warmup_steps))
    n.rate = row.lr * min_(1.0, n.t / max_(1.0, row.warmup_steps));
    // lr_max = max(lr_max, rate)
    n.lr_max = max_(n.lr_max, n.rate);
    // weight = t**r*lr_max**weight_lr_power
    n.weight = std::pow(n.t, row.r) * std::pow(n.lr_max, row.weight_lr_power);
    // weight_sum += weight
    n.weight_sum = n.weight_sum + n.weight;
    // share = weight/weight_sum if weight_sum > 0 else 0
    n.share = n.weight_sum > 0.0 ? n.weight / n.weight_sum : 0.0;
    return are_finite(n.rate, n.lr_max, n.weight, n.weight_sum, n.share);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::z);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real z = load(row.z[i]);
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // p = lerp(p, z, share)
            p = lerp_(p, z, real(n.share));
            // p -= rate*(1 - momentum*(1 - share))*grad
            p = p - real(n.rate * (1.0 - row.momentum * (1.0 - n.share))) * grad;
            // z -= rate*grad
            z = z - real(n.rate) * grad;
            store(row.p[i], p);
            store(row.z[i], z);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_schedule_freesgd(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.z = (z_t *)table->columns[2][at];
        row.weight_sum = (weight_sum_t *)table->columns[3][at];
        row.lr_max = (lr_max_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        const double *hyper = table->hypers + 6 * table->group[at];
        row.lr = *hyper++;
        row.momentum = *hyper++;
        row.weight_decay = *hyper++;
        row.warmup_steps = *hyper++;
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

_CUDA = r"""# ScheduleFreeSGD in one pass over memory.

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
TYPES = ("p_t", "grad_t", "z_t", "weight_sum_t", "lr_max_t", "step_t")
OPTIONS = ("maximize", "weight_decay_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    weight_sum_t: tl.constexpr,
    lr_max_t: tl.constexpr,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 6 * tl.load(group + row)
    lr = tl.load(of + 0)
    warmup_steps = tl.load(of + 3)
    r = tl.load(of + 4)
    weight_lr_power = tl.load(of + 5)
    weight_sum = number(columns, rows, row, 3, weight_sum_t)
    lr_max = number(columns, rows, row, 4, lr_max_t)
    t = number(columns, rows, row, 5, step_t) + 1
    # rate = lr*min(1, t/max(1, warmup_steps))
    rate = lr * smaller(double(1.0), t / larger(double(1.0), warmup_steps))
    # lr_max = max(lr_max, rate)
    lr_max = larger(lr_max, rate)
    # weight = t**r*lr_max**weight_lr_power
    weight = libdevice.pow(t, r) * libdevice.pow(lr_max, weight_lr_power)
    # weight_sum += weight
    weight_sum = weight_sum + weight
    # share = weight/weight_sum if weight_sum > 0 else 0
    share = tl.where(weight_sum > 0.0, weight / weight_sum, double(0.0))
    tl.store(n + 0 * rows, rate)
    tl.store(n + 1 * rows, share)
    keep_number(columns, rows, row, 3, weight_sum_t, weight_sum)
    keep_number(columns, rows, row, 4, lr_max_t, lr_max)
    keep_number(columns, rows, row, 5, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    z_t: tl.constexpr,
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
    of = hypers + 6 * tl.load(group + row)
    momentum = tl.load(of + 1)
    weight_decay = tl.load(of + 2)
    rate = tl.load(n + 0 * rows)
    share = tl.load(n + 1 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    z_at = column(columns, rows, row, 2, z_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    z = elements(z_at, i, left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # p = lerp(p, z, share)
    p = lerp(p, z, share.to(real))
    # p -= rate*(1 - momentum*(1 - share))*grad
    p = p - (rate * (1.0 - momentum * (1.0 - share))).to(real) * grad
    # z -= rate*grad
    z = z - rate.to(real) * grad
    keep(p_at, i, left, p)
    keep(z_at, i, left, z)


def launch(x):
    x.numbers = x.new(2 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_schedule_freesgd",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "z"),
    numbers=("weight_sum", "lr_max", "step"),
    options=("maximize", "weight_decay_is_not_0"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
