"""AdaGrad-Norm: one step size for the whole model, from the norms of its gradients.

Ward, Wu and Bottou (2019), AdaGrad Stepsizes: Sharp Convergence Over Nonconvex
Landscapes, https://arxiv.org/abs/1806.01811

l2_decay: Weight decay by way of the gradient: an L2 penalty.

Krogh and Hertz (1991), A Simple Weight Decay Can Improve Generalization,
https://papers.nips.cc/paper/563-a-simple-weight-decay-can-improve-generalization
"""
# Compiled by optdsl from adagrad_norm.opt, content a5a3c2708ed1.

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

__all__ = ["AdaGradNorm"]


class AdaGradNorm(Optimizer):
    """AdaGrad-Norm: one step size for the whole model, from the norms of its gradients.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): factor of the step size, in [0, inf) (default: 1.0).
        b0 (float, optional): first divisor, in (0, inf) (default: 1e-2).
        weight_decay (float, optional): L2 penalty, in [0, inf) (default: 0).
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
        b_sq: square of the divisor (0-d tensor).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        b0: float = 1e-2,
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
            "b0": b0,
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
            group.setdefault("lr", 1.0)
            group.setdefault("b0", 1e-2)
            group.setdefault("weight_decay", 0)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        for group in self.param_groups[:1]:
            for name in ("b0",):
                if param_group.setdefault(name, group[name]) != group[name]:
                    given = f"Invalid {name}: {param_group[name]!r}, "
                    raise ValueError(f"{given}expected the same in all groups")
        super().add_param_group(param_group)
        for name in ("lr", "b0", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
    ) -> None:
        """Collect what has a gradient."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("AdaGradNorm does not support sparse gradients")
            params.append(p)
            grads.append(grad)

    def _init_shared(self) -> None:
        """Make the numbers of groups and of the model, next to the parameters."""
        p = next(p for group in self.param_groups for p in group["params"])
        dtype = torch.promote_types(_get_scalar_dtype(), p.real.dtype)
        for group in self.param_groups:
            new = {
                "b_sq": float(group["b0"] * group["b0"]),
            }
            for name, value in new.items():
                if name not in group:
                    group[name] = torch.tensor(value, dtype=dtype)
                group[name] = group[name].to(p.device)
        for name in ("b_sq",):
            for group in self.param_groups:
                group[name] = self.param_groups[0][name]

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
            for group in self.param_groups:
                for name in ("b_sq",):
                    group.pop(name, None)
        if self._is_trial():
            # torch.distributed.checkpoint asks for the state; the first step is to
            #     come.
            self._trial = True
            for group in self.param_groups:
                self._init_group(group, [], [])
            self._init_shared()
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
            self._init_group(group, params, grads)
            if params:
                groups.append((group, [params, grads]))
        if groups:
            self._init_shared()
        if not torch.compiler.is_compiling() and _KERNELS:
            groups = _by_kernels(self, groups)
        if groups:
            group, (params, grads) = groups[0]
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = (
                _multi_tensor_ada_grad_norm
                if use_foreach
                else _single_tensor_ada_grad_norm
            )
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_ada_grad_norm_capturable
            update(groups)

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    b0 = group["b0"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("b0", b0)
    if not 0 < b0 < math.inf:
        raise ValueError(f"Invalid b0: {b0!r}, expected a number in (0, inf)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["differentiable"]:
        raise RuntimeError(
            "AdaGradNorm is not differentiable: its parameters step together"
        )


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


def _stacked(parts: list[Tensor]) -> Tensor:
    """What every parameter gives to a reduction, next to the first; of one that is
    sharded, what all shards give.
    """
    whole = [x.full_tensor() if hasattr(x, "full_tensor") else x for x in parts]
    dtype = torch.promote_types(whole[0].dtype, _get_scalar_dtype())
    return torch.stack([x.to(whole[0].device, dtype) for x in whole])


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _single_tensor_ada_grad_norm(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads."""
    (group, _), *_ = groups
    b_sq = group["b_sq"]

    b_sq_parts: list[Tensor] = []
    for group, columns in groups:
        weight_decay = group["weight_decay"]
        params, grads = columns
        grads_: list[Any] = []
        for p, grad in zip(params, grads, strict=True):
            grad = grad if not group["maximize"] else -grad
            if torch.is_complex(p):
                p, grad = map(torch.view_as_real, (p, grad))
            if weight_decay != 0:
                # grad += weight_decay*p
                grad = grad.add(p, alpha=weight_decay)

            # b_sq += norm(grad, over=model)**2
            b_sq_parts.append(torch.linalg.vector_norm(grad))
            grads_.append(grad)
        columns += [grads_]

    # b_sq += norm(grad, over=model)**2
    b_sq_total = torch.linalg.vector_norm(_stacked(b_sq_parts))
    b_sq.addcmul_(b_sq_total, b_sq_total)

    for group, columns in groups:
        lr = group["lr"]
        params, grads, grads_ = columns
        for p, grad in zip(params, grads_, strict=True):
            if torch.is_complex(p):
                p = torch.view_as_real(p)

            # p -= lr*grad/sqrt(b_sq)
            p.addcdiv_(grad, b_sq.sqrt(), value=-lr)


def _multi_tensor_ada_grad_norm(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads."""
    batches = []
    for group, (params, grads) in groups:
        columns = [params, grads]
        batches.append((group, _alike(columns)))
    (group, _), *_ = groups
    b_sq = group["b_sq"]

    b_sq_parts: list[Tensor] = []
    for group, rows in batches:
        weight_decay = float(group["weight_decay"])
        for columns in rows:
            params, grads = columns
            given = grads
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                grads = [torch.view_as_real(each) for each in grads]
                given = grads
            if weight_decay != 0:
                # grad += weight_decay*p
                if grads is given:
                    grads = torch._foreach_add(grads, params, alpha=weight_decay)
                else:
                    torch._foreach_add_(grads, params, alpha=weight_decay)

            # b_sq += norm(grad, over=model)**2
            b_sq_parts += torch._foreach_norm(grads)
            columns += [grads]

    # b_sq += norm(grad, over=model)**2
    b_sq_total = torch.linalg.vector_norm(_stacked(b_sq_parts))
    b_sq.addcmul_(b_sq_total, b_sq_total)

    for group, rows in batches:
        lr = float(group["lr"])
        for columns in rows:
            params, grads, grads = columns
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]

            # p -= lr*grad/sqrt(b_sq)
            scale = b_sq.sqrt()
            quotients = torch._foreach_div(grads, scale)
            torch._foreach_add_(params, quotients, alpha=-lr)


def _multi_tensor_ada_grad_norm_capturable(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads."""
    batches = []
    for group, (params, grads) in groups:
        columns = [params, grads]
        batches.append((group, _alike(columns)))
    (group, _), *_ = groups
    b_sq = group["b_sq"]

    b_sq_parts: list[Tensor] = []
    for group, rows in batches:
        weight_decay = group["weight_decay"]
        for columns in rows:
            params, grads = columns
            given = grads
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                grads = [torch.view_as_real(each) for each in grads]
                given = grads
            if weight_decay != 0:
                # grad += weight_decay*p
                products = torch._foreach_mul(params, weight_decay)
                if grads is given:
                    grads = torch._foreach_add(grads, products)
                else:
                    torch._foreach_add_(grads, products)

            # b_sq += norm(grad, over=model)**2
            b_sq_parts += torch._foreach_norm(grads)
            columns += [grads]

    # b_sq += norm(grad, over=model)**2
    b_sq_total = torch.linalg.vector_norm(_stacked(b_sq_parts))
    b_sq.addcmul_(b_sq_total, b_sq_total)

    for group, rows in batches:
        lr = group["lr"]
        for columns in rows:
            params, grads, grads = columns
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]

            # p -= lr*grad/sqrt(b_sq)
            scale = b_sq.sqrt()
            quotients = torch._foreach_div(grads, scale)
            products = torch._foreach_mul(quotients, -lr)
            torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["weight_decay"]]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads = columns
        launch.add(
            group,
            columns,
            elements=[params, grads],
            numbers=[[group["b_sq"]] * len(params)],
        )
    return launch.run()


_CPU = r"""// AdaGradNorm in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    b_sq_t *b_sq;
    double lr;
    double weight_decay;
    bool maximize, weight_decay_is_not_0;
};

// What is worked out once a tensor.
struct Numbers {
    double b_sq, b_sq_part, b_sq_total, root;
};

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double b_sq_part = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad);
        #pragma omp simd reduction(+: b_sq_part)
        for (int64_t i = at; i < to; ++i) {
            const real p = load(row.p[i]);
            real grad = (row.maximize ? -1 : 1) * real(load(row.grad[i]));
            if (row.weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // b_sq += norm(grad, over=model)**2
            b_sq_part += square_(double(grad));
        }
    }
    sums[0] = b_sq_part;
}

