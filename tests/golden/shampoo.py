"""Shampoo: gradients preconditioned along each of their axes.

Gupta, Koren and Singer (2018), Shampoo: Preconditioned Stochastic Tensor Optimization,
https://arxiv.org/abs/1802.09568
Follows algorithm 2, with the momentum of the authors' tf.contrib.opt.ShampooOptimizer:
factors are sums over gradients, and what they precondition is a running sum.

Roots are computed at the first step and every `every` steps from there.
pytorch_optimizer starts roots at zero and computes the first at step `every`; it and
others take roots of order 1/ndim(p), not the paper's 1/(2*ndim(p)), and factors of
gradients that are partly preconditioned.

l2_decay: Weight decay by way of the gradient: an L2 penalty.

Krogh and Hertz (1991), A Simple Weight Decay Can Improve Generalization,
https://papers.nips.cc/paper/563-a-simple-weight-decay-can-improve-generalization
"""
# Compiled by optdsl from shampoo.opt, content a03b7725ef26.

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
    _get_scalar_dtype,
    _to_scalar,
    _use_grad_for_differentiable,
)

try:
    from optdsl.runtime.kernel import Kernel as _Kernel
    from optdsl.runtime.turns import Turns as _Turns
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None

__all__ = ["Shampoo"]


class Shampoo(Optimizer):
    """Shampoo: gradients preconditioned along each of their axes.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 0.1).
        momentum (float, optional): decay of the running sum of gradients, in [0, 1)
            (default: 0).
        weight_decay (float, optional): L2 penalty, in [0, inf) (default: 0).
        epsilon (float, optional): what the diagonals of factors start from, in [0, inf)
            (default: 1e-4).
        every (int, optional): steps between two roots, in [1, inf) (default: 1).
        max_size (int, optional): axes longer than this are left as they are, in [0,
            inf) (default: 8192).
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
        momentum_buffer: running sum of gradients (like p).
        factor_{axis}, for axis in range(p.ndim): of a shape that its sizes decide.
        root_{axis}, for axis in range(p.ndim): of a shape that its sizes decide.

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        momentum: float = 0,
        weight_decay: float = 0,
        epsilon: float = 1e-4,
        every: int = 1,
        max_size: int = 8192,
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
            "epsilon": epsilon,
            "every": every,
            "max_size": max_size,
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
            group.setdefault("momentum", 0)
            group.setdefault("weight_decay", 0)
            group.setdefault("epsilon", 1e-4)
            group.setdefault("every", 1)
            group.setdefault("max_size", 8192)
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
        try:
            _check_params(param_group["params"], param_group)
        except ValueError:
            self.param_groups.pop()
            raise
        for name in ("lr", "momentum", "weight_decay", "epsilon"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffers: list[Tensor | None],
        factors: list[list[Tensor | None]],
        roots: list[list[Tensor | None]],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Shampoo does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Shampoo does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
            if group["momentum"] != 0 and "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            for axis in range(p.ndim):
                if p.shape[axis] <= group["max_size"] and f"factor_{axis}" not in state:
                    start = p.clone() if group["differentiable"] else p
                    state[f"factor_{axis}"] = (
                        torch.eye(
                            start.shape[axis], dtype=start.dtype, device=start.device
                        )
                        * group["epsilon"]
                    )
            for axis in range(p.ndim):
                if p.shape[axis] <= group["max_size"] and f"root_{axis}" not in state:
                    start = p.clone() if group["differentiable"] else p
                    state[f"root_{axis}"] = start.new_zeros(
                        (start.shape[axis], start.shape[axis])
                    )
            params.append(p)
            grads.append(grad)
            momentum_buffers.append(state.get("momentum_buffer"))
            factors.append([state.get(f"factor_{axis}") for axis in range(p.ndim)])
            roots.append([state.get(f"root_{axis}") for axis in range(p.ndim)])
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
                self._init_group(group, [], [], [], [], [], [])
            return loss

        if not self._unscale():
            return loss

        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            momentum_buffers: list[Tensor | None] = []
            factors: list[list[Tensor | None]] = []
            roots: list[list[Tensor | None]] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, momentum_buffers, factors, roots, steps
            )
            groups.append(
                (group, [params, grads, momentum_buffers, factors, roots, steps])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, momentum_buffers, factors, roots, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_shampoo if use_foreach else _single_tensor_shampoo
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_shampoo
            update(
                params,
                grads,
                momentum_buffers,
                factors,
                roots,
                steps,
                lr=group["lr"],
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                every=group["every"],
                max_size=group["max_size"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    weight_decay = group["weight_decay"]
    epsilon = group["epsilon"]
    every = group["every"]
    max_size = group["max_size"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"Invalid momentum: {momentum!r}, expected a number in [0, 1)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    _check_number("epsilon", epsilon)
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"Invalid epsilon: {epsilon!r}, expected a number in [0, inf)")
    _check_int("every", every)
    if not 1 <= every < math.inf:
        raise ValueError(f"Invalid every: {every!r}, expected an int in [1, inf)")
    _check_int("max_size", max_size)
    if not 0 <= max_size < math.inf:
        raise ValueError(f"Invalid max_size: {max_size!r}, expected an int in [0, inf)")
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["capturable"]:
        raise RuntimeError(
            "Shampoo cannot be captured: `inverse_root` waits for what the device "
            "computes"
        )


def _check_params(params: list[Tensor], group: dict[str, Any]) -> None:
    """Raise where a parameter is none that this rule is for."""
    for p in params:
        if not torch.finfo(p.dtype).eps < 1e-4:
            raise ValueError(
                "the factors of Shampoo need float32, or more "
                f"(got a {p.dtype} of shape {tuple(p.shape)})"
            )


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
    """A number as a tensor: on the CPU, unless steps are to be captured."""
    device = p.device if group["capturable"] else None
    return torch.tensor(value, dtype=_get_scalar_dtype(), device=device)


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _precise(x: Tensor) -> Tensor:
    """The tensor in float32 at least."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _inverse_root(x: Tensor, k: float) -> Tensor:
    """x ** (-1 / k) for a symmetric matrix without negative eigenvalues.

    None counts as less than the machine epsilon of x times the largest: so much of x is
    rounding. Of zeros it is zeros.
    """
    values, vectors = torch.linalg.eigh(_precise(x))
    largest = values[..., -1:]
    values = values.maximum(largest * torch.finfo(x.dtype).eps)
    roots = torch.where(largest > 0, values ** (-1 / k), 0)
    return ((vectors * roots.unsqueeze(-2)) @ vectors.mT).to(x.dtype)


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


