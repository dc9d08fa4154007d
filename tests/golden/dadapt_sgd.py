"""SGD with D-adaptation: steps as long as a growing bound of the way to go.

Defazio and Mishchenko (2023), Learning-Rate-Free Learning by D-Adaptation,
https://arxiv.org/abs/2301.07733
Follows the authors' https://github.com/facebookresearch/dadaptation, but each group
steps by its own lr, where theirs takes the largest for all; weight decay is part of the
norm of the first gradient; without any gradient yet nothing moves.

l2_decay: Weight decay by way of the gradient: an L2 penalty.

Krogh and Hertz (1991), A Simple Weight Decay Can Improve Generalization,
https://papers.nips.cc/paper/563-a-simple-weight-decay-can-improve-generalization
"""
# Compiled by optdsl from dadapt_sgd.opt, content d3eebe028ebb.

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

__all__ = ["DAdaptSGD"]


class DAdaptSGD(Optimizer):
    """SGD with D-adaptation: steps as long as a growing bound of the way to go.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): factor of the estimated step size; leave it at 1, in [0,
            inf) (default: 1.0).
        momentum (float, optional): share of the last iterate in the average, in [0, 1)
            (default: 0.0).
        weight_decay (float, optional): L2 penalty, in [0, inf) (default: 0).
        d0 (float, optional): first estimate of the distance, in (0, inf) (default:
            1e-6).
        growth_rate (float, optional): largest growth of the estimate in a step, in [1,
            inf] (default: math.inf).
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
        d: estimate of the distance to the solution (0-d tensor).
        numerator: sum of steps times inner products (0-d tensor).
        g0_norm: norm of the first gradient (0-d tensor).
        s: sum of steps times gradients (like p).
        x0: where it started (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        momentum: float = 0.0,
        weight_decay: float = 0,
        d0: float = 1e-6,
        growth_rate: float = math.inf,
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
            "d0": d0,
            "growth_rate": growth_rate,
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
            group.setdefault("momentum", 0.0)
            group.setdefault("weight_decay", 0)
            group.setdefault("d0", 1e-6)
            group.setdefault("growth_rate", math.inf)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        for group in self.param_groups[:1]:
            for name in ("d0", "growth_rate"):
                if param_group.setdefault(name, group[name]) != group[name]:
                    given = f"Invalid {name}: {param_group[name]!r}, "
                    raise ValueError(f"{given}expected the same in all groups")
        super().add_param_group(param_group)
        for name in ("lr", "momentum", "weight_decay", "d0", "growth_rate"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        ses: list[Tensor],
        x0s: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("DAdaptSGD does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["s"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["x0"] = p.clone(memory_format=torch.preserve_format)
            params.append(p)
            grads.append(grad)
            ses.append(state["s"])
            x0s.append(state["x0"])

    def _init_shared(self) -> None:
        """Make the numbers of groups and of the model, next to the parameters."""
        p = next(p for group in self.param_groups for p in group["params"])
        dtype = torch.promote_types(_get_scalar_dtype(), p.real.dtype)
        for group in self.param_groups:
            new = {
                "d": float(group["d0"]),
                "numerator": 0.0,
                "g0_norm": 0.0,
            }
            for name, value in new.items():
                if name not in group:
                    group[name] = torch.tensor(value, dtype=dtype)
                group[name] = group[name].to(p.device)
        for name in ("d", "numerator", "g0_norm"):
            for group in self.param_groups:
                group[name] = self.param_groups[0][name]

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
            for group in self.param_groups:
                for name in ("d", "numerator", "g0_norm"):
                    group.pop(name, None)
        if self._is_trial():
            # torch.distributed.checkpoint asks for the state; the first step is to
            #     come.
            self._trial = True
            for group in self.param_groups:
                self._init_group(group, [], [], [], [])
            self._init_shared()
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
            ses: list[Tensor] = []
            x0s: list[Tensor] = []
            self._init_group(group, params, grads, ses, x0s)
            if params:
                groups.append((group, [params, grads, ses, x0s]))
        if groups:
            self._init_shared()
        if not torch.compiler.is_compiling() and _KERNELS:
            groups = _by_kernels(self, groups)
        if groups:
            group, (params, grads, ses, x0s) = groups[0]
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = (
                _multi_tensor_dadaptsgd if use_foreach else _single_tensor_dadaptsgd
            )
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_dadaptsgd_capturable
            update(groups)

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    weight_decay = group["weight_decay"]
    d0 = group["d0"]
    growth_rate = group["growth_rate"]
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
    _check_number("d0", d0)
    if not 0 < d0 < math.inf:
        raise ValueError(f"Invalid d0: {d0!r}, expected a number in (0, inf)")
    _check_number("growth_rate", growth_rate)
    if not 1 <= growth_rate <= math.inf:
        raise ValueError(
            f"Invalid growth_rate: {growth_rate!r}, expected a number in [1, inf]"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")
    if group["differentiable"]:
        raise RuntimeError(
            "DAdaptSGD is not differentiable: its parameters step together"
        )


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


def _stacked(parts: list[Tensor]) -> Tensor:
    """What every parameter gives to a reduction, next to the first; of one that is
    sharded, what all shards give.
    """
    whole = [x.full_tensor() if hasattr(x, "full_tensor") else x for x in parts]
    dtype = torch.promote_types(whole[0].dtype, _get_scalar_dtype())
    return torch.stack([x.to(whole[0].device, dtype) for x in whole])


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _single_tensor_dadaptsgd(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, ses, x0s."""
    (group, _), *_ = groups
    growth_rate = group["growth_rate"]
    d = group["d"]
    numerator = group["numerator"]
    g0_norm = group["g0_norm"]

    g0_norm_parts: list[Tensor] = []
    for group, columns in groups:
        weight_decay = group["weight_decay"]
        params, grads, ses, x0s = columns
        grads_: list[Any] = []
        for p, grad in zip(params, grads, strict=True):
            grad = grad if not group["maximize"] else -grad
            if torch.is_complex(p):
                p, grad = map(torch.view_as_real, (p, grad))
            if weight_decay != 0:
                # grad += weight_decay*p
                grad = grad.add(p, alpha=weight_decay)

            # g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
            g0_norm_parts.append(torch.linalg.vector_norm(grad))
            grads_.append(grad)
        columns += [grads_]

    # g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
    g0_norm_total = torch.linalg.vector_norm(_stacked(g0_norm_parts))
    g0_norm.copy_(torch.where(g0_norm > 0, g0_norm, g0_norm_total))

    length_parts: list[Tensor] = []
    numerator_parts: list[Tensor] = []
    for group, columns in groups:
        lr = group["lr"]
        momentum = group["momentum"]

        # dlr = where(g0_norm > 0, d*lr/g0_norm, 0)
        dlr = torch.where(g0_norm > 0, d * lr / g0_norm, 0)
        params, grads, ses, x0s, grads_ = columns
        for p, s, x0, grad in zip(params, ses, x0s, grads_, strict=True):
            if torch.is_complex(p):
                p, s, x0 = map(torch.view_as_real, (p, s, x0))

            # numerator += sum(dlr*dot(grad, s), over=model)
            numerator_parts.append(dlr * (grad * s).sum())

            # s += dlr*grad
            s.addcmul_(dlr, grad)

            # length = norm(s, over=model)
            length_parts.append(torch.linalg.vector_norm(s))

            # p = momentum*p + (1 - momentum)*(x0 - s)
            p.mul_(momentum).add_(x0 - s, alpha=1 - momentum)

    # numerator += sum(dlr*dot(grad, s), over=model)
    numerator_total = _stacked(numerator_parts).sum()
    numerator.add_(numerator_total)

    # length = norm(s, over=model)
    length = torch.linalg.vector_norm(_stacked(length_parts))

    # d_hat = where(length > 0, 2*numerator/length, d)
    d_hat = torch.where(length > 0, numerator * 2 / length, d)

    # d = max(d, min(d_hat, d*growth_rate))
    torch.maximum(d, torch.minimum(d * growth_rate, d_hat), out=d)


