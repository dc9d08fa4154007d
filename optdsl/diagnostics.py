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
    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: `code` (E0201), `message`, and where: `line` and `column` from 1.

    A finding about a whole file (it is missing, it is too large) has line and column 1
    and no label.
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
        return self.source.position(self.label.span.start)[0] if self.label else 1

    @property
    def column(self) -> int:
        return self.source.position(self.label.span.start)[1] if self.label else 1

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
    lines = sorted({diagnostic.source.position(each.span.start)[0] for each in labels})
    gutter = max((len(str(number)) for number in lines), default=1)
    bar = paint("|", "frame")
    name = _visible(diagnostic.source.name)
    place = f"{name}:{diagnostic.line}:{diagnostic.column}" if labels else name
    rows = [head, " " * gutter + paint("-->", "frame") + f" {place}"]
    if labels:
        rows.append(" " * gutter + f" {bar}")
    for number in lines:
        text = diagnostic.source.lines[number - 1]
        here = [
            each
            for each in labels
            if diagnostic.source.position(each.span.start)[0] == number
        ]
        skipped = _skipped(text, diagnostic.source.position(here[0].span.start)[1])
        quoted = "…" * bool(skipped) + _visible(text[skipped : skipped + WIDEST])
        rows.append(
            f"{paint(str(number).rjust(gutter), 'frame')} {bar} {quoted}".rstrip()
        )
        for label in here:
            column = (
                diagnostic.source.position(label.span.start)[1]
                - skipped
                + bool(skipped)
            )
            if not 0 < column <= WIDEST + 1:
                continue
            width = max(
                1, min(label.span.end - label.span.start, len(quoted) - column + 1)
            )
            primary = label is diagnostic.label
            caret = ("^" if primary else "-") * width + (
                label.text and f" {label.text}"
            )
            rows.append(
                " " * gutter
                + f" {bar} "
                + " " * (column - 1)
                + paint(caret, "caret" if primary else "other")
            )
    if diagnostic.notes or diagnostic.help:
        rows.append(" " * gutter + f" {bar}")
    rows += [" " * gutter + f" = note: {note}" for note in diagnostic.notes]
    if diagnostic.help:
        rows.append(" " * gutter + f" = help: {diagnostic.help}")
    return "\n".join(rows)


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
