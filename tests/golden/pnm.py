"""PNM: two momenta that take turns, one step with a plus, the next with a minus.

Xie et al. (2021), Positive-Negative Momentum: Manipulating Stochastic Gradient Noise to
Improve Generalization, https://arxiv.org/abs/2103.17182
Follows the authors' code, https://github.com/zeke-xie/Positive-Negative-Momentum. The
turns are those of the parameter; pytorch_optimizer counts the steps of the group.
"""
# Compiled by optdsl from pnm.opt, content 6669f53bbd5b.

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

__all__ = ["PNM"]


class PNM(Optimizer):
    """PNM: two momenta that take turns, one step with a plus, the next with a minus.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        betas (tuple[float, float], optional): decay per step, and share of the other
            momentum, in [0, inf) (default: (0.9, 1.0)).
        weight_decay (float, optional): share of a weight that decays, or L2 penalty, in
            [0, inf) (default: 0).
        decoupled (bool, optional): decay the weights, not the gradient (default: True).
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
        pos_momentum: momentum of the odd steps (like p).
        neg_momentum: momentum of the even steps (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 1.0),
        weight_decay: float = 0,
        decoupled: bool = True,
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
            "weight_decay": weight_decay,
            "decoupled": decoupled,
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
            group.setdefault("betas", (0.9, 1.0))
            group.setdefault("weight_decay", 0)
            group.setdefault("decoupled", True)
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
        for name in ("lr", "betas", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        pos_momentums: list[Tensor],
        neg_momentums: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("PNM does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["pos_momentum"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["neg_momentum"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            pos_momentums.append(state["pos_momentum"])
            neg_momentums.append(state["neg_momentum"])
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
                self._init_group(group, [], [], [], [], [])
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
            pos_momentums: list[Tensor] = []
            neg_momentums: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, pos_momentums, neg_momentums, steps)
            groups.append((group, [params, grads, pos_momentums, neg_momentums, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, pos_momentums, neg_momentums, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_pnm if use_foreach else _single_tensor_pnm
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_pnm_capturable
                if use_foreach:
                    update = _multi_tensor_pnm_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_pnm
                if group["capturable"]:
                    update = _differentiable_pnm_capturable
            update(
                params,
                grads,
                pos_momentums,
                neg_momentums,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                weight_decay=group["weight_decay"],
                decoupled=group["decoupled"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    weight_decay = group["weight_decay"]
    decoupled = group["decoupled"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < math.inf for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, inf)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if decoupled not in (False, True):
        raise ValueError(f"Invalid decoupled: {decoupled!r}, expected True or False")
    if not betas[0] < 1:
        raise ValueError(f"a momentum decays (got betas={betas!r})")
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


def _single_tensor_pnm(
    params: list[Tensor],
    grads: list[Tensor],
    pos_momentums: list[Tensor],
    neg_momentums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    fresh = 1 - beta1**2

    for p, grad, pos_momentum, neg_momentum, step in zip(
        params, grads, pos_momentums, neg_momentums, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if torch.is_complex(p):
            p, grad, pos_momentum, neg_momentum = map(
                torch.view_as_real, (p, grad, pos_momentum, neg_momentum)
            )
        if weight_decay != 0 and decoupled:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        if t % 2 == 1:
            # pos_momentum = lerp(pos_momentum, grad, fresh)
            pos_momentum.lerp_(grad, fresh)

            # update = (1 + beta2)*pos_momentum - beta2*neg_momentum
            update = (pos_momentum * (1 + beta2)).add_(neg_momentum, alpha=-beta2)
        else:
            # neg_momentum = lerp(neg_momentum, grad, fresh)
            neg_momentum.lerp_(grad, fresh)

            # update = (1 + beta2)*neg_momentum - beta2*pos_momentum
            update = (neg_momentum * (1 + beta2)).add_(pos_momentum, alpha=-beta2)

        # p -= lr/sqrt((1 + beta2)**2 + beta2**2)*update
        p.add_(update, alpha=-lr / math.sqrt((1 + beta2) ** 2 + beta2**2))


def _multi_tensor_pnm(
    params: list[Tensor],
    grads: list[Tensor],
    pos_momentums: list[Tensor],
    neg_momentums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, weight_decay = map(float, (lr, weight_decay))
    betas = tuple(map(float, betas))
    beta1, beta2 = betas
    fresh = 1 - beta1**2

    columns = [params, grads, pos_momentums, neg_momentums, steps]
    keys = [step.item() for step in steps]
    for params, grads, pos_momentums, neg_momentums, steps in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            pos_momentums = [torch.view_as_real(each) for each in pos_momentums]
            neg_momentums = [torch.view_as_real(each) for each in neg_momentums]
            given = grads
        if weight_decay != 0 and decoupled:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        if t % 2 == 1:
            # pos_momentum = lerp(pos_momentum, grad, fresh)
            torch._foreach_lerp_(pos_momentums, grads, fresh)

            # update = (1 + beta2)*pos_momentum - beta2*neg_momentum
            updates = torch._foreach_mul(pos_momentums, 1 + beta2)
            torch._foreach_add_(updates, neg_momentums, alpha=-beta2)
        else:
            # neg_momentum = lerp(neg_momentum, grad, fresh)
            torch._foreach_lerp_(neg_momentums, grads, fresh)

            # update = (1 + beta2)*neg_momentum - beta2*pos_momentum
            updates = torch._foreach_mul(neg_momentums, 1 + beta2)
            torch._foreach_add_(updates, pos_momentums, alpha=-beta2)

        # p -= lr/sqrt((1 + beta2)**2 + beta2**2)*update
        torch._foreach_add_(
            params, updates, alpha=-lr / math.sqrt((1 + beta2) ** 2 + beta2**2)
        )


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_pnm(
    params: list[Tensor],
    grads: list[Tensor],
    pos_momentums: list[Tensor],
    neg_momentums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    fresh = 1 - beta1**2

    for p, grad, pos_momentum, neg_momentum, step in zip(
        params, grads, pos_momentums, neg_momentums, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, pos_momentum, neg_momentum, step)
        p, pos_momentum, neg_momentum, step = (each.clone() for each in kept)
        step = step + 1
        t = step.item()
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, pos_momentum, neg_momentum = map(
                torch.view_as_real, (p, grad, pos_momentum, neg_momentum)
            )
        if weight_decay != 0 and decoupled:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        if t % 2 == 1:
            # pos_momentum = lerp(pos_momentum, grad, fresh)
            pos_momentum = pos_momentum.lerp(grad, fresh)

            # update = (1 + beta2)*pos_momentum - beta2*neg_momentum
            update = _scaled_add(pos_momentum * (1 + beta2), neg_momentum, -beta2)
        else:
            # neg_momentum = lerp(neg_momentum, grad, fresh)
            neg_momentum = neg_momentum.lerp(grad, fresh)

            # update = (1 + beta2)*neg_momentum - beta2*pos_momentum
            update = _scaled_add(neg_momentum * (1 + beta2), pos_momentum, -beta2)

        # p -= lr/sqrt((1 + beta2)**2 + beta2**2)*update
        p = _scaled_add(p, update, -lr / math.sqrt((1 + beta2) ** 2 + beta2**2))
        if is_complex:
            p, pos_momentum, neg_momentum = map(
                torch.view_as_complex, (p, pos_momentum, neg_momentum)
            )

        for each, new in zip(kept, (p, pos_momentum, neg_momentum, step), strict=True):
            each.copy_(new)


def _single_tensor_pnm_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    pos_momentums: list[Tensor],
    neg_momentums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    fresh = 1 - beta1**2

    for p, grad, pos_momentum, neg_momentum, step in zip(
        params, grads, pos_momentums, neg_momentums, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad, pos_momentum, neg_momentum = map(
                torch.view_as_real, (p, grad, pos_momentum, neg_momentum)
            )
        if weight_decay != 0 and decoupled:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # odd = as_tensor(t) - 2*floor(as_tensor(t)/2)
        odd = step.add((step / 2).floor(), alpha=-2)

        # pos_momentum = lerp(pos_momentum, grad, fresh*odd)
        pos_momentum.lerp_(grad, odd * fresh)

        # neg_momentum = lerp(neg_momentum, grad, fresh*(1 - odd))
        neg_momentum.lerp_(grad, (1 - odd) * fresh)

        # update = lerp(neg_momentum, pos_momentum, (1 + 2*beta2)*odd - beta2)
        update = neg_momentum.lerp(pos_momentum, odd * (1 + 2 * beta2) - beta2)

        # p -= lr/sqrt((1 + beta2)**2 + beta2**2)*update
        p.add_(update, alpha=-lr / math.sqrt((1 + beta2) ** 2 + beta2**2))


def _multi_tensor_pnm_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    pos_momentums: list[Tensor],
    neg_momentums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    fresh = 1 - beta1**2

    columns = [params, grads, pos_momentums, neg_momentums, steps]
    for params, grads, pos_momentums, neg_momentums, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            pos_momentums = [torch.view_as_real(each) for each in pos_momentums]
            neg_momentums = [torch.view_as_real(each) for each in neg_momentums]
            given = grads
        if weight_decay != 0 and decoupled:
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

        # odd = as_tensor(t) - 2*floor(as_tensor(t)/2)
        quotients = torch._foreach_div(steps, 2)
        floors = torch._foreach_floor(quotients)
        odds = torch._foreach_add(steps, floors, alpha=-2)

        # pos_momentum = lerp(pos_momentum, grad, fresh*odd)
        products = torch._foreach_mul(odds, fresh)
        torch._foreach_lerp_(pos_momentums, grads, products)

        # neg_momentum = lerp(neg_momentum, grad, fresh*(1 - odd))
        opposites = torch._foreach_neg(odds)
        torch._foreach_add_(opposites, 1)
        products = torch._foreach_mul(opposites, fresh)
        torch._foreach_lerp_(neg_momentums, grads, products)
        del grads

        # update = lerp(neg_momentum, pos_momentum, (1 + 2*beta2)*odd - beta2)
        products = torch._foreach_mul(odds, 1 + 2 * beta2)
        differences = torch._foreach_sub(products, beta2)
        updates = torch._foreach_lerp(neg_momentums, pos_momentums, differences)

        # p -= lr/sqrt((1 + beta2)**2 + beta2**2)*update
        products = torch._foreach_mul(
            updates, -lr / math.sqrt((1 + beta2) ** 2 + beta2**2)
        )
        torch._foreach_add_(params, products)


def _differentiable_pnm_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    pos_momentums: list[Tensor],
    neg_momentums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    fresh = 1 - beta1**2

    for p, grad, pos_momentum, neg_momentum, step in zip(
        params, grads, pos_momentums, neg_momentums, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, pos_momentum, neg_momentum, step)
        p, pos_momentum, neg_momentum, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, pos_momentum, neg_momentum = map(
                torch.view_as_real, (p, grad, pos_momentum, neg_momentum)
            )
        if weight_decay != 0 and decoupled:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # odd = as_tensor(t) - 2*floor(as_tensor(t)/2)
        odd = step.add((step / 2).floor(), alpha=-2)

        # pos_momentum = lerp(pos_momentum, grad, fresh*odd)
        pos_momentum = pos_momentum.lerp(grad, odd * fresh)

        # neg_momentum = lerp(neg_momentum, grad, fresh*(1 - odd))
        neg_momentum = neg_momentum.lerp(grad, (1 - odd) * fresh)

        # update = lerp(neg_momentum, pos_momentum, (1 + 2*beta2)*odd - beta2)
        update = neg_momentum.lerp(pos_momentum, odd * (1 + 2 * beta2) - beta2)

        # p -= lr/sqrt((1 + beta2)**2 + beta2**2)*update
        p = _scaled_add(p, update, -lr / math.sqrt((1 + beta2) ** 2 + beta2**2))
        if is_complex:
            p, pos_momentum, neg_momentum = map(
                torch.view_as_complex, (p, pos_momentum, neg_momentum)
            )

        for each, new in zip(kept, (p, pos_momentum, neg_momentum, step), strict=True):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["betas"][0], group["betas"][1], group["weight_decay"]]
    options = [group["maximize"], group["weight_decay"] != 0, group["decoupled"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, pos_momentums, neg_momentums, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, pos_momentums, neg_momentums],
            numbers=[steps],
        )
    return launch.run()


_CPU = r"""// PNM in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    pos_momentum_t *pos_momentum;
    neg_momentum_t *neg_momentum;
    step_t *step;
    double lr;
    double betas[2];
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double t, beta1, beta2, fresh, quotient;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    // fresh = 1 - beta1**2
    n.fresh = 1.0 - std::pow(n.beta1, 2.0);
    // lr/sqrt((1 + beta2)**2 + beta2**2)
    n.quotient = row.lr / sqrt_(std::pow(1.0 + n.beta2, 2.0) + std::pow(n.beta2, 2.0));
    return are_finite(n.fresh, n.quotient);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::pos_momentum, &Row::neg_momentum);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real pos_momentum = load(row.pos_momentum[i]);
            real neg_momentum = load(row.neg_momentum[i]);
            real update = 0;
            if (weight_decay_is_not_0 && decoupled) {
                // p *= 1 - lr*weight_decay
                p = p * real(1.0 - row.lr * row.weight_decay);
            } else if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            if (modulo(n.t, 2.0) == 1.0) {
                // pos_momentum = lerp(pos_momentum, grad, fresh)
                pos_momentum = lerp_(pos_momentum, grad, real(n.fresh));
                // update = (1 + beta2)*pos_momentum - beta2*neg_momentum
                update = real(1.0 + n.beta2) * pos_momentum - real(n.beta2) *
                    neg_momentum;
            } else {
                // neg_momentum = lerp(neg_momentum, grad, fresh)
                neg_momentum = lerp_(neg_momentum, grad, real(n.fresh));
                // update = (1 + beta2)*neg_momentum - beta2*pos_momentum
                update = real(1.0 + n.beta2) * neg_momentum - real(n.beta2) *
                    pos_momentum;
            }
            // p -= lr/sqrt((1 + beta2)**2 + beta2**2)*update
            p = p - real(n.quotient) * update;
            store(row.p[i], p);
            store(row.pos_momentum[i], pos_momentum);
            store(row.neg_momentum[i], neg_momentum);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_pnm(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.pos_momentum = (pos_momentum_t *)table->columns[2][at];
        row.neg_momentum = (neg_momentum_t *)table->columns[3][at];
        row.step = (step_t *)table->columns[4][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
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

_CUDA = r"""# PNM in one pass over memory.

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
    lerp,
    modulo,
    number,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "pos_momentum_t", "neg_momentum_t", "step_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "decoupled")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 4 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    t = number(columns, rows, row, 4, step_t) + 1
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    # fresh = 1 - beta1**2
    fresh = 1.0 - libdevice.pow(beta1, double(2.0))
    # lr/sqrt((1 + beta2)**2 + beta2**2)
    quotient = lr / tl.sqrt(
        libdevice.pow(1.0 + beta2, double(2.0)) + libdevice.pow(beta2, double(2.0))
    )
    tl.store(n + 0 * rows, beta2)
    tl.store(n + 1 * rows, fresh)
    tl.store(n + 2 * rows, quotient)
    tl.store(n + 3 * rows, t)
    keep_number(columns, rows, row, 4, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    pos_momentum_t: tl.constexpr,
    neg_momentum_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    decoupled: tl.constexpr,
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
    of = hypers + 4 * tl.load(group + row)
    lr = tl.load(of + 0)
    weight_decay = tl.load(of + 3)
    beta2 = tl.load(n + 0 * rows)
    fresh = tl.load(n + 1 * rows)
    quotient = tl.load(n + 2 * rows)
    t = tl.load(n + 3 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    pos_momentum_at = column(columns, rows, row, 2, pos_momentum_t, aligned) + begin
    neg_momentum_at = column(columns, rows, row, 3, neg_momentum_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    pos_momentum = elements(pos_momentum_at, i, left, real)
    neg_momentum = elements(neg_momentum_at, i, left, real)
    if weight_decay_is_not_0 and decoupled:
        # p *= 1 - lr*weight_decay
        p = p * (1.0 - lr * weight_decay).to(real)
    elif weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    if modulo(t, double(2.0)) == 1.0:
        # pos_momentum = lerp(pos_momentum, grad, fresh)
        pos_momentum = lerp(pos_momentum, grad, fresh.to(real))
        # update = (1 + beta2)*pos_momentum - beta2*neg_momentum
        update = (1.0 + beta2).to(real) * pos_momentum - beta2.to(real) * neg_momentum
    else:
        # neg_momentum = lerp(neg_momentum, grad, fresh)
        neg_momentum = lerp(neg_momentum, grad, fresh.to(real))
        # update = (1 + beta2)*neg_momentum - beta2*pos_momentum
        update = (1.0 + beta2).to(real) * neg_momentum - beta2.to(real) * pos_momentum
    # p -= lr/sqrt((1 + beta2)**2 + beta2**2)*update
    p = p - quotient.to(real) * update
    keep(p_at, i, left, p)
    keep(pos_momentum_at, i, left, pos_momentum)
    keep(neg_momentum_at, i, left, neg_momentum)


def launch(x):
    x.numbers = x.new(4 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_pnm",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "pos_momentum", "neg_momentum"),
    numbers=("step",),
    options=("maximize", "weight_decay_is_not_0", "decoupled"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
