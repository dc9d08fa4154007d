"""Expressions as C++ text: numbers in double, elements in the precision of the kernel.

A number in the middle of arithmetic on elements is worked out in double and rounded once.
"""

from collections.abc import Callable

from ... import ir
from ...ir.kernels import Level, level

PRECEDENCE = {
    "choose": 1, "or": 2, "and": 3, "==": 4, "!=": 4, "<": 5, "<=": 5, ">": 5, ">=": 5,
    "+": 6, "-": 6, "*": 7, "/": 7, "unary": 8, "call": 9,
}  # fmt: skip
_SPELLED = {"and": "&&", "or": "||"}
_CONSTANTS = {
    "math.inf": "infinity", "math.pi": "pi", "True": "true", "False": "false",
    "None": "0.0",
}  # fmt: skip
_COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
_FILLED = {"zeros_like": "0", "ones_like": "1"}

Name = Callable[[ir.Ref], str]


def is_element(expr: ir.Expr) -> bool:
    """Whether a pass over elements works it out for each of them. What there is once a
    line, or once a matrix, is a number there.
    """
    return level(expr.type) in (Level.ELEMENT, Level.COLUMN)


class Printer:
    """Prints expressions; `name` spells a reference to a number, or to an element, and
    `kept` the type that a state has in memory.
    """

    def __init__(self, name: Name, kept: Name) -> None:
        self.name = name
        self.kept = kept

    def number(self, expr: ir.Expr, least: int = 0) -> str:
        return _bracketed(*self._number(expr), least)

    def element(self, expr: ir.Expr, least: int = 0) -> str:
        """What is worked out once an element, of a number where it is one."""
        if not is_element(expr):
            return self._rounded(expr)
        return _bracketed(*self._element(expr), least)

    def place(self, ref: ir.Ref) -> str:
        """Where a value is: under its name, or in one of several of that name."""
        index = "" if ref.index is None else f"[{self.whole(ref.index)}]"
        return self.name(ref) + index

    def whole(self, expr: ir.Expr) -> str:
        """A count, or the number of a round, as a whole number."""
        return expr.text if isinstance(expr, ir.Const) else self.name(expr)

    # ---- numbers

    def _number(self, expr: ir.Expr) -> tuple[str, int]:
        call = PRECEDENCE["call"]
        match expr:
            case ir.Const():
                return _literal(expr), call
            case ir.Ref(role=ir.Role.INDEX | ir.Role.OPTION) if (
                expr.type.element == "number"
            ):
                return f"double({self.whole(expr)})", call
            case ir.Ref():
                return self.place(expr), call
            case ir.Index(value=ir.Ref() as ref, index=at):
                at = at if isinstance(at, int) else self.whole(at)
                return f"{self.name(ref)}[{at}]", call
            case ir.Unary(operator, operand):
                sign = "!" if operator == "not" else "-"
                return sign + self.number(operand, PRECEDENCE["call"]), PRECEDENCE[
                    "unary"
                ]
            case ir.Binary("**", base, exponent):
                parts = f"{self.number(base)}, {self.number(exponent)}"
                return f"std::pow({parts})", call
            case ir.Binary("//" | "%" as operator, left, right):
                function = "floor_divide" if operator == "//" else "modulo"
                return f"{function}({self.number(left)}, {self.number(right)})", call
            case ir.Binary(operator, left, right) if state := compared(expr):
                kind = self.kept(state)
                sides = (f"kept<{kind}>({self.number(x)})" for x in (left, right))
                return f" {operator} ".join(sides), PRECEDENCE[operator]
            case ir.Binary(operator, left, right):
                return self._infix(operator, left, right, self.number)
            case ir.Choose(condition, then, otherwise) | ir.Call(
                "where", (condition, then, otherwise)
            ):
                return self._choice(condition, then, otherwise, self.number)
            case ir.Call("finfo_eps"):
                return "epsilon_of<p_t>()", call
            case ir.Call("zeros_like" | "ones_like" as function):
                return f"{_FILLED[function]}.0", call
            case ir.Call("full_like", (_, value)):
                return self._number(value)
            case ir.Call(function, arguments):
                parts = ", ".join(self.number(each) for each in arguments)
                return f"{function}_({parts})", call
        raise AssertionError(expr)

    # ---- elements

    def _rounded(self, expr: ir.Expr) -> str:
        if expr.type.element == "flag":
            return self.number(expr, PRECEDENCE["unary"])
        return f"real({self.number(expr)})"

    def _element(self, expr: ir.Expr) -> tuple[str, int]:
        call = PRECEDENCE["call"]
        match expr:
            case ir.Ref():
                return self.place(expr), call
            case ir.Unary(operator, operand):
                sign = "!" if operator == "not" else "-"
                written = sign + self.element(operand, PRECEDENCE["call"])
                return written, PRECEDENCE["unary"]
            case ir.Binary("**", base, ir.Const("2" | "2.0")):
                return f"square_({self.element(base)})", call
            case ir.Binary("**", base, ir.Const("0.5")):
                return f"sqrt_({self.element(base)})", call
            case ir.Binary("**", base, exponent):
                return f"pow_({self.element(base)}, {self.element(exponent)})", call
            case ir.Binary("/", left, right) if not is_element(right):
                # One division a tensor, not one an element.
                factor = f"real(1.0 / {self.number(right, PRECEDENCE['unary'])})"
                return f"{self.element(left, PRECEDENCE['*'])} * {factor}", PRECEDENCE[
                    "*"
                ]
            case ir.Binary(operator, left, right):
                return self._infix(operator, left, right, self.element)
            case ir.Choose(condition, then, otherwise):
                return self._choice(condition, then, otherwise, self.element)
            case ir.Call("where", (condition, then, otherwise)):
                return self._choice(condition, then, otherwise, self.element)
            case ir.Call("zeros_like" | "ones_like" as function):
                return f"real({_FILLED[function]})", call
            case ir.Call("full_like", (_, value)):
                return self._rounded(value), call
            case ir.Call(function, arguments):
                parts = ", ".join(self.element(each) for each in arguments)
                return f"{function}_({parts})", call
        raise AssertionError(expr)

    # ---- both

    def _choice(
        self, condition: ir.Expr, then: ir.Expr, otherwise: ir.Expr, part: Callable
    ) -> tuple[str, int]:
        numbers = part == self.number or not is_element(condition)
        tested = self.number if numbers else self.element
        above = PRECEDENCE["choose"] + 1
        written = f"{tested(condition, above)} ? {part(then, above)}"
        return f"{written} : {part(otherwise, above)}", PRECEDENCE["choose"]

    def _infix(
        self, operator: str, left: ir.Expr, right: ir.Expr, part: Callable
    ) -> tuple[str, int]:
        precedence = PRECEDENCE[operator]
        # No compiler has to warn of `a || b && c`, nor of comparisons in a row.
        least = precedence + 1 if precedence in (4, 5) else precedence
        if operator == "or":
            least = PRECEDENCE["and"] + 1
        written = f"{part(left, least)} {_SPELLED.get(operator, operator)} "
        return written + part(right, max(least, precedence + 1)), precedence


def compared(expr: ir.Binary) -> ir.Ref | None:
    """The state in memory, a number that stays a tensor, which an expression compares. It
    is compared as torch does, in its own precision: a hyper that it started from is equal
    to it.
    """
    sides = expr.left, expr.right
    if expr.operator not in _COMPARISONS or any(isinstance(x, ir.Const) for x in sides):
        return None
    return next(filter(_is_held, sides), None)


def _is_held(expr: ir.Expr) -> bool:
    return (
        isinstance(expr, ir.Ref)
        and expr.role is ir.Role.STATE
        and not expr.type.on_host
        and not is_element(expr)
    )


def _bracketed(written: str, precedence: int, least: int) -> str:
    return written if precedence >= least else f"({written})"


def _literal(const: ir.Const) -> str:
    if const.text in _CONSTANTS:
        return _CONSTANTS[const.text]
    text = const.text.replace("_", "")
    return text if any(each in text for each in ".eE") else f"{text}.0"
