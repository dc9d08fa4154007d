"""A step that kernels and torch take turns in, since one part of it looks at whole
matrices, say.

In: a checked rule. Out: its turns in order: programs of kernels, and rules that torch runs
on lists. What one turn hands on to another is a state to both of them. Raises Refusal
where nothing is left to the kernels, or where no tensor could hold what is handed on.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .. import ir
from ..ir.kernels import Program, Turns
from ..stages import read_first, surely
from .carve import Carving, like_param, looking_at_p
from .gradient import with_own_gradient
from .inline import inline
from .leaves import Leaf, Who, leaves
from .names import free, taken
from .program import program
from .refusal import Refusal
from .slots import as_block


def turns(rule: ir.Rule) -> Turns:
    """The turns of a rule's step.

    Raises:
        Refusal: kernels have nothing to do, or what is handed on is no tensor.
    """
    if rule.in_phases or any(each.scalar for each in rule.own):
        raise Refusal("phases, or a number of each parameter, beside calls of torch")
    names = taken(rule)
    carving = Carving(rule.functions, names)
    step = inline(rule, names, carving.functions)
    gradient = free("gradient", names)
    if "grad" in ir.assigned(step):
        step = with_own_gradient(step, gradient)
    step = tuple(map(looking_at_p, carving.block(step)))
    placed = leaves(step, carving)
    if any(_shrinks(gradient, each) for each in placed):
        raise Refusal("a gradient that calls of torch may make smaller")
    found = _handed_on(placed)
    states = {name: _state(name, placed, found) for name in sorted(found.handed)}
    parts: list[Program | ir.Rule] = []
    returned: list[tuple[str, ...]] = []
    made: set[str] = set()
    turn = 0
    for slot, of_turn in found.turns.items():
        assigned = {name for x in of_turn for name in x.assigned & states.keys()}
        if Who.of(slot) is Who.TORCH:
            returned.append(tuple(sorted(assigned)))
            parts.append(_of_torch(rule, of_turn, states, returned[-1], made))
        elif of_turn:
            turn += 1
            own = _of_kernels(rule, of_turn, states, assigned - made)
            if any(x.type.kind is not ir.Kind.TENSOR for x in own.states):
                raise Refusal("a number of each parameter beside calls of torch")
            parts.append(program(own, turn))
            if parts[-1].lists:
                raise Refusal("lists, and calls of torch between passes over them")
        made |= assigned
    if not turn:
        raise Refusal("nothing but calls of torch")
    return Turns(tuple(parts), tuple(states), tuple(returned))


def _shrinks(gradient: str, leaf: Leaf) -> bool:
    """Whether torch assigns the gradient, which has the parameter's shape whatever it is
    assigned, what may be of another.
    """
    return leaf.who is Who.TORCH and any(
        isinstance(each, ir.Assign)
        and each.target.name == gradient
        and each.value.type.shape != ir.LIKE_PARAM
        for each in ir.statements((leaf.statement,))
    )


# ---- what a turn does


@dataclass
class Found:
    """The leaves of each turn, and the names of what they hand on to others."""

    turns: dict[int, list[Leaf]]
    handed: set[str]


def _handed_on(placed: list[Leaf]) -> Found:
    slots = sorted({each.slot for each in placed if each.who is not Who.HOST})
    found = Found({}, set())
    while len(found.turns) < len(slots):
        slot = slots[len(found.turns)]
        names = _missing(placed, slot, found)
        if names:
            found.handed |= names
            found.turns.clear()
    return found


def _missing(placed: list[Leaf], slot: int, found: Found) -> set[str]:
    """Find the leaves of a turn: those that write what outlives it, and what these need.
    The names that have to be handed on to it, beside those that are known, are returned.
    """
    chosen = [
        at
        for at, each in enumerate(placed)
        if each.slot == slot
        and each.who is not Who.HOST
        and any(_outlives(ref, found) for ref in each.targets)
    ]
    known: set[int] = set()
    while chosen:
        at = chosen.pop()
        if at in known:
            continue
        known.add(at)
        for name in placed[at].reads:
            before = [k for k, x in enumerate(placed[:at]) if name in x.assigned]
            if name in found.handed:
                chosen += [k for k in before if placed[k].slot == slot]
            elif _is_local(name, placed):
                if not all(_can_run(placed, k, slot, found) for k in before):
                    return {name}
                chosen += before
    found.turns[slot] = [placed[at] for at in sorted(known)]
    return set()


def _outlives(ref: ir.Ref, found: Found) -> bool:
    lasting = ref.role in (ir.Role.PARAM, ir.Role.STATE)
    return lasting or ref.name in found.handed


def _is_local(name: str, placed: list[Leaf]) -> bool:
    targets = (ref for each in placed for ref in each.targets)
    return any(ref.role is ir.Role.LOCAL for ref in targets if ref.name == name)


def _can_run(placed: list[Leaf], at: int, slot: int, found: Found) -> bool:
    """Whether a leaf can be a part of a turn: it is, or it does the same there once more.
    Torch does nothing again but call something by another name.
    """
    leaf = placed[at]
    if leaf.slot == slot and leaf.who is not Who.HOST:
        return True
    again = leaf.who is Who.HOST or (
        leaf.who is Who.KERNELS and (Who.of(slot) is Who.KERNELS or leaf.is_other_name)
    )
    changed = {
        ref.name
        for each in placed[at + 1 :]
        if each.slot < slot
        for ref in each.targets
        if _outlives(ref, found) or leaf.who is Who.HOST
    }
    return again and not changed & leaf.reads


# ---- what is handed on


def _state(name: str, placed: list[Leaf], found: Found) -> ir.State:
    """A tensor like the parameter for as long as a step takes.

    Raises:
        Refusal: the name stands for something else.
    """
    unknown: int | None = None
    for each in placed:
        for ref in each.targets:
            if ref.name != name:
                continue
            if ref.type.kind is not ir.Kind.TENSOR or ref.type.element != "number":
                raise Refusal("a number that is handed on across a call of torch")
            if ref.type.shape.reductions:
                raise Refusal("what is reduced, handed on across a call of torch")
            if not ref.type.shape.known and not _is_like_param(each):
                unknown = each.slot
            elif not each.conditions:
                unknown = None
        # Whether it is broadcast when it is handed on matters to no element.
        if name in each.reads and unknown is not None:
            asking = [slot for slot, x in found.turns.items() if each in x]
            if any(slot > unknown and Who.of(slot) is Who.TORCH for slot in asking):
                raise Refusal("a tensor of another shape between calls of torch")
    zero = ir.Const("0.0", ir.NUMBER, placed[0].statement.span)
    return ir.State(name, zero, None, ir.TENSOR, "", "", zero.span)


def _is_like_param(leaf: Leaf) -> bool:
    """Whether kernels work out a value for each element of the parameter, whatever the
    shape of what else it is made of.
    """
    return leaf.who is Who.KERNELS and any(
        ref.type == ir.TENSOR for ref in ir.reads(leaf.statement)
    )


def _of_kernels(
    rule: ir.Rule, of_turn: list[Leaf], states: dict[str, ir.State], makes: set[str]
) -> ir.Rule:
    """What kernels do in a turn, as a rule of its own, whose last states are those that it
    makes. The host tells them the count.
    """
    step = tuple(like_param(_as_states(each, states)) for each in as_block(of_turn))
    found = _mentioned(rule, states, step)
    return replace(
        rule,
        step=step,
        states=tuple(sorted(found, key=lambda each: each.name in makes)),
        counted="int" if rule.counted else "",
        functions=(),
        pre_steps=(),
        post_steps=(),
    )


def _mentioned(
    rule: ir.Rule, states: dict[str, ir.State], step: ir.Block
) -> tuple[ir.State, ...]:
    """The states that a turn reads or writes."""
    refs = [ref for each in step for ref in ir.mentions(each)]
    names = {ref.name for ref in refs if ref.role is ir.Role.STATE}
    own = (*rule.own, *states.values())
    return tuple(each for each in own if each.name in names)


def _as_states(node: ir.Node, states: Iterable[str]) -> ir.Node:
    """The same, where what is handed on is a state."""
    node = ir.mapped(node, lambda each: _as_states(each, states))
    if isinstance(node, ir.Ref) and node.name in states:
        return replace(node, role=ir.Role.STATE, type=ir.TENSOR)
    return node


def _of_torch(
    rule: ir.Rule,
    of_turn: list[Leaf],
    states: dict[str, ir.State],
    results: tuple[str, ...],
    made: set[str],
) -> ir.Rule:
    """What torch does in a turn, as a rule of its own that returns what it hands on. What
    it has from turns before are states; where it assigns such a one, it starts from it.
    """
    taken = {ref.name for x in of_turn for ref in ir.mentions(x.statement)}
    names = {x: free(f"new_{x}", taken) if x in made else x for x in results}
    read = {*read_first(as_block(of_turn), set())}
    sure = surely(as_block(of_turn))
    step: list[ir.Statement] = []
    for name in results:
        if name in made and (name in read or name not in sure):
            state = ir.Ref(name, ir.Role.STATE, ir.TENSOR, states[name].span)
            local = replace(state, name=names[name], role=ir.Role.LOCAL)
            step.append(ir.Assign(local, state, state.span))
    given = states.keys() - {*results}
    for each in as_block(of_turn):
        step.append(_renamed(_as_states(each, given), names))
    refs = tuple(
        ir.Ref(names[x], ir.Role.LOCAL, ir.TENSOR, states[x].span) for x in results
    )
    if refs:
        several = ir.Type(ir.Kind.TENSOR, "several", length=len(refs))
        result = refs[0] if len(refs) == 1 else ir.Pack(refs, several, refs[0].span)
        step.append(ir.Return(result, result.span))
    return replace(
        rule,
        step=tuple(step),
        states=_mentioned(rule, states, tuple(step)),
        pre_steps=(),
        post_steps=(),
        pairs=False,
        complex=(),
    )


def _renamed(node: ir.Node, names: dict[str, str]) -> ir.Node:
    node = ir.mapped(node, lambda each: _renamed(each, names))
    if isinstance(node, ir.Ref) and node.name in names:
        return replace(node, name=names[node.name])
    return node
