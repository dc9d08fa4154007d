"""FTRL-proximal: the weights that would have been best so far, many of them zero.

McMahan et al. (2013), Ad Click Prediction: a View from the Trenches, algorithm 1,
https://doi.org/10.1145/2487575.2488200
Follows the paper, where weights start at zero: as in TensorFlow and pytorch_optimizer,
which have beta = 0 and a power in place of the root, one whose gradients were all zero
becomes zero. Here z is kept times lr, which changes nothing while lr is constant, and
lets a schedule pass through 0.
"""
# Compiled by optdsl from ftrl.opt, content 4cc4803f39f4.

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

__all__ = ["FTRL"]


class FTRL(Optimizer):
    """FTRL-proximal: the weights that would have been best so far, many of them zero.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, alpha in the paper, in (0, inf) (default:
            1e-3).
        beta (float, optional): added to the root of the sum of squares, in [0, inf)
            (default: 1).
        lambda_1 (float, optional): L1 penalty, which sets weights to zero, in [0, inf)
            (default: 0).
        lambda_2 (float, optional): L2 penalty, in [0, inf) (default: 0).
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
        z: sum of gradients, less the pull of the weights they were taken at, times lr
            (like p).
        n: sum of squared gradients (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        beta: float = 1,
        lambda_1: float = 0,
        lambda_2: float = 0,
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
            "lambda_1": lambda_1,
            "lambda_2": lambda_2,
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
            group.setdefault("beta", 1)
            group.setdefault("lambda_1", 0)
            group.setdefault("lambda_2", 0)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "beta", "lambda_1", "lambda_2"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        zs: list[Tensor],
        ns: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("FTRL does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["z"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["n"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            params.append(p)
            grads.append(grad)
            zs.append(state["z"])
            ns.append(state["n"])

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
            zs: list[Tensor] = []
            ns: list[Tensor] = []
            self._init_group(group, params, grads, zs, ns)
            groups.append((group, [params, grads, zs, ns]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, zs, ns = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_ftrl if use_foreach else _single_tensor_ftrl
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_ftrl_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_ftrl
            update(
                params,
                grads,
                zs,
                ns,
                lr=group["lr"],
                beta=group["beta"],
                lambda_1=group["lambda_1"],
                lambda_2=group["lambda_2"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    beta = group["beta"]
    lambda_1 = group["lambda_1"]
    lambda_2 = group["lambda_2"]
    _check_number("lr", lr)
    if not 0 < lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in (0, inf)")
    _check_number("beta", beta)
    if not 0 <= beta < math.inf:
        raise ValueError(f"Invalid beta: {beta!r}, expected a number in [0, inf)")
    _check_number("lambda_1", lambda_1)
    if not 0 <= lambda_1 < math.inf:
        raise ValueError(
            f"Invalid lambda_1: {lambda_1!r}, expected a number in [0, inf)"
        )
    _check_number("lambda_2", lambda_2)
    if not 0 <= lambda_2 < math.inf:
        raise ValueError(
            f"Invalid lambda_2: {lambda_2!r}, expected a number in [0, inf)"
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


def _single_tensor_ftrl(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    ns: list[Tensor],
    *,
    lr: float,
    beta: float,
    lambda_1: float,
    lambda_2: float,
    maximize: bool,
) -> None:
    strength = max(beta + lr * lambda_2, 1e-30)

    for p, grad, z, n in zip(params, grads, zs, ns, strict=True):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad, z, n = map(torch.view_as_real, (p, grad, z, n))

        # root_before = sqrt(n)
        root_before = n.sqrt()

        # n += grad*grad
        n.addcmul_(grad, grad)

        # root = sqrt(n)
        root = n.sqrt()

        # z = z + lr*grad + (root_before - root)*p
        z.add_(grad, alpha=lr).addcmul_(root_before.sub_(root), p)

        # p = (clamp(z, -lr*lambda_1, lr*lambda_1) - z)/(root + strength)
        p.copy_(
            z.clamp(min=-lr * lambda_1, max=lr * lambda_1)
            .sub_(z)
            .div_(root.add_(strength))
        )


def _multi_tensor_ftrl(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    ns: list[Tensor],
    *,
    lr: float,
    beta: float,
    lambda_1: float,
    lambda_2: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, beta, lambda_1, lambda_2 = map(float, (lr, beta, lambda_1, lambda_2))
    strength = max(beta + lr * lambda_2, 1e-30)

    columns = [params, grads, zs, ns]
    for params, grads, zs, ns in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            zs = [torch.view_as_real(each) for each in zs]
            ns = [torch.view_as_real(each) for each in ns]

        # root_before = sqrt(n)
        root_befores = torch._foreach_sqrt(ns)

        # n += grad*grad
        torch._foreach_addcmul_(ns, grads, grads)

        # root = sqrt(n)
        roots = torch._foreach_sqrt(ns)

        # z = z + lr*grad + (root_before - root)*p
        torch._foreach_add_(zs, grads, alpha=lr)
        del grads
        torch._foreach_sub_(root_befores, roots)
        torch._foreach_addcmul_(zs, root_befores, params)
        del root_befores

        # p = (clamp(z, -lr*lambda_1, lr*lambda_1) - z)/(root + strength)
        clampeds = torch._foreach_clamp_min(zs, -lr * lambda_1)
        torch._foreach_clamp_max_(clampeds, lr * lambda_1)
        torch._foreach_sub_(clampeds, zs)
        torch._foreach_add_(roots, strength)
        torch._foreach_div_(clampeds, roots)
        torch._foreach_copy_(params, clampeds)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_ftrl(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    ns: list[Tensor],
    *,
    lr: float,
    beta: float,
    lambda_1: float,
    lambda_2: float,
    maximize: bool,
) -> None:
    strength = max(beta + lr * lambda_2, 1e-30)

    for p, grad, z, n in zip(params, grads, zs, ns, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, z, n)
        p, z, n = (each.clone() for each in kept)
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, z, n = map(torch.view_as_real, (p, grad, z, n))

        # root_before = sqrt(n)
        root_before = n.sqrt()

        # n += grad*grad
        n = n.addcmul(grad, grad)

        # root = sqrt(n)
        root = n.sqrt()

        # z = z + lr*grad + (root_before - root)*p
        z = _scaled_add(z, grad, lr).addcmul(root_before - root, p)

        # p = (clamp(z, -lr*lambda_1, lr*lambda_1) - z)/(root + strength)
        p = (z.clamp(min=-lr * lambda_1, max=lr * lambda_1) - z) / (root + strength)
        if is_complex:
            p, z, n = map(torch.view_as_complex, (p, z, n))

        for each, new in zip(kept, (p, z, n), strict=True):
            each.copy_(new)


def _multi_tensor_ftrl_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    zs: list[Tensor],
    ns: list[Tensor],
    *,
    lr: float,
    beta: float,
    lambda_1: float,
    lambda_2: float,
    maximize: bool,
) -> None:
    strength = max(beta + lr * lambda_2, 1e-30)

    columns = [params, grads, zs, ns]
    for params, grads, zs, ns in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            zs = [torch.view_as_real(each) for each in zs]
            ns = [torch.view_as_real(each) for each in ns]

        # root_before = sqrt(n)
        root_befores = torch._foreach_sqrt(ns)

        # n += grad*grad
        torch._foreach_addcmul_(ns, grads, grads)

        # root = sqrt(n)
        roots = torch._foreach_sqrt(ns)

        # z = z + lr*grad + (root_before - root)*p
        products = torch._foreach_mul(grads, lr)
        del grads
        torch._foreach_add_(zs, products)
        del products
        torch._foreach_sub_(root_befores, roots)
        torch._foreach_addcmul_(zs, root_befores, params)
        del root_befores

        # p = (clamp(z, -lr*lambda_1, lr*lambda_1) - z)/(root + strength)
        clampeds = torch._foreach_clamp_min(zs, -lr * lambda_1)
        torch._foreach_clamp_max_(clampeds, lr * lambda_1)
        torch._foreach_sub_(clampeds, zs)
        torch._foreach_add_(roots, strength)
        torch._foreach_div_(clampeds, roots)
        torch._foreach_copy_(params, clampeds)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["beta"], group["lambda_1"], group["lambda_2"]]
    options = [group["maximize"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, zs, ns = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, zs, ns],
            numbers=[],
        )
    return launch.run()


_CPU = r"""// FTRL in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    z_t *z;
    n__t *n_;
    double lr;
    double beta;
    double lambda_1;
    double lambda_2;
};

