"""SGD-SaI: SGD with momentum, whose steps are scaled once, by the first gradient.

Xu et al. (2024), No More Adam: Learning Rate Scaling at Initialization is All You Need,
https://arxiv.org/abs/2412.11768
Follows the authors' code, https://github.com/AnonymousAlethiometer/SGD_SaI, but for a
first gradient without deviation, as of a single number, whose norm theirs divides by
eps: here it is the norm, as for all vectors in pytorch_optimizer, where the momentum
starts at zero. A parameter whose first gradient is zero stays, as in both.

decay: Weight decay apart from the gradient, times the learning rate.

Loshchilov and Hutter (2017), Decoupled Weight Decay Regularization,
https://arxiv.org/abs/1711.05101
As in torch's AdamW: before the step, and times lr as a scheduler has set it.
"""
# Compiled by optdsl from sgd_sai.opt, content 5dbe0aa4bae9.

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

__all__ = ["SGDSaI"]


class SGDSaI(Optimizer):
    """SGD-SaI: SGD with momentum, whose steps are scaled once, by the first gradient.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-2).
        momentum (float, optional): decay of the momentum, in [0, 1) (default: 0.9).
        eps (float, optional): added to the standard deviation, in [0, inf) (default:
            1e-8).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0.01).
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
        gsnr: signal-to-noise ratio of the first gradient (0-d tensor).
        momentum_buffer: running mean of the gradient (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        momentum: float = 0.9,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
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
            group.setdefault("lr", 1e-2)
            group.setdefault("momentum", 0.9)
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0.01)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "momentum", "eps", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        gsnrs: list[Tensor],
        momentum_buffers: list[Tensor | None],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("SGDSaI does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("SGDSaI does not support complex parameters")
            state = self.state[p]
            grad = p.grad if not group["maximize"] else -p.grad
            if len(state) == 0:
                state["gsnr"] = torch.where(
                    _std(grad) > 0,
                    torch.linalg.vector_norm(grad) / (_std(grad) + group["eps"]),
                    torch.linalg.vector_norm(grad),
                )
            if group["momentum"] != 0 and "momentum_buffer" not in state:
                state["momentum_buffer"] = grad.clone(
                    memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(p.grad)
            gsnrs.append(state["gsnr"])
            momentum_buffers.append(state.get("momentum_buffer"))

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
            gsnrs: list[Tensor] = []
            momentum_buffers: list[Tensor | None] = []
            self._init_group(group, params, grads, gsnrs, momentum_buffers)
            groups.append((group, [params, grads, gsnrs, momentum_buffers]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, gsnrs, momentum_buffers = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_sgdsai if use_foreach else _single_tensor_sgdsai
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_sgdsai_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_sgdsai
            update(
                params,
                grads,
                gsnrs,
                momentum_buffers,
                lr=group["lr"],
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"Invalid momentum: {momentum!r}, expected a number in [0, 1)")
    _check_number("eps", eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
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


def _std(x: Tensor) -> Tensor:
    # std(x) = sqrt(sum(square(x - mean(x)))/max(1, numel(x) - 1))
    return ((x - x.mean()).square().sum() / max(1, x.numel() - 1)).sqrt()


def _single_tensor_sgdsai(
    params: list[Tensor],
    grads: list[Tensor],
    gsnrs: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, gsnr, momentum_buffer in zip(
        params, grads, gsnrs, momentum_buffers, strict=True
    ):
        grad = grad if not maximize else -grad
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        if momentum != 0:
            # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
            momentum_buffer.lerp_(grad, 1 - momentum)
        update = momentum_buffer if momentum != 0 else grad

        # p -= lr*gsnr*update
        p.addcmul_(gsnr, update, value=-lr)


def _multi_tensor_sgdsai(
    params: list[Tensor],
    grads: list[Tensor],
    gsnrs: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, weight_decay = map(float, (lr, momentum, weight_decay))

    columns = [params, grads, gsnrs, momentum_buffers]
    for params, grads, gsnrs, momentum_buffers in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        if momentum != 0:
            # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
            torch._foreach_lerp_(momentum_buffers, grads, 1 - momentum)

        # update = momentum_buffer if momentum != 0 else grad
        updates = momentum_buffers if momentum != 0 else grads

        # p -= lr*gsnr*update
        torch._foreach_addcmul_(params, gsnrs, updates, value=-lr)


def _scaled_addcmul(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcmul(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcmul(y * scale, z)
    return x.addcmul(y, z, value=scale)


def _differentiable_sgdsai(
    params: list[Tensor],
    grads: list[Tensor],
    gsnrs: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, gsnr, momentum_buffer in zip(
        params, grads, gsnrs, momentum_buffers, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, gsnr, momentum_buffer)
        p, gsnr, momentum_buffer = (
            each if each is None else each.clone() for each in kept
        )
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        if momentum != 0:
            # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
            momentum_buffer = momentum_buffer.lerp(grad, 1 - momentum)
        update = momentum_buffer if momentum != 0 else grad

        # p -= lr*gsnr*update
        p = _scaled_addcmul(p, gsnr, update, -lr)

        for each, new in zip(kept, (p, gsnr, momentum_buffer), strict=True):
            if each is not None:
                each.copy_(new)


def _multi_tensor_sgdsai_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    gsnrs: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    columns = [params, grads, gsnrs, momentum_buffers]
    for params, grads, gsnrs, momentum_buffers in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        if momentum != 0:
            # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
            torch._foreach_lerp_(momentum_buffers, grads, 1 - momentum)

        # update = momentum_buffer if momentum != 0 else grad
        updates = momentum_buffers if momentum != 0 else grads

        # p -= lr*gsnr*update
        products = torch._foreach_mul(gsnrs, -lr)
        torch._foreach_addcmul_(params, products, updates)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["momentum"], group["weight_decay"]]
    options = [group["maximize"], group["weight_decay"] != 0, group["momentum"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, gsnrs, momentum_buffers = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, momentum_buffers],
            numbers=[gsnrs],
        )
    return launch.run()


_CPU = r"""// SGDSaI in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    gsnr_t *gsnr;
    double lr;
    double momentum;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double gsnr;
};

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
            if (weight_decay_is_not_0) {
                // p *= 1 - lr*weight_decay
                p = p * real(1.0 - row.lr * row.weight_decay);
            }
            if (momentum_is_not_0) {
                // momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
                momentum_buffer = lerp_(momentum_buffer, grad, real(1.0 -
                    row.momentum));
            }
            // update = momentum_buffer if momentum != 0 else grad
            const real update = momentum_is_not_0 ? momentum_buffer : grad;
            // p -= lr*gsnr*update
            p = p - real(row.lr * n.gsnr) * update;
            store(row.p[i], p);
            if (has_momentum_buffer) store(row.momentum_buffer[i], momentum_buffer);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_sgdsai(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[2][at];
        row.gsnr = (gsnr_t *)table->columns[3][at];
        const double *hyper = table->hypers + 3 * table->group[at];
        row.lr = *hyper++;
        row.momentum = *hyper++;
        row.weight_decay = *hyper++;
        numbers[at].gsnr = load(*row.gsnr);
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# SGDSaI in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    elements,
    gradient,
    if_there,
    keep,
    lerp,
    number,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t", "gsnr_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "momentum_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, numbers, found_inf,
    gsnr_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    gsnr = number(columns, rows, row, 3, gsnr_t)
    tl.store(n + 0 * rows, gsnr)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    momentum_is_not_0: tl.constexpr,
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
    of = hypers + 3 * tl.load(group + row)
    lr = tl.load(of + 0)
    momentum = tl.load(of + 1)
    weight_decay = tl.load(of + 2)
    gsnr = tl.load(n + 0 * rows)
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
    if momentum_is_not_0:
        # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
        momentum_buffer = lerp(momentum_buffer, grad, (1.0 - momentum).to(real))
    # update = momentum_buffer if momentum != 0 else grad
    update = momentum_buffer if momentum_is_not_0 else grad
    # p -= lr*gsnr*update
    p = p - (lr * gsnr).to(real) * update
    keep(p_at, i, left, p)
    keep(momentum_buffer_at, i, momentum_buffer_left, momentum_buffer)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_sgdsai",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "momentum_buffer"),
    numbers=("gsnr",),
    optional=("momentum_buffer",),
    options=("maximize", "weight_decay_is_not_0", "momentum_is_not_0"),
    elementwise=True,
    cuda=_CUDA,
)
