"""PID: the gradient, its sum and its change, as a controller adds them.

An et al. (2018), A PID Controller Approach for Stochastic Optimization of Deep
Networks, http://www4.comp.polyu.edu.hk/~cslzhang/paper/CVPR18_PID.pdf
Follows the authors' code, https://github.com/tensorboy/PIDOptimizer, in what it adds,
and the paper in the change. The code never keeps the last gradient, weighs the change
by lr, and is plain gradient descent where momentum is 0.

l2_decay: Weight decay by way of the gradient: an L2 penalty.

Krogh and Hertz (1991), A Simple Weight Decay Can Improve Generalization,
https://papers.nips.cc/paper/563-a-simple-weight-decay-can-improve-generalization
"""
# Compiled by optdsl from pid.opt, content 29172c4b16de.

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

__all__ = ["PID"]


class PID(Optimizer):
    """PID: the gradient, its sum and its change, as a controller adds them.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        momentum (float, optional): decay of the integral and the derivative, in [0, 1)
            (default: 0.9).
        weight_decay (float, optional): L2 penalty, in [0, inf) (default: 0).
        integral (float, optional): weight of the integral, in [0, inf) (default: 5.0).
        derivative (float, optional): weight of the derivative, in [0, inf) (default:
            10.0).
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
        i_buffer: decaying sum of the gradient (like p).
        d_buffer: mean of its change from step to step (like p).
        grad_buffer: gradient of the last step (like p).

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
        integral: float = 5.0,
        derivative: float = 10.0,
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
            "integral": integral,
            "derivative": derivative,
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
            group.setdefault("integral", 5.0)
            group.setdefault("derivative", 10.0)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "momentum", "weight_decay", "integral", "derivative"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        i_buffers: list[Tensor],
        d_buffers: list[Tensor],
        grad_buffers: list[Tensor],
        firsts: list[bool],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("PID does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["first"] = True
                state["i_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["d_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["grad_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            i_buffers.append(state["i_buffer"])
            d_buffers.append(state["d_buffer"])
            grad_buffers.append(state["grad_buffer"])
            firsts.append(state.get("first", False))

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
                self._init_group(group, [], [], [], [], [], [])
            for state in self.state.values():
                state.pop("first", None)
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
            i_buffers: list[Tensor] = []
            d_buffers: list[Tensor] = []
            grad_buffers: list[Tensor] = []
            firsts: list[bool] = []
            self._init_group(
                group, params, grads, i_buffers, d_buffers, grad_buffers, firsts
            )
            groups.append(
                (group, [params, grads, i_buffers, d_buffers, grad_buffers, firsts])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, i_buffers, d_buffers, grad_buffers, firsts = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_pid if use_foreach else _single_tensor_pid
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_pid_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_pid
            update(
                params,
                grads,
                i_buffers,
                d_buffers,
                grad_buffers,
                firsts,
                lr=group["lr"],
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                integral=group["integral"],
                derivative=group["derivative"],
                maximize=group["maximize"],
            )
        for _, columns in groups:
            params, firsts = columns[0], columns[5]
            for p, first in zip(params, firsts, strict=True):
                if first:
                    self.state[p].pop("first")

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    weight_decay = group["weight_decay"]
    integral = group["integral"]
    derivative = group["derivative"]
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
    _check_number("integral", integral)
    if not 0 <= integral < math.inf:
        raise ValueError(
            f"Invalid integral: {integral!r}, expected a number in [0, inf)"
        )
    _check_number("derivative", derivative)
    if not 0 <= derivative < math.inf:
        raise ValueError(
            f"Invalid derivative: {derivative!r}, expected a number in [0, inf)"
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


def _single_tensor_pid(
    params: list[Tensor],
    grads: list[Tensor],
    i_buffers: list[Tensor],
    d_buffers: list[Tensor],
    grad_buffers: list[Tensor],
    firsts: list[bool],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    integral: float,
    derivative: float,
    maximize: bool,
) -> None:
    for p, grad, i_buffer, d_buffer, grad_buffer, first in zip(
        params, grads, i_buffers, d_buffers, grad_buffers, firsts, strict=True
    ):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad, i_buffer, d_buffer, grad_buffer = map(
                torch.view_as_real, (p, grad, i_buffer, d_buffer, grad_buffer)
            )
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # i_buffer = momentum*i_buffer + grad
        i_buffer.mul_(momentum).add_(grad)
        if not first:
            # d_buffer = momentum*d_buffer + (1 - momentum)*(grad - grad_buffer)
            d_buffer.mul_(momentum).add_(grad - grad_buffer, alpha=1 - momentum)

        # grad_buffer = grad
        grad_buffer.copy_(grad)

        # p -= lr*grad
        p.add_(grad, alpha=-lr)

        # p -= lr*integral*i_buffer
        p.add_(i_buffer, alpha=-lr * integral)

        # p -= lr*derivative*d_buffer
        p.add_(d_buffer, alpha=-lr * derivative)


def _multi_tensor_pid(
    params: list[Tensor],
    grads: list[Tensor],
    i_buffers: list[Tensor],
    d_buffers: list[Tensor],
    grad_buffers: list[Tensor],
    firsts: list[bool],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    integral: float,
    derivative: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, weight_decay, integral, derivative = map(
        float, (lr, momentum, weight_decay, integral, derivative)
    )

    columns = [params, grads, i_buffers, d_buffers, grad_buffers, firsts]
    keys = firsts
    for params, grads, i_buffers, d_buffers, grad_buffers, firsts in _alike(
        columns, keys
    ):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        first = firsts[0]
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            i_buffers = [torch.view_as_real(each) for each in i_buffers]
            d_buffers = [torch.view_as_real(each) for each in d_buffers]
            grad_buffers = [torch.view_as_real(each) for each in grad_buffers]
            given = grads
        if weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)

        # i_buffer = momentum*i_buffer + grad
        torch._foreach_mul_(i_buffers, momentum)
        torch._foreach_add_(i_buffers, grads)
        if not first:
            # d_buffer = momentum*d_buffer + (1 - momentum)*(grad - grad_buffer)
            torch._foreach_mul_(d_buffers, momentum)
            differences = torch._foreach_sub(grads, grad_buffers)
            torch._foreach_add_(d_buffers, differences, alpha=1 - momentum)

        # grad_buffer = grad
        torch._foreach_copy_(grad_buffers, grads)

        # p -= lr*grad
        torch._foreach_add_(params, grads, alpha=-lr)

        # p -= lr*integral*i_buffer
        torch._foreach_add_(params, i_buffers, alpha=-lr * integral)

        # p -= lr*derivative*d_buffer
        torch._foreach_add_(params, d_buffers, alpha=-lr * derivative)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_pid(
    params: list[Tensor],
    grads: list[Tensor],
    i_buffers: list[Tensor],
    d_buffers: list[Tensor],
    grad_buffers: list[Tensor],
    firsts: list[bool],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    integral: float,
    derivative: float,
    maximize: bool,
) -> None:
    for p, grad, i_buffer, d_buffer, grad_buffer, first in zip(
        params, grads, i_buffers, d_buffers, grad_buffers, firsts, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, i_buffer, d_buffer, grad_buffer)
        p, i_buffer, d_buffer, grad_buffer = (each.clone() for each in kept)
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, i_buffer, d_buffer, grad_buffer = map(
                torch.view_as_real, (p, grad, i_buffer, d_buffer, grad_buffer)
            )
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # i_buffer = momentum*i_buffer + grad
        i_buffer = i_buffer * momentum + grad
        if not first:
            # d_buffer = momentum*d_buffer + (1 - momentum)*(grad - grad_buffer)
            d_buffer = _scaled_add(
                d_buffer * momentum, grad - grad_buffer, 1 - momentum
            )
        grad_buffer = grad

        # p -= lr*grad
        p = _scaled_add(p, grad, -lr)

        # p -= lr*integral*i_buffer
        p = _scaled_add(p, i_buffer, -lr * integral)

        # p -= lr*derivative*d_buffer
        p = _scaled_add(p, d_buffer, -lr * derivative)
        if is_complex:
            p, i_buffer, d_buffer, grad_buffer = map(
                torch.view_as_complex, (p, i_buffer, d_buffer, grad_buffer)
            )

        for each, new in zip(kept, (p, i_buffer, d_buffer, grad_buffer), strict=True):
            each.copy_(new)


def _multi_tensor_pid_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    i_buffers: list[Tensor],
    d_buffers: list[Tensor],
    grad_buffers: list[Tensor],
    firsts: list[bool],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    integral: float,
    derivative: float,
    maximize: bool,
) -> None:
    columns = [params, grads, i_buffers, d_buffers, grad_buffers, firsts]
    keys = firsts
    for params, grads, i_buffers, d_buffers, grad_buffers, firsts in _alike(
        columns, keys
    ):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        first = firsts[0]
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            i_buffers = [torch.view_as_real(each) for each in i_buffers]
            d_buffers = [torch.view_as_real(each) for each in d_buffers]
            grad_buffers = [torch.view_as_real(each) for each in grad_buffers]
            given = grads
        if weight_decay != 0:
            # grad += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)
            del products

        # i_buffer = momentum*i_buffer + grad
        torch._foreach_mul_(i_buffers, momentum)
        torch._foreach_add_(i_buffers, grads)
        if not first:
            # d_buffer = momentum*d_buffer + (1 - momentum)*(grad - grad_buffer)
            torch._foreach_mul_(d_buffers, momentum)
            differences = torch._foreach_sub(grads, grad_buffers)
            products = torch._foreach_mul(differences, 1 - momentum)
            del differences
            torch._foreach_add_(d_buffers, products)
            del products

        # grad_buffer = grad
        torch._foreach_copy_(grad_buffers, grads)

        # p -= lr*grad
        products = torch._foreach_mul(grads, -lr)
        del grads
        torch._foreach_add_(params, products)
        del products

        # p -= lr*integral*i_buffer
        products = torch._foreach_mul(i_buffers, -lr * integral)
        torch._foreach_add_(params, products)
        del products

        # p -= lr*derivative*d_buffer
        products = torch._foreach_mul(d_buffers, -lr * derivative)
        torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["momentum"],
        group["weight_decay"],
        group["integral"],
        group["derivative"],
    ]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, i_buffers, d_buffers, grad_buffers, firsts = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, i_buffers, d_buffers, grad_buffers],
            numbers=[],
            asked=[firsts],
        )
    return launch.run()


_CPU = r"""// PID in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    i_buffer_t *i_buffer;
    d_buffer_t *d_buffer;
    grad_buffer_t *grad_buffer;
    double lr;
    double momentum;
    double weight_decay;
    double integral;
    double derivative;
    double first;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::i_buffer, &Row::d_buffer,
            &Row::grad_buffer);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real i_buffer = load(row.i_buffer[i]);
            real d_buffer = load(row.d_buffer[i]);
            real grad_buffer = load(row.grad_buffer[i]);
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // i_buffer = momentum*i_buffer + grad
            i_buffer = real(row.momentum) * i_buffer + grad;
            if (!row.first) {
                // d_buffer = momentum*d_buffer + (1 - momentum)*(grad - grad_buffer)
                d_buffer = real(row.momentum) * d_buffer + real(1.0 - row.momentum) *
                    (grad - grad_buffer);
            }
            // grad_buffer = grad
            grad_buffer = grad;
            // p -= lr*grad
            p = p - real(row.lr) * grad;
            // p -= lr*integral*i_buffer
            p = p - real(row.lr * row.integral) * i_buffer;
            // p -= lr*derivative*d_buffer
            p = p - real(row.lr * row.derivative) * d_buffer;
            store(row.p[i], p);
            store(row.i_buffer[i], i_buffer);
            store(row.d_buffer[i], d_buffer);
            store(row.grad_buffer[i], grad_buffer);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_pid(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.i_buffer = (i_buffer_t *)table->columns[2][at];
        row.d_buffer = (d_buffer_t *)table->columns[3][at];
        row.grad_buffer = (grad_buffer_t *)table->columns[4][at];
        const double *hyper = table->hypers + 5 * table->group[at];
        row.lr = *hyper++;
        row.momentum = *hyper++;
        row.weight_decay = *hyper++;
        row.integral = *hyper++;
        row.derivative = *hyper++;
        row.first = table->asked[at];
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# PID in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, gradient, keep, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "i_buffer_t", "d_buffer_t", "grad_buffer_t")
OPTIONS = ("maximize", "weight_decay_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, asked, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    i_buffer_t: tl.constexpr,
    d_buffer_t: tl.constexpr,
    grad_buffer_t: tl.constexpr,
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
    of = hypers + 5 * tl.load(group + row)
    lr = tl.load(of + 0)
    momentum = tl.load(of + 1)
    weight_decay = tl.load(of + 2)
    integral = tl.load(of + 3)
    derivative = tl.load(of + 4)
    first = tl.load(asked + 0 * rows + row) != 0
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    i_buffer_at = column(columns, rows, row, 2, i_buffer_t, aligned) + begin
    d_buffer_at = column(columns, rows, row, 3, d_buffer_t, aligned) + begin
    grad_buffer_at = column(columns, rows, row, 4, grad_buffer_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    i_buffer = elements(i_buffer_at, i, left, real)
    d_buffer = elements(d_buffer_at, i, left, real)
    grad_buffer = elements(grad_buffer_at, i, left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # i_buffer = momentum*i_buffer + grad
    i_buffer = momentum.to(real) * i_buffer + grad
    if not first:
        # d_buffer = momentum*d_buffer + (1 - momentum)*(grad - grad_buffer)
        d_buffer = momentum.to(real) * d_buffer + (1.0 - momentum).to(real) * (
            grad - grad_buffer
        )
    # grad_buffer = grad
    grad_buffer = grad
    # p -= lr*grad
    p = p - lr.to(real) * grad
    # p -= lr*integral*i_buffer
    p = p - (lr * integral).to(real) * i_buffer
    # p -= lr*derivative*d_buffer
    p = p - (lr * derivative).to(real) * d_buffer
    keep(p_at, i, left, p)
    keep(i_buffer_at, i, left, i_buffer)
    keep(d_buffer_at, i, left, d_buffer)
    keep(grad_buffer_at, i, left, grad_buffer)


def launch(x):
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_pid",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "i_buffer", "d_buffer", "grad_buffer"),
    options=("maximize", "weight_decay_is_not_0"),
    elementwise=True,
    cuda=_CUDA,
)
