"""SGLD: gradient descent with noise, whose iterates are samples of a posterior.

Welling and Teh (2011), Bayesian Learning via Stochastic Gradient Langevin Dynamics,
https://www.stats.ox.ac.uk/~teh/research/compstats/WelTeh2011a.pdf
The loss is minus the logarithm of the posterior: of the whole data, not of a batch.
"""
# Compiled by optdsl from sgld.opt, content b188e992ebcf.

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
    from optdsl.runtime.turns import Turns as _Turns
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None

__all__ = ["SGLD"]


class SGLD(Optimizer):
    """SGLD: gradient descent with noise, whose iterates are samples of a posterior.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): step size, the variance of the noise, in [0, inf)
            (default: 1e-4).
        temperature (float, optional): scale of that variance; 0 for the gradient alone,
            in [0, inf) (default: 1.0).
        weight_decay (float, optional): precision of a normal prior around zero, in [0,
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
        step: number of updates (0-d tensor).

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
        lr: float = 1e-4,
        temperature: float = 1.0,
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
            "temperature": temperature,
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
            group.setdefault("temperature", 1.0)
            group.setdefault("weight_decay", 0)
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
        for name in ("lr", "temperature", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        seeds: list[int],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for at, p in enumerate(group["params"]):
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("SGLD does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
            params.append(p)
            grads.append(grad)
            seeds.append(_mixed(group["seed"], at, int(state["step"]) + 1))
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
        if found_inf is not None and found_inf.item():
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
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            seeds: list[int] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, seeds, steps)
            groups.append((group, [params, grads, seeds, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, seeds, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_sgld if use_foreach else _single_tensor_sgld
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_sgld
            update(
                params,
                grads,
                seeds,
                steps,
                lr=group["lr"],
                temperature=group["temperature"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    temperature = group["temperature"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("temperature", temperature)
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"Invalid temperature: {temperature!r}, expected a number in [0, inf)"
        )
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["capturable"]:
        raise RuntimeError("SGLD cannot be captured: it draws random numbers")


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
    """A number as a tensor: on the CPU, unless steps are to be captured."""
    device = p.device if group["capturable"] else None
    return torch.tensor(value, dtype=_get_scalar_dtype(), device=device)


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _single_tensor_sgld(
    params: list[Tensor],
    grads: list[Tensor],
    seeds: list[int],
    steps: list[Tensor],
    *,
    lr: float,
    temperature: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, seed, step in zip(params, grads, seeds, steps, strict=True):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad = map(torch.view_as_real, (p, grad))
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # p -= 0.5*lr*grad
        p.add_(grad, alpha=-0.5 * lr)

        # p += sqrt(lr*temperature)*randn_like(p)
        p.add_(_randn_like(p, seed, 0), alpha=math.sqrt(lr * temperature))


def _multi_tensor_sgld(
    params: list[Tensor],
    grads: list[Tensor],
    seeds: list[int],
    steps: list[Tensor],
    *,
    lr: float,
    temperature: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, temperature, weight_decay = map(float, (lr, temperature, weight_decay))

    columns = [params, grads, seeds, steps]
    for params, grads, seeds, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            given = grads
        if weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)

        # p -= 0.5*lr*grad
        torch._foreach_add_(params, grads, alpha=-0.5 * lr)

        # p += sqrt(lr*temperature)*randn_like(p)
        for p, seed in zip(params, seeds, strict=True):
            p.add_(_randn_like(p, seed, 0), alpha=math.sqrt(lr * temperature))


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_sgld(
    params: list[Tensor],
    grads: list[Tensor],
    seeds: list[int],
    steps: list[Tensor],
    *,
    lr: float,
    temperature: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, seed, step in zip(params, grads, seeds, steps, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, step)
        p, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad = map(torch.view_as_real, (p, grad))
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # p -= 0.5*lr*grad
        p = _scaled_add(p, grad, -0.5 * lr)

        # p += sqrt(lr*temperature)*randn_like(p)
        p = _scaled_add(p, _randn_like(p, seed, 0), math.sqrt(lr * temperature))
        if is_complex:
            p = torch.view_as_complex(p)

        for each, new in zip(kept, (p, step), strict=True):
            each.copy_(new)


def _kernel_numbers_1(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["temperature"], group["weight_decay"]]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _between_sgld(
    params: list[Tensor],
    seeds: list[int],
    steps: list[Tensor],
) -> list[Tensor]:
    torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)

    # randn_like(p)
    noises = [_randn_like(p, seed, 0) for p, seed in zip(params, seeds, strict=True)]
    return noises


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels and torch in turns the groups that ask for it; return those
    that are left.
    """
    taken, left = _KERNELS.apart(optimizer, groups)
    for group, columns in taken:
        params, grads, seeds, steps = columns
        turns = _KERNELS.of(optimizer, group, {"p": params, "grad": grads})
        if turns is None:
            left.append((group, columns))
            continue
        (turn_1,) = turns
        keys = [p.shape for p in params]
        for batch in _alike(columns, keys):
            params, grads, seeds, steps = batch
            noises = _between_sgld(params, seeds, steps)
            noises = _KERNELS.handed(batch, noises)
            turn_1(params, grads, noises)
    return left


_CPU_1 = r"""// SGLD, turn 1, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    noise_t *noise;
    double lr;
    double temperature;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double root;
};

static void numbers_1(const Row &row, Numbers &n) {
    // sqrt(lr*temperature)
    n.root = sqrt_(row.lr * row.temperature);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::noise);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            const real noise = load(row.noise[i]);
            // if weight_decay != 0: grad += weight_decay*p
            real gradient = grad;
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                gradient = gradient + real(row.weight_decay) * p;
            }
            // p -= 0.5*lr*grad
            p = p - real(0.5 * row.lr) * gradient;
            // p += sqrt(lr*temperature)*randn_like(p)
            p = p + real(n.root) * noise;
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_sgld(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.noise = (noise_t *)table->columns[2][at];
        const double *hyper = table->hypers + 3 * table->group[at];
        row.lr = *hyper++;
        row.temperature = *hyper++;
        row.weight_decay = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_1(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_1 = r"""# SGLD, turn 1, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, gradient, keep, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "noise_t")
OPTIONS = ("maximize", "weight_decay_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    rows, group, hypers, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 3 * tl.load(group + row)
    lr = tl.load(of + 0)
    temperature = tl.load(of + 1)
    # sqrt(lr*temperature)
    root = tl.sqrt(lr * temperature)
    tl.store(n + 0 * rows, root)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    noise_t: tl.constexpr,
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
    n = numbers + row
    of = hypers + 3 * tl.load(group + row)
    lr = tl.load(of + 0)
    weight_decay = tl.load(of + 2)
    root = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    noise_at = column(columns, rows, row, 2, noise_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    noise = elements(noise_at, i, left, real)
    # if weight_decay != 0: grad += weight_decay*p
    gradient_ = grad
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        gradient_ = gradient_ + weight_decay.to(real) * p
    # p -= 0.5*lr*grad
    p = p - (0.5 * lr).to(real) * gradient_
    # p += sqrt(lr*temperature)*randn_like(p)
    p = p + root.to(real) * noise
    keep(p_at, i, left, p)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Turns(
    _Kernel(
        "step_sgld",
        _CPU_1,
        _kernel_numbers_1,
        elements=("p", "grad", "noise"),
        options=("maximize", "weight_decay_is_not_0"),
        cuda=_CUDA_1,
    ),
)
