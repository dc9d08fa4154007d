"""Amos: Adam whose learning rate and decay fall as weights near their scale.

Tian and Parikh (2022), Amos: An Adam-style Optimizer with Adaptive Weight Decay towards
Model-Oriented Scale, https://arxiv.org/abs/2210.11693
Follows the authors' code, https://github.com/google-research/jestimator, with one v and
one b for each row of the last axis, as in their BERT; pytorch_optimizer has one for
each parameter, and adds eps to v. They ask for eta; without it, it is 0.5 for vectors
and 1/sqrt of the fan-in for others, as in their BERT.
"""
# Compiled by optdsl from amos.opt, content a3dbc568ce2c.

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

__all__ = ["Amos"]


class Amos(Optimizer):
    """Amos: Adam whose learning rate and decay fall as weights near their scale.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate; about 1/sqrt of the number of batches, in
            [0, inf) (default: 1e-3).
        eta (float | None, optional): expected scale of a weight, in (0, inf) (default:
            None).
        beta (float, optional): decay of the mean square, in [0, 1) (default: 0.999).
        zeta (float, optional): how fast the rates fall, in [0, inf) (default: 0.25).
        momentum (float, optional): decay of the mean of the updates, in [0, 1)
            (default: 0).
        eps (float, optional): least mean square, in (0, inf) (default: 2.4e-38).
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
        v: mean squares of the rows of the gradient (like p with one of axes -1).
        b: how far the rates have fallen (like p with one of axes -1).
        exp_avg: running mean of the updates (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        eta: float | None = None,
        beta: float = 0.999,
        zeta: float = 0.25,
        momentum: float = 0,
        eps: float = 2.4e-38,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "eta": eta,
            "beta": beta,
            "zeta": zeta,
            "momentum": momentum,
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
            group.setdefault("lr", 1e-3)
            group.setdefault("eta", None)
            group.setdefault("beta", 0.999)
            group.setdefault("zeta", 0.25)
            group.setdefault("momentum", 0)
            group.setdefault("eps", 2.4e-38)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
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
        for name in ("lr", "eta", "beta", "zeta", "momentum", "eps"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        vs: list[Tensor],
        bs: list[Tensor],
        exp_avgs: list[Tensor | None],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Amos does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Amos does not support complex parameters")
            state = self.state[p]
            grad = p.grad if not group["maximize"] else -p.grad
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["v"] = torch.zeros_like(grad).mean(dim=-1, keepdim=True)
                state["b"] = torch.zeros_like(grad).mean(dim=-1, keepdim=True)
            if group["momentum"] > 0 and "exp_avg" not in state:
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(p.grad)
            vs.append(state["v"])
            bs.append(state["b"])
            exp_avgs.append(state.get("exp_avg"))
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
            vs: list[Tensor] = []
            bs: list[Tensor] = []
            exp_avgs: list[Tensor | None] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, vs, bs, exp_avgs, steps)
            groups.append((group, [params, grads, vs, bs, exp_avgs, steps]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, vs, bs, exp_avgs, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_amos if use_foreach else _single_tensor_amos
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_amos_capturable
                if use_foreach:
                    update = _multi_tensor_amos_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_amos
                if group["capturable"]:
                    update = _differentiable_amos_capturable
            update(
                params,
                grads,
                vs,
                bs,
                exp_avgs,
                steps,
                lr=group["lr"],
                eta=group["eta"],
                beta=group["beta"],
                zeta=group["zeta"],
                momentum=group["momentum"],
                eps=group["eps"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    eta = group["eta"]
    beta = group["beta"]
    zeta = group["zeta"]
    momentum = group["momentum"]
    eps = group["eps"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    if eta is not None:
        _check_number("eta", eta)
    if not (eta is None or 0 < eta < math.inf):
        raise ValueError(
            f"Invalid eta: {eta!r}, expected a number in (0, inf), or None"
        )
    _check_number("beta", beta)
    if not 0 <= beta < 1:
        raise ValueError(f"Invalid beta: {beta!r}, expected a number in [0, 1)")
    _check_number("zeta", zeta)
    if not 0 <= zeta < math.inf:
        raise ValueError(f"Invalid zeta: {zeta!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"Invalid momentum: {momentum!r}, expected a number in [0, 1)")
    _check_number("eps", eps)
    if not 0 < eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in (0, inf)")
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


def _single_tensor_amos(
    params: list[Tensor],
    grads: list[Tensor],
    vs: list[Tensor],
    bs: list[Tensor],
    exp_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    eta: float | None,
    beta: float,
    zeta: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, v, b, exp_avg, step in zip(
        params, grads, vs, bs, exp_avgs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if eta is not None:
            scale = eta
        elif p.ndim < 2:
            scale = 0.5
        else:
            # scale = (max(1, size(p, 0))/max(1, numel(p)))**0.5
            scale = (max(1, p.shape[0]) / max(1, p.numel())) ** 0.5

        # g2 = mean(grad*grad, dim=-1, keepdim=true)
        g2 = (grad * grad).mean(dim=-1, keepdim=True)

        # v = lerp(v, g2, 1 - beta)
        v.lerp_(g2, 1 - beta)

        # inverse = (1 - beta**t)/max(v, eps)
        inverse = (1 - beta**t) / v.clamp(min=eps)

        # falling = rsqrt(1 + zeta*lr**0.5*b)
        falling = (b * (zeta * lr**0.5)).add_(1).rsqrt_()

        # gamma = lr**2*g2*inverse*falling
        gamma = g2.mul_(inverse).mul_(falling).mul_(lr**2)

        # slower = 1 + zeta*(lr*scale)**0.5*b
        slower = (b * (zeta * (lr * scale) ** 0.5)).add_(1)

        # b = b + gamma*(1 + b)
        b.addcmul_(gamma, b + 1)

        # rate = lr*scale*sqrt(inverse)/slower
        rate = inverse.sqrt_().mul_(lr * scale).div_(slower)

        # decay = 0.5*gamma/slower
        decay = gamma.mul_(0.5).div_(slower)

        # update = rate*grad + decay*p
        update = (rate * grad).addcmul_(decay, p)
        if momentum > 0:
            # exp_avg = lerp(exp_avg, update, 1 - momentum)
            exp_avg.lerp_(update, 1 - momentum)
            update = exp_avg

        # p -= update
        p.sub_(update)


def _multi_tensor_amos(
    params: list[Tensor],
    grads: list[Tensor],
    vs: list[Tensor],
    bs: list[Tensor],
    exp_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    eta: float | None,
    beta: float,
    zeta: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, beta, zeta, momentum, eps = map(float, (lr, beta, zeta, momentum, eps))

    columns = [params, grads, vs, bs, exp_avgs, steps]
    keys = [(p.shape, step.item()) for p, step in zip(params, steps, strict=True)]
    for params, grads, vs, bs, exp_avgs, steps in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if eta is not None:
            scale = eta
        elif params[0].ndim < 2:
            scale = 0.5
        else:
            # scale = (max(1, size(p, 0))/max(1, numel(p)))**0.5
            scale = (max(1, params[0].shape[0]) / max(1, params[0].numel())) ** 0.5

        # g2 = mean(grad*grad, dim=-1, keepdim=true)
        products = torch._foreach_mul(grads, grads)
        g2s = [product.mean(dim=-1, keepdim=True) for product in products]
        del products

        # v = lerp(v, g2, 1 - beta)
        torch._foreach_lerp_(vs, g2s, 1 - beta)

        # inverse = (1 - beta**t)/max(v, eps)
        inverses = torch._foreach_clamp_min(vs, eps)
        torch._foreach_reciprocal_(inverses)
        torch._foreach_mul_(inverses, 1 - beta**t)

        # falling = rsqrt(1 + zeta*lr**0.5*b)
        fallings = torch._foreach_mul(bs, zeta * lr**0.5)
        torch._foreach_add_(fallings, 1)
        torch._foreach_rsqrt_(fallings)

        # gamma = lr**2*g2*inverse*falling
        torch._foreach_mul_(g2s, inverses)
        torch._foreach_mul_(g2s, fallings)
        del fallings
        torch._foreach_mul_(g2s, lr**2)
        gammas = g2s
        del g2s

        # slower = 1 + zeta*(lr*scale)**0.5*b
        slowers = torch._foreach_mul(bs, zeta * (lr * scale) ** 0.5)
        torch._foreach_add_(slowers, 1)

        # b = b + gamma*(1 + b)
        sums = torch._foreach_add(bs, 1)
        torch._foreach_addcmul_(bs, gammas, sums)
        del sums

        # rate = lr*scale*sqrt(inverse)/slower
        torch._foreach_sqrt_(inverses)
        torch._foreach_mul_(inverses, lr * scale)
        torch._foreach_div_(inverses, slowers)
        rates = inverses
        del inverses

        # decay = 0.5*gamma/slower
        torch._foreach_mul_(gammas, 0.5)
        torch._foreach_div_(gammas, slowers)
        del slowers
        decays = gammas

        # update = rate*grad + decay*p
        updates = torch._foreach_mul(rates, grads)
        torch._foreach_addcmul_(updates, decays, params)
        if momentum > 0:
            # exp_avg = lerp(exp_avg, update, 1 - momentum)
            torch._foreach_lerp_(exp_avgs, updates, 1 - momentum)
            updates = exp_avgs

        # p -= update
        torch._foreach_sub_(params, updates)


def _differentiable_amos(
    params: list[Tensor],
    grads: list[Tensor],
    vs: list[Tensor],
    bs: list[Tensor],
    exp_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    eta: float | None,
    beta: float,
    zeta: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, v, b, exp_avg, step in zip(
        params, grads, vs, bs, exp_avgs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, v, b, exp_avg, step)
        p, v, b, exp_avg, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        t = step.item()
        if eta is not None:
            scale = eta
        elif p.ndim < 2:
            scale = 0.5
        else:
            # scale = (max(1, size(p, 0))/max(1, numel(p)))**0.5
            scale = (max(1, p.shape[0]) / max(1, p.numel())) ** 0.5

        # g2 = mean(grad*grad, dim=-1, keepdim=true)
        g2 = (grad * grad).mean(dim=-1, keepdim=True)

        # v = lerp(v, g2, 1 - beta)
        v = v.lerp(g2, 1 - beta)

        # inverse = (1 - beta**t)/max(v, eps)
        inverse = (1 - beta**t) / v.clamp(min=eps)

        # falling = rsqrt(1 + zeta*lr**0.5*b)
        falling = (b * (zeta * lr**0.5) + 1).rsqrt()

        # gamma = lr**2*g2*inverse*falling
        gamma = g2 * inverse * falling * lr**2

        # slower = 1 + zeta*(lr*scale)**0.5*b
        slower = b * (zeta * (lr * scale) ** 0.5) + 1

        # b = b + gamma*(1 + b)
        b = b.addcmul(gamma, b + 1)

        # rate = lr*scale*sqrt(inverse)/slower
        rate = inverse.sqrt() * (lr * scale) / slower

        # decay = 0.5*gamma/slower
        decay = gamma * 0.5 / slower

        # update = rate*grad + decay*p
        update = (rate * grad).addcmul(decay, p)
        if momentum > 0:
            # exp_avg = lerp(exp_avg, update, 1 - momentum)
            exp_avg = exp_avg.lerp(update, 1 - momentum)
            update = exp_avg

        # p -= update
        p = p - update

        for each, new in zip(kept, (p, v, b, exp_avg, step), strict=True):
            if each is not None:
                each.copy_(new)


def _single_tensor_amos_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    vs: list[Tensor],
    bs: list[Tensor],
    exp_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    eta: float | None,
    beta: float,
    zeta: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, v, b, exp_avg, step in zip(
        params, grads, vs, bs, exp_avgs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if eta is not None:
            scale = eta
        elif p.ndim < 2:
            scale = 0.5
        else:
            # scale = (max(1, size(p, 0))/max(1, numel(p)))**0.5
            scale = (max(1, p.shape[0]) / max(1, p.numel())) ** 0.5

        # g2 = mean(grad*grad, dim=-1, keepdim=true)
        g2 = (grad * grad).mean(dim=-1, keepdim=True)

        # v = lerp(v, g2, 1 - beta)
        v.lerp_(g2, 1 - beta)

        # inverse = (1 - beta**t)/max(v, eps)
        inverse = (1 - beta**step) / v.clamp(min=eps)

        # falling = rsqrt(1 + zeta*lr**0.5*b)
        falling = (b * (zeta * lr**0.5)).add_(1).rsqrt_()

        # gamma = lr**2*g2*inverse*falling
        gamma = g2.mul_(inverse).mul_(falling).mul_(lr**2)

        # slower = 1 + zeta*(lr*scale)**0.5*b
        slower = (b * (zeta * (lr * scale) ** 0.5)).add_(1)

        # b = b + gamma*(1 + b)
        b.addcmul_(gamma, b + 1)

        # rate = lr*scale*sqrt(inverse)/slower
        rate = inverse.sqrt_().mul_(lr * scale).div_(slower)

        # decay = 0.5*gamma/slower
        decay = gamma.mul_(0.5).div_(slower)

        # update = rate*grad + decay*p
        update = (rate * grad).addcmul_(decay, p)
        if momentum > 0:
            # exp_avg = lerp(exp_avg, update, 1 - momentum)
            exp_avg.lerp_(update, 1 - momentum)
            update = exp_avg

        # p -= update
        p.sub_(update)


def _multi_tensor_amos_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    vs: list[Tensor],
    bs: list[Tensor],
    exp_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    eta: float | None,
    beta: float,
    zeta: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    columns = [params, grads, vs, bs, exp_avgs, steps]
    keys = [p.shape for p in params]
    for params, grads, vs, bs, exp_avgs, steps in _alike(columns, keys):
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if eta is not None:
            scale = eta
        elif params[0].ndim < 2:
            scale = 0.5
        else:
            # scale = (max(1, size(p, 0))/max(1, numel(p)))**0.5
            scale = (max(1, params[0].shape[0]) / max(1, params[0].numel())) ** 0.5

        # g2 = mean(grad*grad, dim=-1, keepdim=true)
        products = torch._foreach_mul(grads, grads)
        g2s = [product.mean(dim=-1, keepdim=True) for product in products]
        del products

        # v = lerp(v, g2, 1 - beta)
        torch._foreach_lerp_(vs, g2s, 1 - beta)

        # inverse = (1 - beta**t)/max(v, eps)
        powers = torch._foreach_pow(beta, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        clampeds = torch._foreach_clamp_min(vs, eps)
        torch._foreach_reciprocal_(clampeds)
        torch._foreach_mul_(clampeds, powers)
        inverses = clampeds
        del clampeds

        # falling = rsqrt(1 + zeta*lr**0.5*b)
        fallings = torch._foreach_mul(bs, zeta * lr**0.5)
        torch._foreach_add_(fallings, 1)
        torch._foreach_rsqrt_(fallings)

        # gamma = lr**2*g2*inverse*falling
        torch._foreach_mul_(g2s, inverses)
        torch._foreach_mul_(g2s, fallings)
        del fallings
        torch._foreach_mul_(g2s, lr**2)
        gammas = g2s
        del g2s

        # slower = 1 + zeta*(lr*scale)**0.5*b
        slowers = torch._foreach_mul(bs, zeta * (lr * scale) ** 0.5)
        torch._foreach_add_(slowers, 1)

        # b = b + gamma*(1 + b)
        sums = torch._foreach_add(bs, 1)
        torch._foreach_addcmul_(bs, gammas, sums)
        del sums

        # rate = lr*scale*sqrt(inverse)/slower
        torch._foreach_sqrt_(inverses)
        torch._foreach_mul_(inverses, lr * scale)
        torch._foreach_div_(inverses, slowers)
        rates = inverses

        # decay = 0.5*gamma/slower
        torch._foreach_mul_(gammas, 0.5)
        torch._foreach_div_(gammas, slowers)
        del slowers
        decays = gammas

        # update = rate*grad + decay*p
        updates = torch._foreach_mul(rates, grads)
        torch._foreach_addcmul_(updates, decays, params)
        if momentum > 0:
            # exp_avg = lerp(exp_avg, update, 1 - momentum)
            torch._foreach_lerp_(exp_avgs, updates, 1 - momentum)
            updates = exp_avgs

        # p -= update
        torch._foreach_sub_(params, updates)


def _differentiable_amos_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    vs: list[Tensor],
    bs: list[Tensor],
    exp_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    eta: float | None,
    beta: float,
    zeta: float,
    momentum: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, v, b, exp_avg, step in zip(
        params, grads, vs, bs, exp_avgs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, v, b, exp_avg, step)
        p, v, b, exp_avg, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        if eta is not None:
            scale = eta
        elif p.ndim < 2:
            scale = 0.5
        else:
            # scale = (max(1, size(p, 0))/max(1, numel(p)))**0.5
            scale = (max(1, p.shape[0]) / max(1, p.numel())) ** 0.5

        # g2 = mean(grad*grad, dim=-1, keepdim=true)
        g2 = (grad * grad).mean(dim=-1, keepdim=True)

        # v = lerp(v, g2, 1 - beta)
        v = v.lerp(g2, 1 - beta)

        # inverse = (1 - beta**t)/max(v, eps)
        inverse = (1 - beta**step) / v.clamp(min=eps)

        # falling = rsqrt(1 + zeta*lr**0.5*b)
        falling = (b * (zeta * lr**0.5) + 1).rsqrt()

        # gamma = lr**2*g2*inverse*falling
        gamma = g2 * inverse * falling * lr**2

        # slower = 1 + zeta*(lr*scale)**0.5*b
        slower = b * (zeta * (lr * scale) ** 0.5) + 1

        # b = b + gamma*(1 + b)
        b = b.addcmul(gamma, b + 1)

        # rate = lr*scale*sqrt(inverse)/slower
        rate = inverse.sqrt() * (lr * scale) / slower

        # decay = 0.5*gamma/slower
        decay = gamma * 0.5 / slower

        # update = rate*grad + decay*p
        update = (rate * grad).addcmul(decay, p)
        if momentum > 0:
            # exp_avg = lerp(exp_avg, update, 1 - momentum)
            exp_avg = exp_avg.lerp(update, 1 - momentum)
            update = exp_avg

        # p -= update
        p = p - update

        for each, new in zip(kept, (p, v, b, exp_avg, step), strict=True):
            if each is not None:
                each.copy_(new)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["eta"],
        group["beta"],
        group["zeta"],
        group["momentum"],
        group["eps"],
    ]
    options = [group["maximize"], group["eta"] is not None, group["momentum"] > 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, vs, bs, exp_avgs, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, vs, bs, exp_avgs],
            numbers=[steps],
            asked=[
                [p.ndim for p in params],
                [p.shape[0] if p.ndim >= 1 else 1 for p in params],
                [p.numel() for p in params],
            ],
        )
    return launch.run()


_CPU = r"""// Amos in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    int64_t matrices, height, width;
    p_t *p;
    const grad_t *grad;
    v_t *v;
    b_t *b;
    exp_avg_t *exp_avg;
    step_t *step;
    double *g2;
    double *falling;
    double *slower;
    double *rate;
    double *decay;
    double lr;
    double eta;
    double beta;
    double zeta;
    double momentum;
    double eps;
    double ndim;
    double size_0;
    double numel__;
};

