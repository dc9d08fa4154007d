"""Formulas as a line of plain text. What is printed has the brackets that Python would
need, so that nobody has to know more rules than those.
"""

from .formula import (
    Apply,
    Binding,
    Choice,
    Fence,
    Formula,
    Item,
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
    binding,
)

SIGNS = {"!=": "≠", "<=": "≤", ">=": "≥", "==": "=", "<": "<", ">": ">"}
BELOW = {"": "", "0": "₀", "1": "₁", "t": "ₜ", "t-1": "ₜ₋₁"}
ABOVE = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_FENCES = {
    "norm": "‖{}‖", "abs": "|{}|", "floor": "⌊{}⌋", "ceil": "⌈{}⌉", "dot": "⟨{}⟩",
}  # fmt: skip


def plain(formula: Formula, least: int = 0) -> str:
    """The formula, in brackets where it binds less than `least`."""
    text = _written(formula)
    return text if binding(formula) >= least else f"({text})"


def _written(formula: Formula) -> str:
    match formula:
        case Symbol(letter, time):
            return letter.plain + BELOW[time]
        case Number(text):
            return {"math.inf": "∞", "math.pi": "π"}.get(text, text)
        case Word(text):
            return text
        case Sum(terms):
            return _sum(terms)
        case Negative(inner):
            return f"-{plain(inner, Binding.MATRICES)}"
        case Product(factors):
            return "·".join(plain(each, Binding.PRODUCT) for each in factors)
        case MatrixProduct(factors):
            return " @ ".join(plain(each, Binding.POWER) for each in factors)
        case Quotient(top, bottom):
            return f"{plain(top, Binding.PRODUCT)}/{plain(bottom, Binding.POWER)}"
        case Power(base, exponent):
            return plain(base, Binding.ATOM) + _exponent(exponent)
        case Root(inner):
            return f"√{plain(inner)}" if _is_short(inner) else f"√({plain(inner)})"
        case Transpose(inner):
            return f"{plain(inner, Binding.ATOM)}ᵀ"
        case Apply(name, arguments, options):
            return f"{name}({_listed(arguments, options)})"
        case Fence(kind, arguments, options):
            return _fenced(kind, _listed(arguments), options)
        case Item(value, index):
            return f"{plain(value, Binding.ATOM)}[{plain(index)}]"
        case Several(items):
            return f"({_listed(items)}{',' * (len(items) == 1)})"
        case Relation(operator, left, right):
            sides = (plain(each, Binding.SUM) for each in (left, right))
            return f" {SIGNS[operator]} ".join(sides)
        case Logic(operator, items):
            least = Binding.NOT if operator == "and" else Binding.AND
            return f" {operator} ".join(plain(each, least) for each in items)
        case Not(inner):
            return f"not {plain(inner, Binding.RELATION)}"
        case Choice(condition, then, otherwise):
            first, asked = plain(then, Binding.OR), plain(condition, Binding.OR)
            return f"{first} if {asked} else {plain(otherwise)}"
    raise AssertionError(formula)


def _sum(terms: tuple[tuple[bool, Formula], ...]) -> str:
    text = ""
    for taken, term in terms:
        sign = "-" if taken else "+"
        text += f" {sign} " if text else "-" * taken
        text += plain(term, Binding.MATRICES)
    return text


def _fenced(kind: str, inner: str, options: tuple[str, ...]) -> str:
    """Signs that are the same left and right do not stand within each other."""
    signs = _FENCES[kind]
    if options or (signs[0] == signs[-1] and signs[0] in inner):
        return f"{kind}({', '.join([inner, *options])})"
    return signs.format(inner)


def _exponent(exponent: Formula) -> str:
    if isinstance(exponent, Number) and exponent.text.isdigit():
        return exponent.text.translate(ABOVE)
    return f"^{plain(exponent, Binding.ATOM)}"


def _is_short(inner: Formula) -> bool:
    return isinstance(inner, (Symbol, Number))


def _listed(arguments: tuple[Formula, ...], options: tuple[str, ...] = ()) -> str:
    return ", ".join([*map(plain, arguments), *options])
