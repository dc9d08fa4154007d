"""SparseAdam: Adam that moves the entries which a sparse gradient holds.

Kingma and Ba (2015), Adam: A Method for Stochastic Optimization,
https://arxiv.org/abs/1412.6980

The moments of an entry stand still while it has no gradient, as in torch; the step
count is that of the parameter.

Reference: torch.optim.SparseAdam
"""
# Compiled by optdsl from sparse_adam.opt, content 9aab14fc0705.

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
    _to_scalar,
)

__all__ = ["SparseAdam"]


class SparseAdam(Optimizer):
    """SparseAdam: Adam that moves the entries which a sparse gradient holds.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in (0, inf] (default: 1e-3).
        betas (tuple[float, float], optional): decay of the first and the second moment,
            in [0, 1) (default: (0.9, 0.999)).
        eps (float, optional): added to the denominator, in (0, inf] (default: 1e-8).
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): there are no fused kernels in this file; foreach stands
            in for them (default: None).

    State of a parameter, made at its first step with a gradient:
        step: number of updates (int).
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
        maximize: bool = False,
        *,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
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
            warnings.warn("no fused kernels here: foreach in their place", stacklevel=2)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._trial = False
        for group in self.param_groups:
            group.setdefault("lr", 1e-3)
            group.setdefault("betas", (0.9, 0.999))
            group.setdefault("eps", 1e-8)
            group.setdefault("maximize", False)
            for p in group["params"]:
                if p in self.state:
                    self.state[p]["step"] = int(self.state[p]["step"])

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
            "foreach": None,
            "capturable": False,
            "differentiable": False,
            "fused": None,
        }.items():
            if param_group[name] is off:
                del param_group[name]
        for name in ("lr", "betas", "eps"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[int],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if not grad.is_sparse:
                raise RuntimeError("SparseAdam does not support dense gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            state["step"] += 1
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

    @torch.compiler.disable
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
                self._init_group(group, [], [], [], [], [])
            return loss

        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            exp_avgs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            steps: list[int] = []
            self._init_group(group, params, grads, exp_avgs, exp_avg_sqs, steps)
            use_foreach = group.get("foreach") or group.get("fused")
            if group.get("foreach") is None and group.get("fused") is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group.get("differentiable", False)
                )
            update = (
                _multi_tensor_sparse_adam if use_foreach else _single_tensor_sparse_adam
            )
            update(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    _check_number("lr", lr)
    if not 0 < lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in (0, inf]")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    _check_number("eps", eps)
    if not 0 < eps <= math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in (0, inf]")
    if group.get("fused") and group.get("foreach"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group.get("fused") and group.get("differentiable", False):
        raise RuntimeError("`fused` does not support `differentiable`")
    if group.get("differentiable", False):
        raise RuntimeError("SparseAdam is not differentiable: its gradients are sparse")
    if group.get("capturable", False):
        raise RuntimeError(
            "SparseAdam cannot be captured: its step count is a plain number"
        )


def _check_params(params: list[Tensor], group: dict[str, Any]) -> None:
    """Raise where a parameter is none that this rule is for."""
    for p in params:
        if p.is_sparse:
            raise ValueError(
                "SparseAdam requires dense parameter tensors "
                f"(got a {p.dtype} of shape {tuple(p.shape)})"
            )
        if torch.is_complex(p):
            raise ValueError(
                "SparseAdam does not support complex parameters "
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


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _single_tensor_sparse_adam(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[int],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, t in zip(
        params, grads, exp_avgs, exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        # Only the entries that the gradient holds take part.
        grad = grad.coalesce()
        entries, whole = tuple(grad.indices()), (p, exp_avg, exp_avg_sq)
        grad = grad.values()
        part = [each if each is None else each[entries].view_as(grad) for each in whole]
        p, exp_avg, exp_avg_sq = part
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )

        # change = (1 - beta1)*(grad - exp_avg)
        change = (grad - exp_avg).mul_(1 - beta1)

        # change_sq = (1 - beta2)*(grad*grad - exp_avg_sq)
        change_sq = (grad * grad).sub_(exp_avg_sq).mul_(1 - beta2)

        # exp_avg += change
        exp_avg.add_(change)

        # exp_avg_sq += change_sq
        exp_avg_sq.add_(change_sq)

        # update = exp_avg/(sqrt(exp_avg_sq) + eps)
        update = exp_avg / exp_avg_sq.sqrt().add_(eps)

        # update *= lr*sqrt(1 - beta2**t)/(1 - beta1**t)
        update.mul_(lr * math.sqrt(1 - beta2**t) / (1 - beta1**t))

        # p -= update
        p.sub_(update)

        for each, values in zip(whole, part, strict=True):
            if each is not None:
                each[entries] = values


def _multi_tensor_sparse_adam(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[int],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps = map(float, (lr, eps))
    betas = tuple(map(float, betas))
    beta1, beta2 = betas

    # change = (1 - beta1)*(grad - exp_avg)
    change_scale = 1 - beta1

    # change_sq = (1 - beta2)*(grad*grad - exp_avg_sq)
    change_sq_scale = 1 - beta2

    columns = [params, grads, exp_avgs, exp_avg_sqs, steps]
    keys = steps
    for params, grads, exp_avgs, exp_avg_sqs, steps in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        # Only the entries that the gradients hold take part.
        grads = [grad.coalesce() for grad in grads]
        entries = [tuple(grad.indices()) for grad in grads]
        grads = [grad.values() for grad in grads]
        whole = list(zip(params, exp_avgs, exp_avg_sqs, strict=True))
        parts = [
            [each if each is None else each[at].view_as(grad) for each in tensors]
            for tensors, at, grad in zip(whole, entries, grads, strict=True)
        ]
        params, exp_avgs, exp_avg_sqs = map(list, zip(*parts, strict=True))
        given = grads
        t = steps[0]
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
            given = grads

        # change = (1 - beta1)*(grad - exp_avg)
        changes = torch._foreach_sub(grads, exp_avgs)

        # change_sq = (1 - beta2)*(grad*grad - exp_avg_sq)
        if grads is given:
            change_sqs = torch._foreach_mul(grads, grads)
        else:
            torch._foreach_mul_(grads, grads)
            change_sqs = grads
        del grads
        torch._foreach_sub_(change_sqs, exp_avg_sqs)

        # exp_avg += change
        torch._foreach_add_(exp_avgs, changes, alpha=change_scale)
        del changes

        # exp_avg_sq += change_sq
        torch._foreach_add_(exp_avg_sqs, change_sqs, alpha=change_sq_scale)
        del change_sqs

        # update = exp_avg/(sqrt(exp_avg_sq) + eps)
        update_scale = 1
        roots = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_add_(roots, eps)
        torch._foreach_reciprocal_(roots)
        torch._foreach_mul_(roots, exp_avgs)
        updates = roots

        # update *= lr*sqrt(1 - beta2**t)/(1 - beta1**t)
        update_scale = update_scale * (lr * math.sqrt(1 - beta2**t) / (1 - beta1**t))

        # p -= update
        torch._foreach_add_(params, updates, alpha=-update_scale)

        for tensors, at, part in zip(whole, entries, parts, strict=True):
            for each, values in zip(tensors, part, strict=True):
                if each is not None:
                    each[at] = values
