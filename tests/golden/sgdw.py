"""SGDW: SGD with momentum whose weights decay apart from the gradient.

Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization,
https://arxiv.org/abs/1711.05101
Follows timm and pytorch_optimizer: lr scales the buffer and the decay. In the paper lr
scales what enters the buffer, and the decay follows the schedule of lr alone.

decay: Weight decay apart from the gradient, times the learning rate.

Loshchilov and Hutter (2017), Decoupled Weight Decay Regularization,
https://arxiv.org/abs/1711.05101
As in torch's AdamW: before the step, and times lr as a scheduler has set it.
"""
# Compiled by optdsl from sgdw.opt, content b0b6797c1c57.

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

__all__ = ["SGDW"]


class SGDW(Optimizer):
    """SGDW: SGD with momentum whose weights decay apart from the gradient.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        momentum (float, optional): momentum factor, in [0, inf) (default: 0).
        dampening (float, optional): dampening of the gradient that enters the momentum,
            in [0, 1] (default: 0).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0).
        nesterov (bool, optional): Nesterov momentum (default: False).
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
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
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
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
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
            group.setdefault("momentum", 0)
            group.setdefault("dampening", 0)
            group.setdefault("weight_decay", 0)
            group.setdefault("nesterov", False)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "momentum", "dampening", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffers: list[Tensor | None],
        firsts: list[bool],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("SGDW does not support sparse gradients")
            state = self.state[p] if group["momentum"] != 0 else {}
            if group["momentum"] != 0 and len(state) == 0:
                state["first"] = True
            if group["momentum"] != 0 and "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            momentum_buffers.append(state.get("momentum_buffer"))
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
                self._init_group(group, [], [], [], [])
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
            momentum_buffers: list[Tensor | None] = []
            firsts: list[bool] = []
            self._init_group(group, params, grads, momentum_buffers, firsts)
            groups.append((group, [params, grads, momentum_buffers, firsts]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, momentum_buffers, firsts = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_sgdw if use_foreach else _single_tensor_sgdw
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_sgdw_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_sgdw
            update(
                params,
                grads,
                momentum_buffers,
                firsts,
                lr=group["lr"],
                momentum=group["momentum"],
                dampening=group["dampening"],
                weight_decay=group["weight_decay"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
            )
        for _, columns in groups:
            params, firsts = columns[0], columns[3]
            for p, first in zip(params, firsts, strict=True):
                if first:
                    self.state[p].pop("first")

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    dampening = group["dampening"]
    weight_decay = group["weight_decay"]
    nesterov = group["nesterov"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 <= momentum < math.inf:
        raise ValueError(
            f"Invalid momentum: {momentum!r}, expected a number in [0, inf)"
        )
    _check_number("dampening", dampening)
    if not 0 <= dampening <= 1:
        raise ValueError(
            f"Invalid dampening: {dampening!r}, expected a number in [0, 1]"
        )
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if nesterov not in (False, True):
        raise ValueError(f"Invalid nesterov: {nesterov!r}, expected True or False")
    if nesterov and not (momentum > 0 and dampening == 0):
        raise ValueError(
            "Nesterov momentum requires a momentum and zero dampening "
            f"(got nesterov={nesterov!r}, momentum={momentum!r}, "
            f"dampening={dampening!r})"
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


def _single_tensor_sgdw(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    firsts: list[bool],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer, first in zip(
        params, grads, momentum_buffers, firsts, strict=True
    ):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad = map(torch.view_as_real, (p, grad))
            if momentum_buffer is not None:
                momentum_buffer = torch.view_as_real(momentum_buffer)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        if momentum == 0:
            # p -= lr*grad
            p.add_(grad, alpha=-lr)
        else:
            # momentum_buffer = grad if first else momentum*momentum_buffer + (1 -
            #     dampening)*grad
            if first:
                momentum_buffer.copy_(grad)
            else:
                momentum_buffer.mul_(momentum).add_(grad, alpha=1 - dampening)

            # update = grad + momentum*momentum_buffer if nesterov else momentum_buffer
            if nesterov:
                update = grad.add(momentum_buffer, alpha=momentum)
            else:
                update = momentum_buffer

            # p -= lr*update
            p.add_(update, alpha=-lr)


def _multi_tensor_sgdw(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    firsts: list[bool],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, dampening, weight_decay = map(
        float, (lr, momentum, dampening, weight_decay)
    )

    columns = [params, grads, momentum_buffers, firsts]
    keys = firsts
    for params, grads, momentum_buffers, firsts in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        first = firsts[0]
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            momentum_buffers = [
                each if each is None else torch.view_as_real(each)
                for each in momentum_buffers
            ]
            given = grads
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        if momentum == 0:
            # p -= lr*grad
            torch._foreach_add_(params, grads, alpha=-lr)
        else:
            # momentum_buffer = grad if first else momentum*momentum_buffer + (1 -
            #     dampening)*grad
            if first:
                torch._foreach_copy_(momentum_buffers, grads)
            else:
                torch._foreach_mul_(momentum_buffers, momentum)
                torch._foreach_add_(momentum_buffers, grads, alpha=1 - dampening)

            # update = grad + momentum*momentum_buffer if nesterov else momentum_buffer
            if nesterov:
                if grads is given:
                    updates = torch._foreach_add(
                        grads, momentum_buffers, alpha=momentum
                    )
                else:
                    torch._foreach_add_(grads, momentum_buffers, alpha=momentum)
                    updates = grads
            else:
                updates = momentum_buffers

            # p -= lr*update
            torch._foreach_add_(params, updates, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_sgdw(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    firsts: list[bool],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer, first in zip(
        params, grads, momentum_buffers, firsts, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, momentum_buffer)
        p, momentum_buffer = (each if each is None else each.clone() for each in kept)
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad = map(torch.view_as_real, (p, grad))
            if momentum_buffer is not None:
                momentum_buffer = torch.view_as_real(momentum_buffer)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        if momentum == 0:
            # p -= lr*grad
            p = _scaled_add(p, grad, -lr)
        else:
            # momentum_buffer = grad if first else momentum*momentum_buffer + (1 -
            #     dampening)*grad
            if first:
                momentum_buffer = grad
            else:
                momentum_buffer = _scaled_add(
                    momentum_buffer * momentum, grad, 1 - dampening
                )

            # update = grad + momentum*momentum_buffer if nesterov else momentum_buffer
            if nesterov:
                update = _scaled_add(grad, momentum_buffer, momentum)
            else:
                update = momentum_buffer

            # p -= lr*update
            p = _scaled_add(p, update, -lr)
        if is_complex:
            p = torch.view_as_complex(p)
            if momentum_buffer is not None:
                momentum_buffer = torch.view_as_complex(momentum_buffer)

        for each, new in zip(kept, (p, momentum_buffer), strict=True):
            if each is not None:
                each.copy_(new)


def _multi_tensor_sgdw_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    firsts: list[bool],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    columns = [params, grads, momentum_buffers, firsts]
    keys = firsts
    for params, grads, momentum_buffers, firsts in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        first = firsts[0]
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            momentum_buffers = [
                each if each is None else torch.view_as_real(each)
                for each in momentum_buffers
            ]
            given = grads
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        if momentum == 0:
            # p -= lr*grad
            products = torch._foreach_mul(grads, -lr)
            torch._foreach_add_(params, products)
        else:
            # momentum_buffer = grad if first else momentum*momentum_buffer + (1 -
            #     dampening)*grad
            if first:
                torch._foreach_copy_(momentum_buffers, grads)
            else:
                torch._foreach_mul_(momentum_buffers, momentum)
                products = torch._foreach_mul(grads, 1 - dampening)
                torch._foreach_add_(momentum_buffers, products)
                del products

            # update = grad + momentum*momentum_buffer if nesterov else momentum_buffer
            if nesterov:
                products = torch._foreach_mul(momentum_buffers, momentum)
                if grads is given:
                    updates = torch._foreach_add(grads, products)
                else:
                    torch._foreach_add_(grads, products)
                    updates = grads
                del products
            else:
                updates = momentum_buffers

            # p -= lr*update
            products = torch._foreach_mul(updates, -lr)
            torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["momentum"], group["dampening"], group["weight_decay"]]
    options = [
        group["maximize"],
        group["weight_decay"] != 0,
        group["momentum"] == 0,
        group["nesterov"],
    ]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, momentum_buffers, firsts = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, momentum_buffers],
            numbers=[],
            asked=[firsts],
        )
    return launch.run()


_CPU = r"""// SGDW in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    double lr;
    double momentum;
    double dampening;
    double weight_decay;
    double first;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::momentum_buffer);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real momentum_buffer = has_momentum_buffer ? load(row.momentum_buffer[i]) :
                0;
            real update = 0;
            if (weight_decay_is_not_0) {
                // p *= 1 - lr*weight_decay
                p = p * real(1.0 - row.lr * row.weight_decay);
            }
            if (momentum_is_0) {
                // p -= lr*grad
                p = p - real(row.lr) * grad;
            } else {
                // momentum_buffer = grad if first else momentum*momentum_buffer + (1 -
                //     dampening)*grad
                momentum_buffer = row.first ? grad : real(row.momentum) *
                    momentum_buffer + real(1.0 - row.dampening) * grad;
                // update = grad + momentum*momentum_buffer if nesterov else
                //     momentum_buffer
                update = nesterov ? grad + real(row.momentum) * momentum_buffer :
                    momentum_buffer;
                // p -= lr*update
                p = p - real(row.lr) * update;
            }
            store(row.p[i], p);
            if (has_momentum_buffer) store(row.momentum_buffer[i], momentum_buffer);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_sgdw(const Table *table) {
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
        row.dampening = *hyper++;
        row.weight_decay = *hyper++;
        row.first = table->asked[at];
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# SGDW in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    elements,
    gradient,
    if_there,
    keep,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "momentum_is_0", "nesterov")


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, asked, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    momentum_is_0: tl.constexpr,
    nesterov: tl.constexpr,
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
    momentum = tl.load(of + 1)
    dampening = tl.load(of + 2)
    weight_decay = tl.load(of + 3)
    first = tl.load(asked + 0 * rows + row) != 0
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    momentum_buffer_left = if_there(columns, rows, row, 2, left)
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, momentum_buffer_left, real)
    if weight_decay_is_not_0:
        # p *= 1 - lr*weight_decay
        p = p * (1.0 - lr * weight_decay).to(real)
    if momentum_is_0:
        # p -= lr*grad
        p = p - lr.to(real) * grad
    else:
        # momentum_buffer = grad if first else momentum*momentum_buffer + (1 -
        #     dampening)*grad
        momentum_buffer = tl.where(
            first,
            grad,
            momentum.to(real) * momentum_buffer + (1.0 - dampening).to(real) * grad,
        )
        # update = grad + momentum*momentum_buffer if nesterov else momentum_buffer
        update = (
            grad + momentum.to(real) * momentum_buffer if nesterov else momentum_buffer
        )
        # p -= lr*update
        p = p - lr.to(real) * update
    keep(p_at, i, left, p)
    keep(momentum_buffer_at, i, momentum_buffer_left, momentum_buffer)


def launch(x):
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_sgdw",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "momentum_buffer"),
    optional=("momentum_buffer",),
    options=("maximize", "weight_decay_is_not_0", "momentum_is_0", "nesterov"),
    elementwise=True,
    cuda=_CUDA,
)
