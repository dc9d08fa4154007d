"""What holds for every ir rule: after the checker always, after each pass in the tests.

In: a rule. Out: nothing, or InternalError with the name of what is broken.
"""

from collections.abc import Iterator

from . import ir
from .diagnostics import InternalError


def verify(rule: ir.Rule, stage: str) -> None:
    """Raise InternalError where an invariant is broken."""
    for invariant in (
        _types_are_known,
        _names_are_declared,
        _hypers_are_read_only,
        _the_host_decides,
        _calls_start_from_tensors,
        _effects_write,
    ):
        for broken in invariant(rule):
            what = invariant.__name__.strip("_").replace("_", " ")
            raise InternalError(stage, f"not so: {what} ({broken})")


def _statements(rule: ir.Rule) -> Iterator[ir.Statement]:
    for block in ir.blocks(rule):
        yield from ir.statements(block)


def _expressions(rule: ir.Rule) -> Iterator[ir.Expr]:
    for statement in _statements(rule):
        match statement:
            case ir.If():
                yield from ir.walk(statement.condition)
            case ir.Repeat():
                yield from ir.walk(statement.count)
            case ir.Forget() | ir.Each():
                pass
            case _:
                for each in ir.children(statement):
                    yield from ir.walk(each)
    for state in rule.states:
        for each in (state.initial, *state.asked):
            yield from ir.walk(each)


def _types_are_known(rule: ir.Rule) -> Iterator[object]:
    yield from (each for each in _expressions(rule) if each.type.unknown)


def _names_are_declared(rule: ir.Rule) -> Iterator[object]:
    declared = {
        ir.Role.HYPER: {each.name for each in rule.of_group},
        ir.Role.STATE: {each.name for each in rule.states},
        ir.Role.PARAM: {"p"},
        ir.Role.GRAD: {"grad"},
    }
    for each in _expressions(rule):
        if isinstance(each, ir.Ref) and each.name not in declared.get(
            each.role, {each.name}
        ):
            yield each.name
    functions = {each.name for each in rule.functions}
    for each in _expressions(rule):
        if isinstance(each, ir.Invoke) and each.function not in functions:
            yield each.function


def _hypers_are_read_only(rule: ir.Rule) -> Iterator[object]:
    fixed = (
        ir.Role.HYPER,
        ir.Role.COUNT,
        ir.Role.FIRST,
        ir.Role.LOSS,
        ir.Role.INDEX,
        ir.Role.CALLS,
    )
    for statement in _statements(rule):
        if isinstance(statement, ir.Assign) and statement.target.role in fixed:
            yield statement.target.name


def _the_host_decides(rule: ir.Rule) -> Iterator[object]:
    for statement in _statements(rule):
        if isinstance(statement, ir.If) and not statement.condition.type.on_host:
            yield statement.condition
    for each in _expressions(rule):
        if isinstance(each, ir.Choose) and not each.condition.type.on_host:
            yield each


def _calls_start_from_tensors(rule: ir.Rule) -> Iterator[object]:
    for each in _expressions(rule):
        if (
            isinstance(each, ir.Op)
            and not each.listed
            and each.arguments[0].type.on_host
        ):
            yield each


def _effects_write(rule: ir.Rule) -> Iterator[object]:
    for statement in _statements(rule):
        if isinstance(statement, ir.Effect) and not statement.value.in_place:
            yield statement
