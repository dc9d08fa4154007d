"""What the ranges of hypers say about numbers: which cannot be zero."""

import math

from .. import ir


class Signs:
    """Of the numbers of one rule's step, as far as their form tells."""

    def __init__(self, rule: ir.Rule) -> None:
        self.ranges = {each.name: each.range for each in rule.of_group if each.range}
        self.values: dict[str, ir.Expr] = {}
        statements = [
            each
            for each in (*rule.prologue, *ir.statements(rule.step))
            if isinstance(each, (ir.Assign, ir.Unpack))
        ]
        for each in statements:
            targets = (each.target,) if isinstance(each, ir.Assign) else each.targets
            for target in targets:
                # Of a name that has several values, nothing is known.
                several = target.name in self.values
                self.values[target.name] = target if several else each.value

    def positive(self, expr: ir.Expr) -> bool:
        """Whether a number is above zero, however the arithmetic rounds."""
        match self._origin(expr):
            case ir.Const(text=text):
                return _number(text) > 0
            case ir.Ref(role=ir.Role.COUNT):
                return True
            case ir.Ref(name=name, role=ir.Role.HYPER) if name in self.ranges:
                low = _bound(self.ranges[name].low)
                return low > 0 or (low == 0 and not self.ranges[name].closed_low)
            case ir.Binary("-", left, right):
                one = isinstance(left, ir.Const) and _number(left.text) == 1
                return one and self.fraction(right)
            case ir.Binary("**", base, ir.Const(text=text)):
                return 0 < _number(text) <= 1 and self.positive(base)
            case ir.Call("sqrt", (x,)):
                return self.positive(x)
        return False

    def fraction(self, expr: ir.Expr) -> bool:
        """Whether a number is in [0, 1)."""
        match self._origin(expr):
            case ir.Const(text=text):
                return 0 <= _number(text) < 1
            case ir.Ref(name=name, role=ir.Role.HYPER) if name in self.ranges:
                low, high = map(_bound, (self.ranges[name].low, self.ranges[name].high))
                below = high < 1 or (high == 1 and not self.ranges[name].closed_high)
                return low >= 0 and below
            case ir.Binary("**", base, exponent):
                return self.fraction(base) and self._one_or_more(exponent)
            case ir.Binary("*", left, right):
                return self.fraction(left) and self.fraction(right)
        return False

    def _one_or_more(self, expr: ir.Expr) -> bool:
        match self._origin(expr):
            case ir.Const(text=text):
                return _number(text) >= 1
            case ir.Ref(role=ir.Role.COUNT):
                return True
            case ir.Binary("+", left, right):
                return self._one_or_more(left) and self._one_or_more(right)
        return False

    def _origin(self, expr: ir.Expr) -> ir.Expr:
        """What a local was given, or the tuple that an item is of."""
        while True:
            match expr:
                case ir.Ref(name=name, role=ir.Role.LOCAL) if name in self.values:
                    if self.values[name] == expr:
                        return expr
                    expr = self.values[name]
                case ir.Index(value=value):
                    expr = value
                case _:
                    return expr


def _bound(expr: ir.Expr) -> float:
    if isinstance(expr, ir.Unary):
        return -_number(expr.operand.text)
    return _number(expr.text)


def _number(text: str) -> float:
    """What a literal says; not a number, where that is none."""
    try:
        return float(text.removeprefix("math."))
    except ValueError:
        return math.nan