def _multi_tensor_dadaptsgd(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, ses, x0s."""
    batches = []
    for group, (params, grads, ses, x0s) in groups:
        columns = [params, grads, ses, x0s]
        batches.append((group, _alike(columns)))
    (group, _), *_ = groups
    growth_rate = float(group["growth_rate"])
    d = group["d"]
    numerator = group["numerator"]
    g0_norm = group["g0_norm"]

    g0_norm_parts: list[Tensor] = []
    for group, rows in batches:
        weight_decay = float(group["weight_decay"])
        for columns in rows:
            params, grads, ses, x0s = columns
            given = grads
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
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

            # g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
            g0_norm_parts += torch._foreach_norm(grads)
            columns += [grads]

    # g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
    g0_norm_total = torch.linalg.vector_norm(_stacked(g0_norm_parts))
    g0_norm.copy_(torch.where(g0_norm > 0, g0_norm, g0_norm_total))

    length_parts: list[Tensor] = []
    numerator_parts: list[Tensor] = []
    for group, rows in batches:
        lr = float(group["lr"])
        momentum = float(group["momentum"])

        # dlr = where(g0_norm > 0, d*lr/g0_norm, 0)
        dlr = torch.where(g0_norm > 0, d * lr / g0_norm, 0)
        for columns in rows:
            params, grads, ses, x0s, grads = columns
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                ses = [torch.view_as_real(each) for each in ses]
                x0s = [torch.view_as_real(each) for each in x0s]

            # numerator += sum(dlr*dot(grad, s), over=model)
            products = torch._foreach_mul(grads, ses)
            sums = [product.sum() for product in products]
            del products
            numerator_parts += torch._foreach_mul(sums, dlr)

            # s += dlr*grad
            products = torch._foreach_mul(grads, dlr)
            torch._foreach_add_(ses, products)
            del products

            # length = norm(s, over=model)
            length_parts += torch._foreach_norm(ses)

            # p = momentum*p + (1 - momentum)*(x0 - s)
            torch._foreach_mul_(params, momentum)
            differences = torch._foreach_sub(x0s, ses)
            torch._foreach_add_(params, differences, alpha=1 - momentum)

    # numerator += sum(dlr*dot(grad, s), over=model)
    numerator_total = _stacked(numerator_parts).sum()
    numerator.add_(numerator_total)

    # length = norm(s, over=model)
    length = torch.linalg.vector_norm(_stacked(length_parts))

    # d_hat = where(length > 0, 2*numerator/length, d)
    d_hat = torch.where(length > 0, numerator * 2 / length, d)

    # d = max(d, min(d_hat, d*growth_rate))
    torch.maximum(d, torch.minimum(d * growth_rate, d_hat), out=d)


def _multi_tensor_dadaptsgd_capturable(
    groups: list[tuple[dict[str, Any], list[list[Any]]]],
) -> None:
    """Update all groups, each with its columns: params, grads, ses, x0s."""
    batches = []
    for group, (params, grads, ses, x0s) in groups:
        columns = [params, grads, ses, x0s]
        batches.append((group, _alike(columns)))
    (group, _), *_ = groups
    growth_rate = group["growth_rate"]
    d = group["d"]
    numerator = group["numerator"]
    g0_norm = group["g0_norm"]

    g0_norm_parts: list[Tensor] = []
    for group, rows in batches:
        weight_decay = group["weight_decay"]
        for columns in rows:
            params, grads, ses, x0s = columns
            given = grads
            if group["maximize"]:
                grads = torch._foreach_neg(grads)
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                grads = [torch.view_as_real(each) for each in grads]
                given = grads
            if weight_decay != 0:
                # grad += weight_decay*p
                products = torch._foreach_mul(params, weight_decay)
                if grads is given:
                    grads = torch._foreach_add(grads, products)
                else:
                    torch._foreach_add_(grads, products)

            # g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
            g0_norm_parts += torch._foreach_norm(grads)
            columns += [grads]

    # g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
    g0_norm_total = torch.linalg.vector_norm(_stacked(g0_norm_parts))
    g0_norm.copy_(torch.where(g0_norm > 0, g0_norm, g0_norm_total))

    length_parts: list[Tensor] = []
    numerator_parts: list[Tensor] = []
    for group, rows in batches:
        lr = group["lr"]
        momentum = group["momentum"]

        # dlr = where(g0_norm > 0, d*lr/g0_norm, 0)
        dlr = torch.where(g0_norm > 0, d * lr / g0_norm, 0)
        for columns in rows:
            params, grads, ses, x0s, grads = columns
            if torch.is_complex(params[0]):
                params = [torch.view_as_real(each) for each in params]
                ses = [torch.view_as_real(each) for each in ses]
                x0s = [torch.view_as_real(each) for each in x0s]

            # numerator += sum(dlr*dot(grad, s), over=model)
            products = torch._foreach_mul(grads, ses)
            sums = [product.sum() for product in products]
            del products
            numerator_parts += torch._foreach_mul(sums, dlr)

            # s += dlr*grad
            products = torch._foreach_mul(grads, dlr)
            torch._foreach_add_(ses, products)
            del products

            # length = norm(s, over=model)
            length_parts += torch._foreach_norm(ses)

            # p = momentum*p + (1 - momentum)*(x0 - s)
            torch._foreach_mul_(params, momentum)
            differences = torch._foreach_sub(x0s, ses)
            products = torch._foreach_mul(differences, 1 - momentum)
            torch._foreach_add_(params, products)

    # numerator += sum(dlr*dot(grad, s), over=model)
    numerator_total = _stacked(numerator_parts).sum()
    numerator.add_(numerator_total)

    # length = norm(s, over=model)
    length = torch.linalg.vector_norm(_stacked(length_parts))

    # d_hat = where(length > 0, 2*numerator/length, d)
    d_hat = torch.where(length > 0, numerator * 2 / length, d)

    # d = max(d, min(d_hat, d*growth_rate))
    torch.maximum(d, torch.minimum(d * growth_rate, d_hat), out=d)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["momentum"],
        group["weight_decay"],
        group["growth_rate"],
    ]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, ses, x0s = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, ses, x0s],
            numbers=[
                [group["d"]] * len(params),
                [group["numerator"]] * len(params),
                [group["g0_norm"]] * len(params),
            ],
        )
    return launch.run()


_CPU = r"""// DAdaptSGD in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    s_t *s;
    x0_t *x0;
    d_t *d;
    numerator_t *numerator;
    g0_norm_t *g0_norm;
    double lr;
    double momentum;
    double weight_decay;
    double growth_rate;
    bool maximize, weight_decay_is_not_0;
};

