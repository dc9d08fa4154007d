"""Expressions: names to roles, operators and conditions to types.

A mistake gives an expression of unknown type, which silences everything built on it.
"""

from dataclasses import replace

from .. import ir, syntax, vocabulary
from ..diagnostics import did_you_mean
from ..source import Span
from .calls import check_call
from .kinds import broadcast, select, unknown, wrong_operand
from .names import check_entry, check_name
from .scope import Scope, holds, holds_not, key
from .whole import check_whole


def check_expression(expr: syntax.Expression, scope: Scope) -> ir.Expr:
    """The meaning of an expression at the scope's place."""
    match expr:
        case syntax.Number():
            return _number(expr, scope)
        case syntax.Text():
            return ir.Const(f'"{expr.value}"', ir.TEXT, expr.span)
        case syntax.Constant(word="none"):
            return ir.Const("None", ir.NOTHING, expr.span)
        case syntax.Constant():
            return ir.Const(expr.word.capitalize(), ir.FLAG, expr.span)
        case syntax.Name():
            return check_name(expr, scope)
        case syntax.Unary():
            return _unary(expr, scope)
        case syntax.Binary(operator="and" | "or"):
            return _logic(expr, scope)
        case syntax.Binary():
            left = check_expression(expr.left, scope)
            right = check_expression(expr.right, scope)
            return arithmetic(expr.operator, left, right, expr.span, scope)
        case syntax.Compare():
            return _compare(expr, scope)
        case syntax.Choose():
            return _choose(expr, scope)
        case syntax.Call():
            return check_call(expr, scope, check_expression)
        case syntax.Index():
            return _index(expr, scope)
        case syntax.Tuple():
            items = tuple(check_expression(item, scope) for item in expr.items)
            nones = [at for at, item in enumerate(items) if item.type == ir.NOTHING]
            nones = tuple(nones if scope.place == "default" else ())
            for at, item in enumerate(items):
                if item.type.unknown or item.type == ir.NUMBER or at in nones:
                    continue
                title, hint = (
                    f"a tuple cannot hold a {item.type}",
                    "tuples are of numbers",
                )
                if item.type == ir.NOTHING:
                    title = "a tuple cannot hold none"
                    hint = "only the default of a hyper can"
                scope.report("E0404", title, item.span, hint)
                return unknown(expr.span)
            return ir.Pack(
                items,
                ir.Type(element="tuple", length=len(items), nones=nones),
                expr.span,
            )


def _number(expr: syntax.Number, scope: Scope) -> ir.Expr:
    if len(expr.text) > 40 or float(expr.text) == float("inf"):
        title = "the number is too large or too long"
        scope.report("E0506", title, expr.span, "write `inf` for infinity")
        return unknown(expr.span)
    text = str(int(expr.text)) if expr.text.isdigit() else expr.text
    return ir.Const(text, ir.NUMBER, expr.span)


# ---- operators


def _unary(expr: syntax.Unary, scope: Scope) -> ir.Expr:
    operand = check_expression(expr.operand, scope)
    type_ = operand.type
    if type_.unknown:
        return unknown(expr.span)
    wanted = "flag" if expr.operator == "not" else "number"
    if type_.element != wanted or type_.optional:
        wrong_operand(expr.operator, operand, scope)
        return unknown(expr.span)
    if is_decided(operand, expr.operand):
        return _flag(operand.text != "True", expr.span)
    return ir.Unary(expr.operator, operand, type_, expr.span)


def arithmetic(
    operator: str, left: ir.Expr, right: ir.Expr, span: Span, scope: Scope
) -> ir.Expr:
    """`left operator right` for numbers and tensors. A tensor of numbers times one of
    flags keeps the numbers where the flag is set.
    """
    if left.type.unknown or right.type.unknown:
        return unknown(span)
    for operand, other in ((left, right), (right, left)):
        masks = operator == "*" and not other.type.on_host and not operand.type.on_host
        allowed = (
            ("number", "flag")
            if masks and other.type.element == "number"
            else ("number",)
        )
        if operand.type.optional or operand.type.element not in allowed:
            wrong_operand(operator, operand, scope)
            return unknown(span)
    if operator == "@":
        return _matrix_product(left, right, span, scope)
    if operator in ("%", "//") and not (left.type.on_host and right.type.on_host):
        title = f"`{operator}` is for host scalars"
        scope.report("E0404", title, span, "one side is a tensor")
        return unknown(span)
    type_ = broadcast([left, right], span, scope)
    if type_ is None:
        return unknown(span)
    return ir.Binary(operator, left, right, type_, span)


