"""GaLore: AdamW on gradients that are projected to a few of their directions.

Zhao et al. (2024), GaLore: Memory-Efficient LLM Training by Gradient Low-Rank
Projection, https://arxiv.org/abs/2403.03507
Follows the authors' code with proj_type "std", https://github.com/jiaweizzhao/GaLore:
the short side is projected, the moments stay when the projection changes, and weights
decay after the update. There, a group has a rank or none; here, matrices that are no
larger than the rank, and tensors that are no matrices, are updated as AdamW does. The
moments of wide matrices are kept transposed.
"""
# Compiled by optdsl from galore.opt, content ca5cad081e94.

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

__all__ = ["GaLoreAdamW"]


class GaLoreAdamW(Optimizer):
    """GaLore: AdamW on gradients that are projected to a few of their directions.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        betas (tuple[float, float], optional): decay of the moments, in [0, 1) (default:
            (0.9, 0.999)).
        eps (float, optional): added to the root of the second moment, in [0, inf)
            (default: 1e-6).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0).
        rank (int, optional): directions that are kept, in [1, inf) (default: 128).
        every (int, optional): steps between two projections, in [1, inf) (default:
            200).
        scale (float, optional): factor of the projected updates, in [0, inf) (default:
            0.25).
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
        basis: of a shape that its sizes decide.
        exp_avg: of a shape that its sizes decide.
        exp_avg_sq: of a shape that its sizes decide.

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0,
        rank: int = 128,
        every: int = 200,
        scale: float = 0.25,
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
            "rank": rank,
            "every": every,
            "scale": scale,
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
            group.setdefault("betas", (0.9, 0.999))
            group.setdefault("eps", 1e-6)
            group.setdefault("weight_decay", 0)
            group.setdefault("rank", 128)
            group.setdefault("every", 200)
            group.setdefault("scale", 0.25)
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
        for name in ("lr", "betas", "eps", "weight_decay", "scale"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        basises: list[Tensor | None],
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
                raise RuntimeError("GaLoreAdamW does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("GaLoreAdamW does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                start = p.clone() if group["differentiable"] else p
                state["exp_avg"] = (
                    start.new_zeros(
                        (max(start.shape[0], start.shape[1]), group["rank"])
                    )
                    if start.ndim == 2 and min(start.shape[0], start.shape[1]) > group[
                        "rank"
                    ]
                    else torch.zeros_like(start)
                ).clone()
                state["exp_avg_sq"] = torch.zeros_like(state["exp_avg"])
            if (
                p.ndim == 2 and min(p.shape[0], p.shape[1]) > group["rank"]
            ) and "basis" not in state:
                start = p.clone() if group["differentiable"] else p
                state["basis"] = start.new_zeros(
                    (min(start.shape[0], start.shape[1]), group["rank"])
                )
            params.append(p)
            grads.append(grad)
            basises.append(state.get("basis"))
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
            basises: list[Tensor | None] = []
            exp_avgs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, basises, exp_avgs, exp_avg_sqs, steps
            )
            groups.append(
                (group, [params, grads, basises, exp_avgs, exp_avg_sqs, steps])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, basises, exp_avgs, exp_avg_sqs, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = (
                _multi_tensor_ga_lore_adamw
                if use_foreach
                else _single_tensor_ga_lore_adamw
            )
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_ga_lore_adamw
            update(
                params,
                grads,
                basises,
                exp_avgs,
                exp_avg_sqs,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                rank=group["rank"],
                every=group["every"],
                scale=group["scale"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    rank = group["rank"]
    every = group["every"]
    scale = group["scale"]
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
    _check_int("rank", rank)
    if not 1 <= rank < math.inf:
        raise ValueError(f"Invalid rank: {rank!r}, expected an int in [1, inf)")
    _check_int("every", every)
    if not 1 <= every < math.inf:
        raise ValueError(f"Invalid every: {every!r}, expected an int in [1, inf)")
    _check_number("scale", scale)
    if not 0 <= scale < math.inf:
        raise ValueError(f"Invalid scale: {scale!r}, expected a number in [0, inf)")
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["capturable"]:
        raise RuntimeError(
            "GaLoreAdamW cannot be captured: `svd` waits for what the device computes"
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


def _svd(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values, the largest first, between their vectors: u @ diag(s) @ vh."""
    u, s, vh = torch.linalg.svd(_precise(x), full_matrices=False)
    return u.to(x.dtype), s.to(x.dtype), vh.to(x.dtype)


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


