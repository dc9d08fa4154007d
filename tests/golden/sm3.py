"""SM3: Adagrad whose sums of squares are kept for each row of each axis alone.

Anil, Gupta, Koren and Singer (2019), Memory-Efficient Adaptive Optimization,
https://arxiv.org/abs/1901.11150
Follows SM3-II in the authors' code,
https://github.com/google-research/google-research/tree/master/sm3
Vectors are the case of one axis, in which this is Adagrad. Others add epsilon where the
root of zero is asked for alone; here, as there, it is added to every sum.
"""
# Compiled by optdsl from sm3.opt, content c017d1c99e66.

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

__all__ = ["SM3"]


class SM3(Optimizer):
    """SM3: Adagrad whose sums of squares are kept for each row of each axis alone.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 0.1).
        momentum (float, optional): decay of the mean of the updates, in [0, 1)
            (default: 0.9).
        eps (float, optional): added to the sums, in (0, inf) (default: 1e-30).
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
        momentum_buffer: running mean of updates (like p).
        accumulator_{axis}, for axis in range(p.ndim): bounds of the sums of squares (of
            a shape that its sizes decide).
        total: sum of squares (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        momentum: float = 0.9,
        eps: float = 1e-30,
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
            "eps": eps,
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
            group.setdefault("momentum", 0.9)
            group.setdefault("eps", 1e-30)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "momentum", "eps"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffers: list[Tensor | None],
        accumulators: list[list[Tensor]],
        totals: list[Tensor | None],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("SM3 does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("SM3 does not support complex parameters")
            state = self.state[p]
            if group["momentum"] != 0 and "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            for axis in range(p.ndim):
                if f"accumulator_{axis}" not in state:
                    start = p.clone() if group["differentiable"] else p
                    state[f"accumulator_{axis}"] = start.new_zeros((start.shape[axis],))
            if p.ndim == 0 and "total" not in state:
                state["total"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            momentum_buffers.append(state.get("momentum_buffer"))
            accumulators.append(
                [state[f"accumulator_{axis}"] for axis in range(p.ndim)]
            )
            totals.append(state.get("total"))

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
                self._init_group(group, [], [], [], [], [])
            return loss

        if not self._unscale():
            return loss

        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            momentum_buffers: list[Tensor | None] = []
            accumulators: list[list[Tensor]] = []
            totals: list[Tensor | None] = []
            self._init_group(
                group, params, grads, momentum_buffers, accumulators, totals
            )
            groups.append(
                (group, [params, grads, momentum_buffers, accumulators, totals])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, momentum_buffers, accumulators, totals = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_sm3 if use_foreach else _single_tensor_sm3
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_sm3_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_sm3
            update(
                params,
                grads,
                momentum_buffers,
                accumulators,
                totals,
                lr=group["lr"],
                momentum=group["momentum"],
                eps=group["eps"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    eps = group["eps"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"Invalid momentum: {momentum!r}, expected a number in [0, 1)")
    _check_number("eps", eps)
    if not 0 < eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in (0, inf)")
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


def _unfolded(x: Tensor, axis: float) -> Tensor:
    # unfolded(x, axis) = reshape(movedim(x, axis, 0), (size(x, axis), numel(x)//size(x,
    #     axis)))
    return x.movedim(axis, 0).reshape((x.shape[axis], x.numel() // x.shape[axis]))


def _single_tensor_sm3(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    accumulators: list[list[Tensor]],
    totals: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer, accumulator, total in zip(
        params, grads, momentum_buffers, accumulators, totals, strict=True
    ):
        grad = grad if not maximize else -grad

        # second = full_like(grad, inf)
        second = torch.full_like(grad, math.inf)
        for axis in range(p.ndim):
            # second = movedim(min(movedim(second, axis, -1), accumulator[axis]), -1,
            #     axis)
            second = torch.minimum(second.movedim(axis, -1), accumulator[axis]).movedim(
                -1, axis
            )
        if p.ndim == 0:
            second = total

        # second += grad*grad
        second = second.addcmul(grad, grad)
        if p.ndim == 0:
            # total = second
            total.copy_(second)
        if p.numel() > 0:
            for axis in range(p.ndim):
                # accumulator[axis] = max(unfolded(second, axis), dim=-1)
                accumulator[axis].copy_(_unfolded(second, axis).amax(dim=-1))

        # update = grad*rsqrt(second + eps)
        update = grad * second.add_(eps).rsqrt_()
        if momentum != 0:
            # momentum_buffer = momentum*momentum_buffer + (1 - momentum)*update
            momentum_buffer.mul_(momentum).add_(update, alpha=1 - momentum)
            update = momentum_buffer

        # p -= lr*update
        p.add_(update, alpha=-lr)


def _multi_tensor_sm3(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    accumulators: list[list[Tensor]],
    totals: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, eps = map(float, (lr, momentum, eps))

    columns = [params, grads, momentum_buffers, accumulators, totals]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers, accumulators, totals in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)

        # second = full_like(grad, inf)
        seconds = [torch.full_like(grad, math.inf) for grad in grads]
        for axis in range(params[0].ndim):
            # second = movedim(min(movedim(second, axis, -1), accumulator[axis]), -1,
            #     axis)
            movedims = [second.movedim(axis, -1) for second in seconds]
            smallers = torch._foreach_minimum(
                movedims, [each[axis] for each in accumulators]
            )
            seconds = [smaller.movedim(-1, axis) for smaller in smallers]
        if params[0].ndim == 0:
            seconds = totals

        # second += grad*grad
        seconds = torch._foreach_addcmul(seconds, grads, grads)
        if params[0].ndim == 0:
            # total = second
            torch._foreach_copy_(totals, seconds)
        if params[0].numel() > 0:
            for axis in range(params[0].ndim):
                # accumulator[axis] = max(unfolded(second, axis), dim=-1)
                amaxes = [_unfolded(second, axis).amax(dim=-1) for second in seconds]
                torch._foreach_copy_([each[axis] for each in accumulators], amaxes)

        # update = grad*rsqrt(second + eps)
        torch._foreach_add_(seconds, eps)
        torch._foreach_rsqrt_(seconds)
        updates = torch._foreach_mul(grads, seconds)
        if momentum != 0:
            # momentum_buffer = momentum*momentum_buffer + (1 - momentum)*update
            torch._foreach_mul_(momentum_buffers, momentum)
            torch._foreach_add_(momentum_buffers, updates, alpha=1 - momentum)
            updates = momentum_buffers

        # p -= lr*update
        torch._foreach_add_(params, updates, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_sm3(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    accumulators: list[list[Tensor]],
    totals: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer, accumulator, total in zip(
        params, grads, momentum_buffers, accumulators, totals, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, momentum_buffer, *accumulator, total)
        p, momentum_buffer, total = (
            each if each is None else each.clone()
            for each in (p, momentum_buffer, total)
        )
        accumulator = [each if each is None else each.clone() for each in accumulator]

        # second = full_like(grad, inf)
        second = torch.full_like(grad, math.inf)
        for axis in range(p.ndim):
            # second = movedim(min(movedim(second, axis, -1), accumulator[axis]), -1,
            #     axis)
            second = torch.minimum(second.movedim(axis, -1), accumulator[axis]).movedim(
                -1, axis
            )
        if p.ndim == 0:
            second = total

        # second += grad*grad
        second = second.addcmul(grad, grad)
        if p.ndim == 0:
            total = second
        if p.numel() > 0:
            for axis in range(p.ndim):
                # accumulator[axis] = max(unfolded(second, axis), dim=-1)
                accumulator[axis] = (
                    _unfolded(second, axis)
                    .amax(dim=-1)
                    .expand_as(accumulator[axis])
                    .clone()
                )

        # update = grad*rsqrt(second + eps)
        update = grad * (second + eps).rsqrt()
        if momentum != 0:
            # momentum_buffer = momentum*momentum_buffer + (1 - momentum)*update
            momentum_buffer = _scaled_add(
                momentum_buffer * momentum, update, 1 - momentum
            )
            update = momentum_buffer

        # p -= lr*update
        p = _scaled_add(p, update, -lr)

        for each, new in zip(
            kept, (p, momentum_buffer, *accumulator, total), strict=True
        ):
            if each is not None:
                each.copy_(new)


def _multi_tensor_sm3_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    accumulators: list[list[Tensor]],
    totals: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    columns = [params, grads, momentum_buffers, accumulators, totals]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers, accumulators, totals in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)

        # second = full_like(grad, inf)
        seconds = [torch.full_like(grad, math.inf) for grad in grads]
        for axis in range(params[0].ndim):
            # second = movedim(min(movedim(second, axis, -1), accumulator[axis]), -1,
            #     axis)
            movedims = [second.movedim(axis, -1) for second in seconds]
            smallers = torch._foreach_minimum(
                movedims, [each[axis] for each in accumulators]
            )
            seconds = [smaller.movedim(-1, axis) for smaller in smallers]
        if params[0].ndim == 0:
            seconds = totals

        # second += grad*grad
        seconds = torch._foreach_addcmul(seconds, grads, grads)
        if params[0].ndim == 0:
            # total = second
            torch._foreach_copy_(totals, seconds)
        if params[0].numel() > 0:
            for axis in range(params[0].ndim):
                # accumulator[axis] = max(unfolded(second, axis), dim=-1)
                amaxes = [_unfolded(second, axis).amax(dim=-1) for second in seconds]
                torch._foreach_copy_([each[axis] for each in accumulators], amaxes)

        # update = grad*rsqrt(second + eps)
        torch._foreach_add_(seconds, eps)
        torch._foreach_rsqrt_(seconds)
        updates = torch._foreach_mul(grads, seconds)
        del grads, seconds
        if momentum != 0:
            # momentum_buffer = momentum*momentum_buffer + (1 - momentum)*update
            torch._foreach_mul_(momentum_buffers, momentum)
            products = torch._foreach_mul(updates, 1 - momentum)
            torch._foreach_add_(momentum_buffers, products)
            del products
            updates = momentum_buffers

        # p -= lr*update
        products = torch._foreach_mul(updates, -lr)
        torch._foreach_add_(params, products)


def _kernel_numbers_1(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = []
    options = [group["maximize"]]
    return hypers, options


def _kernel_numbers_2(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["momentum"], group["eps"]]
    options = [group["maximize"], group["momentum"] != 0]
    return hypers, options


def _between_sm3_1(
    params: list[Tensor],
    accumulators: list[list[Tensor]],
    seconds: list[Tensor],
) -> list[Tensor]:
    new_seconds = seconds
    for axis in range(params[0].ndim):
        # second = movedim(min(movedim(second, axis, -1), accumulator[axis]), -1, axis)
        movedims = [new_second.movedim(axis, -1) for new_second in new_seconds]
        smallers = torch._foreach_minimum(
            movedims, [each[axis] for each in accumulators]
        )
        new_seconds = [smaller.movedim(-1, axis) for smaller in smallers]
    return new_seconds


def _between_sm3_2(
    params: list[Tensor],
    accumulators: list[list[Tensor]],
    seconds: list[Tensor],
) -> None:
    if params[0].numel() > 0:
        for axis in range(params[0].ndim):
            # accumulator[axis] = max(unfolded(second, axis), dim=-1)
            amaxes = [_unfolded(second, axis).amax(dim=-1) for second in seconds]
            torch._foreach_copy_([each[axis] for each in accumulators], amaxes)


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels and torch in turns the groups that ask for it; return those
    that are left.
    """
    taken, left = _KERNELS.apart(optimizer, groups)
    for group, columns in taken:
        params, grads, momentum_buffers, accumulators, totals = columns
        turns = _KERNELS.of(
            optimizer,
            group,
            {
                "p": params,
                "grad": grads,
                "momentum_buffer": momentum_buffers,
                "total": totals,
            },
        )
        if turns is None:
            left.append((group, columns))
            continue
        turn_1, turn_2 = turns
        keys = [p.shape for p in params]
        for batch in _alike(columns, keys):
            params, grads, momentum_buffers, accumulators, totals = batch
            seconds = turn_1(params)
            seconds = _between_sm3_1(params, accumulators, seconds)
            seconds = _KERNELS.handed(batch, seconds)
            turn_2(
                params,
                grads,
                momentum_buffers,
                totals,
                seconds,
                asked=[[p.ndim for p in params]],
            )
            _between_sm3_2(params, accumulators, seconds)
    return left


