"""Gradient descent whose weights decay before each step.

Hanson and Pratt (1988), Comparing biases for minimal network construction with
back-propagation.
"""
# Compiled by optdsl from l2decay.opt, content 920c975bf7ae.

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

__all__ = ["L2Decay"]


class L2Decay(Optimizer):
    """Gradient descent whose weights decay before each step.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 1e-5).
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): update by kernels that pass over memory as few times as
            can be; None does so where they carry all tensors of a group (default:
            None).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
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
            group.setdefault("weight_decay", 1e-5)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "weight_decay"):
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
                raise RuntimeError("L2Decay does not support sparse gradients")
            params.append(p)
            grads.append(grad)

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
                self._init_group(group, [], [])
            return loss

        if not self._unscale():
            return loss

        self.apply_weight_decay()

        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        waiting = self.param_groups
        if not torch.compiler.is_compiling() and _KERNELS:
            waiting = _KERNELS.repeat(self)
        for group in waiting:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            self._init_group(group, params, grads)
            groups.append((group, [params, grads]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_l2_decay if use_foreach else _single_tensor_l2_decay
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_l2_decay_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_l2_decay
            update(
                params,
                grads,
                lr=group["lr"],
                maximize=group["maximize"],
            )

        return loss

    @_use_grad_for_differentiable
    def apply_weight_decay(self) -> None:
        """Runs by itself before every step; a call by hand does the same once."""
        for group in self.param_groups:
            lr = group["lr"]
            weight_decay = group["weight_decay"]
            for param in group["params"]:
                if param.grad is None:
                    continue
                p = torch.view_as_real(param) if torch.is_complex(param) else param
                # p *= 1 - lr*weight_decay
                p.mul_(1 - lr * weight_decay)


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
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


def _single_tensor_l2_decay(
    params: list[Tensor],
    grads: list[Tensor],
    *,
    lr: float,
    maximize: bool,
) -> None:
    for p, grad in zip(params, grads, strict=True):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad = map(torch.view_as_real, (p, grad))

        # p -= lr*grad
        p.add_(grad, alpha=-lr)


def _multi_tensor_l2_decay(
    params: list[Tensor],
    grads: list[Tensor],
    *,
    lr: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr = float(lr)

    columns = [params, grads]
    for params, grads in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]

        # p -= lr*grad
        torch._foreach_add_(params, grads, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_l2_decay(
    params: list[Tensor],
    grads: list[Tensor],
    *,
    lr: float,
    maximize: bool,
) -> None:
    for p, grad in zip(params, grads, strict=True):
        grad = grad if not maximize else -grad
        kept, p = p, p.clone()
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad = map(torch.view_as_real, (p, grad))

        # p -= lr*grad
        p = _scaled_add(p, grad, -lr)
        if is_complex:
            p = torch.view_as_complex(p)

        kept.copy_(p)


def _multi_tensor_l2_decay_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    *,
    lr: float,
    maximize: bool,
) -> None:
    columns = [params, grads]
    for params, grads in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]

        # p -= lr*grad
        products = torch._foreach_mul(grads, -lr)
        torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"]]
    options = [group["maximize"]]
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
            numbers=[],
        )
    return launch.run()


_CPU = r"""// L2Decay in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    double lr;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            // p -= lr*grad
            p = p - real(row.lr) * grad;
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_l2_decay(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        const double *hyper = table->hypers + 1 * table->group[at];
        row.lr = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# L2Decay in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, gradient, keep, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf, grad_scale,
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
    of = hypers + 1 * tl.load(group + row)
    lr = tl.load(of + 0)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    # p -= lr*grad
    p = p - lr.to(real) * grad
    keep(p_at, i, left, p)


def launch(x):
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_l2_decay",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad"),
    options=("maximize",),
    elementwise=True,
    cuda=_CUDA,
)
