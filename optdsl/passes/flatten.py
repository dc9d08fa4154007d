"""One call a statement, as torch's `_foreach` functions want it: they take lists, return
nothing where they write, and know fewer forms than the calls on one tensor.

In: a lowered rule. Out: the same rule whose step has at most one such call a statement;
what none of them computes stays as it was, with names for what they can compute of it.
"""

from dataclasses import replace

from .. import ir
from ..source import Span

FOREACH = frozenset(
    "abs acos add addcdiv addcmul asin atan ceil clamp_max clamp_min clone copy cos cosh "
    "div erf exp expm1 floor lerp log log10 log1p log2 maximum minimum mul neg norm pow "
    "reciprocal round rsqrt sigmoid sign sin sinh sqrt sub tan tanh trunc".split()
)
"""The calls that torch has for lists of tensors."""
_RENAMED = {"linalg.vector_norm": "norm", "square": "mul"}
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
    taken |= ir.assigned(rule.step) | {each.name for each in rule.hypers}
    taken |= {each.name for each in rule.states} | {"p", "grad"}
    step = _forgetting(Flat(frozenset(taken), captured).block(rule.step))
    return replace(rule, step=step)


def _forgetting(block: ir.Block) -> ir.Block:
    """The block in which lists of tensors are let go before others are made."""
    last: dict[str, int] = {}
    for at, statement in enumerate(block):
        last |= dict.fromkeys(_mentioned(statement), at)
    owned = {each.target.name for each in ir.statements(block) if _makes(each)}
    bound = {"grad"}
    result: list[ir.Statement] = []
    for at, statement in enumerate(block):
        result.append(statement)
        bound |= _bound((statement,))
        names = tuple(
            name
            for name in last
            if last[name] == at and name in bound and name in owned | {"grad"}
        )
        if names and any(map(_makes, ir.statements(block[at + 1 :]))):
            result.append(ir.Forget(names, statement.span))
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
    return names


def _mentioned(statement: ir.Statement) -> list[str]:
    refs = list(ir.reads(statement))
    inside = ir.statements((statement,))
    refs += [each.target for each in inside if isinstance(each, ir.Assign)]
    local = (ir.Role.LOCAL, ir.Role.GRAD)
    tensors = (each for each in refs if each.type.kind is ir.Kind.TENSOR)
    return [each.name for each in tensors if each.role in local]


def _makes(statement: ir.Statement) -> bool:
    """Whether a statement makes a list of tensors as large as the parameters."""
    if not isinstance(statement, ir.Assign) or isinstance(statement.value, ir.Ref):
        return False
    return statement.target.type.kind is ir.Kind.TENSOR


class Flat:
    """Takes apart the statements of one step."""

    def __init__(self, taken: frozenset[str], captured: bool) -> None:
        self.taken = taken
        self.captured = captured
        self.used: set[str] = set()
        self.made: list[ir.Statement] = []
        self.span = Span(0, 0)

    def block(self, block: ir.Block) -> ir.Block:
        return tuple(each for statement in block for each in self.statement(statement))

    def statement(self, statement: ir.Statement) -> list[ir.Statement]:
        match statement:
            case ir.If():
                then, otherwise = map(
                    self.block, (statement.then, statement.otherwise)
                )
                return [replace(statement, then=then, otherwise=otherwise)]
            case ir.Repeat():
                return [replace(statement, body=self.block(statement.body))]
            case ir.Assign(target, value) if not value.type.on_host:
                self.used, self.made, self.span = set(), [], statement.span
                own = None if _reads(value, target) else target
                value = self.value(value, own)
                if value != own:
                    self.made.append(ir.Assign(target, value, statement.span))
                return self.made
            case ir.Effect(value):
                self.used, self.made, self.span = set(), [], statement.span
                self.value(value)
                return self.made
        return [statement]

    def value(self, expr: ir.Expr, own: ir.Ref | None = None) -> ir.Expr:
        """The expression in a form that a statement can have. A fresh value that is
        written into is called `own`, where there is such a name.
        """
        match expr:
            case _ if expr.type.on_host or isinstance(expr, (ir.Ref, ir.Choose)):
                return expr
            case ir.Op("clamp"):
                return self.value(_clamped(expr), own)
            case ir.Op("square", (x,)):
                x = self.named(x, own if expr.in_place else None)
                return self._called(replace(expr, name="mul", arguments=(x, x)))
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
                return _like(expr, "pow", left, self.named(right), listed=True)
        return ir.mapped(expr, self.inner)

    def inner(self, expr: ir.Expr) -> ir.Expr:
        """A part of an expression that is computed one tensor at a time."""
        value = self.value(expr)
        return self.named(value) if getattr(value, "listed", False) else value

    def named(self, expr: ir.Expr, own: ir.Ref | None = None) -> ir.Expr:
        """The value under a name; numbers stay what they are."""
        value = self.value(expr, own)
        if isinstance(value, ir.Ref) or value.type.on_host:
            return value
        local = own or ir.Ref(self._name(value), ir.Role.LOCAL, value.type, value.span)
        self.made.append(ir.Assign(local, value, self.span))
        return local

    def _changed(self, name: str, expr: ir.Expr, own: ir.Ref | None) -> ir.Expr:
        """A call on a value, in its own memory where this statement made it."""
        value = self.value(expr, own)
        if isinstance(value, (ir.Op, ir.Binary)):
            return self._written(_like(expr, name, self.named(value, own)))
        if isinstance(value, ir.Ref) and value.name in {*self.used, own and own.name}:
            return self._written(_like(expr, name, value))
        return self.named(_like(expr, name, value), own)

    def _name(self, value: ir.Expr) -> str:
        noun = getattr(value, "name", getattr(value, "function", "value")).rpartition(".")[2]
        noun = _NOUNS.get(noun, noun)
        names = (noun, *(f"{noun}_{number}" for number in range(2, 999)))
        name = next(each for each in names if each not in self.taken | self.used)
        self.used.add(name)
        return name

    def _called(self, op: ir.Op, own: ir.Ref | None = None) -> ir.Expr:
        first, *rest = op.arguments
        part = self.named if op.name in FOREACH else self.inner
        first = self.named(first, own) if op.in_place else part(first)
        listed = op.name in FOREACH
        op = replace(op, arguments=(first, *map(part, rest)), listed=listed)
        if self.captured and listed:
            op = self._scaled(op)
        return self._written(op) if op.in_place else op

    def _scaled(self, op: ir.Op) -> ir.Op:
        """The call with its `alpha=` or `value=` multiplied in before."""
        first, second, *rest = (*op.arguments, None)
        for key, scale in op.keywords:
            if key in ("alpha", "value") and any(ir.reads(scale)):
                product = self.named(_like(second, "mul", second, scale))
                arguments = (first, product, *rest[:-1])
                return replace(op, arguments=arguments, keywords=())
        return op

    def _written(self, op: ir.Op) -> ir.Expr:
        """The tensor that a call writes into, after the call."""
        listed = op.name in FOREACH
        self.made.append(ir.Effect(replace(op, in_place=True, listed=listed), self.span))
        return op.arguments[0]


def _like(
    expr: ir.Expr, name: str, *arguments: ir.Expr, listed: bool = False
) -> ir.Op:
    return ir.Op(name, arguments, (), expr.type, expr.span, listed=listed)


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
