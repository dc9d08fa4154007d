"""Whole numbers, which a loop counts its rounds by and `topk` its entries.

The language has one kind of number, so this is asked of the expression: where it comes
from, down to hypers, shapes and the arguments of a def.
"""

from collections.abc import Iterator

from .. import ir
from .scope import Local, Scope

_KEEPS = ("+", "-", "*", "//", "%")
_ROUNDS = ("floor", "ceil", "round", "trunc", "ndim", "numel", "size", "len")
_ONE_OF = ("max", "min", "abs")


def parts(expr: ir.Expr) -> Iterator[ir.Expr]:
    """The numbers that have to be whole for the expression to be."""
    match expr:
        case ir.Unary("-", operand):
            yield from parts(operand)
        case ir.Binary(operator=operator) if operator in _KEEPS:
            yield from parts(expr.left)
            yield from parts(expr.right)
        case ir.Choose():
            yield from parts(expr.then)
            yield from parts(expr.otherwise)
        case ir.Call(function=name) if name in _ONE_OF:
            for each in expr.arguments:
                yield from parts(each)
        case _:
            yield expr


def is_whole(part: ir.Expr, scope: Scope) -> bool:
    match part:
        case ir.Const():
            return part.text.isdigit()
        case ir.Call(function=name):
            return name in _ROUNDS
        case ir.Ref(role=ir.Role.HYPER):
            hyper = scope.hypers.get(part.name)
            return hyper is not None and hyper.annotation == "int"
        case ir.Ref(role=ir.Role.LOCAL):
            return scope.locals[part.name].whole
        case ir.Ref(role=ir.Role.INDEX | ir.Role.CALLS):
            return True
    return False


def local(value: ir.Expr, scope: Scope) -> Local:
    """A name for a value."""
    if value.type != ir.NUMBER:
        return Local(value.type)
    whole = all(is_whole(each, scope) for each in parts(value))
    return Local(value.type, whole=whole, needs=_needs(value, scope))


def _needs(value: ir.Expr, scope: Scope) -> frozenset[str]:
    names = [each.name for each in parts(value) if isinstance(each, ir.Ref)]
    locals_ = [scope.locals[name] for name in names if name in scope.locals]
    return frozenset().union(*(each.needs for each in locals_))


def check_whole(count: ir.Expr, scope: Scope, what: str = "number of rounds") -> bool:
    """Whether a number of rounds or entries, or an argument that becomes one, is whole; says
    what of it is not. So for an index, an axis or a size.
    """
    if count.type.unknown:
        return False
    if count.type != ir.NUMBER:
        title = f"a {count.type} is no {what}"
        hint = "it may be none; ask `!= none` first" if count.type.optional else ""
        scope.report("E0404", title, count.span, hint)
        return False
    broken = [each for each in parts(count) if not is_whole(each, scope)]
    for each in broken:
        hint = "`floor(...)` makes it whole"
        of_hyper = isinstance(each, ir.Ref) and each.name in scope.hypers
        # A share of the entries is no whole number, but what it comes to is made one.
        if of_hyper and (each is count or "entries" not in what):
            hint = f"declare it as `hyper {each.name}: int`"
        article = "an" if what[0] in "ai" else "a"
        title = f"{article} {what} is whole, and this may be none"
        scope.report("E0404", title, each.span, hint)
    scope.rounds |= _needs(count, scope)
    return not broken
