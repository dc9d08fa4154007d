"""Rprop: resilient backpropagation, a step size for each weight.

Riedmiller and Braun (1993), A direct adaptive method for faster backpropagation
learning: the RPROP algorithm, https://doi.org/10.1109/ICNN.1993.298623

As in torch, a weight whose gradient changes its sign stays where it is for a step.

Reference: torch.optim.Rprop
"""
# Compiled by optdsl from rprop.opt, content 08033d63784d.

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

__all__ = ["Rprop"]


class Rprop(Optimizer):
    """Rprop: resilient backpropagation, a step size for each weight.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): first step size of every weight, in [0, inf] (default:
            1e-2).
        etas (tuple[float, float], optional): factors by which a step size shrinks and
            grows (default: (0.5, 1.2)).
        step_sizes (tuple[float, float], optional): smallest and largest step size
            (default: (1e-6, 50)).
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
        prev: gradient of the last step (like p).
        step_size: step size of each weight (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
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
            group.setdefault("lr", 1e-2)
            group.setdefault("etas", (0.5, 1.2))
            group.setdefault("step_sizes", (1e-6, 50))
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step",):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        # What torch's class does not have is in a group only where it is on.
        for name, off in {"fused": None}.items():
            if param_group[name] is off:
                del param_group[name]
        for name in ("lr", "etas", "step_sizes"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        prevs: list[Tensor],
        step_sizes: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Rprop does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["prev"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                fill = group["lr"]
                if torch.is_complex(p):
                    fill = complex(fill, fill)
                state["step_size"] = torch.full_like(
                    p, fill, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            prevs.append(state["prev"])
            step_sizes.append(state["step_size"])
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
            prevs: list[Tensor] = []
            step_sizes: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, prevs, step_sizes, steps)
            groups.append((group, [params, grads, prevs, step_sizes, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, prevs, step_sizes, steps = columns
            use_foreach = group["foreach"] or group.get("fused")
            if group["foreach"] is None and group.get("fused") is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_rprop if use_foreach else _single_tensor_rprop
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_rprop
            update(
                params,
                grads,
                prevs,
                step_sizes,
                steps,
                etas=group["etas"],
                step_sizes_=group["step_sizes"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    etas = group["etas"]
    step_sizes = group["step_sizes"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_numbers("etas", etas, 2)
    _check_numbers("step_sizes", step_sizes, 2)
    if not (0 < etas[0] and etas[0] < 1 and 1 < etas[1]):
        raise ValueError(f"etas are below and above 1 (got etas={etas!r})")
    if group.get("fused") and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group.get("fused") and group["differentiable"]:
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


def _single_tensor_rprop(
    params: list[Tensor],
    grads: list[Tensor],
    prevs: list[Tensor],
    step_sizes: list[Tensor],
    steps: list[Tensor],
    *,
    etas: tuple[float, float],
    step_sizes_: tuple[float, float],
    maximize: bool,
) -> None:
    shrink, grow = etas

    # smallest, largest = step_sizes
    smallest, largest = step_sizes_

    for p, grad, prev, step_size, step in zip(
        params, grads, prevs, step_sizes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad, prev, step_size = map(
                torch.view_as_real, (p, grad, prev, step_size)
            )

        # agreement = sign(grad*prev)
        agreement = (grad * prev).sign_()

        # step_size *= where(agreement > 0, grow, 1)
        step_size.mul_(torch.where(agreement > 0, p.new_full((), grow), 1))

        # step_size *= where(agreement < 0, shrink, 1)
        step_size.mul_(torch.where(agreement < 0, p.new_full((), shrink), 1))

        # step_size = clamp(step_size, smallest, largest)
        step_size.clamp_(min=smallest, max=largest)

        # prev = where(agreement < 0, 0, grad)
        prev.copy_(torch.where(agreement < 0, 0, grad))

        # p -= sign(prev)*step_size
        p.addcmul_(prev.sign(), step_size, value=-1)


def _multi_tensor_rprop(
    params: list[Tensor],
    grads: list[Tensor],
    prevs: list[Tensor],
    step_sizes: list[Tensor],
    steps: list[Tensor],
    *,
    etas: tuple[float, float],
    step_sizes_: tuple[float, float],
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    etas = tuple(map(float, etas))
    step_sizes_ = tuple(map(float, step_sizes_))
    shrink, grow = etas

    # smallest, largest = step_sizes
    smallest, largest = step_sizes_

    columns = [params, grads, prevs, step_sizes, steps]
    for params, grads, prevs, step_sizes, steps in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            prevs = [torch.view_as_real(each) for each in prevs]
            step_sizes = [torch.view_as_real(each) for each in step_sizes]

        # agreement = sign(grad*prev)
        agreements = torch._foreach_mul(grads, prevs)
        torch._foreach_sign_(agreements)

        # step_size *= where(agreement > 0, grow, 1)
        for step_size, agreement, p in zip(step_sizes, agreements, params, strict=True):
            step_size.mul_(torch.where(agreement > 0, p.new_full((), grow), 1))

        # step_size *= where(agreement < 0, shrink, 1)
        for step_size, agreement, p in zip(step_sizes, agreements, params, strict=True):
            step_size.mul_(torch.where(agreement < 0, p.new_full((), shrink), 1))

        # step_size = clamp(step_size, smallest, largest)
        torch._foreach_clamp_min_(step_sizes, smallest)
        torch._foreach_clamp_max_(step_sizes, largest)

        # prev = where(agreement < 0, 0, grad)
        for prev, agreement, grad in zip(prevs, agreements, grads, strict=True):
            prev.copy_(torch.where(agreement < 0, 0, grad))
        del agreements, grads

        # p -= sign(prev)*step_size
        signs = torch._foreach_sign(prevs)
        torch._foreach_addcmul_(params, signs, step_sizes, value=-1)


def _differentiable_rprop(
    params: list[Tensor],
    grads: list[Tensor],
    prevs: list[Tensor],
    step_sizes: list[Tensor],
    steps: list[Tensor],
    *,
    etas: tuple[float, float],
    step_sizes_: tuple[float, float],
    maximize: bool,
) -> None:
    shrink, grow = etas

    # smallest, largest = step_sizes
    smallest, largest = step_sizes_

    for p, grad, prev, step_size, step in zip(
        params, grads, prevs, step_sizes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, prev, step_size, step)
        p, prev, step_size, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, prev, step_size = map(
                torch.view_as_real, (p, grad, prev, step_size)
            )

        # agreement = sign(grad*prev)
        agreement = (grad * prev).sign()

        # step_size *= where(agreement > 0, grow, 1)
        step_size = step_size * torch.where(agreement > 0, p.new_full((), grow), 1)

        # step_size *= where(agreement < 0, shrink, 1)
        step_size = step_size * torch.where(agreement < 0, p.new_full((), shrink), 1)

        # step_size = clamp(step_size, smallest, largest)
        step_size = step_size.clamp(min=smallest, max=largest)

        # prev = where(agreement < 0, 0, grad)
        prev = torch.where(agreement < 0, 0, grad)

        # p -= sign(prev)*step_size
        p = p.addcmul(prev.sign(), step_size, value=-1)
        if is_complex:
            p, prev, step_size = map(torch.view_as_complex, (p, prev, step_size))

        for each, new in zip(kept, (p, prev, step_size, step), strict=True):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["etas"][0],
        group["etas"][1],
        group["step_sizes"][0],
        group["step_sizes"][1],
    ]
    options = [group["maximize"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, prevs, step_sizes, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, prevs, step_sizes],
            numbers=[steps],
        )
    return launch.run()


_CPU = r"""// Rprop in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    prev_t *prev;
    step_size_t *step_size;
    step_t *step;
    double etas[2];
    double step_sizes[2];
};