static void numbers_1(const Row &row, Numbers &n) {
    // b_sq += norm(grad, over=model)**2
    n.b_sq = n.b_sq + std::pow(n.b_sq_total, 2.0);
    // sqrt(b_sq)
    n.root = sqrt_(n.b_sq);
}

static void pass_2(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (row.maximize ? -1 : 1) * real(load(row.grad[i]));
            if (row.weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // p -= lr*grad/sqrt(b_sq)
            p = p - real(row.lr) * grad * real(1.0 / n.root);
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_ada_grad_norm(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.b_sq = (b_sq_t *)table->columns[2][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.lr = *hyper++;
        row.weight_decay = *hyper++;
        row.maximize = *hyper++ != 0;
        row.weight_decay_is_not_0 = *hyper++ != 0;
        numbers[at].b_sq = load(*row.b_sq);
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    std::vector<double> parts(1 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[1 * at]);
    });
    const auto sums = gathered<1>(
        *table, chunks, parts, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].b_sq_part = std::sqrt(sums[1 * at + 0]);
    }
    // norm(grad, over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].b_sq_part *
               numbers[at].b_sq_part); },
           [&](int64_t at, double value, double count) {
               numbers[at].b_sq_total = std::sqrt(value);
           });
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_1(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].b_sq, numbers[at].b_sq);
    }
    return 0;
}
"""

_CUDA = r"""# AdaGradNorm in 2 passes over memory.

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
    number,
    overflowed,
    spread,
    square,
    squares_of,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "b_sq_t")
