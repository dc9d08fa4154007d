"""Complex parameters: pairs of reals, so that every function has a meaning; complex
numbers in the statements that the spec marks as such.

In: a lowered rule. Out: its step in runs of the one and the other kind, each with the
names that have to change their form before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .. import ir, vocabulary
from ..stages import read_first
from .update import Update

AS_REAL, AS_COMPLEX = "view_as_real", "view_as_complex"
_OF_MATRICES = vocabulary.OF_AXES | {"matmul", "addmm", "mT", "bfloat16", "new_zeros"}
_OF_SHAPES = frozenset({"ndim", "size", "numel"})


@dataclass(frozen=True, slots=True)
class Run:
    """Statements that see complex parameters in one form. `view` is the torch function
    that the tensors `changed` have to pass through first; those in `optional` may be None.
    """

    block: ir.Block
    view: str
    changed: tuple[str, ...]
    optional: tuple[str, ...]


def runs(rule: ir.Rule, update: Update, restored: bool = False) -> Iterator[Run]:
    """The step of a rule, cut where complex parameters change their form; parameters and
    states get their own form back at the end, where they are to be `restored`.
    """
    if not rule.pairs:
        yield Run(rule.step, AS_REAL, (), ())
        return
    kept = {each.state.name: each.state for each in update.columns[2:] if each.state}
    pairs: set[str] = set()
    locals_: set[str] = set()
    for as_numbers, block in _cut(rule):
        mentioned = dict.fromkeys(_tensors(block))
        storages = [name for name in ("p", "grad", *kept) if name in mentioned]
        if not rule.complex:
            storages = ["p", "grad", *kept]
        earlier = [
            each for each in dict.fromkeys(read_first(block, set())) if each in locals_
        ]
        names = [
            name
            for name in (*storages, *earlier)
            if (name in pairs) is as_numbers
            and not (name in kept and kept[name].scalar)
        ]
        optional = [
            name for name in names if name in kept and kept[name].when is not None
        ]
        always = [name for name in names if name not in optional]
        view = AS_COMPLEX if as_numbers else AS_REAL
        yield Run(block, view, tuple(always), tuple(optional))
        assigned = (ir.assigned(block) & {*mentioned}) - {"p", *kept}
        locals_ |= assigned - {"grad"}
        pairs = pairs - {*names} if as_numbers else pairs | {*names}
        pairs = pairs - assigned if as_numbers else pairs | assigned
    if restored and pairs & {"p", *kept}:
        names = [name for name in ("p", *kept) if name in pairs]
        optional = [name for name in names if name in kept and kept[name].when]
        always = [name for name in names if name not in optional]
        yield Run((), AS_COMPLEX, tuple(always), tuple(optional))


def _cut(rule: ir.Rule) -> Iterator[tuple[bool, ir.Block]]:
    """Runs of statements; those that touch no tensor belong to either."""
    run: list[ir.Statement] = []
    kind: bool | None = None
    for statement in rule.step:
        inside = any(
            each.start <= statement.span.start < each.end for each in rule.complex
        )
        if any(_tensors((statement,))):
            if kind is not None and inside is not kind:
                yield kind, tuple(run)
                run = []
            kind = inside
        run.append(statement)
    if run:
        yield bool(kind), tuple(run)


def _tensors(block: ir.Block) -> Iterator[str]:
    """The names of tensors that a block reads or writes."""
    for statement in ir.statements(block):
        if isinstance(statement, ir.Assign):
            if statement.target.type.kind is ir.Kind.TENSOR:
                yield statement.target.name
    for statement in block:
        for ref in ir.reads(statement):
            if ref.type.kind is ir.Kind.TENSOR and ref.type.element == "number":
                yield ref.name


def means_pairs(rule: ir.Rule) -> bool:
    """Whether the rule means the same for pairs of reals: it looks at no axis or shape,
    and its states start like the parameter or the gradient.
    """
    made = tuple(ir.Return(each.initial, each.span) for each in rule.own)
    for block in (*ir.blocks(rule), made):
        for statement in block:
            if any(_looks_at_shape(node) for node in ir.walk(statement)):
                return False
    shapes = [each.when for each in rule.own if each.when is not None]
    if any(isinstance(node, ir.Call) for when in shapes for node in ir.walk(when)):
        return False
    counts = [each.count for each in rule.states if each.count is not None]
    if any(_looks_at_shape(node) for count in counts for node in ir.walk(count)):
        return False
    return all(
        each.initial.type.on_host or starts_as_copy(each.initial) for each in rule.own
    )


def _looks_at_shape(node: ir.Node) -> bool:
    match node:
        case ir.Call():
            return node.function in _OF_SHAPES
        case ir.Op():
            by_axis = any(key == "dim" for key, _ in node.keywords)
            return node.name in _OF_MATRICES or by_axis
    return False


def starts_as_copy(initial: ir.Expr) -> bool:
    """Whether a state starts as `p`, as `grad`, or as zeros like them."""
    if isinstance(initial, ir.Op) and initial.name == "zeros_like":
        initial = initial.arguments[0]
    return isinstance(initial, ir.Ref) and initial.role in (ir.Role.PARAM, ir.Role.GRAD)
