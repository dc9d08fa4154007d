"""SGDP: SGD that does not lengthen weights whose length means nothing.

Heo et al. (2021), AdamP: Slowing Down the Slowdown for Momentum Optimizers on
Scale-invariant Weights, https://arxiv.org/abs/2006.08217
Follows the authors' code, https://github.com/clovaai/AdamP; pytorch_optimizer is the
same, but for its coupled decay.
"""
# Compiled by optdsl from sgdp.opt, content 2601384debbf.

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

__all__ = ["SGDP"]


class SGDP(Optimizer):
    """SGDP: SGD that does not lengthen weights whose length means nothing.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        momentum (float, optional): momentum factor, in [0, 1) (default: 0).
        dampening (float, optional): dampening of the gradient that enters the momentum,
            in [0, 1] (default: 0).
        weight_decay (float, optional): share of a weight that decays, times lr/(1 -
            momentum), in [0, inf) (default: 0).
        nesterov (bool, optional): Nesterov momentum (default: False).
        eps (float, optional): added to norms, in [0, inf) (default: 1e-8).
        delta (float, optional): weights are free to scale: cosine below
            delta/sqrt(size), in [0, inf) (default: 0.1).
        wd_ratio (float, optional): weight decay of weights free to scale, as a share,
            in [0, inf) (default: 0.1).
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): there are no fused kernels in this file; foreach stands
            in for them (default: None).

    State of a parameter, made at its first step with a gradient:
        momentum_buffer: running sum of gradients (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        eps: float = 1e-8,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
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
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "eps": eps,
            "delta": delta,
            "wd_ratio": wd_ratio,
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
            group.setdefault("momentum", 0)
            group.setdefault("dampening", 0)
            group.setdefault("weight_decay", 0)
            group.setdefault("nesterov", False)
            group.setdefault("eps", 1e-8)
            group.setdefault("delta", 0.1)
            group.setdefault("wd_ratio", 0.1)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        try:
            _check_params(param_group["params"], param_group)
        except ValueError:
            self.param_groups.pop()
            raise
        for name in (
            "lr",
            "momentum",
            "dampening",
            "weight_decay",
            "eps",
            "delta",
            "wd_ratio",
        ):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffers: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("SGDP does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("SGDP does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["momentum_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            momentum_buffers.append(state["momentum_buffer"])

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
                self._init_group(group, [], [], [])
            return loss

        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            momentum_buffers: list[Tensor] = []
            self._init_group(group, params, grads, momentum_buffers)
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_sgdp if use_foreach else _single_tensor_sgdp
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_sgdp_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_sgdp
            update(
                params,
                grads,
                momentum_buffers,
                lr=group["lr"],
                momentum=group["momentum"],
                dampening=group["dampening"],
                weight_decay=group["weight_decay"],
                nesterov=group["nesterov"],
                eps=group["eps"],
                delta=group["delta"],
                wd_ratio=group["wd_ratio"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    momentum = group["momentum"]
    dampening = group["dampening"]
    weight_decay = group["weight_decay"]
    nesterov = group["nesterov"]
    eps = group["eps"]
    delta = group["delta"]
    wd_ratio = group["wd_ratio"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_number("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"Invalid momentum: {momentum!r}, expected a number in [0, 1)")
    _check_number("dampening", dampening)
    if not 0 <= dampening <= 1:
        raise ValueError(
            f"Invalid dampening: {dampening!r}, expected a number in [0, 1]"
        )
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if nesterov not in (False, True):
        raise ValueError(f"Invalid nesterov: {nesterov!r}, expected True or False")
    _check_number("eps", eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
    _check_number("delta", delta)
    if not 0 <= delta < math.inf:
        raise ValueError(f"Invalid delta: {delta!r}, expected a number in [0, inf)")
    _check_number("wd_ratio", wd_ratio)
    if not 0 <= wd_ratio < math.inf:
        raise ValueError(
            f"Invalid wd_ratio: {wd_ratio!r}, expected a number in [0, inf)"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")


def _check_params(params: list[Tensor], group: dict[str, Any]) -> None:
    """Raise where a parameter is none that this rule is for."""
    for p in params:
        if not p.ndim < 6:
            raise ValueError(
                "SGDP takes parameters of at most five axes "
                f"(got a {p.dtype} of shape {tuple(p.shape)})"
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


def _single_tensor_sgdp(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    eps: float,
    delta: float,
    wd_ratio: float,
    maximize: bool,
) -> None:
    decay = lr * weight_decay / (1 - momentum)

    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad

        # momentum_buffer = momentum*momentum_buffer + (1 - dampening)*grad
        momentum_buffer.mul_(momentum).add_(grad, alpha=1 - dampening)

        # update = grad + momentum*momentum_buffer if nesterov else momentum_buffer
        if nesterov:
            update = grad.add(momentum_buffer, alpha=momentum)
        else:
            update = momentum_buffer
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
                # p *= 1 - decay*share
                p.mul_(1 - share * decay)
        elif weight_decay != 0:
            # p *= 1 - decay
            p.mul_(1 - decay)

        # p -= lr*update
        p.add_(update, alpha=-lr)


def _multi_tensor_sgdp(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    eps: float,
    delta: float,
    wd_ratio: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, momentum, dampening, weight_decay, eps, delta, wd_ratio = map(
        float, (lr, momentum, dampening, weight_decay, eps, delta, wd_ratio)
    )
    decay = lr * weight_decay / (1 - momentum)

    columns = [params, grads, momentum_buffers]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # momentum_buffer = momentum*momentum_buffer + (1 - dampening)*grad
        torch._foreach_mul_(momentum_buffers, momentum)
        torch._foreach_add_(momentum_buffers, grads, alpha=1 - dampening)

        # update = grad + momentum*momentum_buffer if nesterov else momentum_buffer
        if nesterov:
            updates = torch._foreach_add(grads, momentum_buffers, alpha=momentum)
        else:
            updates = momentum_buffers
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
                # p *= 1 - decay*share
                products = torch._foreach_mul(shares, decay)
                torch._foreach_neg_(products)
                torch._foreach_add_(products, 1)
                torch._foreach_mul_(params, products)
        elif weight_decay != 0:
            # p *= 1 - decay
            torch._foreach_mul_(params, 1 - decay)

        # p -= lr*update
        torch._foreach_add_(params, updates, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_sgdp(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    eps: float,
    delta: float,
    wd_ratio: float,
    maximize: bool,
) -> None:
    decay = lr * weight_decay / (1 - momentum)

    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, momentum_buffer)
        p, momentum_buffer = (each.clone() for each in kept)

        # momentum_buffer = momentum*momentum_buffer + (1 - dampening)*grad
        momentum_buffer = _scaled_add(momentum_buffer * momentum, grad, 1 - dampening)

        # update = grad + momentum*momentum_buffer if nesterov else momentum_buffer
        if nesterov:
            update = _scaled_add(grad, momentum_buffer, momentum)
        else:
            update = momentum_buffer
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
                # p *= 1 - decay*share
                p = p * (1 - share * decay)
        elif weight_decay != 0:
            # p *= 1 - decay
            p = p * (1 - decay)

        # p -= lr*update
        p = _scaled_add(p, update, -lr)

        for each, new in zip(kept, (p, momentum_buffer), strict=True):
            each.copy_(new)


def _multi_tensor_sgdp_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    eps: float,
    delta: float,
    wd_ratio: float,
    maximize: bool,
) -> None:
    decay = lr * weight_decay / (1 - momentum)

    columns = [params, grads, momentum_buffers]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # momentum_buffer = momentum*momentum_buffer + (1 - dampening)*grad
        torch._foreach_mul_(momentum_buffers, momentum)
        products = torch._foreach_mul(grads, 1 - dampening)
        torch._foreach_add_(momentum_buffers, products)
        del products

        # update = grad + momentum*momentum_buffer if nesterov else momentum_buffer
        if nesterov:
            products = torch._foreach_mul(momentum_buffers, momentum)
            updates = torch._foreach_add(grads, products)
            del products
        else:
            updates = momentum_buffers
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
            del wheres

            # share = where(min(channel, layer) < delta, wd_ratio, 1)
            smallers = torch._foreach_minimum(channels, layers)
            shares = [
                torch.where(smaller < delta, p.new_full((), wd_ratio), 1)
                for smaller, p in zip(smallers, params, strict=True)
            ]
            if weight_decay != 0:
                # p *= 1 - decay*share
                products = torch._foreach_mul(shares, decay)
                torch._foreach_neg_(products)
                torch._foreach_add_(products, 1)
                torch._foreach_mul_(params, products)
        elif weight_decay != 0:
            # p *= 1 - decay
            torch._foreach_mul_(params, 1 - decay)
        del grads

        # p -= lr*update
        products = torch._foreach_mul(updates, -lr)
        torch._foreach_add_(params, products)