_CPU_1 = r"""// SM3, turn 1, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    second_t *second;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::second);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            const real p = load(row.p[i]);
            real second = 0;
            // second = full_like(grad, inf)
            second = real(infinity);
            store(row.second[i], second);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_sm3(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.second = (second_t *)table->columns[1][at];
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_1 = r"""# SM3, turn 1, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, keep, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "second_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, found_inf,
    p_t: tl.constexpr,
    second_t: tl.constexpr,
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
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    second_at = column(columns, rows, row, 1, second_t, aligned) + begin
    p = elements(p_at, i, left, real)
    # second = full_like(grad, inf)
    second = tl.full([BLOCK], float("inf"), real)
    keep(second_at, i, left, second)


def launch(x):
    x.each_chunk(pass_1)
"""


_CPU_2 = r"""// SM3, turn 2, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    total_t *total;
    second_t *second;
    double lr;
    double momentum;
    double eps;
    double ndim;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::momentum_buffer, &Row::total,
            &Row::second);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real momentum_buffer = has_momentum_buffer ? load(row.momentum_buffer[i]) :
                0;
            real total = has_total ? load(row.total[i]) : 0;
            real second = load(row.second[i]);
            if (row.ndim == 0.0) {
                // second = total
                second = total;
            }
            // second += grad*grad
            second = second + grad * grad;
            if (row.ndim == 0.0) {
                // total = second
                total = second;
            }
            // update = grad*rsqrt(second + eps)
            real update = grad * rsqrt_(second + real(row.eps));
            if (momentum_is_not_0) {
                // momentum_buffer = momentum*momentum_buffer + (1 - momentum)*update
                momentum_buffer = real(row.momentum) * momentum_buffer + real(1.0 -
                    row.momentum) * update;
                // update = momentum_buffer
                update = momentum_buffer;
            }
            // p -= lr*update
            p = p - real(row.lr) * update;
            store(row.p[i], p);
            if (has_momentum_buffer) store(row.momentum_buffer[i], momentum_buffer);
            if (has_total) store(row.total[i], total);
            store(row.second[i], second);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_sm3(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[2][at];
        row.total = (total_t *)table->columns[3][at];
        row.second = (second_t *)table->columns[4][at];
        const double *hyper = table->hypers + 3 * table->group[at];
        row.lr = *hyper++;
        row.momentum = *hyper++;
        row.eps = *hyper++;
        row.ndim = table->asked[at];
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_2 = r"""# SM3, turn 2, in one pass over memory.

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
TYPES = ("p_t", "grad_t", "momentum_buffer_t", "total__t", "second_t")
OPTIONS = ("maximize", "momentum_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, asked, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    total__t: tl.constexpr,
    second_t: tl.constexpr,
    maximize: tl.constexpr,
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
    of = hypers + 3 * tl.load(group + row)
    lr = tl.load(of + 0)
    momentum = tl.load(of + 1)
    eps = tl.load(of + 2)
    ndim = tl.load(asked + 0 * rows + row)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    momentum_buffer_left = if_there(columns, rows, row, 2, left)
    total__at = column(columns, rows, row, 3, total__t, aligned) + begin
    total__left = if_there(columns, rows, row, 3, left)
    second_at = column(columns, rows, row, 4, second_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, momentum_buffer_left, real)
    total_ = elements(total__at, i, total__left, real)
    second = elements(second_at, i, left, real)
    if ndim == 0.0:
        # second = total
        second = total_
    # second += grad*grad
    second = second + grad * grad
    if ndim == 0.0:
        # total = second
        total_ = second
    # update = grad*rsqrt(second + eps)
    update = grad * tl.rsqrt(second + eps.to(real))
    if momentum_is_not_0:
        # momentum_buffer = momentum*momentum_buffer + (1 - momentum)*update
        momentum_buffer = momentum.to(real) * momentum_buffer + (1.0 - momentum).to(
            real
        ) * update
        # update = momentum_buffer
        update = momentum_buffer
    # p -= lr*update
    p = p - lr.to(real) * update
    keep(p_at, i, left, p)
    keep(momentum_buffer_at, i, momentum_buffer_left, momentum_buffer)
    keep(total__at, i, total__left, total_)
    keep(second_at, i, left, second)


def launch(x):
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Turns(
    _Kernel(
        "step_sm3",
        _CPU_1,
        _kernel_numbers_1,
        elements=("p", "second"),
        options=("maximize",),
        cuda=_CUDA_1,
    ),
    _Kernel(
        "step_sm3",
        _CPU_2,
        _kernel_numbers_2,
        elements=("p", "grad", "momentum_buffer", "total", "second"),
        optional=("momentum_buffer", "total"),
        options=("maximize", "momentum_is_not_0"),
        cuda=_CUDA_2,
    ),
)
