"""What kind of work each statement is: numbers of the host, element by element,
reductions, whole matrices, barriers across parameters, the closure.

In: a checked rule. Out: for every statement its place in the spec and its kinds, the one
that holds a kernel up most first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from .. import ir, vocabulary


class Kind(IntEnum):
    """What has to be known before an element of the result is."""

    HOST = 0
    NUMBER = 1
    ELEMENTWISE = 2
    AXES = 3
    TENSOR = 4
    WAITS = 5
    MATRICES = 6
    BARRIER = 7
    CLOSURE = 8


WORDS = {
    Kind.HOST: "host",
    Kind.NUMBER: "one number on the device",
    Kind.ELEMENTWISE: "elementwise",
    Kind.AXES: "reduces over axes",
    Kind.TENSOR: "reduces over the tensor",
    Kind.WAITS: "the host waits for a number",
    Kind.MATRICES: "whole matrices",
    Kind.BARRIER: "barrier across parameters",
    Kind.CLOSURE: "the closure again",
}
_BY_ELEMENT = ("elementwise", "compared", "created")
_OF_THE_HOST = ("shape", "asked", "as_tensor")


@dataclass(frozen=True, slots=True)
class Work:
    """A statement as written, its line in the spec, and what it is."""

    line: int
    text: str
    kinds: tuple[str, ...]


def works(rule: ir.Rule) -> tuple[Work, ...]:
    """Every statement of the spec once, in its order: instances of a def are one, and so
    are the parts that a reduction across parameters cuts it into.
    """
    found: dict[int, list[ir.Statement]] = {}
    for block in ir.blocks(rule):
        for statement in _leaves(block):
            found.setdefault(statement.span.start, []).append(statement)
    return tuple(
        Work(
            rule.source.position(start)[0],
            rule.source.cut(same[0].span),
            _words(same, rule),
        )
        for start, same in sorted(found.items())
    )


def _leaves(block: ir.Block) -> Iterator[ir.Statement]:
    """The statements that hold no others."""
    for statement in block:
        below = [each for each in ir.children(statement) if not _is_expression(each)]
        if below:
            yield from _leaves(tuple(below))
        elif not isinstance(statement, ir.If):
            yield statement


def _is_expression(node: ir.Node) -> bool:
    return hasattr(node, "type")


def _words(same: list[ir.Statement], rule: ir.Rule) -> tuple[str, ...]:
    found = {kind for each in same for kind in kinds(each, rule)}
    found |= {_by_type(each.value) for each in same}
    strongest = max(found)
    if strongest <= Kind.ELEMENTWISE:
        return (WORDS[strongest],)
    shown = sorted((each for each in found if each > Kind.ELEMENTWISE), reverse=True)
    return tuple(WORDS[each] for each in shown)


def kinds(node: ir.Node, rule: ir.Rule) -> Iterator[Kind]:
    """The kinds of work of a node and of all below it, and of the defs it calls."""
    for each in ir.walk(node):
        if isinstance(each, ir.Invoke):
            for function in rule.functions:
                if function.name == each.function:
                    for statement in function.body:
                        yield from kinds(statement, rule)
        if _is_expression(each):
            yield kind(each)


def kind(expr: ir.Expr) -> Kind:
    """The kind of work of one operation, its operands being there."""
    match expr:
        case ir.Ref() | ir.Const():
            return Kind.HOST
        case ir.Binary(operator="@") if not is_outer(expr):
            return Kind.MATRICES
        case ir.Call():
            return _of_call(expr)
    return _by_type(expr)


def _by_type(expr: ir.Expr) -> Kind:
    return {
        ir.Kind.HOST: Kind.HOST,
        ir.Kind.SCALAR: Kind.NUMBER,
        ir.Kind.TENSOR: Kind.ELEMENTWISE,
    }[expr.type.kind]


def group(call: ir.Call) -> str:
    """The group of a function in the vocabulary, or "" where it is not there."""
    known = vocabulary.FUNCTIONS
    if len(call.arguments) == 1:
        known = known | vocabulary.EXTREMES
    return known[call.function].group if call.function in known else ""


def _of_call(call: ir.Call) -> Kind:
    match group(call):
        case "reduction":
            if call.over:
                return Kind.BARRIER
            return Kind.TENSOR if call.dim is None else Kind.AXES
        case "item":
            return Kind.WAITS
        case "evaluated":
            return Kind.CLOSURE
        case name if name in _OF_THE_HOST:
            return _by_type(call)
        case name if name in _BY_ELEMENT or call.function == "bfloat16":
            return _by_type(call)
    if is_drawn(call) or all(each.type.on_host for each in call.arguments):
        return _by_type(call)
    return Kind.MATRICES


def is_drawn(call: ir.Call) -> bool:
    """Whether it asks for no more of a tensor than the shape, as `zeros_like`."""
    return call.function.endswith("_like") and call.function != "full_like"


def is_outer(product: ir.Binary) -> bool:
    """Whether a matrix product sums over one place only: a column times a row."""
    sides = (product.left, -1), (product.right, -2)
    return all(_is_one(side.type, axis) for side, axis in sides)


def _is_one(type_: ir.Type, axis: int) -> bool:
    reductions = type_.shape.reductions
    return (
        type_.shape.known
        and len(reductions) == 1
        and reductions[0][1]
        and axis in reductions[0][0]
    )
