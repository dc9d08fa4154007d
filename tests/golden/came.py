"""CAME: Adafactor with momentum, and larger steps where the update agrees with it.

Luo et al. (2023), CAME: Confidence-guided Adaptive Memory Efficient Optimization,
https://arxiv.org/abs/2307.02047
Follows https://github.com/yangluo7/CAME, where axes before the last two are a batch.
"""
# Compiled by optdsl from came.opt, content a2c53e57e604.

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

__all__ = ["CAME"]


class CAME(Optimizer):
    """CAME: Adafactor with momentum, and larger steps where the update agrees with it.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 2e-4).
        eps (tuple[float, float], optional): added to squares, and to the instability,
            in [0, inf) (default: (1e-30, 1e-16)).
        clip_threshold (float, optional): largest root mean square of an update, in (0,
            inf) (default: 1.0).
        betas (tuple[float, float, float], optional): decay of momentum, squares and
            instability, in [0, 1) (default: (0.9, 0.999, 0.9999)).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0).
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): there are no fused kernels in this file; foreach stands
            in for them (default: None).

    State of a parameter, made at its first step with a gradient:
        exp_avg: momentum of the normalized gradient (like p).
        exp_avg_sq_row: mean squares of rows (like p with one of axes -1).
        exp_avg_sq_col: mean squares of columns (like p with one of axes -2).
        exp_avg_res_row: instability of rows (like p with one of axes -1).
        exp_avg_res_col: instability of columns (like p with one of axes -2).
        exp_avg_sq: mean squares (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2e-4,
        eps: tuple[float, float] = (1e-30, 1e-16),
        clip_threshold: float = 1.0,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "eps": eps,
            "clip_threshold": clip_threshold,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        _check_hypers(defaults)
        super().__init__(params, defaults)
        if fused:
            warnings.warn("no fused kernels here: foreach in their place", stacklevel=2)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._trial = False
        for group in self.param_groups:
            group.setdefault("lr", 2e-4)
            group.setdefault("eps", (1e-30, 1e-16))
            group.setdefault("clip_threshold", 1.0)
            group.setdefault("betas", (0.9, 0.999, 0.9999))
            group.setdefault("weight_decay", 0)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "eps", "clip_threshold", "betas", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sq_rows: list[Tensor | None],
        exp_avg_sq_cols: list[Tensor | None],
        exp_avg_res_rows: list[Tensor | None],
        exp_avg_res_cols: list[Tensor | None],
        exp_avg_sqs: list[Tensor | None],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("CAME does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("CAME does not support complex parameters")
            state = self.state[p]
            grad = p.grad if not group["maximize"] else -p.grad
            if len(state) == 0:
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            if p.ndim > 1 and "exp_avg_sq_row" not in state:
                state["exp_avg_sq_row"] = torch.zeros_like(_row_mean(grad))
            if p.ndim > 1 and "exp_avg_sq_col" not in state:
                state["exp_avg_sq_col"] = torch.zeros_like(_col_mean(grad))
            if p.ndim > 1 and "exp_avg_res_row" not in state:
                state["exp_avg_res_row"] = torch.zeros_like(_row_mean(grad))
            if p.ndim > 1 and "exp_avg_res_col" not in state:
                state["exp_avg_res_col"] = torch.zeros_like(_col_mean(grad))
            if p.ndim <= 1 and "exp_avg_sq" not in state:
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(p.grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sq_rows.append(state.get("exp_avg_sq_row"))
            exp_avg_sq_cols.append(state.get("exp_avg_sq_col"))
            exp_avg_res_rows.append(state.get("exp_avg_res_row"))
            exp_avg_res_cols.append(state.get("exp_avg_res_col"))
            exp_avg_sqs.append(state.get("exp_avg_sq"))

    def _is_trial(self) -> bool:
        """Whether a step is to make the state of a new optimizer and change nothing."""
        if torch.compiler.is_compiling() or self.state:
            return False
        return all(
            group["lr"] == 0
            and not any(p.grad is None or p.grad.any() for p in group["params"])
            for group in self.param_groups
        )

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
            return loss

        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            exp_avgs: list[Tensor] = []
            exp_avg_sq_rows: list[Tensor | None] = []
            exp_avg_sq_cols: list[Tensor | None] = []
            exp_avg_res_rows: list[Tensor | None] = []
            exp_avg_res_cols: list[Tensor | None] = []
            exp_avg_sqs: list[Tensor | None] = []
            self._init_group(
                group,
                params,
                grads,
                exp_avgs,
                exp_avg_sq_rows,
                exp_avg_sq_cols,
                exp_avg_res_rows,
                exp_avg_res_cols,
                exp_avg_sqs,
            )
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_came if use_foreach else _single_tensor_came
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_came_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_came
            update(
                params,
                grads,
                exp_avgs,
                exp_avg_sq_rows,
                exp_avg_sq_cols,
                exp_avg_res_rows,
                exp_avg_res_cols,
                exp_avg_sqs,
                lr=group["lr"],
                eps=group["eps"],
                clip_threshold=group["clip_threshold"],
                betas=group["betas"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    eps = group["eps"]
    clip_threshold = group["clip_threshold"]
    betas = group["betas"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("eps", eps, 2)
    if not all(0 <= each < math.inf for each in eps):
        raise ValueError(f"Invalid eps: {eps!r}, expected 2 numbers in [0, inf)")
    _check_number("clip_threshold", clip_threshold)
    if not 0 < clip_threshold < math.inf:
        raise ValueError(
            f"Invalid clip_threshold: {clip_threshold!r}, expected a number in (0, inf)"
        )
    _check_numbers("betas", betas, 3)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 3 numbers in [0, 1)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
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


def _row_mean(x: Tensor) -> Tensor:
    # row_mean(x) = sum(x, dim=-1, keepdim=true)/max(1, size(x, -1))
    return x.sum(dim=-1, keepdim=True).div_(max(1, x.shape[-1]))


def _col_mean(x: Tensor) -> Tensor:
    # col_mean(x) = sum(x, dim=-2, keepdim=true)/max(1, size(x, -2))
    return x.sum(dim=-2, keepdim=True).div_(max(1, x.shape[-2]))


def _scaled(x: Tensor, row: Tensor, col: Tensor) -> Tensor:
    # scaled(x, row, col) = x*rsqrt(row/mean(row, dim=-2, keepdim=true))*rsqrt(col)
    return (x * (row / row.mean(dim=-2, keepdim=True)).rsqrt_()).mul_(col.rsqrt())


def _row_mean_2(x: Tensor) -> Tensor:
    # row_mean(x) = sum(x, dim=-1, keepdim=true)/max(1, size(x, -1))
    return x.sum(dim=-1, keepdim=True) / max(1, x.shape[-1])


def _col_mean_2(x: Tensor) -> Tensor:
    # col_mean(x) = sum(x, dim=-2, keepdim=true)/max(1, size(x, -2))
    return x.sum(dim=-2, keepdim=True) / max(1, x.shape[-2])


def _scaled_2(x: Tensor, row: Tensor, col: Tensor) -> Tensor:
    # scaled(x, row, col) = x*rsqrt(row/mean(row, dim=-2, keepdim=true))*rsqrt(col)
    return x * (row / row.mean(dim=-2, keepdim=True)).rsqrt() * col.rsqrt()


def _single_tensor_came(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sq_rows: list[Tensor | None],
    exp_avg_sq_cols: list[Tensor | None],
    exp_avg_res_rows: list[Tensor | None],
    exp_avg_res_cols: list[Tensor | None],
    exp_avg_sqs: list[Tensor | None],
    *,
    lr: float,
    eps: tuple[float, float],
    clip_threshold: float,
    betas: tuple[float, float, float],
    weight_decay: float,
    maximize: bool,
) -> None:
    beta1, beta2, beta3 = betas

    for (
        p,
        grad,
        exp_avg,
        exp_avg_sq_row,
        exp_avg_sq_col,
        exp_avg_res_row,
        exp_avg_res_col,
        exp_avg_sq,
    ) in zip(
        params,
        grads,
        exp_avgs,
        exp_avg_sq_rows,
        exp_avg_sq_cols,
        exp_avg_res_rows,
        exp_avg_res_cols,
        exp_avg_sqs,
        strict=True,
    ):
        grad = grad if not maximize else -grad

        # square = grad*grad + eps[0]
        square = (grad * grad).add_(eps[0])
        if p.ndim > 1:
            # exp_avg_sq_row = lerp(exp_avg_sq_row, row_mean(square), 1 - beta2)
            exp_avg_sq_row.lerp_(_row_mean(square), 1 - beta2)

            # exp_avg_sq_col = lerp(exp_avg_sq_col, col_mean(square), 1 - beta2)
            exp_avg_sq_col.lerp_(_col_mean(square), 1 - beta2)

            # update = scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
            update = _scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
        else:
            # exp_avg_sq = lerp(exp_avg_sq, square, 1 - beta2)
            exp_avg_sq.lerp_(square, 1 - beta2)

            # update = grad*rsqrt(exp_avg_sq)
            update = grad * exp_avg_sq.rsqrt()

        # update /= max(1, norm(update)/numel(p)**0.5/clip_threshold)
        update.div_(
            (
                torch.linalg.vector_norm(update) / p.numel() ** 0.5 / clip_threshold
            ).clamp(min=1)
        )

        # exp_avg = lerp(exp_avg, update, 1 - beta1)
        exp_avg.lerp_(update, 1 - beta1)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        if p.ndim > 1:
            # residual = (update - exp_avg)**2 + eps[1]
            residual = update.sub_(exp_avg).square().add_(eps[1])

            # exp_avg_res_row = lerp(exp_avg_res_row, row_mean(residual), 1 - beta3)
            exp_avg_res_row.lerp_(_row_mean(residual), 1 - beta3)

            # exp_avg_res_col = lerp(exp_avg_res_col, col_mean(residual), 1 - beta3)
            exp_avg_res_col.lerp_(_col_mean(residual), 1 - beta3)

            # p -= lr*scaled(exp_avg, exp_avg_res_row, exp_avg_res_col)
            p.add_(_scaled(exp_avg, exp_avg_res_row, exp_avg_res_col), alpha=-lr)
        else:
            # p -= lr*exp_avg
            p.add_(exp_avg, alpha=-lr)


def _multi_tensor_came(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sq_rows: list[Tensor | None],
    exp_avg_sq_cols: list[Tensor | None],
    exp_avg_res_rows: list[Tensor | None],
    exp_avg_res_cols: list[Tensor | None],
    exp_avg_sqs: list[Tensor | None],
    *,
    lr: float,
    eps: tuple[float, float],
    clip_threshold: float,
    betas: tuple[float, float, float],
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, clip_threshold, weight_decay = map(float, (lr, clip_threshold, weight_decay))
    eps = tuple(map(float, eps))
    betas = tuple(map(float, betas))
    beta1, beta2, beta3 = betas

    columns = [
        params,
        grads,
        exp_avgs,
        exp_avg_sq_rows,
        exp_avg_sq_cols,
        exp_avg_res_rows,
        exp_avg_res_cols,
        exp_avg_sqs,
    ]
    keys = [p.shape for p in params]
    for (
        params,
        grads,
        exp_avgs,
        exp_avg_sq_rows,
        exp_avg_sq_cols,
        exp_avg_res_rows,
        exp_avg_res_cols,
        exp_avg_sqs,
    ) in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # square = grad*grad + eps[0]
        squares = torch._foreach_mul(grads, grads)
        torch._foreach_add_(squares, eps[0])
        if params[0].ndim > 1:
            # exp_avg_sq_row = lerp(exp_avg_sq_row, row_mean(square), 1 - beta2)
            row_means = [_row_mean(square) for square in squares]
            torch._foreach_lerp_(exp_avg_sq_rows, row_means, 1 - beta2)
            del row_means

            # exp_avg_sq_col = lerp(exp_avg_sq_col, col_mean(square), 1 - beta2)
            col_means = [_col_mean(square) for square in squares]
            torch._foreach_lerp_(exp_avg_sq_cols, col_means, 1 - beta2)
            del col_means

            # update = scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
            updates = [
                _scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
                for grad, exp_avg_sq_row, exp_avg_sq_col in zip(
                    grads, exp_avg_sq_rows, exp_avg_sq_cols, strict=True
                )
            ]
        else:
            # exp_avg_sq = lerp(exp_avg_sq, square, 1 - beta2)
            torch._foreach_lerp_(exp_avg_sqs, squares, 1 - beta2)

            # update = grad*rsqrt(exp_avg_sq)
            inverse_roots = torch._foreach_rsqrt(exp_avg_sqs)
            if grads is given:
                updates = torch._foreach_mul(grads, inverse_roots)
            else:
                torch._foreach_mul_(grads, inverse_roots)
                updates = grads
            del inverse_roots
        del grads, squares

        # update /= max(1, norm(update)/numel(p)**0.5/clip_threshold)
        norms = torch._foreach_norm(updates)
        quotients = torch._foreach_div(norms, params[0].numel() ** 0.5)
        quotient_2s = torch._foreach_div(quotients, clip_threshold)
        clampeds = torch._foreach_clamp_min(quotient_2s, 1)
        torch._foreach_div_(updates, clampeds)

        # exp_avg = lerp(exp_avg, update, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, updates, 1 - beta1)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        if params[0].ndim > 1:
            # residual = (update - exp_avg)**2 + eps[1]
            torch._foreach_sub_(updates, exp_avgs)
            residuals = torch._foreach_mul(updates, updates)
            torch._foreach_add_(residuals, eps[1])

            # exp_avg_res_row = lerp(exp_avg_res_row, row_mean(residual), 1 - beta3)
            row_means = [_row_mean(residual) for residual in residuals]
            torch._foreach_lerp_(exp_avg_res_rows, row_means, 1 - beta3)
            del row_means

            # exp_avg_res_col = lerp(exp_avg_res_col, col_mean(residual), 1 - beta3)
            col_means = [_col_mean(residual) for residual in residuals]
            torch._foreach_lerp_(exp_avg_res_cols, col_means, 1 - beta3)

            # p -= lr*scaled(exp_avg, exp_avg_res_row, exp_avg_res_col)
            for p, exp_avg, exp_avg_res_row, exp_avg_res_col in zip(
                params, exp_avgs, exp_avg_res_rows, exp_avg_res_cols, strict=True
            ):
                p.add_(_scaled(exp_avg, exp_avg_res_row, exp_avg_res_col), alpha=-lr)
        else:
            # p -= lr*exp_avg
            torch._foreach_add_(params, exp_avgs, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_came(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sq_rows: list[Tensor | None],
    exp_avg_sq_cols: list[Tensor | None],
    exp_avg_res_rows: list[Tensor | None],
    exp_avg_res_cols: list[Tensor | None],
    exp_avg_sqs: list[Tensor | None],
    *,
    lr: float,
    eps: tuple[float, float],
    clip_threshold: float,
    betas: tuple[float, float, float],
    weight_decay: float,
    maximize: bool,
) -> None:
    beta1, beta2, beta3 = betas

    for (
        p,
        grad,
        exp_avg,
        exp_avg_sq_row,
        exp_avg_sq_col,
        exp_avg_res_row,
        exp_avg_res_col,
        exp_avg_sq,
    ) in zip(
        params,
        grads,
        exp_avgs,
        exp_avg_sq_rows,
        exp_avg_sq_cols,
        exp_avg_res_rows,
        exp_avg_res_cols,
        exp_avg_sqs,
        strict=True,
    ):
        grad = grad if not maximize else -grad
        kept = (
            p,
            exp_avg,
            exp_avg_sq_row,
            exp_avg_sq_col,
            exp_avg_res_row,
            exp_avg_res_col,
            exp_avg_sq,
        )
        (
            p,
            exp_avg,
            exp_avg_sq_row,
            exp_avg_sq_col,
            exp_avg_res_row,
            exp_avg_res_col,
            exp_avg_sq,
        ) = (each if each is None else each.clone() for each in kept)
        square = grad * grad + eps[0]
        if p.ndim > 1:
            # exp_avg_sq_row = lerp(exp_avg_sq_row, row_mean(square), 1 - beta2)
            exp_avg_sq_row = exp_avg_sq_row.lerp(_row_mean_2(square), 1 - beta2)

            # exp_avg_sq_col = lerp(exp_avg_sq_col, col_mean(square), 1 - beta2)
            exp_avg_sq_col = exp_avg_sq_col.lerp(_col_mean_2(square), 1 - beta2)

            # update = scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
            update = _scaled_2(grad, exp_avg_sq_row, exp_avg_sq_col)
        else:
            # exp_avg_sq = lerp(exp_avg_sq, square, 1 - beta2)
            exp_avg_sq = exp_avg_sq.lerp(square, 1 - beta2)

            # update = grad*rsqrt(exp_avg_sq)
            update = grad * exp_avg_sq.rsqrt()

        # update /= max(1, norm(update)/numel(p)**0.5/clip_threshold)
        update = update / (
            torch.linalg.vector_norm(update) / p.numel() ** 0.5 / clip_threshold
        ).clamp(min=1)

        # exp_avg = lerp(exp_avg, update, 1 - beta1)
        exp_avg = exp_avg.lerp(update, 1 - beta1)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        if p.ndim > 1:
            # residual = (update - exp_avg)**2 + eps[1]
            residual = (update - exp_avg).square() + eps[1]

            # exp_avg_res_row = lerp(exp_avg_res_row, row_mean(residual), 1 - beta3)
            exp_avg_res_row = exp_avg_res_row.lerp(_row_mean_2(residual), 1 - beta3)

            # exp_avg_res_col = lerp(exp_avg_res_col, col_mean(residual), 1 - beta3)
            exp_avg_res_col = exp_avg_res_col.lerp(_col_mean_2(residual), 1 - beta3)

            # p -= lr*scaled(exp_avg, exp_avg_res_row, exp_avg_res_col)
            p = _scaled_add(
                p, _scaled_2(exp_avg, exp_avg_res_row, exp_avg_res_col), -lr
            )
        else:
            # p -= lr*exp_avg
            p = _scaled_add(p, exp_avg, -lr)

        for each, new in zip(
            kept,
            (
                p,
                exp_avg,
                exp_avg_sq_row,
                exp_avg_sq_col,
                exp_avg_res_row,
                exp_avg_res_col,
                exp_avg_sq,
            ),
            strict=True,
        ):
            if each is not None:
                each.copy_(new)


def _multi_tensor_came_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sq_rows: list[Tensor | None],
    exp_avg_sq_cols: list[Tensor | None],
    exp_avg_res_rows: list[Tensor | None],
    exp_avg_res_cols: list[Tensor | None],
    exp_avg_sqs: list[Tensor | None],
    *,
    lr: float,
    eps: tuple[float, float],
    clip_threshold: float,
    betas: tuple[float, float, float],
    weight_decay: float,
    maximize: bool,
) -> None:
    beta1, beta2, beta3 = betas

    columns = [
        params,
        grads,
        exp_avgs,
        exp_avg_sq_rows,
        exp_avg_sq_cols,
        exp_avg_res_rows,
        exp_avg_res_cols,
        exp_avg_sqs,
    ]
    keys = [p.shape for p in params]
    for (
        params,
        grads,
        exp_avgs,
        exp_avg_sq_rows,
        exp_avg_sq_cols,
        exp_avg_res_rows,
        exp_avg_res_cols,
        exp_avg_sqs,
    ) in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # square = grad*grad + eps[0]
        squares = torch._foreach_mul(grads, grads)
        torch._foreach_add_(squares, eps[0])
        if params[0].ndim > 1:
            # exp_avg_sq_row = lerp(exp_avg_sq_row, row_mean(square), 1 - beta2)
            row_means = [_row_mean(square) for square in squares]
            torch._foreach_lerp_(exp_avg_sq_rows, row_means, 1 - beta2)
            del row_means

            # exp_avg_sq_col = lerp(exp_avg_sq_col, col_mean(square), 1 - beta2)
            col_means = [_col_mean(square) for square in squares]
            torch._foreach_lerp_(exp_avg_sq_cols, col_means, 1 - beta2)
            del col_means

            # update = scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
            updates = [
                _scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
                for grad, exp_avg_sq_row, exp_avg_sq_col in zip(
                    grads, exp_avg_sq_rows, exp_avg_sq_cols, strict=True
                )
            ]
        else:
            # exp_avg_sq = lerp(exp_avg_sq, square, 1 - beta2)
            torch._foreach_lerp_(exp_avg_sqs, squares, 1 - beta2)

            # update = grad*rsqrt(exp_avg_sq)
            inverse_roots = torch._foreach_rsqrt(exp_avg_sqs)
            if grads is given:
                updates = torch._foreach_mul(grads, inverse_roots)
            else:
                torch._foreach_mul_(grads, inverse_roots)
                updates = grads
            del inverse_roots
        del grads, squares

        # update /= max(1, norm(update)/numel(p)**0.5/clip_threshold)
        norms = torch._foreach_norm(updates)
        quotients = torch._foreach_div(norms, params[0].numel() ** 0.5)
        quotient_2s = torch._foreach_div(quotients, clip_threshold)
        clampeds = torch._foreach_clamp_min(quotient_2s, 1)
        torch._foreach_div_(updates, clampeds)

        # exp_avg = lerp(exp_avg, update, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, updates, 1 - beta1)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        if params[0].ndim > 1:
            # residual = (update - exp_avg)**2 + eps[1]
            torch._foreach_sub_(updates, exp_avgs)
            residuals = torch._foreach_mul(updates, updates)
            torch._foreach_add_(residuals, eps[1])

            # exp_avg_res_row = lerp(exp_avg_res_row, row_mean(residual), 1 - beta3)
            row_means = [_row_mean(residual) for residual in residuals]
            torch._foreach_lerp_(exp_avg_res_rows, row_means, 1 - beta3)
            del row_means

            # exp_avg_res_col = lerp(exp_avg_res_col, col_mean(residual), 1 - beta3)
            col_means = [_col_mean(residual) for residual in residuals]
            torch._foreach_lerp_(exp_avg_res_cols, col_means, 1 - beta3)

            # p -= lr*scaled(exp_avg, exp_avg_res_row, exp_avg_res_col)
            for p, exp_avg, exp_avg_res_row, exp_avg_res_col in zip(
                params, exp_avgs, exp_avg_res_rows, exp_avg_res_cols, strict=True
            ):
                p.add_(_scaled(exp_avg, exp_avg_res_row, exp_avg_res_col), alpha=-lr)
        else:
            # p -= lr*exp_avg
            products = torch._foreach_mul(exp_avgs, -lr)
            torch._foreach_add_(params, products)
