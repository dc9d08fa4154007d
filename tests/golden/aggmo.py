"""AggMo: the mean of several momenta, each with a decay of its own.

Lucas, Sun, Zemel and Grosse (2019), Aggregated Momentum: Stability Through Passive
Damping, https://arxiv.org/abs/1804.00325
Follows the authors' code, https://github.com/AtheMathmo/AggMo

That code, and pytorch_optimizer, keep the buffers by the value of beta, so that equal
betas share one and decay it twice; here, as in the paper, each has its own.

l2_decay: Weight decay by way of the gradient: an L2 penalty.

Krogh and Hertz (1991), A Simple Weight Decay Can Improve Generalization,
https://papers.nips.cc/paper/563-a-simple-weight-decay-can-improve-generalization
"""
# Compiled by optdsl from aggmo.opt, content 75a599690184.

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

__all__ = ["AggMo"]


class AggMo(Optimizer):
    """AggMo: the mean of several momenta, each with a decay of its own.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        betas (tuple[float, ...], optional): decay of each momentum, in [0, 1) (default:
            (0.0, 0.9, 0.99)).
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
        momentum_buffer_{i}, for i in range(len(betas)): momentum with betas[i] (like
            p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, ...] = (0.0, 0.9, 0.99),
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
            group.setdefault("lr", 1e-3)
            group.setdefault("betas", (0.0, 0.9, 0.99))
            group.setdefault("weight_decay", 0)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "betas", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffers: list[list[Tensor]],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("AggMo does not support sparse gradients")
            state = self.state[p]
            for i in range(len(group["betas"])):
                if f"momentum_buffer_{i}" not in state:
                    state[f"momentum_buffer_{i}"] = torch.zeros_like(
                        p, memory_format=torch.preserve_format
                    )
            params.append(p)
            grads.append(grad)
            momentum_buffers.append(
                [state[f"momentum_buffer_{i}"] for i in range(len(group["betas"]))]
            )

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
            momentum_buffers: list[list[Tensor]] = []
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
            update = _multi_tensor_agg_mo if use_foreach else _single_tensor_agg_mo
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_agg_mo_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_agg_mo
            update(
                params,
                grads,
                momentum_buffers,
                lr=group["lr"],
                betas=group["betas"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_tuple("betas", betas)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected numbers in [0, 1)")
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


def _check_tuple(name: str, values: Any) -> None:
    """Raise where a value is no tuple of one number or more."""
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"Invalid {name}: {values!r}, expected numbers")
    if not values:
        raise ValueError(f"Invalid {name}: {values!r}, expected numbers")
    for value in values:
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


def _single_tensor_agg_mo(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[list[Tensor]],
    *,
    lr: float,
    betas: tuple[float, ...],
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad = map(torch.view_as_real, (p, grad))
            momentum_buffer = [torch.view_as_real(each) for each in momentum_buffer]
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        for i in range(len(betas)):
            # momentum_buffer[i] = betas[i]*momentum_buffer[i] + grad
            momentum_buffer[i].mul_(betas[i]).add_(grad)

            # p -= lr/len(betas)*momentum_buffer[i]
            p.add_(momentum_buffer[i], alpha=-lr / len(betas))


def _multi_tensor_agg_mo(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[list[Tensor]],
    *,
    lr: float,
    betas: tuple[float, ...],
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, weight_decay = map(float, (lr, weight_decay))
    betas = tuple(map(float, betas))

    columns = [params, grads, momentum_buffers]
    for params, grads, momentum_buffers in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            momentum_buffers = [
                [torch.view_as_real(each) for each in momentum_buffer]
                for momentum_buffer in momentum_buffers
            ]
            given = grads
        if weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        for i in range(len(betas)):
            # momentum_buffer[i] = betas[i]*momentum_buffer[i] + grad
            torch._foreach_mul_([each[i] for each in momentum_buffers], betas[i])
            torch._foreach_add_([each[i] for each in momentum_buffers], grads)

            # p -= lr/len(betas)*momentum_buffer[i]
            torch._foreach_add_(
                params, [each[i] for each in momentum_buffers], alpha=-lr / len(betas)
            )


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_agg_mo(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[list[Tensor]],
    *,
    lr: float,
    betas: tuple[float, ...],
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, *momentum_buffer)
        p = p.clone()
        momentum_buffer = [each.clone() for each in momentum_buffer]
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad = map(torch.view_as_real, (p, grad))
            momentum_buffer = [torch.view_as_real(each) for each in momentum_buffer]
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        for i in range(len(betas)):
            # momentum_buffer[i] = betas[i]*momentum_buffer[i] + grad
            momentum_buffer[i] = momentum_buffer[i] * betas[i] + grad

            # p -= lr/len(betas)*momentum_buffer[i]
            p = _scaled_add(p, momentum_buffer[i], -lr / len(betas))
        if is_complex:
            p = torch.view_as_complex(p)
            momentum_buffer = [torch.view_as_complex(each) for each in momentum_buffer]

        for each, new in zip(kept, (p, *momentum_buffer), strict=True):
            each.copy_(new)


def _multi_tensor_agg_mo_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[list[Tensor]],
    *,
    lr: float,
    betas: tuple[float, ...],
    weight_decay: float,
    maximize: bool,
) -> None:
    columns = [params, grads, momentum_buffers]
    for params, grads, momentum_buffers in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            momentum_buffers = [
                [torch.view_as_real(each) for each in momentum_buffer]
                for momentum_buffer in momentum_buffers
            ]
            given = grads
        if weight_decay != 0:
            # grad += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)
            del products
        for i in range(len(betas)):
            # momentum_buffer[i] = betas[i]*momentum_buffer[i] + grad
            torch._foreach_mul_([each[i] for each in momentum_buffers], betas[i])
            torch._foreach_add_([each[i] for each in momentum_buffers], grads)

            # p -= lr/len(betas)*momentum_buffer[i]
            products = torch._foreach_mul(
                [each[i] for each in momentum_buffers], -lr / len(betas)
            )
            torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], *group["betas"], group["weight_decay"]]
    options = [group["maximize"], group["weight_decay"] != 0, len(group["betas"])]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, momentum_buffers = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, *zip(*momentum_buffers, strict=True)],
            numbers=[],
        )
    return launch.run()


_CPU = r"""// AggMo in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer[betas_length];
    double lr;
    double betas[betas_length];
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double quotient;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // lr/len(betas)
    n.quotient = row.lr / double(betas_length);
    return are_finite(n.quotient);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real momentum_buffer[betas_length];
            #pragma GCC unroll 64
            for (int entry = 0; entry < betas_length; ++entry)
                momentum_buffer[entry] = load(row.momentum_buffer[entry][i]);
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            #pragma GCC unroll 64
            for (int i_ = 0; i_ < betas_length; ++i_) {
                // momentum_buffer[i] = betas[i]*momentum_buffer[i] + grad
                momentum_buffer[i_] = real(row.betas[i_]) * momentum_buffer[i_] + grad;
                // p -= lr/len(betas)*momentum_buffer[i]
                p = p - real(n.quotient) * momentum_buffer[i_];
            }
            store(row.p[i], p);
            #pragma GCC unroll 64
            for (int entry = 0; entry < betas_length; ++entry)
                store(row.momentum_buffer[entry][i], momentum_buffer[entry]);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_agg_mo(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        for (int entry = 0; entry < betas_length; ++entry)
            row.momentum_buffer[entry] = (momentum_buffer_t *)table->columns[2 +
                entry][at];
        const double *hyper = table->hypers + (2 + betas_length) * table->group[at];
        row.lr = *hyper++;
        for (double &each : row.betas) each = *hyper++;
        row.weight_decay = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# AggMo in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    keep,
    overflowed,
)
from optdsl.runtime.entries import (
    each_column,
    each_element,
    each_left,
    each_number,
    keep_each,
    put,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "betas_length")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    rows, group, hypers, numbers, found_inf,
    betas_length: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + (2 + betas_length) * tl.load(group + row)
    lr = tl.load(of + 0)
    # lr/len(betas)
    quotient = lr / double(betas_length)
    tl.store(n + 0 * rows, quotient)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    betas_length: tl.constexpr,
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
    of = hypers + (2 + betas_length) * tl.load(group + row)
    betas = each_number(of + 1, 1, betas_length)
    weight_decay = tl.load(of + 1 + betas_length)
    quotient = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = each_column(
        columns, rows, row, 2, momentum_buffer_t, aligned, begin, betas_length
    )
    momentum_buffer_left = each_left(columns, rows, row, 2, left, betas_length)
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = each_element(momentum_buffer_at, i, momentum_buffer_left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    for i_ in tl.static_range(betas_length):
        # momentum_buffer[i] = betas[i]*momentum_buffer[i] + grad
        momentum_buffer = put(
            momentum_buffer, i_, betas[i_].to(real) * momentum_buffer[i_] + grad
        )
        # p -= lr/len(betas)*momentum_buffer[i]
        p = p - quotient.to(real) * momentum_buffer[i_]
    keep(p_at, i, left, p)
    keep_each(momentum_buffer_at, i, momentum_buffer_left, momentum_buffer)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_agg_mo",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "momentum_buffer"),
    options=("maximize", "weight_decay_is_not_0"),
    counts=("betas_length",),
    lists={"momentum_buffer": "betas_length"},
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
