"""Which statements of a step torch has to do: those that look at more of a tensor than one
element at a time.

In: a step and the defs that it calls. Out: the step whose statements are each for torch or
for kernels, where what torch works out in the middle of arithmetic has a name.
"""

from collections.abc import Iterable
from dataclasses import replace

from .. import ir, vocabulary
from ..ir.kernels import REDUCTIONS
from .entries import OF_SHAPES
from .names import free

_GROUPS = frozenset({"layout", "made", "parts", "drawn", "largest", "viewed"})
_LIKE = frozenset({"zeros_like", "ones_like", "full_like", "randn_like", "rand_like"})
LOOKS = OF_SHAPES | _LIKE
"""What looks at its first argument without reading numbers of it."""


class Carving:
    """Tells what is for torch; `functions` are the defs that are."""

    def __init__(self, functions: Iterable[ir.Function], taken: set[str]) -> None:
        self.taken = taken
        self.functions: frozenset[str] = frozenset()
        functions = [*functions]
        for _ in functions:
            self.functions |= {
                each.name
                for each in functions
                if any(map(self.is_for_torch, each.body))
            }

    def is_for_torch(self, node: ir.Node) -> bool:
        """Whether torch has to do this, or a part of it."""
        return any(map(self._is_itself, ir.walk(node))) or any(
            ref.role is ir.Role.STATE and not ref.type.shape.known
            for ref in ir.targets((node,))
        )

    def _is_itself(self, node: ir.Node) -> bool:
        match node:
            case ir.Binary("@"):
                return True
            case ir.Invoke(function):
                return function in self.functions
            case ir.Ref(role=ir.Role.STATE):
                return not node.type.shape.known
            case ir.Repeat(count):
                return not _is_of_group(count)
            case ir.Call(function, arguments):
                known = all(each.type.shape.known for each in arguments)
                if function in REDUCTIONS and (len(arguments) == 1 or node.dim):
                    return not known
                return vocabulary.FUNCTIONS[function].group in _GROUPS
        return False

    def block(self, block: ir.Block) -> ir.Block:
        """The block with names for what torch works out in the middle of arithmetic."""
        return tuple(each for one in block for each in self._statement(one))

    def _statement(self, statement: ir.Statement) -> list[ir.Statement]:
        match statement:
            case ir.If(then=then, otherwise=otherwise):
                then, otherwise = self.block(then), self.block(otherwise)
                return [replace(statement, then=then, otherwise=otherwise)]
            case ir.Assign(value=value):
                before: list[ir.Statement] = []
                changed = self._carved(value, before)
                if changed is not None and not isinstance(changed, ir.Ref):
                    return [*before, replace(statement, value=changed)]
        return [statement]

    def _carved(self, expr: ir.Expr, before: list[ir.Statement]) -> ir.Expr | None:
        """The expression with names for the parts that are for torch, which are assigned
        `before`; None where one of them is no tensor of numbers.
        """
        if not self.is_for_torch(expr):
            return expr
        if isinstance(expr, ir.Ref):
            return None
        # Of two values one alone is to be worked out.
        if not self._is_itself(expr) and not isinstance(expr, ir.Choose):
            parts = [(x, self._carved(x, before)) for x in ir.children(expr)]
            if any(part is None for _, part in parts):
                return None
            return ir.mapped(expr, dict(parts).__getitem__)
        if expr.type.kind is not ir.Kind.TENSOR or expr.type.element != "number":
            return None
        name = free(_noun(expr), self.taken)
        target = ir.Ref(name, ir.Role.LOCAL, expr.type, expr.span)
        before.append(ir.Assign(target, expr, expr.span))
        return target


def _is_of_group(count: ir.Expr) -> bool:
    """Whether a number of rounds is one that hypers say."""
    nodes = [*ir.walk(count)]
    looks = any(isinstance(x, ir.Call) and x.function in OF_SHAPES for x in nodes)
    return not looks and all(x.role is ir.Role.HYPER for x in ir.reads(count))


def _noun(expr: ir.Expr) -> str:
    match expr:
        case ir.Call("reshape_as" | "transpose" | "bfloat16", (inner, *_)):
            return _noun(inner)
        case ir.Call("randn_like" | "rand_like"):
            return "noise"
        case ir.Call(function) | ir.Invoke(function):
            return function
    return "product"


def looking_at_p(node: ir.Node) -> ir.Node:
    """The same, where what is asked of a tensor of the parameter's shape, but for its
    numbers, is asked of the parameter.
    """
    node = ir.mapped(node, looking_at_p)
    match node:
        case ir.Call(function, (ir.Ref() as x, *others)) if function in LOOKS:
            if x.type == ir.TENSOR:
                own = replace(x, name="p", role=ir.Role.PARAM)
                return replace(node, arguments=(own, *others))
    return node


def like_param(node: ir.Node) -> ir.Node:
    """The same, where tensors whose shape is not known are of the parameter's. All that is
    done with them is done element by element, so that it does not matter when a tensor is
    broadcast.
    """
    node = ir.mapped(node, like_param)
    if isinstance(node, (ir.Assign, ir.Repeat)) and node.target is not None:
        return replace(node, target=like_param(node.target))
    type_ = getattr(node, "type", None)
    if type_ is None or type_.shape.known:
        return node
    return replace(node, type=replace(type_, shape=ir.LIKE_PARAM))