// What is worked out once a tensor.
struct Numbers {
    double d, numerator, g0_norm, g0_norm_part, g0_norm_total, dlr, dot, numerator_part,
        length_part, numerator_total, length, d_hat;
};

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double g0_norm_part = 0;
    double dot = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::s);
        #pragma omp simd reduction(+: g0_norm_part, dot)
        for (int64_t i = at; i < to; ++i) {
            const real p = load(row.p[i]);
            real grad = (row.maximize ? -1 : 1) * real(load(row.grad[i]));
            const real s = load(row.s[i]);
            if (row.weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
            g0_norm_part += square_(double(grad));
            // dot(grad, s)
            dot += double(grad * s);
        }
    }
    sums[0] = g0_norm_part;
    sums[1] = dot;
}

static void numbers_1(const Row &row, Numbers &n) {
    // g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
    n.g0_norm = n.g0_norm > 0.0 ? n.g0_norm : n.g0_norm_total;
    // dlr = where(g0_norm > 0, d*lr/g0_norm, 0)
    n.dlr = n.g0_norm > 0.0 ? n.d * row.lr / n.g0_norm : 0.0;
    // numerator += sum(dlr*dot(grad, s), over=model)
    n.numerator_part = n.dlr * n.dot;
}

static void pass_2(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double length_part = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::s, &Row::x0);
        #pragma omp simd reduction(+: length_part)
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (row.maximize ? -1 : 1) * real(load(row.grad[i]));
            real s = load(row.s[i]);
            const real x0 = load(row.x0[i]);
            if (row.weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // s += dlr*grad
            s = s + real(n.dlr) * grad;
            // length = norm(s, over=model)
            length_part += square_(double(s));
            // p = momentum*p + (1 - momentum)*(x0 - s)
            p = real(row.momentum) * p + real(1.0 - row.momentum) * (x0 - s);
            store(row.p[i], p);
            store(row.s[i], s);
        }
    }
    sums[0] = length_part;
}

