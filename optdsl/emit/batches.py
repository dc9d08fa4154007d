"""Calls on matrices of many parameters: one for all that have the same shapes.

In: an expression over rows of lists. Out: a call of `_batched` for it.
"""

from collections.abc import Callable

from .. import ir
from .expr import Name, text

BATCHED = '''

def _batched(function: Callable[..., Any], *columns: list[Tensor]) -> list[Any]:
    """The function of each row, in one call for all rows of the same shapes."""
    rows = list(zip(*columns, strict=True))
    alike: dict[Any, list[int]] = {}
    for at, row in enumerate(rows):
        alike.setdefault(tuple(each.shape for each in row), []).append(at)
    results: list[Any] = [None] * len(rows)
    for places in alike.values():
        if len(places) == 1:
            results[places[0]] = function(*rows[places[0]])
            continue
        stacked = map(torch.stack, zip(*(rows[at] for at in places), strict=True))
        values = torch.vmap(function)(*stacked)
        if isinstance(values, tuple):
            values = zip(*values, strict=True)
        for at, value in zip(places, values, strict=True):
            results[at] = value
    return results
'''


def batched(
    value: ir.Expr, host: Name, listed: Name, claim: Callable[[str], str]
) -> str:
    """The call for an expression. `host` and `listed` spell what is known of all rows,
    and the list of a tensor of each; `claim` makes the names of arguments.
    """
    columns: dict[ir.Ref, str] = {}

    def row(node: ir.Node) -> ir.Node:
        """What the host knows as it is known of the first row, for all are alike."""
        if isinstance(node, ir.Ref) and not node.type.on_host:
            return node
        if isinstance(node, ir.Const) or not node.type.on_host:
            return ir.mapped(node, row)
        return _hosted(node, host)

    def own(ref: ir.Ref) -> str:
        if ref not in columns:
            columns[ref] = claim(ref.name)
        return columns[ref]

    written = text(row(value), own)
    arguments = ", ".join(columns.values())
    function = written.removesuffix(f"({arguments})")
    if function == written or not function.isidentifier():
        function = f"lambda {arguments}: {written}"
    return f"_batched({', '.join([function, *map(listed, columns)])})"


def _hosted(node: ir.Expr, host: Name) -> ir.Expr:
    if isinstance(node, ir.Ref):
        return ir.Const(host(node), node.type, node.span)
    return ir.mapped(node, lambda each: _hosted(each, host))