// What is worked out once a tensor.
struct Numbers {
    double t, scale, difference, product, power, product_2;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    if (eta_is_not_none) {
        // scale = eta
        n.scale = row.eta;
    } else if (row.ndim < 2.0) {
        // scale = 0.5
        n.scale = 0.5;
    } else {
        // scale = (max(1, size(p, 0))/max(1, numel(p)))**0.5
        n.scale = std::pow(max_(1.0, row.size_0) / max_(1.0, row.numel__), 0.5);
    }
    // 1 - beta**t
    n.difference = 1.0 - std::pow(row.beta, n.t);
    // zeta*lr**0.5
    n.product = row.zeta * std::pow(row.lr, 0.5);
    // lr**2
    n.power = std::pow(row.lr, 2.0);
    // zeta*(lr*scale)**0.5
    n.product_2 = row.zeta * std::pow(row.lr * n.scale, 0.5);
    return are_finite(n.scale, n.difference, n.product, n.power, n.product_2);
}

// Once a line.
static void along_1(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        for (int64_t line = matrix * row.height; line < (matrix + 1) * row.height;
            ++line) {
            const double b = load(row.b[line]);
            // falling = rsqrt(1 + zeta*lr**0.5*b)
            const double falling = rsqrt_(1.0 + n.product * b);
            // slower = 1 + zeta*(lr*scale)**0.5*b
            const double slower = 1.0 + n.product_2 * b;
            store(row.falling[line], falling);
            store(row.slower[line], slower);
        }
    }
}

