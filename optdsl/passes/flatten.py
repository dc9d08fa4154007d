"""One call a statement, as torch's `_foreach` functions want it: they take lists, return
nothing where they write, and know fewer forms than the calls on one tensor.

In: a lowered rule. Out: the same rule whose step has at most one such call a statement;
what none of them computes stays as it was, with names for what they can compute of it.
"""

from collections.abc import Callable
from dataclasses import replace

from .. import ir
from ..source import Span
from ..stages import made_of, outer, phases
from .aliases import VIEWS
from .batches import of_matrices
from .forget import MADE_UP, forgetting

FOREACH = frozenset(
    "abs acos add addcdiv addcmul asin atan ceil clamp_max clamp_min copy cos cosh "
    "div erf exp expm1 floor lerp log log10 log1p log2 maximum minimum mul neg norm pow "
    "reciprocal round rsqrt sigmoid sign sin sinh sqrt sub tan tanh trunc".split()
)
"""The calls that torch has for lists of tensors, from 2.11 on."""
WITH_TENSOR = frozenset({"add", "mul", "div"})
"""Those that take one tensor for all of a list as their second argument."""
_RENAMED = {"linalg.vector_norm": "norm", "square": "mul"}
_SPELLED = frozenset({"clamp", "square", "linalg.vector_norm"})
_NOUNS = {
    "abs": "magnitude", "add": "sum", "addcdiv": "sum", "addcmul": "sum",
    "clamp_max": "clamped", "clamp_min": "clamped", "clone": "copy",
    "div": "quotient", "exp": "exponential", "lerp": "blend", "maximum": "larger",
    "minimum": "smaller", "mul": "product", "neg": "opposite", "pow": "power",
    "rsqrt": "inverse_root", "sqrt": "root", "sub": "difference", "value": "power",
    "vector_norm": "norm",
}  # fmt: skip


def flatten(rule: ir.Rule, captured: bool = False) -> ir.Rule:
    """The rule for lists of tensors. A step that is `captured` reads hypers that may be
    tensors, and `alpha=` and `value=` take numbers alone.
    """
    taken = {ref.name for each in ir.statements(rule.step) for ref in ir.reads(each)}
    taken |= ir.assigned(rule.step) | {each.name for each in rule.of_group}
    taken |= {each.name for each in rule.states} | {"p", "grad"}
    kept = [ir.Role.STATE, *[ir.Role.COUNT] * (rule.counted == "tensor")]
    shared = outer(rule) if rule.in_phases else frozenset()
    batched = of_matrices(rule)
    flat = Flat(frozenset(taken), frozenset(kept), captured, shared, batched)
    if rule.in_phases:
        return replace(rule, step=_in_phases(rule.step, flat, [*phases(rule.step)]))
    step = forgetting(flat.block(rule.step))
    return replace(rule, step=step)


def _in_phases(block: ir.Block, flat: "Flat", every: list[ir.Each]) -> ir.Block:
    """A block whose phases are flat; what stands between them is about no list."""
    result = []
    for statement in block:
        match statement:
            case ir.Each("param", body):
                others = [each for each in every if each is not statement]
                names = {ref.name for each in others for ref in ir.reads(each)}
                kept = frozenset((name, None) for name in names)
                statement = replace(statement, body=forgetting(flat.block(body), kept))
            case ir.Each(body=body):
                statement = replace(statement, body=_in_phases(body, flat, every))
        result.append(statement)
    return tuple(result)


