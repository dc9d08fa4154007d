"""Gravity: a velocity that starts at random, and gradients of limited size.

Bahrami and Pakzad Zadeh (2021), Gravity Optimizer: a Kinematic Approach on Optimization
in Deep Learning, https://arxiv.org/abs/2101.09192
The authors' code, https://github.com/dariush-bahrami/gravity.optimizer
"""
# Compiled by optdsl from gravity.opt, content e826085e9f2f.

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
    _get_scalar_dtype,
    _to_scalar,
    _use_grad_for_differentiable,
)

try:
    from optdsl.runtime.kernel import Kernel as _Kernel
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None

__all__ = ["Gravity"]


class Gravity(Optimizer):
    """Gravity: a velocity that starts at random, and gradients of limited size.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 0.1).
        alpha (float, optional): size of the first steps, whatever the learning rate, in
            [0, inf) (default: 0.01).
        beta (float, optional): decay of the velocity, after many steps, in [0, 1]
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
        step: number of updates (0-d tensor).
        velocity: mean of the gradients (like p).

    A group keeps as well, and `state_dict` with it:
        seed (int): where its random numbers start; drawn from torch's default generator
            when the group is added without one.

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        alpha: float = 0.01,
        beta: float = 0.9,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "beta": beta,
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
            group.setdefault("lr", 0.1)
            group.setdefault("alpha", 0.01)
            group.setdefault("beta", 0.9)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)
            if "seed" not in group:
                group["seed"] = _new_seed()
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step",):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        if "seed" not in param_group:
            param_group["seed"] = _new_seed()
        _check_int("seed", param_group["seed"])
        super().add_param_group(param_group)
        for name in ("lr", "alpha", "beta"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        velocitys: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for at, p in enumerate(group["params"]):
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Gravity does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Gravity does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                start = p.clone() if group["differentiable"] else p
                state["velocity"] = (
                    _randn_like(start, _mixed(group["seed"], at, 1), 0)
                    * (group["alpha"] / group["lr"] if group["lr"] > 0 else 0)
                )
            params.append(p)
            grads.append(grad)
            velocitys.append(state["velocity"])
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

    @torch.compiler.disable
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
            velocitys: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, velocitys, steps)
            groups.append((group, [params, grads, velocitys, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, velocitys, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_gravity if use_foreach else _single_tensor_gravity
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_gravity
            update(
                params,
                grads,
                velocitys,
                steps,
                lr=group["lr"],
                beta=group["beta"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    alpha = group["alpha"]
    beta = group["beta"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("alpha", alpha)
    if not 0 <= alpha < math.inf:
        raise ValueError(f"Invalid alpha: {alpha!r}, expected a number in [0, inf)")
    _check_number("beta", beta)
    if not 0 <= beta <= 1:
        raise ValueError(f"Invalid beta: {beta!r}, expected a number in [0, 1]")
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["capturable"]:
        raise RuntimeError("Gravity cannot be captured: it draws random numbers")


def _check_number(name: str, value: Any) -> None:
    """Raise where a value is no number, nor a tensor of one element."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"Invalid {name}: {value!r}, expected one number")
    if not isinstance(value, (Real, Tensor)):
        raise TypeError(f"Invalid {name}: {value!r}, expected a number")


def _check_int(name: str, value: Any) -> None:
    """Raise where a value is no whole number."""
    if not isinstance(value, int):
        raise TypeError(f"Invalid {name}: {value!r}, expected an int")


def _as_scalar(value: Any) -> Any:
    """A tensor of one element without its axes; anything else as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_as_scalar, value))
    return _to_scalar(value)


def _new_seed() -> int:
    """Where the random numbers of a group start, from torch's default generator."""
    return int(torch.randint(2**62, ()))


def _mixed(*numbers: int) -> int:
    """A seed made of several numbers, each of which changes all of it."""
    seed = 1
    for number in numbers:
        seed = (seed ^ number) * 0x9E3779B97F4A7C15 % 2**63
        seed ^= seed >> 32
    return seed


