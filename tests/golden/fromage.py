"""Fromage: a step as long as a share of the weights, which are then shortened.

Bernstein et al. (2020), On the distance between two neural networks and the stability
of learning, https://arxiv.org/abs/2002.03432
Follows the authors' code, https://github.com/jxbz/fromage; pytorch_optimizer is the
same. A bound below the first length, which would shrink weights at any rate, is
refused.
"""
# Compiled by optdsl from fromage.opt, content 945974fbc7eb.

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

__all__ = ["Fromage"]


class Fromage(Optimizer):
    """Fromage: a step as long as a share of the weights, which are then shortened.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): length of a step, as a share of the weights', in [0, inf)
            (default: 0.01).
        p_bound (float | None, optional): largest length of the weights, as a multiple
            of the first, in [1, inf) (default: None).
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
        bound: largest length of the weights (0-d tensor).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        p_bound: float | None = None,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "p_bound": p_bound,
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
            group.setdefault("lr", 0.01)
            group.setdefault("p_bound", None)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "p_bound"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        bounds: list[Tensor | None],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Fromage does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Fromage does not support complex parameters")
            state = self.state[p] if group["p_bound"] is not None else {}
            if group["p_bound"] is not None and "bound" not in state:
                start = p.clone() if group["differentiable"] else p
                state["bound"] = torch.linalg.vector_norm(start) * group["p_bound"]
            params.append(p)
            grads.append(grad)
            bounds.append(state.get("bound"))

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
                self._init_group(group, [], [], [])
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
            bounds: list[Tensor | None] = []
            self._init_group(group, params, grads, bounds)
            groups.append((group, [params, grads, bounds]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, bounds = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_fromage if use_foreach else _single_tensor_fromage
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_fromage_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_fromage
            update(
                params,
                grads,
                bounds,
                lr=group["lr"],
                p_bound=group["p_bound"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    p_bound = group["p_bound"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    if p_bound is not None:
        _check_number("p_bound", p_bound)
    if not (p_bound is None or 1 <= p_bound < math.inf):
        raise ValueError(
            f"Invalid p_bound: {p_bound!r}, expected a number in [1, inf), or None"
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


def _single_tensor_fromage(
    params: list[Tensor],
    grads: list[Tensor],
    bounds: list[Tensor | None],
    *,
    lr: float,
    p_bound: float | None,
    maximize: bool,
) -> None:
    for p, grad, bound in zip(params, grads, bounds, strict=True):
        grad = grad if not maximize else -grad

        # length = norm(p)
        length = torch.linalg.vector_norm(p)

        # steepness = norm(grad)
        steepness = torch.linalg.vector_norm(grad)

        # p -= lr*where(min(length, steepness) > 0, length/steepness, 1)*grad
        p.addcmul_(
            torch.where(torch.minimum(length, steepness) > 0, length / steepness, 1),
            grad,
            value=-lr,
        )

        # p /= sqrt(1 + lr*lr)
        p.div_(math.sqrt(1 + lr * lr))
        if p_bound is not None:
            # grown = norm(p)
            grown = torch.linalg.vector_norm(p)

            # p *= where(grown > bound, bound/grown, 1)
            p.mul_(torch.where(grown > bound, bound / grown, 1))


def _multi_tensor_fromage(
    params: list[Tensor],
    grads: list[Tensor],
    bounds: list[Tensor | None],
    *,
    lr: float,
    p_bound: float | None,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr = float(lr)

    columns = [params, grads, bounds]
    for params, grads, bounds in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)

        # length = norm(p)
        lengths = torch._foreach_norm(params)

        # steepness = norm(grad)
        steepnesses = torch._foreach_norm(grads)

        # p -= lr*where(min(length, steepness) > 0, length/steepness, 1)*grad
        smallers = torch._foreach_minimum(lengths, steepnesses)
        quotients = torch._foreach_div(lengths, steepnesses)
        wheres = [
            torch.where(smaller > 0, quotient, 1)
            for smaller, quotient in zip(smallers, quotients, strict=True)
        ]
        torch._foreach_addcmul_(params, wheres, grads, value=-lr)

        # p /= sqrt(1 + lr*lr)
        torch._foreach_div_(params, math.sqrt(1 + lr * lr))
        if p_bound is not None:
            # grown = norm(p)
            growns = torch._foreach_norm(params)

            # p *= where(grown > bound, bound/grown, 1)
            quotients = torch._foreach_div(bounds, growns)
            wheres = [
                torch.where(grown > bound, quotient, 1)
                for grown, bound, quotient in zip(
                    growns, bounds, quotients, strict=True
                )
            ]
            torch._foreach_mul_(params, wheres)


def _scaled_addcmul(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcmul(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcmul(y * scale, z)
    return x.addcmul(y, z, value=scale)


def _differentiable_fromage(
    params: list[Tensor],
    grads: list[Tensor],
    bounds: list[Tensor | None],
    *,
    lr: float,
    p_bound: float | None,
    maximize: bool,
) -> None:
    for p, grad, bound in zip(params, grads, bounds, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, bound)
        p, bound = (each if each is None else each.clone() for each in kept)

        # length = norm(p)
        length = torch.linalg.vector_norm(p)

        # steepness = norm(grad)
        steepness = torch.linalg.vector_norm(grad)

        # p -= lr*where(min(length, steepness) > 0, length/steepness, 1)*grad
        p = _scaled_addcmul(
            p,
            torch.where(torch.minimum(length, steepness) > 0, length / steepness, 1),
            grad,
            -lr,
        )

        # p /= sqrt(1 + lr*lr)
        p = p / math.sqrt(1 + lr * lr)
        if p_bound is not None:
            # grown = norm(p)
            grown = torch.linalg.vector_norm(p)

            # p *= where(grown > bound, bound/grown, 1)
            p = p * torch.where(grown > bound, bound / grown, 1)

        for each, new in zip(kept, (p, bound), strict=True):
            if each is not None:
                each.copy_(new)


def _multi_tensor_fromage_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    bounds: list[Tensor | None],
    *,
    lr: float,
    p_bound: float | None,
    maximize: bool,
) -> None:
    columns = [params, grads, bounds]
    for params, grads, bounds in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)

        # length = norm(p)
        lengths = torch._foreach_norm(params)

        # steepness = norm(grad)
        steepnesses = torch._foreach_norm(grads)

        # p -= lr*where(min(length, steepness) > 0, length/steepness, 1)*grad
        smallers = torch._foreach_minimum(lengths, steepnesses)
        quotients = torch._foreach_div(lengths, steepnesses)
        wheres = [
            torch.where(smaller > 0, quotient, 1)
            for smaller, quotient in zip(smallers, quotients, strict=True)
        ]
        products = torch._foreach_mul(wheres, -lr)
        torch._foreach_addcmul_(params, products, grads)

        # p /= sqrt(1 + lr*lr)
        torch._foreach_div_(params, math.sqrt(1 + lr * lr))
        if p_bound is not None:
            # grown = norm(p)
            growns = torch._foreach_norm(params)

            # p *= where(grown > bound, bound/grown, 1)
            quotients = torch._foreach_div(bounds, growns)
            wheres = [
                torch.where(grown > bound, quotient, 1)
                for grown, bound, quotient in zip(
                    growns, bounds, quotients, strict=True
                )
            ]
            torch._foreach_mul_(params, wheres)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"]]
    options = [group["maximize"], group["p_bound"] is not None]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, bounds = columns
        launch.add(
            group,
            columns,
            elements=[params, grads],
            numbers=[bounds],
        )
    return launch.run()


_CPU = r"""// Fromage in 3 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    bound_t *bound;
    double lr;
};

