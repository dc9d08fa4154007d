"""A rule's step as passes over memory. In: a checked rule, whose host knows no tensor.
Out: the program of its kernels, or the Refusal that says what none carries.
"""

from dataclasses import replace

from .. import ir
from ..ir.kernels import Across, Elements, Numbers, Program, Step
from ..stages import read_first, surely
from .again import passes
from .inline import inline
from .names import free
from .numbers import apart
from .plain import Plain
from .refusal import Refusal
from .slots import ACROSS, ELEMENTS, Placed, as_block, slots

__all__ = ["Refusal", "program"]


def program(rule: ir.Rule) -> Program:
    """The kernels of a rule.

    Raises:
        Refusal: it needs what no kernel does.
    """
    if any(each.index is not None for each in rule.states):
        raise Refusal("a list of states")
    if rule.sparse is not None and rule.sparse.only:
        raise Refusal("sparse gradients")
    for state in rule.own:
        if state.type.kind is ir.Kind.TENSOR and state.type.shape != ir.LIKE_PARAM:
            raise Refusal("a reduction along axes")
    taken = {each.name for each in (*rule.of_group, *rule.states)} | {"p", "grad", "t"}
    taken |= {ref.name for each in rule.step for ref in ir.mentions(each)}
    step = inline(rule, taken)
    plain = Plain(taken, step)
    block = apart(plain.block(step), taken)
    placed = slots(block)
    found = passes(placed)
    if "grad" in found.kept:
        # Memory of its own: the gradient itself is not to be changed.
        placed = slots(_with_own_gradient(block, free("gradient", taken)))
        found = passes(placed)
    steps: list[Step] = []
    for slot in sorted({each.slot for each in placed}):
        own = [each for each in placed if each.slot == slot]
        if slot % 3 == ELEMENTS:
            again = as_block([placed[at] for at in found.of[slot]])
            steps.append(_elements(rule, again, slot, placed, {*found.kept}))
        elif slot % 3 == ACROSS:
            steps += [
                Across(each.statement.target, each.statement.value) for each in own
            ]
        else:
            steps.append(Numbers(as_block(own)))
    return Program(
        rule,
        tuple(steps),
        tuple(plain.options.values()),
        _numbers(placed),
        tuple(found.kept.values()),
        tuple(plain.asked.items()),
    )


def _elements(
    rule: ir.Rule, body: ir.Block, slot: int, placed: list[Placed], kept: set[str]
) -> Elements:
    """One pass, with what it moves between memory and registers."""
    fields = ["p", "grad", *(s.name for s in rule.own if _is_tensor(s)), *sorted(kept)]
    assigned = {each.statement.target.name for each in placed if each.slot == slot}
    read = {*read_first(body, set())}
    stores = [x for x in fields if x in assigned and x != "grad"]
    # What is assigned on some ways only keeps its value on the others.
    sure = surely(body)
    loads = [x for x in fields if x in read or (x in stores and x not in sure)]
    return Elements(body, tuple(loads), tuple(stores))


def _with_own_gradient(block: ir.Block, name: str) -> ir.Block:
    """The block with a local that starts as the gradient in its place."""

    def renamed(node: ir.Node) -> ir.Node:
        node = ir.mapped(node, renamed)
        if isinstance(node, ir.Ref) and node.role is ir.Role.GRAD:
            return replace(node, name=name, role=ir.Role.LOCAL)
        return node

    span = block[0].span
    grad = ir.Ref("grad", ir.Role.GRAD, ir.TENSOR, span)
    start = ir.Assign(ir.Ref(name, ir.Role.LOCAL, ir.TENSOR, span), grad, span)
    return (start, *map(renamed, block))


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
