"""SOAP: Adam in the eigenbases of Shampoo's factors.

Vyas et al. (2024), SOAP: Improving and Stabilizing Shampoo using Adam,
https://arxiv.org/abs/2409.11321
Follows the authors' code, https://github.com/nikhilvyas/SOAP: the first step makes the
bases and moves nothing; weights decay after the update. Left out: merge_dims (it fails
in pytorch_optimizer where all axes become one), precondition_1d, normalize_grads.
"""
# Compiled by optdsl from soap.opt, content 6be4a8d92462.

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

__all__ = ["SOAP"]


class SOAP(Optimizer):
    """SOAP: Adam in the eigenbases of Shampoo's factors.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 3e-3).
        betas (tuple[float, float], optional): decay of the moments, in [0, 1) (default:
            (0.95, 0.95)).
        shampoo_beta (float | None, optional): decay of the factors; none: as of the
            second moment, in [0, 1) (default: None).
        eps (float, optional): added to the root of the second moment, in [0, inf)
            (default: 1e-8).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0.01).
        precondition_frequency (int, optional): steps between two bases, in [1, inf)
            (default: 10).
        max_precond_dim (int, optional): axes longer than this have no basis, in [0,
            inf) (default: 10000).
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
        exp_avg: running mean of gradients (like p).
        exp_avg_sq: running mean of squares, in the bases (like p).
        factor_{axis}, for axis in range(p.ndim): of a shape that its sizes decide.
        basis_{axis}, for axis in range(p.ndim): of a shape that its sizes decide.

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10000,
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
            "shampoo_beta": shampoo_beta,
            "eps": eps,
            "weight_decay": weight_decay,
            "precondition_frequency": precondition_frequency,
            "max_precond_dim": max_precond_dim,
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
            group.setdefault("betas", (0.95, 0.95))
            group.setdefault("shampoo_beta", None)
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0.01)
            group.setdefault("precondition_frequency", 10)
            group.setdefault("max_precond_dim", 10000)
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
        for name in ("lr", "betas", "shampoo_beta", "eps", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        factors: list[list[Tensor | None]],
        basises: list[list[Tensor | None]],
        firsts: list[bool],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("SOAP does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("SOAP does not support complex parameters")
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
            for axis in range(p.ndim):
                if (
                    p.ndim > 1 and p.shape[axis] <= group["max_precond_dim"]
                ) and f"factor_{axis}" not in state:
                    start = p.clone() if group["differentiable"] else p
                    state[f"factor_{axis}"] = start.new_zeros(
                        (start.shape[axis], start.shape[axis])
                    )
            for axis in range(p.ndim):
                if (
                    p.ndim > 1 and p.shape[axis] <= group["max_precond_dim"]
                ) and f"basis_{axis}" not in state:
                    start = p.clone() if group["differentiable"] else p
                    state[f"basis_{axis}"] = start.new_zeros(
                        (start.shape[axis], start.shape[axis])
                    )
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            factors.append([state.get(f"factor_{axis}") for axis in range(p.ndim)])
            basises.append([state.get(f"basis_{axis}") for axis in range(p.ndim)])
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
                self._init_group(group, [], [], [], [], [], [], [], [])
            for state in self.state.values():
                state.pop("first", None)
            return loss

        if not self._unscale():
            return loss

        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            exp_avgs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            factors: list[list[Tensor | None]] = []
            basises: list[list[Tensor | None]] = []
            firsts: list[bool] = []
            steps: list[Tensor] = []
            self._init_group(
                group,
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                factors,
                basises,
                firsts,
                steps,
            )
            groups.append(
                (
                    group,
                    [
                        params,
                        grads,
                        exp_avgs,
                        exp_avg_sqs,
                        factors,
                        basises,
                        firsts,
                        steps,
                    ],
                )
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, exp_avgs, exp_avg_sqs, factors, basises, firsts, steps = (
                columns
            )
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_soap if use_foreach else _single_tensor_soap
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_soap
            update(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                factors,
                basises,
                firsts,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                shampoo_beta=group["shampoo_beta"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                precondition_frequency=group["precondition_frequency"],
                max_precond_dim=group["max_precond_dim"],
                maximize=group["maximize"],
            )
        for _, columns in groups:
            params, firsts = columns[0], columns[6]
            for p, first in zip(params, firsts, strict=True):
                if first:
                    self.state[p].pop("first")

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    shampoo_beta = group["shampoo_beta"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    precondition_frequency = group["precondition_frequency"]
    max_precond_dim = group["max_precond_dim"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    if shampoo_beta is not None:
        _check_number("shampoo_beta", shampoo_beta)
    if not (shampoo_beta is None or 0 <= shampoo_beta < 1):
        raise ValueError(
            f"Invalid shampoo_beta: {shampoo_beta!r}, "
            f"expected a number in [0, 1), or None"
        )
    _check_number("eps", eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    _check_int("precondition_frequency", precondition_frequency)
    if not 1 <= precondition_frequency < math.inf:
        raise ValueError(
            f"Invalid precondition_frequency: {precondition_frequency!r}, "
            f"expected an int in [1, inf)"
        )
    _check_int("max_precond_dim", max_precond_dim)
    if not 0 <= max_precond_dim < math.inf:
        raise ValueError(
            f"Invalid max_precond_dim: {max_precond_dim!r}, expected an int in [0, inf)"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["capturable"]:
        raise RuntimeError(
            "SOAP cannot be captured: `eigh` waits for what the device computes"
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


def _qr(x: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix of orthonormal columns and a triangular one, whose product is x."""
    q, r = torch.linalg.qr(_precise(x))
    return q.to(x.dtype), r.to(x.dtype)


