"""An optimizer does what its reference does: displacement and states, in each dtype."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..cases import Case, cases, said
from ..compare import difference, largest
from ..outcome import Outcome, failed, not_applicable, passed, words
from ..roundoff import allowance
from ..run import Snapshot, Trace
from ..scene import Scene
from ..study import DTYPES, Studied
from .groups import disobeys
from .numbers import far_from_wide
from .targets import bits_or, capturable_on_cpu, compared, exact_scalars

WIDER = {torch.bfloat16: torch.float32}


@dataclass
class _Notes:
    """What was compared, what not, and how far apart it was."""

    apart: float = 0.0
    dtypes: dict[str, None] = field(default_factory=dict)
    unshared: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)


def against(
    ours: Studied, theirs: Studied, renamed: Mapping[str, str], flag: str = ""
) -> Outcome:
    """`renamed` maps their states to ours; `flag` is one that both set."""
    if flag and not flag in ours.subject.flags & theirs.subject.flags:
        lacks = theirs if flag in ours.subject.flags else ours
        return not_applicable(f"{lacks.subject.name} has no {flag}")
    notes = _Notes()
    shared = {each.name for each in ours.subject.hypers} & {
        each.name for each in theirs.subject.hypers
    }
    if alone := [each.name for each in ours.subject.hypers if each.name not in shared]:
        notes.left_out[f"its options have no {', '.join(alone)}"] = None
    count, refusal = 0, ""
    scalars = exact_scalars() if flag else nullcontext()
    with capturable_on_cpu(ours.subject.cls, theirs.subject.cls), scalars:
        for case, groups in _cases(ours, theirs, shared, notes):
            pair = _Pair(ours, theirs, shared, renamed, {flag: True} if flag else {})
            try:
                found = pair.difference(case, groups, notes)
            except Exception as error:
                if ours.subject.refuses(error) or theirs.subject.refuses(error):
                    refusal = words(error)
                    continue
                found = words(error)
            if found:
                where = f", {said(groups[1])} in the second group" if groups[1:] else ""
                return failed(f"{case}{where}: {found}")
            count += 1
    if not count:
        return not_applicable(refusal or "there is no case that both take")
    return passed("; ".join(_told(notes)))


def _told(notes: _Notes) -> list[str]:
    said = [f"{bits_or(notes.apart)} in {', '.join(notes.dtypes)}"]
    if notes.unshared:
        said.append(f"not compared: {', '.join(notes.unshared)}")
    return said + [*notes.left_out]


def _cases(ours: Studied, theirs: Studied, shared: set[str], notes: _Notes):
    """What both take, each with the hypers of its groups; then two groups, the second
    with one option.
    """
    for case in cases(ours, dtypes=False):
        if case.hypers.keys() <= shared:
            yield case, ({},)
    every = ours.scene(*ours.every)
    options = [each for each in ours.options if each.works and each.hypers.keys() <= shared]
    for dtype in DTYPES:
        if ours.dtypes[dtype].went and theirs.dtypes[dtype].went:
            yield Case(every.with_(dtype=dtype)), ({},)
            for each in options:
                yield Case(every.with_(dtype=dtype), each.hypers), ({},)
    for each in options:
        if disobeys(theirs, each):
            notes.left_out[f"the reference ignores {each.hyper} of a group"] = None
        else:
            yield Case(every, each.needs), ({}, {each.hyper: each.value})


@dataclass(frozen=True)
class _Pair:
    ours: Studied
    theirs: Studied
    shared: set[str]
    renamed: Mapping[str, str]
    flags: dict[str, Any]

    def difference(self, case: Case, groups: tuple[dict, ...], notes: _Notes) -> str:
        defaults = {
            each.name: each.default for each in self.ours.subject.hypers if each.name in self.shared
        }
        hypers = {**defaults, **case.hypers, **self.flags}
        case = replace(case, scene=case.scene.with_(parts=self._taken(case.scene)))
        mine = self.ours.play(case.scene, hypers, groups)
        its = self._renamed(self.theirs.play(case.scene, hypers, groups))
        self._note(mine, its, case, notes)
        if difference(mine, its) is None:
            return ""
        allowed = allowance(
            lambda scene: self.ours.play(scene, hypers, groups), case.scene, mine
        )
        found = difference(mine, its, allowed)
        if found is None:
            notes.apart = max(notes.apart, largest(mine, its))
            return ""
        if reason := self._their_own_fault(case):
            notes.left_out[reason] = None
            return ""
        return f"{found} in the reference"

    def _taken(self, scene: Scene):
        """The parameters whose shapes the reference takes too."""
        known = self.theirs.shapes
        return tuple(
            part
            for part in scene.parts
            if part.name not in known or known[part.name].went
        )

    def _renamed(self, trace: Trace) -> Trace:
        def renamed(snapshot: Snapshot) -> Snapshot:
            return {
                (name, self.renamed.get(key, key)): value
                for (name, key), value in snapshot.items()
            }

        return Trace(trace.start, tuple(map(renamed, trace.steps)))

    def _note(self, mine: Trace, its: Trace, case: Case, notes: _Notes) -> None:
        notes.dtypes[str(case.scene.dtype).removeprefix("torch.")] = None
        both = set(mine.steps[-1]) & set(its.steps[-1])
        for trace, whose in (mine, "ours"), (its, "theirs"):
            for name, key in trace.steps[-1]:
                if (name, key) not in both and any(part == name for part, _ in both):
                    if any(other[0] == name and other[1] != "p" for other in both) or key:
                        notes.unshared[f"{key} ({whose})"] = None

    def _their_own_fault(self, case: Case) -> str:
        """Why a difference says nothing of ours: the reference is not what it is itself in
        float32, or in its loop, and ours is.
        """
        if self.flags and compared(self.theirs, case, self.flags)[0]:
            if not compared(self.ours, case, self.flags)[0]:
                return f"{said(case.hypers)}: left out, the reference is not as its own loop"
        if case.scene.dtype == torch.bfloat16:
            own = Case(self.theirs.scene().with_(dtype=torch.bfloat16), case.hypers)
            if far_from_wide(self.theirs, own) and not far_from_wide(self.ours, own):
                said_ = said(case.hypers)
                return f"{said_}: left out, the reference is far from its own float32"
        return ""