// What is worked out once a tensor.
struct Numbers {
    double bound, length, steepness, product, root, grown, where;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // sqrt(1 + lr*lr)
    n.root = sqrt_(1.0 + row.lr * row.lr);
    return are_finite(n.root);
}

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double length = 0;
    double steepness = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad);
        #pragma omp simd reduction(+: length, steepness)
        for (int64_t i = at; i < to; ++i) {
            const real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            // length = norm(p)
            length += square_(double(p));
            // steepness = norm(grad)
            steepness += square_(double(grad));
        }
    }
    sums[0] = length;
    sums[1] = steepness;
}

static void numbers_2(const Row &row, Numbers &n) {
    // lr*where(min(length, steepness) > 0, length/steepness, 1)
    n.product = row.lr * (min_(n.length, n.steepness) > 0.0 ? n.length / n.steepness :
        1.0);
}

static void pass_2(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double grown = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad);
        #pragma omp simd reduction(+: grown)
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            // p -= lr*where(min(length, steepness) > 0, length/steepness, 1)*grad
            p = kept<p_t>(p - real(n.product) * grad);
            // p /= sqrt(1 + lr*lr)
            p = kept<p_t>(p * real(1.0 / n.root));
            if (p_bound_is_not_none) {
                // grown = norm(p)
                grown += square_(double(p));
            }
            store(row.p[i], p);
        }
    }
    sums[0] = grown;
}

static void numbers_3(const Row &row, Numbers &n) {
    if (p_bound_is_not_none) {
        // where(grown > bound, bound/grown, 1)
        n.where = kept<bound_t>(n.grown) > kept<bound_t>(n.bound) ? n.bound / n.grown :
            1.0;
    }
}

