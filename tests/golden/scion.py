"""Scion: each step goes as far as a norm allows along the mean of the gradient.

Pethick et al. (2025), Training Deep Learning Models with Norm-Constrained LMOs,
https://arxiv.org/abs/2502.07529
Follows the authors' code, https://github.com/LIONS-EPFL/scion: "Auto" is the spectral
norm for matrices and kernels and the root mean square for vectors; "Sign", for the last
layer, the largest entry. Their ColNorm and RowNorm, and their first values of
parameters, are left out. They orthogonalize in bfloat16, and here it is done as
precisely as the parameter is kept.
"""
# Compiled by optdsl from scion.opt, content d28d0e7865e4.

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

try:
    from optdsl.runtime.kernel import Kernel as _Kernel
    from optdsl.runtime.turns import Turns as _Turns
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None

__all__ = ["Scion"]


class Scion(Optimizer):
    """Scion: each step goes as far as a norm allows along the mean of the gradient.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): share of the way to the best point of the ball, in [0,
            inf) (default: 1e-3).
        momentum (float, optional): share of the new gradient in the mean, 0.1 as a
            rule, in (0, 1] (default: 1.0).
        norm (str, optional): what a step is measured by, one of "Auto", "Sign"
            (default: "Auto").
        scale (float, optional): radius of the ball, in [0, inf) (default: 1.0).
        unconstrained (bool, optional): leave the ball: without weight decay (default:
            False).
        steps (int, optional): Newton-Schulz iterations, in [0, 100) (default: 5).
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
        momentum_buffer: running mean of the gradient (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 1.0,
        norm: str = "Auto",
        scale: float = 1.0,
        unconstrained: bool = False,
        steps: int = 5,
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
            "norm": norm,
            "scale": scale,
            "unconstrained": unconstrained,
            "steps": steps,
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
            group.setdefault("momentum", 1.0)
            group.setdefault("norm", "Auto")
            group.setdefault("scale", 1.0)
            group.setdefault("unconstrained", False)
            group.setdefault("steps", 5)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "momentum", "scale"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffers: list[Tensor | None],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Scion does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Scion does not support complex parameters")
            state = self.state[p] if group["momentum"] != 1 else {}
            if group["momentum"] != 1 and "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            momentum_buffers.append(state.get("momentum_buffer"))

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
        if found_inf is not None and found_inf.item():
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
                self._init_group(group, [], [], [])
            return loss

        if not self._unscale():
            return loss

        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            momentum_buffers: list[Tensor | None] = []
            self._init_group(group, params, grads, momentum_buffers)
            groups.append((group, [params, grads, momentum_buffers]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, momentum_buffers = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_scion if use_foreach else _single_tensor_scion
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_scion_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_scion
            update(
                params,
                grads,
                momentum_buffers,
                lr=group["lr"],
                momentum=group["momentum"],
                norm=group["norm"],
                scale=group["scale"],
                unconstrained=group["unconstrained"],
                steps=group["steps"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    norm = group["norm"]
    scale = group["scale"]
    unconstrained = group["unconstrained"]
    steps = group["steps"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 < momentum <= 1:
        raise ValueError(f"Invalid momentum: {momentum!r}, expected a number in (0, 1]")
    if norm not in ("Auto", "Sign"):
        raise ValueError(f"Invalid norm: {norm!r}, expected one of 'Auto', 'Sign'")
    _check_number("scale", scale)
    if not 0 <= scale < math.inf:
        raise ValueError(f"Invalid scale: {scale!r}, expected a number in [0, inf)")
    if unconstrained not in (False, True):
        raise ValueError(
            f"Invalid unconstrained: {unconstrained!r}, expected True or False"
        )
    _check_int("steps", steps)
    if not 0 <= steps < 100:
        raise ValueError(f"Invalid steps: {steps!r}, expected an int in [0, 100)")
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


def _batched(function: Callable[..., Any], *columns: list[Tensor]) -> list[Any]:
    """The function of each row, in one call for all rows of the same shapes."""
    rows = list(zip(*columns, strict=True))
    alike: dict[Any, list[int]] = {}
    for at, row in enumerate(rows):
        alike.setdefault(tuple(each.shape for each in row), []).append(at)
    results: list[Any] = [None] * len(rows)
    for places in alike.values():
        if len(places) == 1:
            results[places[0]] = function(*rows[places[0]])
            continue
        stacked = map(torch.stack, zip(*(rows[at] for at in places), strict=True))
        values = torch.vmap(function)(*stacked)
        if isinstance(values, tuple):
            values = zip(*values, strict=True)
        for at, value in zip(places, values, strict=True):
            results[at] = value
    return results


def _orthogonalized(g: Tensor, steps: float) -> Tensor:
    # x = transpose(g) if size(g, 0) > size(g, 1) else g
    if g.shape[0] > g.shape[1]:
        x = g.mT
    else:
        x = g

    # x /= norm(x) + 1e-7
    x = x / (torch.linalg.vector_norm(x) + 1e-7)
    for _ in range(steps):
        # gram = x @ transpose(x)
        gram = x @ x.mT

        # x = 3.4445*x + (-4.7750*gram + 2.0315*gram @ gram) @ x
        x = x * 3.4445 + (gram * -4.7750).add(gram @ gram, alpha=2.0315) @ x

    # return transpose(x) if size(g, 0) > size(g, 1) else x
    return x.mT if g.shape[0] > g.shape[1] else x


def _single_tensor_scion(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    norm: str,
    scale: float,
    unconstrained: bool,
    steps: int,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        if momentum != 1:
            # momentum_buffer = lerp(momentum_buffer, grad, momentum)
            momentum_buffer.lerp_(grad, momentum)
        way = momentum_buffer if momentum != 1 else grad
        if norm == "Sign":
            # update = sign(way)/(max(1, numel(p)/max(1, size(p, 0))) if ndim(p) > 1
            #     else 1)
            update = way.sign().div_(
                max(1, p.numel() / max(1, p.shape[0])) if p.ndim > 1 else 1
            )
        elif p.ndim > 1:
            # rows, columns = (max(1, size(p, 0)), max(1, size(p, 1)))
            rows, columns_ = (max(1, p.shape[0]), max(1, p.shape[1]))

            # ratio = sqrt(rows/columns)/max(1, numel(p)/(rows*columns))
            ratio = math.sqrt(rows / columns_) / max(1, p.numel() / (rows * columns_))

            # update = ratio*reshape_as(orthogonalized(flatten(way, 1), steps), way)
            update = _orthogonalized(way.flatten(1), steps).reshape_as(way) * ratio
        else:
            # update = way/(sqrt(mean(way*way)) + 1e-8)
            update = way / ((way * way).mean().sqrt() + 1e-8)
        if not unconstrained:
            # p *= 1 - lr
            p.mul_(1 - lr)

        # p -= lr*scale*update
        p.add_(update, alpha=-lr * scale)


def _multi_tensor_scion(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    norm: str,
    scale: float,
    unconstrained: bool,
    steps: int,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, scale = map(float, (lr, momentum, scale))

    columns = [params, grads, momentum_buffers]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        if momentum != 1:
            # momentum_buffer = lerp(momentum_buffer, grad, momentum)
            torch._foreach_lerp_(momentum_buffers, grads, momentum)

        # way = momentum_buffer if momentum != 1 else grad
        ways = momentum_buffers if momentum != 1 else grads
        del grads
        if norm == "Sign":
            # update = sign(way)/(max(1, numel(p)/max(1, size(p, 0))) if ndim(p) > 1
            #     else 1)
            update_scale = 1
            updates = torch._foreach_sign(ways)
            torch._foreach_div_(
                updates,
                max(1, params[0].numel() / max(1, params[0].shape[0]))
                if params[0].ndim > 1
                else 1,
            )
        elif params[0].ndim > 1:
            # rows, columns = (max(1, size(p, 0)), max(1, size(p, 1)))
            rows, columns_ = (max(1, params[0].shape[0]), max(1, params[0].shape[1]))

            # ratio = sqrt(rows/columns)/max(1, numel(p)/(rows*columns))
            ratio = math.sqrt(rows / columns_) / max(
                1, params[0].numel() / (rows * columns_)
            )
            update_scale = ratio

            # update = ratio*reshape_as(orthogonalized(flatten(way, 1), steps), way)
            updates = _batched(
                lambda way: _orthogonalized(way.flatten(1), steps).reshape_as(way), ways
            )
        else:
            # update = way/(sqrt(mean(way*way)) + 1e-8)
            update_scale = 1
            products = torch._foreach_mul(ways, ways)
            means = [product.mean() for product in products]
            del products
            roots = torch._foreach_sqrt(means)
            sums = torch._foreach_add(roots, 1e-8)
            updates = torch._foreach_div(ways, sums)
        if not unconstrained:
            # p *= 1 - lr
            torch._foreach_mul_(params, 1 - lr)

        # p -= lr*scale*update
        torch._foreach_add_(params, updates, alpha=-lr * scale * update_scale)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_scion(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    norm: str,
    scale: float,
    unconstrained: bool,
    steps: int,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, momentum_buffer)
        p, momentum_buffer = (each if each is None else each.clone() for each in kept)
        if momentum != 1:
            # momentum_buffer = lerp(momentum_buffer, grad, momentum)
            momentum_buffer = momentum_buffer.lerp(grad, momentum)
        way = momentum_buffer if momentum != 1 else grad
        if norm == "Sign":
            # update = sign(way)/(max(1, numel(p)/max(1, size(p, 0))) if ndim(p) > 1
            #     else 1)
            update = way.sign() / (
                max(1, p.numel() / max(1, p.shape[0])) if p.ndim > 1 else 1
            )
        elif p.ndim > 1:
            # rows, columns = (max(1, size(p, 0)), max(1, size(p, 1)))
            rows, columns_ = (max(1, p.shape[0]), max(1, p.shape[1]))

            # ratio = sqrt(rows/columns)/max(1, numel(p)/(rows*columns))
            ratio = math.sqrt(rows / columns_) / max(1, p.numel() / (rows * columns_))

            # update = ratio*reshape_as(orthogonalized(flatten(way, 1), steps), way)
            update = _orthogonalized(way.flatten(1), steps).reshape_as(way) * ratio
        else:
            # update = way/(sqrt(mean(way*way)) + 1e-8)
            update = way / ((way * way).mean().sqrt() + 1e-8)
        if not unconstrained:
            # p *= 1 - lr
            p = p * (1 - lr)

        # p -= lr*scale*update
        p = _scaled_add(p, update, -lr * scale)

        for each, new in zip(kept, (p, momentum_buffer), strict=True):
            if each is not None:
                each.copy_(new)


def _multi_tensor_scion_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    norm: str,
    scale: float,
    unconstrained: bool,
    steps: int,
    maximize: bool,
) -> None:
    columns = [params, grads, momentum_buffers]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        if momentum != 1:
            # momentum_buffer = lerp(momentum_buffer, grad, momentum)
            torch._foreach_lerp_(momentum_buffers, grads, momentum)

        # way = momentum_buffer if momentum != 1 else grad
        ways = momentum_buffers if momentum != 1 else grads
        del grads
        if norm == "Sign":
            # update = sign(way)/(max(1, numel(p)/max(1, size(p, 0))) if ndim(p) > 1
            #     else 1)
            updates = torch._foreach_sign(ways)
            torch._foreach_div_(
                updates,
                max(1, params[0].numel() / max(1, params[0].shape[0]))
                if params[0].ndim > 1
                else 1,
            )
        elif params[0].ndim > 1:
            # rows, columns = (max(1, size(p, 0)), max(1, size(p, 1)))
            rows, columns_ = (max(1, params[0].shape[0]), max(1, params[0].shape[1]))

            # ratio = sqrt(rows/columns)/max(1, numel(p)/(rows*columns))
            ratio = math.sqrt(rows / columns_) / max(
                1, params[0].numel() / (rows * columns_)
            )

            # update = ratio*reshape_as(orthogonalized(flatten(way, 1), steps), way)
            reshape_ases = _batched(
                lambda way: _orthogonalized(way.flatten(1), steps).reshape_as(way), ways
            )
            updates = torch._foreach_mul(reshape_ases, ratio)
            del reshape_ases
        else:
            # update = way/(sqrt(mean(way*way)) + 1e-8)
            products = torch._foreach_mul(ways, ways)
            means = [product.mean() for product in products]
            del products
            roots = torch._foreach_sqrt(means)
            sums = torch._foreach_add(roots, 1e-8)
            updates = torch._foreach_div(ways, sums)
        del ways
        if not unconstrained:
            # p *= 1 - lr
            torch._foreach_mul_(params, 1 - lr)

        # p -= lr*scale*update
        products = torch._foreach_mul(updates, -lr * scale)
        torch._foreach_add_(params, products)


def _kernel_numbers_1(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["momentum"]]
    options = [group["maximize"], group["momentum"] != 1]
    return hypers, options


def _kernel_numbers_2(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["scale"]]
    options = [
        group["maximize"],
        group["momentum"] != 1,
        group["norm"] == "Sign",
        group["unconstrained"],
    ]
    return hypers, options


def _between_scion(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    momentum: float,
    norm: str,
    steps: int,
    maximize: bool,
) -> list[Tensor] | None:
    # Numbers, where a group has tensors of one element.
    momentum = float(momentum)

    if maximize:
        grads = torch._foreach_neg(grads)
    orthogonalizeds = None

    # way = momentum_buffer if momentum != 1 else grad
    ways = momentum_buffers if momentum != 1 else grads
    del grads
    if norm != "Sign":
        if params[0].ndim > 1:
            # reshape_as(orthogonalized(flatten(way, 1), steps), way)
            orthogonalizeds = _batched(
                lambda way: _orthogonalized(way.flatten(1), steps).reshape_as(way), ways
            )
    return orthogonalizeds


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels and torch in turns the groups that ask for it; return those
    that are left.
    """
    taken, left = _KERNELS.apart(optimizer, groups)
    for group, columns in taken:
        params, grads, momentum_buffers = columns
        turns = _KERNELS.of(
            optimizer,
            group,
            {"p": params, "grad": grads, "momentum_buffer": momentum_buffers},
        )
        if turns is None:
            left.append((group, columns))
            continue
        turn_1, turn_2 = turns
        keys = [p.shape for p in params]
        for batch in _alike(columns, keys):
            params, grads, momentum_buffers = batch
            turn_1(params, grads, momentum_buffers)
            orthogonalizeds = _between_scion(
                params,
                grads,
                momentum_buffers,
                momentum=group["momentum"],
                norm=group["norm"],
                steps=group["steps"],
                maximize=group["maximize"],
            )
            orthogonalizeds = _KERNELS.handed(batch, orthogonalizeds)
            turn_2(
                params,
                grads,
                momentum_buffers,
                orthogonalizeds,
                asked=[
                    [p.ndim for p in params],
                    [p.numel() for p in params],
                    [p.shape[0] if p.ndim >= 1 else 1 for p in params],
                    [p.shape[1] if p.ndim >= 2 else 1 for p in params],
                ],
            )
    return left