// What is worked out once a tensor.
struct Numbers {
    double strength;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // strength = max(beta + lr*lambda_2, 1e-30)
    n.strength = max_(row.beta + row.lr * row.lambda_2, 1e-30);
    return are_finite(n.strength);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::z, &Row::n_);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real z = load(row.z[i]);
            real n_ = load(row.n_[i]);
            // root_before = sqrt(n)
            const real root_before = sqrt_(n_);
            // n += grad*grad
            n_ = n_ + grad * grad;
            // root = sqrt(n)
            const real root = sqrt_(n_);
            // z = z + lr*grad + (root_before - root)*p
            z = z + real(row.lr) * grad + (root_before - root) * p;
            // p = (clamp(z, -lr*lambda_1, lr*lambda_1) - z)/(root + strength)
            p = (clamp_(z, real(-row.lr * row.lambda_1), real(row.lr * row.lambda_1)) -
                z) / (root + real(n.strength));
            store(row.p[i], p);
            store(row.z[i], z);
            store(row.n_[i], n_);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_ftrl(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.z = (z_t *)table->columns[2][at];
        row.n_ = (n__t *)table->columns[3][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.lr = *hyper++;
        row.beta = *hyper++;
        row.lambda_1 = *hyper++;
        row.lambda_2 = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# FTRL in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    clamp,
    column,
    double,
    elements,
    gradient,
    keep,
    larger,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "z_t", "n__t")
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
    lr = tl.load(of + 0)
    beta = tl.load(of + 1)
    lambda_2 = tl.load(of + 3)
    # strength = max(beta + lr*lambda_2, 1e-30)
    strength = larger(beta + lr * lambda_2, double(1e-30))
    tl.store(n + 0 * rows, strength)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    z_t: tl.constexpr,
    n__t: tl.constexpr,
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
    lambda_1 = tl.load(of + 2)
    strength = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    z_at = column(columns, rows, row, 2, z_t, aligned) + begin
    n__at = column(columns, rows, row, 3, n__t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    z = elements(z_at, i, left, real)
    n_ = elements(n__at, i, left, real)
    # root_before = sqrt(n)
    root_before = tl.sqrt(n_)
    # n += grad*grad
    n_ = n_ + grad * grad
    # root = sqrt(n)
    root = tl.sqrt(n_)
    # z = z + lr*grad + (root_before - root)*p
    z = z + lr.to(real) * grad + (root_before - root) * p
    # p = (clamp(z, -lr*lambda_1, lr*lambda_1) - z)/(root + strength)
    p = (clamp(z, (-lr * lambda_1).to(real), (lr * lambda_1).to(real)) - z) / (
        root + strength.to(real)
    )
    keep(p_at, i, left, p)
    keep(z_at, i, left, z)
    keep(n__at, i, left, n_)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_ftrl",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "z", "n_"),
    options=("maximize",),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
