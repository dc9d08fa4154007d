"""An optimizer does what its reference does: displacement and states, in each dtype."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from ..cases import Case, cases, said
from ..compare import difference, largest
from ..options import Option
from ..outcome import Outcome, failed, not_applicable, passed, words
from ..roundoff import allowance
from ..run import ITSELF, ONE_GROUP, Hypers, Snapshot, Trace
from ..scene import Part
from ..study import DTYPES, Studied
from .groups import disobeys
from .numbers import far_from_wide
from .targets import bits_or, capturable_on_cpu, compared, exact_scalars

Groups = Sequence[Hypers]


@dataclass
class Notes:
    """What was compared, how far apart it was, and what was not compared."""

    apart: dict[torch.dtype, float] = field(default_factory=dict)
    states: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    unshared: dict[str, None] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [bits_or(self.apart)]
        if self.unshared:
            parts.append(f"not compared: {', '.join(self.unshared)}")
        return "; ".join([*parts, *self.left_out])


@dataclass(frozen=True)
class Pair:
    """`renamed` maps their states to ours; `flag` is one that both set, or empty. What is
    learned on the way is in `notes`.
    """

    ours: Studied
    theirs: Studied
    renamed: Mapping[str, str]
    flag: str
    notes: Notes = field(default_factory=Notes)

    @property
    def shared(self) -> dict[str, Any]:
        """The hypers that both have, with our defaults."""
        theirs = {each.name for each in self.theirs.subject.hypers}
        return {
            each.name: each.default
            for each in self.ours.subject.hypers
            if each.name in theirs
        }

    @property
    def flags(self) -> dict[str, Any]:
        return {self.flag: True} if self.flag else {}


def against(
    ours: Studied, theirs: Studied, renamed: Mapping[str, str], flag: str = ""
) -> Outcome:
    for each in (ours, theirs):
        if flag and flag not in each.subject.flags:
            return not_applicable(f"{each.subject.name} has no {flag}")
    pair = Pair(ours, theirs, renamed, flag)
    if alone := [
        each.name for each in ours.subject.hypers if each.name not in pair.shared
    ]:
        pair.notes.left_out[f"its options have no {', '.join(alone)}"] = None
    scalars = exact_scalars() if flag else nullcontext()
    with capturable_on_cpu(ours.subject.cls, theirs.subject.cls), scalars:
        return _judged(pair)


def _judged(pair: Pair) -> Outcome:
    count, refusal = 0, "there is no case that both take"
    for case, groups in _cases(pair):
        try:
            found = _apart(pair, case, groups)
        except Exception as error:
            if pair.ours.subject.refuses(error):
                refusal = words(error)
                continue
            found = words(error)
        if found:
            where = f", {said(groups[1])} in the second group" if groups[1:] else ""
            return failed(f"{case}{where}: {found}")
        count += found is not None
    if not count:
        return not_applicable("; ".join([refusal, *pair.notes.left_out]))
    ours, theirs = pair.notes.states
    unknown = [*(pair.renamed.keys() - theirs), *({*pair.renamed.values()} - ours)]
    if unknown:
        return failed(f"no state is called {', '.join(sorted(unknown))}")
    return passed(str(pair.notes))


def _cases(pair: Pair) -> Iterator[tuple[Case, Groups]]:
    """What both take: one group, in each dtype; then two, the second with one option."""
    ours, theirs, shared = pair.ours, pair.theirs, pair.shared.keys()
    for case in cases(ours, dtypes=False):
        if case.hypers.keys() <= shared:
            parts = _taken(theirs, case.scene.parts)
            yield Case(case.scene.with_(parts=parts), case.hypers), ONE_GROUP
    every = ours.scene(*_taken(theirs, ours.every))
    options = [
        each for each in ours.options if each.works and each.hypers.keys() <= shared
    ]
    for dtype in DTYPES:
        if ours.dtypes[dtype].went and theirs.dtypes[dtype].went:
            yield Case(every.with_(dtype=dtype)), ONE_GROUP
            for each in options:
                yield Case(every.with_(dtype=dtype), each.hypers), ONE_GROUP
    for each in options:
        if _ignores(theirs, each):
            pair.notes.left_out[f"the reference ignores {each.hyper} of a group"] = None
        else:
            yield Case(every, each.needs), ({}, {each.hyper: each.value})


def _taken(theirs: Studied, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parameters whose shapes the reference takes as well."""
    known = theirs.shapes
    return tuple(
        each for each in parts if each.name not in known or known[each.name].went
    )


