"""CAME: Adafactor with momentum, and larger steps where the update agrees with it.

Luo et al. (2023), CAME: Confidence-guided Adaptive Memory Efficient Optimization,
https://arxiv.org/abs/2307.02047
Follows https://github.com/yangluo7/CAME, where axes before the last two are a batch.

decay: Weight decay apart from the gradient, times the learning rate.

Loshchilov and Hutter (2017), Decoupled Weight Decay Regularization,
https://arxiv.org/abs/1711.05101
As in torch's AdamW: before the step, and times lr as a scheduler has set it.
"""
# Compiled by optdsl from came.opt, content ad095a27e23b.

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
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None

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
        fused (bool, optional): update by kernels that pass over memory as few times as
            can be; None does so where they carry all tensors of a group (default:
            None).

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
            self._step_supports_amp_scaling = True
            if _KERNELS is None:
                warnings.warn(
                    "no fused kernels here: foreach in their place", stacklevel=2
                )

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
                self._init_group(group, [], [], [], [], [], [], [], [])
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
            groups.append(
                (
                    group,
                    [
                        params,
                        grads,
                        exp_avgs,
                        exp_avg_sq_rows,
                        exp_avg_sq_cols,
                        exp_avg_res_rows,
                        exp_avg_res_cols,
                        exp_avg_sqs,
                    ],
                )
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            (
                params,
                grads,
                exp_avgs,
                exp_avg_sq_rows,
                exp_avg_sq_cols,
                exp_avg_res_rows,
                exp_avg_res_cols,
                exp_avg_sqs,
            ) = columns
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
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)

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
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)

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
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
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
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)

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


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["eps"][0],
        group["eps"][1],
        group["clip_threshold"],
        group["betas"][0],
        group["betas"][1],
        group["betas"][2],
        group["weight_decay"],
    ]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        (
            params,
            grads,
            exp_avgs,
            exp_avg_sq_rows,
            exp_avg_sq_cols,
            exp_avg_res_rows,
            exp_avg_res_cols,
            exp_avg_sqs,
        ) = columns
        launch.add(
            group,
            columns,
            elements=[
                params,
                grads,
                exp_avgs,
                exp_avg_sq_rows,
                exp_avg_sq_cols,
                exp_avg_res_rows,
                exp_avg_res_cols,
                exp_avg_sqs,
            ],
            numbers=[],
            asked=[
                [p.ndim for p in params],
                [p.shape[-1] if p.ndim >= 1 else 1 for p in params],
                [p.shape[-2] if p.ndim >= 2 else 1 for p in params],
                [p.numel() for p in params],
            ],
        )
    return launch.run()


