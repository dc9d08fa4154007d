"""A step as one flat run of assignments to numbers and to elements.

In: the checked step, without calls of defs. Out: the same with tuples taken apart, phases
laid end to end, every reduction a statement, what the options decide as options, and the
host's looks at a tensor as numbers that are asked for. Raises Refusal for what no kernel
does.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from .. import ir, vocabulary
from ..ir.kernels import REDUCTIONS, Option, level
from .entries import Entries
from .names import free
from .refusal import Refusal

_OF_NO_NUMBER = {
    "tuple": "a tuple that has a name of its own",
    "text": "a text that is computed",
    "nothing": "a number that may be none",
}
_REFUSED = {
    "layout": "tensors of other shapes",
    "made": "tensors of other shapes",
    "parts": "a decomposition of matrices",
    "drawn": "random numbers",
    "largest": "the largest entries of a tensor",
}


class Plain:
    """Collects the statements of a step, its options and what it asks the host for."""

    def __init__(self, entries: Entries, taken: set[str], step: ir.Block) -> None:
        self.entries = entries
        self.taken = taken
        self.assigned = Counter(each.name for each in ir.targets(step))
        self.options: dict[str, Option] = {}
        self.asked: dict[str, ir.Expr] = {}
        self.looks: dict[ir.Expr, str] = {}
        self.inside = 0  # how many branches around, none of which may be taken
        self.same: dict[str, ir.Expr] = {}  # hypers that may be none, by another name

    def _free(self, name: str) -> str:
        return free(name, self.taken)

    def block(self, block: ir.Block) -> ir.Block:
        return tuple(each for one in block for each in self._statement(one))

    def _statement(self, statement: ir.Statement) -> Iterator[ir.Statement]:
        before: list[ir.Statement] = []
        match statement:
            case ir.Each(body=body):
                yield from self.block(body)
            case ir.Repeat(count, body, target=index):
                times = self.entries.count(count)
                if index is None:
                    name = self._free("turn")
                    index = ir.Ref(name, ir.Role.INDEX, ir.NUMBER, statement.span)
                self.entries.rounds[index.name] = times
                body = self.block(body)
                yield replace(statement, count=times, body=body, target=index)
            case ir.If(condition, then, otherwise, span):
                chosen = self._condition(condition, before)
                self.inside += 1
                then, otherwise = self.block(then), self.block(otherwise)
                self.inside -= 1
                yield from before
                yield from _decided(ir.If(chosen, then, otherwise, span))
            case ir.Assign(target, value, span):
                yield from self._assign(target, value, span)
            case ir.Unpack(targets, ir.Pack(items), span):
                yield from self._several(targets, items, span)
            case ir.Unpack(targets, ir.Ref() as value, span):
                items = tuple(
                    ir.Index(value, at, value.type.item(at), span)
                    for at in range(len(targets))
                )
                yield from self._several(targets, items, span)
            case _:
                raise Refusal("tuples that are computed")

    def _several(self, targets, items, span) -> Iterator[ir.Statement]:
        """Assignments at once: where one reads what another assigns, by way of names."""
        names = {each.name for each in targets}
        if any(ref.name in names for each in items for ref in ir.reads(each)):
            held = [
                ir.Ref(self._free(f"new_{each.name}"), ir.Role.LOCAL, item.type, span)
                for each, item in zip(targets, items, strict=True)
            ]
            for target, item in zip(held, items, strict=True):
                yield from self._assign(target, item, span)
            items = tuple(held)
        for target, item in zip(targets, items, strict=True):
            yield from self._assign(target, item, span)

    def _assign(self, target: ir.Ref, value: ir.Expr, span) -> Iterator[ir.Statement]:
        if target.index is not None:
            self.entries.check(target.name, target.index)
        _check_type(target.type, span)
        if self.assigned[target.name] == 1 and _may_be_none(value):
            self.same[target.name] = value
            return
        before: list[ir.Statement] = []
        if isinstance(value, ir.Call) and value.over:
            arguments = tuple(self._expr(each, before) for each in value.arguments)
            changed: ir.Expr = replace(value, arguments=arguments)
        elif _is_reduction(value) and (
            target.type.kind is not ir.Kind.TENSOR or value.dim is not None
        ):
            changed = self._reduction(value, before)
        else:
            changed = self._expr(value, before)
        yield from before
        alone = target.role is not ir.Role.STATE and self.assigned[target.name] == 1
        if isinstance(changed, ir.Call) and changed.dim is not None:
            alone = alone and target.type == changed.type
        if isinstance(changed, ir.Call) and _is_joint(changed) and not alone:
            # It is known for all tensors, also where a branch is not taken.
            name = self._free(f"{target.name}_{changed.function}")
            local = replace(target, name=name, role=ir.Role.LOCAL)
            if changed.dim is not None:
                local = replace(local, type=changed.type)
            yield ir.Assign(local, changed, span)
            changed = local
        yield ir.Assign(target, changed, span)

    # ---- expressions

    def _expr(self, expr: ir.Expr, before: list[ir.Statement]) -> ir.Expr:
        """The expression with its reductions as names, assigned `before`."""
        _check_type(expr.type, expr.span)
        match expr:
            case ir.Ref(name=name) if name in self.same:
                return self.same[name]
            case ir.Ref(role=ir.Role.LOSS):
                raise Refusal("the loss")
            case ir.Ref(role=ir.Role.SEED):
                raise Refusal("random numbers")
            case ir.Ref(name=name, index=index) if index is not None:
                self.entries.check(name, index)
                return expr
            case ir.Ref(role=ir.Role.FLAG, name=name):
                return expr if name == "maximize" else _flag(False, expr.span)
            case ir.Index(value=ir.Ref(role=ir.Role.HYPER) as tuple_, index=index):
                self.entries.check_item(tuple_, index)
                return expr
            case ir.Call("len", (ir.Ref(role=ir.Role.HYPER),)):
                return self.entries.count(expr)
            case ir.Index() | ir.Pack():
                raise Refusal("tuples that are computed")
            case ir.Binary("@"):
                raise Refusal("a matrix product")
            case ir.Binary("//" | "%") if not expr.type.on_host:
                raise Refusal("whole division of tensors")
            case ir.Choose(condition, then, otherwise):
                chosen = self._condition(condition, before)
                self.inside += 1
                then, otherwise = (self._expr(x, before) for x in (then, otherwise))
                self.inside -= 1
                if isinstance(chosen, ir.Const):
                    return then if chosen.text == "True" else otherwise
                return replace(expr, condition=chosen, then=then, otherwise=otherwise)
            case ir.Call("ndim" | "size" | "numel", (ir.Ref() as x, *rest)):
                return self._look(expr, x, rest)
            case ir.Call("item" | "as_tensor", (x,)):
                return self._expr(x, before)
            case ir.Call("bfloat16" | "transpose"):
                raise Refusal("another layout or precision")
            case ir.Call() if expr.over:
                raise Refusal("a reduction inside of another expression")
            case ir.Call() if _is_reduction(expr):
                value = self._reduction(expr, before)
                name = self._free(expr.function if expr.function != "sum" else "total")
                type_ = ir.SCALAR if expr.dim is None else expr.type
                target = ir.Ref(name, ir.Role.LOCAL, type_, expr.span)
                before.append(ir.Assign(target, value, expr.span))
                return target
            case ir.Call():
                group = vocabulary.FUNCTIONS[expr.function].group
                if group in _REFUSED:
                    raise Refusal(_REFUSED[group])
            case ir.Ref() | ir.Const() | ir.Unary() | ir.Binary():
                pass
            case _:
                raise Refusal("such an expression")
        if expr.type.on_host and expr.type.element == "flag":
            return self._condition(expr, before)
        return ir.mapped(expr, lambda each: self._expr(each, before))

    def _reduction(self, call: ir.Call, before: list[ir.Statement]) -> ir.Call:
        """The reduction of one expression."""
        arguments = [self._expr(each, before) for each in call.arguments]
        if call.function == "dot":
            levels = [level(each.type) for each in arguments]
            if levels[0] is not levels[1]:
                raise Refusal("a product of tensors of two shapes that is added up")
            product = ir.Binary("*", *arguments, arguments[0].type, call.span)
            return replace(call, function="sum", arguments=(product,))
        if arguments[0].type.kind is not ir.Kind.TENSOR:
            raise Refusal("a reduction of one number")
        return replace(call, arguments=tuple(arguments))

    def _look(self, call: ir.Call, x: ir.Ref, rest: list[ir.Expr]) -> ir.Expr:
        """A number that the host knows of a tensor of the parameter's shape."""
        if x.type.kind is not ir.Kind.TENSOR or rest:
            raise Refusal("tensors of other shapes")
        own = ir.Ref("p", ir.Role.PARAM, ir.TENSOR, call.span)
        look = replace(call, arguments=(own,))
        if look not in self.looks:
            axis = f"_{call.dim[0]}".replace("-", "last_") if call.dim else ""
            self.looks[look] = self._free(f"{call.function}{axis}")
        name = self.looks[look]
        if call.dim and self.inside:
            self.asked.setdefault(name, where_there(look))
        else:
            self.asked[name] = look
        return ir.Ref(name, ir.Role.LOCAL, ir.NUMBER, call.span)

    # ---- conditions

    def _condition(self, expr: ir.Expr, before: list[ir.Statement]) -> ir.Expr:
        """A flag of the host: what hypers alone decide is an option."""
        match expr:
            case ir.Unary("not", operand):
                inner = self._condition(operand, before)
                if isinstance(inner, ir.Const):
                    return _flag(inner.text != "True", expr.span)
                return replace(expr, operand=inner)
            case ir.Binary("and" | "or" as operator, left, right):
                sides = [self._condition(each, before) for each in (left, right)]
                decisive = "False" if operator == "and" else "True"
                for side, other in (sides, sides[::-1]):
                    if isinstance(side, ir.Const):
                        return side if side.text == decisive else other
                return replace(expr, left=sides[0], right=sides[1])
            case ir.Const():
                return expr
        expr = self._with_hypers(expr)
        refs = [*ir.reads(expr)]
        of_group = all(
            ref.role is ir.Role.HYPER or ref.name == "maximize" for ref in refs
        )
        if refs and of_group and not any(isinstance(x, ir.Call) for x in ir.walk(expr)):
            return self._option(expr)
        if isinstance(expr, ir.Binary):
            sides = [self._expr(each, before) for each in (expr.left, expr.right)]
            return replace(expr, left=sides[0], right=sides[1])
        if expr.type.on_host and isinstance(expr, ir.Ref):
            return expr
        if expr.type.on_host:
            raise Refusal("a choice that is computed")
        return self._expr(expr, before)

    def _with_hypers(self, expr: ir.Expr) -> ir.Expr:
        """The expression without other names of hypers that may be none."""
        if isinstance(expr, ir.Ref) and expr.name in self.same:
            return self.same[expr.name]
        return ir.mapped(expr, self._with_hypers)

    def _option(self, expr: ir.Expr) -> ir.Expr:
        known = {each.condition: name for name, each in self.options.items()}
        name = known.get(expr)
        if name is None:
            plain = isinstance(expr, ir.Ref)
            name = expr.name if plain else self._free(_named(expr))
            self.options[name] = Option(name, expr)
        return ir.Ref(name, ir.Role.OPTION, ir.FLAG, expr.span)