// What is worked out once a tensor.
struct Numbers {
    double t, shrink, grow, smallest, largest;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // shrink, grow = etas
    n.shrink = row.etas[0];
    n.grow = row.etas[1];
    // smallest, largest = step_sizes
    n.smallest = row.step_sizes[0];
    n.largest = row.step_sizes[1];
    return are_finite();
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::prev, &Row::step_size);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real prev = load(row.prev[i]);
            real step_size = load(row.step_size[i]);
            // agreement = sign(grad*prev)
            const real agreement = sign_(grad * prev);
            // step_size *= where(agreement > 0, grow, 1)
            step_size = step_size * (agreement > real(0.0) ? real(n.grow) : real(1.0));
            // step_size *= where(agreement < 0, shrink, 1)
            step_size = step_size * (agreement < real(0.0) ? real(n.shrink) :
                real(1.0));
            // step_size = clamp(step_size, smallest, largest)
            step_size = clamp_(step_size, real(n.smallest), real(n.largest));
            // prev = where(agreement < 0, 0, grad)
            prev = agreement < real(0.0) ? real(0.0) : grad;
            // p -= sign(prev)*step_size
            p = p - sign_(prev) * step_size;
            store(row.p[i], p);
            store(row.prev[i], prev);
            store(row.step_size[i], step_size);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_rprop(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.prev = (prev_t *)table->columns[2][at];
        row.step_size = (step_size_t *)table->columns[3][at];
        row.step = (step_t *)table->columns[4][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.etas[0] = *hyper++;
        row.etas[1] = *hyper++;
        row.step_sizes[0] = *hyper++;
        row.step_sizes[1] = *hyper++;
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

_CUDA = r"""# Rprop in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    clamp,
    column,
    elements,
    gradient,
    keep,
    keep_number,
    number,
    overflowed,
    sign,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "prev_t", "step_size_t", "step_t")
OPTIONS = ("maximize",)


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
    etas_0 = tl.load(of + 0)
    etas_1 = tl.load(of + 1)
    step_sizes_0 = tl.load(of + 2)
    step_sizes_1 = tl.load(of + 3)
    t = number(columns, rows, row, 4, step_t) + 1
    # shrink, grow = etas
    shrink = etas_0
    grow = etas_1
    # smallest, largest = step_sizes
    smallest_ = step_sizes_0
    largest_ = step_sizes_1
    tl.store(n + 0 * rows, grow)
    tl.store(n + 1 * rows, largest_)
    tl.store(n + 2 * rows, shrink)
    tl.store(n + 3 * rows, smallest_)
    keep_number(columns, rows, row, 4, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    prev_t: tl.constexpr,
    step_size_t: tl.constexpr,
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
    n = numbers + row
    grow = tl.load(n + 0 * rows)
    largest_ = tl.load(n + 1 * rows)
    shrink = tl.load(n + 2 * rows)
    smallest_ = tl.load(n + 3 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    prev_at = column(columns, rows, row, 2, prev_t, aligned) + begin
    step_size_at = column(columns, rows, row, 3, step_size_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    prev = elements(prev_at, i, left, real)
    step_size = elements(step_size_at, i, left, real)
    # agreement = sign(grad*prev)
    agreement = sign(grad * prev)
    # step_size *= where(agreement > 0, grow, 1)
    step_size = step_size * tl.where(
        agreement > 0.0, grow.to(real), tl.full([], 1.0, real)
    )
    # step_size *= where(agreement < 0, shrink, 1)
    step_size = step_size * tl.where(
        agreement < 0.0, shrink.to(real), tl.full([], 1.0, real)
    )
    # step_size = clamp(step_size, smallest, largest)
    step_size = clamp(step_size, smallest_.to(real), largest_.to(real))
    # prev = where(agreement < 0, 0, grad)
    prev = tl.where(agreement < 0.0, tl.full([], 0.0, real), grad)
    # p -= sign(prev)*step_size
    p = p - sign(prev) * step_size
    keep(p_at, i, left, p)
    keep(prev_at, i, left, prev)
    keep(step_size_at, i, left, step_size)


def launch(x):
    x.numbers = x.new(4 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_rprop",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "prev", "step_size"),
    numbers=("step",),
    options=("maximize",),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