def _randn_like(x: Tensor, seed: int, draw: int) -> Tensor:
    """Standard normal numbers, as many as x has, drawn in float32 on its device."""
    generator = torch.Generator(x.device).manual_seed(_mixed(seed, draw))
    drawn = torch.randn(
        x.shape, generator=generator, device=x.device, dtype=torch.float32
    )
    return drawn.to(x.dtype)


def _zero_dim(value: float, group: dict[str, Any], p: Tensor) -> Tensor:
    """A number as a tensor: on the CPU, unless steps are to be captured, or kernels on
    the parameter's device read it.
    """
    near = group["capturable"]
    if _KERNELS:
        near = near or _KERNELS.has_numbers_near(group, p)
    device = p.device if near else None
    return torch.tensor(value, dtype=_get_scalar_dtype(), device=device)


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _single_tensor_gravity(
    params: list[Tensor],
    grads: list[Tensor],
    velocitys: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    beta: float,
    maximize: bool,
) -> None:
    for p, grad, velocity, step in zip(params, grads, velocitys, steps, strict=True):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if p.numel() > 0:
            decay = (beta * (t - 1) + 1) / (t + 1)

            # held = grad/(1 + (grad*max(abs(grad)))**2)
            held = grad / (grad * grad.abs().amax()).square().add_(1)

            # velocity = decay*velocity + (1 - decay)*held
            velocity.mul_(decay).add_(held, alpha=1 - decay)

            # p -= lr*velocity
            p.add_(velocity, alpha=-lr)


