"""RMSprop: gradients divided by a running root mean square of themselves.

Hinton (2012), Neural Networks for Machine Learning, lecture 6e,
https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf
Centered: Graves (2013), Generating Sequences With Recurrent Neural Networks,
https://arxiv.org/abs/1308.0850

As in torch, eps is added after the root is taken.

Reference: torch.optim.RMSprop
"""
# Compiled by optdsl from rmsprop.opt, content 80bbc3297e4a.

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

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop: gradients divided by a running root mean square of themselves.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf] (default: 1e-2).
        alpha (float, optional): decay of the mean square, in [0, inf] (default: 0.99).
        eps (float, optional): added to the denominator, in [0, inf] (default: 1e-8).
        weight_decay (float, optional): L2 penalty, in [0, inf] (default: 0).
        momentum (float, optional): momentum factor, in [0, inf] (default: 0).
        centered (bool, optional): divide by an estimate of the standard deviation
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
        square_avg: running mean of squared gradients (like p).
        momentum_buffer: running sum of updates (like p).
        grad_avg: running mean of gradients (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
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
            group.setdefault("alpha", 0.99)
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0)
            group.setdefault("momentum", 0)
            group.setdefault("centered", False)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step",):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        # What torch's class does not have is in a group only where it is on.
        for name, off in {"fused": None}.items():
            if param_group[name] is off:
                del param_group[name]
        for name in ("lr", "alpha", "eps", "weight_decay", "momentum"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        square_avgs: list[Tensor],
        momentum_buffers: list[Tensor | None],
        grad_avgs: list[Tensor | None],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("RMSprop does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["square_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            if group["momentum"] > 0 and "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            if group["centered"] and "grad_avg" not in state:
                state["grad_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            square_avgs.append(state["square_avg"])
            momentum_buffers.append(state.get("momentum_buffer"))
            grad_avgs.append(state.get("grad_avg"))
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
            square_avgs: list[Tensor] = []
            momentum_buffers: list[Tensor | None] = []
            grad_avgs: list[Tensor | None] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, square_avgs, momentum_buffers, grad_avgs, steps
            )
            groups.append(
                (
                    group,
                    [params, grads, square_avgs, momentum_buffers, grad_avgs, steps],
                )
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, square_avgs, momentum_buffers, grad_avgs, steps = columns
            use_foreach = group["foreach"] or group.get("fused")
            if group["foreach"] is None and group.get("fused") is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_rmsprop if use_foreach else _single_tensor_rmsprop
            if group["capturable"]:
                _check_capturable(params, steps)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_rmsprop_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_rmsprop
            update(
                params,
                grads,
                square_avgs,
                momentum_buffers,
                grad_avgs,
                steps,
                lr=group["lr"],
                alpha=group["alpha"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                centered=group["centered"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    alpha = group["alpha"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    momentum = group["momentum"]
    centered = group["centered"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_number("alpha", alpha)
    if not 0 <= alpha <= math.inf:
        raise ValueError(f"Invalid alpha: {alpha!r}, expected a number in [0, inf]")
    _check_number("eps", eps)
    if not 0 <= eps <= math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf]")
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
    if centered not in (False, True):
        raise ValueError(f"Invalid centered: {centered!r}, expected True or False")
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


def _single_tensor_rmsprop(
    params: list[Tensor],
    grads: list[Tensor],
    square_avgs: list[Tensor],
    momentum_buffers: list[Tensor | None],
    grad_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    maximize: bool,
) -> None:
    for p, grad, square_avg, momentum_buffer, grad_avg, step in zip(
        params, grads, square_avgs, momentum_buffers, grad_avgs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        if torch.is_complex(p):
            p, grad, square_avg = map(torch.view_as_real, (p, grad, square_avg))
            if momentum_buffer is not None:
                momentum_buffer = torch.view_as_real(momentum_buffer)
            if grad_avg is not None:
                grad_avg = torch.view_as_real(grad_avg)

        # square_avg = alpha*square_avg + (1 - alpha)*grad*grad
        square_avg.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
        if centered:
            # grad_avg = lerp(grad_avg, grad, 1 - alpha)
            grad_avg.lerp_(grad, 1 - alpha)

            # avg = sqrt(square_avg - grad_avg*grad_avg)
            avg = square_avg.addcmul(grad_avg, grad_avg, value=-1).sqrt_()
        else:
            # avg = sqrt(square_avg)
            avg = square_avg.sqrt()

        # avg += eps
        avg.add_(eps)
        if momentum > 0:
            # momentum_buffer = momentum*momentum_buffer + grad/avg
            momentum_buffer.mul_(momentum).addcdiv_(grad, avg)

            # p -= lr*momentum_buffer
            p.add_(momentum_buffer, alpha=-lr)
        else:
            # p -= lr*grad/avg
            p.addcdiv_(grad, avg, value=-lr)


def _multi_tensor_rmsprop(
    params: list[Tensor],
    grads: list[Tensor],
    square_avgs: list[Tensor],
    momentum_buffers: list[Tensor | None],
    grad_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, alpha, eps, weight_decay, momentum = map(
        float, (lr, alpha, eps, weight_decay, momentum)
    )

    columns = [params, grads, square_avgs, momentum_buffers, grad_avgs, steps]
    for params, grads, square_avgs, momentum_buffers, grad_avgs, steps in _alike(
        columns
    ):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        if weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            square_avgs = [torch.view_as_real(each) for each in square_avgs]
            momentum_buffers = [
                each if each is None else torch.view_as_real(each)
                for each in momentum_buffers
            ]
            grad_avgs = [
                each if each is None else torch.view_as_real(each) for each in grad_avgs
            ]
            given = grads

        # square_avg = alpha*square_avg + (1 - alpha)*grad*grad
        torch._foreach_mul_(square_avgs, alpha)
        torch._foreach_addcmul_(square_avgs, grads, grads, value=1 - alpha)
        if centered:
            # grad_avg = lerp(grad_avg, grad, 1 - alpha)
            torch._foreach_lerp_(grad_avgs, grads, 1 - alpha)

            # avg = sqrt(square_avg - grad_avg*grad_avg)
            avgs = torch._foreach_addcmul(square_avgs, grad_avgs, grad_avgs, value=-1)
            torch._foreach_sqrt_(avgs)
        else:
            # avg = sqrt(square_avg)
            avgs = torch._foreach_sqrt(square_avgs)

        # avg += eps
        torch._foreach_add_(avgs, eps)
        if momentum > 0:
            # momentum_buffer = momentum*momentum_buffer + grad/avg
            torch._foreach_mul_(momentum_buffers, momentum)
            torch._foreach_addcdiv_(momentum_buffers, grads, avgs)

            # p -= lr*momentum_buffer
            torch._foreach_add_(params, momentum_buffers, alpha=-lr)
        else:
            # p -= lr*grad/avg
            torch._foreach_addcdiv_(params, grads, avgs, value=-lr)


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


def _scaled_addcdiv(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcdiv(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcdiv(y * scale, z)
    return x.addcdiv(y, z, value=scale)


def _differentiable_rmsprop(
    params: list[Tensor],
    grads: list[Tensor],
    square_avgs: list[Tensor],
    momentum_buffers: list[Tensor | None],
    grad_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    maximize: bool,
) -> None:
    for p, grad, square_avg, momentum_buffer, grad_avg, step in zip(
        params, grads, square_avgs, momentum_buffers, grad_avgs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, square_avg, momentum_buffer, grad_avg, step)
        p, square_avg, momentum_buffer, grad_avg, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        is_complex = torch.is_complex(p)
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        if is_complex:
            p, grad, square_avg = map(torch.view_as_real, (p, grad, square_avg))
            if momentum_buffer is not None:
                momentum_buffer = torch.view_as_real(momentum_buffer)
            if grad_avg is not None:
                grad_avg = torch.view_as_real(grad_avg)

        # square_avg = alpha*square_avg + (1 - alpha)*grad*grad
        square_avg = _scaled_addcmul(square_avg * alpha, grad, grad, 1 - alpha)
        if centered:
            # grad_avg = lerp(grad_avg, grad, 1 - alpha)
            grad_avg = grad_avg.lerp(grad, 1 - alpha)

            # avg = sqrt(square_avg - grad_avg*grad_avg)
            avg = square_avg.addcmul(grad_avg, grad_avg, value=-1).sqrt()
        else:
            # avg = sqrt(square_avg)
            avg = square_avg.sqrt()

        # avg += eps
        avg = avg + eps
        if momentum > 0:
            # momentum_buffer = momentum*momentum_buffer + grad/avg
            momentum_buffer = (momentum_buffer * momentum).addcdiv(grad, avg)

            # p -= lr*momentum_buffer
            p = _scaled_add(p, momentum_buffer, -lr)
        else:
            # p -= lr*grad/avg
            p = _scaled_addcdiv(p, grad, avg, -lr)
        if is_complex:
            p, square_avg = map(torch.view_as_complex, (p, square_avg))
            if momentum_buffer is not None:
                momentum_buffer = torch.view_as_complex(momentum_buffer)
            if grad_avg is not None:
                grad_avg = torch.view_as_complex(grad_avg)

        for each, new in zip(
            kept, (p, square_avg, momentum_buffer, grad_avg, step), strict=True
        ):
            if each is not None:
                each.copy_(new)


def _multi_tensor_rmsprop_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    square_avgs: list[Tensor],
    momentum_buffers: list[Tensor | None],
    grad_avgs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    maximize: bool,
) -> None:
    columns = [params, grads, square_avgs, momentum_buffers, grad_avgs, steps]
    for params, grads, square_avgs, momentum_buffers, grad_avgs, steps in _alike(
        columns
    ):
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
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            square_avgs = [torch.view_as_real(each) for each in square_avgs]
            momentum_buffers = [
                each if each is None else torch.view_as_real(each)
                for each in momentum_buffers
            ]
            grad_avgs = [
                each if each is None else torch.view_as_real(each) for each in grad_avgs
            ]
            given = grads

        # square_avg = alpha*square_avg + (1 - alpha)*grad*grad
        torch._foreach_mul_(square_avgs, alpha)
        products = torch._foreach_mul(grads, 1 - alpha)
        torch._foreach_addcmul_(square_avgs, products, grads)
        del products
        if centered:
            # grad_avg = lerp(grad_avg, grad, 1 - alpha)
            torch._foreach_lerp_(grad_avgs, grads, 1 - alpha)

            # avg = sqrt(square_avg - grad_avg*grad_avg)
            avgs = torch._foreach_addcmul(square_avgs, grad_avgs, grad_avgs, value=-1)
            torch._foreach_sqrt_(avgs)
        else:
            # avg = sqrt(square_avg)
            avgs = torch._foreach_sqrt(square_avgs)

        # avg += eps
        torch._foreach_add_(avgs, eps)
        if momentum > 0:
            # momentum_buffer = momentum*momentum_buffer + grad/avg
            torch._foreach_mul_(momentum_buffers, momentum)
            torch._foreach_addcdiv_(momentum_buffers, grads, avgs)

            # p -= lr*momentum_buffer
            products = torch._foreach_mul(momentum_buffers, -lr)
            torch._foreach_add_(params, products)
        else:
            # p -= lr*grad/avg
            products = torch._foreach_mul(grads, -lr)
            torch._foreach_addcdiv_(params, products, avgs)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["alpha"],
        group["eps"],
        group["weight_decay"],
        group["momentum"],
    ]
    options = [
        group["maximize"],
        group["weight_decay"] != 0,
        group["centered"],
        group["momentum"] > 0,
    ]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, square_avgs, momentum_buffers, grad_avgs, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, square_avgs, momentum_buffers, grad_avgs],
            numbers=[steps],
        )
    return launch.run()


_CPU = r"""// RMSprop in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    square_avg_t *square_avg;
    momentum_buffer_t *momentum_buffer;
    grad_avg_t *grad_avg;
    step_t *step;
    double lr;
    double alpha;
    double eps;
    double weight_decay;
    double momentum;
};

// What is worked out once a tensor.
struct Numbers {
    double t;
};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::square_avg, &Row::momentum_buffer,
            &Row::grad_avg);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real square_avg = load(row.square_avg[i]);
            real momentum_buffer = has_momentum_buffer ? load(row.momentum_buffer[i]) :
                0;
            real grad_avg = has_grad_avg ? load(row.grad_avg[i]) : 0;
            real avg = 0;
            if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // square_avg = alpha*square_avg + (1 - alpha)*grad*grad
            square_avg = real(row.alpha) * square_avg + real(1.0 - row.alpha) * grad *
                grad;
            if (centered) {
                // grad_avg = lerp(grad_avg, grad, 1 - alpha)
                grad_avg = lerp_(grad_avg, grad, real(1.0 - row.alpha));
                // avg = sqrt(square_avg - grad_avg*grad_avg)
                avg = sqrt_(square_avg - grad_avg * grad_avg);
            } else {
                // avg = sqrt(square_avg)
                avg = sqrt_(square_avg);
            }
            // avg += eps
            avg = avg + real(row.eps);
            if (momentum_above_0) {
                // momentum_buffer = momentum*momentum_buffer + grad/avg
                momentum_buffer = real(row.momentum) * momentum_buffer + grad / avg;
                // p -= lr*momentum_buffer
                p = p - real(row.lr) * momentum_buffer;
            } else {
                // p -= lr*grad/avg
                p = p - real(row.lr) * grad / avg;
            }
            store(row.p[i], p);
            store(row.square_avg[i], square_avg);
            if (has_momentum_buffer) store(row.momentum_buffer[i], momentum_buffer);
            if (has_grad_avg) store(row.grad_avg[i], grad_avg);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_rmsprop(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.square_avg = (square_avg_t *)table->columns[2][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[3][at];
        row.grad_avg = (grad_avg_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        const double *hyper = table->hypers + 5 * table->group[at];
        row.lr = *hyper++;
        row.alpha = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        row.momentum = *hyper++;
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""

_CUDA = r"""# RMSprop in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    elements,
    gradient,
    if_there,
    keep,
    keep_number,
    lerp,
    number,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "square_avg_t", "momentum_buffer_t", "grad_avg_t", "step_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "centered", "momentum_above_0")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    t = number(columns, rows, row, 5, step_t) + 1
    keep_number(columns, rows, row, 5, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    square_avg_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    grad_avg_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    centered: tl.constexpr,
    momentum_above_0: tl.constexpr,
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
    of = hypers + 5 * tl.load(group + row)
    lr = tl.load(of + 0)
    alpha = tl.load(of + 1)
    eps = tl.load(of + 2)
    weight_decay = tl.load(of + 3)
    momentum = tl.load(of + 4)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    square_avg_at = column(columns, rows, row, 2, square_avg_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 3, momentum_buffer_t, aligned
    ) + begin
    momentum_buffer_left = if_there(columns, rows, row, 3, left)
    grad_avg_at = column(columns, rows, row, 4, grad_avg_t, aligned) + begin
    grad_avg_left = if_there(columns, rows, row, 4, left)
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    square_avg = elements(square_avg_at, i, left, real)
    momentum_buffer = elements(momentum_buffer_at, i, momentum_buffer_left, real)
    grad_avg = elements(grad_avg_at, i, grad_avg_left, real)
    if weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # square_avg = alpha*square_avg + (1 - alpha)*grad*grad
    square_avg = alpha.to(real) * square_avg + (1.0 - alpha).to(real) * grad * grad
    if centered:
        # grad_avg = lerp(grad_avg, grad, 1 - alpha)
        grad_avg = lerp(grad_avg, grad, (1.0 - alpha).to(real))
        # avg = sqrt(square_avg - grad_avg*grad_avg)
        avg = tl.sqrt(square_avg - grad_avg * grad_avg)
    else:
        # avg = sqrt(square_avg)
        avg = tl.sqrt(square_avg)
    # avg += eps
    avg = avg + eps.to(real)
    if momentum_above_0:
        # momentum_buffer = momentum*momentum_buffer + grad/avg
        momentum_buffer = momentum.to(real) * momentum_buffer + grad / avg
        # p -= lr*momentum_buffer
        p = p - lr.to(real) * momentum_buffer
    else:
        # p -= lr*grad/avg
        p = p - lr.to(real) * grad / avg
    keep(p_at, i, left, p)
    keep(square_avg_at, i, left, square_avg)
    keep(momentum_buffer_at, i, momentum_buffer_left, momentum_buffer)
    keep(grad_avg_at, i, grad_avg_left, grad_avg)


def launch(x):
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_rmsprop",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "square_avg", "momentum_buffer", "grad_avg"),
    numbers=("step",),
    optional=("grad_avg", "momentum_buffer"),
    options=("maximize", "weight_decay_is_not_0", "centered", "momentum_above_0"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
