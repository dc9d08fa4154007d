"""Formulas in LaTeX, for amsmath. What is printed needs no brackets that a paper would
not have: fractions, roots and exponents hold together by themselves.
"""

import re

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

SIGNS = {"!=": r"\neq", "<=": r"\leq", ">=": r"\geq", "==": "=", "<": "<", ">": ">"}
_FENCES = {
    "norm": r"\left\Vert {} \right\Vert", "abs": r"\left| {} \right|",
    "floor": r"\left\lfloor {} \right\rfloor", "ceil": r"\left\lceil {} \right\rceil",
    "dot": r"\left\langle {} \right\rangle",
}  # fmt: skip
_NAMED = frozenset("exp log sin cos tan sinh cosh tanh max min".split())
_ESCAPED = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{each: "\\" + each for each in "_{}%&#$"},
}  # fmt: skip


def latex(formula: Formula, least: int = 0) -> str:
    """The formula, in brackets where it binds less than `least`."""
    text = _written(formula)
    return text if _binding(formula) >= least else _bracketed(text)


def words(text: str) -> str:
    """Words between formulas."""
    return rf"\text{{{escaped(text)}}}"


def escaped(text: str) -> str:
    return "".join(_ESCAPED.get(each, each) for each in text)


def upright(name: str) -> str:
    return rf"\mathrm{{{escaped(name)}}}"


def _bracketed(text: str) -> str:
    return rf"\left( {text} \right)"


def _binding(formula: Formula) -> Binding:
    """A number with an exponent is a power, or a product with one."""
    if isinstance(formula, Number) and "e" in formula.text:
        mantissa = formula.text.partition("e")[0]
        return Binding.POWER if _is_one(mantissa) else Binding.PRODUCT
    return binding(formula)


def _is_one(mantissa: str) -> bool:
    return float(mantissa) == 1


def _written(formula: Formula) -> str:
    match formula:
        case Symbol(letter, time):
            below = ", ".join(each for each in (letter.below, time) if each)
            return letter.latex + (f"_{{{below}}}" if below else "")
        case Number(text):
            return _number(text)
        case Word(text):
            return words(re.sub(r'^"(.*)"$', r"``\1''", text))
        case Sum(terms):
            return _sum(terms)
        case Negative(inner):
            return f"-{latex(inner, Binding.MATRICES)}"
        case Product():
            return _product(formula)
        case MatrixProduct(factors):
            return r" \, ".join(latex(each, Binding.POWER) for each in factors)
        case Quotient(top, bottom):
            return rf"\frac{{{latex(top)}}}{{{latex(bottom)}}}"
        case Power(base, exponent):
            return f"{latex(base, Binding.ATOM)}^{{{latex(exponent)}}}"
        case Root(inner):
            return rf"\sqrt{{{latex(inner)}}}"
        case Transpose(inner):
            return rf"{latex(inner, Binding.ATOM)}^{{\top}}"
        case Apply(name, arguments, options):
            sign = (
                f"\\{name}" if name in _NAMED else rf"\operatorname{{{escaped(name)}}}"
            )
            return sign + _below(options) + _bracketed(_listed(arguments))
        case Fence(kind, arguments, options):
            return _FENCES[kind].format(_listed(arguments)) + _below(options)
        case Item(value, index):
            return f"{latex(value, Binding.ATOM)}[{latex(index)}]"
        case Several(items):
            return _bracketed(_listed(items))
        case Relation(operator, left, right):
            sides = (latex(each, Binding.SUM) for each in (left, right))
            return f" {SIGNS[operator]} ".join(sides)
        case Logic(operator, items):
            least = Binding.NOT if operator == "and" else Binding.AND
            sign = rf" \text{{ {operator} }} "
            return sign.join(latex(each, least) for each in items)
        case Not(inner):
            return rf"\text{{not }} {latex(inner, Binding.RELATION)}"
        case Choice():
            return _cases(formula)
    raise AssertionError(formula)


def _number(text: str) -> str:
    if text in ("math.inf", "math.pi"):
        return {"math.inf": r"\infty", "math.pi": r"\pi"}[text]
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    power = f"10^{{{int(exponent)}}}"
    return power if _is_one(mantissa) else rf"{mantissa} \cdot {power}"


def _sum(terms: tuple[tuple[bool, Formula], ...]) -> str:
    text = ""
    for taken, term in terms:
        sign = "-" if taken else "+"
        text += f" {sign} " if text else "-" * taken
        text += latex(term, Binding.MATRICES)
    return text


def _product(product: Product) -> str:
    """Factors side by side, with a dot where they would be read as one number or as a
    function of what is in brackets, and a circle between two tensors.
    """
    alone = sum(product.tensors) == 1
    parts = [
        latex(
            each,
            Binding.MATRICES
            if alone and isinstance(each, MatrixProduct)
            else Binding.PRODUCT,
        )
        for each in product.factors
    ]
    text = parts[0]
    for at, part in enumerate(parts[1:], 1):
        if product.tensors[at - 1] and product.tensors[at]:
            sign = r"\odot"
        elif part[0].isdigit() or part.startswith((r"\left(", "-")):
            sign = r"\cdot"
        else:
            sign = r"\,"
        text += f" {sign} {part}"
    return text


def _cases(choice: Choice) -> str:
    rows, rest = [], choice
    while isinstance(rest, Choice):
        asked = latex(rest.condition)
        rows.append(rf"{latex(rest.then)} & \text{{if }} {asked}")
        rest = rest.otherwise
    rows.append(rf"{latex(rest)} & \text{{otherwise}}")
    joined = r" \\ ".join(rows)
    return rf"\begin{{cases}} {joined} \end{{cases}}"


def _below(options: tuple[str, ...]) -> str:
    return f"_{{{words(', '.join(options))}}}" if options else ""


def _listed(arguments: tuple[Formula, ...]) -> str:
    return ", ".join(map(latex, arguments))
