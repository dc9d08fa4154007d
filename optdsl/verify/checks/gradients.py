"""Properties about gradients: their sign, their absence, what becomes of them."""

import torch

from ..cases import Case, LeftOut, cases, judged, single
from ..compare import finite, same_bits, told_apart
from ..outcome import Outcome, not_applicable
from ..run import Trace, play
from ..scene import LATE, Scene
from ..study import Studied


def maximizing(studied: Studied) -> Outcome:
    if "maximize" not in studied.subject.flags:
        return not_applicable("its constructor has no maximize")

    def judge(case: Case) -> str:
        def minimize(scene: Scene):
            return play(studied.start(scene, case.hypers), torch.neg).without_states()

        up = studied.play(case.scene, {**case.hypers, "maximize": True})
        found = studied.apart(up.without_states(), minimize, case.scene, case.hypers)
        return "" if found is None else f"maximize=True, {found} with -gradients"

    return judged(studied, cases(studied), judge)


def grad_is_kept(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        for maximize in (
            (False, True) if "maximize" in studied.subject.flags else (False,)
        ):
            flags = {"maximize": True} if maximize else {}
            run = studied.start(case.scene, {**case.hypers, **flags})
            for step in case.scene.numbers:
                run.give(step)
                given = {name: p.grad for name, p in run.parameters.items()}
                run.move(step)
                for name, p in run.parameters.items():
                    found = _changed(p.grad, case.scene.gradient(run.parts[name], step))
                    if p.grad is not given[name]:
                        found = "is another object" if p.grad is not None else "is None"
                    if found:
                        said = "maximize=True, " * maximize
                        return f"{said}step {step + 1}: p.grad of {name} {found}"
        return ""

    return judged(studied, cases(studied), judge)


def _changed(grad: torch.Tensor | None, before: torch.Tensor | None) -> str:
    if grad is None or before is None:
        return ""
    if grad.layout != torch.strided:
        grad, before = grad.to_dense(), before.to_dense()
    if same_bits(grad, before):
        return ""
    if grad.shape != before.shape or grad.dtype != before.dtype:
        return f"is {grad.dtype} of shape {tuple(grad.shape)}"
    at = int((grad != before).flatten().to(torch.uint8).argmax())
    now, then = told_apart(grad.flatten()[at].item(), before.flatten()[at].item())
    return f"is {now} instead of {then}"


def without_gradient(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        parts = studied.plain("one"), studied.plain("sometimes", has="sometimes")
        scene = case.scene.with_(parts=(*parts[0], *parts[1]))
        run = studied.start(scene, case.hypers)
        before = run.snapshot()
        for step in scene.numbers:
            run.step(step)
            after = run.snapshot()
            if not parts[1][0].has_gradient(step):
                for key, value in after.items():
                    if key[0] != "sometimes":
                        continue
                    if key not in before:
                        return f"step {step + 1} makes its state {key[1]}"
                    if not same_bits(value, before[key]):
                        found = _changed(value, before[key])
                        return f"step {step + 1}: {key[1] or 'p'} {found}"
            before = after
        return ""

    return judged(studied, single(studied), judge)


def late(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        if reason := studied.from_any_step(case.hypers):
            raise LeftOut(reason)
        (one,), (late,) = studied.plain("one"), studied.plain("late", has="late")
        (fresh,) = studied.plain("late")
        scene = case.scene.with_(parts=(one, late), steps=LATE + case.scene.steps)
        alone = case.scene.with_(parts=(fresh,), first=LATE)
        ours = studied.play(scene, case.hypers).of(["late"], since=LATE)
        found = studied.apart(
            ours, lambda it: studied.play(it, case.hypers), alone, case.hypers
        )
        return "" if found is None else f"{found} when it is fresh"

    return judged(studied, single(studied), judge)


def zero_gradients(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        found = finite(play(studied.start(case.scene, case.hypers), torch.zeros_like))
        return "" if found is None else str(found)

    return judged(studied, cases(studied), judge)


def no_learning_rate_at_first(studied: Studied) -> Outcome:
    if studied.subject.hyper("lr") is None:
        return not_applicable("it has no lr")

    def judge(case: Case) -> str:
        run = studied.start(case.scene, case.hypers)
        groups = [each for each in run.optimizer.param_groups if "lr" in each]
        rates = [each["lr"] for each in groups]
        before, steps = run.start(), []
        for step in case.scene.numbers:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = 0.0 if step == 0 else rate
            run.step(step)
            steps.append(run.snapshot())
        found = finite(Trace(before, tuple(steps)))
        return "" if found is None else str(found)

    return judged(studied, cases(studied), judge)
