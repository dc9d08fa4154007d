"""A spec's text and places in it."""

from dataclasses import dataclass
from functools import cached_property

LARGEST = 100_000
"""The most characters that are read of a spec."""


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `start` to `end` (exclusive) of a source."""

    start: int
    end: int

    def to(self, other: "Span") -> "Span":
        return Span(self.start, other.end)


@dataclass(frozen=True)
class Source:
    """The text of one spec, and the name that messages call it by."""

    name: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a character, both counted from 1."""
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1

    def cut(self, span: Span) -> str:
        """The text of a span on one line, as an equation is quoted."""
        return " ".join(self.text[span.start : span.end].split())