static void pass_1(const Row row, const Numbers n, const Tile tile, double *g2_parts) {
    for (int64_t line = tile.line; line < tile.line_end; ++line) {
        double g2 = 0;
        const int64_t begin = line * row.width;
        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {
            const int64_t to = end_of_block(at, tile.column_end);
            ask(begin + at, begin + to, row, &Row::grad);
            #pragma omp simd reduction(+: g2)
            for (int64_t column = at; column < to; ++column) {
                const int64_t i = begin + column;
                const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
                // g2 = mean(grad*grad, dim=-1, keepdim=true)
                g2 += double(grad * grad);
            }
        }
        g2_parts[line - tile.line] = g2;
    }
}

// Once a line.
static void along_2(const Row &row, Numbers &n) {
    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {
        for (int64_t line = matrix * row.height; line < (matrix + 1) * row.height;
            ++line) {
            const double g2 = load(row.g2[line]);
            double v = load(row.v[line]);
            double b = load(row.b[line]);
            const double falling = load(row.falling[line]);
            const double slower = load(row.slower[line]);
            // v = lerp(v, g2, 1 - beta)
            v = lerp_(v, g2, 1.0 - row.beta);
            // inverse = (1 - beta**t)/max(v, eps)
            const double inverse = n.difference / max_(v, row.eps);
            // gamma = lr**2*g2*inverse*falling
            const double gamma = n.power * g2 * inverse * falling;
            // b = b + gamma*(1 + b)
            b = b + gamma * (1.0 + b);
            // rate = lr*scale*sqrt(inverse)/slower
            const double rate = row.lr * n.scale * sqrt_(inverse) / slower;
            // decay = 0.5*gamma/slower
            const double decay = 0.5 * gamma / slower;
            store(row.v[line], v);
            store(row.b[line], b);
            store(row.rate[line], rate);
            store(row.decay[line], decay);
        }
    }
}

