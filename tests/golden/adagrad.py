"""Adagrad.

Duchi, Hazan and Singer (2011), Adaptive Subgradient Methods for Online Learning and
Stochastic Optimization, http://jmlr.org/papers/v12/duchi11a.html

A group's own initial_accumulator_value is obeyed; torch looks at the constructor's
alone.

Reference: torch.optim.Adagrad
"""
# Compiled by optdsl from adagrad.opt, content 0fd9cd278133.

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

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Adagrad.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf] (default: 1e-2).
        lr_decay (float, optional): decay of the learning rate over steps, in [0, inf]
            (default: 0).
        weight_decay (float, optional): L2 penalty, in [0, inf] (default: 0).
        initial_accumulator_value (float, optional): where the sum of squares starts, in
            [0, inf] (default: 0).
        eps (float, optional): added to the denominator, in [0, inf] (default: 1e-10).
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
        sum: sum of squared gradients (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
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
            group.setdefault("lr_decay", 0)
            group.setdefault("weight_decay", 0)
            group.setdefault("initial_accumulator_value", 0)
            group.setdefault("eps", 1e-10)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step",):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        # What torch's class does not have is in a group only where it is on.
        for name, off in {"capturable": False}.items():
            if param_group[name] is off:
                del param_group[name]
        for name in (
            "lr",
            "lr_decay",
            "weight_decay",
            "initial_accumulator_value",
            "eps",
        ):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        sums: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse and group.get("differentiable", False):
                raise RuntimeError(
                    "Adagrad is not differentiable where a gradient is sparse"
                )
            if grad.is_sparse and not group["weight_decay"] == 0:
                raise RuntimeError(
                    "Adagrad supports sparse gradients only where weight_decay == 0"
                )
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                fill = group["initial_accumulator_value"]
                if torch.is_complex(p):
                    fill = complex(fill, fill)
                state["sum"] = torch.full_like(
                    p, fill, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            sums.append(state["sum"])
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
            sums: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, sums, steps)
            groups.append((group, [params, grads, sums, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, sums, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            if use_foreach and any(grad.is_sparse for grad in grads):
                use_foreach = False
            update = _multi_tensor_adagrad if use_foreach else _single_tensor_adagrad
            if group.get("capturable", False):
                _check_capturable(params, steps)
            if group.get("capturable", False) or torch.compiler.is_compiling():
                update = _single_tensor_adagrad_capturable
                if use_foreach:
                    update = _multi_tensor_adagrad_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_adagrad
                if group.get("capturable", False):
                    update = _differentiable_adagrad_capturable
            update(
                params,
                grads,
                sums,
                steps,
                lr=group["lr"],
                lr_decay=group["lr_decay"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    lr_decay = group["lr_decay"]
    weight_decay = group["weight_decay"]
    initial_accumulator_value = group["initial_accumulator_value"]
    eps = group["eps"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_number("lr_decay", lr_decay)
    if not 0 <= lr_decay <= math.inf:
        raise ValueError(
            f"Invalid lr_decay: {lr_decay!r}, expected a number in [0, inf]"
        )
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay <= math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf]"
        )
    _check_number("initial_accumulator_value", initial_accumulator_value)
    if not 0 <= initial_accumulator_value <= math.inf:
        raise ValueError(
            f"Invalid initial_accumulator_value: {initial_accumulator_value!r}, "
            f"expected a number in [0, inf]"
        )
    _check_number("eps", eps)
    if not 0 <= eps <= math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf]")
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


def _zero_dim(value: float, group: dict[str, Any], p: Tensor) -> Tensor:
    """A number as a tensor: on the CPU, unless steps are to be captured, or kernels on
    the parameter's device read it.
    """
    near = group.get("capturable", False)
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


def _single_tensor_adagrad(
    params: list[Tensor],
    grads: list[Tensor],
    sums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, sum_, step in zip(params, grads, sums, steps, strict=True):
        grad = grad if not maximize else -grad
        is_sparse = grad.is_sparse
        if is_sparse:
            # Only the entries that the gradient holds take part.
            grad = grad.coalesce()
            entries, whole = tuple(grad.indices()), (p, sum_)
            grad = grad.values()
            part = [
                each if each is None else each[entries].view_as(grad) for each in whole
            ]
            p, sum_ = part
        step += 1
        t = step.item()
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        clr = lr / (1 + (t - 1) * lr_decay)
        if torch.is_complex(p):
            p, grad, sum_ = map(torch.view_as_real, (p, grad, sum_))

        # sum += grad*grad
        sum_.addcmul_(grad, grad)

        # p -= clr*grad/(sqrt(sum) + eps)
        p.addcdiv_(grad, sum_.sqrt().add_(eps), value=-clr)

        if is_sparse:
            for each, values in zip(whole, part, strict=True):
                if each is not None:
                    each[entries] = values


def _multi_tensor_adagrad(
    params: list[Tensor],
    grads: list[Tensor],
    sums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, lr_decay, weight_decay, eps = map(float, (lr, lr_decay, weight_decay, eps))

    columns = [params, grads, sums, steps]
    keys = [step.item() for step in steps]
    for params, grads, sums, steps in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        clr = lr / (1 + (t - 1) * lr_decay)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            sums = [torch.view_as_real(each) for each in sums]
            given = grads

        # sum += grad*grad
        torch._foreach_addcmul_(sums, grads, grads)

        # p -= clr*grad/(sqrt(sum) + eps)
        roots = torch._foreach_sqrt(sums)
        torch._foreach_add_(roots, eps)
        torch._foreach_addcdiv_(params, grads, roots, value=-clr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _scaled_addcdiv(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcdiv(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcdiv(y * scale, z)
    return x.addcdiv(y, z, value=scale)


def _differentiable_adagrad(
    params: list[Tensor],
    grads: list[Tensor],
    sums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, sum_, step in zip(params, grads, sums, steps, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, sum_, step)
        p, sum_, step = (each.clone() for each in kept)
        step = step + 1
        t = step.item()
        is_complex = torch.is_complex(p)
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        clr = lr / (1 + (t - 1) * lr_decay)
        if is_complex:
            p, grad, sum_ = map(torch.view_as_real, (p, grad, sum_))

        # sum += grad*grad
        sum_ = sum_.addcmul(grad, grad)

        # p -= clr*grad/(sqrt(sum) + eps)
        p = _scaled_addcdiv(p, grad, sum_.sqrt() + eps, -clr)
        if is_complex:
            p, sum_ = map(torch.view_as_complex, (p, sum_))

        for each, new in zip(kept, (p, sum_, step), strict=True):
            each.copy_(new)


def _single_tensor_adagrad_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    sums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, sum_, step in zip(params, grads, sums, steps, strict=True):
        grad = grad if not maximize else -grad
        is_sparse = grad.is_sparse
        if is_sparse:
            # Only the entries that the gradient holds take part.
            grad = grad.coalesce()
            entries, whole = tuple(grad.indices()), (p, sum_)
            grad = grad.values()
            part = [
                each if each is None else each[entries].view_as(grad) for each in whole
            ]
            p, sum_ = part
        step += 1
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # clr = lr/(1 + (t - 1)*lr_decay)
        clr = lr / ((step - 1) * lr_decay + 1)
        if torch.is_complex(p):
            p, grad, sum_ = map(torch.view_as_real, (p, grad, sum_))

        # sum += grad*grad
        sum_.addcmul_(grad, grad)

        # p -= clr*grad/(sqrt(sum) + eps)
        p.addcdiv_(clr * grad, sum_.sqrt().add_(eps), value=-1)

        if is_sparse:
            for each, values in zip(whole, part, strict=True):
                if each is not None:
                    each[entries] = values


def _multi_tensor_adagrad_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    sums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    columns = [params, grads, sums, steps]
    for params, grads, sums, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if weight_decay != 0:
            # grad += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)
            del products

        # clr = lr/(1 + (t - 1)*lr_decay)
        differences = torch._foreach_sub(steps, 1)
        products = torch._foreach_mul(differences, lr_decay)
        clrs = torch._foreach_add(products, 1)
        torch._foreach_reciprocal_(clrs)
        torch._foreach_mul_(clrs, lr)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            sums = [torch.view_as_real(each) for each in sums]
            given = grads

        # sum += grad*grad
        torch._foreach_addcmul_(sums, grads, grads)

        # p -= clr*grad/(sqrt(sum) + eps)
        products = torch._foreach_mul(clrs, grads)
        del grads
        roots = torch._foreach_sqrt(sums)
        torch._foreach_add_(roots, eps)
        torch._foreach_addcdiv_(params, products, roots, value=-1)


def _differentiable_adagrad_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    sums: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, sum_, step in zip(params, grads, sums, steps, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, sum_, step)
        p, sum_, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # clr = lr/(1 + (t - 1)*lr_decay)
        clr = lr / ((step - 1) * lr_decay + 1)
        if is_complex:
            p, grad, sum_ = map(torch.view_as_real, (p, grad, sum_))

        # sum += grad*grad
        sum_ = sum_.addcmul(grad, grad)

        # p -= clr*grad/(sqrt(sum) + eps)
        p = p.addcdiv(clr * grad, sum_.sqrt() + eps, value=-1)
        if is_complex:
            p, sum_ = map(torch.view_as_complex, (p, sum_))

        for each, new in zip(kept, (p, sum_, step), strict=True):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["lr_decay"], group["weight_decay"], group["eps"]]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, sums, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, sums],
            numbers=[steps],
        )
    return launch.run()


_CPU = r"""// Adagrad in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    sum___t *sum__;
    step_t *step;
    double lr;
    double lr_decay;
    double weight_decay;
    double eps;
};

// What is worked out once a tensor.
struct Numbers {
    double t, clr;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // clr = lr/(1 + (t - 1)*lr_decay)
    n.clr = row.lr / (1.0 + (n.t - 1.0) * row.lr_decay);
    return are_finite(n.clr);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::sum__);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real sum__ = load(row.sum__[i]);
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // sum += grad*grad
            sum__ = sum__ + grad * grad;
            // p -= clr*grad/(sqrt(sum) + eps)
            p = p - real(n.clr) * grad / (sqrt_(sum__) + real(row.eps));
            store(row.p[i], p);
            store(row.sum__[i], sum__);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_adagrad(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.sum__ = (sum___t *)table->columns[2][at];
        row.step = (step_t *)table->columns[3][at];
        const double *hyper = table->hypers + 4 * table->group[at];
        row.lr = *hyper++;
        row.lr_decay = *hyper++;
        row.weight_decay = *hyper++;
        row.eps = *hyper++;
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# Adagrad in one pass over memory.

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
TYPES = ("p_t", "grad_t", "sum__t", "step_t")
OPTIONS = ("maximize", "weight_decay_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 4 * tl.load(group + row)
    lr = tl.load(of + 0)
    lr_decay = tl.load(of + 1)
    t = number(columns, rows, row, 3, step_t) + 1
    # clr = lr/(1 + (t - 1)*lr_decay)
    clr = lr / (1.0 + (t - 1.0) * lr_decay)
    tl.store(n + 0 * rows, clr)
    keep_number(columns, rows, row, 3, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    sum__t: tl.constexpr,
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
    of = hypers + 4 * tl.load(group + row)
    weight_decay = tl.load(of + 2)
    eps = tl.load(of + 3)
    clr = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    sum__at = column(columns, rows, row, 2, sum__t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    sum_ = elements(sum__at, i, left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # sum += grad*grad
    sum_ = sum_ + grad * grad
    # p -= clr*grad/(sqrt(sum) + eps)
    p = p - clr.to(real) * grad / (tl.sqrt(sum_) + eps.to(real))
    keep(p_at, i, left, p)
    keep(sum__at, i, left, sum_)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_adagrad",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "sum__"),
    numbers=("step",),
    options=("maximize", "weight_decay_is_not_0"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
