"""Lists of tensors are let go as soon as no one reads them, so that others can have their
memory.

In: a block that `flatten` has been through. Out: the same block with `Forget` after the
last statement that mentions a list.
"""

from dataclasses import replace

from .. import ir
from ..source import Span

Mention = tuple[str, Span | None]
MADE_UP = Span(0, 0)
"""Where the names stand that `flatten` makes up."""


def forgetting(
    block: ir.Block, elsewhere: frozenset[Mention] = frozenset(), later: bool = False
) -> ir.Block:
    """The block in which lists of tensors are let go before others are made. Those that
    are mentioned `elsewhere` stay; `later` others are made after the block.
    """
    mentions = [frozenset(_mentions(each)) for each in block]
    owned = {each.target.name for each in ir.statements(block) if _makes(each)}
    bound = {"grad"}
    result: list[ir.Statement] = []
    for at, statement in enumerate(block):
        rest = elsewhere.union(*mentions[at + 1 :])
        makes = later or any(map(_makes, ir.statements(block[at + 1 :])))
        if isinstance(statement, ir.If):
            around = rest.union(*mentions[:at])
            then, otherwise = (
                forgetting(each, around | frozenset(_block_mentions(other)), makes)
                for each, other in (
                    (statement.then, statement.otherwise),
                    (statement.otherwise, statement.then),
                )
            )
            statement = replace(statement, then=then, otherwise=otherwise)
        result.append(statement)
        bound -= _forgotten(statement)
        bound |= _bound((statement,))
        names = dict.fromkeys(
            name
            for name, _ in sorted(mentions[at] - rest, key=str)
            if name in bound and name in owned | {"grad"}
        )
        if names and makes:
            result.append(ir.Forget(tuple(names), statement.span))
            bound -= {*names} - {"grad"}
    return tuple(result)


def _bound(block: ir.Block) -> set[str]:
    """The names that have a value after a block, whichever way it took."""
    names: set[str] = set()
    for statement in block:
        match statement:
            case ir.If():
                names |= _bound(statement.then) & _bound(statement.otherwise)
            case ir.Assign(target=target):
                names.add(target.name)
            case ir.Forget(names=forgotten):
                names -= {*forgotten}
    return names


def _forgotten(statement: ir.Statement) -> set[str]:
    """The names that have no value any more after one of the ways through a statement."""
    inside = ir.statements((statement,))
    return {
        name for each in inside if isinstance(each, ir.Forget) for name in each.names
    }


def _block_mentions(block: ir.Block) -> list[Mention]:
    return [mention for each in block for mention in _mentions(each)]


def _mentions(statement: ir.Statement) -> list[Mention]:
    """The lists of tensors that a statement reads or makes. A name that `flatten` made up
    is another one in every statement of the spec.
    """
    result: list[Mention] = []
    for each in ir.statements((statement,)):
        refs = [] if isinstance(each, (ir.If, ir.Repeat)) else list(ir.reads(each))
        refs += [each.target] if isinstance(each, ir.Assign) else []
        for ref in refs:
            tensor = ref.type.kind is ir.Kind.TENSOR
            if tensor and ref.role in (ir.Role.LOCAL, ir.Role.GRAD):
                result.append((ref.name, each.span if ref.span == MADE_UP else None))
    return result


def _makes(statement: ir.Statement) -> bool:
    """Whether a statement makes a list of tensors as large as the parameters."""
    if not isinstance(statement, ir.Assign) or isinstance(statement.value, ir.Ref):
        return False
    return statement.target.type.kind is ir.Kind.TENSOR
