"""Where values go: a name that is never read, a value that reaches nothing.

In: the checked rule. Twelve optimizers of one library have a weight decay that changes
nothing in one mode, because it is added to a gradient that was used already; here that
is a mistake with a place.
"""

from collections.abc import Callable, Iterator
from functools import partial

from .. import ir, syntax
from .expressions import asks_of_target
from .scope import Scope


def check_flow(rule: ir.Rule, spec: syntax.Spec, scope: Scope) -> None:
    if not spec.of(syntax.Step):
        return
    _never_read(rule, spec, scope)
    survives = {"p", *scope.states}
    report = partial(_report, spec=spec, scope=scope)
    made = tuple(each.initial for each in rule.states)
    for at, hook in enumerate(rule.pre_steps):
        later = [
            statement for each in rule.pre_steps[at + 1 :] for statement in each.body
        ]
        readers = (*later, *made, *rule.step)
        handed_on = any(
            ref.name == "grad" for each in readers for ref in ir.reads(each)
        )
        _dead(hook.body, survives | ({"grad"} if handed_on else set()), report)
    _dead(rule.step, survives, report)
    for hook in (*rule.post_steps, *rule.on_calls, *rule.modes):
        _dead(hook.body, survives, report)
    for function in rule.functions:
        _dead(function.body, set(), report)


def _never_read(rule: ir.Rule, spec: syntax.Spec, scope: Scope) -> None:
    named = {each.text for each in syntax.walk(spec) if isinstance(each, syntax.Name)}
    for each in spec.of(syntax.Hyper):
        name = each.name.text
        if name in scope.hypers and name not in named and name not in scope.misspelled:
            title = f"the hyper `{name}` is never used"
            scope.report("E0206", title, each.name.span)
    for function in spec.of(syntax.Function):
        inside = {
            each.text for each in syntax.walk(function) if isinstance(each, syntax.Name)
        }
        for parameter in function.parameters:
            if parameter.text not in inside:
                title = f"the argument `{parameter.text}` is never used"
                scope.report("E0206", title, parameter.span)
    written = {
        each.target.text
        for each in syntax.walk(spec)
        if isinstance(each, syntax.Assign)
    }
    augmented = {
        each.target.text
        for each in syntax.walk(spec)
        if isinstance(each, syntax.Assign) and each.operator
    }
    for each in spec.of(syntax.State):
        name = each.name.text
        if name not in scope.states or name in scope.misspelled:
            continue
        if name not in named | augmented:
            title = f"the state `{name}` is never read"
            scope.report("E0207", title, each.name.span)
        elif name not in written:
            title = f"the state `{name}` is never written"
            help = "a value that never changes needs no state"
            if not any(
                isinstance(ref, ir.Ref) for ref in ir.walk(scope.states[name].initial)
            ):
                scope.report("E0207", title, each.name.span, help=help)


def _dead(
    block: ir.Block,
    live: set[str],
    report: Callable[[ir.Ref], None],
    at_end: set[str] | None = None,
) -> set[str]:
    """The names that are live before a block, of those live after it; `at_end` are those
    that are live where the step ends.
    """
    at_end = live if at_end is None else at_end
    live = set(live)
    for statement in reversed(block):
        match statement:
            case ir.Assign(target=target):
                if target.name not in live:
                    report(target)
                if target.index is None:
                    live.discard(target.name)
                else:
                    live |= _names(target.index)
                live |= _names(statement.value)
            case ir.Unpack(targets=targets):
                if not live & {each.name for each in targets}:
                    report(targets[0])
                live -= {each.name for each in targets}
                live |= _names(statement.value)
            case ir.If():
                then = _dead(statement.then, live, report, at_end)
                otherwise = _dead(statement.otherwise, live, report, at_end)
                live = then | otherwise | _names(statement.condition)
            case ir.Repeat(count=count, body=body):
                again = {ref.name for each in body for ref in ir.reads(each)}
                live |= _dead(body, live | again, report, at_end) | _names(count)
            case ir.Return():
                live = _names(statement.value)
            case ir.Skip():
                live = set(at_end)
    return live


def _names(expr: ir.Expr) -> set[str]:
    return {each.name for each in ir.reads(expr)}


def _report(target: ir.Ref, spec: syntax.Spec, scope: Scope) -> None:
    if scope.report.errors and any(each.code != "E0209" for each in scope.report.found):
        return
    what = {
        ir.Role.PARAM: "overwritten before anything reads it",
        ir.Role.STATE: "overwritten before anything reads it",
    }.get(target.role, "never used after this")
    help = "every value of a step has to reach `p` or a state"
    for branching in _branches_of_targets(target, spec):
        condition = scope.report.source.cut(branching.condition.span)
        what = f"used on one side of `if {condition}` alone"
        help = "move it into the branch that uses it"
        break
    scope.report(
        "E0209", f"this value of `{target.name}` is {what}", target.span, help=help
    )


def _branches_of_targets(target: ir.Ref, spec: syntax.Spec) -> Iterator[syntax.If]:
    """Where the name is read later in a branch that only another target may take."""
    for step in spec.of(syntax.Step):
        for each in syntax.walk(step):
            if (
                isinstance(each, syntax.If)
                and each.span.start > target.span.start
                and asks_of_target(each.condition)
                and any(
                    isinstance(name, syntax.Name) and name.text == target.name
                    for statement in (*each.then, *each.otherwise)
                    for name in syntax.walk(statement)
                )
            ):
                yield each
