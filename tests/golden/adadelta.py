"""Adadelta.

Zeiler (2012), ADADELTA: An Adaptive Learning Rate Method,
https://arxiv.org/abs/1212.5701

Reference: torch.optim.Adadelta
"""
# Compiled by optdsl from adadelta.opt, content d1dbda4ef825.

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

__all__ = ["Adadelta"]


class Adadelta(Optimizer):
    """Adadelta.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): scale of the update, in [0, inf] (default: 1.0).
        rho (float, optional): decay of both running means, in [0, 1] (default: 0.9).
        eps (float, optional): added under both roots, in [0, inf] (default: 1e-6).
        weight_decay (float, optional): L2 penalty, in [0, inf] (default: 0).
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
        square_avg: running mean of squared gradients (like p).
        acc_delta: running mean of squared updates (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
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
            group.setdefault("rho", 0.9)
            group.setdefault("eps", 1e-6)
            group.setdefault("weight_decay", 0)
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
        for name in ("lr", "rho", "eps", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        square_avgs: list[Tensor],
        acc_deltas: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Adadelta does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["square_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["acc_delta"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            square_avgs.append(state["square_avg"])
            acc_deltas.append(state["acc_delta"])
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
            square_avgs: list[Tensor] = []
            acc_deltas: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, square_avgs, acc_deltas, steps)
            groups.append((group, [params, grads, square_avgs, acc_deltas, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, square_avgs, acc_deltas, steps = columns
            use_foreach = group["foreach"] or group.get("fused")
            if group["foreach"] is None and group.get("fused") is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_adadelta if use_foreach else _single_tensor_adadelta
            if group["capturable"]:
                _check_capturable(params, steps)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_adadelta_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_adadelta
            update(
                params,
                grads,
                square_avgs,
                acc_deltas,
                steps,
                lr=group["lr"],
                rho=group["rho"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    rho = group["rho"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_number("rho", rho)
    if not 0 <= rho <= 1:
        raise ValueError(f"Invalid rho: {rho!r}, expected a number in [0, 1]")
    _check_number("eps", eps)
    if not 0 <= eps <= math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf]")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay <= math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf]"
        )
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


def _single_tensor_adadelta(
    params: list[Tensor],
    grads: list[Tensor],
    square_avgs: list[Tensor],
    acc_deltas: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, square_avg, acc_delta, step in zip(
        params, grads, square_avgs, acc_deltas, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        is_complex = torch.is_complex(p)
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        if is_complex:
            grad, square_avg, acc_delta = map(
                torch.view_as_real, (grad, square_avg, acc_delta)
            )

        # square_avg = rho*square_avg + (1 - rho)*grad*grad
        square_avg.mul_(rho).addcmul_(grad, grad, value=1 - rho)

        # std = sqrt(square_avg + eps)
        std = (square_avg + eps).sqrt_()

        # delta = sqrt(acc_delta + eps)/std * grad
        delta = (acc_delta + eps).sqrt_().div_(std).mul_(grad)

        # acc_delta = rho*acc_delta + (1 - rho)*delta*delta
        acc_delta.mul_(rho).addcmul_(delta, delta, value=1 - rho)
        if is_complex:
            delta = torch.view_as_complex(delta)

        # p -= lr*delta
        p.add_(delta, alpha=-lr)


def _multi_tensor_adadelta(
    params: list[Tensor],
    grads: list[Tensor],
    square_avgs: list[Tensor],
    acc_deltas: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, rho, eps, weight_decay = map(float, (lr, rho, eps, weight_decay))

    columns = [params, grads, square_avgs, acc_deltas, steps]
    for params, grads, square_avgs, acc_deltas, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        is_complex = torch.is_complex(params[0])
        if weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        if is_complex:
            grads = [torch.view_as_real(each) for each in grads]
            square_avgs = [torch.view_as_real(each) for each in square_avgs]
            acc_deltas = [torch.view_as_real(each) for each in acc_deltas]
            given = grads

        # square_avg = rho*square_avg + (1 - rho)*grad*grad
        torch._foreach_mul_(square_avgs, rho)
        torch._foreach_addcmul_(square_avgs, grads, grads, value=1 - rho)

        # std = sqrt(square_avg + eps)
        stds = torch._foreach_add(square_avgs, eps)
        torch._foreach_sqrt_(stds)

        # delta = sqrt(acc_delta + eps)/std * grad
        deltas = torch._foreach_add(acc_deltas, eps)
        torch._foreach_sqrt_(deltas)
        torch._foreach_div_(deltas, stds)
        torch._foreach_mul_(deltas, grads)

        # acc_delta = rho*acc_delta + (1 - rho)*delta*delta
        torch._foreach_mul_(acc_deltas, rho)
        torch._foreach_addcmul_(acc_deltas, deltas, deltas, value=1 - rho)
        if is_complex:
            deltas = [torch.view_as_complex(each) for each in deltas]

        # p -= lr*delta
        torch._foreach_add_(params, deltas, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _scaled_addcmul(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcmul(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcmul(y * scale, z)
    return x.addcmul(y, z, value=scale)


def _differentiable_adadelta(
    params: list[Tensor],
    grads: list[Tensor],
    square_avgs: list[Tensor],
    acc_deltas: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, square_avg, acc_delta, step in zip(
        params, grads, square_avgs, acc_deltas, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, square_avg, acc_delta, step)
        p, square_avg, acc_delta, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        if is_complex:
            grad, square_avg, acc_delta = map(
                torch.view_as_real, (grad, square_avg, acc_delta)
            )

        # square_avg = rho*square_avg + (1 - rho)*grad*grad
        square_avg = _scaled_addcmul(square_avg * rho, grad, grad, 1 - rho)

        # std = sqrt(square_avg + eps)
        std = (square_avg + eps).sqrt()

        # delta = sqrt(acc_delta + eps)/std * grad
        delta = (acc_delta + eps).sqrt() / std * grad

        # acc_delta = rho*acc_delta + (1 - rho)*delta*delta
        acc_delta = _scaled_addcmul(acc_delta * rho, delta, delta, 1 - rho)
        if is_complex:
            delta = torch.view_as_complex(delta)

        # p -= lr*delta
        p = _scaled_add(p, delta, -lr)
        if is_complex:
            square_avg, acc_delta = map(torch.view_as_complex, (square_avg, acc_delta))

        for each, new in zip(kept, (p, square_avg, acc_delta, step), strict=True):
            each.copy_(new)


def _multi_tensor_adadelta_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    square_avgs: list[Tensor],
    acc_deltas: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    columns = [params, grads, square_avgs, acc_deltas, steps]
    for params, grads, square_avgs, acc_deltas, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        is_complex = torch.is_complex(params[0])
        if weight_decay != 0:
            # grad += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)
            del products
        if is_complex:
            grads = [torch.view_as_real(each) for each in grads]
            square_avgs = [torch.view_as_real(each) for each in square_avgs]
            acc_deltas = [torch.view_as_real(each) for each in acc_deltas]
            given = grads

        # square_avg = rho*square_avg + (1 - rho)*grad*grad
        torch._foreach_mul_(square_avgs, rho)
        products = torch._foreach_mul(grads, 1 - rho)
        torch._foreach_addcmul_(square_avgs, products, grads)
        del products

        # std = sqrt(square_avg + eps)
        stds = torch._foreach_add(square_avgs, eps)
        torch._foreach_sqrt_(stds)

        # delta = sqrt(acc_delta + eps)/std * grad
        deltas = torch._foreach_add(acc_deltas, eps)
        torch._foreach_sqrt_(deltas)
        torch._foreach_div_(deltas, stds)
        del stds
        torch._foreach_mul_(deltas, grads)
        del grads

        # acc_delta = rho*acc_delta + (1 - rho)*delta*delta
        torch._foreach_mul_(acc_deltas, rho)
        products = torch._foreach_mul(deltas, 1 - rho)
        torch._foreach_addcmul_(acc_deltas, products, deltas)
        del products
        if is_complex:
            deltas = [torch.view_as_complex(each) for each in deltas]

        # p -= lr*delta
        products = torch._foreach_mul(deltas, -lr)
        torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["rho"], group["eps"], group["weight_decay"]]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, square_avgs, acc_deltas, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, square_avgs, acc_deltas],
            numbers=[steps],
        )
    return launch.run()


_CPU = r"""// Adadelta in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    square_avg_t *square_avg;
    acc_delta_t *acc_delta;
    step_t *step;
    double lr;
    double rho;
    double eps;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double t;
};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::square_avg, &Row::acc_delta);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real square_avg = load(row.square_avg[i]);
            real acc_delta = load(row.acc_delta[i]);
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // square_avg = rho*square_avg + (1 - rho)*grad*grad
            square_avg = real(row.rho) * square_avg + real(1.0 - row.rho) * grad * grad;
            // std = sqrt(square_avg + eps)
            const real std_ = sqrt_(square_avg + real(row.eps));
            // delta = sqrt(acc_delta + eps)/std * grad
            const real delta = sqrt_(acc_delta + real(row.eps)) / std_ * grad;
            // acc_delta = rho*acc_delta + (1 - rho)*delta*delta
            acc_delta = real(row.rho) * acc_delta + real(1.0 - row.rho) * delta * delta;
            // p -= lr*delta
            p = p - real(row.lr) * delta;
            store(row.p[i], p);
            store(row.square_avg[i], square_avg);
            store(row.acc_delta[i], acc_delta);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_adadelta(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.square_avg = (square_avg_t *)table->columns[2][at];
        row.acc_delta = (acc_delta_t *)table->columns[3][at];
        row.step = (step_t *)table->columns[4][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.lr = *hyper++;
        row.rho = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# Adadelta in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    elements,
    gradient,
    keep,
    keep_number,
    number,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "square_avg_t", "acc_delta_t", "step_t")
OPTIONS = ("maximize", "weight_decay_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    t = number(columns, rows, row, 4, step_t) + 1
    keep_number(columns, rows, row, 4, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    square_avg_t: tl.constexpr,
    acc_delta_t: tl.constexpr,
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
    of = hypers + 4 * tl.load(group + row)
    lr = tl.load(of + 0)
    rho = tl.load(of + 1)
    eps = tl.load(of + 2)
    weight_decay = tl.load(of + 3)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    square_avg_at = column(columns, rows, row, 2, square_avg_t, aligned) + begin
    acc_delta_at = column(columns, rows, row, 3, acc_delta_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    square_avg = elements(square_avg_at, i, left, real)
    acc_delta = elements(acc_delta_at, i, left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # square_avg = rho*square_avg + (1 - rho)*grad*grad
    square_avg = rho.to(real) * square_avg + (1.0 - rho).to(real) * grad * grad
    # std = sqrt(square_avg + eps)
    std = tl.sqrt(square_avg + eps.to(real))
    # delta = sqrt(acc_delta + eps)/std * grad
    delta = tl.sqrt(acc_delta + eps.to(real)) / std * grad
    # acc_delta = rho*acc_delta + (1 - rho)*delta*delta
    acc_delta = rho.to(real) * acc_delta + (1.0 - rho).to(real) * delta * delta
    # p -= lr*delta
    p = p - lr.to(real) * delta
    keep(p_at, i, left, p)
    keep(square_avg_at, i, left, square_avg)
    keep(acc_delta_at, i, left, acc_delta)


def launch(x):
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_adadelta",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "square_avg", "acc_delta"),
    numbers=("step",),
    options=("maximize", "weight_decay_is_not_0"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