_CPU_1 = r"""// Scion, turn 1, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    double momentum;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::grad, &Row::momentum_buffer);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real momentum_buffer = has_momentum_buffer ? load(row.momentum_buffer[i]) :
                0;
            if (momentum_is_not_1) {
                // momentum_buffer = lerp(momentum_buffer, grad, momentum)
                momentum_buffer = lerp_(momentum_buffer, grad, real(row.momentum));
            }
            if (has_momentum_buffer) store(row.momentum_buffer[i], momentum_buffer);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_scion(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[2][at];
        const double *hyper = table->hypers + 1 * table->group[at];
        row.momentum = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_1 = r"""# Scion, turn 1, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    elements,
    gradient,
    if_there,
    keep,
    lerp,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t")
OPTIONS = ("maximize", "momentum_is_not_1")


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf, grad_scale,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    maximize: tl.constexpr,
    momentum_is_not_1: tl.constexpr,
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
    of = hypers + 1 * tl.load(group + row)
    momentum = tl.load(of + 0)
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    momentum_buffer_left = if_there(columns, rows, row, 2, left)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, momentum_buffer_left, real)
    if momentum_is_not_1:
        # momentum_buffer = lerp(momentum_buffer, grad, momentum)
        momentum_buffer = lerp(momentum_buffer, grad, momentum.to(real))
    keep(momentum_buffer_at, i, momentum_buffer_left, momentum_buffer)