def _multi_tensor_gravity(
    params: list[Tensor],
    grads: list[Tensor],
    velocitys: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    beta: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, beta = map(float, (lr, beta))

    columns = [params, grads, velocitys, steps]
    keys = [(p.shape, step.item()) for p, step in zip(params, steps, strict=True)]
    for params, grads, velocitys, steps in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if params[0].numel() > 0:
            decay = (beta * (t - 1) + 1) / (t + 1)

            # held = grad/(1 + (grad*max(abs(grad)))**2)
            magnitudes = torch._foreach_abs(grads)
            amaxes = [magnitude.amax() for magnitude in magnitudes]
            del magnitudes
            products = torch._foreach_mul(grads, amaxes)
            torch._foreach_mul_(products, products)
            torch._foreach_add_(products, 1)
            torch._foreach_reciprocal_(products)
            torch._foreach_mul_(products, grads)
            helds = products

            # velocity = decay*velocity + (1 - decay)*held
            torch._foreach_mul_(velocitys, decay)
            torch._foreach_add_(velocitys, helds, alpha=1 - decay)

            # p -= lr*velocity
            torch._foreach_add_(params, velocitys, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_gravity(
    params: list[Tensor],
    grads: list[Tensor],
    velocitys: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    beta: float,
    maximize: bool,
) -> None:
    for p, grad, velocity, step in zip(params, grads, velocitys, steps, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, velocity, step)
        p, velocity, step = (each.clone() for each in kept)
        step = step + 1
        t = step.item()
        if p.numel() > 0:
            decay = (beta * (t - 1) + 1) / (t + 1)

            # held = grad/(1 + (grad*max(abs(grad)))**2)
            held = grad / ((grad * grad.abs().amax()).square() + 1)

            # velocity = decay*velocity + (1 - decay)*held
            velocity = _scaled_add(velocity * decay, held, 1 - decay)

            # p -= lr*velocity
            p = _scaled_add(p, velocity, -lr)

        for each, new in zip(kept, (p, velocity, step), strict=True):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["beta"]]
    options = [group["maximize"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, velocitys, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, velocitys],
            numbers=[steps],
            asked=[[p.numel() for p in params]],
        )
    return launch.run()


_CPU = r"""// Gravity in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    velocity_t *velocity;
    step_t *step;
    double lr;
    double beta;
    double numel__;
};

// What is worked out once a tensor.
struct Numbers {
    double t, decay, max__;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    if (row.numel__ > 0.0) {
        // decay = (beta*(t - 1) + 1)/(t + 1)
        n.decay = (row.beta * (n.t - 1.0) + 1.0) / (n.t + 1.0);
    }
    return are_finite(n.decay);
}

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double max__ = -infinity, max___nans = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::grad);
        #pragma omp simd reduction(max: max__) reduction(+: max___nans)
        for (int64_t i = at; i < to; ++i) {
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            if (row.numel__ > 0.0) {
                // max(abs(grad))
                const double max___next = double(abs_(grad));
                max__ = max___next > max__ ? max___next : max__;
                max___nans += max___next != max___next;
            }
        }
    }
    sums[0] = max___nans > 0 ? NAN : max__;
}

static void pass_2(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::velocity);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real velocity = load(row.velocity[i]);
            real held = 0;
            if (row.numel__ > 0.0) {
                // held = grad/(1 + (grad*max(abs(grad)))**2)
                held = grad / (real(1.0) + square_(grad * real(n.max__)));
                // velocity = decay*velocity + (1 - decay)*held
                velocity = real(n.decay) * velocity + real(1.0 - n.decay) * held;
                // p -= lr*velocity
                p = p - real(row.lr) * velocity;
            }
            store(row.p[i], p);
            store(row.velocity[i], velocity);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_gravity(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.velocity = (velocity_t *)table->columns[2][at];
        row.step = (step_t *)table->columns[3][at];
        const double *hyper = table->hypers + 2 * table->group[at];
        row.lr = *hyper++;
        row.beta = *hyper++;
        row.numel__ = table->asked[at];
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 1, rows, numbers, numbers_1)) return 1;
    std::vector<double> parts(1 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[1 * at]);
    });
    const auto sums = gathered<1>(
        *table, chunks, parts, {-infinity},
        {larger});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].max__ = sums[1 * at + 0];
    }
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# Gravity in 2 passes over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    keep,
    keep_number,
    larger,
    largest,
    largest_of,
    number,
    overflowed,
    square,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "velocity_t", "step_t")
OPTIONS = ("maximize",)


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, asked, numbers, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 2 * tl.load(group + row)
    beta = tl.load(of + 1)
    numel_ = tl.load(asked + 0 * rows + row)
    t = number(columns, rows, row, 3, step_t) + 1
    decay = double(0.0)
    if numel_ > 0.0:
        # decay = (beta*(t - 1) + 1)/(t + 1)
        decay = (beta * (t - 1.0) + 1.0) / (t + 1.0)
    tl.store(n + 0 * rows, t)
    tl.store(n + 1 * rows, decay)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, asked, parts, found_inf, grad_scale,
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
    numel_ = tl.load(asked + 0 * rows + row)
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    max_ = double(float("-inf"))
    if numel_ > 0.0:
        # max(abs(grad))
        max_ = larger(max_, largest(tl.abs(grad), i, left))
    tl.store(parts + 0 * chunks + chunk, max_)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    columns, rows, chunks, starts, numbers, parts, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    t = tl.load(n + 0 * rows)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # max(abs(grad))
    max_ = largest_of(parts + 0 * chunks, begin, end)
    tl.store(n + 2 * rows, max_)
    keep_number(columns, rows, row, 3, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_2(
    columns, rows, row_of, starts, numel, group, hypers, asked, numbers, found_inf,
    grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    velocity_t: tl.constexpr,
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
    of = hypers + 2 * tl.load(group + row)
    lr = tl.load(of + 0)
    numel_ = tl.load(asked + 0 * rows + row)
    decay = tl.load(n + 1 * rows)
    max_ = tl.load(n + 2 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    velocity_at = column(columns, rows, row, 2, velocity_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    velocity = elements(velocity_at, i, left, real)
    if numel_ > 0.0:
        # held = grad/(1 + (grad*max(abs(grad)))**2)
        held = grad / (1.0 + square(grad * max_.to(real)))
        # velocity = decay*velocity + (1 - decay)*held
        velocity = decay.to(real) * velocity + (1.0 - decay).to(real) * held
        # p -= lr*velocity
        p = p - lr.to(real) * velocity
    keep(p_at, i, left, p)
    keep(velocity_at, i, left, velocity)


def launch(x):
    x.numbers = x.new(3 * x.rows)
    x.each_row(numbers_1)
    x.parts = x.new(1 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.each_chunk(pass_2)
"""

_KERNELS = _Kernel and _Kernel(
    "step_gravity",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "velocity"),
    numbers=("step",),
    options=("maximize",),
    cuda=_CUDA,
    scaled=True,
)
