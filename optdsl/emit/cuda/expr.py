"""Expressions as the Python of Triton: numbers in float64, elements in the precision of the
kernel.

A number in the middle of arithmetic on elements is worked out in float64 and rounded once.
What the options alone decide is decided when a kernel is built, and so is what the text of
a spec says; Triton knows both as Python's own numbers, which take the precision of what
they meet.
"""

from collections.abc import Callable

from ... import ir
from ...ir.kernels import Level, level
from ..cpu.expr import compared

PRECEDENCE = {
    "choose": 1, "or": 2, "and": 3, "not": 4, "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5,
    ">=": 5, "|": 6, "&": 7, "+": 8, "-": 8, "*": 9, "/": 9, "unary": 10, "call": 11,
}  # fmt: skip
_OF_ELEMENTS = {"and": "&", "or": "|"}
_CONSTANTS = {"math.inf": 'float("inf")', "math.pi": "3.141592653589793", "None": "0.0"}
# What Triton has itself, and what kernels share; the rest is libdevice's.
_OF_TRITON = frozenset("abs sqrt rsqrt floor ceil erf".split())
_SHARED = {"max": "larger", "min": "smaller"} | {
    name: name
    for name in "square reciprocal sigmoid sign clamp lerp isnan isfinite".split()
}
_OTHER_NAMES = {"round": "rint"}

Name = Callable[[ir.Ref | ir.Index], str]


def is_element(expr: ir.Expr) -> bool:
    """Whether it is worked out once an element."""
    return expr.type.kind is ir.Kind.TENSOR


