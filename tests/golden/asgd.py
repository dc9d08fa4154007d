"""ASGD: stochastic gradient descent whose iterates are averaged.

Polyak and Juditsky (1992), Acceleration of stochastic approximation by averaging,
https://doi.org/10.1137/0330046

The average is kept in the state `ax`; parameters are the last iterate, as in torch.

Reference: torch.optim.ASGD
"""
# Compiled by optdsl from asgd.opt, content dc951624dba8.

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

__all__ = ["ASGD"]


class ASGD(Optimizer):
    """ASGD: stochastic gradient descent whose iterates are averaged.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf] (default: 1e-2).
        lambd (float, optional): decay term (default: 1e-4).
        alpha (float, optional): power with which the step size falls (default: 0.75).
        t0 (float, optional): step at which averaging starts (default: 1e6).
        weight_decay (float, optional): L2 penalty, in [0, inf] (default: 0).
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
        eta: step size (0-d tensor).
        mu: weight of the newest iterate in the average (0-d tensor).
        ax: average of the iterates (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        *,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
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
            group.setdefault("lambd", 1e-4)
            group.setdefault("alpha", 0.75)
            group.setdefault("t0", 1e6)
            group.setdefault("weight_decay", 0)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step", "eta", "mu"):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        # What torch's class does not have is in a group only where it is on.
        for name, off in {"fused": None}.items():
            if param_group[name] is off:
                del param_group[name]
        for name in ("lr", "lambd", "alpha", "t0", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does, but keep the precision of `eta` and `mu`.

        torch casts every state but `step` to the dtype of its parameter.
        """

        def note(_: Optimizer, state_dict: dict[str, Any]) -> None:
            loaded.update(state_dict)

        def keep(_: Optimizer) -> None:
            pairs = zip(loaded["param_groups"], self.param_groups, strict=True)
            for saved, group in pairs:
                for key, p in zip(saved["params"], group["params"], strict=True):
                    values = loaded["state"].get(key, {})
                    for name in ("eta", "mu"):
                        if name in values:
                            value = _zero_dim(float(values[name]), group, p)
                            self.state[p][name] = value

        loaded: dict[str, Any] = {}
        hooks = [
            self.register_load_state_dict_pre_hook(note),
            self.register_load_state_dict_post_hook(keep, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        etas: list[Tensor],
        mus: list[Tensor],
        axes: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("ASGD does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["eta"] = _zero_dim(float(group["lr"]), group, p)
                state["mu"] = _zero_dim(1.0, group, p)
                state["ax"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            params.append(p)
            grads.append(grad)
            etas.append(state["eta"])
            mus.append(state["mu"])
            axes.append(state["ax"])
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
                self._init_group(group, [], [], [], [], [], [])
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
            etas: list[Tensor] = []
            mus: list[Tensor] = []
            axes: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, etas, mus, axes, steps)
            groups.append((group, [params, grads, etas, mus, axes, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, etas, mus, axes, steps = columns
            use_foreach = group["foreach"] or group.get("fused")
            if group["foreach"] is None and group.get("fused") is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_asgd if use_foreach else _single_tensor_asgd
            if group["capturable"]:
                _check_capturable(params, etas, mus, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_asgd_capturable
                if use_foreach:
                    update = _multi_tensor_asgd_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_asgd
                if group["capturable"]:
                    update = _differentiable_asgd_capturable
            update(
                params,
                grads,
                etas,
                mus,
                axes,
                steps,
                lr=group["lr"],
                lambd=group["lambd"],
                alpha=group["alpha"],
                t0=group["t0"],
                weight_decay=group["weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    lambd = group["lambd"]
    alpha = group["alpha"]
    t0 = group["t0"]
    weight_decay = group["weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_number("lambd", lambd)
    _check_number("alpha", alpha)
    _check_number("t0", t0)
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay <= math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf]"
        )
    if group.get("fused") and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group.get("fused") and group["differentiable"]:
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
    near = group["capturable"]
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


def _single_tensor_asgd(
    params: list[Tensor],
    grads: list[Tensor],
    etas: list[Tensor],
    mus: list[Tensor],
    axes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lambd: float,
    alpha: float,
    t0: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, eta, mu, ax, step in zip(
        params, grads, etas, mus, axes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if torch.is_complex(p):
            p, grad, ax = map(torch.view_as_real, (p, grad, ax))
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # p *= 1 - lambd*eta
        p.mul_(1 - lambd * eta.item())

        # p -= eta*grad
        p.add_(grad, alpha=-eta.item())
        if mu.item() != 1:
            # way = mu*(p - ax)
            way = (p - ax).mul_(mu.item())

            # ax += way
            ax.add_(way)
        else:
            # ax = p
            ax.copy_(p)

        # eta = lr/(1 + lambd*lr*t)**alpha
        eta.fill_(lr / (1 + lambd * lr * t) ** alpha)

        # mu = 1/max(1, t - t0)
        mu.fill_(1 / max(1, t - t0))


def _multi_tensor_asgd(
    params: list[Tensor],
    grads: list[Tensor],
    etas: list[Tensor],
    mus: list[Tensor],
    axes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lambd: float,
    alpha: float,
    t0: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, lambd, alpha, t0, weight_decay = map(
        float, (lr, lambd, alpha, t0, weight_decay)
    )

    columns = [params, grads, etas, mus, axes, steps]
    keys = [
        (eta.item(), mu.item(), step.item())
        for eta, mu, step in zip(etas, mus, steps, strict=True)
    ]
    for params, grads, etas, mus, axes, steps in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            axes = [torch.view_as_real(each) for each in axes]
            given = grads
        if weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)

        # p *= 1 - lambd*eta
        torch._foreach_mul_(params, 1 - lambd * etas[0].item())

        # p -= eta*grad
        torch._foreach_add_(params, grads, alpha=-etas[0].item())
        del grads
        if mus[0].item() != 1:
            way_scale = mus[0].item()

            # way = mu*(p - ax)
            ways = torch._foreach_sub(params, axes)

            # ax += way
            torch._foreach_add_(axes, ways, alpha=way_scale)
        else:
            # ax = p
            torch._foreach_copy_(axes, params)

        # eta = lr/(1 + lambd*lr*t)**alpha
        new_eta = lr / (1 + lambd * lr * t) ** alpha
        for eta in etas:
            eta.fill_(new_eta)

        # mu = 1/max(1, t - t0)
        new_mu = 1 / max(1, t - t0)
        for mu in mus:
            mu.fill_(new_mu)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_asgd(
    params: list[Tensor],
    grads: list[Tensor],
    etas: list[Tensor],
    mus: list[Tensor],
    axes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lambd: float,
    alpha: float,
    t0: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, eta, mu, ax, step in zip(
        params, grads, etas, mus, axes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, eta, mu, ax, step)
        p, eta, mu, ax, step = (each.clone() for each in kept)
        step = step + 1
        t = step.item()
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, ax = map(torch.view_as_real, (p, grad, ax))
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # p *= 1 - lambd*eta
        p = p * (1 - lambd * eta.item())

        # p -= eta*grad
        p = _scaled_add(p, grad, -eta.item())
        if mu.item() != 1:
            # way = mu*(p - ax)
            way = (p - ax) * mu.item()

            # ax += way
            ax = ax + way
        else:
            ax = p

        # eta = lr/(1 + lambd*lr*t)**alpha
        eta = torch.full_like(eta, lr / (1 + lambd * lr * t) ** alpha)

        # mu = 1/max(1, t - t0)
        mu = torch.full_like(mu, 1 / max(1, t - t0))
        if is_complex:
            p, ax = map(torch.view_as_complex, (p, ax))

        for each, new in zip(kept, (p, eta, mu, ax, step), strict=True):
            each.copy_(new)


def _single_tensor_asgd_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    etas: list[Tensor],
    mus: list[Tensor],
    axes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lambd: float,
    alpha: float,
    t0: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, eta, mu, ax, step in zip(
        params, grads, etas, mus, axes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad, ax = map(torch.view_as_real, (p, grad, ax))
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # p *= 1 - lambd*eta
        p.mul_(1 - eta * lambd)

        # p -= eta*grad
        p.addcmul_(eta, grad, value=-1)
        way = mu * (p - ax)

        # ax += way
        ax.add_(way)

        # eta = lr/(1 + lambd*lr*t)**alpha
        eta.copy_(lr / (step * (lambd * lr) + 1).pow(alpha))

        # mu = 1/max(1, t - t0)
        mu.copy_(1 / (step - t0).clamp(min=1))


def _multi_tensor_asgd_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    etas: list[Tensor],
    mus: list[Tensor],
    axes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lambd: float,
    alpha: float,
    t0: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    columns = [params, grads, etas, mus, axes, steps]
    for params, grads, etas, mus, axes, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            axes = [torch.view_as_real(each) for each in axes]
            given = grads
        if weight_decay != 0:
            # grad += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)
            del products

        # p *= 1 - lambd*eta
        products = torch._foreach_mul(etas, lambd)
        torch._foreach_neg_(products)
        torch._foreach_add_(products, 1)
        torch._foreach_mul_(params, products)

        # p -= eta*grad
        torch._foreach_addcmul_(params, etas, grads, value=-1)
        del grads

        # way = mu*(p - ax)
        differences = torch._foreach_sub(params, axes)
        ways = torch._foreach_mul(mus, differences)

        # ax += way
        torch._foreach_add_(axes, ways)

        # eta = lr/(1 + lambd*lr*t)**alpha
        products = torch._foreach_mul(steps, lambd * lr)
        sums = torch._foreach_add(products, 1)
        powers = torch._foreach_pow(sums, alpha)
        torch._foreach_reciprocal_(powers)
        torch._foreach_mul_(powers, lr)
        torch._foreach_copy_(etas, powers)

        # mu = 1/max(1, t - t0)
        differences = torch._foreach_sub(steps, t0)
        clampeds = torch._foreach_clamp_min(differences, 1)
        torch._foreach_reciprocal_(clampeds)
        torch._foreach_copy_(mus, clampeds)


def _differentiable_asgd_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    etas: list[Tensor],
    mus: list[Tensor],
    axes: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    lambd: float,
    alpha: float,
    t0: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    for p, grad, eta, mu, ax, step in zip(
        params, grads, etas, mus, axes, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, eta, mu, ax, step)
        p, eta, mu, ax, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, ax = map(torch.view_as_real, (p, grad, ax))
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # p *= 1 - lambd*eta
        p = p * (1 - eta * lambd)

        # p -= eta*grad
        p = p.addcmul(eta, grad, value=-1)
        way = mu * (p - ax)

        # ax += way
        ax = ax + way

        # eta = lr/(1 + lambd*lr*t)**alpha
        eta = lr / (step * (lambd * lr) + 1).pow(alpha)

        # mu = 1/max(1, t - t0)
        mu = 1 / (step - t0).clamp(min=1)
        if is_complex:
            p, ax = map(torch.view_as_complex, (p, ax))

        for each, new in zip(kept, (p, eta, mu, ax, step), strict=True):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["lambd"],
        group["alpha"],
        group["t0"],
        group["weight_decay"],
    ]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, etas, mus, axes, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, axes],
            numbers=[etas, mus, steps],
        )
    return launch.run()


_CPU = r"""// ASGD in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    ax_t *ax;
    eta_t *eta;
    mu_t *mu;
    step_t *step;
    double lr;
    double lambd;
    double alpha;
    double t0;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double eta, mu, t;
};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::ax);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real ax = load(row.ax[i]);
            real way = 0;
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // p *= 1 - lambd*eta
            p = p * real(1.0 - row.lambd * n.eta);
            // p -= eta*grad
            p = p - real(n.eta) * grad;
            if (n.mu != 1.0) {
                // way = mu*(p - ax)
                way = real(n.mu) * (p - ax);
                // ax += way
                ax = ax + way;
            } else {
                // ax = p
                ax = p;
            }
            store(row.p[i], p);
            store(row.ax[i], ax);
        }
    }
}

static void numbers_1(const Row &row, Numbers &n) {
    // eta = lr/(1 + lambd*lr*t)**alpha
    n.eta = row.lr / std::pow(1.0 + row.lambd * row.lr * n.t, row.alpha);
    // mu = 1/max(1, t - t0)
    n.mu = 1.0 / max_(1.0, n.t - row.t0);
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_asgd(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.ax = (ax_t *)table->columns[2][at];
        row.eta = (eta_t *)table->columns[3][at];
        row.mu = (mu_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        const double *hyper = table->hypers + 5 * table->group[at];
        row.lr = *hyper++;
        row.lambd = *hyper++;
        row.alpha = *hyper++;
        row.t0 = *hyper++;
        row.weight_decay = *hyper++;
        numbers[at].eta = load(*row.eta);
        numbers[at].mu = load(*row.mu);
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_1(rows[at], numbers[at]);
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].eta, numbers[at].eta);
        store(*rows[at].mu, numbers[at].mu);
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# ASGD in one pass over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

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
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "ax_t", "eta_t", "mu_t", "step_t")
OPTIONS = ("maximize", "weight_decay_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, numbers, found_inf,
    eta_t: tl.constexpr,
    mu_t: tl.constexpr,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    eta = number(columns, rows, row, 3, eta_t)
    mu = number(columns, rows, row, 4, mu_t)
    t = number(columns, rows, row, 5, step_t) + 1
    tl.store(n + 0 * rows, eta)
    tl.store(n + 1 * rows, mu)
    tl.store(n + 2 * rows, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    ax_t: tl.constexpr,
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
    of = hypers + 5 * tl.load(group + row)
    lambd = tl.load(of + 1)
    weight_decay = tl.load(of + 4)
    eta = tl.load(n + 0 * rows)
    mu = tl.load(n + 1 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    ax_at = column(columns, rows, row, 2, ax_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    ax = elements(ax_at, i, left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # p *= 1 - lambd*eta
    p = p * (1.0 - lambd * eta).to(real)
    # p -= eta*grad
    p = p - eta.to(real) * grad
    if mu != 1.0:
        # way = mu*(p - ax)
        way = mu.to(real) * (p - ax)
        # ax += way
        ax = ax + way
    else:
        # ax = p
        ax = p
    keep(p_at, i, left, p)
    keep(ax_at, i, left, ax)


@triton.jit(do_not_specialize=["rows"])
def numbers_2(
    columns, rows, group, hypers, numbers, found_inf,
    eta_t: tl.constexpr,
    mu_t: tl.constexpr,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 5 * tl.load(group + row)
    lr = tl.load(of + 0)
    lambd = tl.load(of + 1)
    alpha = tl.load(of + 2)
    t0 = tl.load(of + 3)
    t = tl.load(n + 2 * rows)
    # eta = lr/(1 + lambd*lr*t)**alpha
    eta = lr / libdevice.pow(1.0 + lambd * lr * t, alpha)
    # mu = 1/max(1, t - t0)
    mu = 1.0 / larger(double(1.0), t - t0)
    keep_number(columns, rows, row, 3, eta_t, eta)
    keep_number(columns, rows, row, 4, mu_t, mu)
    keep_number(columns, rows, row, 5, step_t, t)


def launch(x):
    x.numbers = x.new(3 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
"""

_KERNELS = _Kernel and _Kernel(
    "step_asgd",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "ax"),
    numbers=("eta", "mu", "step"),
    options=("maximize", "weight_decay_is_not_0"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
