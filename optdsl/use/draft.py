"""A spec's text on its way to another one: what is put in its place, and lines that come
between. Every piece keeps the place where a person wrote it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .. import syntax
from ..source import Piece, Source, Span

Line = tuple[Piece, ...]
STEP = "    "


def glue(text: str, source: Source, span: Span) -> Piece:
    """A text that no one wrote, which stands for a place."""
    return Piece(text, source, span)


@dataclass
class Draft:
    """A text and its changes, which do not overlap; of two that come in at one place the
    first stands in front.
    """

    source: Source
    changes: list[tuple[Span, tuple[Piece, ...]]] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)

    def replace(self, span: Span, pieces: Iterable[Piece]) -> None:
        self.changes.append((span, tuple(pieces)))

    def rename(self, names: Iterable[tuple[Span, str]]) -> None:
        for span, name in names:
            self.replace(span, (glue(name, self.source, span),))

    def pieces(self, start: int, end: int) -> tuple[Piece, ...]:
        """The text from here to there, changed."""
        found: list[Piece] = []
        inside = [
            each
            for each in self.changes
            if start <= each[0].start <= each[0].end <= end
        ]
        for span, pieces in sorted(
            inside, key=lambda each: (each[0].start, each[0].end)
        ):
            found += self._as_is(start, span.start)
            found += pieces
            start = span.end
        return (*found, *self._as_is(start, end))

    def _as_is(self, start: int, end: int) -> list[Piece]:
        text = self.source.text[start:end]
        return [Piece(text, self.source, Span(start, end))] if text else []

    # ---- lines of a block

    def lines(self, block: Sequence[syntax.Statement], header: int) -> list[Line]:
        """The lines of a block, changed, without its indentation; its header begins at
        this place.
        """
        first, end = block[0].span.start, line_end(self.source, last(block).span.end)
        if _alone(self.source, first):
            indent = first - line_start(self.source, first)
            start = self.source.text.index("\n", header) + 1
        else:
            indent, start = 0, first
        lines = [_outdented(each, indent) for each in _split(self.pieces(start, end))]
        return [each for each in lines if each]

    def before(self, block: Sequence[syntax.Statement], lines: Iterable[Line]) -> None:
        """Lines in front of a block's first statement."""
        first = block[0]
        indent = self._indent(block)
        span = Span(first.span.start, first.span.start)
        for line in lines:
            self.replace(span, (*line, self._newline(indent, first.span)))

    def behind(
        self,
        statement: syntax.Statement,
        block: Sequence[syntax.Statement],
        lines: Iterable[Line],
    ) -> None:
        """Lines behind a statement of a block."""
        indent = self._indent(block)
        written = [
            piece
            for line in lines
            for piece in (self._newline(indent, statement.span), *line)
        ]
        text, at = self.source.text, last([statement]).span.end
        semicolon = re.compile(r" *; *(?=[^ #\n])").match(text, at)
        if semicolon and isinstance(statement, syntax.Assign):
            written.append(self._newline(indent, statement.span))
            self.replace(Span(at, semicolon.end()), written)
        else:
            end = line_end(self.source, at)
            self.replace(Span(end, end), written)

    def _indent(self, block: Sequence[syntax.Statement]) -> str:
        """How far a block is indented; one that stands behind its colon is put below it."""
        start = block[0].span.start
        line = line_start(self.source, start)
        text = self.source.text[line:start]
        if not text.strip():
            return text
        indent = text[: len(text) - len(text.lstrip())] + STEP
        if start not in self.broken:
            self.broken.add(start)
            colon = len(text.rstrip()) + line
            newline = self._newline(indent, Span(start, start + 1))
            self.replace(Span(colon, start), (newline,))
        return indent

    def _newline(self, indent: str, span: Span) -> Piece:
        return glue("\n" + indent, self.source, span)


def last(block: Sequence[syntax.Statement]) -> syntax.Statement:
    """The simple statement that a block ends with."""
    statement = block[-1]
    match statement:
        case syntax.If(then=then, otherwise=otherwise):
            return last(otherwise or then)
        case syntax.Repeat(body=body) | syntax.Complex(body=body):
            return last(body)
    return statement


def line_start(source: Source, at: int) -> int:
    return source.text.rfind("\n", 0, at) + 1


def line_end(source: Source, at: int) -> int:
    end = source.text.find("\n", at)
    return len(source.text) if end < 0 else end


def region(tree: syntax.Spec, part: syntax.Declaration, source: Source) -> Span:
    """The lines of a declaration, without the comments of the next one."""
    at = tree.declarations.index(part)
    later = tree.declarations[at + 1 :]
    end = later[0].span.start if later else len(source.text)
    lines = source.text[part.span.start : end].split("\n")
    while len(lines) > 1 and lines[-1].lstrip()[:1] in ("", "#"):
        lines.pop()
    return Span(part.span.start, part.span.start + len("\n".join(lines)))


def _alone(source: Source, start: int) -> bool:
    return not source.text[line_start(source, start) : start].strip()


def _split(pieces: Iterable[Piece]) -> list[Line]:
    lines: list[list[Piece]] = [[]]
    for piece in pieces:
        start = piece.span.start
        written = piece.text == piece.source.text[start : piece.span.end]
        for at, text in enumerate(piece.text.split("\n")):
            if at:
                lines.append([])
            span = Span(start, start + len(text)) if written else piece.span
            if text:
                lines[-1].append(Piece(text, piece.source, span))
            start += len(text) + 1
    return [tuple(each) for each in lines]


def _outdented(line: Line, indent: int) -> Line:
    if not line or not indent:
        return line
    first, *rest = line
    blank = min(indent, len(first.text) - len(first.text.lstrip(" ")))
    span = Span(first.span.start + blank, first.span.end)
    kept = Piece(first.text[blank:], first.source, span)
    return (kept, *rest) if kept.text else tuple(rest)