_CPU = r"""// CAME in 4 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    int64_t matrices, height, width;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_row_t *exp_avg_sq_row;
    exp_avg_sq_col_t *exp_avg_sq_col;
    exp_avg_res_row_t *exp_avg_res_row;
    exp_avg_res_col_t *exp_avg_res_col;
    exp_avg_sq_t *exp_avg_sq;
    double *total;
    double *total_2;
    double *mean;
    double *scaled_row;
    double *rsqrt;
    double *rsqrt_2;
    double *total_3;
    double *total_4;
    double *mean_2;
    double *scaled_row_2;
    double *rsqrt_3;
    double *rsqrt_4;
    double lr;
    double eps[2];
    double clip_threshold;
    double betas[3];
    double weight_decay;
    double ndim;
    double size_last_1;
    double size_last_2;
    double numel__;
};

// What is worked out once a tensor.
struct Numbers {
    double beta1, beta2, beta3, larger_, larger_2, norm, larger_3, larger_4, larger_5;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2, beta3 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    n.beta3 = row.betas[2];
    if (row.ndim > 1.0) {
        // max(1, size(x, -1))
        n.larger_ = max_(1.0, row.size_last_1);
        // max(1, size(x, -2))
        n.larger_2 = max_(1.0, row.size_last_2);
    }
    if (row.ndim > 1.0) {
        // max(1, size(x, -1))
        n.larger_4 = max_(1.0, row.size_last_1);
        // max(1, size(x, -2))
        n.larger_5 = max_(1.0, row.size_last_2);
    }
    return are_finite(n.larger_, n.larger_2, n.larger_4, n.larger_5);
}

static void pass_1(
    const Row row, const Numbers n, const Tile tile, double *total_parts, double
        *total_2_parts) {
    for (int64_t line = tile.line; line < tile.line_end; ++line) {
        const int64_t matrix = line / row.height;
        double total = 0;
        double *total_2 = total_2_parts + tile.before(matrix, row.height);
        const int64_t begin = line * row.width;
        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {
            const int64_t to = end_of_block(at, tile.column_end);
            ask(begin + at, begin + to, row, &Row::grad);
            #pragma omp simd reduction(+: total)
            for (int64_t column = at; column < to; ++column) {
                const int64_t i = begin + column;
                const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
                real col_mean_x = 0;
                real row_mean_x = 0;
                real scaled_x = 0;
                // square = grad*grad + eps[0]
                const real square = grad * grad + real(row.eps[0]);
                if (row.ndim > 1.0) {
                    // row_mean(square)
                    row_mean_x = square;
                    // sum(x, dim=-1, keepdim=true)
                    total += double(row_mean_x);
                    // col_mean(square)
                    col_mean_x = square;
                    // sum(x, dim=-2, keepdim=true)
                    total_2[column - tile.column] += double(col_mean_x);
                    // scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
                    scaled_x = grad;
                }
            }
        }
        total_parts[line - tile.line] = total;
    }
}

// Once a line.
static void along_1(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        double mean = 0;
        for (int64_t line = matrix * row.height; line < (matrix + 1) * row.height;
            ++line) {
            const double total = load(row.total[line]);
            double exp_avg_sq_row = has_exp_avg_sq_row ? load(row.exp_avg_sq_row[line])
                : 0;
            double scaled_row = load(row.scaled_row[line]);
            if (row.ndim > 1.0) {
                // exp_avg_sq_row = lerp(exp_avg_sq_row, row_mean(square), 1 - beta2)
                exp_avg_sq_row = lerp_(exp_avg_sq_row, total / n.larger_, 1.0 -
                    n.beta2);
                // scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
                scaled_row = exp_avg_sq_row;
                // mean(row, dim=-2, keepdim=true)
                mean += scaled_row;
            }
            if (has_exp_avg_sq_row) store(row.exp_avg_sq_row[line], exp_avg_sq_row);
            store(row.scaled_row[line], scaled_row);
        }
        row.mean[matrix] = mean / row.height;
    }
}

// Once a column.
static void along_2(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        for (int64_t column = 0; column < row.width; ++column) {
            const double total_2 = load(row.total_2[matrix * row.width + column]);
            double exp_avg_sq_col = has_exp_avg_sq_col ? load(row.exp_avg_sq_col[matrix
                * row.width + column]) : 0;
            double rsqrt_2 = load(row.rsqrt_2[matrix * row.width + column]);
            double scaled_col = 0;
            if (row.ndim > 1.0) {
                // exp_avg_sq_col = lerp(exp_avg_sq_col, col_mean(square), 1 - beta2)
                exp_avg_sq_col = lerp_(exp_avg_sq_col, total_2 / n.larger_2, 1.0 -
                    n.beta2);
                // scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
                scaled_col = exp_avg_sq_col;
                // rsqrt(col)
                rsqrt_2 = rsqrt_(scaled_col);
            }
            if (has_exp_avg_sq_col) store(row.exp_avg_sq_col[matrix * row.width +
                column], exp_avg_sq_col);
            store(row.rsqrt_2[matrix * row.width + column], rsqrt_2);
        }
    }
}

// Once a line.
static void along_3(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        const double mean = load(row.mean[matrix]);
        for (int64_t line = matrix * row.height; line < (matrix + 1) * row.height;
            ++line) {
            const double scaled_row = load(row.scaled_row[line]);
            double rsqrt = load(row.rsqrt[line]);
            if (row.ndim > 1.0) {
                // rsqrt(row/mean(row, dim=-2, keepdim=true))
                rsqrt = rsqrt_(scaled_row / mean);
            }
            store(row.rsqrt[line], rsqrt);
        }
    }
}

static void pass_2(const Row row, const Numbers n, const Tile tile, double *sums) {
    double norm = 0;
    for (int64_t line = tile.line; line < tile.line_end; ++line) {
        const int64_t matrix = line / row.height;
        const double rsqrt = load(row.rsqrt[line]);
        const int64_t begin = line * row.width;
        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {
            const int64_t to = end_of_block(at, tile.column_end);
            ask(begin + at, begin + to, row, &Row::grad, &Row::exp_avg_sq);
            #pragma omp simd reduction(+: norm)
            for (int64_t column = at; column < to; ++column) {
                const int64_t i = begin + column;
                const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
                real exp_avg_sq = has_exp_avg_sq ? load(row.exp_avg_sq[i]) : 0;
                const real rsqrt_2 = row.matrices > 0 ? load(row.rsqrt_2[matrix *
                    row.width + column]) : 0;
                real scaled_x = 0;
                real update = 0;
                // square = grad*grad + eps[0]
                const real square = grad * grad + real(row.eps[0]);
                if (row.ndim > 1.0) {
                    // scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
                    scaled_x = grad;
                    // update = scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
                    update = scaled_x * real(rsqrt) * rsqrt_2;
                } else {
                    // exp_avg_sq = lerp(exp_avg_sq, square, 1 - beta2)
                    exp_avg_sq = kept<exp_avg_sq_t>(lerp_(exp_avg_sq, square, real(1.0 -
                        n.beta2)));
                    // update = grad*rsqrt(exp_avg_sq)
                    update = grad * rsqrt_(exp_avg_sq);
                }
                // norm(update)
                norm += square_(double(update));
                if (has_exp_avg_sq) store(row.exp_avg_sq[i], exp_avg_sq);
            }
        }
    }
    sums[0] = norm;
}

static void numbers_2(const Row &row, Numbers &n) {
    // max(1, norm(update)/numel(p)**0.5/clip_threshold)
    n.larger_3 = max_(1.0, n.norm / std::pow(row.numel__, 0.5) / row.clip_threshold);
}

static void pass_3(
    const Row row, const Numbers n, const Tile tile, double *total_3_parts, double
        *total_4_parts) {
    for (int64_t line = tile.line; line < tile.line_end; ++line) {
        const int64_t matrix = line / row.height;
        const double rsqrt = load(row.rsqrt[line]);
        double total_3 = 0;
        double *total_4 = total_4_parts + tile.before(matrix, row.height);
        const int64_t begin = line * row.width;
        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {
            const int64_t to = end_of_block(at, tile.column_end);
            ask(begin + at, begin + to, row, &Row::grad, &Row::exp_avg,
                &Row::exp_avg_sq);
            #pragma omp simd reduction(+: total_3)
            for (int64_t column = at; column < to; ++column) {
                const int64_t i = begin + column;
                const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
                real exp_avg = load(row.exp_avg[i]);
                const real exp_avg_sq = has_exp_avg_sq ? load(row.exp_avg_sq[i]) : 0;
                const real rsqrt_2 = row.matrices > 0 ? load(row.rsqrt_2[matrix *
                    row.width + column]) : 0;
                real col_mean_x_2 = 0;
                real residual = 0;
                real row_mean_x_2 = 0;
                real scaled_x = 0;
                real scaled_x_2 = 0;
                real update = 0;
                if (row.ndim > 1.0) {
                    // scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
                    scaled_x = grad;
                    // update = scaled(grad, exp_avg_sq_row, exp_avg_sq_col)
                    update = scaled_x * real(rsqrt) * rsqrt_2;
                } else {
                    // update = grad*rsqrt(exp_avg_sq)
                    update = grad * rsqrt_(exp_avg_sq);
                }
                // update /= max(1, norm(update)/numel(p)**0.5/clip_threshold)
                update = update * real(1.0 / n.larger_3);
                // exp_avg = lerp(exp_avg, update, 1 - beta1)
                exp_avg = kept<exp_avg_t>(lerp_(exp_avg, update, real(1.0 - n.beta1)));
                if (row.ndim > 1.0) {
                    // residual = (update - exp_avg)**2 + eps[1]
                    residual = square_(update - exp_avg) + real(row.eps[1]);
                    // row_mean(residual)
                    row_mean_x_2 = residual;
                    // sum(x, dim=-1, keepdim=true)
                    total_3 += double(row_mean_x_2);
                    // col_mean(residual)
                    col_mean_x_2 = residual;
                    // sum(x, dim=-2, keepdim=true)
                    total_4[column - tile.column] += double(col_mean_x_2);
                    // scaled(exp_avg, exp_avg_res_row, exp_avg_res_col)
                    scaled_x_2 = exp_avg;
                }
                store(row.exp_avg[i], exp_avg);
            }
        }
        total_3_parts[line - tile.line] = total_3;
    }
}

// Once a line.
static void along_4(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        double mean_2 = 0;
        for (int64_t line = matrix * row.height; line < (matrix + 1) * row.height;
            ++line) {
            const double total_3 = load(row.total_3[line]);
            double exp_avg_res_row = has_exp_avg_res_row ?
                load(row.exp_avg_res_row[line]) : 0;
            double scaled_row_2 = load(row.scaled_row_2[line]);
            if (row.ndim > 1.0) {
                // exp_avg_res_row = lerp(exp_avg_res_row, row_mean(residual), 1 -
                //     beta3)
                exp_avg_res_row = lerp_(exp_avg_res_row, total_3 / n.larger_4, 1.0 -
                    n.beta3);
                // scaled(exp_avg, exp_avg_res_row, exp_avg_res_col)
                scaled_row_2 = exp_avg_res_row;
                // mean(row, dim=-2, keepdim=true)
                mean_2 += scaled_row_2;
            }
            if (has_exp_avg_res_row) store(row.exp_avg_res_row[line], exp_avg_res_row);
            store(row.scaled_row_2[line], scaled_row_2);
        }
        row.mean_2[matrix] = mean_2 / row.height;
    }
}

// Once a column.
static void along_5(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        for (int64_t column = 0; column < row.width; ++column) {
            const double total_4 = load(row.total_4[matrix * row.width + column]);
            double exp_avg_res_col = has_exp_avg_res_col ?
                load(row.exp_avg_res_col[matrix * row.width + column]) : 0;
            double rsqrt_4 = load(row.rsqrt_4[matrix * row.width + column]);
            double scaled_col_2 = 0;
            if (row.ndim > 1.0) {
                // exp_avg_res_col = lerp(exp_avg_res_col, col_mean(residual), 1 -
                //     beta3)
                exp_avg_res_col = lerp_(exp_avg_res_col, total_4 / n.larger_5, 1.0 -
                    n.beta3);
                // scaled(exp_avg, exp_avg_res_row, exp_avg_res_col)
                scaled_col_2 = exp_avg_res_col;
                // rsqrt(col)
                rsqrt_4 = rsqrt_(scaled_col_2);
            }
            if (has_exp_avg_res_col) store(row.exp_avg_res_col[matrix * row.width +
                column], exp_avg_res_col);
            store(row.rsqrt_4[matrix * row.width + column], rsqrt_4);
        }
    }
}

// Once a line.
static void along_6(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        const double mean_2 = load(row.mean_2[matrix]);
        for (int64_t line = matrix * row.height; line < (matrix + 1) * row.height;
            ++line) {
            const double scaled_row_2 = load(row.scaled_row_2[line]);
            double rsqrt_3 = load(row.rsqrt_3[line]);
            if (row.ndim > 1.0) {
                // rsqrt(row/mean(row, dim=-2, keepdim=true))
                rsqrt_3 = rsqrt_(scaled_row_2 / mean_2);
            }
            store(row.rsqrt_3[line], rsqrt_3);
        }
    }
}

static void pass_4(const Row row, const Numbers n, const Tile tile) {
    for (int64_t line = tile.line; line < tile.line_end; ++line) {
        const int64_t matrix = line / row.height;
        const double rsqrt_3 = load(row.rsqrt_3[line]);
        const int64_t begin = line * row.width;
        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {
            const int64_t to = end_of_block(at, tile.column_end);
            ask(begin + at, begin + to, row, &Row::p, &Row::exp_avg);
            #pragma omp simd
            for (int64_t column = at; column < to; ++column) {
                const int64_t i = begin + column;
                real p = load(row.p[i]);
                const real exp_avg = load(row.exp_avg[i]);
                const real rsqrt_4 = row.matrices > 0 ? load(row.rsqrt_4[matrix *
                    row.width + column]) : 0;
                real scaled_x_2 = 0;
                if (weight_decay_is_not_0) {
                    // p *= 1 - lr*weight_decay
                    p = p * real(1.0 - row.lr * row.weight_decay);
                }
                if (row.ndim > 1.0) {
                    // scaled(exp_avg, exp_avg_res_row, exp_avg_res_col)
                    scaled_x_2 = exp_avg;
                    // p -= lr*scaled(exp_avg, exp_avg_res_row, exp_avg_res_col)
                    p = p - real(row.lr) * (scaled_x_2 * real(rsqrt_3) * rsqrt_4);
                } else {
                    // p -= lr*exp_avg
                    p = p - real(row.lr) * exp_avg;
                }
                store(row.p[i], p);
            }
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_came(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    Memory memory;
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.exp_avg = (exp_avg_t *)table->columns[2][at];
        row.exp_avg_sq_row = (exp_avg_sq_row_t *)table->columns[3][at];
        row.exp_avg_sq_col = (exp_avg_sq_col_t *)table->columns[4][at];
        row.exp_avg_res_row = (exp_avg_res_row_t *)table->columns[5][at];
        row.exp_avg_res_col = (exp_avg_res_col_t *)table->columns[6][at];
        row.exp_avg_sq = (exp_avg_sq_t *)table->columns[7][at];
        row.matrices = table->shapes[at].matrices;
        row.height = table->shapes[at].height;
        row.width = table->shapes[at].width;
        row.total = memory.zeros(row.matrices * row.height);
        row.total_2 = memory.zeros(row.matrices * row.width);
        row.mean = memory.zeros(row.matrices);
        row.scaled_row = memory.zeros(row.matrices * row.height);
        row.rsqrt = memory.zeros(row.matrices * row.height);
        row.rsqrt_2 = memory.zeros(row.matrices * row.width);
        row.total_3 = memory.zeros(row.matrices * row.height);
        row.total_4 = memory.zeros(row.matrices * row.width);
        row.mean_2 = memory.zeros(row.matrices);
        row.scaled_row_2 = memory.zeros(row.matrices * row.height);
        row.rsqrt_3 = memory.zeros(row.matrices * row.height);
        row.rsqrt_4 = memory.zeros(row.matrices * row.width);
        const double *hyper = table->hypers + 8 * table->group[at];
        row.lr = *hyper++;
        row.eps[0] = *hyper++;
        row.eps[1] = *hyper++;
        row.clip_threshold = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.betas[2] = *hyper++;
        row.weight_decay = *hyper++;
        row.ndim = table->asked[at];
        row.size_last_1 = table->asked[1 * table->rows + at];
        row.size_last_2 = table->asked[2 * table->rows + at];
        row.numel__ = table->asked[3 * table->rows + at];
    }
    const Tiles tiles = tiles_of(*table);
    if (!each_row(*table, 4, rows, numbers, numbers_1)) return 1;
    std::vector<double> total_parts(tiles.lines, 0);
    std::vector<double> total_2_parts(tiles.columns, 0);
    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x, &total_parts[x.lines],
            &total_2_parts[x.columns]);
    });
    join_lines(*table, tiles, total_parts, 0, added,
        [&](int64_t at) { return rows[at].total; },
        [](double value, double) { return double(value); });
    join_columns(*table, tiles, total_2_parts, 0, added,
        [&](int64_t at) { return rows[at].total_2; },
        [](double value, double) { return double(value); });
    each_tensor(*table, [&](int64_t at) {
        along_1(rows[at], numbers[at]);
    });
    each_tensor(*table, [&](int64_t at) {
        along_2(rows[at], numbers[at]);
    });
    each_tensor(*table, [&](int64_t at) {
        along_3(rows[at], numbers[at]);
    });
    std::vector<double> parts_2(1 * tiles.all.size());
    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t at) {
        pass_2(rows[x.row], numbers[x.row], x, &parts_2[1 * at]);
    });
    const auto sums_2 = gathered<1>(
        *table, tiles.all, parts_2, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].norm = std::sqrt(sums_2[1 * at + 0]);
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    std::vector<double> total_3_parts(tiles.lines, 0);
    std::vector<double> total_4_parts(tiles.columns, 0);
    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t) {
        pass_3(rows[x.row], numbers[x.row], x, &total_3_parts[x.lines],
            &total_4_parts[x.columns]);
    });
    join_lines(*table, tiles, total_3_parts, 0, added,
        [&](int64_t at) { return rows[at].total_3; },
        [](double value, double) { return double(value); });
    join_columns(*table, tiles, total_4_parts, 0, added,
        [&](int64_t at) { return rows[at].total_4; },
        [](double value, double) { return double(value); });
    each_tensor(*table, [&](int64_t at) {
        along_4(rows[at], numbers[at]);
    });
    each_tensor(*table, [&](int64_t at) {
        along_5(rows[at], numbers[at]);
    });
    each_tensor(*table, [&](int64_t at) {
        along_6(rows[at], numbers[at]);
    });
    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t) {
        pass_4(rows[x.row], numbers[x.row], x);
    });
    return 0;
}
"""

_KERNELS = _Kernel and _Kernel(
    "step_came",
    _CPU,
    _kernel_numbers,
    elements=(
        "p",
        "grad",
        "exp_avg",
        "exp_avg_sq_row",
        "exp_avg_sq_col",
        "exp_avg_res_row",
        "exp_avg_res_col",
        "exp_avg_sq",
    ),
    optional=(
        "exp_avg_res_col",
        "exp_avg_res_row",
        "exp_avg_sq",
        "exp_avg_sq_col",
        "exp_avg_sq_row",
    ),
    options=("maximize", "weight_decay_is_not_0"),
    view="last",
    least=2,
    reduced={
        "exp_avg_sq_row": "line",
        "exp_avg_sq_col": "column",
        "exp_avg_res_row": "line",
        "exp_avg_res_col": "column",
    },
)