def launch(x):
    x.each_chunk(pass_1)
"""


_CPU_2 = r"""// Scion, turn 2, in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    orthogonalized_t *orthogonalized;
    double lr;
    double scale;
    double ndim;
    double numel__;
    double size_0;
    double size_1;
};

// What is worked out once a tensor.
struct Numbers {
    double number, rows_, columns, ratio, mean, sum__;
};

static void numbers_1(const Row &row, Numbers &n) {
    if (norm_is_Sign) {
        // max(1, numel(p)/max(1, size(p, 0))) if ndim(p) > 1 else 1
        n.number = row.ndim > 1.0 ? max_(1.0, row.numel__ / max_(1.0, row.size_0)) :
            1.0;
    } else if (row.ndim > 1.0) {
        // rows, columns = (max(1, size(p, 0)), max(1, size(p, 1)))
        n.rows_ = max_(1.0, row.size_0);
        n.columns = max_(1.0, row.size_1);
        // ratio = sqrt(rows/columns)/max(1, numel(p)/(rows*columns))
        n.ratio = sqrt_(n.rows_ / n.columns) / max_(1.0, row.numel__ / (n.rows_ *
            n.columns));
    }
}

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double mean = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::momentum_buffer,
            &Row::orthogonalized);
        #pragma omp simd reduction(+: mean)
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            const real momentum_buffer = has_momentum_buffer ?
                load(row.momentum_buffer[i]) : 0;
            const real orthogonalized = load(row.orthogonalized[i]);
            real update = 0;
            // way = momentum_buffer if momentum != 1 else grad
            const real way = momentum_is_not_1 ? momentum_buffer : grad;
            if (norm_is_Sign) {
                // update = sign(way)/(max(1, numel(p)/max(1, size(p, 0))) if ndim(p) >
                //     1
                //     else 1)
                update = sign_(way) * real(1.0 / n.number);
            } else if (row.ndim > 1.0) {
                // update = ratio*reshape_as(orthogonalized(flatten(way, 1), steps),
                //     way)
                update = real(n.ratio) * orthogonalized;
            } else {
                // mean(way*way)
                mean += double(way * way);
            }
            if (!unconstrained) {
                // p *= 1 - lr
                p = kept<p_t>(p * real(1.0 - row.lr));
            }
            store(row.p[i], p);
        }
    }
    sums[0] = mean;
}