OPTIONS = ()


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, numbers, found_inf,
    b_sq_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    b_sq = number(columns, rows, row, 2, b_sq_t)
    tl.store(n + 1 * rows, b_sq)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, group, hypers, parts, found_inf,
    grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
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
    of = hypers + 4 * tl.load(group + row)
    weight_decay = tl.load(of + 1)
    maximize = tl.load(of + 2) != 0
    weight_decay_is_not_0 = tl.load(of + 3) != 0
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # b_sq += norm(grad, over=model)**2
    b_sq_part = total(square(grad.to(tl.float64)), i, left)
    tl.store(parts + 0 * chunks + chunk, b_sq_part)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    rows, chunks, starts, numbers, parts, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # b_sq += norm(grad, over=model)**2
    b_sq_part = tl.sqrt(sum_of(parts + 0 * chunks, begin, end))
    tl.store(n + 0 * rows, b_sq_part)


@triton.jit(do_not_specialize=["rows"])
def across_1(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # norm(grad, over=model)
    b_sq_total = tl.sqrt(squares_of(numbers + 0 * rows, begin, end))
    spread(numbers + 2 * rows, begin, end, b_sq_total)


@triton.jit(do_not_specialize=["rows"])
def numbers_3(
    columns, rows, numbers, found_inf,
    b_sq_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    b_sq = tl.load(n + 1 * rows)
    b_sq_total = tl.load(n + 2 * rows)
    # b_sq += norm(grad, over=model)**2
    b_sq = b_sq + libdevice.pow(b_sq_total, double(2.0))
    # sqrt(b_sq)
    root = tl.sqrt(b_sq)
    tl.store(n + 3 * rows, root)
    keep_number(columns, rows, row, 2, b_sq_t, b_sq)


@triton.jit(do_not_specialize=["rows"])
def pass_2(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
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
    weight_decay = tl.load(of + 1)
    maximize = tl.load(of + 2) != 0
    weight_decay_is_not_0 = tl.load(of + 3) != 0
    root = tl.load(n + 3 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # p -= lr*grad/sqrt(b_sq)
    p = p - lr.to(real) * grad / root.to(real)
    keep(p_at, i, left, p)


def launch(x):
    x.numbers = x.new(4 * x.rows)
    x.each_row(numbers_1)
    x.parts = x.new(1 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.once(across_1)
    x.each_row(numbers_3)
    x.each_chunk(pass_2)
"""

_KERNELS = _Kernel and _Kernel(
    "step_ada_grad_norm",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad"),
    numbers=("b_sq",),
    options=("maximize", "weight_decay_is_not_0"),
    together=True,
    cuda=_CUDA,
    scaled=True,
)