def _matrix_product(left: ir.Expr, right: ir.Expr, span: Span, scope: Scope) -> ir.Expr:
    for operand in (left, right):
        if operand.type.kind is not ir.Kind.TENSOR:
            scope.report(
                "E0404", f"`@` cannot take a {operand.type}", operand.span,
                "expected a tensor of two axes or more",
            )  # fmt: skip
            return unknown(span)
    shape = left.type.shape.times(right.type.shape)
    type_ = ir.Type(ir.Kind.TENSOR, "number", shape)
    return ir.Binary("@", left, right, type_, span)


def _logic(expr: syntax.Binary, scope: Scope) -> ir.Expr:
    left = check_expression(expr.left, scope)
    decides = "True" if expr.operator == "or" else "False"
    if is_decided(left, expr.left):
        return left if left.text == decides else check_expression(expr.right, scope)
    known = holds(left) if expr.operator == "and" else holds_not(left)
    with scope.knowing(known):
        right = check_expression(expr.right, scope)
    if is_decided(right, expr.right):
        return right if right.text == decides else left
    if left.type.unknown or right.type.unknown:
        return unknown(expr.span)
    for operand in (left, right):
        if operand.type.element != "flag" or operand.type.optional:
            wrong_operand(expr.operator, operand, scope)
            return unknown(expr.span)
    if left.type.on_host != right.type.on_host:
        title = f"`{expr.operator}` joins a host condition and a tensor"
        help = "decide the host condition with `if`, the tensor with `where`"
        scope.report("E0404", title, expr.span, help=help)
        return unknown(expr.span)
    type_ = broadcast([left, right], expr.span, scope, "flag")
    if type_ is None:
        return unknown(expr.span)
    return ir.Binary(expr.operator, left, right, type_, expr.span)


def _compare(expr: syntax.Compare, scope: Scope) -> ir.Expr:
    operands = [check_expression(each, scope) for each in expr.operands]
    links = []
    for operator, left, right in zip(
        expr.operators, operands, operands[1:], strict=False
    ):
        if not _comparable(operator, left, right, scope):
            return unknown(expr.span)
        type_ = broadcast([left, right], expr.span, scope, "flag")
        if type_ is None:
            return unknown(expr.span)
        links.append(ir.Binary(operator, left, right, type_, left.span.to(right.span)))
    result = links[0]
    for link in links[1:]:
        type_ = broadcast([result, link], expr.span, scope, "flag")
        if type_ is None:
            return unknown(expr.span)
        result = ir.Binary("and", result, link, type_, expr.span)
    return result


def _comparable(operator: str, left: ir.Expr, right: ir.Expr, scope: Scope) -> bool:
    if left.type.unknown or right.type.unknown:
        return False
    elements = {left.type.element, right.type.element}
    equality = operator in ("==", "!=")
    if "nothing" in elements:
        other = left if right.type.element == "nothing" else right
        if equality and other.type.optional:
            return True
        scope.report("E0404", f"a {other.type} is never none", other.span)
        return False
    if elements == {"text"} and equality:
        return _among_choices(left, right, scope) and _among_choices(right, left, scope)
    for operand in (left, right):
        number = operand.type.element == "number"
        if operand.type.optional or not (number or (equality and elements == {"flag"})):
            wrong_operand(operator, operand, scope)
            return False
    return True


def _among_choices(hyper: ir.Expr, text: ir.Expr, scope: Scope) -> bool:
    if not (isinstance(hyper, ir.Ref) and isinstance(text, ir.Const)):
        return True
    choices = scope.hypers[hyper.name].choices if hyper.name in scope.hypers else ()
    word = text.text[1:-1]
    if not choices or word in choices:
        return True
    allowed = ", ".join(f'"{choice}"' for choice in choices)
    hint = did_you_mean(word, choices) or f"expected one of {allowed}"
    title = f'"{word}" is none of the choices of `{hyper.name}`'
    scope.report("E0501", title, text.span, hint)
    return False


def _choose(expr: syntax.Choose, scope: Scope) -> ir.Expr:
    condition = check_expression(expr.condition, scope)
    if is_decided(condition, expr.condition):
        taken = expr.then if condition.text == "True" else expr.otherwise
        return check_expression(taken, scope)
    with scope.knowing(holds(condition)):
        then = check_expression(expr.then, scope)
    with scope.knowing(holds_not(condition)):
        otherwise = check_expression(expr.otherwise, scope)
    if any(each.type.unknown for each in (condition, then, otherwise)):
        return unknown(expr.span)
    if condition.type.element != "flag" or condition.type.optional:
        wrong_operand("if", condition, scope)
        return unknown(expr.span)
    if not condition.type.on_host:
        return select(condition, then, otherwise, expr.span, scope)
    then, otherwise = _as_scalars(then, otherwise)
    type_ = _joined(then, otherwise, expr.span, scope)
    return (
        ir.Choose(condition, then, otherwise, type_, expr.span)
        if type_
        else unknown(expr.span)
    )