def _single_tensor_ga_lore_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    basises: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    rank: int,
    every: int,
    scale: float,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, basis, exp_avg, exp_avg_sq, step in zip(
        params, grads, basises, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        seen = grad
        if p.ndim == 2 and min(p.shape[0], p.shape[1]) > rank:
            if (t - 1) % every == 0:
                # u, s, vh = svd(grad)
                u, s, vh = _svd(grad)

                # basis = narrow(u, 1, 0, rank) if size(p, 0) < size(p, 1) else
                #     transpose(narrow(vh, 0, 0, rank))
                if p.shape[0] < p.shape[1]:
                    basis.copy_(u.narrow(1, 0, rank))
                else:
                    basis.copy_(vh.narrow(0, 0, rank).mT)

            # seen = (transpose(grad) if size(p, 0) < size(p, 1) else grad) @ basis
            seen = (grad.mT if p.shape[0] < p.shape[1] else grad) @ basis

        # exp_avg = lerp(exp_avg, seen, 1 - beta1)
        exp_avg.lerp_(seen, 1 - beta1)

        # exp_avg_sq = lerp(exp_avg_sq, seen*seen, 1 - beta2)
        exp_avg_sq.lerp_(seen * seen, 1 - beta2)

        # update = exp_avg/(sqrt(exp_avg_sq) + eps)
        update = exp_avg / exp_avg_sq.sqrt().add_(eps)
        if p.ndim == 2 and min(p.shape[0], p.shape[1]) > rank:
            # update = scale*update @ transpose(basis)
            update = update.mul_(scale) @ basis.mT

            # update = transpose(update) if size(p, 0) < size(p, 1) else update
            if p.shape[0] < p.shape[1]:
                update = update.mT
            else:
                update = update

        # p -= lr*sqrt(1 - beta2**t)/(1 - beta1**t)*update
        p.add_(update, alpha=-lr * math.sqrt(1 - beta2**t) / (1 - beta1**t))

        # p *= 1 - lr*weight_decay
        p.mul_(1 - lr * weight_decay)


def _multi_tensor_ga_lore_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    basises: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    rank: int,
    every: int,
    scale: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps, weight_decay, scale = map(float, (lr, eps, weight_decay, scale))
    betas = tuple(map(float, betas))
    beta1, beta2 = betas

    columns = [params, grads, basises, exp_avgs, exp_avg_sqs, steps]
    keys = [(p.shape, step.item()) for p, step in zip(params, steps, strict=True)]
    for params, grads, basises, exp_avgs, exp_avg_sqs, steps in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        seens = grads
        if params[0].ndim == 2 and min(params[0].shape[0], params[0].shape[1]) > rank:
            if (t - 1) % every == 0:
                # u, s, vh = svd(grad)
                us, ses, vhs = map(list, zip(*_batched(_svd, grads), strict=True))

                # basis = narrow(u, 1, 0, rank) if size(p, 0) < size(p, 1) else
                #     transpose(narrow(vh, 0, 0, rank))
                if params[0].shape[0] < params[0].shape[1]:
                    narrows = [u.narrow(1, 0, rank) for u in us]
                    torch._foreach_copy_(basises, narrows)
                    del narrows
                else:
                    mTs = [vh.narrow(0, 0, rank).mT for vh in vhs]
                    torch._foreach_copy_(basises, mTs)
                    del mTs

            # seen = (transpose(grad) if size(p, 0) < size(p, 1) else grad) @ basis
            seens = _batched(
                lambda grad, basis: (
                    (grad.mT if params[0].shape[0] < params[0].shape[1] else grad)
                    @ basis
                ),
                grads,
                basises,
            )
        del grads

        # exp_avg = lerp(exp_avg, seen, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, seens, 1 - beta1)

        # exp_avg_sq = lerp(exp_avg_sq, seen*seen, 1 - beta2)
        products = torch._foreach_mul(seens, seens)
        del seens
        torch._foreach_lerp_(exp_avg_sqs, products, 1 - beta2)
        del products

        # update = exp_avg/(sqrt(exp_avg_sq) + eps)
        roots = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_add_(roots, eps)
        torch._foreach_reciprocal_(roots)
        torch._foreach_mul_(roots, exp_avgs)
        updates = roots
        del roots
        if params[0].ndim == 2 and min(params[0].shape[0], params[0].shape[1]) > rank:
            # update = scale*update @ transpose(basis)
            torch._foreach_mul_(updates, scale)
            updates = _batched(
                lambda update, basis: update @ basis.mT, updates, basises
            )

            # update = transpose(update) if size(p, 0) < size(p, 1) else update
            if params[0].shape[0] < params[0].shape[1]:
                updates = [update.mT for update in updates]
            else:
                updates = updates

        # p -= lr*sqrt(1 - beta2**t)/(1 - beta1**t)*update
        torch._foreach_add_(
            params, updates, alpha=-lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        )

        # p *= 1 - lr*weight_decay
        torch._foreach_mul_(params, 1 - lr * weight_decay)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_ga_lore_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    basises: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    rank: int,
    every: int,
    scale: float,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, basis, exp_avg, exp_avg_sq, step in zip(
        params, grads, basises, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, basis, exp_avg, exp_avg_sq, step)
        p, basis, exp_avg, exp_avg_sq, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        t = step.item()
        seen = grad
        if p.ndim == 2 and min(p.shape[0], p.shape[1]) > rank:
            if (t - 1) % every == 0:
                # u, s, vh = svd(grad)
                u, s, vh = _svd(grad)

                # basis = narrow(u, 1, 0, rank) if size(p, 0) < size(p, 1) else
                #     transpose(narrow(vh, 0, 0, rank))
                if p.shape[0] < p.shape[1]:
                    basis = u.narrow(1, 0, rank)
                else:
                    basis = vh.narrow(0, 0, rank).mT

            # seen = (transpose(grad) if size(p, 0) < size(p, 1) else grad) @ basis
            seen = (grad.mT if p.shape[0] < p.shape[1] else grad) @ basis

        # exp_avg = lerp(exp_avg, seen, 1 - beta1)
        exp_avg = exp_avg.lerp(seen, 1 - beta1)

        # exp_avg_sq = lerp(exp_avg_sq, seen*seen, 1 - beta2)
        exp_avg_sq = exp_avg_sq.lerp(seen * seen, 1 - beta2)

        # update = exp_avg/(sqrt(exp_avg_sq) + eps)
        update = exp_avg / (exp_avg_sq.sqrt() + eps)
        if p.ndim == 2 and min(p.shape[0], p.shape[1]) > rank:
            # update = scale*update @ transpose(basis)
            update = update * scale @ basis.mT

            # update = transpose(update) if size(p, 0) < size(p, 1) else update
            if p.shape[0] < p.shape[1]:
                update = update.mT
            else:
                update = update

        # p -= lr*sqrt(1 - beta2**t)/(1 - beta1**t)*update
        p = _scaled_add(p, update, -lr * math.sqrt(1 - beta2**t) / (1 - beta1**t))

        # p *= 1 - lr*weight_decay
        p = p * (1 - lr * weight_decay)

        for each, new in zip(kept, (p, basis, exp_avg, exp_avg_sq, step), strict=True):
            if each is not None:
                each.copy_(new)


def _kernel_numbers_1(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["betas"][0], group["betas"][1], group["weight_decay"]]
    options = [group["maximize"]]
    return hypers, options


def _between_ga_lore_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    basises: list[Tensor | None],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    betas: tuple[float, float],
    eps: float,
    rank: int,
    every: int,
    scale: float,
    maximize: bool,
) -> list[Tensor]:
    # Numbers, where a group has tensors of one element.
    eps, scale = map(float, (eps, scale))
    betas = tuple(map(float, betas))
    beta1, beta2 = betas

    if maximize:
        grads = torch._foreach_neg(grads)
    torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
    t = steps[0].item()
    seens = grads
    if params[0].ndim == 2 and min(params[0].shape[0], params[0].shape[1]) > rank:
        if (t - 1) % every == 0:
            # u, s, vh = svd(grad)
            us, ses, vhs = map(list, zip(*_batched(_svd, grads), strict=True))

            # basis = narrow(u, 1, 0, rank) if size(p, 0) < size(p, 1) else
            #     transpose(narrow(vh, 0, 0, rank))
            if params[0].shape[0] < params[0].shape[1]:
                narrows = [u.narrow(1, 0, rank) for u in us]
                torch._foreach_copy_(basises, narrows)
                del narrows
            else:
                mTs = [vh.narrow(0, 0, rank).mT for vh in vhs]
                torch._foreach_copy_(basises, mTs)
                del mTs

        # seen = (transpose(grad) if size(p, 0) < size(p, 1) else grad) @ basis
        seens = _batched(
            lambda grad, basis: (
                (grad.mT if params[0].shape[0] < params[0].shape[1] else grad) @ basis
            ),
            grads,
            basises,
        )
    del grads

    # exp_avg = lerp(exp_avg, seen, 1 - beta1)
    torch._foreach_lerp_(exp_avgs, seens, 1 - beta1)

    # exp_avg_sq = lerp(exp_avg_sq, seen*seen, 1 - beta2)
    products = torch._foreach_mul(seens, seens)
    del seens
    torch._foreach_lerp_(exp_avg_sqs, products, 1 - beta2)
    del products

    # update = exp_avg/(sqrt(exp_avg_sq) + eps)
    roots = torch._foreach_sqrt(exp_avg_sqs)
    torch._foreach_add_(roots, eps)
    torch._foreach_reciprocal_(roots)
    torch._foreach_mul_(roots, exp_avgs)
    updates = roots
    del roots
    if params[0].ndim == 2 and min(params[0].shape[0], params[0].shape[1]) > rank:
        # update = scale*update @ transpose(basis)
        torch._foreach_mul_(updates, scale)
        updates = _batched(lambda update, basis: update @ basis.mT, updates, basises)

        # update = transpose(update) if size(p, 0) < size(p, 1) else update
        if params[0].shape[0] < params[0].shape[1]:
            updates = [update.mT for update in updates]
        else:
            updates = updates
    return updates


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels and torch in turns the groups that ask for it; return those
    that are left.
    """
    taken, left = _KERNELS.apart(optimizer, groups)
    for group, columns in taken:
        params, grads, basises, exp_avgs, exp_avg_sqs, steps = columns
        turns = _KERNELS.of(optimizer, group, {"p": params, "grad": grads})
        if turns is None:
            left.append((group, columns))
            continue
        (turn_1,) = turns
        keys = [(p.shape, step.item()) for p, step in zip(params, steps, strict=True)]
        for batch in _alike(columns, keys):
            params, grads, basises, exp_avgs, exp_avg_sqs, steps = batch
            updates = _between_ga_lore_adamw(
                params,
                grads,
                basises,
                exp_avgs,
                exp_avg_sqs,
                steps,
                betas=group["betas"],
                eps=group["eps"],
                rank=group["rank"],
                every=group["every"],
                scale=group["scale"],
                maximize=group["maximize"],
            )
            updates = _KERNELS.handed(batch, updates)
            turn_1(params, updates, asked=[[step.item() for step in steps]])
    return left


_CPU_1 = r"""// GaLoreAdamW, turn 1, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    update_t *update;
    double lr;
    double betas[2];
    double weight_decay;
    double t;
};

