"""Which expressions hold operations on whole matrices: those are worth one call for all
tensors of one shape.
"""

from collections.abc import Callable

from .. import ir, vocabulary

_CALLS = vocabulary.OF_MATRICES | {"matmul", "addmm"}


def of_matrices(rule: ir.Rule) -> Callable[[ir.Expr], bool]:
    """A test for the expressions of a lowered rule; a def with such an operation counts."""
    functions: set[str] = set()

    def found(node: ir.Node) -> bool:
        return any(
            (isinstance(each, ir.Op) and each.name in _CALLS)
            or (isinstance(each, ir.Binary) and each.operator == "@")
            or (isinstance(each, ir.Invoke) and each.function in functions)
            for each in ir.walk(node)
        )

    for _ in rule.functions:
        functions |= {
            each.name for each in rule.functions if any(map(found, each.body))
        }
    return found
