"""Tiger: the sign of a momentum, scaled to the weights that it moves.

Su (2023), Tiger: A Tight-fisted Optimizer, https://kexue.fm/archives/9512
Follows the author's code, https://github.com/bojone/tiger, without its accumulation of
gradients and its guard against NaN. It knows biases and gains by their names; here they
are what has one axis. pytorch_optimizer scales no parameter.
"""
# Compiled by optdsl from tiger.opt, content 23b616d91add.

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

__all__ = ["Tiger"]


class Tiger(Optimizer):
    """Tiger: the sign of a momentum, scaled to the weights that it moves.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, relative to the weights, in [0, inf)
            (default: 1e-3).
        beta (float, optional): decay of the momentum, in [0, 1) (default: 0.965).
        weight_decay (float, optional): share of a weight that decays, times its rate,
            in [0, inf) (default: 0.01).
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
        m: running mean of the gradient (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        beta: float = 0.965,
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
            "beta": beta,
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
            group.setdefault("beta", 0.965)
            group.setdefault("weight_decay", 0.01)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "beta", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        ms: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Tiger does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Tiger does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["m"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            params.append(p)
            grads.append(grad)
            ms.append(state["m"])

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
            ms: list[Tensor] = []
            self._init_group(group, params, grads, ms)
            groups.append((group, [params, grads, ms]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, ms = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_tiger if use_foreach else _single_tensor_tiger
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_tiger_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_tiger
            update(
                params,
                grads,
                ms,
                lr=group["lr"],
                beta=group["beta"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    beta = group["beta"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("beta", beta)
    if not 0 <= beta < 1:
        raise ValueError(f"Invalid beta: {beta!r}, expected a number in [0, 1)")
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


def _single_tensor_tiger(
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    *,
    lr: float,
    beta: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, m in zip(params, grads, ms, strict=True):
        grad = grad if not maximize else -grad

        # m = lerp(m, grad, 1 - beta)
        m.lerp_(grad, 1 - beta)
        if p.ndim > 1:
            # rate = lr*norm(p)/max(1, numel(p))**0.5
            rate = torch.linalg.vector_norm(p) * (lr / max(1, p.numel()) ** 0.5)

            # p *= 1 - rate*weight_decay
            p.mul_(1 - rate * weight_decay)

            # p -= rate*sign(m)
            p.addcmul_(rate, m.sign(), value=-1)
        else:
            # p -= 0.5*lr*sign(m)
            p.add_(m.sign(), alpha=-0.5 * lr)


def _multi_tensor_tiger(
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    *,
    lr: float,
    beta: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, beta, weight_decay = map(float, (lr, beta, weight_decay))

    columns = [params, grads, ms]
    keys = [p.shape for p in params]
    for params, grads, ms in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)

        # m = lerp(m, grad, 1 - beta)
        torch._foreach_lerp_(ms, grads, 1 - beta)
        del grads
        if params[0].ndim > 1:
            # rate = lr*norm(p)/max(1, numel(p))**0.5
            norms = torch._foreach_norm(params)
            rates = torch._foreach_mul(norms, lr / max(1, params[0].numel()) ** 0.5)

            # p *= 1 - rate*weight_decay
            products = torch._foreach_mul(rates, weight_decay)
            torch._foreach_neg_(products)
            torch._foreach_add_(products, 1)
            torch._foreach_mul_(params, products)

            # p -= rate*sign(m)
            signs = torch._foreach_sign(ms)
            torch._foreach_addcmul_(params, rates, signs, value=-1)
        else:
            # p -= 0.5*lr*sign(m)
            signs = torch._foreach_sign(ms)
            torch._foreach_add_(params, signs, alpha=-0.5 * lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_tiger(
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    *,
    lr: float,
    beta: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, m in zip(params, grads, ms, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, m)
        p, m = (each.clone() for each in kept)

        # m = lerp(m, grad, 1 - beta)
        m = m.lerp(grad, 1 - beta)
        if p.ndim > 1:
            # rate = lr*norm(p)/max(1, numel(p))**0.5
            rate = torch.linalg.vector_norm(p) * (lr / max(1, p.numel()) ** 0.5)

            # p *= 1 - rate*weight_decay
            p = p * (1 - rate * weight_decay)

            # p -= rate*sign(m)
            p = p.addcmul(rate, m.sign(), value=-1)
        else:
            # p -= 0.5*lr*sign(m)
            p = _scaled_add(p, m.sign(), -0.5 * lr)

        for each, new in zip(kept, (p, m), strict=True):
            each.copy_(new)


def _multi_tensor_tiger_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    ms: list[Tensor],
    *,
    lr: float,
    beta: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    columns = [params, grads, ms]
    keys = [p.shape for p in params]
    for params, grads, ms in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)

        # m = lerp(m, grad, 1 - beta)
        torch._foreach_lerp_(ms, grads, 1 - beta)
        del grads
        if params[0].ndim > 1:
            # rate = lr*norm(p)/max(1, numel(p))**0.5
            norms = torch._foreach_norm(params)
            rates = torch._foreach_mul(norms, lr / max(1, params[0].numel()) ** 0.5)

            # p *= 1 - rate*weight_decay
            products = torch._foreach_mul(rates, weight_decay)
            torch._foreach_neg_(products)
            torch._foreach_add_(products, 1)
            torch._foreach_mul_(params, products)

            # p -= rate*sign(m)
            signs = torch._foreach_sign(ms)
            torch._foreach_addcmul_(params, rates, signs, value=-1)
        else:
            # p -= 0.5*lr*sign(m)
            signs = torch._foreach_sign(ms)
            products = torch._foreach_mul(signs, -0.5 * lr)
            torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["beta"], group["weight_decay"]]
    options = [group["maximize"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, ms = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, ms],
            numbers=[],
            asked=[[p.ndim for p in params], [p.numel() for p in params]],
        )
    return launch.run()


_CPU = r"""// Tiger in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    m_t *m;
    double lr;
    double beta;
    double weight_decay;
    double ndim;
    double numel__;
};