class Flat:
    """Takes apart the statements of one step. Roles that are `kept` have a tensor for
    their number. Tensors that are `shared` are no lists: all parameters have one. What is
    `batched` is computed for all tensors of one shape.
    """

    def __init__(
        self,
        taken: frozenset[str],
        kept: frozenset[ir.Role],
        captured: bool,
        shared: frozenset[str],
        batched: Callable[[ir.Expr], bool],
    ) -> None:
        self.taken = taken
        self.kept = kept
        self.captured = captured
        self.shared = shared
        self.batched = batched
        self.used: set[str] = set()
        self.mine: set[str] = set()
        self.made: list[ir.Statement] = []
        self.span = Span(0, 0)

    def block(self, block: ir.Block) -> ir.Block:
        return tuple(each for statement in block for each in self.statement(statement))

    def statement(self, statement: ir.Statement) -> list[ir.Statement]:
        match statement:
            case ir.If():
                then, otherwise = map(self.block, (statement.then, statement.otherwise))
                return [replace(statement, then=then, otherwise=otherwise)]
            case ir.Repeat():
                return [replace(statement, body=self.block(statement.body))]
            case ir.Assign(target, value) if not value.type.on_host:
                self._begin(statement)
                own = None if _reads(value, target) else target
                value = self.value(value, own)
                if value != own:
                    self._assign(target, value)
                return self.made
            case ir.Effect(value):
                self._begin(statement)
                self.value(value)
                return self.made
            case ir.Unpack(value=value) if not value.type.on_host:
                self._begin(statement)
                value = self.value(value)
                return [*self.made, replace(statement, value=value, batched=True)]
        return [statement]

    def _begin(self, statement: ir.Statement) -> None:
        """Forget the names that the last statement used, and those of fresh values."""
        self.used, self.mine, self.made = set(), set(), []
        self.span = statement.span

    def value(self, expr: ir.Expr, own: ir.Ref | None = None) -> ir.Expr:
        """The expression in a form that a statement can have. A fresh value that is
        written into is called `own`, where there is such a name.
        """
        match expr:
            case _ if expr.type.on_host or isinstance(expr, (ir.Ref, ir.Choose)):
                return expr
            case _ if made_of(expr, self.shared):
                return expr
            case ir.Call("as_tensor", (ir.Ref(role=role) as ref,)) if role in self.kept:
                return replace(ref, type=ir.SCALAR)
            case ir.Op("clamp"):
                return self.value(_clamped(expr), own)
            case ir.Op("square", (x,)):
                return self._squared(expr, self.named(x, own))
            case ir.Op("linalg.vector_norm", keywords=()):
                return self._called(replace(expr, name="norm"), own)
            case ir.Op():
                return self._called(expr, own)
            case ir.Binary("-", left, right) if left.type.on_host:
                opposite = self._changed("neg", right, own)
                return self._written(_like(expr, "add", opposite, left))
            case ir.Binary("/", left, right) if left.type.on_host:
                inverse = self._changed("reciprocal", right, own)
                if isinstance(left, ir.Const) and left.text in ("1", "1.0"):
                    return inverse
                return self._written(_like(expr, "mul", inverse, left))
            case ir.Binary("**", left, right) if left.type.on_host:
                return _like(expr, "pow", left, self.named(right))
        return ir.mapped(expr, self.inner)

    def inner(self, expr: ir.Expr) -> ir.Expr:
        """A part of an expression that is computed one tensor at a time."""
        value = self.value(expr)
        return self.named(value) if getattr(value, "listed", False) else value

    def named(self, expr: ir.Expr, own: ir.Ref | None = None) -> ir.Expr:
        """The value under a name; numbers stay what they are."""
        if made_of(expr, self.shared):
            return self._of_all(expr)
        value = self.value(expr, own)
        if isinstance(value, ir.Ref) or value.type.on_host:
            return value
        local = own or ir.Ref(self._name(value), ir.Role.LOCAL, value.type, MADE_UP)
        self._assign(local, value)
        if _is_fresh(value):
            self.mine.add(local.name)
        return local

    def _of_all(self, expr: ir.Expr) -> ir.Ref:
        """A name for a tensor that all parameters have together."""
        if isinstance(expr, ir.Ref):
            return expr
        names = ("scale", *(f"scale_{number}" for number in range(2, 999)))
        name = next(each for each in names if each not in self.taken)
        self.taken |= {name}
        self.shared |= {name}
        local = ir.Ref(name, ir.Role.SHARED, expr.type, MADE_UP)
        self.made.append(ir.Assign(local, expr, self.span))
        return local

    def _assign(self, target: ir.Ref, value: ir.Expr) -> None:
        named = isinstance(value, (ir.Ref, ir.Choose))
        batched = not named and self.batched(value)
        self.made.append(ir.Assign(target, value, self.span, batched))

    def _squared(self, op: ir.Op, x: ir.Expr) -> ir.Expr:
        mine = isinstance(x, ir.Ref) and x.name in self.mine
        product = replace(op, name="mul", arguments=(x, x), in_place=mine)
        return self._called(product)

    def _changed(self, name: str, expr: ir.Expr, own: ir.Ref | None) -> ir.Expr:
        """A call on a value, in its own memory where this statement made it."""
        value = self.value(expr, own)
        if isinstance(value, (ir.Op, ir.Binary)):
            value = self.named(value, own)
        if isinstance(value, ir.Ref) and value.name in self.mine:
            return self._written(_like(expr, name, value))
        return self.named(_like(expr, name, value), own)

    def _name(self, value: ir.Expr) -> str:
        noun = getattr(value, "name", getattr(value, "function", "value")).rpartition(
            "."
        )[2]
        noun = _NOUNS.get(noun, noun)
        names = (noun, *(f"{noun}_{number}" for number in range(2, 999)))
        name = next(each for each in names if each not in self.taken | self.used)
        self.used.add(name)
        return name

    def _called(self, op: ir.Op, own: ir.Ref | None = None) -> ir.Expr:
        if self.shared:
            op = self._with_shared(op)
        first, *rest = op.arguments
        listed = op.name in FOREACH and not self._takes_shared(op)
        part = self.named if listed else self.inner
        first = self.named(first, own) if op.in_place else part(first)
        if op.in_place and listed and any(map(self._is_slow, rest)):
            # Every tensor has calls of its own here; a list of results would take memory.
            part, listed = self.inner, False
        op = replace(op, arguments=(first, *map(part, rest)), listed=listed)
        if op.name == "div" and not op.in_place and self._lends(op.arguments[1], op):
            return self._divided(op)
        if self.captured and listed:
            op = self._scaled(op)
        return self._written(op) if op.in_place else op

    def _takes_shared(self, op: ir.Op) -> bool:
        """Whether torch has no call on lists for this, since one argument is no list."""
        shared = [made_of(each, self.shared) for each in op.arguments]
        if op.name in WITH_TENSOR and shared[1:] == [True] and not shared[0]:
            return False
        return any(shared)

    def _with_shared(self, op: ir.Op) -> ir.Op:
        """`x + c*d*y` and `x + c*y/d` for a tensor `d` of all: the product or quotient
        first, which is a list.
        """
        match op:
            case ir.Op("addcmul" | "addcdiv", (x, y, z)) if not made_of(x, self.shared):
                name = op.name.removeprefix("addc")
                for tensor, scale in ((y, z), (z, y))[: 1 + (name == "mul")]:
                    if made_of(scale, self.shared) and not made_of(tensor, self.shared):
                        scaled = _like(tensor, name, tensor, scale)
                        keywords = tuple(("alpha", each) for _, each in op.keywords)
                        arguments = (x, scaled)
                        return replace(
                            op, name="add", arguments=arguments, keywords=keywords
                        )
            case ir.Op("mul", (x, y), in_place=False) if made_of(x, self.shared):
                return op if y.type.on_host else replace(op, arguments=(y, x))
        return op

    def _is_slow(self, expr: ir.Expr) -> bool:
        """Whether a value like the parameter has to be computed one tensor at a time."""
        if expr.type != ir.TENSOR or isinstance(expr, ir.Ref) or self.batched(expr):
            return False
        return not isinstance(expr, ir.Op) or expr.name not in FOREACH | _SPELLED

    def _lends(self, value: ir.Expr, like: ir.Op) -> bool:
        """Whether this statement made a list of tensors that fits the result, and large
        enough to matter.
        """
        mine = isinstance(value, ir.Ref) and value.name in self.mine
        large = value.type.kind is ir.Kind.TENSOR
        return mine and large and value.type == like.type

    def _divided(self, op: ir.Op) -> ir.Expr:
        """A quotient in the memory of its divisor."""
        value, divisor = op.arguments
        inverse = self._written(_like(op, "reciprocal", divisor))
        return self._written(_like(op, "mul", inverse, self.named(value)))

    def _scaled(self, op: ir.Op) -> ir.Op:
        """The call with its `alpha=` or `value=` multiplied in before."""
        first, second, *rest = (*op.arguments, None)
        for key, scale in op.keywords:
            if key in ("alpha", "value") and any(ir.reads(scale)):
                product = self.named(
                    ir.Op("mul", (second, scale), (), second.type, second.span)
                )
                arguments = (first, product, *rest[:-1])
                return replace(op, arguments=arguments, keywords=())
        return op

    def _written(self, op: ir.Op) -> ir.Expr:
        """The tensor that a call writes into, after the call."""
        self.made.append(ir.Effect(replace(op, in_place=True), self.span))
        return op.arguments[0]


def _is_fresh(value: ir.Expr) -> bool:
    """Whether a value lies in memory of its own, which no other name stands for."""
    if isinstance(value, ir.Op):
        return value.name not in VIEWS
    return isinstance(value, ir.Binary)


def _like(expr: ir.Expr, name: str, *arguments: ir.Expr) -> ir.Op:
    return ir.Op(name, arguments, (), expr.type, expr.span, listed=True)


def _clamped(op: ir.Op) -> ir.Op:
    """A call for each limit, the second one in the memory of the first."""
    value, in_place = op.arguments[0], op.in_place
    for end, limit in op.keywords:
        arguments = (value, limit)
        value = ir.Op(f"clamp_{end}", arguments, (), op.type, op.span, in_place)
        in_place = True
    return value


def _reads(expr: ir.Expr, target: ir.Ref) -> bool:
    return any(ref.name == target.name for ref in ir.reads(expr))
