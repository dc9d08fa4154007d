"""Memory that no one reads again is written over: `x.mul(a).add(b)` becomes
`x.mul_(a).add_(b)`, and what `p` or a state is given ends up in its own memory.
"""

import dataclasses

from .. import ir
from ..source import Span
from .aliases import (
    BORROWED,
    VIEWS,
    Memory,
    after_rounds,
    is_storage,
    live_after,
    live_before,
    sharing,
    with_memory,
)

IN_PLACE = frozenset(
    "add sub mul div addcmul addcdiv lerp neg abs sqrt rsqrt reciprocal pow exp "
    "expm1 log log1p log2 log10 sin cos tan asin acos atan sinh cosh tanh erf sigmoid sign "
    "floor ceil round trunc clamp atan2".split()
)
"""Not square: torch.func.functionalize does not know `square_`."""
INTO_OUT = frozenset({"maximum", "minimum"})
"""These have no in-place form; they write into `out=`, which has to have a name."""


def reuse(rule: ir.Rule) -> ir.Rule:
    return with_memory(rule, _block)


def _block(block: ir.Block, memory: Memory, live: set[str]) -> ir.Block:
    result = []
    for statement, after in zip(block, live_after(block, live), strict=True):
        match statement:
            case ir.If():
                other = memory.copy()
                then = _block(statement.then, memory, after)
                otherwise = _block(statement.otherwise, other, after)
                memory.merge(other)
                statement = dataclasses.replace(
                    statement, then=then, otherwise=otherwise
                )
            case ir.Repeat(body=body) | ir.Each(body=body):
                after_rounds(statement, memory)
                none = memory.copy()
                body = _block(body, memory, live_before(statement, after))
                memory.merge(none)
                statement = dataclasses.replace(statement, body=body)
            case ir.Assign(target, value, span) if not target.type.on_host:
                value = Reuse(memory, target, after).expr(value, set())
                if is_storage(target):
                    if _is_own_view(value, target, memory):
                        value = ir.Op("clone", (value,), (), value.type, value.span)
                    statement = _written(target, value, span)
                else:
                    memory.of[target.name] = memory.behind(value)
                    if target.role is ir.Role.GRAD and BORROWED in memory.behind(value):
                        # It may be the model's, and not the list that was handed over.
                        memory.of[target.name] |= {"rebound"}
                    statement = ir.Assign(target, value, span)
                    if (
                        isinstance(value, ir.Op)
                        and value.in_place
                        and ir.written(value) == target
                    ):
                        statement = ir.Effect(value, span)
            case ir.Unpack(targets, value) if not value.type.on_host:
                value = Reuse(memory, None, after).expr(value, set())
                for target in targets:
                    memory.of[target.name] = memory.behind(value)
                statement = dataclasses.replace(statement, value=value)
            case ir.Return(value, span):
                statement = ir.Return(
                    Reuse(memory, None, after).expr(value, set()), span
                )
        result.append(statement)
    return tuple(result)


def _is_own_view(value: ir.Expr, target: ir.Ref, memory: Memory) -> bool:
    """Whether a value is the memory that it is to be copied to, in another layout."""
    is_view = isinstance(value, ir.Op) and value.name in VIEWS
    return is_view and bool(memory.behind(value) & memory.named(target.name))


def _written(target: ir.Ref, value: ir.Expr, span: Span) -> ir.Statement:
    if isinstance(value, ir.Op) and value.in_place and ir.written(value) == target:
        return ir.Effect(value, span)
    name = "copy"
    if (
        isinstance(value, ir.Op)
        and value.name == "full_like"
        and value.arguments[0] == target
    ):
        name, value = "fill", value.arguments[1]
    return ir.Effect(ir.Op(name, (target, value), (), target.type, span, True), span)


def _tensors(op: ir.Op) -> int:
    return sum(each.type.kind is ir.Kind.TENSOR for each in op.arguments)


class Reuse:
    """Marks the calls of one statement that may run in place."""

    def __init__(self, memory: Memory, target: ir.Ref | None, after: set[str]) -> None:
        self.memory = memory
        self.target = target
        self.after = after

    def expr(self, expr: ir.Expr, later: set[str]) -> ir.Expr:
        """`later` are the names read in this statement once `expr` has its value."""
        if expr.type.on_host:
            return expr
        match expr:
            case ir.Op():
                return self._op(expr, later)
            case ir.Binary():
                left, right = self._each((expr.left, expr.right), later)
                return dataclasses.replace(expr, left=left, right=right)
            case ir.Invoke():
                return dataclasses.replace(
                    expr, arguments=self._each(expr.arguments, later)
                )
        return expr

    def _each(
        self, arguments: tuple[ir.Expr, ...], later: set[str]
    ) -> tuple[ir.Expr, ...]:
        done = []
        for at, argument in enumerate(arguments):
            # A value that waits for the arguments after it must not change under them,
            # nor they under it: both count as read later.
            rest = {
                each.name
                for other in arguments[:at] + arguments[at + 1 :]
                for each in ir.reads(other)
            }
            done.append(self.expr(argument, later | rest))
        return tuple(done)

    def _op(self, op: ir.Op, later: set[str]) -> ir.Op:
        op = dataclasses.replace(op, arguments=self._each(op.arguments, later))
        first = op.arguments[0]
        if op.name not in IN_PLACE | INTO_OUT or first.type != op.type:
            return op
        if op.type.kind is ir.Kind.SCALAR and not is_storage(ir.written(first)):
            return op  # A rate in a tensor may be more precise than this.
        root = ir.written(first)
        own = is_storage(root) and self._is_target(root)
        if not op.type.shape.known and _tensors(op) > 1 and not own:
            return op  # Of two shapes, the result may be larger than either.
        if isinstance(root, ir.Op) and root.name in VIEWS:
            return op
        if isinstance(root, ir.Ref):
            if isinstance(first, ir.Op) or self._may_write(root, later):
                return dataclasses.replace(op, in_place=True)
            if op.name in IN_PLACE and self._may_consume(root, later):
                return dataclasses.replace(op, may_consume=True)
        elif isinstance(first, (ir.Op, ir.Binary)) and op.name in IN_PLACE:
            return dataclasses.replace(op, in_place=True)
        return op

    def _may_consume(self, ref: ir.Ref, later: set[str]) -> bool:
        """Whether this is the last look at a gradient that is the model's or a copy."""
        buffers = self.memory.named(ref.name)
        if ref.role is not ir.Role.GRAD or any(
            each.isidentifier() for each in buffers - {BORROWED}
        ):
            return False
        mine = self.target.name if self.target else ""
        readers = ((self.after - {mine}) | later) & {"grad", *self.memory.of}
        return not sharing(self.memory, buffers, readers)

    def _is_target(self, ref: ir.Ref) -> bool:
        """Whether the statement assigns the same storage, of a list the same one."""
        target = self.target
        return target is not None and (target.name, target.index) == (
            ref.name,
            ref.index,
        )

    def _may_write(self, ref: ir.Ref, later: set[str]) -> bool:
        buffers = self.memory.named(ref.name)
        if is_storage(ref):
            if not self._is_target(ref):
                return False
        elif BORROWED in buffers or any(each.isidentifier() for each in buffers):
            return False
        mine = self.target.name if self.target else ""
        readers = (self.after - {mine}) | later
        return not sharing(self.memory, buffers, readers)