static void pass_2(const Row row, const Numbers n, const Tile tile) {
    for (int64_t line = tile.line; line < tile.line_end; ++line) {
        const double rate = load(row.rate[line]);
        const double decay = load(row.decay[line]);
        const int64_t begin = line * row.width;
        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {
            const int64_t to = end_of_block(at, tile.column_end);
            ask(begin + at, begin + to, row, &Row::p, &Row::grad, &Row::exp_avg);
            #pragma omp simd
            for (int64_t column = at; column < to; ++column) {
                const int64_t i = begin + column;
                real p = load(row.p[i]);
                const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
                real exp_avg = has_exp_avg ? load(row.exp_avg[i]) : 0;
                // update = rate*grad + decay*p
                real update = real(rate) * grad + real(decay) * p;
                if (momentum_above_0) {
                    // exp_avg = lerp(exp_avg, update, 1 - momentum)
                    exp_avg = lerp_(exp_avg, update, real(1.0 - row.momentum));
                    // update = exp_avg
                    update = exp_avg;
                }
                // p -= update
                p = p - update;
                store(row.p[i], p);
                if (has_exp_avg) store(row.exp_avg[i], exp_avg);
            }
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_amos(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    Memory memory;
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.v = (v_t *)table->columns[2][at];
        row.b = (b_t *)table->columns[3][at];
        row.exp_avg = (exp_avg_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        row.matrices = table->shapes[at].matrices;
        row.height = table->shapes[at].height;
        row.width = table->shapes[at].width;
        row.g2 = memory.zeros(row.matrices * row.height);
        row.falling = memory.zeros(row.matrices * row.height);
        row.slower = memory.zeros(row.matrices * row.height);
        row.rate = memory.zeros(row.matrices * row.height);
        row.decay = memory.zeros(row.matrices * row.height);
        const double *hyper = table->hypers + 6 * table->group[at];
        row.lr = *hyper++;
        row.eta = *hyper++;
        row.beta = *hyper++;
        row.zeta = *hyper++;
        row.momentum = *hyper++;
        row.eps = *hyper++;
        row.ndim = table->asked[at];
        row.size_0 = table->asked[1 * table->rows + at];
        row.numel__ = table->asked[2 * table->rows + at];
        numbers[at].t = load(*row.step) + 1;
    }
    const Tiles tiles = tiles_of(*table);
    if (!each_row(*table, 3, rows, numbers, numbers_1)) return 1;
    each_tensor(*table, [&](int64_t at) {
        along_1(rows[at], numbers[at]);
    });
    std::vector<double> g2_parts(tiles.lines, 0);
    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x, &g2_parts[x.lines]);
    });
    join_lines(*table, tiles, g2_parts, 0, added,
        [&](int64_t at) { return rows[at].g2; },
        [](double value, double count) { return double(value / count); });
    each_tensor(*table, [&](int64_t at) {
        along_2(rows[at], numbers[at]);
    });
    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_KERNELS = _Kernel and _Kernel(
    "step_amos",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "v", "b", "exp_avg"),
    numbers=("step",),
    optional=("exp_avg",),
    options=("maximize", "eta_is_not_none", "momentum_above_0"),
    view="last",
    reduced={"v": "line", "b": "line"},
)