def _unfolded(x: Tensor, axis: float) -> Tensor:
    # unfolded(x, axis) = reshape(movedim(x, axis, 0), (size(x, axis), numel(x)//max(1,
    #     size(x, axis))))
    return x.movedim(axis, 0).reshape(
        (x.shape[axis], x.numel() // max(1, x.shape[axis]))
    )


def _single_tensor_shampoo(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    factors: list[list[Tensor | None]],
    roots: list[list[Tensor | None]],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    every: int,
    max_size: int,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer, factor, root, step in zip(
        params, grads, momentum_buffers, factors, roots, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        update = grad
        if momentum != 0:
            # momentum_buffer = momentum*momentum_buffer + grad
            momentum_buffer.mul_(momentum).add_(grad)
            update = momentum_buffer
        for axis in range(p.ndim):
            if p.shape[axis] <= max_size:
                # factor[axis] += unfolded(grad, axis) @ transpose(unfolded(grad, axis))
                factor[axis].add_(_unfolded(grad, axis) @ _unfolded(grad, axis).mT)
                if (t - 1) % every == 0:
                    # root[axis] = inverse_root(factor[axis], 2*ndim(p))
                    root[axis].copy_(_inverse_root(factor[axis], 2 * p.ndim))

                # update = movedim(movedim(update, axis, -1) @ root[axis], -1, axis)
                update = (update.movedim(axis, -1) @ root[axis]).movedim(-1, axis)

        # p -= lr*update
        p.add_(update, alpha=-lr)


def _multi_tensor_shampoo(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    factors: list[list[Tensor | None]],
    roots: list[list[Tensor | None]],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    every: int,
    max_size: int,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, weight_decay = map(float, (lr, momentum, weight_decay))

    columns = [params, grads, momentum_buffers, factors, roots, steps]
    keys = [(p.shape, step.item()) for p, step in zip(params, steps, strict=True)]
    for params, grads, momentum_buffers, factors, roots, steps in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        updates = grads
        if momentum != 0:
            # momentum_buffer = momentum*momentum_buffer + grad
            torch._foreach_mul_(momentum_buffers, momentum)
            torch._foreach_add_(momentum_buffers, grads)
            updates = momentum_buffers
        for axis in range(params[0].ndim):
            if params[0].shape[axis] <= max_size:
                # factor[axis] += unfolded(grad, axis) @ transpose(unfolded(grad, axis))
                matmuls = _batched(
                    lambda grad: _unfolded(grad, axis) @ _unfolded(grad, axis).mT, grads
                )
                torch._foreach_add_([each[axis] for each in factors], matmuls)
                if (t - 1) % every == 0:
                    # root[axis] = inverse_root(factor[axis], 2*ndim(p))
                    inverse_roots = _batched(
                        lambda factor: _inverse_root(factor, 2 * params[0].ndim),
                        [each[axis] for each in factors],
                    )
                    torch._foreach_copy_([each[axis] for each in roots], inverse_roots)

                # update = movedim(movedim(update, axis, -1) @ root[axis], -1, axis)
                updates = _batched(
                    lambda update, root: (update.movedim(axis, -1) @ root).movedim(
                        -1, axis
                    ),
                    updates,
                    [each[axis] for each in roots],
                )

        # p -= lr*update
        torch._foreach_add_(params, updates, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_shampoo(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    factors: list[list[Tensor | None]],
    roots: list[list[Tensor | None]],
    steps: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    every: int,
    max_size: int,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer, factor, root, step in zip(
        params, grads, momentum_buffers, factors, roots, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, momentum_buffer, *factor, *root, step)
        p, momentum_buffer, step = (
            each if each is None else each.clone()
            for each in (p, momentum_buffer, step)
        )
        factor = [each if each is None else each.clone() for each in factor]
        root = [each if each is None else each.clone() for each in root]
        step = step + 1
        t = step.item()
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        update = grad
        if momentum != 0:
            # momentum_buffer = momentum*momentum_buffer + grad
            momentum_buffer = momentum_buffer * momentum + grad
            update = momentum_buffer
        for axis in range(p.ndim):
            if p.shape[axis] <= max_size:
                # factor[axis] += unfolded(grad, axis) @ transpose(unfolded(grad, axis))
                factor[axis] = (
                    factor[axis] + _unfolded(grad, axis) @ _unfolded(grad, axis).mT
                )
                if (t - 1) % every == 0:
                    # root[axis] = inverse_root(factor[axis], 2*ndim(p))
                    root[axis] = _inverse_root(factor[axis], 2 * p.ndim)

                # update = movedim(movedim(update, axis, -1) @ root[axis], -1, axis)
                update = (update.movedim(axis, -1) @ root[axis]).movedim(-1, axis)

        # p -= lr*update
        p = _scaled_add(p, update, -lr)

        for each, new in zip(
            kept, (p, momentum_buffer, *factor, *root, step), strict=True
        ):
            if each is not None:
                each.copy_(new)


def _kernel_numbers_1(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["momentum"], group["weight_decay"]]
    options = [group["maximize"], group["weight_decay"] != 0, group["momentum"] != 0]
    return hypers, options


def _kernel_numbers_2(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"]]
    options = [group["maximize"]]
    return hypers, options


def _between_shampoo(
    params: list[Tensor],
    factors: list[list[Tensor | None]],
    roots: list[list[Tensor | None]],
    gradients: list[Tensor],
    updates: list[Tensor],
    steps: list[Tensor],
    *,
    every: int,
    max_size: int,
) -> list[Tensor]:
    torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
    t = steps[0].item()
    new_updates = updates
    for axis in range(params[0].ndim):
        if params[0].shape[axis] <= max_size:
            # factor[axis] += unfolded(grad, axis) @ transpose(unfolded(grad, axis))
            matmuls = _batched(
                lambda gradient: (
                    _unfolded(gradient, axis) @ _unfolded(gradient, axis).mT
                ),
                gradients,
            )
            torch._foreach_add_([each[axis] for each in factors], matmuls)
            if (t - 1) % every == 0:
                # root[axis] = inverse_root(factor[axis], 2*ndim(p))
                inverse_roots = _batched(
                    lambda factor: _inverse_root(factor, 2 * params[0].ndim),
                    [each[axis] for each in factors],
                )
                torch._foreach_copy_([each[axis] for each in roots], inverse_roots)

            # update = movedim(movedim(update, axis, -1) @ root[axis], -1, axis)
            new_updates = _batched(
                lambda new_update, root: (new_update.movedim(axis, -1) @ root).movedim(
                    -1, axis
                ),
                new_updates,
                [each[axis] for each in roots],
            )
    return new_updates


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels and torch in turns the groups that ask for it; return those
    that are left.
    """
    taken, left = _KERNELS.apart(optimizer, groups)
    for group, columns in taken:
        params, grads, momentum_buffers, factors, roots, steps = columns
        turns = _KERNELS.of(
            optimizer,
            group,
            {"p": params, "grad": grads, "momentum_buffer": momentum_buffers},
        )
        if turns is None:
            left.append((group, columns))
            continue
        turn_1, turn_2 = turns
        keys = [(p.shape, step.item()) for p, step in zip(params, steps, strict=True)]
        for batch in _alike(columns, keys):
            params, grads, momentum_buffers, factors, roots, steps = batch
            gradients, updates = turn_1(params, grads, momentum_buffers)
            updates = _between_shampoo(
                params,
                factors,
                roots,
                gradients,
                updates,
                steps,
                every=group["every"],
                max_size=group["max_size"],
            )
            updates = _KERNELS.handed(batch, updates)
            turn_2(params, updates)
    return left


_CPU_1 = r"""// Shampoo, turn 1, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    gradient_t *gradient;
    update_t *update;
    double momentum;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::momentum_buffer, &Row::gradient,
            &Row::update);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            const real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real momentum_buffer = has_momentum_buffer ? load(row.momentum_buffer[i]) :
                0;
            real gradient = 0;
            real update = 0;
            // if weight_decay != 0: grad += weight_decay*p
            gradient = grad;
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                gradient = gradient + real(row.weight_decay) * p;
            }
            // update = grad
            update = gradient;
            if (momentum_is_not_0) {
                // momentum_buffer = momentum*momentum_buffer + grad
                momentum_buffer = real(row.momentum) * momentum_buffer + gradient;
                // update = momentum_buffer
                update = momentum_buffer;
            }
            if (has_momentum_buffer) store(row.momentum_buffer[i], momentum_buffer);
            store(row.gradient[i], gradient);
            store(row.update[i], update);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_shampoo(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[2][at];
        row.gradient = (gradient_t *)table->columns[3][at];
        row.update = (update_t *)table->columns[4][at];
        const double *hyper = table->hypers + 2 * table->group[at];
        row.momentum = *hyper++;
        row.weight_decay = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_1 = r"""# Shampoo, turn 1, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    elements,
    gradient,
    if_there,
    keep,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t", "gradient__t", "update_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "momentum_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    gradient__t: tl.constexpr,
    update_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    momentum_is_not_0: tl.constexpr,
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
    of = hypers + 2 * tl.load(group + row)
    momentum = tl.load(of + 0)
    weight_decay = tl.load(of + 1)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    momentum_buffer_left = if_there(columns, rows, row, 2, left)
    gradient__at = column(columns, rows, row, 3, gradient__t, aligned) + begin
    update_at = column(columns, rows, row, 4, update_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, momentum_buffer_left, real)
    # if weight_decay != 0: grad += weight_decay*p
    gradient_ = grad
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        gradient_ = gradient_ + weight_decay.to(real) * p
    # update = grad
    update = gradient_
    if momentum_is_not_0:
        # momentum_buffer = momentum*momentum_buffer + grad
        momentum_buffer = momentum.to(real) * momentum_buffer + gradient_
        # update = momentum_buffer
        update = momentum_buffer
    keep(momentum_buffer_at, i, momentum_buffer_left, momentum_buffer)
    keep(gradient__at, i, left, gradient_)
    keep(update_at, i, left, update)


def launch(x):
    x.each_chunk(pass_1)
"""


_CPU_2 = r"""// Shampoo, turn 2, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    update_t *update;
    double lr;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::update);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real update = load(row.update[i]);
            // p -= lr*update
            p = p - real(row.lr) * update;
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_shampoo(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.update = (update_t *)table->columns[1][at];
        const double *hyper = table->hypers + 1 * table->group[at];
        row.lr = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_2 = r"""# Shampoo, turn 2, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, keep, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "update_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf,
    p_t: tl.constexpr,
    update_t: tl.constexpr,
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
    lr = tl.load(of + 0)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    update_at = column(columns, rows, row, 1, update_t, aligned) + begin
    p = elements(p_at, i, left, real)
    update = elements(update_at, i, left, real)
    # p -= lr*update
    p = p - lr.to(real) * update
    keep(p_at, i, left, p)


def launch(x):
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Turns(
    _Kernel(
        "step_shampoo",
        _CPU_1,
        _kernel_numbers_1,
        elements=("p", "grad", "momentum_buffer", "gradient", "update"),
        optional=("momentum_buffer",),
        options=("maximize", "weight_decay_is_not_0", "momentum_is_not_0"),
        cuda=_CUDA_1,
    ),
    _Kernel(
        "step_shampoo",
        _CPU_2,
        _kernel_numbers_2,
        elements=("p", "update"),
        options=("maximize",),
        cuda=_CUDA_2,
    ),
)