def _ignores(theirs: Studied, option: Option) -> bool:
    """Whether a group of the reference does not heed an option of its own."""
    try:
        return bool(disobeys(theirs, option))
    except Exception:
        return True


def _apart(pair: Pair, case: Case, groups: Groups) -> str | None:
    """Where the two part, '' where they do not, None where the case says nothing."""
    hypers = {**pair.shared, **case.hypers, **pair.flags}
    if unfit := pair.ours.unfit(case.scene, case.hypers):
        pair.notes.left_out[f"{case}: left out, {unfit}"] = None
        return None
    mine = pair.ours.play(case.scene, hypers, groups)
    try:
        its = _renamed(pair.theirs.play(case.scene, hypers, groups), pair.renamed)
    except Exception as error:
        pair.notes.left_out[f"{case}: left out, {words(error)} in the reference"] = None
        return None
    _note_states(pair.notes, mine, its, pair.renamed)
    far = pair.notes.apart.setdefault(case.scene.dtype, 0.0)
    if difference(mine, its) is None:
        return ""
    allowed = allowance(
        lambda scene: pair.ours.play(scene, hypers, groups), case.scene, mine, 0.0
    )
    found = difference(mine, its, allowed)
    if found is None:
        pair.notes.apart[case.scene.dtype] = max(far, largest(mine, its))
        return ""
    if reason := _their_own_fault(pair, case):
        pair.notes.left_out[f"{said(case.hypers)}: left out, {reason}"] = None
        return None
    return f"{found} in the reference"


def _renamed(trace: Trace, names: Mapping[str, str]) -> Trace:
    def renamed(snapshot: Snapshot) -> Snapshot:
        return {
            (name, names.get(key, key)): value
            for (name, key), value in snapshot.items()
        }

    return Trace(trace.start, tuple(map(renamed, trace.steps)))


def _note_states(
    notes: Notes, mine: Trace, its: Trace, renamed: Mapping[str, str]
) -> None:
    """The names of all states, and of those that one of the two alone has, of parameters
    where both have some.
    """
    ours, theirs = mine.steps[-1].keys(), its.steps[-1].keys()
    back = {our: their for their, our in renamed.items()}
    notes.states[0].update(key for _, key in ours)
    notes.states[1].update(back.get(key, key) for _, key in theirs)
    moving = {name for name, key in ours if key != ITSELF} & {
        name for name, key in theirs if key != ITSELF
    }
    for name, key in (*ours, *theirs):
        if name in moving and ((name, key) in ours) != ((name, key) in theirs):
            whose = "ours" if (name, key) in ours else "theirs"
            notes.unshared[f"{key} ({whose})"] = None


def _their_own_fault(pair: Pair, case: Case) -> str:
    """Why a difference says nothing of ours: the reference is not what it is itself in its
    loop, or in float32, and ours is.
    """
    if pair.flags and compared(pair.theirs, case, pair.flags)[0]:
        if not compared(pair.ours, case, pair.flags)[0]:
            return "the reference is not as its own loop"
    if case.scene.dtype == torch.bfloat16:
        own = Case(pair.theirs.scene().with_(dtype=torch.bfloat16), case.hypers)
        if far_from_wide(pair.theirs, own) and not far_from_wide(pair.ours, own):
            return "the reference in bfloat16 is far from its own float32"
    return ""
