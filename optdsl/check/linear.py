"""What may stand in `complex:`, where complex parameters are complex numbers: what means
the same for a complex number and for a pair of reals.
"""

from .. import ir, syntax
from ..source import Span
from .scope import Scope


def check_complex(spec: syntax.Spec, scope: Scope) -> tuple[Span, ...]:
    """Where complex parameters are complex numbers: blocks directly in the step."""
    allowed = [
        each
        for step in spec.of(syntax.Step)
        for each in step.body
        if isinstance(each, syntax.Complex)
    ]
    for each in syntax.walk(spec):
        if isinstance(each, syntax.Complex) and not any(each is one for one in allowed):
            title = "`complex:` stands directly in the step"
            word = Span(each.span.start, each.span.start + len("complex"))
            scope.report("E0310", title, word)
    return tuple(each.span for each in allowed)


def check_linear(expr: ir.Expr, is_tensor: bool, scope: Scope) -> None:
    """Reports what does not mean the same for a complex number and for a pair of reals:
    all but sums of tensors, and products of them with what is made of no tensor.
    """
    if expr.type.unknown:
        return
    parts: tuple[tuple[ir.Expr, bool], ...] | None = None
    match expr:
        case _ if not is_tensor:
            parts = None if _has_tensors(expr) else ()
        case _ if expr.type.kind is not ir.Kind.TENSOR:
            pass  # A number is added to one real of two.
        case ir.Ref():
            parts = ()
        case ir.Unary(operand=operand):
            parts = ((operand, True),)
        case ir.Choose(then=then, otherwise=otherwise):
            parts = ((then, True), (otherwise, True))
        case ir.Binary("+" | "-", left, right):
            parts = ((left, True), (right, True))
        case ir.Binary("*", left, right) if left.type.kind is not ir.Kind.TENSOR:
            parts = ((left, False), (right, True))
        case ir.Binary("*" | "/", left, right):
            parts = ((left, True), (right, False))
        case ir.Call("lerp", (start, end, weight)):
            parts = ((start, True), (end, True), (weight, False))
    if parts is None:
        title = "this is not for complex numbers"
        hint = "`complex:` is for sums of tensors, and for their products with scalars"
        scope.report("E0408", title, expr.span, hint)
    for part, part_is_tensor in parts or ():
        check_linear(part, part_is_tensor, scope)


def _has_tensors(expr: ir.Expr) -> bool:
    return any(each.type.kind is ir.Kind.TENSOR for each in ir.walk(expr))
