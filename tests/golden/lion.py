"""Lion: the sign of an interpolated momentum.

Chen et al. (2023), Symbolic Discovery of Optimization Algorithms,
https://arxiv.org/abs/2302.06675
Follows the authors' code, https://github.com/google/automl/tree/master/lion
"""
# Compiled by optdsl from lion.opt, content d118af606911.

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

__all__ = ["Lion"]


class Lion(Optimizer):
    """Lion: the sign of an interpolated momentum.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-4).
        betas (tuple[float, float], optional): interpolation for the update, and for the
            momentum, in [0, 1) (default: (0.9, 0.99)).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0).
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
        exp_avg: momentum (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
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
            group.setdefault("lr", 1e-4)
            group.setdefault("betas", (0.9, 0.99))
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
        exp_avgs: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Lion does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])

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
            exp_avgs: list[Tensor] = []
            self._init_group(group, params, grads, exp_avgs)
            groups.append((group, [params, grads, exp_avgs]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, exp_avgs = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_lion if use_foreach else _single_tensor_lion
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_lion_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_lion
            update(
                params,
                grads,
                exp_avgs,
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
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
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


def _check_numbers(name: str, values: Any, size: int, nones: Any = ()) -> None:
    """Raise where a value is no tuple of numbers; those at `nones` may be None."""
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"Invalid {name}: {values!r}, expected {size} numbers")
    if len(values) != size:
        raise ValueError(f"Invalid {name}: {values!r}, expected {size} numbers")
    for at, value in enumerate(values):
        if not (value is None and at in nones):
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


def _single_tensor_lion(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg in zip(params, grads, exp_avgs, strict=True):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad, exp_avg = map(torch.view_as_real, (p, grad, exp_avg))

        # p *= 1 - lr*weight_decay
        p.mul_(1 - lr * weight_decay)

        # p -= lr*sign(beta1*exp_avg + (1 - beta1)*grad)
        p.add_((exp_avg * beta1).add_(grad, alpha=1 - beta1).sign_(), alpha=-lr)

        # exp_avg = beta2*exp_avg + (1 - beta2)*grad
        exp_avg.mul_(beta2).add_(grad, alpha=1 - beta2)


def _multi_tensor_lion(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, weight_decay = map(float, (lr, weight_decay))
    betas = tuple(map(float, betas))
    beta1, beta2 = betas

    columns = [params, grads, exp_avgs]
    for params, grads, exp_avgs in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]

        # p *= 1 - lr*weight_decay
        torch._foreach_mul_(params, 1 - lr * weight_decay)

        # p -= lr*sign(beta1*exp_avg + (1 - beta1)*grad)
        products = torch._foreach_mul(exp_avgs, beta1)
        torch._foreach_add_(products, grads, alpha=1 - beta1)
        torch._foreach_sign_(products)
        torch._foreach_add_(params, products, alpha=-lr)

        # exp_avg = beta2*exp_avg + (1 - beta2)*grad
        torch._foreach_mul_(exp_avgs, beta2)
        torch._foreach_add_(exp_avgs, grads, alpha=1 - beta2)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_lion(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg in zip(params, grads, exp_avgs, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg)
        p, exp_avg = (each.clone() for each in kept)
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, exp_avg = map(torch.view_as_real, (p, grad, exp_avg))

        # p *= 1 - lr*weight_decay
        p = p * (1 - lr * weight_decay)

        # p -= lr*sign(beta1*exp_avg + (1 - beta1)*grad)
        p = _scaled_add(p, _scaled_add(exp_avg * beta1, grad, 1 - beta1).sign(), -lr)

        # exp_avg = beta2*exp_avg + (1 - beta2)*grad
        exp_avg = _scaled_add(exp_avg * beta2, grad, 1 - beta2)
        if is_complex:
            p, exp_avg = map(torch.view_as_complex, (p, exp_avg))

        for each, new in zip(kept, (p, exp_avg), strict=True):
            each.copy_(new)


def _multi_tensor_lion_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    columns = [params, grads, exp_avgs]
    for params, grads, exp_avgs in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]

        # p *= 1 - lr*weight_decay
        torch._foreach_mul_(params, 1 - lr * weight_decay)

        # p -= lr*sign(beta1*exp_avg + (1 - beta1)*grad)
        products = torch._foreach_mul(exp_avgs, beta1)
        product_2s = torch._foreach_mul(grads, 1 - beta1)
        torch._foreach_add_(products, product_2s)
        del product_2s
        torch._foreach_sign_(products)
        product_3s = torch._foreach_mul(products, -lr)
        del products
        torch._foreach_add_(params, product_3s)
        del product_3s

        # exp_avg = beta2*exp_avg + (1 - beta2)*grad
        torch._foreach_mul_(exp_avgs, beta2)
        products = torch._foreach_mul(grads, 1 - beta2)
        torch._foreach_add_(exp_avgs, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["betas"][0], group["betas"][1], group["weight_decay"]]
    options = [group["maximize"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avgs = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs],
            numbers=[],
        )
    return launch.run()


_CPU = r"""// Lion in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    double lr;
    double betas[2];
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double beta1, beta2;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    return are_finite();
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            // p *= 1 - lr*weight_decay
            p = p * real(1.0 - row.lr * row.weight_decay);
            // p -= lr*sign(beta1*exp_avg + (1 - beta1)*grad)
            p = p - real(row.lr) * sign_(real(n.beta1) * exp_avg + real(1.0 - n.beta1) *
                grad);
            // exp_avg = beta2*exp_avg + (1 - beta2)*grad
            exp_avg = real(n.beta2) * exp_avg + real(1.0 - n.beta2) * grad;
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_lion(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.exp_avg = (exp_avg_t *)table->columns[2][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
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

_CUDA = r"""# Lion in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, gradient, keep, overflowed, sign

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "exp_avg_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    rows, group, hypers, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 4 * tl.load(group + row)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    tl.store(n + 0 * rows, beta1)
    tl.store(n + 1 * rows, beta2)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
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
    weight_decay = tl.load(of + 3)
    beta1 = tl.load(n + 0 * rows)
    beta2 = tl.load(n + 1 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    # p *= 1 - lr*weight_decay
    p = p * (1.0 - lr * weight_decay).to(real)
    # p -= lr*sign(beta1*exp_avg + (1 - beta1)*grad)
    p = p - lr.to(real) * sign(beta1.to(real) * exp_avg + (1.0 - beta1).to(real) * grad)
    # exp_avg = beta2*exp_avg + (1 - beta2)*grad
    exp_avg = beta2.to(real) * exp_avg + (1.0 - beta2).to(real) * grad
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)


def launch(x):
    x.numbers = x.new(2 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_lion",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg"),
    options=("maximize",),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
