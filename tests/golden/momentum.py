"""SGD with heavy-ball momentum.

Polyak (1964), Some methods of speeding up the convergence of iteration methods.

Reference: torch.optim.SGD
"""
# Compiled by optdsl from momentum.opt, content 4e36b5956a47.

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

__all__ = ["Momentum"]


class Momentum(Optimizer):
    """SGD with heavy-ball momentum.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        momentum (float, optional): how much of the last update stays, in [0, 1)
            (default: 0.9).
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
        buf: the running sum of gradients (like p).

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
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "momentum"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        bufs: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Momentum does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["buf"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            params.append(p)
            grads.append(grad)
            bufs.append(state["buf"])

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
            bufs: list[Tensor] = []
            self._init_group(group, params, grads, bufs)
            groups.append((group, [params, grads, bufs]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, bufs = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_momentum if use_foreach else _single_tensor_momentum
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_momentum_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_momentum
            update(
                params,
                grads,
                bufs,
                lr=group["lr"],
                momentum=group["momentum"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"Invalid momentum: {momentum!r}, expected a number in [0, 1)")
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


def _single_tensor_momentum(
    params: list[Tensor],
    grads: list[Tensor],
    bufs: list[Tensor],
    *,
    lr: float,
    momentum: float,
    maximize: bool,
) -> None:
    for p, grad, buf in zip(params, grads, bufs, strict=True):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad, buf = map(torch.view_as_real, (p, grad, buf))

        # buf = momentum*buf + grad
        buf.mul_(momentum).add_(grad)

        # p -= lr*buf
        p.add_(buf, alpha=-lr)


def _multi_tensor_momentum(
    params: list[Tensor],
    grads: list[Tensor],
    bufs: list[Tensor],
    *,
    lr: float,
    momentum: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum = map(float, (lr, momentum))

    columns = [params, grads, bufs]
    for params, grads, bufs in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            bufs = [torch.view_as_real(each) for each in bufs]

        # buf = momentum*buf + grad
        torch._foreach_mul_(bufs, momentum)
        torch._foreach_add_(bufs, grads)

        # p -= lr*buf
        torch._foreach_add_(params, bufs, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_momentum(
    params: list[Tensor],
    grads: list[Tensor],
    bufs: list[Tensor],
    *,
    lr: float,
    momentum: float,
    maximize: bool,
) -> None:
    for p, grad, buf in zip(params, grads, bufs, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, buf)
        p, buf = (each.clone() for each in kept)
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, buf = map(torch.view_as_real, (p, grad, buf))

        # buf = momentum*buf + grad
        buf = buf * momentum + grad

        # p -= lr*buf
        p = _scaled_add(p, buf, -lr)
        if is_complex:
            p, buf = map(torch.view_as_complex, (p, buf))

        for each, new in zip(kept, (p, buf), strict=True):
            each.copy_(new)


def _multi_tensor_momentum_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    bufs: list[Tensor],
    *,
    lr: float,
    momentum: float,
    maximize: bool,
) -> None:
    columns = [params, grads, bufs]
    for params, grads, bufs in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            bufs = [torch.view_as_real(each) for each in bufs]

        # buf = momentum*buf + grad
        torch._foreach_mul_(bufs, momentum)
        torch._foreach_add_(bufs, grads)
        del grads

        # p -= lr*buf
        products = torch._foreach_mul(bufs, -lr)
        torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["momentum"]]
    options = [group["maximize"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, bufs = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, bufs],
            numbers=[],
        )
    return launch.run()


_CPU = r"""// Momentum in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    buf_t *buf;
    double lr;
    double momentum;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::buf);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real buf = load(row.buf[i]);
            // buf = momentum*buf + grad
            buf = real(row.momentum) * buf + grad;
            // p -= lr*buf
            p = p - real(row.lr) * buf;
            store(row.p[i], p);
            store(row.buf[i], buf);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_momentum(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.buf = (buf_t *)table->columns[2][at];
        const double *hyper = table->hypers + 2 * table->group[at];
        row.lr = *hyper++;
        row.momentum = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# Momentum in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, gradient, keep, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "buf_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    buf_t: tl.constexpr,
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
    of = hypers + 2 * tl.load(group + row)
    lr = tl.load(of + 0)
    momentum = tl.load(of + 1)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    buf_at = column(columns, rows, row, 2, buf_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    buf = elements(buf_at, i, left, real)
    # buf = momentum*buf + grad
    buf = momentum.to(real) * buf + grad
    # p -= lr*buf
    p = p - lr.to(real) * buf
    keep(p_at, i, left, p)
    keep(buf_at, i, left, buf)


def launch(x):
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_momentum",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "buf"),
    options=("maximize",),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