static void numbers_2(const Row &row, Numbers &n) {
    // numerator += sum(dlr*dot(grad, s), over=model)
    n.numerator = n.numerator + n.numerator_total;
}

static void numbers_3(const Row &row, Numbers &n) {
    // d_hat = where(length > 0, 2*numerator/length, d)
    n.d_hat = n.length > 0.0 ? 2.0 * n.numerator / n.length : n.d;
    // d = max(d, min(d_hat, d*growth_rate))
    n.d = max_(n.d, min_(n.d_hat, n.d * row.growth_rate));
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_dadaptsgd(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.s = (s_t *)table->columns[2][at];
        row.x0 = (x0_t *)table->columns[3][at];
        row.d = (d_t *)table->columns[4][at];
        row.numerator = (numerator_t *)table->columns[5][at];
        row.g0_norm = (g0_norm_t *)table->columns[6][at];
        const double *hyper = table->hypers + 6 * table->group[at];
        row.lr = *hyper++;
        row.momentum = *hyper++;
        row.weight_decay = *hyper++;
        row.growth_rate = *hyper++;
        row.maximize = *hyper++ != 0;
        row.weight_decay_is_not_0 = *hyper++ != 0;
        numbers[at].d = load(*row.d);
        numbers[at].numerator = load(*row.numerator);
        numbers[at].g0_norm = load(*row.g0_norm);
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    std::vector<double> parts(2 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[2 * at]);
    });
    const auto sums = gathered<2>(
        *table, chunks, parts, {0, 0},
        {added, added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].g0_norm_part = std::sqrt(sums[2 * at + 0]);
        numbers[at].dot = sums[2 * at + 1];
    }
    // norm(grad, over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].g0_norm_part *
               numbers[at].g0_norm_part); },
           [&](int64_t at, double value, double count) {
               numbers[at].g0_norm_total = std::sqrt(value);
           });
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_1(rows[at], numbers[at]);
    // sum(dlr*dot(grad, s), over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].numerator_part); },
           [&](int64_t at, double value, double count) {
               numbers[at].numerator_total = value;
           });
    std::vector<double> parts_2(1 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end, &parts_2[1 * at]);
    });
    const auto sums_2 = gathered<1>(
        *table, chunks, parts_2, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].length_part = std::sqrt(sums_2[1 * at + 0]);
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    // norm(s, over=model)
    across(*table, false, 0, added,
           [&](int64_t at) { return double(numbers[at].length_part *
               numbers[at].length_part); },
           [&](int64_t at, double value, double count) {
               numbers[at].length = std::sqrt(value);
           });
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_3(rows[at], numbers[at]);
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].d, numbers[at].d);
        store(*rows[at].numerator, numbers[at].numerator);
        store(*rows[at].g0_norm, numbers[at].g0_norm);
    }
    return 0;
}
"""

_CUDA = r"""# DAdaptSGD in 2 passes over memory.

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
    number,
    overflowed,
    smaller,
    spread,
    square,
    squares_of,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "s_t", "x0_t", "d_t", "numerator_t", "g0_norm_t")