static void numbers_2(const Row &row, Numbers &n) {
    if (!norm_is_Sign) {
        if (!(row.ndim > 1.0)) {
            // sqrt(mean(way*way)) + 1e-8
            n.sum__ = sqrt_(n.mean) + 1e-8;
        }
    }
}

static void pass_2(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::momentum_buffer,
            &Row::orthogonalized);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            const real momentum_buffer = has_momentum_buffer ?
                load(row.momentum_buffer[i]) : 0;
            const real orthogonalized = load(row.orthogonalized[i]);
            real update = 0;
            // way = momentum_buffer if momentum != 1 else grad
            const real way = momentum_is_not_1 ? momentum_buffer : grad;
            if (norm_is_Sign) {
                // update = sign(way)/(max(1, numel(p)/max(1, size(p, 0))) if ndim(p) >
                //     1
                //     else 1)
                update = sign_(way) * real(1.0 / n.number);
            } else if (row.ndim > 1.0) {
                // update = ratio*reshape_as(orthogonalized(flatten(way, 1), steps),
                //     way)
                update = real(n.ratio) * orthogonalized;
            } else {
                // update = way/(sqrt(mean(way*way)) + 1e-8)
                update = way * real(1.0 / n.sum__);
            }
            // p -= lr*scale*update
            p = p - real(row.lr * row.scale) * update;
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_scion(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[2][at];
        row.orthogonalized = (orthogonalized_t *)table->columns[3][at];
        const double *hyper = table->hypers + 2 * table->group[at];
        row.lr = *hyper++;
        row.scale = *hyper++;
        row.ndim = table->asked[at];
        row.numel__ = table->asked[1 * table->rows + at];
        row.size_0 = table->asked[2 * table->rows + at];
        row.size_1 = table->asked[3 * table->rows + at];
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_1(rows[at], numbers[at]);
    std::vector<double> parts(1 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[1 * at]);
    });
    const auto sums = gathered<1>(
        *table, chunks, parts, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].mean = sums[1 * at + 0] / rows[at].numel;
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_2 = r"""# Scion, turn 2, in 2 passes over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    if_there,
    keep,
    kept,
    larger,
    overflowed,
    sign,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t", "orthogonalized_t")
OPTIONS = ("maximize", "momentum_is_not_1", "norm_is_Sign", "unconstrained")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    rows, asked, numbers, found_inf,
    norm_is_Sign: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    ndim = tl.load(asked + 0 * rows + row)
    numel_ = tl.load(asked + 1 * rows + row)
    size_0 = tl.load(asked + 2 * rows + row)
    size_1 = tl.load(asked + 3 * rows + row)
    number_ = double(0.0)
    ratio = double(0.0)
    if norm_is_Sign:
        # max(1, numel(p)/max(1, size(p, 0))) if ndim(p) > 1 else 1
        number_ = tl.where(
            ndim > 1.0,
            larger(double(1.0), numel_ / larger(double(1.0), size_0)),
            double(1.0),
        )
    elif ndim > 1.0:
        # rows, columns = (max(1, size(p, 0)), max(1, size(p, 1)))
        rows_ = larger(double(1.0), size_0)
        columns_ = larger(double(1.0), size_1)
        # ratio = sqrt(rows/columns)/max(1, numel(p)/(rows*columns))
        ratio = tl.sqrt(rows_ / columns_) / larger(
            double(1.0), numel_ / (rows_ * columns_)
        )
    tl.store(n + 0 * rows, number_)
    tl.store(n + 1 * rows, ratio)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, group, hypers, asked, numbers, parts,
    found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    orthogonalized_t: tl.constexpr,
    maximize: tl.constexpr,
    momentum_is_not_1: tl.constexpr,
    norm_is_Sign: tl.constexpr,
    unconstrained: tl.constexpr,
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
    ndim = tl.load(asked + 0 * rows + row)
    number_ = tl.load(n + 0 * rows)
    ratio = tl.load(n + 1 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    momentum_buffer_left = if_there(columns, rows, row, 2, left)
    orthogonalized_at = column(columns, rows, row, 3, orthogonalized_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, momentum_buffer_left, real)
    orthogonalized = elements(orthogonalized_at, i, left, real)
    # way = momentum_buffer if momentum != 1 else grad
    way = momentum_buffer if momentum_is_not_1 else grad
    mean = double(0.0)
    if norm_is_Sign:
        # update = sign(way)/(max(1, numel(p)/max(1, size(p, 0))) if ndim(p) > 1
        #     else 1)
        update = sign(way) / number_.to(real)
    elif ndim > 1.0:
        # update = ratio*reshape_as(orthogonalized(flatten(way, 1), steps), way)
        update = ratio.to(real) * orthogonalized
    else:
        # mean(way*way)
        mean = mean + total(way * way, i, left)
    if not unconstrained:
        # p *= 1 - lr
        p = kept(p * (1.0 - lr).to(real), p_t)
    keep(p_at, i, left, p)
    tl.store(parts + 0 * chunks + chunk, mean)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    rows, chunks, starts, numel, asked, numbers, parts, found_inf,
    norm_is_Sign: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    ndim = tl.load(asked + 0 * rows + row)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # mean(way*way)
    mean = sum_of(parts + 0 * chunks, begin, end) / tl.load(numel + row)
    sum_ = double(0.0)
    if not norm_is_Sign:
        if not ndim > 1.0:
            # sqrt(mean(way*way)) + 1e-8
            sum_ = tl.sqrt(mean) + 1e-8
    tl.store(n + 2 * rows, sum_)


@triton.jit(do_not_specialize=["rows"])
def pass_2(
    columns, rows, row_of, starts, numel, group, hypers, asked, numbers, found_inf,
    grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    orthogonalized_t: tl.constexpr,
    maximize: tl.constexpr,
    momentum_is_not_1: tl.constexpr,
    norm_is_Sign: tl.constexpr,
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
    scale = tl.load(of + 1)
    ndim = tl.load(asked + 0 * rows + row)
    number_ = tl.load(n + 0 * rows)
    ratio = tl.load(n + 1 * rows)
    sum_ = tl.load(n + 2 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    momentum_buffer_left = if_there(columns, rows, row, 2, left)
    orthogonalized_at = column(columns, rows, row, 3, orthogonalized_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, momentum_buffer_left, real)
    orthogonalized = elements(orthogonalized_at, i, left, real)
    # way = momentum_buffer if momentum != 1 else grad
    way = momentum_buffer if momentum_is_not_1 else grad
    if norm_is_Sign:
        # update = sign(way)/(max(1, numel(p)/max(1, size(p, 0))) if ndim(p) > 1
        #     else 1)
        update = sign(way) / number_.to(real)
    elif ndim > 1.0:
        # update = ratio*reshape_as(orthogonalized(flatten(way, 1), steps), way)
        update = ratio.to(real) * orthogonalized
    else:
        # update = way/(sqrt(mean(way*way)) + 1e-8)
        update = way / sum_.to(real)
    # p -= lr*scale*update
    p = p - (lr * scale).to(real) * update
    keep(p_at, i, left, p)


def launch(x):
    x.numbers = x.new(3 * x.rows)
    x.each_row(numbers_1)
    x.parts = x.new(1 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.each_chunk(pass_2)
"""

_KERNELS = _Kernel and _Turns(
    _Kernel(
        "step_scion",
        _CPU_1,
        _kernel_numbers_1,
        elements=("p", "grad", "momentum_buffer"),
        optional=("momentum_buffer",),
        options=("maximize", "momentum_is_not_1"),
        cuda=_CUDA_1,
    ),
    _Kernel(
        "step_scion",
        _CPU_2,
        _kernel_numbers_2,
        elements=("p", "grad", "momentum_buffer", "orthogonalized"),
        optional=("momentum_buffer",),
        options=("maximize", "momentum_is_not_1", "norm_is_Sign", "unconstrained"),
        cuda=_CUDA_2,
    ),
)
