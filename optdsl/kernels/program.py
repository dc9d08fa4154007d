"""The program of a rule's kernels: its step as passes over memory.

In: a checked rule, whose host knows no tensor. Out: its program. Raises Refusal, which says
what no kernel carries.
"""

from collections.abc import Collection

from .. import ir
from ..ir.kernels import (
    Across,
    Along,
    Elements,
    Level,
    Numbers,
    Program,
    Step,
    View,
    gathers,
    level,
)
from ..stages import read_first, surely
from .again import passes
from .axes import of_matrices, reduces_axes
from .entries import Entries
from .gradient import with_own_gradient
from .inline import inline
from .loops import unrolled
from .names import free, taken
from .numbers import apart
from .plain import Plain, where_there
from .refusal import Refusal
from .slots import Placed, as_block, kind_of, late_slots, slots


def program(rule: ir.Rule, turn: int = 0) -> Program:
    """The kernels of a rule, or of one `turn` of it.

    Raises:
        Refusal: it needs what no kernel does.
    """
    if rule.sparse is not None and rule.sparse.only:
        raise Refusal("sparse gradients")
    names = taken(rule)
    step = inline(rule, names)
    entries = Entries(rule, names)
    view, least = None, 0
    if reduces_axes(rule, step):
        view, least, step = of_matrices(rule, step)
    plain = Plain(entries, names, step)
    block, lengths = unrolled(apart(plain.block(step), names))
    lengths |= entries.lengths
    order = slots if view is None else late_slots
    placed = order(block)
    found = passes(placed)
    if "grad" in found.kept:
        # Memory of its own: the gradient itself is not to be changed.
        placed = order(with_own_gradient(block, free("gradient", names)))
        found = passes(placed)
    steps: list[Step] = []
    reduced = _reduced(placed)
    for slot in sorted({each.slot for each in placed}):
        own = [each for each in placed if each.slot == slot]
        match kind_of(slot):
            case Level.ELEMENT:
                again = as_block([placed[at] for at in found.of[slot]])
                fields = ["p", "grad", *(x.name for x in rule.own if _is_tensor(x))]
                fields += sorted(found.kept)
                moved = _moved(again, own, fields, [*reduced], lengths.keys())
                steps.append(Elements(again, *moved))
            case Level.NUMBER:
                steps.append(Numbers(as_block(own)))
            case Level() as of:
                body = as_block(own)
                fields = [name for name, each in reduced.items() if each is of]
                others = [name for name, each in reduced.items() if each is not of]
                steps.append(Along(of, body, *_moved(body, own, fields, others, ())))
            case _:
                steps += [
                    Across(each.statement.target, each.statement.value) for each in own
                ]
    return Program(
        rule,
        tuple(steps),
        tuple(plain.options.values()),
        _numbers(placed),
        tuple(found.kept.values()),
        tuple(_asked(plain, view).items()),
        tuple(entries.counts.values()),
        tuple(lengths.items()),
        tuple(entries.fits),
        view,
        tuple(reduced.items()),
        least,
        turn,
    )


def _moved(
    body: ir.Block,
    own: list[Placed],
    fields: list[str],
    others: list[str],
    lists: Collection[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a step moves from memory and to it: of its `fields` what it reads and changes,
    of the `others` what it reads.
    """
    assigned = {
        each.statement.target.name for each in own if not gathers(each.statement)
    }
    read = {*read_first(body, set())}
    fields = [each for each in fields if each not in others]
    stores = [x for x in fields if x in assigned and x != "grad"]
    # What is assigned on some ways only keeps its value on the others, and so do those of
    # a list that are not assigned.
    sure = surely(body) - {*lists}
    loads = [x for x in fields if x in read or (x in stores and x not in sure)]
    return (*loads, *(x for x in others if x in read)), tuple(stores)


def _reduced(placed: list[Placed]) -> dict[str, Level]:
    """What there is once a line, a column or a matrix, where it needs memory: a state,
    what is gathered, and what one step hands on to another.
    """
    slots: dict[str, set[int]] = {}
    found: dict[str, Level] = {}
    for each in placed:
        target = each.statement.target
        for ref in (target, *each.reads()):
            of = level(ref.type)
            if of in (Level.NUMBER, Level.ELEMENT):
                continue
            slots.setdefault(ref.name, set()).add(each.slot)
            if ref.role is ir.Role.STATE or len(slots[ref.name]) > 1:
                found[ref.name] = of
        if gathers(each.statement) and level(target.type) is not Level.NUMBER:
            found[target.name] = level(target.type)
    return found


def _asked(plain: Plain, view: View | None) -> dict[str, ir.Expr]:
    """What the host looks up. A rule with a view sees axes of size 1 where it lacks them."""
    return {
        name: where_there(each) if view and getattr(each, "dim", None) else each
        for name, each in plain.asked.items()
    }


def _is_tensor(state: ir.State) -> bool:
    return state.type.kind is ir.Kind.TENSOR and not state.host


def _numbers(placed: list[Placed]) -> tuple[ir.Ref, ...]:
    """The numbers that are assigned anywhere in the step."""
    found: dict[str, ir.Ref] = {}
    for each in placed:
        target = each.statement.target
        if target.type.kind is not ir.Kind.TENSOR:
            found.setdefault(target.name, target)
    return tuple(found.values())
