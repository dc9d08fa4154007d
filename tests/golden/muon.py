"""Muon: momentum whose matrices are orthogonalized before they are taken.

Jordan (2024), Muon: An optimizer for hidden layers in neural networks,
https://kellerjordan.github.io/posts/muon/
"match_rms_adamw": Liu et al. (2025), Muon is Scalable for LLM Training,
https://arxiv.org/abs/2502.16982

As in torch, the orthogonalization runs in bfloat16. For bfloat16 parameters without
nesterov, torch 2.13 scales its momentum buffer in place, by an alias; here it does not.

Reference: torch.optim.Muon
"""
# Compiled by optdsl from muon.opt, content 5fc4ba6d4797.

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
)

try:
    from optdsl.runtime.kernel import Kernel as _Kernel
    from optdsl.runtime.turns import Turns as _Turns
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None

__all__ = ["Muon"]


class Muon(Optimizer):
    """Muon: momentum whose matrices are orthogonalized before they are taken.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf] (default: 1e-3).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf] (default: 0.1).
        momentum (float, optional): decay of the momentum, in [0, inf] (default: 0.95).
        nesterov (bool, optional): look ahead along the momentum (default: True).
        ns_coefficients (tuple[float, float, float], optional): polynomial of the
            Newton-Schulz iteration (default: (3.4445, -4.7750, 2.0315)).
        eps (float, optional): least norm (default: 1e-7).
        ns_steps (int, optional): Newton-Schulz iterations, in [0, 100) (default: 5).
        adjust_lr_fn (str | None, optional): how shapes scale lr, one of "original",
            "match_rms_adamw" (default: None).
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
        momentum_buffer: running mean of the gradient (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
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
            group.setdefault("weight_decay", 0.1)
            group.setdefault("momentum", 0.95)
            group.setdefault("nesterov", True)
            group.setdefault("ns_coefficients", (3.4445, -4.7750, 2.0315))
            group.setdefault("eps", 1e-7)
            group.setdefault("ns_steps", 5)
            group.setdefault("adjust_lr_fn", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        try:
            _check_params(param_group["params"], param_group)
        except ValueError:
            self.param_groups.pop()
            raise
        # What torch's class does not have is in a group only where it is on.
        for name, off in {
            "maximize": False,
            "foreach": None,
            "capturable": False,
            "differentiable": False,
            "fused": None,
        }.items():
            if param_group[name] is off:
                del param_group[name]
        for name in ("lr", "weight_decay", "momentum", "ns_coefficients", "eps"):
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
                raise RuntimeError("Muon does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Muon does not support complex parameters")
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

    @torch.no_grad()
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

        if not self._unscale():
            return loss

        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            momentum_buffers: list[Tensor] = []
            self._init_group(group, params, grads, momentum_buffers)
            groups.append((group, [params, grads, momentum_buffers]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, momentum_buffers = columns
            use_foreach = group.get("foreach") or group.get("fused")
            if group.get("foreach") is None and group.get("fused") is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group.get("differentiable", False)
                )
            update = _multi_tensor_muon if use_foreach else _single_tensor_muon
            if group.get("capturable", False):
                _check_capturable(params)
            if use_foreach and (
                group.get("capturable", False) or torch.compiler.is_compiling()
            ):
                update = _multi_tensor_muon_capturable
            if group.get("differentiable", False):
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_muon
                update = torch.enable_grad()(update)
            update(
                params,
                grads,
                momentum_buffers,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                nesterov=group["nesterov"],
                ns_coefficients=group["ns_coefficients"],
                eps=group["eps"],
                ns_steps=group["ns_steps"],
                adjust_lr_fn=group["adjust_lr_fn"],
                maximize=group.get("maximize", False),
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    weight_decay = group["weight_decay"]
    momentum = group["momentum"]
    nesterov = group["nesterov"]
    ns_coefficients = group["ns_coefficients"]
    eps = group["eps"]
    ns_steps = group["ns_steps"]
    adjust_lr_fn = group["adjust_lr_fn"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay <= math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf]"
        )
    _check_number("momentum", momentum)
    if not 0 <= momentum <= math.inf:
        raise ValueError(
            f"Invalid momentum: {momentum!r}, expected a number in [0, inf]"
        )
    if nesterov not in (False, True):
        raise ValueError(f"Invalid nesterov: {nesterov!r}, expected True or False")
    _check_numbers("ns_coefficients", ns_coefficients, 3)
    _check_number("eps", eps)
    _check_int("ns_steps", ns_steps)
    if not 0 <= ns_steps < 100:
        raise ValueError(f"Invalid ns_steps: {ns_steps!r}, expected an int in [0, 100)")
    if not (adjust_lr_fn is None or adjust_lr_fn in ("original", "match_rms_adamw")):
        raise ValueError(
            f"Invalid adjust_lr_fn: {adjust_lr_fn!r}, "
            f"expected one of 'original', 'match_rms_adamw', or None"
        )
    if group.get("fused") and group.get("foreach"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group.get("fused") and group.get("differentiable", False):
        raise RuntimeError("`fused` does not support `differentiable`")


def _check_params(params: list[Tensor], group: dict[str, Any]) -> None:
    """Raise where a parameter is none that this rule is for."""
    for p in params:
        if not p.ndim == 2:
            raise ValueError(
                "Muon only supports 2D parameters "
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


def _check_int(name: str, value: Any) -> None:
    """Raise where a value is no whole number."""
    if not isinstance(value, int):
        raise TypeError(f"Invalid {name}: {value!r}, expected an int")


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


def _batched(function: Callable[..., Any], *columns: list[Tensor]) -> list[Any]:
    """The function of each row, in one call for all rows of the same shapes."""
    rows = list(zip(*columns, strict=True))
    alike: dict[Any, list[int]] = {}
    for at, row in enumerate(rows):
        alike.setdefault(tuple(each.shape for each in row), []).append(at)
    results: list[Any] = [None] * len(rows)
    for places in alike.values():
        if len(places) == 1:
            results[places[0]] = function(*rows[places[0]])
            continue
        stacked = map(torch.stack, zip(*(rows[at] for at in places), strict=True))
        values = torch.vmap(function)(*stacked)
        if isinstance(values, tuple):
            values = zip(*values, strict=True)
        for at, value in zip(places, values, strict=True):
            results[at] = value
    return results


def _orthogonalized(
    g: Tensor, coefficients: tuple[float, ...], steps: float, eps: float
) -> Tensor:
    a, b, c = coefficients

    # x = transpose(bfloat16(g)) if size(g, 0) > size(g, 1) else bfloat16(g)
    if g.shape[0] > g.shape[1]:
        x = g.bfloat16().mT
    else:
        x = g.bfloat16()

    # x /= max(norm(x), eps)
    x = x / torch.linalg.vector_norm(x).clamp(min=eps)
    for _ in range(steps):
        # gram = x @ transpose(x)
        gram = x @ x.mT

        # x = a*x + (b*gram + c*gram @ gram) @ x
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)

    # return transpose(x) if size(g, 0) > size(g, 1) else x
    return x.mT if g.shape[0] > g.shape[1] else x


def _single_tensor_muon(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
    adjust_lr_fn: str | None,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad

        # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
        momentum_buffer.lerp_(grad, 1 - momentum)

        # update = lerp(grad, momentum_buffer, momentum) if nesterov else
        #     momentum_buffer
        if nesterov:
            update = grad.lerp(momentum_buffer, momentum)
        else:
            update = momentum_buffer

        # rows, columns = (size(p, 0), size(p, 1))
        rows, columns_ = (p.shape[0], p.shape[1])

        # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw" else
        #     sqrt(max(1, rows/columns))
        ratio = (
            0.2 * math.sqrt(max(rows, columns_))
            if adjust_lr_fn == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns_))
        )

        # p *= 1 - lr*weight_decay
        p.mul_(1 - lr * weight_decay)

        # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
        p.add_(
            _orthogonalized(update, ns_coefficients, ns_steps, eps), alpha=-lr * ratio
        )


def _multi_tensor_muon(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
    adjust_lr_fn: str | None,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, weight_decay, momentum, eps = map(float, (lr, weight_decay, momentum, eps))
    ns_coefficients = tuple(map(float, ns_coefficients))

    columns = [params, grads, momentum_buffers]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
        torch._foreach_lerp_(momentum_buffers, grads, 1 - momentum)

        # update = lerp(grad, momentum_buffer, momentum) if nesterov else
        #     momentum_buffer
        if nesterov:
            if grads is given:
                updates = torch._foreach_lerp(grads, momentum_buffers, momentum)
            else:
                torch._foreach_lerp_(grads, momentum_buffers, momentum)
                updates = grads
        else:
            updates = momentum_buffers
        del grads

        # rows, columns = (size(p, 0), size(p, 1))
        rows, columns_ = (params[0].shape[0], params[0].shape[1])

        # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw" else
        #     sqrt(max(1, rows/columns))
        ratio = (
            0.2 * math.sqrt(max(rows, columns_))
            if adjust_lr_fn == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns_))
        )

        # p *= 1 - lr*weight_decay
        torch._foreach_mul_(params, 1 - lr * weight_decay)

        # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
        orthogonalizeds = _batched(
            lambda update: _orthogonalized(update, ns_coefficients, ns_steps, eps),
            updates,
        )
        torch._foreach_add_(params, orthogonalizeds, alpha=-lr * ratio)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_muon(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
    adjust_lr_fn: str | None,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, momentum_buffer)
        p, momentum_buffer = (each.clone() for each in kept)

        # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
        momentum_buffer = momentum_buffer.lerp(grad, 1 - momentum)

        # update = lerp(grad, momentum_buffer, momentum) if nesterov else
        #     momentum_buffer
        if nesterov:
            update = grad.lerp(momentum_buffer, momentum)
        else:
            update = momentum_buffer

        # rows, columns = (size(p, 0), size(p, 1))
        rows, columns_ = (p.shape[0], p.shape[1])

        # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw" else
        #     sqrt(max(1, rows/columns))
        ratio = (
            0.2 * math.sqrt(max(rows, columns_))
            if adjust_lr_fn == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns_))
        )

        # p *= 1 - lr*weight_decay
        p = p * (1 - lr * weight_decay)

        # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
        p = _scaled_add(
            p, _orthogonalized(update, ns_coefficients, ns_steps, eps), -lr * ratio
        )

        for each, new in zip(kept, (p, momentum_buffer), strict=True):
            each.copy_(new)


def _multi_tensor_muon_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
    adjust_lr_fn: str | None,
    maximize: bool,
) -> None:
    columns = [params, grads, momentum_buffers]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
        torch._foreach_lerp_(momentum_buffers, grads, 1 - momentum)

        # update = lerp(grad, momentum_buffer, momentum) if nesterov else
        #     momentum_buffer
        if nesterov:
            if grads is given:
                updates = torch._foreach_lerp(grads, momentum_buffers, momentum)
            else:
                torch._foreach_lerp_(grads, momentum_buffers, momentum)
                updates = grads
        else:
            updates = momentum_buffers
        del grads

        # rows, columns = (size(p, 0), size(p, 1))
        rows, columns_ = (params[0].shape[0], params[0].shape[1])

        # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw" else
        #     sqrt(max(1, rows/columns))
        ratio = (
            0.2 * math.sqrt(max(rows, columns_))
            if adjust_lr_fn == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns_))
        )

        # p *= 1 - lr*weight_decay
        torch._foreach_mul_(params, 1 - lr * weight_decay)

        # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
        orthogonalizeds = _batched(
            lambda update: _orthogonalized(update, ns_coefficients, ns_steps, eps),
            updates,
        )
        del updates
        products = torch._foreach_mul(orthogonalizeds, -lr * ratio)
        torch._foreach_add_(params, products)


def _kernel_numbers_1(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["momentum"]]
    options = [group.get("maximize", False), group["nesterov"]]
    return hypers, options


def _kernel_numbers_2(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["weight_decay"]]
    options = [group.get("maximize", False), group["adjust_lr_fn"] == "match_rms_adamw"]
    return hypers, options


def _between_muon(
    updates: list[Tensor],
    *,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
) -> list[Tensor]:
    # Numbers, where a group has tensors of one element.
    eps = float(eps)
    ns_coefficients = tuple(map(float, ns_coefficients))

    # orthogonalized(update, ns_coefficients, ns_steps, eps)
    orthogonalizeds = _batched(
        lambda update: _orthogonalized(update, ns_coefficients, ns_steps, eps), updates
    )
    return orthogonalizeds


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels and torch in turns the groups that ask for it; return those
    that are left.
    """
    taken, left = _KERNELS.apart(optimizer, groups)
    for group, columns in taken:
        params, grads, momentum_buffers = columns
        turns = _KERNELS.of(
            optimizer,
            group,
            {"p": params, "grad": grads, "momentum_buffer": momentum_buffers},
        )
        if turns is None:
            left.append((group, columns))
            continue
        turn_1, turn_2 = turns
        keys = [p.shape for p in params]
        for batch in _alike(columns, keys):
            params, grads, momentum_buffers = batch
            updates = turn_1(params, grads, momentum_buffers)
            orthogonalizeds = _between_muon(
                updates,
                ns_coefficients=group["ns_coefficients"],
                eps=group["eps"],
                ns_steps=group["ns_steps"],
            )
            orthogonalizeds = _KERNELS.handed(batch, orthogonalizeds)
            turn_2(
                params,
                orthogonalizeds,
                asked=[[p.shape[0] for p in params], [p.shape[1] for p in params]],
            )
    return left