// What is worked out once a tensor.
struct Numbers {
    double norm, rate;
};

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double norm = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::m);
        #pragma omp simd reduction(+: norm)
        for (int64_t i = at; i < to; ++i) {
            const real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real m = load(row.m[i]);
            // m = lerp(m, grad, 1 - beta)
            m = kept<m_t>(lerp_(m, grad, real(1.0 - row.beta)));
            if (row.ndim > 1.0) {
                // norm(p)
                norm += square_(double(p));
            }
            store(row.m[i], m);
        }
    }
    sums[0] = norm;
}

static void numbers_1(const Row &row, Numbers &n) {
    if (row.ndim > 1.0) {
        // rate = lr*norm(p)/max(1, numel(p))**0.5
        n.rate = row.lr * n.norm / std::pow(max_(1.0, row.numel__), 0.5);
    }
}

static void pass_2(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::m);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real m = load(row.m[i]);
            if (row.ndim > 1.0) {
                // p *= 1 - rate*weight_decay
                p = p * real(1.0 - n.rate * row.weight_decay);
                // p -= rate*sign(m)
                p = p - real(n.rate) * sign_(m);
            } else {
                // p -= 0.5*lr*sign(m)
                p = p - real(0.5 * row.lr) * sign_(m);
            }
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_tiger(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.m = (m_t *)table->columns[2][at];
        const double *hyper = table->hypers + 3 * table->group[at];
        row.lr = *hyper++;
        row.beta = *hyper++;
        row.weight_decay = *hyper++;
        row.ndim = table->asked[at];
        row.numel__ = table->asked[1 * table->rows + at];
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
        numbers[at].norm = std::sqrt(sums[1 * at + 0]);
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_1(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# Tiger in 2 passes over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    keep,
    kept,
    larger,
    lerp,
    overflowed,
    sign,
    square,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "m_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, group, hypers, asked, parts,
    found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    m_t: tl.constexpr,
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
    of = hypers + 3 * tl.load(group + row)
    beta = tl.load(of + 1)
    ndim = tl.load(asked + 0 * rows + row)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    m_at = column(columns, rows, row, 2, m_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    m = elements(m_at, i, left, real)
    # m = lerp(m, grad, 1 - beta)
    m = kept(lerp(m, grad, (1.0 - beta).to(real)), m_t)
    norm = double(0.0)
    if ndim > 1.0:
        # norm(p)
        norm = norm + total(square(p.to(tl.float64)), i, left)
    keep(m_at, i, left, m)
    tl.store(parts + 0 * chunks + chunk, norm)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_1(
    rows, chunks, starts, group, hypers, asked, numbers, parts, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 3 * tl.load(group + row)
    lr = tl.load(of + 0)
    ndim = tl.load(asked + 0 * rows + row)
    numel_ = tl.load(asked + 1 * rows + row)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # norm(p)
    norm = tl.sqrt(sum_of(parts + 0 * chunks, begin, end))
    rate = double(0.0)
    if ndim > 1.0:
        # rate = lr*norm(p)/max(1, numel(p))**0.5
        rate = lr * norm / libdevice.pow(larger(double(1.0), numel_), double(0.5))
    tl.store(n + 0 * rows, rate)


@triton.jit(do_not_specialize=["rows"])
def pass_2(
    columns, rows, row_of, starts, numel, group, hypers, asked, numbers, found_inf,
    p_t: tl.constexpr,
    m_t: tl.constexpr,
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
    weight_decay = tl.load(of + 2)
    ndim = tl.load(asked + 0 * rows + row)
    rate = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    m_at = column(columns, rows, row, 2, m_t, aligned) + begin
    p = elements(p_at, i, left, real)
    m = elements(m_at, i, left, real)
    if ndim > 1.0:
        # p *= 1 - rate*weight_decay
        p = p * (1.0 - rate * weight_decay).to(real)
        # p -= rate*sign(m)
        p = p - rate.to(real) * sign(m)
    else:
        # p -= 0.5*lr*sign(m)
        p = p - (0.5 * lr).to(real) * sign(m)
    keep(p_at, i, left, p)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.parts = x.new(1 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_1)
    x.each_chunk(pass_2)
"""

_KERNELS = _Kernel and _Kernel(
    "step_tiger",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "m"),
    options=("maximize",),
    cuda=_CUDA,
    scaled=True,
)