class Printer:
    """Prints expressions; `name` spells a reference, or one item of a tuple, `is_built_in`
    says which are known when a kernel is built, and `kept` the type that a state has in
    memory. What is worked out once an element is of a `shape` and of the precision `real`.
    Where elements are those of matrices, `lines` prints what there is once a line, or once
    a matrix, which they meet in its own precision.
    """

    def __init__(
        self,
        name: Name,
        is_built_in: Callable[[ir.Ref], bool],
        kept: Callable[[ir.Ref], str],
        real: str = "real",
        shape: str = "[BLOCK]",
        lines: "Printer | None" = None,
    ) -> None:
        self.name = name
        self.is_built_in = is_built_in
        self.kept = kept
        self.real = real
        self.shape = shape
        self.lines = lines

    def number(self, expr: ir.Expr, least: int = 0) -> str:
        return _bracketed(*self._number(expr), least)

    def element(self, expr: ir.Expr, least: int = 0) -> str:
        """What is worked out once an element, of a number where it is one."""
        if not is_element(expr) or self._of_lines(expr):
            return self._rounded(expr, least)
        return _bracketed(*self._element(expr), least)

    def _of_lines(self, expr: ir.Expr) -> bool:
        """Whether it has one number of each line, or of each matrix."""
        of = level(expr.type)
        return self.lines is not None and of in (Level.LINE, Level.MATRIX)

    def value(self, expr: ir.Expr) -> str:
        """A number that is one of Triton's, whatever it is made of."""
        return self.number(expr) if not self._is_built_in(expr) else self._made(expr)

    def _made(self, expr: ir.Expr) -> str:
        if expr.type.element == "flag":
            return f"tl.full([], {self.number(expr)}, tl.int1)"
        return f"double({self.number(expr)})"

    def _is_built_in(self, expr: ir.Expr) -> bool:
        if any(isinstance(x, (ir.Choose, ir.Call)) for x in ir.walk(expr)):
            return False  # its numbers are Triton's already
        return all(map(self.is_built_in, ir.reads(expr)))

    # ---- numbers

    def _number(self, expr: ir.Expr) -> tuple[str, int]:
        call = PRECEDENCE["call"]
        match expr:
            case ir.Const():
                return _literal(expr), call
            case ir.Ref() | ir.Index(value=ir.Ref()):
                return self.name(expr), call
            case ir.Unary(operator, operand):
                return self._unary(operator, operand)
            case ir.Binary("**", base, exponent):
                parts = f"{self.value(base)}, {self.value(exponent)}"
                return f"libdevice.pow({parts})", call
            case ir.Binary("//" | "%" as operator, left, right):
                function = "floor_divide" if operator == "//" else "modulo"
                return f"{function}({self.value(left)}, {self.value(right)})", call
            case ir.Binary("and" | "or" as operator, left, right):
                return self._infix(operator, operator, left, right, self.number)
            case ir.Binary(operator, left, right) if state := compared(expr):
                kind = self.kept(state)
                sides = (f"kept({self.value(x)}, {kind})" for x in (left, right))
                return f" {operator} ".join(sides), PRECEDENCE[operator]
            case ir.Binary(operator, left, right):
                return self._infix(operator, operator, left, right, self._of_number)
            case ir.Choose(condition, then, otherwise) | ir.Call(
                "where", (condition, then, otherwise)
            ):
                return self._choice(condition, then, otherwise, self.value)
            case ir.Call("finfo_eps"):
                return "epsilon_of(p_t)", call
            case ir.Call(function, arguments):
                return self._call(function, [self.value(each) for each in arguments])
        raise AssertionError(expr)

    def _of_number(self, expr: ir.Expr, least: int = 0) -> str:
        """An operand of arithmetic."""
        if expr.type.element == "flag" and not isinstance(expr, ir.Const):
            return f"({self.value(expr)}).to(tl.float64)"
        return self.number(expr, least)

    # ---- elements

    def _rounded(self, expr: ir.Expr, least: int = 0) -> str:
        if self.lines is not None and self._of_lines(expr):
            if expr.type.element == "flag":
                return self.lines.element(expr, PRECEDENCE["unary"])
            return f"{self.lines.element(expr, PRECEDENCE['call'])}.to({self.real})"
        if expr.type.element == "flag":
            return self.number(expr, PRECEDENCE["unary"])
        if self._is_built_in(expr):
            return self.number(expr, PRECEDENCE["unary"])
        if self.real == "tl.float64":
            return self.number(expr, least)
        return f"{self.number(expr, PRECEDENCE['call'])}.to({self.real})"

    def _element(self, expr: ir.Expr) -> tuple[str, int]:
        call = PRECEDENCE["call"]
        match expr:
            case ir.Ref():
                return self.name(expr), call
            case ir.Unary("not", operand):
                return f"~{self.element(operand, call)}", PRECEDENCE["unary"]
            case ir.Unary(_, operand):
                return f"-{self.element(operand, call)}", PRECEDENCE["unary"]
            case ir.Binary("**", base, ir.Const("2" | "2.0")):
                return f"square({self.element(base)})", call
            case ir.Binary("**", base, ir.Const("0.5")):
                return f"tl.sqrt({self.element(base)})", call
            case ir.Binary("**", base, exponent) | ir.Call("pow", (base, exponent)):
                parts = f"{self._block(base)}, {self._block(exponent)}"
                return f"libdevice.pow({parts})", call
            case ir.Binary("and" | "or" as operator, left, right):
                written = _OF_ELEMENTS[operator]
                return self._infix(written, written, left, right, self.element)
            case ir.Binary(operator, left, right) if self.real == "tl.float64" and (
                state := compared(expr)
            ):
                kind = self.kept(state)
                sides = (f"kept({self._block(x)}, {kind})" for x in (left, right))
                return f" {operator} ".join(sides), PRECEDENCE[operator]
            case ir.Binary(operator, left, right):
                return self._infix(operator, operator, left, right, self._of_element)
            case ir.Choose(condition, then, otherwise) | ir.Call(
                "where", (condition, then, otherwise)
            ):
                return self._choice(condition, then, otherwise, self._block)
            case ir.Call("zeros_like"):
                return f"tl.zeros({self.shape}, {self.real})", call
            case ir.Call("ones_like"):
                return f"tl.full({self.shape}, 1.0, {self.real})", call
            case ir.Call("full_like", (_, value)):
                filled = f"{self.shape}, {self._rounded(value)}, {self.real}"
                return f"tl.full({filled})", call
            case ir.Call(function, arguments):
                parts = [self.element(each) for each in arguments]
                if function not in _SHARED:
                    parts = [self._block(each) for each in arguments]
                return self._call(function, parts)
        raise AssertionError(expr)

    def _of_element(self, expr: ir.Expr, least: int = 0) -> str:
        """An operand of arithmetic."""
        if expr.type.element == "flag":
            return f"({self.element(expr)}).to({self.real})"
        return self.element(expr, least)

    def _block(self, expr: ir.Expr) -> str:
        """What libdevice takes: it does not know Python's numbers."""
        if not is_element(expr) and self._is_built_in(expr):
            return f"tl.full([], {self.number(expr)}, {self._kind(expr)})"
        return self.element(expr)

    def _kind(self, expr: ir.Expr) -> str:
        return "tl.int1" if expr.type.element == "flag" else self.real

    def whole(self, expr: ir.Expr) -> str:
        """A block, also of a number."""
        if self._of_lines(expr):
            return f"tl.broadcast_to({self.element(expr)}, {self.shape})"
        if is_element(expr):
            return self.element(expr)
        return f"tl.full({self.shape}, {self._rounded(expr)}, {self._kind(expr)})"

    # ---- both

    def _call(self, function: str, parts: list[str]) -> tuple[str, int]:
        if function in _SHARED:
            name = _SHARED[function]
        elif function in _OF_TRITON:
            name = f"tl.{function}"
        else:
            name = f"libdevice.{_OTHER_NAMES.get(function, function)}"
        return f"{name}({', '.join(parts)})", PRECEDENCE["call"]

    def _unary(self, operator: str, operand: ir.Expr) -> tuple[str, int]:
        if operator == "not":
            below = PRECEDENCE["not"]
            return f"not {self.number(operand, below)}", below
        below = PRECEDENCE["unary"]
        return f"-{self._of_number(operand, PRECEDENCE['call'])}", below

    def _choice(
        self, condition: ir.Expr, then: ir.Expr, otherwise: ir.Expr, part: Callable
    ) -> tuple[str, int]:
        """By an option one of two, of which the other is not built; else of both."""
        if not is_element(condition) and self._is_built_in(condition):
            tested = self.number(condition, PRECEDENCE["or"])
            chosen = self.whole if part == self._block else part
            parts = [_bracketed_choice(chosen(each)) for each in (then, otherwise)]
            return f"{parts[0]} if {tested} else {parts[1]}", PRECEDENCE["choose"]
        tested = self.element if is_element(condition) else self.number
        parts = ", ".join([tested(condition), part(then), part(otherwise)])
        return f"tl.where({parts})", PRECEDENCE["call"]

    def _infix(
        self, operator: str, as_: str, left: ir.Expr, right: ir.Expr, part: Callable
    ) -> tuple[str, int]:
        precedence = PRECEDENCE[as_]
        # Python takes comparisons in a row for one of their middle.
        least = precedence + 1 if precedence == PRECEDENCE["=="] else precedence
        if as_ == "or":
            least = PRECEDENCE["and"] + 1
        written = f"{part(left, least)} {operator} "
        return written + part(right, max(least, precedence + 1)), precedence


def _bracketed_choice(written: str) -> str:
    return f"({written})" if " if " in written else written


def _bracketed(written: str, precedence: int, least: int) -> str:
    return written if precedence >= least else f"({written})"


def _literal(const: ir.Const) -> str:
    if const.text in _CONSTANTS:
        return _CONSTANTS[const.text]
    if const.text in ("True", "False"):
        return const.text
    text = const.text.replace("_", "")
    return text if any(each in text for each in ".eE") else f"{text}.0"
