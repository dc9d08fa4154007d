"""Which expressions hold operations on whole matrices: those are worth one call for all
tensors of one shape.
"""

from collections.abc import Callable

from .. import ir, vocabulary

_CALLS = vocabulary.OF_MATRICES | {"matmul", "addmm"}


def _is_outer(op: ir.Op) -> bool:
    """Whether a product is one of a column and a row, which sums nothing."""
    return op.name == "matmul" and op.arguments[0].type.shape.is_column


def of_matrices(rule: ir.Rule) -> Callable[[ir.Expr], bool]:
    """A test for the expressions of a lowered rule; a def with such an operation counts."""
    functions: set[str] = set()

    def found(node: ir.Node) -> bool:
        return any(
            (isinstance(each, ir.Op) and each.name in _CALLS and not _is_outer(each))
            or (isinstance(each, ir.Binary) and each.operator == "@")
            or (isinstance(each, ir.Invoke) and each.function in functions)
            for each in ir.walk(node)
        )

    for _ in rule.functions:
        functions |= {
            each.name for each in rule.functions if any(map(found, each.body))
        }
    return found
