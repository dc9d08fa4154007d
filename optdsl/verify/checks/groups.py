"""Properties about groups: each has hypers of its own, and nothing else tells them apart."""

from collections.abc import Sequence

import torch

from ..cases import Case, LeftOut, cases, judged, said, single
from ..compare import difference
from ..options import Option
from ..outcome import Outcome, failed, not_applicable, passed
from ..run import ONE_GROUP, Hypers, Trace
from ..scene import Scene
from ..study import RANDOM, Studied


def _beside(studied: Studied, case: Case) -> Scene:
    """The scene with a second parameter where it has only one."""
    if len(case.scene.parts) > 1:
        return case.scene
    return case.scene.with_(parts=studied.plain("one", "two"))


def equal_groups(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        if studied.random_with(case.hypers):
            raise LeftOut(RANDOM)  # a group may draw for itself
        scene = _beside(studied, case)
        two = studied.play(scene, case.hypers, ({}, {}))
        found = studied.apart(
            two, lambda it: studied.play(it, case.hypers), scene, case.hypers
        )
        return "" if found is None else f"{found} in one group"

    return judged(studied, cases(studied), judge)


def order(studied: Studied) -> Outcome:
    def judge(case: Case) -> str:
        if studied.random_with(case.hypers):
            raise LeftOut(RANDOM)
        scene = _beside(studied, case)
        for groups, what in (ONE_GROUP, "parameters"), (({}, {}), "groups"):
            backwards = studied.play(scene, case.hypers, groups, True)

            def forwards(it: Scene, groups: Sequence[Hypers] = groups) -> Trace:
                return studied.play(it, case.hypers, groups)

            found = studied.apart(backwards, forwards, scene, case.hypers)
            if found is not None:
                return f"with the {what} backwards, {found}"
        return ""

    return judged(studied, cases(studied), judge)


def beside_others(studied: Studied) -> Outcome:
    if reason := studied.one_by_one({}):
        return not_applicable(reason)
    if studied.counts:
        scene = studied.scene(*studied.plain("one", "two"), steps=2)
        return failed(f"{said({})}, {scene}: {studied.counts} when it is alone")
    return passed()


def obeyed(studied: Studied) -> Outcome:
    """Each option in the second of two groups."""
    if reason := studied.one_by_one({}):
        return not_applicable(reason)
    options, others = _of_groups(studied)
    told = [each for each in options if not studied.one_by_one(each.hypers)]
    for option in told:
        found = disobeys(studied, option)
        if found:
            return failed(found)
    if not told:
        return not_applicable("no group holds a hyper that has an effect")
    names = ", ".join(dict.fromkeys(each.hyper for each in told))
    only = f"; for the constructor alone: {', '.join(others)}" if others else ""
    return passed(names + only)


def _of_groups(studied: Studied) -> tuple[list[Option], list[str]]:
    """The options that stand in param groups, and the names of those that do not. Of a
    spec, all of them do.
    """
    options = [each for each in studied.options if each.works]
    if studied.subject.rule is not None:
        return options, []
    group = studied.start(studied.scene()).optimizer.param_groups[0]
    others = {each.hyper: None for each in options if each.hyper not in group}
    return [each for each in options if each.hyper in group], [*others]


def disobeys(studied: Studied, option: Option) -> str:
    """What is wrong with an option that one group of two has, or ''."""
    scene = studied.scene(*studied.plain("one", "two"))
    own = {option.hyper: option.value}
    case = f"{said(own)} in the second group, {said(option.needs)} for both, {scene}"

    def both(scene: Scene) -> Trace:
        return studied.play(scene, option.needs, ({}, own))

    try:
        whole = both(scene)
    except Exception as error:
        if studied.subject.refuses(error):
            return ""  # it may be for the whole optimizer
        raise
    for name, hypers in ("one", option.needs), ("two", option.hypers):

        def alone(it: Scene, name: str = name, hypers: Hypers = hypers) -> Trace:
            return studied.play(it, hypers).of([name])

        found = studied.apart(whole.of([name]), alone, scene, hypers)
        if found is not None:
            whose = "second" if name == "two" else "first"
            return f"{case}: {found} as for the {whose} group alone"
    return ""


def lr_zero_group(studied: Studied) -> Outcome:
    """Modes are left as they are: one may be there to decay apart from lr."""
    if studied.subject.hyper("lr") is None:
        return not_applicable("it has no lr")

    def judge(case: Case) -> str:
        scene = _beside(studied, case)
        run = studied.start(scene, case.hypers, ({}, {"lr": 0.0}))
        resting = {id(p) for p in run.optimizer.param_groups[1]["params"]}
        names = [name for name, p in run.parameters.items() if id(p) in resting]
        before = {name: run.parameters[name].detach().clone() for name in names}
        for step in scene.numbers:
            run.step(step)
            for name in names:
                if not torch.equal(run.parameters[name], before[name]):
                    far = (run.parameters[name] - before[name]).abs().max().item()
                    return f"step {step + 1}: {name} moved by {far:.4g}"
        return ""

    modes = {each.name for each in studied.subject.hypers if each.is_mode}
    outcome = judged(
        studied, [c for c in cases(studied) if not modes & c.hypers.keys()], judge
    )
    if outcome.failed and studied.subject.apart:
        name = studied.subject.apart[0]
        return not_applicable(f"{name} changes parameters, and does not know lr")
    return outcome


def added_later(studied: Studied) -> Outcome:
    rate = studied.subject.hyper("lr")
    hypers = {} if rate is None or not rate.others else {"lr": rate.others[0][1]}

    def judge(case: Case) -> str:
        (one,), (two,) = studied.plain("one"), studied.plain("two")
        whole = studied.scene(one, two, steps=5)
        run = studied.start(studied.scene(one), case.hypers)
        ours: list[dict] = []
        for step in (0, 1):
            run.step(step)
            ours.append(run.snapshot())
        p = whole.parameter(two)
        run.parameters["two"], run.parts["two"] = p, two
        run.optimizer.add_param_group(
            {
                "params": [studied.subject.told("two", p)],
                **studied.subject.group,
                **hypers,
            }
        )
        begun = studied.start(whole, case.hypers).start()
        for step in (2, 3, 4):
            run.step(step)
            ours.append(run.snapshot())
        if studied.from_any_step(case.hypers):
            return ""
        first = studied.play(studied.scene(one, steps=5), case.hypers)
        later = studied.scene(two, steps=3).with_(first=2)
        second = studied.play(later, {**case.hypers, **hypers})
        trace = Trace(begun, tuple(ours))
        found = difference(trace.of(["one"]), first)
        if found is not None:
            return f"{found} when no group is added"
        found = difference(trace.of(["two"], since=2), second)
        return "" if found is None else f"after it was added: {found} when it is alone"

    return judged(studied, single(studied), judge)
