"""Reductions across parameters: `sum(x, over=group)`, `norm(grad, over=model)`."""

from .. import ir, syntax, vocabulary
from .kinds import broadcast, unknown, wrong_operand
from .scope import Scope

_OVER = ("group", "model")
_FLAGS = ("any", "all")
_OF_TENSORS = ("norm", "dot")


def check_over(
    call: syntax.Call,
    function: vocabulary.Function,
    arguments: tuple[ir.Expr, ...],
    scope: Scope,
) -> ir.Expr:
    """A reduction of what all parameters of the group, or of the model, have. Numbers of
    the host give a number of the host, tensors a tensor scalar.
    """
    (written,) = (each for each in call.keywords if each.name.text == "over")
    over = written.value.text if isinstance(written.value, syntax.Name) else ""
    if over not in _OVER:
        hint = "expected `over=group` or `over=model`"
        scope.report("E0402", "a reduction across what?", written.value.span, hint)
        return unknown(call.span)
    if scope.place not in ("pre_step", "step", "post_step", "on_call"):
        hint = "only the step and its hooks see all parameters"
        if scope.place == "def":
            hint = "reduce outside of the def, and hand the result over"
        scope.report("E0306", "this cannot be reduced here", written.span, hint)
        return unknown(call.span)
    for each in call.keywords:
        if each is not written:
            title = f"`{each.name.text}` and `over` exclude each other"
            hint = "reduce over the axes first, then over the parameters"
            scope.report("E0402", title, each.span, hint)
            return unknown(call.span)
    name = function.name
    element = "flag" if name in _FLAGS else "number"
    for each in arguments:
        wrong = each.type.element != element or each.type.optional
        if wrong or (each.type.on_host and name in _OF_TENSORS):
            wrong_operand(name, each, scope)
            return unknown(call.span)
    whole = broadcast(list(arguments), call.span, scope, element)
    if whole is None:
        return unknown(call.span)
    kind = ir.Kind.HOST if whole.on_host else ir.Kind.SCALAR
    return ir.Call(name, arguments, ir.Type(kind, element), call.span, over=over)