def _as_scalars(then: ir.Expr, otherwise: ir.Expr) -> tuple[ir.Expr, ir.Expr]:
    """A number beside a tensor scalar as one of these."""
    both = (then, otherwise)
    if {each.type for each in both} != {ir.SCALAR, ir.NUMBER}:
        return both
    return tuple(
        ir.Call("as_tensor", (each,), ir.SCALAR, each.span)
        if each.type.on_host
        else each
        for each in both
    )


def _joined(
    then: ir.Expr, otherwise: ir.Expr, span: Span, scope: Scope
) -> ir.Type | None:
    left, right = then.type, otherwise.type
    if (both := left.joined(right)) is not None:
        return both
    plain = {each.element for each in (left, right)} - {"nothing"}
    if left.on_host and right.on_host and len(plain) == 1:
        return ir.Type(element=plain.pop(), optional=True)
    title = f"one branch is a {left}, the other a {right}"
    help = (
        "make the number a tensor: `full_like(p, 1)`, or choose with `if` and `else:`"
    )
    scope.report("E0405", title, span, help=help)
    return None


def _index(expr: syntax.Index, scope: Scope) -> ir.Expr:
    if is_list(expr.value, scope):
        return check_entry(expr, check_expression(expr.index, scope), scope)
    value = check_expression(expr.value, scope)
    if value.type.unknown:
        return unknown(expr.span)
    if value.type.element != "tuple":
        title = f"a {value.type} has no items"
        scope.report("E0404", title, expr.value.span)
        return unknown(expr.span)
    at = _place(expr.index, value.type.length, scope)
    if at is None:
        return unknown(expr.span)
    type_ = ir.NUMBER if value.type.length == 0 else value.type.item(at)
    if not isinstance(at, int):
        type_ = ir.Type(optional=bool(value.type.nones))
    item = ir.Index(value, at, type_, expr.span)
    if item.type.optional and f"({key(item)} != None)" in scope.facts:
        return replace(item, type=ir.NUMBER)
    return item


def _place(
    written: syntax.Expression, length: int, scope: Scope
) -> int | ir.Expr | None:
    """Which item of a tuple: as it is written, or as the host knows it."""
    if not isinstance(written, syntax.Number):
        index = check_expression(written, scope)
        return index if check_whole(index, scope, "index") else None
    text = written.text
    if text.isdigit() and len(text) < 4 and (int(text) < length or not length):
        return int(text)
    title = f"the items of this tuple are 0 to {length - 1}"
    if not length:
        title = "the items of a tuple count from 0"
    scope.report("E0406", title, written.span)
    return None


def is_list(written: syntax.Expression, scope: Scope) -> bool:
    """Whether a name stands for a list of states here."""
    name = written.text if isinstance(written, syntax.Name) else ""
    if name in scope.locals or scope.place not in (
        "state",
        "step",
        "post_step",
        "mode",
    ):
        return False
    return name in scope.states and scope.states[name].index is not None


def asks_of_target(written: syntax.Expression) -> bool:
    """Whether an expression reads a flag that a target may be made for one value of."""
    return any(
        isinstance(each, syntax.Name)
        and each.text in (vocabulary.CAPTURABLE, vocabulary.DIFFERENTIABLE)
        for each in syntax.walk(written)
    )


def is_decided(condition: ir.Expr, written: syntax.Expression) -> bool:
    """Whether a condition is a flag of one value in this target; then the other branch
    is not part of it.
    """
    constant = isinstance(condition, ir.Const) and condition.type == ir.FLAG
    return constant and asks_of_target(written)


def _flag(value: bool, span: Span) -> ir.Expr:
    return ir.Const(str(value), ir.FLAG, span)


def is_host_flag(condition: ir.Expr, scope: Scope, span: Span) -> bool:
    """Whether this can decide the control flow; says why not."""
    type_ = condition.type
    if type_.unknown:
        return False
    if not type_.on_host:
        title, help = "a tensor cannot decide what the host does", ""
        if scope.place in ("pre_step", "step", "post_step", "mode", "def"):
            help = "`where(condition, a, b)` chooses element by element"
        scope.report("E0401", title, span, f"this is a {type_}", help=help)
        return False
    if type_.element != "flag" or type_.optional:
        hint = "compare it: `!= 0`" if type_.element == "number" else ""
        hint = "it may be none; ask `!= none` first" if type_.optional else hint
        scope.report("E0404", f"a {type_} is no condition", span, hint)
        return False
    return True