def where_there(size: ir.Call) -> ir.Expr:
    """The size of an axis where there is such a one, or else 1."""
    (axis,) = size.dim
    count = replace(size, function="ndim", dim=None)
    least, one = (
        ir.Const(str(number), ir.NUMBER, size.span)
        for number in (axis + 1 if axis >= 0 else -axis, 1)
    )
    has = ir.Binary(">=", count, least, ir.FLAG, size.span)
    return ir.Choose(has, size, one, ir.NUMBER, size.span)


def _may_be_none(value: ir.Expr) -> bool:
    """Whether it is a hyper, or an item of one, that may be none."""
    match value:
        case (
            ir.Ref(role=ir.Role.HYPER)
            | ir.Index(value=ir.Ref(role=ir.Role.HYPER), index=int())
        ):
            return value.type.optional
    return False


def _is_reduction(expr: ir.Expr) -> bool:
    return (
        isinstance(expr, ir.Call)
        and expr.function in REDUCTIONS
        and not expr.over
        and (len(expr.arguments) == 1 or expr.function == "dot")
        and not expr.type.on_host
    )


def _is_joint(call: ir.Call) -> bool:
    return bool(call.over) or _is_reduction(call)


_WORDS = {
    "==": "is", "!=": "is_not", "<": "below", "<=": "at_most", ">": "above",
    ">=": "at_least",
}  # fmt: skip


def _named(expr: ir.Expr) -> str:
    """A name for a condition: `weight_decay != 0` as weight_decay_is_not_0."""
    match expr:
        case ir.Binary(operator, ir.Ref(name), ir.Const(text)) if operator in _WORDS:
            text = text.replace(".0", "").replace("None", "none")
            plain = "".join(c if c.isalnum() else "_" for c in text.strip("\"'"))
            return f"{name}_{_WORDS[operator]}_{plain}"
    names = dict.fromkeys(ref.name for ref in ir.reads(expr))
    return "_and_".join(names) + "_decide"


def _decided(branch: ir.If) -> ir.Block:
    if isinstance(branch.condition, ir.Const):
        return branch.then if branch.condition.text == "True" else branch.otherwise
    return (branch,)


def _flag(value: bool, span) -> ir.Const:
    return ir.Const(str(value), ir.FLAG, span)


def _check_type(type_: ir.Type, span) -> None:
    if type_.kind is ir.Kind.TENSOR and not type_.shape.known:
        raise Refusal("tensors of other shapes")
    if type_.element not in ("number", "flag"):
        raise Refusal(_OF_NO_NUMBER.get(type_.element, "tensors of other shapes"))
