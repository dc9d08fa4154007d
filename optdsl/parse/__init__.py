"""Text to syntax. In: a Source; out: a syntax.Spec, or OptdslError with every mistake.

After a mistake the line that holds it is blanked and the text is read again, so that
one run reports them all. This package is the only one that knows Lark.
"""

import os
import sys
from functools import cache
from pathlib import Path

from lark import Lark
from lark.exceptions import UnexpectedInput, UnexpectedToken

from .. import resources, syntax
from ..diagnostics import OptdslError
from ..source import Source
from .blame import blame
from .blocks import Blocks, Misindented
from .build import TooDeep, build
from .scan import scan

MOST_MISTAKES = 20


@cache
def grammar() -> Lark:
    return Lark(
        resources.grammar().read_text(encoding="utf-8"),
        parser="lalr",
        postlex=Blocks(),
        propagate_positions=True,
        maybe_placeholders=True,
        cache=_tables(),
    )


def _tables() -> str | bool:
    """Where Lark keeps the grammar's tables: to make them takes longer than to compile a
    spec. A folder of the user's own, since what is read back is a pickle; nowhere, where
    there is none to write to.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "optdsl"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private = (
            folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022
        )
    except (OSError, RuntimeError, AttributeError):
        return False
    return private and str(folder / f"grammar.{sys.implementation.cache_tag}.tables")


def parse(source: Source) -> syntax.Spec:
    """The tree of a spec.

    Raises:
        OptdslError: with one diagnostic a mistake, in the order of the file.
    """
    diagnostics = scan(source)
    text = source.text + "\n"
    for found in diagnostics:
        text = _without_line(text, found.line)
    most = MOST_MISTAKES if len(text) < 20_000 else 3
    while len(diagnostics) < most:
        try:
            spec = build(grammar().parse(text), source)
        except (UnexpectedInput, Misindented, TooDeep) as error:
            if diagnostics and _lost_a_bracket(text, error):
                break
            found = blame(error, source)
            again = any(each.line == found.line for each in diagnostics)
            if not again:
                diagnostics.append(found)
            shorter = _without_line(text, found.line, empty=again)
            # The end of a block has no line.
            if (getattr(error, "line", 0) or 0) > found.line:
                shorter = _without_line(shorter, error.line)
            if shorter == text:
                break
            text = shorter
        else:
            if not diagnostics:
                return spec
            break
    raise OptdslError(sorted(diagnostics, key=lambda each: (each.line, each.column)))


def _lost_a_bracket(text: str, error: Exception) -> bool:
    """Whether the end comes too early because a bracket went with the line of a mistake."""
    ends = isinstance(error, UnexpectedToken) and error.token.line is None
    return ends and sum(map(text.count, "([")) > sum(map(text.count, ")]"))


def _without_line(text: str, number: int, empty: bool = False) -> str:
    """The text, of the same length, in which a line says nothing any more.

    Inside a block a harmless line stands in, unless it has to be `empty`, so that
    the block is not; the block that a lost line opens goes with it, and so does a line
    above that opens no block.
    """
    lines = text.split("\n")
    lost = lines[number - 1]
    indent = len(lost) - len(lost.lstrip())
    harmless = "else->_" if _is_in_route(lines, number, indent) else "_=_"
    fits = indent and len(lost) >= indent + len(harmless) and not empty
    opener = next((at for at in range(number - 2, -1, -1) if lines[at].strip()), None)
    if opener is not None and lines[opener].rstrip().endswith(":"):
        if len(lines[opener]) - len(lines[opener].lstrip()) >= indent:
            lines[opener] = " " * len(lines[opener])
    lines[number - 1] = (" " * indent + harmless if fits else "").ljust(len(lost))
    for index in range(number, len(lines)):
        line = lines[index]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        lines[index] = " " * len(line)
    return "\n".join(lines)


def _is_in_route(lines: list[str], number: int, indent: int) -> bool:
    """Whether a line is one of a route."""
    for line in reversed(lines[: number - 1]):
        if line.strip() and len(line) - len(line.lstrip()) < indent:
            return line.startswith("route")
    return False
