"""Tensors seen as matrices, so that what a rule reduces are lines and columns of them.

In: a step without calls of defs. Out: the same, where every reduction along axes names
axes of a matrix, and every type has the shape that is left of it. Raises Refusal where
not all that the rule does can be seen so.
"""

from collections.abc import Iterator
from dataclasses import replace

from .. import ir, vocabulary
from ..ir.kernels import View, shape_of
from .dims import ANY, Dims, exchanged, holding, seen
from .refusal import Refusal

_BROADCAST = ("elementwise", "compared")
_BOTH = frozenset({-1, -2})


def reduces_axes(rule: ir.Rule, step: ir.Block) -> bool:
    """Whether any tensor of a step has another shape than the parameter."""
    nodes = [node for each in step for node in ir.walk(each)]
    types = [
        each.type for each in (*rule.own, *ir.targets(step), *nodes) if _typed(each)
    ]
    return any(
        each.kind is ir.Kind.TENSOR and each.shape != ir.LIKE_PARAM for each in types
    )


def _typed(node: object) -> bool:
    return isinstance(getattr(node, "type", None), ir.Type)


def of_matrices(rule: ir.Rule, step: ir.Block) -> tuple[View, int, ir.Block]:
    """How the tensors of a step are seen, those of how many axes at least, and the step."""
    refusals = []
    for view in View:
        try:
            matrices = Matrices(rule, view)
            block = matrices.block(step, matrices.dims)
            return view, matrices.least, block
        except Refusal as refusal:
            refusals.append(refusal)
    if any(map(_is_product, (node for each in step for node in ir.walk(each)))):
        raise Refusal("a matrix product")
    raise refusals[0]


def _is_product(node: ir.Node) -> bool:
    """Whether it multiplies matrices of which only sizes say what comes out."""
    return (
        isinstance(node, ir.Binary)
        and node.operator == "@"
        and not node.type.shape.known
    )


