"""Several rules in one optimizer: which of them is for which parameters.

A condition is a host flag of what a parameter is; what it asks of its name is a reference
that is spelled as the question is: `matches(name, "embed")`.
"""

from dataclasses import dataclass, field

from ..source import Source, Span
from .nodes import Expr, Ref, Role
from .rules import Hyper
from .walks import reads

_BEFORE, _BEHIND = 'matches(name, "', '")'


def question(pattern: str) -> str:
    """How the question is spelled whether a name matches a regular expression."""
    return f"{_BEFORE}{pattern}{_BEHIND}"


def pattern_of(question: str) -> str:
    """The regular expression that a question is about."""
    return question.removeprefix(_BEFORE).removesuffix(_BEHIND)


@dataclass(frozen=True, slots=True)
class Line:
    """A rule and the parameters that it is for, all that are left where there is no
    condition; `settings` are hypers whose default is another one here.
    """

    rule: str
    condition: Expr | None
    settings: tuple[Hyper, ...]
    span: Span = field(compare=False, repr=False)

    @property
    def questions(self) -> tuple[Ref, ...]:
        """What is asked of the name."""
        refs = () if self.condition is None else reads(self.condition)
        return tuple(ref for ref in refs if ref.role is Role.HYPER)


@dataclass(frozen=True, slots=True)
class Route:
    """An optimizer that chooses for each parameter one of its rules."""

    name: str
    doc: str
    lines: tuple[Line, ...]
    source: Source = field(compare=False, repr=False)

    @property
    def asks_names(self) -> bool:
        return any(each.questions for each in self.lines)
