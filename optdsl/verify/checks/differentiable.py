"""A step that is differentiable has the values of the loop, and the right derivatives."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck

from ..cases import Case, LeftOut, judged, single
from ..outcome import Outcome, not_applicable, words
from ..run import Snapshot, Trace, loss_of, seed_constructor
from ..study import Studied
from .targets import exact_scalars

Step = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
NO_STATE: Mapping[str, Any] = {}


def differentiable(studied: Studied) -> Outcome:
    if "differentiable" not in studied.subject.flags:
        return not_applicable("its constructor has no differentiable")
    if studied.layout != "dense":
        return not_applicable("its gradients are sparse")

    def judge(case: Case) -> str:
        ours = Trace(studied.start(case.scene).start(), _values(studied, case))
        found = studied.apart(
            ours, lambda it: studied.play(it, case.hypers), case.scene, case.hypers
        )
        if found is not None:
            return f"differentiable=True, {found} in the loop"
        found = _wrong_derivative(studied, case)
        return found and f"differentiable=True, {found}"

    with exact_scalars():
        return judged(studied, single(studied), judge)


def _make(studied: Studied, case: Case, p: Tensor) -> torch.optim.Optimizer:
    group = {"params": [p], **studied.subject.group}
    seed_constructor(case.scene)
    return studied.subject.make([group], **{**case.hypers, "differentiable": True})


def _values(studied: Studied, case: Case) -> tuple[Snapshot, ...]:
    """The steps of one parameter that is no leaf of the graph."""
    (part,) = case.scene.parts
    run = studied.start(case.scene, case.hypers)
    p = case.scene.parameter(part).clone()
    run.parameters, run.optimizer = {part.name: p}, _make(studied, case, p)
    steps = []
    for step in case.scene.numbers:
        p.grad = case.scene.gradient(part, step)
        run.move(step)
        steps.append(run.snapshot())
    return tuple(steps)


def _wrong_derivative(studied: Studied, case: Case) -> str:
    """What gradcheck says of the first step, which makes the state, and of the second."""
    (part,) = case.scene.parts
    start = case.scene.parameter(part).detach()
    grads = [case.scene.gradient(part, step) for step in (0, 1)]
    state = _after(studied, case, start, grads[0])
    for which, before, grad in (
        ("first", NO_STATE, grads[0]),
        ("second", state, grads[1]),
    ):
        step = _step(studied, case, before)
        given = [each.clone().requires_grad_() for each in (start, grad)]
        try:
            gradcheck(step, given)
        except GradcheckError as error:
            if not _is_smooth(step, start, grad):
                raise LeftOut(
                    "its steps are not smooth, so that no number tells"
                ) from None
            return f"the {which} step: {words(error)} (0 is p, 1 its gradient)"
    return ""


def _closures(studied: Studied) -> tuple[Callable[[], Tensor], ...]:
    """What `step` is given."""
    return (lambda: loss_of(0),) if studied.needs_closure else ()


def _after(studied: Studied, case: Case, start: Tensor, grad: Tensor) -> dict[str, Any]:
    """The state of a parameter after a step, without its history."""
    p = start.clone().requires_grad_().clone()
    optimizer = _make(studied, case, p)
    p.grad = grad.clone()
    optimizer.step(*_closures(studied))
    return {key: _detached(value) for key, value in optimizer.state[p].items()}


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _step(studied: Studied, case: Case, state: Mapping[str, Any]) -> Step:
    """One step from a state, as a function of the parameter and its gradient."""

    def step(start: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        p = start.clone()
        optimizer = _make(studied, case, p)
        if state:
            optimizer.state[p].update({k: _detached(v) for k, v in state.items()})
        p.grad = grad
        optimizer.step(*_closures(studied))
        kept = optimizer.state[p].values()
        return (
            p,
            *(each for each in kept if isinstance(each, Tensor) and each.requires_grad),
        )

    return step


def _is_smooth(step: Step, *at: Tensor) -> bool:
    """Whether small and large changes of each input give one slope."""
    for changed in range(len(at)):
        way = torch.randn(at[0].shape, generator=torch.Generator().manual_seed(changed))

        def slope(distance: float, changed: int = changed, way: Tensor = way) -> Tensor:
            there, back = (
                step(
                    *(
                        x + far * way if each == changed else x
                        for each, x in enumerate(at)
                    )
                )[0]
                for far in (distance, -distance)
            )
            return (there - back) / (2 * distance)

        near, far = slope(1e-6), slope(1e-3)
        if (near - far).abs().max() > 0.05 * near.abs().max():
            return False
    return True
