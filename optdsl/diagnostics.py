"""What is wrong with a spec, as data, and the one way to show it.

A diagnostic has a code, a title, a primary label under the caret, further labels at
other culprits, notes and a help line. Titles say what is wrong without the fix; the
fix stands in the label or in the help.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .source import Source, Span

LONGEST = 60
"""The longest name that a suggestion is looked for."""
WIDEST = 100
"""The most characters of a line that are quoted."""

Paint = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Label:
    """A place and what is said of it; of another file, where it has a `source`."""

    span: Span
    text: str = ""
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: `code` (E0201), `message`, and where: `line` and `column` from 1.

    A finding about a whole file (it is missing, it is too large) has line and column 1
    and no label. The places are those of the file that a person wrote: of the modifier,
    where a spec uses one.
    """

    code: str
    message: str
    source: Source
    label: Label | None = None
    others: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    help: str = ""

    @property
    def line(self) -> int:
        return self._position[0]

    @property
    def column(self) -> int:
        return self._position[1]

    @property
    def file(self) -> str:
        """What the file with the mistake is called."""
        return self.written(self.label)[0].name if self.label else self.source.name

    @property
    def _position(self) -> tuple[int, int]:
        if not self.label:
            return 1, 1
        source, span = self.written(self.label)
        return source.position(span.start)

    def written(self, label: Label) -> tuple[Source, Span]:
        """The file that a label is about, and the place in it."""
        return (label.source or self.source).written(label.span)

    @property
    def is_warning(self) -> bool:
        return self.code.startswith("W")

    def __str__(self) -> str:
        return render(self)


class OptdslError(Exception):
    """A spec that cannot be compiled; `diagnostics` says everything that is wrong."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__("\n\n".join(render(each) for each in self.diagnostics))

    def __reduce__(self):
        return OptdslError, (self.diagnostics,)


class InternalError(Exception):
    """A mistake of the compiler, never of the spec."""

    def __init__(self, stage: str, what: str) -> None:
        super().__init__(f"{stage}: {what}; this is a bug in optdsl")


def render(diagnostic: Diagnostic, paint: Paint = lambda text, style: text) -> str:
    """The diagnostic as text: title, place, source lines with carets, notes, help.

    `paint(text, style)` colours a piece; styles are error, warning, frame, caret, other.
    """
    level = "warning" if diagnostic.is_warning else "error"
    head = paint(f"{level}[{diagnostic.code}]", level) + f": {diagnostic.message}"
    labels = [diagnostic.label] if diagnostic.label else []
    labels += diagnostic.others
    files: dict[str, list[_Mark]] = {}
    for each in labels:
        source, span = diagnostic.written(each)
        mark = _Mark(source, span, each.text, each is diagnostic.label)
        files.setdefault(source.name, []).append(mark)
    numbers = [mark.line for marks in files.values() for mark in marks]
    gutter = max((len(str(number)) for number in numbers), default=1)
    rows = [head]
    if not files:
        name = _visible(diagnostic.source.name)
        rows.append(" " * gutter + paint("-->", "frame") + f" {name}")
    for name, marks in files.items():
        line, column = marks[0].source.position(marks[0].span.start)
        arrow = paint("-->" if len(rows) == 1 else ":::", "frame")
        rows.append(" " * gutter + f"{arrow} {_visible(name)}:{line}:{column}")
        rows.append(" " * gutter + f" {paint('|', 'frame')}")
        for number in sorted({mark.line for mark in marks}):
            here = [mark for mark in marks if mark.line == number]
            rows += _quoted(here, gutter, paint)
    bar = paint("|", "frame")
    if diagnostic.notes or diagnostic.help:
        rows.append(" " * gutter + f" {bar}")
    rows += [" " * gutter + f" = note: {note}" for note in diagnostic.notes]
    if diagnostic.help:
        rows.append(" " * gutter + f" = help: {diagnostic.help}")
    return "\n".join(rows)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A label, at the place of its file."""

    source: Source
    span: Span
    text: str
    primary: bool

    @property
    def line(self) -> int:
        return self.source.position(self.span.start)[0]

    @property
    def column(self) -> int:
        return self.source.position(self.span.start)[1]


def _quoted(marks: list[_Mark], gutter: int, paint: Paint) -> list[str]:
    """A line of a file, and below it what is said of it."""
    bar, number = paint("|", "frame"), marks[0].line
    text = marks[0].source.lines[number - 1]
    skipped = _skipped(text, marks[0].column)
    quoted = "…" * bool(skipped) + _visible(text[skipped : skipped + WIDEST])
    rows = [f"{paint(str(number).rjust(gutter), 'frame')} {bar} {quoted}".rstrip()]
    for mark in marks:
        column = mark.column - skipped + bool(skipped)
        if not 0 < column <= WIDEST + 1:
            continue
        length = mark.span.end - mark.span.start
        width = max(1, min(length, len(quoted) - column + 1))
        caret = ("^" if mark.primary else "-") * width + (mark.text and f" {mark.text}")
        style = "caret" if mark.primary else "other"
        blank = " " * (column - 1)
        rows.append(" " * gutter + f" {bar} {blank}{paint(caret, style)}")
    return rows


def _skipped(text: str, column: int) -> int:
    """How many characters of a long line to leave out before the one that matters."""
    return 0 if len(text) <= WIDEST else max(0, column - WIDEST // 2)


def _visible(text: str) -> str:
    """The text with one visible character for each that a terminal would act on."""
    return "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """`did you mean ...?` for the nearest candidate within a third of the name, or ''."""
    if len(name) > LONGEST:
        return ""
    best, limit = "", len(name) // 3 + 1
    for candidate in sorted(
        candidates, key=lambda each: (abs(len(each) - len(name)), each)
    ):
        distance = (
            0
            if candidate.lower() == name.lower()
            else _distance(name, candidate, limit)
        )
        if distance < limit:
            best, limit = candidate, distance
    return f"did you mean `{best}`?" if best else ""


def _distance(left: str, right: str, limit: int) -> int:
    """Edit distance with neighbouring swaps, or `limit` where it is no less."""
    if abs(len(left) - len(right)) >= limit:
        return limit
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return min(row[-1], limit)