// What is worked out once a tensor.
struct Numbers {
    double t, beta1, beta2, quotient;
};

static void numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    // lr*sqrt(1 - beta2**t)/(1 - beta1**t)
    n.quotient = row.lr * sqrt_(1.0 - std::pow(n.beta2, n.t)) / (1.0 - std::pow(n.beta1,
        n.t));
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::update);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real update = load(row.update[i]);
            // p -= lr*sqrt(1 - beta2**t)/(1 - beta1**t)*update
            p = p - real(n.quotient) * update;
            // p *= 1 - lr*weight_decay
            p = p * real(1.0 - row.lr * row.weight_decay);
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_ga_lore_adamw(const Table *table) {
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
        row.t = table->asked[at];
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

_CUDA_1 = r"""# GaLoreAdamW, turn 1, in one pass over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

from optdsl.runtime.arithmetic import column, elements, keep, overflowed

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
    t = tl.load(asked + 0 * rows + row)
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    # lr*sqrt(1 - beta2**t)/(1 - beta1**t)
    quotient = (
        lr * tl.sqrt(1.0 - libdevice.pow(beta2, t)) / (1.0 - libdevice.pow(beta1, t))
    )
    tl.store(n + 0 * rows, quotient)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf,
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
    quotient = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    update_at = column(columns, rows, row, 1, update_t, aligned) + begin
    p = elements(p_at, i, left, real)
    update = elements(update_at, i, left, real)
    # p -= lr*sqrt(1 - beta2**t)/(1 - beta1**t)*update
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
        "step_ga_lore_adamw",
        _CPU_1,
        _kernel_numbers_1,
        elements=("p", "update"),
        options=("maximize",),
        cuda=_CUDA_1,
    ),
)