static void pass_3(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            if (p_bound_is_not_none) {
                // p *= where(grown > bound, bound/grown, 1)
                p = p * real(n.where);
            }
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_fromage(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.bound = (bound_t *)table->columns[2][at];
        const double *hyper = table->hypers + 1 * table->group[at];
        row.lr = *hyper++;
        numbers[at].bound = has_bound ? load(*row.bound) : 0;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    std::vector<double> parts(2 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[2 * at]);
    });
    const auto sums = gathered<2>(
        *table, chunks, parts, {0, 0},
        {added, added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].length = std::sqrt(sums[2 * at + 0]);
        numbers[at].steepness = std::sqrt(sums[2 * at + 1]);
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    std::vector<double> parts_2(1 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end, &parts_2[1 * at]);
    });
    const auto sums_2 = gathered<1>(
        *table, chunks, parts_2, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].grown = std::sqrt(sums_2[1 * at + 0]);
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_3(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_3(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# Fromage in 3 passes over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    keep,
    kept,
    number,
    overflowed,
    smaller,
    square,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "bound_t")
OPTIONS = ("maximize", "p_bound_is_not_none")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    bound_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 1 * tl.load(group + row)
    lr = tl.load(of + 0)
    bound = number(columns, rows, row, 2, bound_t)
    # sqrt(1 + lr*lr)
    root = tl.sqrt(1.0 + lr * lr)
    tl.store(n + 1 * rows, root)
    tl.store(n + 2 * rows, bound)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, parts, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
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
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    # length = norm(p)
    length = total(square(p.to(tl.float64)), i, left)
    # steepness = norm(grad)
    steepness = total(square(grad.to(tl.float64)), i, left)
    tl.store(parts + 0 * chunks + chunk, length)
    tl.store(parts + 1 * chunks + chunk, steepness)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    rows, chunks, starts, group, hypers, numbers, parts, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 1 * tl.load(group + row)
    lr = tl.load(of + 0)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # length = norm(p)
    length = tl.sqrt(sum_of(parts + 0 * chunks, begin, end))
    # steepness = norm(grad)
    steepness = tl.sqrt(sum_of(parts + 1 * chunks, begin, end))
    # lr*where(min(length, steepness) > 0, length/steepness, 1)
    product = lr * tl.where(
        smaller(length, steepness) > 0.0, length / steepness, double(1.0)
    )
    tl.store(n + 0 * rows, product)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_2(
    columns, rows, chunks, row_of, starts, numel, numbers, parts, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    maximize: tl.constexpr,
    p_bound_is_not_none: tl.constexpr,
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
    product = tl.load(n + 0 * rows)
    root = tl.load(n + 1 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    # p -= lr*where(min(length, steepness) > 0, length/steepness, 1)*grad
    p = kept(p - product.to(real) * grad, p_t)
    # p /= sqrt(1 + lr*lr)
    p = kept(p / root.to(real), p_t)
    grown = double(0.0)
    if p_bound_is_not_none:
        # grown = norm(p)
        grown = grown + total(square(p.to(tl.float64)), i, left)
    keep(p_at, i, left, p)
    tl.store(parts + 0 * chunks + chunk, grown)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_3(
    rows, chunks, starts, numbers, parts, found_inf,
    bound_t: tl.constexpr,
    p_bound_is_not_none: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    bound = tl.load(n + 2 * rows)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # grown = norm(p)
    grown = tl.sqrt(sum_of(parts + 0 * chunks, begin, end))
    where = double(0.0)
    if p_bound_is_not_none:
        # where(grown > bound, bound/grown, 1)
        where = tl.where(
            kept(grown, bound_t) > kept(bound, bound_t), bound / grown, double(1.0)
        )
    tl.store(n + 3 * rows, where)


@triton.jit(do_not_specialize=["rows"])
def pass_3(
    columns, rows, row_of, starts, numel, numbers, found_inf,
    p_t: tl.constexpr,
    p_bound_is_not_none: tl.constexpr,
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
    where = tl.load(n + 3 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    p = elements(p_at, i, left, real)
    if p_bound_is_not_none:
        # p *= where(grown > bound, bound/grown, 1)
        p = p * where.to(real)
    keep(p_at, i, left, p)


def launch(x):
    x.numbers = x.new(4 * x.rows)
    x.each_row(numbers_1)
    x.parts = x.new(2 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.parts = x.new(1 * x.chunks)
    x.each_chunk(pass_2)
    x.each_row(numbers_3)
    x.each_chunk(pass_3)
"""

_KERNELS = _Kernel and _Kernel(
    "step_fromage",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad"),
    numbers=("bound",),
    optional=("bound",),
    options=("maximize", "p_bound_is_not_none"),
    cuda=_CUDA,
    scaled=True,
)
