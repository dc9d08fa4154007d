"""LARS: momentum whose gradient is scaled to the norm of its layer.

You, Gitman and Ginsburg (2017), Large Batch Training of Convolutional Networks,
https://arxiv.org/abs/1708.03888
Follows the paper, but that lr stands outside the momentum and that biases and gains,
of one axis at most, neither scale nor decay, as in MoCo v3 and pytorch_optimizer. MoCo
v3 divides by the norm of gradient and decay together; timm scales only what decays.
"""
# Compiled by optdsl from lars.opt, content 15487838722f.

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

__all__ = ["LARS"]


class LARS(Optimizer):
    """LARS: momentum whose gradient is scaled to the norm of its layer.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        momentum (float, optional): decay of the momentum, in [0, 1) (default: 0.9).
        weight_decay (float, optional): L2 penalty, in [0, inf) (default: 0).
        trust_coefficient (float, optional): share of its norm by which a layer moves,
            times lr, in [0, inf) (default: 1e-3).
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
        momentum_buffer: like p.

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0,
        trust_coefficient: float = 1e-3,
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
            "trust_coefficient": trust_coefficient,
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
            group.setdefault("momentum", 0.9)
            group.setdefault("weight_decay", 0)
            group.setdefault("trust_coefficient", 1e-3)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "momentum", "weight_decay", "trust_coefficient"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffers: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("LARS does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("LARS does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["momentum_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            momentum_buffers.append(state["momentum_buffer"])

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
            momentum_buffers: list[Tensor] = []
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
            update = _multi_tensor_lars if use_foreach else _single_tensor_lars
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_lars_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_lars
            update(
                params,
                grads,
                momentum_buffers,
                lr=group["lr"],
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                trust_coefficient=group["trust_coefficient"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    weight_decay = group["weight_decay"]
    trust_coefficient = group["trust_coefficient"]
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
    _check_number("trust_coefficient", trust_coefficient)
    if not 0 <= trust_coefficient < math.inf:
        raise ValueError(
            f"Invalid trust_coefficient: {trust_coefficient!r}, "
            f"expected a number in [0, inf)"
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


def _single_tensor_lars(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        if p.ndim > 1:
            # p_norm = norm(p)
            p_norm = torch.linalg.vector_norm(p)

            # total = norm(grad) + weight_decay*p_norm
            total = torch.linalg.vector_norm(grad).add(p_norm, alpha=weight_decay)

            # ratio = trust_coefficient*p_norm/total if p_norm > 0 and total > 0 else 1
            ratio = torch.where(
                torch.logical_and(p_norm > 0, total > 0),
                p_norm * trust_coefficient / total,
                1,
            )

            # grad = ratio*(grad + weight_decay*p)
            grad = grad.add(p, alpha=weight_decay).mul_(ratio)

        # momentum_buffer = momentum*momentum_buffer + grad
        momentum_buffer.mul_(momentum).add_(grad)

        # p -= lr*momentum_buffer
        p.add_(momentum_buffer, alpha=-lr)


def _multi_tensor_lars(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, weight_decay, trust_coefficient = map(
        float, (lr, momentum, weight_decay, trust_coefficient)
    )

    columns = [params, grads, momentum_buffers]
    keys = [p.ndim for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        if params[0].ndim > 1:
            # p_norm = norm(p)
            p_norms = torch._foreach_norm(params)

            # total = norm(grad) + weight_decay*p_norm
            norms = torch._foreach_norm(grads)
            totals = torch._foreach_add(norms, p_norms, alpha=weight_decay)

            # ratio = trust_coefficient*p_norm/total if p_norm > 0 and total > 0 else 1
            products = torch._foreach_mul(p_norms, trust_coefficient)
            quotients = torch._foreach_div(products, totals)
            ratios = [
                torch.where(torch.logical_and(p_norm > 0, total > 0), quotient, 1)
                for p_norm, total, quotient in zip(
                    p_norms, totals, quotients, strict=True
                )
            ]

            # grad = ratio*(grad + weight_decay*p)
            if grads is given:
                sums = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
                sums = grads
            torch._foreach_mul_(sums, ratios)
            grads = sums

        # momentum_buffer = momentum*momentum_buffer + grad
        torch._foreach_mul_(momentum_buffers, momentum)
        torch._foreach_add_(momentum_buffers, grads)

        # p -= lr*momentum_buffer
        torch._foreach_add_(params, momentum_buffers, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_lars(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, momentum_buffer)
        p, momentum_buffer = (each.clone() for each in kept)
        if p.ndim > 1:
            # p_norm = norm(p)
            p_norm = torch.linalg.vector_norm(p)

            # total = norm(grad) + weight_decay*p_norm
            total = _scaled_add(torch.linalg.vector_norm(grad), p_norm, weight_decay)

            # ratio = trust_coefficient*p_norm/total if p_norm > 0 and total > 0 else 1
            ratio = torch.where(
                torch.logical_and(p_norm > 0, total > 0),
                p_norm * trust_coefficient / total,
                1,
            )

            # grad = ratio*(grad + weight_decay*p)
            grad = _scaled_add(grad, p, weight_decay) * ratio

        # momentum_buffer = momentum*momentum_buffer + grad
        momentum_buffer = momentum_buffer * momentum + grad

        # p -= lr*momentum_buffer
        p = _scaled_add(p, momentum_buffer, -lr)

        for each, new in zip(kept, (p, momentum_buffer), strict=True):
            each.copy_(new)


def _multi_tensor_lars_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float,
    maximize: bool,
) -> None:
    columns = [params, grads, momentum_buffers]
    keys = [p.ndim for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        if params[0].ndim > 1:
            # p_norm = norm(p)
            p_norms = torch._foreach_norm(params)

            # total = norm(grad) + weight_decay*p_norm
            norms = torch._foreach_norm(grads)
            products = torch._foreach_mul(p_norms, weight_decay)
            totals = torch._foreach_add(norms, products)

            # ratio = trust_coefficient*p_norm/total if p_norm > 0 and total > 0 else 1
            products = torch._foreach_mul(p_norms, trust_coefficient)
            quotients = torch._foreach_div(products, totals)
            ratios = [
                torch.where(torch.logical_and(p_norm > 0, total > 0), quotient, 1)
                for p_norm, total, quotient in zip(
                    p_norms, totals, quotients, strict=True
                )
            ]

            # grad = ratio*(grad + weight_decay*p)
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                sums = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)
                sums = grads
            del products
            torch._foreach_mul_(sums, ratios)
            grads = sums
            del sums

        # momentum_buffer = momentum*momentum_buffer + grad
        torch._foreach_mul_(momentum_buffers, momentum)
        torch._foreach_add_(momentum_buffers, grads)
        del grads

        # p -= lr*momentum_buffer
        products = torch._foreach_mul(momentum_buffers, -lr)
        torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["momentum"],
        group["weight_decay"],
        group["trust_coefficient"],
    ]
    options = [group["maximize"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, momentum_buffers = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, momentum_buffers],
            numbers=[],
            asked=[[p.ndim for p in params]],
        )
    return launch.run()


_CPU = r"""// LARS in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    double lr;
    double momentum;
    double weight_decay;
    double trust_coefficient;
    double ndim;
};

