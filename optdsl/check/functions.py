"""Defs: checked once for each combination of argument types that they are called with."""

from itertools import chain, count

from .. import ir, syntax, vocabulary
from .scope import Local, Scope
from .statements import check_block


def instance(
    function: syntax.Function, types: tuple[ir.Type, ...], scope: Scope
) -> ir.Function:
    """The def for these argument types; made and checked at the first call with them."""
    name = function.name.text
    key = (name, types)
    if key in scope.instances:
        return scope.instances[key]
    numbers = [each for each in types if not each.on_host and each.element == "number"]
    inner = scope.at("def", has_tensor=bool(numbers))
    parameters = []
    for parameter, type_ in zip(function.parameters, types, strict=True):
        reason = vocabulary.why_reserved(parameter.text)
        if reason and parameter.text not in ("p", "grad"):
            title = f"`{parameter.text}` cannot name an argument"
            scope.report("E0203", title, parameter.span, reason)
        if parameter.text in inner.locals:
            scope.report(
                "E0202", f"`{parameter.text}` is declared twice", parameter.span
            )
        needs = frozenset({parameter.text})
        inner.locals[parameter.text] = Local(type_, whole=True, needs=needs)
        parameters.append(ir.Ref(parameter.text, ir.Role.LOCAL, type_, parameter.span))
    scope.calling.append(name)
    body = check_block(function.body, inner)
    scope.calling.pop()
    type_ = _result(function, body, scope)
    own = _free_name(name, scope)
    made = ir.Function(own, tuple(parameters), body, type_, function.span)
    scope.instances[key] = made
    scope.counts[key] = frozenset(inner.rounds)
    return made


def _free_name(name: str, scope: Scope) -> str:
    """The def's name, or with a number where it has instances of other types."""
    taken = {each.name for each in scope.instances.values()} | set(scope.functions) - {
        name
    }
    numbered = (f"{name}_{number}" for number in count(2))
    return next(each for each in chain((name,), numbered) if each not in taken)


def _result(function: syntax.Function, body: ir.Block, scope: Scope) -> ir.Type:
    name, span = function.name.text, function.name.span
    if not _always_returns(body):
        scope.report("E0307", f"`{name}` does not return on every path", span)
        return ir.UNKNOWN
    for block in _blocks_within(body):
        for early, late in zip(block, block[1:], strict=False):
            if _always_returns((early,)):
                scope.report("E0307", "nothing runs after `return`", late.span)
    types = [
        each.value.type for each in ir.statements(body) if isinstance(each, ir.Return)
    ]
    result = types[0]
    for type_ in types:
        if type_.unknown or result.unknown:
            return ir.UNKNOWN
        both = result.joined(type_)
        if both is None:
            title = f"`{name}` returns a {result} on one path and a {type_} on another"
            scope.report("E0405", title, span)
            return ir.UNKNOWN
        result = both
    return result


def _blocks_within(body: ir.Block) -> list[ir.Block]:
    found = [body]
    for each in ir.statements(body):
        if isinstance(each, ir.If):
            found += [each.then, each.otherwise]
        elif isinstance(each, ir.Repeat):
            found.append(each.body)
    return found


def _always_returns(body: ir.Block) -> bool:
    for each in body:
        if isinstance(each, ir.Return):
            return True
        if (
            isinstance(each, ir.If)
            and _always_returns(each.then)
            and _always_returns(each.otherwise)
        ):
            return True
    return False


def check_functions(spec: syntax.Spec, scope: Scope) -> None:
    """A def that nothing calls has no types to be checked for."""
    called = {name for name, _ in scope.instances}
    for function in spec.of(syntax.Function):
        name = function.name.text
        if (
            name in scope.functions
            and name not in called
            and not _mentioned(name, spec)
        ):
            scope.report(
                "E0206", f"the def `{name}` is never called", function.name.span
            )


def _mentioned(name: str, spec: syntax.Spec) -> bool:
    return any(
        isinstance(each, syntax.Call) and each.function.text == name
        for each in syntax.walk(spec)
    )
