"""AccSGD: accelerated SGD, a short step averaged with long ones.

Kidambi et al. (2018), On the Insufficiency of Existing Momentum Schemes for Stochastic
Optimization, https://arxiv.org/abs/1803.05591
Follows the authors' code, https://github.com/rahulkidambi/AccSGD, which has no default
for lr; pytorch_optimizer is the same, with `constant` for small_const.

l2_decay: Weight decay by way of the gradient: an L2 penalty.

Krogh and Hertz (1991), A Simple Weight Decay Can Improve Generalization,
https://papers.nips.cc/paper/563-a-simple-weight-decay-can-improve-generalization
"""
# Compiled by optdsl from accsgd.opt, content a77fd22d62b5.

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

__all__ = ["AccSGD"]


class AccSGD(Optimizer):
    """AccSGD: accelerated SGD, a short step averaged with long ones.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): short step, in [0, inf) (default: 1e-3).
        kappa (float, optional): long step, as a multiple of the short one, in (0, inf)
            (default: 1000).
        xi (float, optional): statistical advantage over SGD, in [0, inf) (default: 10).
        small_const (float, optional): a constant of at most 1, in (0, 1] (default:
            0.7).
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
        momentum_buffer: average of the iterates of the long step (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        kappa: float = 1000,
        xi: float = 10,
        small_const: float = 0.7,
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
            "kappa": kappa,
            "xi": xi,
            "small_const": small_const,
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
            group.setdefault("kappa", 1000)
            group.setdefault("xi", 10)
            group.setdefault("small_const", 0.7)
            group.setdefault("weight_decay", 0)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "kappa", "xi", "small_const", "weight_decay"):
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
                raise RuntimeError("AccSGD does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["momentum_buffer"] = p.clone(memory_format=torch.preserve_format)
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
            update = _multi_tensor_accsgd if use_foreach else _single_tensor_accsgd
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_accsgd_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_accsgd
            update(
                params,
                grads,
                momentum_buffers,
                lr=group["lr"],
                kappa=group["kappa"],
                xi=group["xi"],
                small_const=group["small_const"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    kappa = group["kappa"]
    xi = group["xi"]
    small_const = group["small_const"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("kappa", kappa)
    if not 0 < kappa < math.inf:
        raise ValueError(f"Invalid kappa: {kappa!r}, expected a number in (0, inf)")
    _check_number("xi", xi)
    if not 0 <= xi < math.inf:
        raise ValueError(f"Invalid xi: {xi!r}, expected a number in [0, inf)")
    _check_number("small_const", small_const)
    if not 0 < small_const <= 1:
        raise ValueError(
            f"Invalid small_const: {small_const!r}, expected a number in (0, 1]"
        )
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if not small_const**2 * xi <= kappa:
        raise ValueError(
            "the advantage is at most kappa/small_const**2 "
            f"(got small_const={small_const!r}, xi={xi!r}, kappa={kappa!r})"
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


def _single_tensor_accsgd(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    kappa: float,
    xi: float,
    small_const: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    beta = small_const**2 * xi / kappa
    zeta = small_const / (small_const + beta)

    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad, momentum_buffer = map(
                torch.view_as_real, (p, grad, momentum_buffer)
            )
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # momentum_buffer = lerp(momentum_buffer, p - lr*kappa/small_const*grad, beta)
        momentum_buffer.lerp_(p.add(grad, alpha=-lr * kappa / small_const), beta)

        # p = lerp(p - lr*grad, momentum_buffer, 1 - zeta)
        p.add_(grad, alpha=-lr).lerp_(momentum_buffer, 1 - zeta)


def _multi_tensor_accsgd(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    kappa: float,
    xi: float,
    small_const: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, kappa, xi, small_const, weight_decay = map(
        float, (lr, kappa, xi, small_const, weight_decay)
    )
    beta = small_const**2 * xi / kappa
    zeta = small_const / (small_const + beta)

    columns = [params, grads, momentum_buffers]
    for params, grads, momentum_buffers in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            momentum_buffers = [torch.view_as_real(each) for each in momentum_buffers]
            given = grads
        if weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)

        # momentum_buffer = lerp(momentum_buffer, p - lr*kappa/small_const*grad, beta)
        sums = torch._foreach_add(params, grads, alpha=-lr * kappa / small_const)
        torch._foreach_lerp_(momentum_buffers, sums, beta)

        # p = lerp(p - lr*grad, momentum_buffer, 1 - zeta)
        torch._foreach_add_(params, grads, alpha=-lr)
        torch._foreach_lerp_(params, momentum_buffers, 1 - zeta)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_accsgd(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    kappa: float,
    xi: float,
    small_const: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    beta = small_const**2 * xi / kappa
    zeta = small_const / (small_const + beta)

    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, momentum_buffer)
        p, momentum_buffer = (each.clone() for each in kept)
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, momentum_buffer = map(
                torch.view_as_real, (p, grad, momentum_buffer)
            )
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # momentum_buffer = lerp(momentum_buffer, p - lr*kappa/small_const*grad, beta)
        momentum_buffer = momentum_buffer.lerp(
            _scaled_add(p, grad, -lr * kappa / small_const), beta
        )

        # p = lerp(p - lr*grad, momentum_buffer, 1 - zeta)
        p = _scaled_add(p, grad, -lr).lerp(momentum_buffer, 1 - zeta)
        if is_complex:
            p, momentum_buffer = map(torch.view_as_complex, (p, momentum_buffer))

        for each, new in zip(kept, (p, momentum_buffer), strict=True):
            each.copy_(new)


def _multi_tensor_accsgd_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    kappa: float,
    xi: float,
    small_const: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    beta = small_const**2 * xi / kappa
    zeta = small_const / (small_const + beta)

    columns = [params, grads, momentum_buffers]
    for params, grads, momentum_buffers in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            momentum_buffers = [torch.view_as_real(each) for each in momentum_buffers]
            given = grads
        if weight_decay != 0:
            # grad += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)
            del products

        # momentum_buffer = lerp(momentum_buffer, p - lr*kappa/small_const*grad, beta)
        products = torch._foreach_mul(grads, -lr * kappa / small_const)
        sums = torch._foreach_add(params, products)
        del products
        torch._foreach_lerp_(momentum_buffers, sums, beta)
        del sums

        # p = lerp(p - lr*grad, momentum_buffer, 1 - zeta)
        products = torch._foreach_mul(grads, -lr)
        torch._foreach_add_(params, products)
        torch._foreach_lerp_(params, momentum_buffers, 1 - zeta)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["kappa"],
        group["xi"],
        group["small_const"],
        group["weight_decay"],
    ]
    options = [group["maximize"], group["weight_decay"] != 0]
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
        )
    return launch.run()


_CPU = r"""// AccSGD in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    double lr;
    double kappa;
    double xi;
    double small_const;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double beta, zeta, quotient;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta = small_const**2*xi/kappa
    n.beta = std::pow(row.small_const, 2.0) * row.xi / row.kappa;
    // zeta = small_const/(small_const + beta)
    n.zeta = row.small_const / (row.small_const + n.beta);
    // lr*kappa/small_const
    n.quotient = row.lr * row.kappa / row.small_const;
    return are_finite(n.beta, n.zeta, n.quotient);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::momentum_buffer);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real momentum_buffer = load(row.momentum_buffer[i]);
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // momentum_buffer = lerp(momentum_buffer, p - lr*kappa/small_const*grad,
            //     beta)
            momentum_buffer = lerp_(momentum_buffer, p - real(n.quotient) * grad,
                real(n.beta));
            // p = lerp(p - lr*grad, momentum_buffer, 1 - zeta)
            p = lerp_(p - real(row.lr) * grad, momentum_buffer, real(1.0 - n.zeta));
            store(row.p[i], p);
            store(row.momentum_buffer[i], momentum_buffer);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_accsgd(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[2][at];
        const double *hyper = table->hypers + 5 * table->group[at];
        row.lr = *hyper++;
        row.kappa = *hyper++;
        row.xi = *hyper++;
        row.small_const = *hyper++;
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

_CUDA = r"""# AccSGD in one pass over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    keep,
    lerp,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t")
OPTIONS = ("maximize", "weight_decay_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    rows, group, hypers, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 5 * tl.load(group + row)
    lr = tl.load(of + 0)
    kappa = tl.load(of + 1)
    xi = tl.load(of + 2)
    small_const = tl.load(of + 3)
    # beta = small_const**2*xi/kappa
    beta = libdevice.pow(small_const, double(2.0)) * xi / kappa
    # zeta = small_const/(small_const + beta)
    zeta = small_const / (small_const + beta)
    # lr*kappa/small_const
    quotient = lr * kappa / small_const
    tl.store(n + 0 * rows, beta)
    tl.store(n + 1 * rows, quotient)
    tl.store(n + 2 * rows, zeta)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
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
    of = hypers + 5 * tl.load(group + row)
    lr = tl.load(of + 0)
    weight_decay = tl.load(of + 4)
    beta = tl.load(n + 0 * rows)
    quotient = tl.load(n + 1 * rows)
    zeta = tl.load(n + 2 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # momentum_buffer = lerp(momentum_buffer, p - lr*kappa/small_const*grad,
    #     beta)
    momentum_buffer = lerp(momentum_buffer, p - quotient.to(real) * grad, beta.to(real))
    # p = lerp(p - lr*grad, momentum_buffer, 1 - zeta)
    p = lerp(p - lr.to(real) * grad, momentum_buffer, (1.0 - zeta).to(real))
    keep(p_at, i, left, p)
    keep(momentum_buffer_at, i, left, momentum_buffer)


def launch(x):
    x.numbers = x.new(3 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_accsgd",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "momentum_buffer"),
    options=("maximize", "weight_decay_is_not_0"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
