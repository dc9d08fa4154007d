"""Whose value each name has: that of one parameter, of a group, or of the whole model.

In: a checked block and the states. Out: the level of every local; the hypers that have to
be one for the whole model, since a state of the model is made from them; and what is wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from .. import ir
from .scope import Scope

MODEL, GROUP, PARAM = LEVELS = ("model", "group", "param")
_SAID = {PARAM: "one parameter", GROUP: "a group"}


def narrower(*levels: str) -> str:
    """The level of what is made from values of these."""
    return LEVELS[max((LEVELS.index(each) for each in levels), default=0)]


@dataclass
class Levels:
    """The levels of one block. `given` are the statements of the host that need hypers
    alone, so that they may stand wherever their values are read.
    """

    places: dict[str, str]
    locals: dict[str, str] = field(default_factory=dict)
    of_model: set[str] = field(default_factory=set)
    given: list[ir.Statement] = field(default_factory=list)

    def of(self, node: ir.Node) -> str:
        """The level of an expression, or of all that a statement reads and writes."""
        return narrower(*(self._of_ref(ref) for ref in refs(node)), *overs(node))

    def _of_ref(self, ref: ir.Ref) -> str:
        match ref.role:
            case ir.Role.HYPER:
                return MODEL if ref.name in self.of_model else GROUP
            case ir.Role.STATE:
                return self.places[ref.name]
            case ir.Role.FLAG | ir.Role.LOSS | ir.Role.INDEX | ir.Role.CALLS:
                return MODEL
            case ir.Role.LOCAL:
                return self.locals.get(ref.name, MODEL)
        return PARAM


def refs(node: ir.Node) -> Iterator[ir.Ref]:
    """The references that a node depends on, apart from what is reduced in it."""
    if isinstance(node, ir.Ref):
        yield node
    elif not (isinstance(node, ir.Call) and node.over):
        for child in ir.children(node):
            yield from refs(child)


def overs(node: ir.Node) -> Iterator[str]:
    """The levels that a node reduces over."""
    if isinstance(node, ir.Call) and node.over:
        yield node.over
    else:
        for child in ir.children(node):
            yield from overs(child)


@dataclass(frozen=True, slots=True)
class _Assignment:
    target: ir.Ref
    value: ir.Expr
    conditions: tuple[ir.Expr, ...]

    @property
    def needs(self) -> tuple[ir.Expr, ...]:
        return (self.value, *self.conditions)


def _assignments(
    block: ir.Block, conditions: tuple[ir.Expr, ...] = ()
) -> Iterator[_Assignment]:
    for statement in block:
        match statement:
            case ir.Assign(target, value):
                yield _Assignment(target, value, conditions)
            case ir.Unpack(targets, value):
                for target in targets:
                    yield _Assignment(target, value, conditions)
            case ir.If(condition, then, otherwise):
                inner = (*conditions, condition)
                yield from _assignments(then, inner)
                yield from _assignments(otherwise, inner)
            case ir.Repeat(count, body):
                yield from _assignments(body, (*conditions, count))


def levels(
    block: ir.Block, states: tuple[ir.State, ...], scope: Scope, reads_shared: bool
) -> Levels:
    """The levels of a block, which may read states of groups and of the model; reports
    what does not fit.
    """
    places = {each.name: each.place if each.shared else PARAM for each in states}
    found = Levels(places)
    found.of_model |= {
        ref.name
        for each in states
        if each.place == MODEL and reads_shared
        for ref in ir.reads(each.initial)
    }
    assignments = [*_assignments(block)]
    found.given = [*_given(block, assignments)]
    _demand(found, block, assignments)
    while True:
        before = dict(found.locals)
        for each in assignments:
            if each.target.role is ir.Role.LOCAL:
                own = found.locals.get(each.target.name, MODEL)
                found.locals[each.target.name] = narrower(
                    own, *map(found.of, each.needs)
                )
        _several_times(found, block)
        if found.locals == before:
            break
    for each in assignments:
        if each.target.role is ir.Role.STATE:
            _check_shared(found, each, scope)
    _check_places(found, block, scope)
    return found


def _given(block: ir.Block, assignments: list[_Assignment]) -> Iterator[ir.Statement]:
    known: set[str] = set()
    for statement in block:
        inside = [each.target for each in _assignments((statement,))]
        names = {each.name for each in inside}
        own = {id(each) for each in inside}
        elsewhere = {
            each.target.name for each in assignments if id(each.target) not in own
        }
        of_host = all(
            each.role is ir.Role.LOCAL and each.type.on_host for each in inside
        )
        roles = {ref.role for ref in ir.reads(statement)}
        settled = roles <= {ir.Role.HYPER, ir.Role.FLAG, ir.Role.CALLS, ir.Role.LOCAL}
        read = {ref.name for ref in ir.reads(statement) if ref.role is ir.Role.LOCAL}
        good = settled and read <= known | names and not any(overs(statement))
        if inside and good and of_host and not names & elsewhere:
            known |= names
            yield statement


def _several_times(found: Levels, block: ir.Block) -> None:
    """A number of a group that is assigned in several places stays in its place."""
    seen: set[str] = set()
    for statement in block:
        targets = {each.target.name: each.target for each in _assignments((statement,))}
        for name in targets.keys() & seen:
            if targets[name].type.on_host and found.locals.get(name) == GROUP:
                found.locals[name] = PARAM
        seen |= targets.keys()


def _around(block: ir.Block, conditions: tuple[ir.Expr, ...] = ()) -> Iterator[ir.Expr]:
    """The conditions under which a block reduces over the model, or ends the step."""
    for statement in block:
        match statement:
            case ir.If(condition, then, otherwise):
                if MODEL in overs(condition):
                    yield from conditions
                for side in (then, otherwise):
                    yield from _around(side, (*conditions, condition))
            case ir.Assign() | ir.Unpack() if MODEL in overs(statement.value):
                yield from conditions
            case ir.Skip():
                yield from conditions


def _demand(found: Levels, block: ir.Block, assignments: list[_Assignment]) -> None:
    """The hypers that decide what the model does, or from which a state of it is made."""
    pending = [*_around(block)]
    for each in assignments:
        is_state = each.target.role is ir.Role.STATE
        if is_state and found.places[each.target.name] == MODEL:
            pending += each.needs
    seen: set[str] = set()
    while pending:
        for ref in refs(pending.pop()):
            if ref.role is ir.Role.HYPER:
                found.of_model.add(ref.name)
            elif ref.role is ir.Role.LOCAL and ref.name not in seen:
                seen.add(ref.name)
                for each in assignments:
                    if each.target.name == ref.name:
                        pending += each.needs


def _check_shared(found: Levels, each: _Assignment, scope: Scope) -> None:
    place = found.places[each.target.name]
    if place == PARAM:
        return
    for need in each.needs:
        level = found.of(need)
        if narrower(level, place) == place:
            continue
        culprit = next(
            (ref for ref in refs(need) if narrower(found.of(ref), place) != place), need
        )
        title = f"`{each.target.name}` is of the {place}, and this is of {_SAID[level]}"
        help = f"reduce it over all of them, as `sum(..., over={place})` does"
        scope.report("E0312", title, culprit.span, help=help)


def _check_places(found: Levels, block: ir.Block, scope: Scope) -> None:
    """Reductions stand where all parameters come by."""
    for statement in block:
        match statement:
            case ir.Repeat():
                _check_none(statement, "in a loop", scope)
            case ir.If(condition, then, otherwise):
                if found.of(condition) == PARAM:
                    for each in (*then, *otherwise):
                        where = "under a condition that is of one parameter"
                        _check_none(each, where, scope)
                _check_places(found, then, scope)
                _check_places(found, otherwise, scope)


def _check_none(statement: ir.Statement, where: str, scope: Scope) -> None:
    for node in ir.walk(statement):
        if isinstance(node, ir.Skip):
            title = f"a step that is skipped {where}"
            help = "it is skipped for all parameters: ask `calls` and hypers alone"
            scope.report("E0318", title, node.span, help=help)
        elif isinstance(node, ir.Call) and node.over:
            title = f"a reduction over the {node.over} {where}"
            help = "reduce before it, where every parameter comes by"
            if ir.is_evaluation(node):
                title = f"the gradient taken anew {where}"
                help = "the closure is evaluated once, for all parameters"
            scope.report("E0313", title, node.span, help=help)
