"""AdamW: Adam whose weights decay apart from the moments.

Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization,
https://arxiv.org/abs/1711.05101
AMSGrad: Reddi et al. (2018), On the Convergence of Adam and Beyond,
https://openreview.net/forum?id=ryQu7f-RZ

Reference: torch.optim.AdamW
"""
# Compiled by optdsl from adamw.opt, content 5ed463176f7e.

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT, _get_scalar_dtype

__all__ = ["AdamW"]


class AdamW(Optimizer):
    """AdamW: Adam whose weights decay apart from the moments.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        betas (tuple[float, float], optional): decay of the first and the second moment,
            in [0, 1) (default: (0.9, 0.999)).
        eps (float, optional): added to the denominator, in [0, inf) (default: 1e-8).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 1e-2).
        amsgrad (bool, optional): divide by the largest second moment so far (default:
            False).
        maximize (bool, optional): maximize the objective (default: False).
        foreach, capturable, differentiable, fused: have to stay off; this file holds
            the plain loop over parameters.

    State of a parameter, made at its first step with a gradient:
        step: number of updates (0-d tensor).
        exp_avg: first moment of the gradient (like p).
        exp_avg_sq: second moment of the gradient (like p).
        max_exp_avg_sq: largest second moment so far (like p).

    Raises:
        ValueError: a hyperparameter, of any group, is not allowed.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
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
            "amsgrad": amsgrad,
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
            group.setdefault("lr", 1e-3)
            group.setdefault("betas", (0.9, 0.999))
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 1e-2)
            group.setdefault("amsgrad", False)
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
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        max_exp_avg_sqs: list[Tensor | None],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                raise RuntimeError("AdamW does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = torch.tensor(0.0, dtype=_get_scalar_dtype())
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            if group["amsgrad"] and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(p.grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            max_exp_avg_sqs.append(state.get("max_exp_avg_sq"))
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
            exp_avgs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            max_exp_avg_sqs: list[Tensor | None] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps
            )
            _single_tensor_adamw(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                max_exp_avg_sqs,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                amsgrad=group["amsgrad"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    amsgrad = group["amsgrad"]
    if not (_is_number(lr) and 0 <= lr < math.inf):
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    if not (
        isinstance(betas, (tuple, list))
        and len(betas) == 2
        and all(_is_number(each) and 0 <= each < 1 for each in betas)
    ):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    if not (_is_number(eps) and 0 <= eps < math.inf):
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
    if not (_is_number(weight_decay) and 0 <= weight_decay < math.inf):
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if amsgrad not in (False, True):
        raise ValueError(f"Invalid amsgrad: {amsgrad!r}, expected True or False")
    for flag in ("foreach", "capturable", "differentiable", "fused"):
        if group[flag]:
            raise RuntimeError(f"AdamW holds the plain loop; leave `{flag}` off")


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or a tensor of one element."""
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)


def _single_tensor_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
            if max_exp_avg_sq is not None:
                max_exp_avg_sq = torch.view_as_real(max_exp_avg_sq)
        step += 1
        t = step.item()
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg.lerp_(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        second = exp_avg_sq
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            torch.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
            second = max_exp_avg_sq

        # denom = sqrt(second)/sqrt(1 - beta2**t) + eps
        denom = second.sqrt().div_((1 - beta2**t) ** 0.5).add_(eps)

        # p -= lr/(1 - beta1**t) * exp_avg/denom
        p.addcdiv_(exp_avg, denom, value=-lr / (1 - beta1**t))
