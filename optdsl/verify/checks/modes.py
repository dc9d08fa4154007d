"""Properties of rules with `mode train` and `mode eval`."""

from typing import Any

from ... import ir
from ..cases import Case, judged
from ..compare import difference
from ..outcome import Outcome, not_applicable
from ..roundoff import measured
from ..run import Run, Snapshot, Trace
from ..study import Studied
from .interpreter import by_interpreter, comparable, seeded
from .targets import exact_scalars
from .travel import loaded


def modes(studied: Studied) -> Outcome:
    rule = studied.subject.rule
    if rule is None or not rule.modes:
        return not_applicable("it has no modes")
    over = comparable(studied)
    return judged(studied, over, lambda case: _judged(studied, rule, case))


def _judged(studied: Studied, rule: ir.Rule, case: Case) -> str:
    scene = case.scene
    with exact_scalars():
        run = studied.start(scene, case.hypers, seeded(rule))
        start, seen = run.start(), []
        for step in scene.numbers:
            run.step(step)
            if found := _switched(studied, case, run):
                return f"after step {step + 1}, {found}"
            seen.append(run.snapshot())
            run.optimizer.train()
    defaults = {each.name: each.default for each in studied.subject.hypers}

    def interpreted() -> list[Snapshot]:
        return by_interpreter(rule, scene, {**defaults, **case.hypers}, evaluated=True)

    exact = interpreted()
    allowed = measured(interpreted, exact)
    found = difference(Trace(start, tuple(seen)), Trace(start, tuple(exact)), allowed)
    return "" if found is None else f"in eval mode, {found} by the interpreter"


def _switched(studied: Studied, case: Case, run: Run) -> str:
    """What is wrong with an optimizer that is put into eval mode, where it stays."""
    optimizer: Any = run.optimizer
    before = run.snapshot()
    optimizer.train()
    if difference(Trace({}, (before,)), Trace({}, (run.snapshot(),))) is not None:
        return "train() changes something in train mode"
    optimizer.eval()
    evaluated = run.snapshot()
    optimizer.eval()
    if difference(Trace({}, (evaluated,)), Trace({}, (run.snapshot(),))) is not None:
        return "a second eval() changes something"
    try:
        run.move(0)
        return "it steps in eval mode"
    except RuntimeError as error:
        if not studied.subject.refuses(error):
            raise
    if difference(Trace({}, (evaluated,)), Trace({}, (run.snapshot(),))) is not None:
        return "a step that is refused changes something"
    other: Any = loaded(studied, case, run, ({},))
    for each in (run, other):
        each.optimizer.train()
    back = [each.snapshot() for each in (run, other)]
    if difference(Trace({}, (back[0],)), Trace({}, (back[1],))) is not None:
        return "an optimizer that is loaded in eval mode gives other parameters"
    optimizer.eval()
    return ""
