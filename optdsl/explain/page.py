"""What is known of a rule, printed for people: in a terminal, and plain where it is
piped.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from . import Explained, Named
from .equations import INDENT
from .memory import Kept
from .options import Option
from .traffic import Traffic

WIDTH = 88
_READ = (
    "xₜ₋₁ is x before the step; xₜ is x from the line on that sets it, and as before where "
    "none has. Products, fractions, powers and roots are element by element; @ multiplies "
    "matrices."
)
_COUNTED = (
    "Counted: float32, the default hypers, a later step than the first. Each pass reads "
    "what it needs of p, grad and the states like p and writes what it is done with; only "
    "numbers, rows and columns are kept between passes. A reduction ends a pass. Where a "
    "branch depends on more than the hypers, both sides count."
)


def page(explained: Explained) -> str:
    """Everything, a section for each thing that is known."""
    console = Console()
    width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(Text(explained.doc or explained.name))
        for title, body in sections(explained, width - INDENT):
            console.print()
            console.print(Text(title, "bold"))
            inside = body if isinstance(body, Table) else Text("\n".join(body))
            console.print(Padding(inside, (0, 0, 0, INDENT)))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def sections(
    explained: Explained, width: int
) -> Iterator[tuple[str, Table | list[str]]]:
    """The title of each section, and its lines or its table."""
    yield "Names", _table(map(_named, explained.names))
    if explained.starts:
        yield "Before the first step", folded(explained.starts, width)
    read = textwrap.wrap(_READ, width)
    yield "Equations", [*folded(explained.equations, width), "", *read]
    yield (
        "State",
        _table(map(_kept, explained.memory)) if explained.memory else ["none"],
    )
    moved = [each for counted in explained.traffic for each in traffic_words(counted)]
    counted = textwrap.wrap(_COUNTED, width)
    yield "Bytes moved, an element and step", [*folded(moved, width), "", *counted]
    works = [(f"line {each.line}", each.text, each.kinds) for each in explained.works]
    yield (
        "Statements",
        _table((line, text, "\n".join(kinds)) for line, text, kinds in works),
    )
    yield "Barriers across parameters", list(explained.barriers) or ["none"]
    if explained.options:
        lines = [each for option in explained.options for each in _option(option)]
        yield "Options", folded(lines, width)
    yield "Targets", _table(explained.targets.items())


def _table(rows: Iterable[Sequence[str]]) -> Table:
    made = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def folded(lines: Iterable[str], width: int) -> list[str]:
    """The lines, those that are too long hanging below their start."""
    result = []
    for line in lines:
        text = line.lstrip()
        indent = line.removesuffix(text)
        result += textwrap.wrap(
            text,
            width,
            initial_indent=indent,
            subsequent_indent=indent + " " * 2 * INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return result


def _named(named: Named) -> tuple[str, str, str]:
    letter = named.letter if named.letter != named.name else ""
    return letter, named.name, named.meaning


def _kept(kept: Kept) -> tuple[str, str, str]:
    words = ""
    if kept.when:
        words = f"only where {kept.when}" + ", off by default" * (kept.now is False)
    return kept.name, kept.text, words


def traffic_words(traffic: Traffic) -> Iterator[str]:
    """How much is moved, of what, and what each pass waits for."""
    where = ""
    if traffic.axes:
        axes = ", ".join(map(str, traffic.axes))
        where = f" where ndim(p) is {'one of ' * (len(traffic.axes) > 1)}{axes}"
    moved = ", ".join(
        f"{each.name} {' + '.join(str(part) for part in (each.read, each.written) if part)}"
        for each in traffic.moved
    )
    least = "at least " if traffic.matrices else ""
    yield f"{least}{traffic.bytes} bytes{where}, read + written: {moved}"
    if traffic.evaluates:
        yield "    what the closure and the work on whole matrices move comes on top"
    elif traffic.matrices:
        yield "    what the work on whole matrices moves comes on top"
    elif len(traffic.passes) == 1:
        yield "    one pass"
    else:
        yield f"    {len(traffic.passes)} passes"
    for at, after in enumerate(traffic.passes[1:], 2):
        written = f", which writes {_series(after.writes)}" if after.writes else ""
        yield f"    {_series(after.needs)} before pass {at}{written}"


def _series(names: Sequence[str]) -> str:
    *first, last = names or ("",)
    return f"{', '.join(first)} and {last}" if first else last


def _option(option: Option) -> Iterator[str]:
    yield option.words + (f", with {option.beside}" if option.beside else "")
    changes = [f"adds the state {each}" for each in option.adds_states]
    changes += [f"drops the state {each}" for each in option.drops_states]
    if option.moved != option.moved_without:
        now, before = (
            ", ".join(map(str, each)) for each in (option.moved, option.moved_without)
        )
        changes.append(f"moves {now} bytes instead of {before}")
    yield from (f"    {each}" for each in changes)
    for sign, lines in (("+", option.adds), ("-", option.drops)):
        block = textwrap.dedent("\n".join(lines)).splitlines()
        yield from (f"    {sign} {each}" for each in block)
