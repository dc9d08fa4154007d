"""Sparse gradients: when a rule takes them, and what it may not ask then.

The step runs on the entries that a gradient holds, each of them on its own: `p`, `grad`
and the states are as long as there are entries, whatever shape they have otherwise.
"""

from collections.abc import Iterator

from .. import ir, syntax, vocabulary
from ..diagnostics import Label
from .expressions import check_expression, is_host_flag
from .scope import Scope, holds, holds_not, key


def check_sparse(spec: syntax.Spec, scope: Scope) -> ir.Sparse | None:
    """Which sparse gradients the rule takes; none, where the spec says nothing."""
    written = spec.of(syntax.Sparse)
    if not written:
        return None
    for each in written[1:]:
        first = Label(written[0].span, "the first one")
        scope.report("E0112", "a second `sparse_grads`", each.span, others=(first,))
    (one, *_), when = written, None
    if one.when is not None:
        when = check_expression(one.when, scope.at("sparse"))
        if not is_host_flag(when, scope, one.when.span):
            return None
    return ir.Sparse(one.only, when)


def check_entries(rule: ir.Rule, spec: syntax.Spec, scope: Scope) -> None:
    """Reports what has no meaning where a gradient is sparse."""
    if rule.sparse is None:
        return
    here = Label(spec.of(syntax.Sparse)[0].span, "sparse gradients are taken")
    facts = set(holds(rule.sparse.when)) if rule.sparse.when else set()

    def report(title: str, node: ir.Expr | ir.State, hint: str = "") -> None:
        scope.report("E0311", title, node.span, hint, others=(here,))

    for state in rule.states:
        if state.when is not None and _excluded(state.when, facts):
            continue
        if state.index is not None:
            report(f"`{state.name}` is a list of states", state)
        elif not (state.scalar or state.shared) and state.type != ir.TENSOR:
            title = f"`{state.name}` is no tensor like `p`"
            report(title, state, "it has no value for each entry of a gradient")
        for ref in ir.reads(state.initial):
            if ref.role is ir.Role.GRAD:
                report("a state cannot start from a sparse gradient", ref)
    called = {name: function.body for name, function in _functions(rule).items()}
    for statement in (*rule.step, *(each for body in called.values() for each in body)):
        for node in _asking_of_axes(statement, facts):
            report("the entries of a sparse gradient have no axes", node)
    for hook in rule.hooks:
        for ref in (ref for each in hook.body for ref in ir.reads(each)):
            if ref.role is ir.Role.GRAD:
                report("a hook cannot read a sparse gradient", ref, "the step can")


def _functions(rule: ir.Rule) -> dict[str, ir.Function]:
    """The defs that the step calls, directly or by way of others."""
    known = {each.name: each for each in rule.functions}
    found: dict[str, ir.Function] = {}
    pending = list(rule.step)
    while pending:
        for node in ir.walk(pending.pop()):
            if isinstance(node, ir.Invoke) and node.function not in found:
                found[node.function] = known[node.function]
                pending += known[node.function].body
    return found


def _asking_of_axes(statement: ir.Statement, facts: set[str]) -> Iterator[ir.Expr]:
    """What asks for axes or shapes, in the branches that a sparse gradient may reach."""
    if isinstance(statement, ir.If):
        condition = statement.condition
        yield from _of_axes(condition)
        for each in () if _excluded(condition, facts) else statement.then:
            yield from _asking_of_axes(each, facts)
        for each in () if key(condition) in facts else statement.otherwise:
            yield from _asking_of_axes(each, facts)
    elif isinstance(statement, ir.Repeat):
        yield from _of_axes(statement.count)
        for each in statement.body:
            yield from _asking_of_axes(each, facts)
    else:
        yield from _of_axes(statement.value)


def _of_axes(expr: ir.Expr) -> Iterator[ir.Expr]:
    """The outermost parts of an expression that ask for axes."""
    match expr:
        case ir.Call(function=name, dim=dim) if (
            name in vocabulary.OF_AXES or dim is not None
        ):
            yield expr
        case ir.Binary(operator="@"):
            yield expr
        case _:
            for each in ir.children(expr):
                yield from _of_axes(each)


def _excluded(condition: ir.Expr, facts: set[str]) -> bool:
    """Whether a condition is known to be false."""
    return bool(facts.intersection(holds_not(condition)))