_CPU_1 = r"""// Muon, turn 1, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    update_t *update;
    double momentum;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::grad, &Row::momentum_buffer, &Row::update);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real momentum_buffer = load(row.momentum_buffer[i]);
            real update = 0;
            // momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
            momentum_buffer = lerp_(momentum_buffer, grad, real(1.0 - row.momentum));
            // update = lerp(grad, momentum_buffer, momentum) if nesterov else
            //     momentum_buffer
            update = nesterov ? lerp_(grad, momentum_buffer, real(row.momentum)) :
                momentum_buffer;
            store(row.momentum_buffer[i], momentum_buffer);
            store(row.update[i], update);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_muon(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[2][at];
        row.update = (update_t *)table->columns[3][at];
        const double *hyper = table->hypers + 1 * table->group[at];
        row.momentum = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA_1 = r"""# Muon, turn 1, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, gradient, keep, lerp, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t", "update_t")
OPTIONS = ("maximize", "nesterov")


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf, grad_scale,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    update_t: tl.constexpr,
    maximize: tl.constexpr,
    nesterov: tl.constexpr,
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
    of = hypers + 1 * tl.load(group + row)
    momentum = tl.load(of + 0)
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    update_at = column(columns, rows, row, 3, update_t, aligned) + begin
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, left, real)
    # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
    momentum_buffer = lerp(momentum_buffer, grad, (1.0 - momentum).to(real))
    # update = lerp(grad, momentum_buffer, momentum) if nesterov else
    #     momentum_buffer
    update = (
        lerp(grad, momentum_buffer, momentum.to(real)) if nesterov else momentum_buffer
    )
    keep(momentum_buffer_at, i, left, momentum_buffer)
    keep(update_at, i, left, update)