// What is worked out once a tensor.
struct Numbers {
    double p_norm, norm, total, ratio;
};

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double p_norm = 0;
    double norm = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad);
        #pragma omp simd reduction(+: p_norm, norm)
        for (int64_t i = at; i < to; ++i) {
            const real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            if (row.ndim > 1.0) {
                // p_norm = norm(p)
                p_norm += square_(double(p));
                // norm(grad)
                norm += square_(double(grad));
            }
        }
    }
    sums[0] = p_norm;
    sums[1] = norm;
}

static void numbers_1(const Row &row, Numbers &n) {
    if (row.ndim > 1.0) {
        // total = norm(grad) + weight_decay*p_norm
        n.total = n.norm + row.weight_decay * n.p_norm;
        // ratio = trust_coefficient*p_norm/total if p_norm > 0 and total > 0 else 1
        n.ratio = n.p_norm > 0.0 && n.total > 0.0 ? row.trust_coefficient * n.p_norm /
            n.total : 1.0;
    }
}

static void pass_2(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::momentum_buffer);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real momentum_buffer = load(row.momentum_buffer[i]);
            if (row.ndim > 1.0) {
                // grad = ratio*(grad + weight_decay*p)
                grad = real(n.ratio) * (grad + real(row.weight_decay) * p);
            }
            // momentum_buffer = momentum*momentum_buffer + grad
            momentum_buffer = real(row.momentum) * momentum_buffer + grad;
            // p -= lr*momentum_buffer
            p = p - real(row.lr) * momentum_buffer;
            store(row.p[i], p);
            store(row.momentum_buffer[i], momentum_buffer);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_lars(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[2][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.lr = *hyper++;
        row.momentum = *hyper++;
        row.weight_decay = *hyper++;
        row.trust_coefficient = *hyper++;
        row.ndim = table->asked[at];
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    std::vector<double> parts(2 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[2 * at]);
    });
    const auto sums = gathered<2>(
        *table, chunks, parts, {0, 0},
        {added, added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].p_norm = std::sqrt(sums[2 * at + 0]);
        numbers[at].norm = std::sqrt(sums[2 * at + 1]);
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_1(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# LARS in 2 passes over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    keep,
    overflowed,
    square,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, asked, parts, found_inf, grad_scale,
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
    ndim = tl.load(asked + 0 * rows + row)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    p_norm = double(0.0)
    norm = double(0.0)
    if ndim > 1.0:
        # p_norm = norm(p)
        p_norm = p_norm + total(square(p.to(tl.float64)), i, left)
        # norm(grad)
        norm = norm + total(square(grad.to(tl.float64)), i, left)
    tl.store(parts + 0 * chunks + chunk, p_norm)
    tl.store(parts + 1 * chunks + chunk, norm)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_1(
    rows, chunks, starts, group, hypers, asked, numbers, parts, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 4 * tl.load(group + row)
    weight_decay = tl.load(of + 2)
    trust_coefficient = tl.load(of + 3)
    ndim = tl.load(asked + 0 * rows + row)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # p_norm = norm(p)
    p_norm = tl.sqrt(sum_of(parts + 0 * chunks, begin, end))
    # norm(grad)
    norm = tl.sqrt(sum_of(parts + 1 * chunks, begin, end))
    ratio = double(0.0)
    if ndim > 1.0:
        # total = norm(grad) + weight_decay*p_norm
        total_ = norm + weight_decay * p_norm
        # ratio = trust_coefficient*p_norm/total if p_norm > 0 and total > 0 else 1
        ratio = tl.where(
            p_norm > 0.0 and total_ > 0.0,
            trust_coefficient * p_norm / total_,
            double(1.0),
        )
    tl.store(n + 0 * rows, ratio)


@triton.jit(do_not_specialize=["rows"])
def pass_2(
    columns, rows, row_of, starts, numel, group, hypers, asked, numbers, found_inf,
    grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
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
    of = hypers + 4 * tl.load(group + row)
    lr = tl.load(of + 0)
    momentum = tl.load(of + 1)
    weight_decay = tl.load(of + 2)
    ndim = tl.load(asked + 0 * rows + row)
    ratio = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, left, real)
    if ndim > 1.0:
        # grad = ratio*(grad + weight_decay*p)
        grad = ratio.to(real) * (grad + weight_decay.to(real) * p)
    # momentum_buffer = momentum*momentum_buffer + grad
    momentum_buffer = momentum.to(real) * momentum_buffer + grad
    # p -= lr*momentum_buffer
    p = p - lr.to(real) * momentum_buffer
    keep(p_at, i, left, p)
    keep(momentum_buffer_at, i, left, momentum_buffer)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.parts = x.new(2 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_1)
    x.each_chunk(pass_2)
"""

_KERNELS = _Kernel and _Kernel(
    "step_lars",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "momentum_buffer"),
    options=("maximize",),
    cuda=_CUDA,
    scaled=True,
)