OPTIONS = ()


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, numbers, found_inf,
    d_t: tl.constexpr,
    numerator_t: tl.constexpr,
    g0_norm_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    d = number(columns, rows, row, 4, d_t)
    numerator = number(columns, rows, row, 5, numerator_t)
    g0_norm = number(columns, rows, row, 6, g0_norm_t)
    tl.store(n + 1 * rows, d)
    tl.store(n + 3 * rows, g0_norm)
    tl.store(n + 7 * rows, numerator)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, group, hypers, parts, found_inf,
    grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    s_t: tl.constexpr,
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
    of = hypers + 6 * tl.load(group + row)
    weight_decay = tl.load(of + 2)
    maximize = tl.load(of + 4) != 0
    weight_decay_is_not_0 = tl.load(of + 5) != 0
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    s_at = column(columns, rows, row, 2, s_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    s = elements(s_at, i, left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
    g0_norm_part = total(square(grad.to(tl.float64)), i, left)
    # dot(grad, s)
    dot = total(grad * s, i, left)
    tl.store(parts + 0 * chunks + chunk, g0_norm_part)
    tl.store(parts + 1 * chunks + chunk, dot)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    rows, chunks, starts, numbers, parts, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
    g0_norm_part = tl.sqrt(sum_of(parts + 0 * chunks, begin, end))
    # dot(grad, s)
    dot = sum_of(parts + 1 * chunks, begin, end)
    tl.store(n + 0 * rows, g0_norm_part)
    tl.store(n + 2 * rows, dot)


@triton.jit(do_not_specialize=["rows"])
def across_1(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # norm(grad, over=model)
    g0_norm_total = tl.sqrt(squares_of(numbers + 0 * rows, begin, end))
    spread(numbers + 4 * rows, begin, end, g0_norm_total)


@triton.jit(do_not_specialize=["rows"])
def numbers_3(
    rows, group, hypers, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 6 * tl.load(group + row)
    lr = tl.load(of + 0)
    d = tl.load(n + 1 * rows)
    dot = tl.load(n + 2 * rows)
    g0_norm = tl.load(n + 3 * rows)
    g0_norm_total = tl.load(n + 4 * rows)
    # g0_norm = where(g0_norm > 0, g0_norm, norm(grad, over=model))
    g0_norm = tl.where(g0_norm > 0.0, g0_norm, g0_norm_total)
    # dlr = where(g0_norm > 0, d*lr/g0_norm, 0)
    dlr = tl.where(g0_norm > 0.0, d * lr / g0_norm, double(0.0))
    # numerator += sum(dlr*dot(grad, s), over=model)
    numerator_part = dlr * dot
    tl.store(n + 3 * rows, g0_norm)
    tl.store(n + 5 * rows, numerator_part)
    tl.store(n + 6 * rows, dlr)


@triton.jit(do_not_specialize=["rows"])
def across_2(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # sum(dlr*dot(grad, s), over=model)
    numerator_total = sum_of(numbers + 5 * rows, begin, end)
    spread(numbers + 8 * rows, begin, end, numerator_total)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_2(
    columns, rows, chunks, row_of, starts, numel, group, hypers, numbers, parts,
    found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    s_t: tl.constexpr,
    x0_t: tl.constexpr,
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
    of = hypers + 6 * tl.load(group + row)
    momentum = tl.load(of + 1)
    weight_decay = tl.load(of + 2)
    maximize = tl.load(of + 4) != 0
    weight_decay_is_not_0 = tl.load(of + 5) != 0
    dlr = tl.load(n + 6 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    s_at = column(columns, rows, row, 2, s_t, aligned) + begin
    x0_at = column(columns, rows, row, 3, x0_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    s = elements(s_at, i, left, real)
    x0 = elements(x0_at, i, left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # s += dlr*grad
    s = s + dlr.to(real) * grad
    # length = norm(s, over=model)
    length_part = total(square(s.to(tl.float64)), i, left)
    # p = momentum*p + (1 - momentum)*(x0 - s)
    p = momentum.to(real) * p + (1.0 - momentum).to(real) * (x0 - s)
    keep(p_at, i, left, p)
    keep(s_at, i, left, s)
    tl.store(parts + 0 * chunks + chunk, length_part)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_4(
    rows, chunks, starts, numbers, parts, found_inf,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    numerator = tl.load(n + 7 * rows)
    numerator_total = tl.load(n + 8 * rows)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # length = norm(s, over=model)
    length_part = tl.sqrt(sum_of(parts + 0 * chunks, begin, end))
    # numerator += sum(dlr*dot(grad, s), over=model)
    numerator = numerator + numerator_total
    tl.store(n + 7 * rows, numerator)
    tl.store(n + 9 * rows, length_part)


@triton.jit(do_not_specialize=["rows"])
def across_3(
    rows, numbers, found_inf,
):
    if overflowed(found_inf):
        return
    begin, end = 0, rows
    # norm(s, over=model)
    length = tl.sqrt(squares_of(numbers + 9 * rows, begin, end))
    spread(numbers + 10 * rows, begin, end, length)


@triton.jit(do_not_specialize=["rows"])
def numbers_5(
    columns, rows, group, hypers, numbers, found_inf,
    d_t: tl.constexpr,
    numerator_t: tl.constexpr,
    g0_norm_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 6 * tl.load(group + row)
    growth_rate = tl.load(of + 3)
    d = tl.load(n + 1 * rows)
    g0_norm = tl.load(n + 3 * rows)
    numerator = tl.load(n + 7 * rows)
    length = tl.load(n + 10 * rows)
    # d_hat = where(length > 0, 2*numerator/length, d)
    d_hat = tl.where(length > 0.0, 2.0 * numerator / length, d)
    # d = max(d, min(d_hat, d*growth_rate))
    d = larger(d, smaller(d_hat, d * growth_rate))
    keep_number(columns, rows, row, 4, d_t, d)
    keep_number(columns, rows, row, 5, numerator_t, numerator)
    keep_number(columns, rows, row, 6, g0_norm_t, g0_norm)


def launch(x):
    x.numbers = x.new(11 * x.rows)
    x.each_row(numbers_1)
    x.parts = x.new(2 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.once(across_1)
    x.each_row(numbers_3)
    x.once(across_2)
    x.parts = x.new(1 * x.chunks)
    x.each_chunk(pass_2)
    x.each_row(numbers_4)
    x.once(across_3)
    x.each_row(numbers_5)
"""

_KERNELS = _Kernel and _Kernel(
    "step_dadaptsgd",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "s", "x0"),
    numbers=("d", "numerator", "g0_norm"),
    options=("maximize", "weight_decay_is_not_0"),
    together=True,
    cuda=_CUDA,
    scaled=True,
)
