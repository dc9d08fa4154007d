"""AdamP: Adam that does not lengthen weights whose length means nothing.

Heo et al. (2021), AdamP: Slowing Down the Slowdown for Momentum Optimizers on
Scale-invariant Weights, https://arxiv.org/abs/2006.08217
Follows https://github.com/clovaai/AdamP; in pytorch_optimizer eps is corrected too.
"""
# Compiled by optdsl from adamp.opt, content 69251200dec6.

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

__all__ = ["AdamP"]


class AdamP(Optimizer):
    """AdamP: Adam that does not lengthen weights whose length means nothing.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        betas (tuple[float, float], optional): decay of the first and the second moment,
            in [0, 1) (default: (0.9, 0.999)).
        eps (float, optional): added to the denominator, and to norms, in [0, inf)
            (default: 1e-8).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0).
        delta (float, optional): weights are free to scale: cosine below
            delta/sqrt(size), in [0, inf) (default: 0.1).
        wd_ratio (float, optional): weight decay of weights free to scale, as a share,
            in [0, inf) (default: 0.1).
        nesterov (bool, optional): Nesterov momentum (default: False).
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): there are no fused kernels in this file; foreach stands
            in for them (default: None).

    State of a parameter, made at its first step with a gradient:
        step: number of updates (0-d tensor).
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
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
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
            "eps": eps,
            "weight_decay": weight_decay,
            "delta": delta,
            "wd_ratio": wd_ratio,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        _check_hypers(defaults)
        super().__init__(params, defaults)
        if fused:
            warnings.warn("no fused kernels here: foreach in their place", stacklevel=2)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._trial = False
        for group in self.param_groups:
            group.setdefault("lr", 1e-3)
            group.setdefault("betas", (0.9, 0.999))
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0)
            group.setdefault("delta", 0.1)
            group.setdefault("wd_ratio", 0.1)
            group.setdefault("nesterov", False)
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
        try:
            _check_params(param_group["params"], param_group)
        except ValueError:
            self.param_groups.pop()
            raise
        for name in ("lr", "betas", "eps", "weight_decay", "delta", "wd_ratio"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
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
                raise RuntimeError("AdamP does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("AdamP does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
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
                self._init_group(group, [], [], [], [], [])
            return loss

        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            exp_avgs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, exp_avgs, exp_avg_sqs, steps)
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_adamp if use_foreach else _single_tensor_adamp
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_adamp_capturable
                if use_foreach:
                    update = _multi_tensor_adamp_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_adamp
                if group["capturable"]:
                    update = _differentiable_adamp_capturable
            update(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                delta=group["delta"],
                wd_ratio=group["wd_ratio"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    delta = group["delta"]
    wd_ratio = group["wd_ratio"]
    nesterov = group["nesterov"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    _check_number("eps", eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    _check_number("delta", delta)
    if not 0 <= delta < math.inf:
        raise ValueError(f"Invalid delta: {delta!r}, expected a number in [0, inf)")
    _check_number("wd_ratio", wd_ratio)
    if not 0 <= wd_ratio < math.inf:
        raise ValueError(
            f"Invalid wd_ratio: {wd_ratio!r}, expected a number in [0, inf)"
        )
    if nesterov not in (False, True):
        raise ValueError(f"Invalid nesterov: {nesterov!r}, expected True or False")
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")


def _check_params(params: list[Tensor], group: dict[str, Any]) -> None:
    """Raise where a parameter is none that this rule is for."""
    for p in params:
        if not p.ndim < 6:
            raise ValueError(
                "AdamP takes parameters of at most five axes "
                f"(got a {p.dtype} of shape {tuple(p.shape)})"
            )


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
    """A number as a tensor: on the CPU, unless steps are to be captured."""
    device = p.device if group["capturable"] else None
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


def _by_channel(x: Tensor) -> Tensor:
    # by_channel(x): # its sum over all axes but the first if ndim(x) == 2: return
    #     transpose(sum(transpose(x), dim=0, keepdim=true)) elif ndim(x) == 3: return
    #     sum(x, dim=(1, 2), keepdim=true) elif ndim(x) == 4: return sum(x, dim=(1, 2,
    #     3), keepdim=true) else: return sum(x, dim=(1, 2, 3, 4), keepdim=true)
    if x.ndim == 2:
        # return transpose(sum(transpose(x), dim=0, keepdim=true))
        return x.mT.sum(dim=0, keepdim=True).mT
    elif x.ndim == 3:
        # return sum(x, dim=(1, 2), keepdim=true)
        return x.sum(dim=(1, 2), keepdim=True)
    elif x.ndim == 4:
        # return sum(x, dim=(1, 2, 3), keepdim=true)
        return x.sum(dim=(1, 2, 3), keepdim=True)
    else:
        # return sum(x, dim=(1, 2, 3, 4), keepdim=true)
        return x.sum(dim=(1, 2, 3, 4), keepdim=True)


def _cosine(xy: Tensor, xx: Tensor, yy: Tensor, eps: float) -> Tensor:
    # cosine(xy, xx, yy, eps) = abs(xy)/(max(sqrt(xx), eps)*max(sqrt(yy), eps))
    return xy.abs() / (xx.sqrt().clamp_(min=eps) * yy.sqrt().clamp_(min=eps))


def _cosine_2(xy: Tensor, xx: Tensor, yy: Tensor, eps: float) -> Tensor:
    # cosine(xy, xx, yy, eps) = abs(xy)/(max(sqrt(xx), eps)*max(sqrt(yy), eps))
    return xy.abs() / (xx.sqrt().clamp(min=eps) * yy.sqrt().clamp(min=eps))


def _cosine_3(xy: Tensor, xx: Tensor, yy: Tensor, eps: float) -> Tensor:
    # cosine(xy, xx, yy, eps) = abs(xy)/(max(sqrt(xx), eps)*max(sqrt(yy), eps))
    return xy.abs() / (xx.sqrt().clamp(min=eps) * yy.sqrt().clamp(min=eps))


def _single_tensor_adamp(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    delta: float,
    wd_ratio: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg.lerp_(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

        # momentum = beta1*exp_avg + (1 - beta1)*grad if nesterov else exp_avg
        if nesterov:
            momentum = (exp_avg * beta1).add_(grad, alpha=1 - beta1)
        else:
            momentum = exp_avg

        # update = momentum/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        update = momentum / exp_avg_sq.sqrt().div_((1 - beta2**t) ** 0.5).add_(eps)
        if p.ndim > 1 and p.numel() > 0:
            # pg = by_channel(p*grad)
            pg = _by_channel(p * grad)

            # pp = by_channel(p*p)
            pp = _by_channel(p * p)

            # gg = by_channel(grad*grad)
            gg = _by_channel(grad * grad)

            # pu = by_channel(p*update)
            pu = _by_channel(p * update)

            # channel = max(cosine(pg, gg, pp, eps))*sqrt(numel(p)/size(p, 0))
            channel = _cosine(pg, gg, pp, eps).amax() * math.sqrt(
                p.numel() / p.shape[0]
            )

            # layer = cosine(sum(pg), sum(gg), sum(pp), eps)*sqrt(numel(p))
            layer = _cosine_2(pg.sum(), gg.sum(), pp.sum(), eps) * math.sqrt(p.numel())

            # along = where(layer < delta, sum(pu)/(sqrt(sum(pp)) + eps)**2, 0)
            along = torch.where(
                layer < delta, pu.sum() / (pp.sum().sqrt() + eps).square(), 0
            )

            # update -= where(channel < delta, pu/(sqrt(pp) + eps)**2, along)*p
            update = update.addcmul(
                torch.where(channel < delta, pu / pp.sqrt_().add_(eps).square(), along),
                p,
                value=-1,
            )

            # share = where(min(channel, layer) < delta, wd_ratio, 1)
            share = torch.where(
                torch.minimum(channel, layer) < delta, p.new_full((), wd_ratio), 1
            )
            if weight_decay != 0:
                # p *= 1 - lr*weight_decay*share
                p.mul_(1 - share * (lr * weight_decay))
        elif weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)

        # p -= lr/(1 - beta1**t)*update
        p.add_(update, alpha=-lr / (1 - beta1**t))


def _multi_tensor_adamp(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    delta: float,
    wd_ratio: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps, weight_decay, delta, wd_ratio = map(
        float, (lr, eps, weight_decay, delta, wd_ratio)
    )
    betas = tuple(map(float, betas))
    beta1, beta2 = betas

    columns = [params, grads, exp_avgs, exp_avg_sqs, steps]
    keys = [(p.shape, step.item()) for p, step in zip(params, steps, strict=True)]
    for params, grads, exp_avgs, exp_avg_sqs, steps in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)

        # momentum = beta1*exp_avg + (1 - beta1)*grad if nesterov else exp_avg
        if nesterov:
            momentums = torch._foreach_mul(exp_avgs, beta1)
            torch._foreach_add_(momentums, grads, alpha=1 - beta1)
        else:
            momentums = exp_avgs

        # update = momentum/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        roots = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_div_(roots, (1 - beta2**t) ** 0.5)
        torch._foreach_add_(roots, eps)
        torch._foreach_reciprocal_(roots)
        torch._foreach_mul_(roots, momentums)
        del momentums
        updates = roots
        del roots
        if params[0].ndim > 1 and params[0].numel() > 0:
            # pg = by_channel(p*grad)
            products = torch._foreach_mul(params, grads)
            pgs = [_by_channel(product) for product in products]
            del products

            # pp = by_channel(p*p)
            products = torch._foreach_mul(params, params)
            pps = [_by_channel(product) for product in products]
            del products

            # gg = by_channel(grad*grad)
            if grads is given:
                products = torch._foreach_mul(grads, grads)
            else:
                torch._foreach_mul_(grads, grads)
                products = grads
            ggs = [_by_channel(product) for product in products]
            del products

            # pu = by_channel(p*update)
            products = torch._foreach_mul(params, updates)
            pus = [_by_channel(product) for product in products]
            del products

            # channel = max(cosine(pg, gg, pp, eps))*sqrt(numel(p)/size(p, 0))
            amaxes = [
                _cosine(pg, gg, pp, eps).amax()
                for pg, gg, pp in zip(pgs, ggs, pps, strict=True)
            ]
            channels = torch._foreach_mul(
                amaxes, math.sqrt(params[0].numel() / params[0].shape[0])
            )

            # layer = cosine(sum(pg), sum(gg), sum(pp), eps)*sqrt(numel(p))
            cosine_2s = [
                _cosine_2(pg.sum(), gg.sum(), pp.sum(), eps)
                for pg, gg, pp in zip(pgs, ggs, pps, strict=True)
            ]
            del ggs, pgs
            layers = torch._foreach_mul(cosine_2s, math.sqrt(params[0].numel()))

            # along = where(layer < delta, sum(pu)/(sqrt(sum(pp)) + eps)**2, 0)
            sums = [pu.sum() for pu in pus]
            sum_2s = [pp.sum() for pp in pps]
            roots = torch._foreach_sqrt(sum_2s)
            sum_3s = torch._foreach_add(roots, eps)
            torch._foreach_mul_(sum_3s, sum_3s)
            quotients = torch._foreach_div(sums, sum_3s)
            alongs = [
                torch.where(layer < delta, quotient, 0)
                for layer, quotient in zip(layers, quotients, strict=True)
            ]

            # update -= where(channel < delta, pu/(sqrt(pp) + eps)**2, along)*p
            torch._foreach_sqrt_(pps)
            torch._foreach_add_(pps, eps)
            products = torch._foreach_mul(pps, pps)
            del pps
            torch._foreach_reciprocal_(products)
            torch._foreach_mul_(products, pus)
            del pus
            wheres = [
                torch.where(channel < delta, product, along)
                for channel, product, along in zip(
                    channels, products, alongs, strict=True
                )
            ]
            del products
            updates = torch._foreach_addcmul(updates, wheres, params, value=-1)

            # share = where(min(channel, layer) < delta, wd_ratio, 1)
            smallers = torch._foreach_minimum(channels, layers)
            shares = [
                torch.where(smaller < delta, p.new_full((), wd_ratio), 1)
                for smaller, p in zip(smallers, params, strict=True)
            ]
            if weight_decay != 0:
                # p *= 1 - lr*weight_decay*share
                products = torch._foreach_mul(shares, lr * weight_decay)
                torch._foreach_neg_(products)
                torch._foreach_add_(products, 1)
                torch._foreach_mul_(params, products)
        elif weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)

        # p -= lr/(1 - beta1**t)*update
        torch._foreach_add_(params, updates, alpha=-lr / (1 - beta1**t))


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


def _differentiable_adamp(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    delta: float,
    wd_ratio: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg, exp_avg_sq, step)
        p, exp_avg, exp_avg_sq, step = (each.clone() for each in kept)
        step = step + 1
        t = step.item()

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg = exp_avg.lerp(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)

        # momentum = beta1*exp_avg + (1 - beta1)*grad if nesterov else exp_avg
        if nesterov:
            momentum = _scaled_add(exp_avg * beta1, grad, 1 - beta1)
        else:
            momentum = exp_avg

        # update = momentum/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        update = momentum / (exp_avg_sq.sqrt() / (1 - beta2**t) ** 0.5 + eps)
        if p.ndim > 1 and p.numel() > 0:
            # pg = by_channel(p*grad)
            pg = _by_channel(p * grad)

            # pp = by_channel(p*p)
            pp = _by_channel(p * p)

            # gg = by_channel(grad*grad)
            gg = _by_channel(grad * grad)

            # pu = by_channel(p*update)
            pu = _by_channel(p * update)

            # channel = max(cosine(pg, gg, pp, eps))*sqrt(numel(p)/size(p, 0))
            channel = _cosine_3(pg, gg, pp, eps).amax() * math.sqrt(
                p.numel() / p.shape[0]
            )

            # layer = cosine(sum(pg), sum(gg), sum(pp), eps)*sqrt(numel(p))
            layer = _cosine_2(pg.sum(), gg.sum(), pp.sum(), eps) * math.sqrt(p.numel())

            # along = where(layer < delta, sum(pu)/(sqrt(sum(pp)) + eps)**2, 0)
            along = torch.where(
                layer < delta, pu.sum() / (pp.sum().sqrt() + eps).square(), 0
            )

            # update -= where(channel < delta, pu/(sqrt(pp) + eps)**2, along)*p
            update = update.addcmul(
                torch.where(channel < delta, pu / (pp.sqrt() + eps).square(), along),
                p,
                value=-1,
            )

            # share = where(min(channel, layer) < delta, wd_ratio, 1)
            share = torch.where(
                torch.minimum(channel, layer) < delta, p.new_full((), wd_ratio), 1
            )
            if weight_decay != 0:
                # p *= 1 - lr*weight_decay*share
                p = p * (1 - share * (lr * weight_decay))
        elif weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)

        # p -= lr/(1 - beta1**t)*update
        p = _scaled_add(p, update, -lr / (1 - beta1**t))

        for each, new in zip(kept, (p, exp_avg, exp_avg_sq, step), strict=True):
            each.copy_(new)


def _single_tensor_adamp_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    delta: float,
    wd_ratio: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg.lerp_(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)

        # momentum = beta1*exp_avg + (1 - beta1)*grad if nesterov else exp_avg
        if nesterov:
            momentum = (exp_avg * beta1).add_(grad, alpha=1 - beta1)
        else:
            momentum = exp_avg

        # update = momentum/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        update = momentum / exp_avg_sq.sqrt().div_((1 - beta2**step).pow(0.5)).add_(eps)
        if p.ndim > 1 and p.numel() > 0:
            # pg = by_channel(p*grad)
            pg = _by_channel(p * grad)

            # pp = by_channel(p*p)
            pp = _by_channel(p * p)

            # gg = by_channel(grad*grad)
            gg = _by_channel(grad * grad)

            # pu = by_channel(p*update)
            pu = _by_channel(p * update)

            # channel = max(cosine(pg, gg, pp, eps))*sqrt(numel(p)/size(p, 0))
            channel = _cosine(pg, gg, pp, eps).amax() * math.sqrt(
                p.numel() / p.shape[0]
            )

            # layer = cosine(sum(pg), sum(gg), sum(pp), eps)*sqrt(numel(p))
            layer = _cosine_2(pg.sum(), gg.sum(), pp.sum(), eps) * math.sqrt(p.numel())

            # along = where(layer < delta, sum(pu)/(sqrt(sum(pp)) + eps)**2, 0)
            along = torch.where(
                layer < delta, pu.sum() / (pp.sum().sqrt() + eps).square(), 0
            )

            # update -= where(channel < delta, pu/(sqrt(pp) + eps)**2, along)*p
            update = update.addcmul(
                torch.where(channel < delta, pu / pp.sqrt_().add_(eps).square(), along),
                p,
                value=-1,
            )

            # share = where(min(channel, layer) < delta, wd_ratio, 1)
            share = torch.where(
                torch.minimum(channel, layer) < delta, p.new_full((), wd_ratio), 1
            )
            if weight_decay != 0:
                # p *= 1 - lr*weight_decay*share
                p.mul_(1 - share * (lr * weight_decay))
        elif weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)

        # p -= lr/(1 - beta1**t)*update
        p.addcmul_(lr / (1 - beta1**step), update, value=-1)


def _multi_tensor_adamp_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    delta: float,
    wd_ratio: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    columns = [params, grads, exp_avgs, exp_avg_sqs, steps]
    keys = [p.shape for p in params]
    for params, grads, exp_avgs, exp_avg_sqs, steps in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        products = torch._foreach_mul(grads, 1 - beta2)
        torch._foreach_addcmul_(exp_avg_sqs, products, grads)
        del products

        # momentum = beta1*exp_avg + (1 - beta1)*grad if nesterov else exp_avg
        if nesterov:
            momentums = torch._foreach_mul(exp_avgs, beta1)
            products = torch._foreach_mul(grads, 1 - beta1)
            torch._foreach_add_(momentums, products)
            del products
        else:
            momentums = exp_avgs

        # update = momentum/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        roots = torch._foreach_sqrt(exp_avg_sqs)
        powers = torch._foreach_pow(beta2, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        power_2s = torch._foreach_pow(powers, 0.5)
        torch._foreach_div_(roots, power_2s)
        torch._foreach_add_(roots, eps)
        torch._foreach_reciprocal_(roots)
        torch._foreach_mul_(roots, momentums)
        del momentums
        updates = roots
        del roots
        if params[0].ndim > 1 and params[0].numel() > 0:
            # pg = by_channel(p*grad)
            products = torch._foreach_mul(params, grads)
            pgs = [_by_channel(product) for product in products]
            del products

            # pp = by_channel(p*p)
            products = torch._foreach_mul(params, params)
            pps = [_by_channel(product) for product in products]
            del products

            # gg = by_channel(grad*grad)
            if grads is given:
                products = torch._foreach_mul(grads, grads)
            else:
                torch._foreach_mul_(grads, grads)
                products = grads
            ggs = [_by_channel(product) for product in products]
            del products

            # pu = by_channel(p*update)
            products = torch._foreach_mul(params, updates)
            pus = [_by_channel(product) for product in products]
            del products

            # channel = max(cosine(pg, gg, pp, eps))*sqrt(numel(p)/size(p, 0))
            amaxes = [
                _cosine(pg, gg, pp, eps).amax()
                for pg, gg, pp in zip(pgs, ggs, pps, strict=True)
            ]
            channels = torch._foreach_mul(
                amaxes, math.sqrt(params[0].numel() / params[0].shape[0])
            )

            # layer = cosine(sum(pg), sum(gg), sum(pp), eps)*sqrt(numel(p))
            cosine_2s = [
                _cosine_2(pg.sum(), gg.sum(), pp.sum(), eps)
                for pg, gg, pp in zip(pgs, ggs, pps, strict=True)
            ]
            del ggs, pgs
            layers = torch._foreach_mul(cosine_2s, math.sqrt(params[0].numel()))

            # along = where(layer < delta, sum(pu)/(sqrt(sum(pp)) + eps)**2, 0)
            sums = [pu.sum() for pu in pus]
            sum_2s = [pp.sum() for pp in pps]
            roots = torch._foreach_sqrt(sum_2s)
            sum_3s = torch._foreach_add(roots, eps)
            torch._foreach_mul_(sum_3s, sum_3s)
            quotients = torch._foreach_div(sums, sum_3s)
            alongs = [
                torch.where(layer < delta, quotient, 0)
                for layer, quotient in zip(layers, quotients, strict=True)
            ]

            # update -= where(channel < delta, pu/(sqrt(pp) + eps)**2, along)*p
            torch._foreach_sqrt_(pps)
            torch._foreach_add_(pps, eps)
            products = torch._foreach_mul(pps, pps)
            del pps
            torch._foreach_reciprocal_(products)
            torch._foreach_mul_(products, pus)
            del pus
            wheres = [
                torch.where(channel < delta, product, along)
                for channel, product, along in zip(
                    channels, products, alongs, strict=True
                )
            ]
            del products
            updates = torch._foreach_addcmul(updates, wheres, params, value=-1)

            # share = where(min(channel, layer) < delta, wd_ratio, 1)
            smallers = torch._foreach_minimum(channels, layers)
            shares = [
                torch.where(smaller < delta, p.new_full((), wd_ratio), 1)
                for smaller, p in zip(smallers, params, strict=True)
            ]
            if weight_decay != 0:
                # p *= 1 - lr*weight_decay*share
                products = torch._foreach_mul(shares, lr * weight_decay)
                torch._foreach_neg_(products)
                torch._foreach_add_(products, 1)
                torch._foreach_mul_(params, products)
        elif weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)

        # p -= lr/(1 - beta1**t)*update
        powers = torch._foreach_pow(beta1, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        torch._foreach_reciprocal_(powers)
        torch._foreach_mul_(powers, lr)
        torch._foreach_addcmul_(params, powers, updates, value=-1)


def _differentiable_adamp_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    delta: float,
    wd_ratio: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg, exp_avg_sq, step)
        p, exp_avg, exp_avg_sq, step = (each.clone() for each in kept)
        step = step + 1

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg = exp_avg.lerp(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)

        # momentum = beta1*exp_avg + (1 - beta1)*grad if nesterov else exp_avg
        if nesterov:
            momentum = _scaled_add(exp_avg * beta1, grad, 1 - beta1)
        else:
            momentum = exp_avg

        # update = momentum/(sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps)
        update = momentum / (exp_avg_sq.sqrt() / (1 - beta2**step).pow(0.5) + eps)
        if p.ndim > 1 and p.numel() > 0:
            # pg = by_channel(p*grad)
            pg = _by_channel(p * grad)

            # pp = by_channel(p*p)
            pp = _by_channel(p * p)

            # gg = by_channel(grad*grad)
            gg = _by_channel(grad * grad)

            # pu = by_channel(p*update)
            pu = _by_channel(p * update)

            # channel = max(cosine(pg, gg, pp, eps))*sqrt(numel(p)/size(p, 0))
            channel = _cosine_3(pg, gg, pp, eps).amax() * math.sqrt(
                p.numel() / p.shape[0]
            )

            # layer = cosine(sum(pg), sum(gg), sum(pp), eps)*sqrt(numel(p))
            layer = _cosine_2(pg.sum(), gg.sum(), pp.sum(), eps) * math.sqrt(p.numel())

            # along = where(layer < delta, sum(pu)/(sqrt(sum(pp)) + eps)**2, 0)
            along = torch.where(
                layer < delta, pu.sum() / (pp.sum().sqrt() + eps).square(), 0
            )

            # update -= where(channel < delta, pu/(sqrt(pp) + eps)**2, along)*p
            update = update.addcmul(
                torch.where(channel < delta, pu / (pp.sqrt() + eps).square(), along),
                p,
                value=-1,
            )

            # share = where(min(channel, layer) < delta, wd_ratio, 1)
            share = torch.where(
                torch.minimum(channel, layer) < delta, p.new_full((), wd_ratio), 1
            )
            if weight_decay != 0:
                # p *= 1 - lr*weight_decay*share
                p = p * (1 - share * (lr * weight_decay))
        elif weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)

        # p -= lr/(1 - beta1**t)*update
        p = p.addcmul(lr / (1 - beta1**step), update, value=-1)

        for each, new in zip(kept, (p, exp_avg, exp_avg_sq, step), strict=True):
            each.copy_(new)
