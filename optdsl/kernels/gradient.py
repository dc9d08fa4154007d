"""A gradient with memory of its own, where a step assigns it: the model's own is not to be
changed.
"""

from dataclasses import replace

from .. import ir


def with_own_gradient(block: ir.Block, name: str) -> ir.Block:
    """The block with a local that starts as the gradient in its place."""

    def renamed(node: ir.Node) -> ir.Node:
        node = ir.mapped(node, renamed)
        if isinstance(node, ir.Ref) and node.role is ir.Role.GRAD:
            return replace(node, name=name, role=ir.Role.LOCAL)
        return node

    span = block[0].span
    grad = ir.Ref("grad", ir.Role.GRAD, ir.TENSOR, span)
    start = ir.Assign(ir.Ref(name, ir.Role.LOCAL, ir.TENSOR, span), grad, span)
    return (start, *map(renamed, block))
