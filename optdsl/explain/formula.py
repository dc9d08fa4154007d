"""Formulas as a paper has them: what is left of an expression without the machine.

Nodes know how tightly they bind; `plain` and `latex` print them, in brackets where it
takes brackets to be read as meant.
"""

from dataclasses import dataclass
from enum import IntEnum


class Binding(IntEnum):
    """How tightly a formula holds together, loosest first."""

    CHOICE = 1
    OR = 2
    AND = 3
    NOT = 4
    RELATION = 5
    SUM = 6
    MATRICES = 7
    PRODUCT = 8
    QUOTIENT = 9
    POWER = 10
    ATOM = 11


@dataclass(frozen=True, slots=True)
class Letter:
    """How a name is written: in plain text, and in LaTeX with what stands below it."""

    plain: str
    latex: str
    below: str = ""


@dataclass(frozen=True, slots=True)
class Symbol:
    """`time` is "", "0", "1", "t" or "t-1"."""

    letter: Letter
    time: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A number as the spec spells it."""

    text: str


@dataclass(frozen=True, slots=True)
class Word:
    """`true`, `none`, a text in quotes."""

    text: str


@dataclass(frozen=True, slots=True)
class Sum:
    """Each term with whether it is taken away."""

    terms: tuple[tuple[bool, "Formula"], ...]


@dataclass(frozen=True, slots=True)
class Negative:
    inner: "Formula"


@dataclass(frozen=True, slots=True)
class Product:
    """Numbers and tensors, element by element; `tensors` says which factors are one."""

    factors: tuple["Formula", ...]
    tensors: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class MatrixProduct:
    factors: tuple["Formula", ...]


@dataclass(frozen=True, slots=True)
class Quotient:
    top: "Formula"
    bottom: "Formula"


@dataclass(frozen=True, slots=True)
class Power:
    base: "Formula"
    exponent: "Formula"


@dataclass(frozen=True, slots=True)
class Root:
    inner: "Formula"


@dataclass(frozen=True, slots=True)
class Transpose:
    inner: "Formula"


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of arguments; `options` are words, as the axes of a mean."""

    name: str
    arguments: tuple["Formula", ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fence:
    """What a pair of signs stands around: `norm`, `abs`, `floor`, `ceil`, `dot`."""

    kind: str
    arguments: tuple["Formula", ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    value: "Formula"
    index: "Formula"


@dataclass(frozen=True, slots=True)
class Several:
    items: tuple["Formula", ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """`operator` is Python's."""

    operator: str
    left: "Formula"
    right: "Formula"


@dataclass(frozen=True, slots=True)
class Logic:
    """`and` or `or` of two or more."""

    operator: str
    items: tuple["Formula", ...]


@dataclass(frozen=True, slots=True)
class Not:
    inner: "Formula"


@dataclass(frozen=True, slots=True)
class Choice:
    condition: "Formula"
    then: "Formula"
    otherwise: "Formula"


Formula = (
    Symbol
    | Number
    | Word
    | Sum
    | Negative
    | Product
    | MatrixProduct
    | Quotient
    | Power
    | Root
    | Transpose
    | Apply
    | Fence
    | Item
    | Several
    | Relation
    | Logic
    | Not
    | Choice
)

BINDING: dict[type, Binding] = {
    Choice: Binding.CHOICE,
    Not: Binding.NOT,
    Relation: Binding.RELATION,
    Sum: Binding.SUM,
    Negative: Binding.SUM,
    MatrixProduct: Binding.MATRICES,
    Product: Binding.PRODUCT,
    Quotient: Binding.QUOTIENT,
    Power: Binding.POWER,
    Root: Binding.POWER,
    Transpose: Binding.POWER,
}


def binding(formula: Formula) -> Binding:
    if isinstance(formula, Logic):
        return Binding.AND if formula.operator == "and" else Binding.OR
    return BINDING.get(type(formula), Binding.ATOM)