class Matrices:
    """Writes blocks anew; `shapes` are those of the tensors that have a name, `dims` how
    many axes a parameter may have.
    """

    def __init__(self, rule: ir.Rule, view: View) -> None:
        self.view = view
        self.shapes: dict[str, ir.Shape] = {"p": ir.LIKE_PARAM, "grad": ir.LIKE_PARAM}
        self.dims = ANY
        self.least = max(ANY)  # with which anything is reduced along axes
        for each in rule.requires:
            self.dims = holding(each.condition, self.dims)
        for state in rule.own:
            if state.type.kind is ir.Kind.TENSOR:
                self.shapes[state.name] = self._of_state(state)

    def _of_state(self, state: ir.State) -> ir.Shape:
        shape = state.type.shape
        if state.index is not None:
            raise Refusal("a list of states beside a reduction along axes")
        if shape == ir.LIKE_PARAM:
            return shape
        if not shape.known or len(shape.reductions) > 1:
            raise Refusal("tensors of other shapes")
        dims = self.dims
        if state.when is not None:
            dims = holding(state.when, dims)
        self.least = min(self.least, *dims)
        ((axes, keepdim),) = shape.reductions
        return shape_of(self._axes(axes, dims), keepdim)

    def _axes(self, axes: tuple[int, ...], dims: Dims) -> frozenset[int]:
        found = seen(self.view, axes, dims)
        if found is None:
            raise Refusal("a reduction along axes that are neither lines nor columns")
        return found

    # ---- statements

    def block(self, block: ir.Block, dims: Dims) -> ir.Block:
        return tuple(
            each for statement in block for each in self._statement(statement, dims)
        )

    def _statement(self, statement: ir.Statement, dims: Dims) -> Iterator[ir.Statement]:
        match statement:
            case ir.If(condition, then, otherwise):
                chosen = self._expr(condition, dims)
                taken = holding(condition, dims), holding(condition, dims, False)
                sides = [
                    self.block(each, of) if of else ()
                    for each, of in zip((then, otherwise), taken, strict=True)
                ]
                if not all(taken) or sides[0] == sides[1]:
                    yield from sides[0] or sides[1]
                    return
                then, otherwise = sides
                yield replace(
                    statement, condition=chosen, then=then, otherwise=otherwise
                )
            case ir.Each(body=body):
                yield replace(statement, body=self.block(body, dims))
            case ir.Repeat(body=body):
                self.block(body, dims)
                raise Refusal("a loop beside a reduction along axes")
            case ir.Assign(target, value):
                value = self._expr(value, dims)
                yield replace(
                    statement, target=self._target(target, value), value=value
                )
            case ir.Unpack(targets, ir.Pack(items) as pack):
                items = tuple(self._expr(each, dims) for each in items)
                targets = tuple(map(self._target, targets, items))
                yield replace(
                    statement, targets=targets, value=replace(pack, items=items)
                )
            case _:
                yield statement

    def _target(self, target: ir.Ref, value: ir.Expr) -> ir.Ref:
        """What is assigned, with the shape that its value has."""
        if target.type.kind is not ir.Kind.TENSOR:
            return target
        shape = target.type.shape if value.type.kind is not ir.Kind.TENSOR else None
        if target.role is ir.Role.LOCAL:
            shape = shape or value.type.shape
        else:
            shape = self.shapes.get(target.name, ir.LIKE_PARAM)
            if value.type.kind is ir.Kind.TENSOR:
                _broadcast([shape, value.type.shape], to=shape)
        if self.shapes.setdefault(target.name, shape) != shape:
            raise Refusal("a name for tensors of several shapes")
        return replace(target, type=replace(target.type, shape=shape))

    # ---- expressions

    def _expr(self, expr: ir.Expr, dims: Dims) -> ir.Expr:
        match expr:
            case ir.Ref(name=name) if expr.type.kind is ir.Kind.TENSOR:
                shape = self.shapes.get(name, expr.type.shape)
                if shape != ir.LIKE_PARAM:
                    self.least = min(self.least, *dims)
                return replace(expr, type=replace(expr.type, shape=shape))
            case ir.Call("transpose", (ir.Call("transpose", (x,)),)):
                return self._expr(x, dims)
            case ir.Call(
                "transpose", (ir.Call(arguments=(ir.Call("transpose", (x,)),)) as call,)
            ) if call.dim is not None and call.keepdim:
                axes = exchanged(call.dim, dims)
                if axes is None:
                    raise Refusal("another layout or precision")
                return self._expr(replace(call, arguments=(x,), dim=axes), dims)
            case ir.Call(dim=axes) if axes is not None and expr.type.kind is (
                ir.Kind.TENSOR
            ):
                return self._reduced(expr, dims)
            case ir.Call("size" | "numel" | "ndim"):
                return self._size(expr, dims)
            case ir.Choose(condition, then, otherwise):
                chosen = self._expr(condition, dims)
                sides = holding(condition, dims), holding(condition, dims, False)
                if not all(sides):
                    return self._expr(then if sides[0] else otherwise, dims)
                then, otherwise = map(self._expr, (then, otherwise), sides)
                return _shaped(
                    replace(expr, condition=chosen, then=then, otherwise=otherwise),
                    [then, otherwise],
                )
        expr = ir.mapped(expr, lambda each: self._expr(each, dims))
        match expr:
            case ir.Binary("@", left, right):
                return _outer_product(expr, left, right, dims)
            case ir.Call("zeros_like" | "ones_like" | "full_like", (x, *_)):
                return _shaped(expr, [x])
            case ir.Call(function, arguments):
                group = vocabulary.FUNCTIONS[function].group
                return _shaped(expr, arguments) if group in _BROADCAST else expr
            case ir.Unary(_, operand):
                return _shaped(expr, [operand])
            case ir.Binary(_, left, right):
                return _shaped(expr, [left, right])
        return expr

    def _reduced(self, call: ir.Call, dims: Dims) -> ir.Expr:
        """A reduction along axes, of those that are not reduced yet; first along lines
        where it is along both.
        """
        (of,) = (self._expr(each, dims) for each in call.arguments)
        self.least = min(self.least, *dims)
        before = _kept_axes(of.type.shape)
        along = self._axes(call.dim, dims) - before
        if not along:
            if not call.keepdim:
                raise Refusal("tensors without some of their axes")
            absolute = ir.Call("abs", (of,), of.type, call.span)
            return absolute if call.function == "norm" else of
        if along == _BOTH:
            inner = replace(call.type, shape=shape_of(frozenset({-1})))
            of = replace(call, arguments=(of,), type=inner, dim=(-1,), keepdim=True)
            before, along = frozenset({-1}), frozenset({-2})
        type_ = replace(call.type, shape=shape_of(before | along, call.keepdim))
        return replace(call, arguments=(of,), type=type_, dim=tuple(along))

    def _size(self, call: ir.Call, dims: Dims) -> ir.Expr:
        """What the host knows of a tensor, of which an axis may be reduced."""
        x, *rest = (self._expr(each, dims) for each in call.arguments)
        if x.type.kind is not ir.Kind.TENSOR:
            return replace(call, arguments=(x, *rest))
        axes = _kept_axes(x.type.shape)
        if call.dim is not None and any(
            not -ndim <= axis < ndim for axis in call.dim for ndim in dims
        ):
            raise Refusal("the size of an axis that a tensor may lack")
        if call.function == "numel" and axes:
            raise Refusal("the number of elements of a reduced tensor")
        if call.function == "size" and axes:
            if call.dim is None:
                raise Refusal("the size of an axis that is computed")
            if self._axes(call.dim, dims) <= axes:
                return ir.Const("1", ir.NUMBER, call.span)
        own = ir.Ref("p", ir.Role.PARAM, ir.TENSOR, call.span)
        return replace(call, arguments=(own, *rest))


