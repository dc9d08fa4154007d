"""Adagrad.

Duchi, Hazan and Singer (2011), Adaptive Subgradient Methods for Online Learning and
Stochastic Optimization, http://jmlr.org/papers/v12/duchi11a.html

A group's own initial_accumulator_value is obeyed; torch looks at the constructor's
alone.

Reference: torch.optim.Adagrad
"""
# Compiled by optdsl from adagrad.opt, content 86dd096226cc.

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT, _get_scalar_dtype

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Adagrad.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-2).
        lr_decay (float, optional): decay of the learning rate over steps, in [0, inf)
            (default: 0).
        weight_decay (float, optional): L2 penalty, in [0, inf) (default: 0).
        initial_accumulator_value (float, optional): where the sum of squares starts, in
            [0, inf) (default: 0).
        eps (float, optional): added to the denominator, in [0, inf) (default: 1e-10).
        maximize (bool, optional): maximize the objective (default: False).
        foreach, capturable, differentiable, fused: have to stay off; this file holds
            the plain loop over parameters.

    State of a parameter, made at its first step with a gradient:
        step: number of updates (0-d tensor).
        sum: sum of squared gradients (like p).

    Raises:
        ValueError: a hyperparameter, of any group, is not allowed.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
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

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("lr", 1e-2)
            group.setdefault("lr_decay", 0)
            group.setdefault("weight_decay", 0)
            group.setdefault("initial_accumulator_value", 0)
            group.setdefault("eps", 1e-10)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)

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
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                raise RuntimeError("Adagrad does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = torch.tensor(0.0, dtype=_get_scalar_dtype())
                fill = group["initial_accumulator_value"]
                if torch.is_complex(p):
                    fill = complex(fill, fill)
                state["sum"] = torch.full_like(
                    p, fill, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(p.grad)
            sums.append(state["sum"])
            steps.append(state["step"])

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

        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            sums: list[Tensor] = []
            steps: list[Tensor] = []
            self._init_group(group, params, grads, sums, steps)
            _single_tensor_adagrad(
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
    if not (_is_number(lr) and 0 <= lr < math.inf):
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    if not (_is_number(lr_decay) and 0 <= lr_decay < math.inf):
        raise ValueError(
            f"Invalid lr_decay: {lr_decay!r}, expected a number in [0, inf)"
        )
    if not (_is_number(weight_decay) and 0 <= weight_decay < math.inf):
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if not (
        _is_number(initial_accumulator_value)
        and 0 <= initial_accumulator_value < math.inf
    ):
        raise ValueError(
            f"Invalid initial_accumulator_value: {initial_accumulator_value!r}, "
            f"expected a number in [0, inf)"
        )
    if not (_is_number(eps) and 0 <= eps < math.inf):
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
    for flag in ("foreach", "capturable", "differentiable", "fused"):
        if group[flag]:
            raise RuntimeError(f"Adagrad holds the plain loop; leave `{flag}` off")


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or a tensor of one element."""
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)


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
        if torch.is_complex(p):
            p, grad, sum_ = map(torch.view_as_real, (p, grad, sum_))
        step += 1
        t = step.item()
        if weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        clr = lr / (1 + (t - 1) * lr_decay)

        # sum += grad*grad
        sum_.addcmul_(grad, grad)

        # p -= clr*grad/(sqrt(sum) + eps)
        p.addcdiv_(grad, sum_.sqrt().add_(eps), value=-clr)
