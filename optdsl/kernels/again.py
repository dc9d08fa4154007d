"""What a pass needs of the elements that an earlier pass worked out.

In: assignments with their slots. Out: those of each pass, with what it works out again;
and the names that are kept in scratch memory, since what they were made from is gone.
Working out again costs loads of what they were made from; keeping costs a store as well.
"""

from dataclasses import dataclass, field

from .. import ir
from ..ir.kernels import Level, level
from .slots import Placed, kind_of

_OWN = (ir.Role.LOCAL, ir.Role.GRAD)


@dataclass
class Passes:
    """The assignments of each pass by their places in the step, and who is `kept`."""

    of: dict[int, list[int]]
    kept: dict[str, ir.Ref] = field(default_factory=dict)


def passes(placed: list[Placed]) -> Passes:
    found = Passes({})
    slots = sorted(
        {each.slot for each in placed if kind_of(each.slot) is Level.ELEMENT}
    )
    while len(found.of) < len(slots):
        slot = slots[len(found.of)]
        places = _places(placed, slot, found)
        if places is None:
            found.of.clear()
        else:
            found.of[slot] = places
    return found


def _places(placed: list[Placed], slot: int, found: Passes) -> list[int] | None:
    """The assignments of a pass; None where one more name has to be kept, so that all
    passes are to be looked at again.
    """
    places = {at for at, each in enumerate(placed) if each.slot == slot}
    while wanted := _earlier(placed, places, slot, found):
        for name, of_name in wanted:
            before = _with_loops(placed, of_name)
            if not all(_lasts(placed, at, slot, found) for at in before):
                found.kept[name] = placed[max(of_name)].statement.target
                return None
            places |= before
    return sorted(places)


def _earlier(
    placed: list[Placed], places: set[int], slot: int, found: Passes
) -> list[tuple[str, set[int]]]:
    """Names that a pass reads and an earlier one assigned, and where."""
    readers = {
        ref.name: at
        for at in sorted(places)
        for ref in placed[at].reads()
        if ref.role in _OWN and level(ref.type) is Level.ELEMENT
    }
    result = []
    for name, reader in sorted(readers.items()):
        before = {
            at
            for at, each in enumerate(placed[:reader])
            if each.statement.target.name == name
            and each.slot < slot
            and at not in places
        }
        if before and name not in found.kept:
            result.append((name, before))
    return result


def _with_loops(placed: list[Placed], places: set[int]) -> set[int]:
    """Assignments, and all others of the loops that they stand in: a round may read what
    the one before it wrote.
    """
    loops = [(placed[at].loop, placed[at].slot) for at in places]
    of_loops = {
        at
        for at, each in enumerate(placed)
        if any(each.loop is loop and each.slot == slot for loop, slot in loops if loop)
    }
    return places | of_loops


def _lasts(placed: list[Placed], at: int, slot: int, found: Passes) -> bool:
    """Whether all that an assignment read from memory is the same when a later pass
    begins. A loop that changes what is in memory is not run again.
    """
    if placed[at].loop is not None and placed[at].statement.target.role not in _OWN:
        return False
    names = {
        ref.name
        for ref in placed[at].reads()
        if ref.role not in _OWN
        or level(ref.type) is not Level.ELEMENT
        or ref.name in found.kept
    }
    changed = {
        each.statement.target.name for each in placed[at + 1 :] if each.slot < slot
    }
    return not names & changed