def _eigh(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of a symmetric matrix, the smallest first, and eigenvectors."""
    values, vectors = torch.linalg.eigh(_precise(x))
    return values.to(x.dtype), vectors.to(x.dtype)


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


def _turned(x: Tensor, basis: Tensor, axis: float) -> Tensor:
    # turned(x, basis, axis) = movedim(movedim(x, axis, -1) @ basis, -1, axis)
    return (x.movedim(axis, -1) @ basis).movedim(-1, axis)


def _rows(x: Tensor, axis: float) -> Tensor:
    # rows(x, axis) = reshape(movedim(x, axis, 0), (size(x, axis), numel(x)//max(1,
    #     size(x, axis))))
    return x.movedim(axis, 0).reshape(
        (x.shape[axis], x.numel() // max(1, x.shape[axis]))
    )


def _single_tensor_soap(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    factors: list[list[Tensor | None]],
    basises: list[list[Tensor | None]],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    shampoo_beta: float | None,
    eps: float,
    weight_decay: float,
    precondition_frequency: int,
    max_precond_dim: int,
    maximize: bool,
) -> None:
    for p, grad, exp_avg, exp_avg_sq, factor, basis, first, step in zip(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        factors,
        basises,
        firsts,
        steps,
        strict=True,
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if not first:
            # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
            exp_avg.lerp_(grad, 1 - betas[0])
            seen = grad
            update = exp_avg
            for axis in range(p.ndim):
                if p.ndim > 1 and p.shape[axis] <= max_precond_dim:
                    # seen = turned(seen, basis[axis], axis)
                    seen = _turned(seen, basis[axis], axis)

                    # update = turned(update, basis[axis], axis)
                    update = _turned(update, basis[axis], axis)

            # exp_avg_sq = lerp(exp_avg_sq, seen*seen, 1 - betas[1])
            exp_avg_sq.lerp_(seen * seen, 1 - betas[1])

            # update /= sqrt(exp_avg_sq) + eps
            update = update / exp_avg_sq.sqrt().add_(eps)
            for axis in range(p.ndim):
                if p.ndim > 1 and p.shape[axis] <= max_precond_dim:
                    # update = turned(update, transpose(basis[axis]), axis)
                    update = _turned(update, basis[axis].mT, axis)

            # p -= lr*sqrt(1 - betas[1]**(t - 1))/(1 - betas[0]**(t - 1))*update
            p.add_(
                update,
                alpha=-lr
                * math.sqrt(1 - betas[1] ** (t - 1))
                / (1 - betas[0] ** (t - 1)),
            )

            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        for axis in range(p.ndim):
            if p.ndim > 1 and p.shape[axis] <= max_precond_dim:
                # factor[axis] = lerp(factor[axis], rows(grad, axis) @
                #     transpose(rows(grad, axis)), 1 - (betas[1] if shampoo_beta == none
                #     else shampoo_beta))
                factor[axis].lerp_(
                    _rows(grad, axis) @ _rows(grad, axis).mT,
                    1 - (betas[1] if shampoo_beta is None else shampoo_beta),
                )
                if first:
                    # values, vectors = eigh(factor[axis])
                    values_, vectors = _eigh(factor[axis])

                    # basis[axis] = vectors
                    basis[axis].copy_(vectors)
                elif (t - 1) % precondition_frequency == 0:
                    # order = argsort(sum(basis[axis]*(factor[axis] @ basis[axis]),
                    #     dim=0), descending=true)
                    order = (
                        (basis[axis] * (factor[axis] @ basis[axis]))
                        .sum(dim=0)
                        .argsort(descending=True, stable=True)
                    )

                    # q, r = qr(factor[axis] @ index_select(basis[axis], 1, order))
                    q, r = _qr(factor[axis] @ basis[axis].index_select(1, order))

                    # basis[axis] = q
                    basis[axis].copy_(q)

                    # exp_avg_sq = index_select(exp_avg_sq, axis, order)
                    exp_avg_sq.copy_(exp_avg_sq.index_select(axis, order))


def _multi_tensor_soap(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    factors: list[list[Tensor | None]],
    basises: list[list[Tensor | None]],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    shampoo_beta: float | None,
    eps: float,
    weight_decay: float,
    precondition_frequency: int,
    max_precond_dim: int,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps, weight_decay = map(float, (lr, eps, weight_decay))
    betas = tuple(map(float, betas))

    columns = [params, grads, exp_avgs, exp_avg_sqs, factors, basises, firsts, steps]
    keys = [
        (p.shape, first, step.item())
        for p, first, step in zip(params, firsts, steps, strict=True)
    ]
    for params, grads, exp_avgs, exp_avg_sqs, factors, basises, firsts, steps in _alike(
        columns, keys
    ):
        if maximize:
            grads = torch._foreach_neg(grads)
        first = firsts[0]
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if not first:
            # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
            torch._foreach_lerp_(exp_avgs, grads, 1 - betas[0])
            seens = grads
            updates = exp_avgs
            for axis in range(params[0].ndim):
                if params[0].ndim > 1 and params[0].shape[axis] <= max_precond_dim:
                    # seen = turned(seen, basis[axis], axis)
                    seens = _batched(
                        lambda seen, basis: _turned(seen, basis, axis),
                        seens,
                        [each[axis] for each in basises],
                    )

                    # update = turned(update, basis[axis], axis)
                    updates = _batched(
                        lambda update, basis: _turned(update, basis, axis),
                        updates,
                        [each[axis] for each in basises],
                    )

            # exp_avg_sq = lerp(exp_avg_sq, seen*seen, 1 - betas[1])
            products = torch._foreach_mul(seens, seens)
            del seens
            torch._foreach_lerp_(exp_avg_sqs, products, 1 - betas[1])
            del products

            # update /= sqrt(exp_avg_sq) + eps
            roots = torch._foreach_sqrt(exp_avg_sqs)
            torch._foreach_add_(roots, eps)
            updates = torch._foreach_div(updates, roots)
            del roots
            for axis in range(params[0].ndim):
                if params[0].ndim > 1 and params[0].shape[axis] <= max_precond_dim:
                    # update = turned(update, transpose(basis[axis]), axis)
                    updates = _batched(
                        lambda update, basis: _turned(update, basis.mT, axis),
                        updates,
                        [each[axis] for each in basises],
                    )

            # p -= lr*sqrt(1 - betas[1]**(t - 1))/(1 - betas[0]**(t - 1))*update
            torch._foreach_add_(
                params,
                updates,
                alpha=-lr
                * math.sqrt(1 - betas[1] ** (t - 1))
                / (1 - betas[0] ** (t - 1)),
            )
            del updates

            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        for axis in range(params[0].ndim):
            if params[0].ndim > 1 and params[0].shape[axis] <= max_precond_dim:
                # factor[axis] = lerp(factor[axis], rows(grad, axis) @
                #     transpose(rows(grad, axis)), 1 - (betas[1] if shampoo_beta == none
                #     else shampoo_beta))
                matmuls = _batched(
                    lambda grad: _rows(grad, axis) @ _rows(grad, axis).mT, grads
                )
                torch._foreach_lerp_(
                    [each[axis] for each in factors],
                    matmuls,
                    1 - (betas[1] if shampoo_beta is None else shampoo_beta),
                )
                if first:
                    # values, vectors = eigh(factor[axis])
                    valueses, vectorses = map(
                        list,
                        zip(
                            *_batched(_eigh, [each[axis] for each in factors]),
                            strict=True,
                        ),
                    )

                    # basis[axis] = vectors
                    torch._foreach_copy_([each[axis] for each in basises], vectorses)
                elif (t - 1) % precondition_frequency == 0:
                    # order = argsort(sum(basis[axis]*(factor[axis] @ basis[axis]),
                    #     dim=0), descending=true)
                    matmuls = _batched(
                        lambda factor, basis: factor @ basis,
                        [each[axis] for each in factors],
                        [each[axis] for each in basises],
                    )
                    products = torch._foreach_mul(
                        [each[axis] for each in basises], matmuls
                    )
                    orders = [
                        product.sum(dim=0).argsort(descending=True, stable=True)
                        for product in products
                    ]

                    # q, r = qr(factor[axis] @ index_select(basis[axis], 1, order))
                    qs, rs = map(
                        list,
                        zip(
                            *_batched(
                                lambda factor, basis, order: _qr(
                                    factor @ basis.index_select(1, order)
                                ),
                                [each[axis] for each in factors],
                                [each[axis] for each in basises],
                                orders,
                            ),
                            strict=True,
                        ),
                    )

                    # basis[axis] = q
                    torch._foreach_copy_([each[axis] for each in basises], qs)

                    # exp_avg_sq = index_select(exp_avg_sq, axis, order)
                    for exp_avg_sq, order in zip(exp_avg_sqs, orders, strict=True):
                        exp_avg_sq.copy_(exp_avg_sq.index_select(axis, order))


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_soap(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    factors: list[list[Tensor | None]],
    basises: list[list[Tensor | None]],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    shampoo_beta: float | None,
    eps: float,
    weight_decay: float,
    precondition_frequency: int,
    max_precond_dim: int,
    maximize: bool,
) -> None:
    for p, grad, exp_avg, exp_avg_sq, factor, basis, first, step in zip(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        factors,
        basises,
        firsts,
        steps,
        strict=True,
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg, exp_avg_sq, *factor, *basis, step)
        p, exp_avg, exp_avg_sq, step = (
            each if each is None else each.clone()
            for each in (p, exp_avg, exp_avg_sq, step)
        )
        factor = [each if each is None else each.clone() for each in factor]
        basis = [each if each is None else each.clone() for each in basis]
        step = step + 1
        t = step.item()
        if not first:
            # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
            exp_avg = exp_avg.lerp(grad, 1 - betas[0])
            seen = grad
            update = exp_avg
            for axis in range(p.ndim):
                if p.ndim > 1 and p.shape[axis] <= max_precond_dim:
                    # seen = turned(seen, basis[axis], axis)
                    seen = _turned(seen, basis[axis], axis)

                    # update = turned(update, basis[axis], axis)
                    update = _turned(update, basis[axis], axis)

            # exp_avg_sq = lerp(exp_avg_sq, seen*seen, 1 - betas[1])
            exp_avg_sq = exp_avg_sq.lerp(seen * seen, 1 - betas[1])

            # update /= sqrt(exp_avg_sq) + eps
            update = update / (exp_avg_sq.sqrt() + eps)
            for axis in range(p.ndim):
                if p.ndim > 1 and p.shape[axis] <= max_precond_dim:
                    # update = turned(update, transpose(basis[axis]), axis)
                    update = _turned(update, basis[axis].mT, axis)

            # p -= lr*sqrt(1 - betas[1]**(t - 1))/(1 - betas[0]**(t - 1))*update
            p = _scaled_add(
                p,
                update,
                -lr * math.sqrt(1 - betas[1] ** (t - 1)) / (1 - betas[0] ** (t - 1)),
            )

            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        for axis in range(p.ndim):
            if p.ndim > 1 and p.shape[axis] <= max_precond_dim:
                # factor[axis] = lerp(factor[axis], rows(grad, axis) @
                #     transpose(rows(grad, axis)), 1 - (betas[1] if shampoo_beta == none
                #     else shampoo_beta))
                factor[axis] = factor[axis].lerp(
                    _rows(grad, axis) @ _rows(grad, axis).mT,
                    1 - (betas[1] if shampoo_beta is None else shampoo_beta),
                )
                if first:
                    # values, vectors = eigh(factor[axis])
                    values_, vectors = _eigh(factor[axis])
                    basis[axis] = vectors
                elif (t - 1) % precondition_frequency == 0:
                    # order = argsort(sum(basis[axis]*(factor[axis] @ basis[axis]),
                    #     dim=0), descending=true)
                    order = (
                        (basis[axis] * (factor[axis] @ basis[axis]))
                        .sum(dim=0)
                        .argsort(descending=True, stable=True)
                    )

                    # q, r = qr(factor[axis] @ index_select(basis[axis], 1, order))
                    q, r = _qr(factor[axis] @ basis[axis].index_select(1, order))
                    basis[axis] = q

                    # exp_avg_sq = index_select(exp_avg_sq, axis, order)
                    exp_avg_sq = exp_avg_sq.index_select(axis, order)

        for each, new in zip(
            kept, (p, exp_avg, exp_avg_sq, *factor, *basis, step), strict=True
        ):
            if each is not None:
                each.copy_(new)


def _kernel_numbers_1(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["betas"][0], group["betas"][1]]
    options = [group["maximize"]]
    return hypers, options


def _kernel_numbers_2(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["betas"][0], group["betas"][1], group["eps"]]
    options = [group["maximize"]]
    return hypers, options


def _kernel_numbers_3(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["betas"][0], group["betas"][1], group["weight_decay"]]
    options = [group["maximize"]]
    return hypers, options


def _between_soap_1(
    params: list[Tensor],
    basises: list[list[Tensor | None]],
    seens: list[Tensor],
    updates: list[Tensor],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    max_precond_dim: int,
) -> tuple[list[Tensor], list[Tensor]]:
    first = firsts[0]
    torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
    new_seens = seens
    new_updates = updates
    if not first:
        for axis in range(params[0].ndim):
            if params[0].ndim > 1 and params[0].shape[axis] <= max_precond_dim:
                # seen = turned(seen, basis[axis], axis)
                new_seens = _batched(
                    lambda new_seen, basis: _turned(new_seen, basis, axis),
                    new_seens,
                    [each[axis] for each in basises],
                )

                # update = turned(update, basis[axis], axis)
                new_updates = _batched(
                    lambda new_update, basis: _turned(new_update, basis, axis),
                    new_updates,
                    [each[axis] for each in basises],
                )
    return new_seens, new_updates


def _between_soap_2(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avg_sqs: list[Tensor],
    factors: list[list[Tensor | None]],
    basises: list[list[Tensor | None]],
    updates: list[Tensor],
    firsts: list[bool],
    steps: list[Tensor],
    *,
    betas: tuple[float, float],
    shampoo_beta: float | None,
    precondition_frequency: int,
    max_precond_dim: int,
    maximize: bool,
) -> list[Tensor]:
    # Numbers, where a group has tensors of one element.
    betas = tuple(map(float, betas))

    if maximize:
        grads = torch._foreach_neg(grads)
    first = firsts[0]
    t = steps[0].item()

    # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
    new_updates = [update.clone() for update in updates]
    if not first:
        for axis in range(params[0].ndim):
            if params[0].ndim > 1 and params[0].shape[axis] <= max_precond_dim:
                # update = turned(update, transpose(basis[axis]), axis)
                new_updates = _batched(
                    lambda new_update, basis: _turned(
                        new_update, basis.mT, axis
                    ).clone(),
                    new_updates,
                    [each[axis] for each in basises],
                )
    for axis in range(params[0].ndim):
        if params[0].ndim > 1 and params[0].shape[axis] <= max_precond_dim:
            # factor[axis] = lerp(factor[axis], rows(grad, axis) @ transpose(rows(grad,
            #     axis)), 1 - (betas[1] if shampoo_beta == none else shampoo_beta))
            matmuls = _batched(
                lambda grad: _rows(grad, axis) @ _rows(grad, axis).mT, grads
            )
            torch._foreach_lerp_(
                [each[axis] for each in factors],
                matmuls,
                1 - (betas[1] if shampoo_beta is None else shampoo_beta),
            )
            if first:
                # values, vectors = eigh(factor[axis])
                valueses, vectorses = map(
                    list,
                    zip(
                        *_batched(_eigh, [each[axis] for each in factors]), strict=True
                    ),
                )

                # basis[axis] = vectors
                torch._foreach_copy_([each[axis] for each in basises], vectorses)
            elif (t - 1) % precondition_frequency == 0:
                # order = argsort(sum(basis[axis]*(factor[axis] @ basis[axis]), dim=0),
                #     descending=true)
                matmuls = _batched(
                    lambda factor, basis: factor @ basis,
                    [each[axis] for each in factors],
                    [each[axis] for each in basises],
                )
                products = torch._foreach_mul([each[axis] for each in basises], matmuls)
                orders = [
                    product.sum(dim=0).argsort(descending=True, stable=True)
                    for product in products
                ]

                # q, r = qr(factor[axis] @ index_select(basis[axis], 1, order))
                qs, rs = map(
                    list,
                    zip(
                        *_batched(
                            lambda factor, basis, order: _qr(
                                factor @ basis.index_select(1, order)
                            ),
                            [each[axis] for each in factors],
                            [each[axis] for each in basises],
                            orders,
                        ),
                        strict=True,
                    ),
                )

                # basis[axis] = q
                torch._foreach_copy_([each[axis] for each in basises], qs)

                # exp_avg_sq = index_select(exp_avg_sq, axis, order)
                for exp_avg_sq, order in zip(exp_avg_sqs, orders, strict=True):
                    exp_avg_sq.copy_(exp_avg_sq.index_select(axis, order))
    return new_updates


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels and torch in turns the groups that ask for it; return those
    that are left.
    """
    taken, left = _KERNELS.apart(optimizer, groups)
    for group, columns in taken:
        params, grads, exp_avgs, exp_avg_sqs, factors, basises, firsts, steps = columns
        turns = _KERNELS.of(
            optimizer,
            group,
            {
                "p": params,
                "grad": grads,
                "exp_avg": exp_avgs,
                "exp_avg_sq": exp_avg_sqs,
            },
        )
        if turns is None:
            left.append((group, columns))
            continue
        turn_1, turn_2, turn_3 = turns
        keys = [
            (p.shape, first, step.item())
            for p, first, step in zip(params, firsts, steps, strict=True)
        ]
        for batch in _alike(columns, keys):
            params, grads, exp_avgs, exp_avg_sqs, factors, basises, firsts, steps = (
                batch
            )
            seens, updates = turn_1(params, grads, exp_avgs, asked=[firsts])
            seens, updates = _between_soap_1(
                params,
                basises,
                seens,
                updates,
                firsts,
                steps,
                max_precond_dim=group["max_precond_dim"],
            )
            seens, updates = _KERNELS.handed(batch, seens, updates)
            turn_2(params, exp_avg_sqs, seens, updates, asked=[firsts])
            updates = _between_soap_2(
                params,
                grads,
                exp_avg_sqs,
                factors,
                basises,
                updates,
                firsts,
                steps,
                betas=group["betas"],
                shampoo_beta=group["shampoo_beta"],
                precondition_frequency=group["precondition_frequency"],
                max_precond_dim=group["max_precond_dim"],
                maximize=group["maximize"],
            )
            updates = _KERNELS.handed(batch, updates)
            turn_3(params, updates, asked=[firsts, [step.item() for step in steps]])
    return left


_CPU_1 = r"""// SOAP, turn 1, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    seen_t *seen;
    update_t *update;
    double betas[2];
    double first;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::grad, &Row::exp_avg, &Row::seen, &Row::update);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            real seen = load(row.seen[i]);
            real update = load(row.update[i]);
            if (!row.first) {
                // exp_avg = lerp(exp_avg, grad, 1 - betas[0])
                exp_avg = lerp_(exp_avg, grad, real(1.0 - row.betas[0]));
                // seen = grad
                seen = grad;
                // update = exp_avg
                update = exp_avg;
            }
            store(row.exp_avg[i], exp_avg);
            store(row.seen[i], seen);
            store(row.update[i], update);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_soap(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.exp_avg = (exp_avg_t *)table->columns[2][at];
        row.seen = (seen_t *)table->columns[3][at];
        row.update = (update_t *)table->columns[4][at];
        const double *hyper = table->hypers + 2 * table->group[at];
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.first = table->asked[at];
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_1 = r"""# SOAP, turn 1, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, gradient, keep, lerp, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "exp_avg_t", "seen_t", "update_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, asked, found_inf, grad_scale,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    seen_t: tl.constexpr,
    update_t: tl.constexpr,
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
    of = hypers + 2 * tl.load(group + row)
    betas_0 = tl.load(of + 0)
    first = tl.load(asked + 0 * rows + row) != 0
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    seen_at = column(columns, rows, row, 3, seen_t, aligned) + begin
    update_at = column(columns, rows, row, 4, update_t, aligned) + begin
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    seen = elements(seen_at, i, left, real)
    update = elements(update_at, i, left, real)
    if not first:
        # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
        exp_avg = lerp(exp_avg, grad, (1.0 - betas_0).to(real))
        # seen = grad
        seen = grad
        # update = exp_avg
        update = exp_avg
    keep(exp_avg_at, i, left, exp_avg)
    keep(seen_at, i, left, seen)
    keep(update_at, i, left, update)


def launch(x):
    x.each_chunk(pass_1)
"""


_CPU_2 = r"""// SOAP, turn 2, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    exp_avg_sq_t *exp_avg_sq;
    seen_t *seen;
    update_t *update;
    double betas[2];
    double eps;
    double first;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::exp_avg_sq, &Row::seen, &Row::update);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            const real seen = load(row.seen[i]);
            real update = load(row.update[i]);
            if (!row.first) {
                // exp_avg_sq = lerp(exp_avg_sq, seen*seen, 1 - betas[1])
                exp_avg_sq = lerp_(exp_avg_sq, seen * seen, real(1.0 - row.betas[1]));
                // update /= sqrt(exp_avg_sq) + eps
                update = update / (sqrt_(exp_avg_sq) + real(row.eps));
            }
            store(row.exp_avg_sq[i], exp_avg_sq);
            store(row.update[i], update);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_soap(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.exp_avg_sq = (exp_avg_sq_t *)table->columns[1][at];
        row.seen = (seen_t *)table->columns[2][at];
        row.update = (update_t *)table->columns[3][at];
        const double *hyper = table->hypers + 3 * table->group[at];
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.eps = *hyper++;
        row.first = table->asked[at];
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_2 = r"""# SOAP, turn 2, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, keep, lerp, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "exp_avg_sq_t", "seen_t", "update_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, asked, found_inf,
    exp_avg_sq_t: tl.constexpr,
    seen_t: tl.constexpr,
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
    of = hypers + 3 * tl.load(group + row)
    betas_1 = tl.load(of + 1)
    eps = tl.load(of + 2)
    first = tl.load(asked + 0 * rows + row) != 0
    exp_avg_sq_at = column(columns, rows, row, 1, exp_avg_sq_t, aligned) + begin
    seen_at = column(columns, rows, row, 2, seen_t, aligned) + begin
    update_at = column(columns, rows, row, 3, update_t, aligned) + begin
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    seen = elements(seen_at, i, left, real)
    update = elements(update_at, i, left, real)
    if not first:
        # exp_avg_sq = lerp(exp_avg_sq, seen*seen, 1 - betas[1])
        exp_avg_sq = lerp(exp_avg_sq, seen * seen, (1.0 - betas_1).to(real))
        # update /= sqrt(exp_avg_sq) + eps
        update = update / (tl.sqrt(exp_avg_sq) + eps.to(real))
    keep(exp_avg_sq_at, i, left, exp_avg_sq)
    keep(update_at, i, left, update)


def launch(x):
    x.each_chunk(pass_1)
"""


_CPU_3 = r"""// SOAP, turn 3, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    update_t *update;
    double lr;
    double betas[2];
    double weight_decay;
    double first;
    double t;
};

// What is worked out once a tensor.
struct Numbers {
    double t, quotient;
};

static void numbers_1(const Row &row, Numbers &n) {
    if (!row.first) {
        // lr*sqrt(1 - betas[1]**(t - 1))/(1 - betas[0]**(t - 1))
        n.quotient = row.lr * sqrt_(1.0 - std::pow(row.betas[1], n.t - 1.0)) / (1.0 -
            std::pow(row.betas[0], n.t - 1.0));
    }
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::update);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real update = load(row.update[i]);
            if (!row.first) {
                // p -= lr*sqrt(1 - betas[1]**(t - 1))/(1 - betas[0]**(t - 1))*update
                p = p - real(n.quotient) * update;
                // p *= 1 - lr*weight_decay
                p = p * real(1.0 - row.lr * row.weight_decay);
            }
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_soap(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.update = (update_t *)table->columns[1][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.weight_decay = *hyper++;
        row.first = table->asked[at];
        row.t = table->asked[1 * table->rows + at];
        numbers[at].t = row.t;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_1(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_3 = r"""# SOAP, turn 3, in one pass over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

from optdsl.runtime.arithmetic import column, double, elements, keep, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "update_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    rows, group, hypers, asked, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 4 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    first = tl.load(asked + 0 * rows + row) != 0
    t = tl.load(asked + 1 * rows + row)
    quotient = double(0.0)
    if not first:
        # lr*sqrt(1 - betas[1]**(t - 1))/(1 - betas[0]**(t - 1))
        quotient = (
            lr
            * tl.sqrt(1.0 - libdevice.pow(betas_1, t - 1.0))
            / (1.0 - libdevice.pow(betas_0, t - 1.0))
        )
    tl.store(n + 0 * rows, quotient)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, asked, numbers, found_inf,
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
    n = numbers + row
    of = hypers + 4 * tl.load(group + row)
    lr = tl.load(of + 0)
    weight_decay = tl.load(of + 3)
    first = tl.load(asked + 0 * rows + row) != 0
    quotient = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    update_at = column(columns, rows, row, 1, update_t, aligned) + begin
    p = elements(p_at, i, left, real)
    update = elements(update_at, i, left, real)
    if not first:
        # p -= lr*sqrt(1 - betas[1]**(t - 1))/(1 - betas[0]**(t - 1))*update
        p = p - quotient.to(real) * update
        # p *= 1 - lr*weight_decay
        p = p * (1.0 - lr * weight_decay).to(real)
    keep(p_at, i, left, p)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Turns(
    _Kernel(
        "step_soap",
        _CPU_1,
        _kernel_numbers_1,
        elements=("p", "grad", "exp_avg", "seen", "update"),
        options=("maximize",),
        cuda=_CUDA_1,
    ),
    _Kernel(
        "step_soap",
        _CPU_2,
        _kernel_numbers_2,
        elements=("p", "exp_avg_sq", "seen", "update"),
        options=("maximize",),
        cuda=_CUDA_2,
    ),
    _Kernel(
        "step_soap",
        _CPU_3,
        _kernel_numbers_3,
        elements=("p", "update"),
        options=("maximize",),
        cuda=_CUDA_3,
    ),
)
