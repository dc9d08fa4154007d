"""NAdam: Adam with Nesterov's momentum.

Dozat (2016), Incorporating Nesterov Momentum into Adam,
https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ

Reference: torch.optim.NAdam
"""
# Compiled by optdsl from nadam.opt, content e382bd535260.

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

__all__ = ["NAdam"]


class NAdam(Optimizer):
    """NAdam: Adam with Nesterov's momentum.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf] (default: 2e-3).
        betas (tuple[float, float], optional): decay of the first and the second moment,
            in [0, 1) (default: (0.9, 0.999)).
        eps (float, optional): added to the denominator, in [0, inf] (default: 1e-8).
        weight_decay (float, optional): L2 penalty, or share of a weight that decays, in
            [0, inf] (default: 0).
        momentum_decay (float, optional): how fast the momentum grows, in [0, inf]
            (default: 4e-3).
        decoupled_weight_decay (bool, optional): decay the weights, as AdamW does
            (default: False).
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
        mu_product: product of all momenta so far (0-d tensor).
        exp_avg: first moment of the gradient (like p).
        exp_avg_sq: second moment of the gradient (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
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
            group.setdefault("lr", 2e-3)
            group.setdefault("betas", (0.9, 0.999))
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0)
            group.setdefault("momentum_decay", 4e-3)
            group.setdefault("decoupled_weight_decay", False)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step", "mu_product"):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        # What torch's class does not have is in a group only where it is on.
        for name, off in {"fused": None}.items():
            if param_group[name] is off:
                del param_group[name]
        for name in ("lr", "betas", "eps", "weight_decay", "momentum_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does, but keep the precision of `mu_product`.

        torch casts every state but `step` to the dtype of its parameter.
        """

        def note(_: Optimizer, state_dict: dict[str, Any]) -> None:
            loaded.update(state_dict)

        def keep(_: Optimizer) -> None:
            pairs = zip(loaded["param_groups"], self.param_groups, strict=True)
            for saved, group in pairs:
                for key, p in zip(saved["params"], group["params"], strict=True):
                    values = loaded["state"].get(key, {})
                    for name in ("mu_product",):
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
        mu_products: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("NAdam does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["mu_product"] = _zero_dim(1.0, group, p)
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            mu_products.append(state["mu_product"])
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
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
            mu_products: list[Tensor] = []
            exp_avgs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, mu_products, exp_avgs, exp_avg_sqs, steps
            )
            groups.append(
                (group, [params, grads, mu_products, exp_avgs, exp_avg_sqs, steps])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, mu_products, exp_avgs, exp_avg_sqs, steps = columns
            use_foreach = group["foreach"] or group.get("fused")
            if group["foreach"] is None and group.get("fused") is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_nadam if use_foreach else _single_tensor_nadam
            if group["capturable"]:
                _check_capturable(params, mu_products, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_nadam_capturable
                if use_foreach:
                    update = _multi_tensor_nadam_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_nadam
                if group["capturable"]:
                    update = _differentiable_nadam_capturable
            update(
                params,
                grads,
                mu_products,
                exp_avgs,
                exp_avg_sqs,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                momentum_decay=group["momentum_decay"],
                decoupled_weight_decay=group["decoupled_weight_decay"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    momentum_decay = group["momentum_decay"]
    decoupled_weight_decay = group["decoupled_weight_decay"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    _check_number("eps", eps)
    if not 0 <= eps <= math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf]")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay <= math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf]"
        )
    _check_number("momentum_decay", momentum_decay)
    if not 0 <= momentum_decay <= math.inf:
        raise ValueError(
            f"Invalid momentum_decay: {momentum_decay!r}, expected a number in [0, inf]"
        )
    if decoupled_weight_decay not in (False, True):
        raise ValueError(
            f"Invalid decoupled_weight_decay: {decoupled_weight_decay!r}, "
            f"expected True or False"
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


def _single_tensor_nadam(
    params: list[Tensor],
    grads: list[Tensor],
    mu_products: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, mu_product, exp_avg, exp_avg_sq, step in zip(
        params, grads, mu_products, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))

        # mu_product *= mu
        mu_product.mul_(mu)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg.lerp_(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

        # denom = sqrt(exp_avg_sq/(1 - beta2**t)) + eps
        denom = (exp_avg_sq / (1 - beta2**t)).sqrt_().add_(eps)

        # p -= lr*(1 - mu)/(1 - mu_product)*grad/denom
        p.addcdiv_(grad, denom, value=-lr * (1 - mu) / (1 - mu_product.item()))

        # p -= lr*mu_next/(1 - mu_product*mu_next)*exp_avg/denom
        p.addcdiv_(
            exp_avg, denom, value=-lr * mu_next / (1 - mu_product.item() * mu_next)
        )


def _multi_tensor_nadam(
    params: list[Tensor],
    grads: list[Tensor],
    mu_products: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps, weight_decay, momentum_decay = map(
        float, (lr, eps, weight_decay, momentum_decay)
    )
    betas = tuple(map(float, betas))
    beta1, beta2 = betas

    columns = [params, grads, mu_products, exp_avgs, exp_avg_sqs, steps]
    keys = [
        (mu_product.item(), step.item())
        for mu_product, step in zip(mu_products, steps, strict=True)
    ]
    for params, grads, mu_products, exp_avgs, exp_avg_sqs, steps in _alike(
        columns, keys
    ):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
            given = grads
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))

        # mu_product *= mu
        new_mu_product = mu_products[0].item() * mu
        for mu_product in mu_products:
            mu_product.fill_(new_mu_product)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)

        # denom = sqrt(exp_avg_sq/(1 - beta2**t)) + eps
        denoms = torch._foreach_div(exp_avg_sqs, 1 - beta2**t)
        torch._foreach_sqrt_(denoms)
        torch._foreach_add_(denoms, eps)

        # p -= lr*(1 - mu)/(1 - mu_product)*grad/denom
        torch._foreach_addcdiv_(
            params, grads, denoms, value=-lr * (1 - mu) / (1 - mu_products[0].item())
        )

        # p -= lr*mu_next/(1 - mu_product*mu_next)*exp_avg/denom
        torch._foreach_addcdiv_(
            params,
            exp_avgs,
            denoms,
            value=-lr * mu_next / (1 - mu_products[0].item() * mu_next),
        )


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _scaled_addcmul(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcmul(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcmul(y * scale, z)
    return x.addcmul(y, z, value=scale)


def _differentiable_nadam(
    params: list[Tensor],
    grads: list[Tensor],
    mu_products: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, mu_product, exp_avg, exp_avg_sq, step in zip(
        params, grads, mu_products, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, mu_product, exp_avg, exp_avg_sq, step)
        p, mu_product, exp_avg, exp_avg_sq, step = (each.clone() for each in kept)
        step = step + 1
        t = step.item()
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))

        # mu_product *= mu
        mu_product = mu_product.mul(mu)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg = exp_avg.lerp(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)

        # denom = sqrt(exp_avg_sq/(1 - beta2**t)) + eps
        denom = (exp_avg_sq / (1 - beta2**t)).sqrt() + eps

        # product = as_tensor(mu_product)
        product = mu_product
        rate = -lr * (1 - mu) / (1 - product)
        rate_next = -lr * mu_next / (1 - product * mu_next)

        # p += grad*rate/denom
        p = p.addcdiv(grad * rate, denom)

        # p += exp_avg*rate_next/denom
        p = p.addcdiv(exp_avg * rate_next, denom)
        if is_complex:
            p, exp_avg, exp_avg_sq = map(
                torch.view_as_complex, (p, exp_avg, exp_avg_sq)
            )

        for each, new in zip(
            kept, (p, mu_product, exp_avg, exp_avg_sq, step), strict=True
        ):
            each.copy_(new)


def _single_tensor_nadam_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    mu_products: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, mu_product, exp_avg, exp_avg_sq, step in zip(
        params, grads, mu_products, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)

        # mu = beta1*(1 - 0.5*0.96**(t*momentum_decay))
        mu = (1 - 0.96 ** (step * momentum_decay) * 0.5) * beta1

        # mu_next = beta1*(1 - 0.5*0.96**((t + 1)*momentum_decay))
        mu_next = (1 - 0.96 ** ((step + 1) * momentum_decay) * 0.5) * beta1

        # mu_product *= mu
        mu_product.mul_(mu)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg.lerp_(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

        # denom = sqrt(exp_avg_sq/(1 - beta2**t)) + eps
        denom = (exp_avg_sq / (1 - beta2**step)).sqrt_().add_(eps)
        product = mu_product

        # rate = -lr*(1 - mu)/(1 - product)
        rate = (1 - mu) * -lr / (1 - product)

        # rate_next = -lr*mu_next/(1 - product*mu_next)
        rate_next = mu_next * -lr / (1 - product * mu_next)

        # p += grad*rate/denom
        p.addcdiv_(grad * rate, denom)

        # p += exp_avg*rate_next/denom
        p.addcdiv_(exp_avg * rate_next, denom)


def _multi_tensor_nadam_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    mu_products: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    columns = [params, grads, mu_products, exp_avgs, exp_avg_sqs, steps]
    for params, grads, mu_products, exp_avgs, exp_avg_sqs, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
            given = grads
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            product_2s = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, product_2s)
            else:
                torch._foreach_add_(grads, product_2s)
            del product_2s

        # mu = beta1*(1 - 0.5*0.96**(t*momentum_decay))
        product_2s = torch._foreach_mul(steps, momentum_decay)
        powers = torch._foreach_pow(0.96, product_2s)
        product_3s = torch._foreach_mul(powers, 0.5)
        torch._foreach_neg_(product_3s)
        torch._foreach_add_(product_3s, 1)
        mus = torch._foreach_mul(product_3s, beta1)

        # mu_next = beta1*(1 - 0.5*0.96**((t + 1)*momentum_decay))
        sums = torch._foreach_add(steps, 1)
        product_2s = torch._foreach_mul(sums, momentum_decay)
        powers = torch._foreach_pow(0.96, product_2s)
        product_3s = torch._foreach_mul(powers, 0.5)
        torch._foreach_neg_(product_3s)
        torch._foreach_add_(product_3s, 1)
        mu_nexts = torch._foreach_mul(product_3s, beta1)

        # mu_product *= mu
        torch._foreach_mul_(mu_products, mus)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        product_2s = torch._foreach_mul(grads, 1 - beta2)
        torch._foreach_addcmul_(exp_avg_sqs, product_2s, grads)
        del product_2s

        # denom = sqrt(exp_avg_sq/(1 - beta2**t)) + eps
        powers = torch._foreach_pow(beta2, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        denoms = torch._foreach_div(exp_avg_sqs, powers)
        torch._foreach_sqrt_(denoms)
        torch._foreach_add_(denoms, eps)
        products = mu_products

        # rate = -lr*(1 - mu)/(1 - product)
        opposites = torch._foreach_neg(mus)
        torch._foreach_add_(opposites, 1)
        product_2s = torch._foreach_mul(opposites, -lr)
        opposite_2s = torch._foreach_neg(products)
        torch._foreach_add_(opposite_2s, 1)
        rates = torch._foreach_div(product_2s, opposite_2s)

        # rate_next = -lr*mu_next/(1 - product*mu_next)
        product_2s = torch._foreach_mul(mu_nexts, -lr)
        product_3s = torch._foreach_mul(products, mu_nexts)
        torch._foreach_neg_(product_3s)
        torch._foreach_add_(product_3s, 1)
        rate_nexts = torch._foreach_div(product_2s, product_3s)

        # p += grad*rate/denom
        if grads is given:
            product_2s = torch._foreach_mul(grads, rates)
        else:
            torch._foreach_mul_(grads, rates)
            product_2s = grads
        del grads
        torch._foreach_addcdiv_(params, product_2s, denoms)
        del product_2s

        # p += exp_avg*rate_next/denom
        product_2s = torch._foreach_mul(exp_avgs, rate_nexts)
        torch._foreach_addcdiv_(params, product_2s, denoms)


def _differentiable_nadam_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    mu_products: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, mu_product, exp_avg, exp_avg_sq, step in zip(
        params, grads, mu_products, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, mu_product, exp_avg, exp_avg_sq, step)
        p, mu_product, exp_avg, exp_avg_sq, step = (each.clone() for each in kept)
        step = step + 1
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)

        # mu = beta1*(1 - 0.5*0.96**(t*momentum_decay))
        mu = (1 - 0.96 ** (step * momentum_decay) * 0.5) * beta1

        # mu_next = beta1*(1 - 0.5*0.96**((t + 1)*momentum_decay))
        mu_next = (1 - 0.96 ** ((step + 1) * momentum_decay) * 0.5) * beta1

        # mu_product *= mu
        mu_product = mu_product * mu

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg = exp_avg.lerp(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)

        # denom = sqrt(exp_avg_sq/(1 - beta2**t)) + eps
        denom = (exp_avg_sq / (1 - beta2**step)).sqrt() + eps
        product = mu_product

        # rate = -lr*(1 - mu)/(1 - product)
        rate = (1 - mu) * -lr / (1 - product)

        # rate_next = -lr*mu_next/(1 - product*mu_next)
        rate_next = mu_next * -lr / (1 - product * mu_next)

        # p += grad*rate/denom
        p = p.addcdiv(grad * rate, denom)

        # p += exp_avg*rate_next/denom
        p = p.addcdiv(exp_avg * rate_next, denom)
        if is_complex:
            p, exp_avg, exp_avg_sq = map(
                torch.view_as_complex, (p, exp_avg, exp_avg_sq)
            )

        for each, new in zip(
            kept, (p, mu_product, exp_avg, exp_avg_sq, step), strict=True
        ):
            each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["eps"],
        group["weight_decay"],
        group["momentum_decay"],
    ]
    options = [
        group["maximize"],
        group["weight_decay"] != 0,
        group["decoupled_weight_decay"],
    ]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, mu_products, exp_avgs, exp_avg_sqs, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs, exp_avg_sqs],
            numbers=[mu_products, steps],
        )
    return launch.run()


_CPU = r"""// NAdam in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_t *exp_avg_sq;
    mu_product_t *mu_product;
    step_t *step;
    double lr;
    double betas[2];
    double eps;
    double weight_decay;
    double momentum_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double mu_product, t, beta1, beta2, mu, mu_next_, difference, quotient, quotient_2;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    // mu = beta1*(1 - 0.5*0.96**(t*momentum_decay))
    n.mu = n.beta1 * (1.0 - 0.5 * std::pow(0.96, n.t * row.momentum_decay));
    // mu_next = beta1*(1 - 0.5*0.96**((t + 1)*momentum_decay))
    n.mu_next_ = n.beta1 * (1.0 - 0.5 * std::pow(0.96, (n.t + 1.0) *
        row.momentum_decay));
    // mu_product *= mu
    n.mu_product = n.mu_product * n.mu;
    // 1 - beta2**t
    n.difference = 1.0 - std::pow(n.beta2, n.t);
    // lr*(1 - mu)/(1 - mu_product)
    n.quotient = row.lr * (1.0 - n.mu) / (1.0 - n.mu_product);
    // lr*mu_next/(1 - mu_product*mu_next)
    n.quotient_2 = row.lr * n.mu_next_ / (1.0 - n.mu_product * n.mu_next_);
    return are_finite(n.mu, n.mu_next_, n.mu_product, n.difference, n.quotient,
        n.quotient_2);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg, &Row::exp_avg_sq);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            if (weight_decay_is_not_0 && decoupled_weight_decay) {
                // p *= 1 - lr*weight_decay
                p = p * real(1.0 - row.lr * row.weight_decay);
            } else if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // exp_avg = lerp(exp_avg, grad, 1 - beta1)
            exp_avg = lerp_(exp_avg, grad, real(1.0 - n.beta1));
            // exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq = real(n.beta2) * exp_avg_sq + real(1.0 - n.beta2) * grad * grad;
            // denom = sqrt(exp_avg_sq/(1 - beta2**t)) + eps
            const real denom = sqrt_(exp_avg_sq * real(1.0 / n.difference)) +
                real(row.eps);
            // p -= lr*(1 - mu)/(1 - mu_product)*grad/denom
            p = p - real(n.quotient) * grad / denom;
            // p -= lr*mu_next/(1 - mu_product*mu_next)*exp_avg/denom
            p = p - real(n.quotient_2) * exp_avg / denom;
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
            store(row.exp_avg_sq[i], exp_avg_sq);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_nadam(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.exp_avg = (exp_avg_t *)table->columns[2][at];
        row.exp_avg_sq = (exp_avg_sq_t *)table->columns[3][at];
        row.mu_product = (mu_product_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        const double *hyper = table->hypers + 6 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        row.momentum_decay = *hyper++;
        numbers[at].mu_product = load(*row.mu_product);
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].mu_product, numbers[at].mu_product);
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# NAdam in one pass over memory.

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
    lerp,
    number,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "exp_avg_t", "exp_avg_sq_t", "mu_product_t", "step_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "decoupled_weight_decay")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    mu_product_t: tl.constexpr,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 6 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    momentum_decay = tl.load(of + 5)
    mu_product = number(columns, rows, row, 4, mu_product_t)
    t = number(columns, rows, row, 5, step_t) + 1
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    # mu = beta1*(1 - 0.5*0.96**(t*momentum_decay))
    mu = beta1 * (1.0 - 0.5 * libdevice.pow(double(0.96), t * momentum_decay))
    # mu_next = beta1*(1 - 0.5*0.96**((t + 1)*momentum_decay))
    mu_next = beta1 * (
        1.0 - 0.5 * libdevice.pow(double(0.96), (t + 1.0) * momentum_decay)
    )
    # mu_product *= mu
    mu_product = mu_product * mu
    # 1 - beta2**t
    difference = 1.0 - libdevice.pow(beta2, t)
    # lr*(1 - mu)/(1 - mu_product)
    quotient = lr * (1.0 - mu) / (1.0 - mu_product)
    # lr*mu_next/(1 - mu_product*mu_next)
    quotient_2 = lr * mu_next / (1.0 - mu_product * mu_next)
    tl.store(n + 0 * rows, beta1)
    tl.store(n + 1 * rows, beta2)
    tl.store(n + 2 * rows, difference)
    tl.store(n + 3 * rows, quotient)
    tl.store(n + 4 * rows, quotient_2)
    keep_number(columns, rows, row, 4, mu_product_t, mu_product)
    keep_number(columns, rows, row, 5, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    decoupled_weight_decay: tl.constexpr,
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
    lr = tl.load(of + 0)
    eps = tl.load(of + 3)
    weight_decay = tl.load(of + 4)
    beta1 = tl.load(n + 0 * rows)
    beta2 = tl.load(n + 1 * rows)
    difference = tl.load(n + 2 * rows)
    quotient = tl.load(n + 3 * rows)
    quotient_2 = tl.load(n + 4 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    if weight_decay_is_not_0 and decoupled_weight_decay:
        # p *= 1 - lr*weight_decay
        p = p * (1.0 - lr * weight_decay).to(real)
    elif weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # exp_avg = lerp(exp_avg, grad, 1 - beta1)
    exp_avg = lerp(exp_avg, grad, (1.0 - beta1).to(real))
    # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
    exp_avg_sq = beta2.to(real) * exp_avg_sq + (1.0 - beta2).to(real) * grad * grad
    # denom = sqrt(exp_avg_sq/(1 - beta2**t)) + eps
    denom = tl.sqrt(exp_avg_sq / difference.to(real)) + eps.to(real)
    # p -= lr*(1 - mu)/(1 - mu_product)*grad/denom
    p = p - quotient.to(real) * grad / denom
    # p -= lr*mu_next/(1 - mu_product*mu_next)*exp_avg/denom
    p = p - quotient_2.to(real) * exp_avg / denom
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)


def launch(x):
    x.numbers = x.new(5 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_nadam",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg", "exp_avg_sq"),
    numbers=("mu_product", "step"),
    options=("maximize", "weight_decay_is_not_0", "decoupled_weight_decay"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
