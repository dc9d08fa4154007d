"""A spec's text and places in it."""

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path

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
    """The text of one spec, and the name that messages call it by. Files that it uses lie
    in its `folder`, where it has one. A text that was put together says of what `pieces`.
    """

    name: str
    text: str
    folder: Path | None = None
    pieces: tuple["Piece", ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(each.text) for each in self.pieces)]

    @property
    def by_hand(self) -> "Source":
        """The file that goes by this name, without what it uses of others."""
        own = (each.source for each in self.pieces if each.source.name == self.name)
        return next(own, self)

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a character, both counted from 1."""
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1

    def cut(self, span: Span) -> str:
        """The text of a span on one line, as an equation is quoted."""
        return " ".join(self.text[span.start : span.end].split())

    def written(self, span: Span) -> tuple["Source", Span]:
        """The file in which a span was written, and where."""
        if not self.pieces:
            return self, span
        source, first = self._written_at(span.start)
        other, last = self._written_at(max(span.start, span.end - 1))
        whole = other == source and last.end > first.start
        return source, Span(first.start, last.end if whole else first.end)

    def _written_at(self, offset: int) -> tuple["Source", Span]:
        at = min(bisect_right(self._starts, offset), len(self.pieces)) - 1
        return self.pieces[at].written(offset - self._starts[at])


@dataclass(frozen=True, slots=True)
class Piece:
    """A text that is, or stands for, what was written at a place."""

    text: str
    source: Source
    span: Span

    def written(self, offset: int) -> tuple[Source, Span]:
        """Where a character was written; all of the place, for a text that stands for it."""
        start, end = self.span.start, self.span.end
        if self.text == self.source.text[start:end]:
            start, end = start + offset, start + offset + 1
        return self.source.written(Span(start, end))
