"""Names on several paths: after a branch, and from round to round of a loop."""

from dataclasses import replace

from .. import ir, syntax
from ..source import Span
from .scope import Local, Scope


def merged(
    left: dict[str, Local],
    then: ir.Block,
    right: dict[str, Local],
    otherwise: ir.Block,
    looped: bool = False,
) -> dict[str, Local]:
    """The locals after a branch, or a loop; a path that ends does not count."""
    if then and isinstance(then[-1], (ir.Return, ir.Skip)):
        return right
    if otherwise and isinstance(otherwise[-1], (ir.Return, ir.Skip)):
        return left
    found = {}
    for name in dict.fromkeys([*left, *right]):
        one, other = left.get(name), right.get(name)
        if one is None or other is None:
            assigned = _assigned_in(then if one else otherwise, name)
            span = assigned or Span(0, 1)
            found[name] = Local((one or other).type, missing=span, looped=looped)
        elif one.missing or one.conflict:
            found[name] = one
        elif other.missing or other.conflict:
            found[name] = other
        elif one.type == other.type:
            both = one.whole and other.whole
            found[name] = replace(other, whole=both, needs=one.needs | other.needs)
        elif one.type.unknown or other.type.unknown:
            found[name] = one if one.type.unknown else other
        elif (both := one.type.joined(other.type)) is not None:
            found[name] = Local(both)
        else:
            found[name] = Local(one.type, conflict=other.type)
    return found


def _assigned_in(block: ir.Block, name: str) -> Span | None:
    for each in ir.statements(block):
        if isinstance(each, ir.Assign) and each.target.name == name:
            return each.target.span
        for ref in each.targets if isinstance(each, ir.Unpack) else ():
            if ref.name == name:
                return ref.span
    return None


def changes_kind(
    name: str,
    before: dict[str, Local],
    after: dict[str, Local],
    body: ir.Block,
    scope: Scope,
) -> bool:
    """Whether a loop gives a name another kind than it had before; says where."""
    if not after[name].conflict or before[name].conflict:
        return False
    title = (
        f"`{name}` is a {before[name].type} before the loop "
        f"and a {after[name].type} after a round"
    )
    span = _assigned_in(body, name)
    scope.report("E0405", title, span, "a name has one kind in all rounds")
    return True


def assigned(body: tuple[syntax.Statement, ...]) -> set[str]:
    """The names that a block assigns."""
    found = set()
    for statement in body:
        for each in syntax.walk(statement):
            if isinstance(each, syntax.Assign):
                found.add(each.target.text)
            elif isinstance(each, syntax.Unpack):
                found |= {name.text for name in each.targets}
    return found
