"""A checked expression as the formula that a paper would have: an interpolation is two
terms, a power of one half a root, a product with itself a square.

The formula has the value of the expression but for the rounding: sums and products are
joined, and numbers move in front of matrices.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from .. import ir
from .formula import (
    Apply,
    Choice,
    Fence,
    Formula,
    Item,
    Letter,
    Logic,
    MatrixProduct,
    Negative,
    Not,
    Number,
    Power,
    Product,
    Quotient,
    Relation,
    Root,
    Several,
    Sum,
    Symbol,
    Transpose,
    Word,
)
from .work import is_drawn

Time = Callable[[ir.Ref], str]
_FENCED = ("norm", "abs", "floor", "ceil", "dot")
_ONE = Number("1")
_WORDS = {"True": "true", "False": "false", "None": "none"}


def whenever(ref: ir.Ref) -> str:
    """Names without a time."""
    return ""


class Reading:
    """Reads the expressions of one scope. `defs` are the names that instances of defs
    have in the spec.
    """

    def __init__(
        self, letters: Mapping[str, Letter], time: Time, defs: Mapping[str, str]
    ) -> None:
        self.letters = letters
        self.time = time
        self.defs = defs

    def symbol(self, ref: ir.Ref) -> Symbol:
        return Symbol(self.letters[ref.name], self.time(ref))

    def formula(self, expr: ir.Expr) -> Formula:
        match expr:
            case ir.Const():
                return _literal(expr)
            case ir.Ref(name=name, role=ir.Role.FIRST | ir.Role.FLAG):
                return Word(name)
            case ir.Ref():
                index = expr.index
                symbol = self.symbol(expr)
                return symbol if index is None else Item(symbol, self._index(index))
            case ir.Unary("not", operand):
                return Not(self.formula(operand))
            case ir.Unary(_, operand):
                return Negative(self.formula(operand))
            case ir.Binary():
                return self._binary(expr)
            case ir.Choose():
                parts = (expr.condition, expr.then, expr.otherwise)
                return Choice(*map(self.formula, parts))
            case ir.Pack(items):
                return Several(tuple(map(self.formula, items)))
            case ir.Index(value, index):
                return Item(self.formula(value), self._index(index))
            case ir.Invoke(name, arguments):
                shown = tuple(map(self.formula, arguments))
                return Apply(self.defs.get(name, name), shown)
            case ir.Call():
                return self._call(expr)
        raise AssertionError(expr)

    def _index(self, index: ir.Expr | int) -> Formula:
        return Number(str(index)) if isinstance(index, int) else self.formula(index)

    def _binary(self, expr: ir.Binary) -> Formula:
        match expr.operator:
            case "+" | "-":
                return self._sum(expr)
            case "*" | "/":
                return self._product(expr)
            case "**":
                return self._power(expr.left, expr.right)
            case "@":
                return self._matrices(expr)
            case "and" | "or":
                return Logic(expr.operator, tuple(self._logic(expr, expr.operator)))
            case "//":
                sides = (self.formula(expr.left), self.formula(expr.right))
                return Fence("floor", (Quotient(*sides),))
            case "%":
                sides = (self.formula(expr.left), self.formula(expr.right))
                return Apply("mod", sides)
        return Relation(
            expr.operator, self.formula(expr.left), self.formula(expr.right)
        )

    def _logic(self, expr: ir.Expr, operator: str) -> Iterator[Formula]:
        if isinstance(expr, ir.Binary) and expr.operator == operator:
            yield from self._logic(expr.left, operator)
            yield from self._logic(expr.right, operator)
        else:
            yield self.formula(expr)

    def _sum(self, expr: ir.Binary) -> Formula:
        return added(
            (False, self.formula(expr.left)),
            (expr.operator == "-", self.formula(expr.right)),
        )

    def _power(self, base: ir.Expr, exponent: ir.Expr) -> Formula:
        below = exponent.operand if isinstance(exponent, ir.Unary) else exponent
        if isinstance(below, ir.Const) and below.text.removeprefix("0") == ".5":
            root = Root(self.formula(base))
            return root if below is exponent else Quotient(_ONE, root)
        return Power(self.formula(base), self.formula(exponent))

    # ---- products

    def _product(self, expr: ir.Binary) -> Formula:
        """The factors from left to right; those before a divisor stand above it."""
        done: list[tuple[Formula, bool]] = []
        above: list[tuple[Formula, bool]] = []
        below: list[tuple[Formula, bool]] = []
        for divides, factor in _factors(expr):
            if divides:
                below.append((self.formula(factor), _is_tensor(factor)))
                continue
            if below:
                done.append(_quotient(above, below))
                above, below = [], []
            above += self._split(factor)
        done += [_quotient(above, below)] if below else above
        return _multiplied(done)

    def _split(self, factor: ir.Expr) -> list[tuple[Formula, bool]]:
        """A factor, or the factors of what reads as a product."""
        read = self.formula(factor)
        if isinstance(read, Product):
            return list(zip(read.factors, read.tensors, strict=True))
        return [(read, _is_tensor(factor))]

    def _matrices(self, expr: ir.Binary) -> Formula:
        numbers: list[tuple[Formula, bool]] = []
        matrices: list[Formula] = []
        for side in (expr.left, expr.right):
            factors = self._split(side)
            numbers += [each for each in factors if not each[1]]
            read = _multiplied([each for each in factors if each[1]])
            matrices += read.factors if isinstance(read, MatrixProduct) else [read]
        return _multiplied([*numbers, (MatrixProduct(tuple(matrices)), True)])

    # ---- functions

    def _call(self, call: ir.Call) -> Formula:
        arguments = tuple(map(self.formula, call.arguments))
        options = _options(call)
        match call.function, arguments:
            case "sqrt", (x,):
                return Root(x)
            case "rsqrt", (x,):
                return Quotient(_ONE, Root(x))
            case "square", (x,):
                return Power(x, Number("2"))
            case "reciprocal", (x,):
                return Quotient(_ONE, x)
            case "pow", _:
                return self._power(*call.arguments)
            case "lerp", (start, end, weight):
                return self._interpolated(call, start, end, weight)
            case "where", (condition, x, y):
                return Choice(condition, x, y)
            case "as_tensor" | "item", (x,):
                return x
            case "zeros_like", _:
                return Number("0")
            case "ones_like", _:
                return _ONE
            case "full_like", (_, value):
                return value
            case "size", (x,):
                return Apply("size", (x, Number(str(call.dim[0]))))
            case "transpose", (x,):
                return Transpose(x)
            case name, (x, *_) if is_drawn(call):
                return Apply(name, (x,))
            case name, _ if name in _FENCED:
                return Fence(name, arguments, options)
        return Apply(call.function, arguments, options)

    def _interpolated(
        self, call: ir.Call, start: Formula, end: Formula, weight: Formula
    ) -> Formula:
        """`lerp(start, end, 1 - share)` keeps a share of where it starts."""
        kept = added((False, _ONE), (True, weight))
        match weight:
            case Sum(((False, Number("1")), (True, share))):
                kept = share
        types = [_is_tensor(each) for each in call.arguments]
        terms = (
            _multiplied([(kept, types[2]), (start, types[0])]),
            _multiplied([(weight, types[2]), (end, types[1])]),
        )
        return added(*((False, each) for each in terms))


# ---- how formulas are joined


def added(*terms: tuple[bool, Formula]) -> Formula:
    """The sum of terms, each with whether it is taken away."""
    joined: list[tuple[bool, Formula]] = []
    for taken, term in terms:
        while isinstance(term, Negative):
            taken, term = not taken, term.inner
        if isinstance(term, Sum) and not taken:
            joined += term.terms
        else:
            joined.append((taken, term))
    return Sum(tuple(joined))


def _factors(expr: ir.Expr) -> Iterator[tuple[bool, ir.Expr]]:
    """The factors of a chain of products and quotients, each with whether it divides."""
    if isinstance(expr, ir.Binary) and expr.operator in ("*", "/"):
        yield from _factors(expr.left)
        yield expr.operator == "/", expr.right
    else:
        yield False, expr


def _quotient(
    above: list[tuple[Formula, bool]], below: list[tuple[Formula, bool]]
) -> tuple[Formula, bool]:
    """A minus stands before the fraction."""
    top, bottom = _multiplied(above), _multiplied(below)
    is_negative = isinstance(top, Negative) is not isinstance(bottom, Negative)
    top, bottom = (
        each.inner if isinstance(each, Negative) else each for each in (top, bottom)
    )
    made = Quotient(top, bottom)
    is_tensor = any(tensor for _, tensor in (*above, *below))
    return Negative(made) if is_negative else made, is_tensor


def _multiplied(factors: list[tuple[Formula, bool]]) -> Formula:
    """The product of factors, those that are the same as a power, a minus before all."""
    flat: list[tuple[Formula, bool]] = []
    is_negative = False
    for factor, is_tensor in factors:
        while isinstance(factor, Negative):
            is_negative, factor = not is_negative, factor.inner
        if isinstance(factor, Product):
            flat += zip(factor.factors, factor.tensors, strict=True)
        else:
            flat.append((factor, is_tensor))
    merged = []
    for (factor, is_tensor), same in groupby(flat):
        times = len(list(same))
        powered = Power(factor, Number(str(times))) if times > 1 else factor
        merged.append((powered, is_tensor))
    if len(merged) == 1:
        result = merged[0][0]
    else:
        result = Product(*map(tuple, zip(*merged, strict=True)))
    return Negative(result) if is_negative else result


def _is_tensor(expr: ir.Expr) -> bool:
    return expr.type.kind is ir.Kind.TENSOR


def _options(call: ir.Call) -> tuple[str, ...]:
    options = []
    if call.dim is not None:
        axes = ", ".join(map(str, call.dim))
        options.append(f"{'axis' if len(call.dim) == 1 else 'axes'} {axes}")
    if call.over and not ir.is_evaluation(call):
        options.append(f"over the {call.over}")
    return tuple(options)


def _literal(const: ir.Const) -> Formula:
    if const.type.element == "text" or const.text in _WORDS:
        return Word(_WORDS.get(const.text, const.text))
    return Number(const.text.lower())