def launch(x):
    x.each_chunk(pass_1)
"""


_CPU_2 = r"""// Muon, turn 2, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    orthogonalized_t *orthogonalized;
    double lr;
    double weight_decay;
    double size_0;
    double size_1;
};

// What is worked out once a tensor.
struct Numbers {
    double rows_, columns, ratio;
};

static void numbers_1(const Row &row, Numbers &n) {
    // rows, columns = (size(p, 0), size(p, 1))
    n.rows_ = row.size_0;
    n.columns = row.size_1;
    // ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw"
    //     else sqrt(max(1, rows/columns))
    n.ratio = adjust_lr_fn_is_match_rms_adamw ? 0.2 * sqrt_(max_(n.rows_, n.columns)) :
        sqrt_(max_(1.0, n.rows_ / n.columns));
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::orthogonalized);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real orthogonalized = load(row.orthogonalized[i]);
            // p *= 1 - lr*weight_decay
            p = p * real(1.0 - row.lr * row.weight_decay);
            // p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
            p = p - real(row.lr * n.ratio) * orthogonalized;
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_muon(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.orthogonalized = (orthogonalized_t *)table->columns[1][at];
        const double *hyper = table->hypers + 2 * table->group[at];
        row.lr = *hyper++;
        row.weight_decay = *hyper++;
        row.size_0 = table->asked[at];
        row.size_1 = table->asked[1 * table->rows + at];
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

_CUDA_2 = r"""# Muon, turn 2, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, double, elements, keep, larger, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "orthogonalized_t")
OPTIONS = ("maximize", "adjust_lr_fn_is_match_rms_adamw")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    rows, asked, numbers, found_inf,
    adjust_lr_fn_is_match_rms_adamw: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    size_0 = tl.load(asked + 0 * rows + row)
    size_1 = tl.load(asked + 1 * rows + row)
    # rows, columns = (size(p, 0), size(p, 1))
    rows_ = size_0
    columns_ = size_1
    # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw"
    #     else sqrt(max(1, rows/columns))
    ratio = (
        0.2 * tl.sqrt(larger(rows_, columns_))
        if adjust_lr_fn_is_match_rms_adamw
        else tl.sqrt(larger(double(1.0), rows_ / columns_))
    )
    tl.store(n + 0 * rows, ratio)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf,
    p_t: tl.constexpr,
    orthogonalized_t: tl.constexpr,
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
    weight_decay = tl.load(of + 1)
    ratio = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    orthogonalized_at = column(columns, rows, row, 1, orthogonalized_t, aligned) + begin
    p = elements(p_at, i, left, real)
    orthogonalized = elements(orthogonalized_at, i, left, real)
    # p *= 1 - lr*weight_decay
    p = p * (1.0 - lr * weight_decay).to(real)
    # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
    p = p - (lr * ratio).to(real) * orthogonalized
    keep(p_at, i, left, p)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Turns(
    _Kernel(
        "step_muon",
        _CPU_1,
        _kernel_numbers_1,
        elements=("p", "grad", "momentum_buffer", "update"),
        options=("maximize", "nesterov"),
        cuda=_CUDA_1,
    ),
    _Kernel(
        "step_muon",
        _CPU_2,
        _kernel_numbers_2,
        elements=("p", "orthogonalized"),
        options=("maximize", "adjust_lr_fn_is_match_rms_adamw"),
        cuda=_CUDA_2,
    ),
)