def _outer_product(
    expr: ir.Binary, left: ir.Expr, right: ir.Expr, dims: Dims
) -> ir.Expr:
    """What has one number of each line, times what has one of each column: a matrix
    product that adds nothing up.
    """
    shapes = left.type.shape, right.type.shape
    if not all(each.known for each in shapes):
        raise Refusal("a matrix product")
    ends = [(-1 in _axes_of(shapes[0])), (-2 in _axes_of(shapes[1]))]
    if not all(ends) or min(dims) < 2:
        raise Refusal("a matrix product")
    return _shaped(replace(expr, operator="*"), [left, right])


def _shaped(expr: ir.Expr, operands: list[ir.Expr]) -> ir.Expr:
    """An expression with the shape that its operands have, broadcast."""
    shapes = [each.type.shape for each in operands if each.type.kind is ir.Kind.TENSOR]
    if expr.type.kind is not ir.Kind.TENSOR or not shapes:
        return expr
    return replace(expr, type=replace(expr.type, shape=_broadcast(shapes)))


def _broadcast(shapes: list[ir.Shape], to: ir.Shape | None = None) -> ir.Shape:
    first = shapes[0]
    if any(not each.known for each in shapes):
        raise Refusal("tensors of other shapes")
    if any(each != first for each in shapes):
        axes = frozenset.intersection(*map(_kept_axes, shapes))
        first = shape_of(axes)
    if to is not None and first != to:
        raise Refusal("tensors of other shapes")
    return first


def _axes_of(shape: ir.Shape) -> frozenset[int]:
    return frozenset(shape.reductions[0][0]) if shape.reductions else frozenset()


def _kept_axes(shape: ir.Shape) -> frozenset[int]:
    """The axes of size 1."""
    if not shape.known:
        raise Refusal("tensors of other shapes")
    if shape.reductions and not shape.reductions[0][1]:
        raise Refusal("tensors without some of their axes")
    return _axes_of(shape)
