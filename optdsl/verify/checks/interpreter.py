"""Each target of a spec does what the interpreter does with the checked rule, in float64."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ... import interpret, ir
from ..cases import Case, cases, judged
from ..compare import difference
from ..outcome import Outcome, not_applicable
from ..roundoff import measured
from ..run import ITSELF, ONE_GROUP, Hypers, Snapshot, Trace, loss_of
from ..scene import Scene
from ..study import Studied
from ..subject import module_of
from .targets import capturable_on_cpu, exact_scalars

SEED = 7  # where random numbers start


def loop(studied: Studied) -> Outcome:
    return _judged(studied, {})


def foreach(studied: Studied) -> Outcome:
    return _judged(studied, {"foreach": True})


def fused(studied: Studied) -> Outcome:
    if getattr(module_of(studied.subject.cls), "_KERNELS", None) is None:
        return not_applicable("it has no kernels")
    return _judged(studied, {"fused": True})


def capturable(studied: Studied) -> Outcome:
    with capturable_on_cpu(studied.subject.cls):
        return _judged(studied, {"capturable": True})


def _judged(studied: Studied, flags: dict[str, Any]) -> Outcome:
    rule = studied.subject.rule
    if rule is None:
        return not_applicable("it is no spec")
    return judged(
        studied, comparable(studied), lambda case: _apart(studied, rule, case, flags)
    )


def comparable(studied: Studied) -> Iterator[Case]:
    """The cases that mean the same to the interpreter, which has float64, and for which a
    row that is missing is zero.
    """
    for case in cases(studied, dtypes=False):
        scene = case.scene.with_(dtype=torch.float64)
        if scene.layout == "sparse":
            scene = scene.with_(layout="whole")
        if case.scene.layout in (studied.layout, "dense"):
            yield Case(scene, case.hypers)


def seeded(rule: ir.Rule) -> Sequence[Hypers]:
    """One group, whose random numbers are those that the interpreter draws."""
    return ({"seed": SEED},) if rule.random else ONE_GROUP


def _apart(studied: Studied, rule: ir.Rule, case: Case, flags: dict[str, Any]) -> str:
    scene = case.scene
    groups = seeded(rule)
    with exact_scalars():
        ours = studied.play(scene, {**case.hypers, **flags}, groups)

    def expected(*_: Any) -> tuple[list[Snapshot], list[Snapshot]]:
        defaults = {each.name: each.default for each in studied.subject.hypers}

        def interpreted() -> list[Snapshot]:
            return by_interpreter(rule, scene, {**defaults, **case.hypers})

        exact = interpreted()
        return exact, measured(interpreted, exact)

    exact, allowed = studied.remembered(f"interpreted {scene!r}", case.hypers, expected)
    for step, (here, there) in enumerate(zip(ours.steps, exact, strict=True)):
        for name, state in there.keys() - here.keys():
            return f"step {step + 1}: {name} has no state {state}"
    found = difference(ours, Trace(ours.start, tuple(exact)), allowed)
    said = "".join(f"{name}={value}, " for name, value in flags.items())
    return "" if found is None else f"{said}{found} by the interpreter"


def by_interpreter(
    rule: ir.Rule, scene: Scene, hypers: dict[str, Any], evaluated: bool = False
) -> list[Snapshot]:
    """What each step leaves behind; `evaluated`, in eval mode."""
    dense = scene.with_(layout="dense")
    shared: dict[str, Any] = {}
    memories = {
        part.name: interpret.Memory(
            dense.parameter(part).detach(),
            hypers,
            shared=shared,
            seed=SEED,
            place=place,
        )
        for place, part in enumerate(scene.parts)
    }
    steps: list[Snapshot] = []
    for step in scene.numbers:
        for part in scene.parts:
            memories[part.name].grad = dense.gradient(part, step)
        moving = [each for each in scene.parts if each.has_gradient(step)]
        starts = [memories[each.name].p for each in moving]

        def gradient(
            places: Sequence[Tensor], step=step, moving=moving, starts=starts
        ) -> list[Tensor]:
            ways = [place - p for place, p in zip(places, starts, strict=True)]
            rows = zip(moving, ways, strict=True)
            return [dense.gradient_at(part, step, way) for part, way in rows]

        interpret.step(rule, [*memories.values()], loss_of(step), gradient)
        for hook in rule.on_calls:
            interpret.call(rule, hook.name, [*memories.values()])
        if evaluated:
            interpret.switch(rule, "eval", [*memories.values()])
        steps.append({})
        for name, memory in memories.items():
            steps[-1][name, ITSELF] = memory.p.clone()
            for key, value in memory.states.items():
                steps[-1][name, key] = torch.as_tensor(
                    value, dtype=torch.float64
                ).clone()
        if evaluated:
            interpret.switch(rule, "train", [*memories.values()])
    return steps
