"""A property about closures: who runs them, how often, and what becomes of the loss."""

import torch
from torch import Tensor

from ..cases import Case, cases, judged
from ..compare import difference
from ..outcome import Outcome, not_applicable
from ..run import Run, Trace
from ..study import Studied


def closure(studied: Studied) -> Outcome:
    if studied.needs_closure:
        return not_applicable("it needs a closure, and runs it as it likes")

    def judge(case: Case) -> str:
        found, trace = _played(studied, case, torch.tensor(1.0))
        if found:
            return found
        if not _heeds_the_loss(studied, case, trace):
            part = difference(trace, studied.play(case.scene, case.hypers))
            if part is not None:
                return f"{part} without the closure"
        run = studied.start(case.scene, case.hypers)
        run.give(case.scene.first)
        returned = run.optimizer.step()
        if returned is not None:
            return f"step() without a closure returns {returned!r}"
        return ""

    return judged(studied, cases(studied, dtypes=False), judge)


def _played(studied: Studied, case: Case, loss: Tensor) -> tuple[str, Trace]:
    """What is wrong with how closures are run, or '', and what the steps do."""
    run = studied.start(case.scene, case.hypers)
    before, steps = run.start(), []
    for step in case.scene.numbers:
        found = _wrong(run, step, loss / (1 + step))
        if found:
            return f"step {step + 1}: {found}", Trace(before, tuple(steps))
        steps.append(run.snapshot())
    return "", Trace(before, tuple(steps))


def _wrong(run: Run, step: int, loss: Tensor) -> str:
    calls: list[bool] = []

    def evaluate() -> Tensor:
        calls.append(torch.is_grad_enabled())
        run.give(step)
        return loss

    run.optimizer.zero_grad()
    torch.default_generator.manual_seed(step + 1000 * run.scene.seed)
    returned = run.optimizer.step(evaluate)
    run.call_by_hand()
    if len(calls) != 1:
        return f"the closure is run {len(calls)} times"
    if not calls[0]:
        return "the closure is run without gradients"
    if returned is not loss and returned != loss:
        return f"step() returns {returned!r} instead of the loss"
    return ""


def _heeds_the_loss(studied: Studied, case: Case, trace: Trace) -> bool:
    """Whether the value of the loss decides the step, as in rules that Polyak began."""
    _, other = _played(studied, case, torch.tensor(2.0))
    return difference(trace, other) is not None
