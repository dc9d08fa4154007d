"""The kernels of a rule in Triton.

In: a program of passes. Out: the text of one Python module: kernels, and the function
that launches them one after the other. It is built for types and options when it is
launched.
"""

import re
import textwrap
from collections.abc import Iterator

from ...ir.kernels import Program
from ..layout import fit
from ..names import Names, keys
from .block import INDENT, gathered
from .bodies import Bodies
from .launches import Joint, Launch, Pass, Rows, Single
from .matrices import KINDS
from .singles import OfMatrices
from .tables import bracketed

_SHARED = (
    "clamp column count_of double elements epsilon_of floor_divide gradient if_there "
    "isfinite isnan keep keep_number kept larger largest largest_of lerp modulo number "
    "overflowed reciprocal sigmoid sign smaller smallest smallest_of spread square "
    "squares_of sum_of total"
).split()
_LISTED = (
    "each_column each_element each_flag each_left each_number filled keep_each "
    "keep_each_number put"
).split()
_TILED = (
    "added join_columns join_lines largest_in load load_gradient smallest_in store "
    "store_columns there total_in"
).split()
_TABLES = (
    "columns rows chunks row_of starts bounds numel group hypers asked numbers parts "
    "found_inf grad_scale"
).split()
_OF_MATRICES = (
    "shapes lines_before columns_before matrices_before line_parts_before "
    "column_parts_before"
).split()
_BUILT = ("real", "aligned", "even", "BLOCK", "LINES", "COLUMNS")
_KEYWORDS = [
    *(*_SHARED, *_LISTED, *_TABLES, *_BUILT),
    *"triton tl libdevice launch chunk row begin end left i n of at x".split(),
]
_KEYWORDS_OF_MATRICES = [
    *(*_TILED, *_OF_MATRICES),
    *"matrices height width size matrix line across tile tiles inside seen".split(),
]


def emit(program: Program) -> str:
    """The text of the kernels of a program."""
    return Kernels(program).text()


class Kernels:
    """Prints one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.rule = program.rule
        if program.view is None:
            self.bodies = Bodies(program, Names(_KEYWORDS))
        else:
            names = Names([*_KEYWORDS, *_KEYWORDS_OF_MATRICES])
            self.bodies = OfMatrices(program, names)

    # ---- the text

    def text(self) -> str:
        kernels: list[str] = []
        calls: list[str] = []
        numbered = dict.fromkeys((Rows, *KINDS), 0)
        for at, launch in enumerate(self.bodies.launches.all):
            match launch:
                case Rows():
                    numbered[Rows] += 1
                    name = f"numbers_{numbered[Rows]}"
                    body = self.bodies.rows(launch, at)
                case Pass():
                    name = f"pass_{launch.number}"
                    body = self.bodies.elements(launch, at)
                case Single(level):
                    numbered[level] += 1
                    name = f"{KINDS[level]}_{numbered[level]}"
                    body = self.bodies.single(launch, at)
                case Joint():
                    name, body = f"across_{launch.number}", self.bodies.across(launch)
            calls += _call(name, launch)
            kernels += ["", "", *self._kernel(name, [*body])]
        words = {*re.findall(r"\w+", "\n".join(kernels))}
        memory = [x for x in self.bodies.memory.items() if x[0] in words]
        made = [f'x.make("{name}", "{of}")' for name, of in memory]
        lines = [*kernels, "", "", *self._launch([*made, *calls])]
        fitted = [part for line in lines for part in (fit(line) if line else [""])]
        code = "\n".join(fitted)
        return "\n".join([*self._head(code), code]) + "\n"

    def _head(self, code: str) -> Iterator[str]:
        yield f"# {self.program.title}"
        yield ""
        yield "import triton"
        yield "import triton.language as tl"
        if "libdevice." in code:
            yield "from triton.language.extra import libdevice"
        yield ""
        yield from _imported("arithmetic", _SHARED, code)
        yield from _imported("entries", _LISTED, code)
        yield from _imported("tiles", _TILED, code)
        bodies = self.bodies
        yield ""
        yield "# What kernels are built for: the types of columns, and options."
        yield from fit(f"TYPES = ({keys(bodies.types[x] for x in bodies.all_columns)})")
        yield from fit(f"OPTIONS = ({keys(self.options)})")

    @property
    def options(self) -> list[str]:
        """Conditions, and counts. Rows that have to be in one launch may differ in
        conditions: then they are numbers.
        """
        conditions = [] if self.rule.in_phases else self.bodies.options
        return [*conditions, *self.bodies.lists.counts]

    def _kernel(self, name: str, body: list[str]) -> Iterator[str]:
        words = {*re.findall(r"\w+", "\n".join(x for x in body if not _is_comment(x)))}
        built = dict.fromkeys([*self.bodies.types.values(), *self.options, *_BUILT])
        tables = [x for x in (*_TABLES, *_OF_MATRICES) if x in words]
        tables += [x for x in self.bodies.memory if x in words]
        sizes = [x for x in ("rows", "chunks") if x in tables]
        listed = ", ".join(f'"{x}"' for x in sizes)
        yield f"@triton.jit(do_not_specialize=[{listed}])" if sizes else "@triton.jit"
        yield f"def {name}("
        yield from (INDENT + x for x in textwrap.wrap(", ".join(tables) + ",", 84))
        yield from (f"{INDENT}{x}: tl.constexpr," for x in built if x in words)
        yield "):"
        yield from (INDENT + line if line else "" for line in body)

    def _launch(self, calls: list[str]) -> Iterator[str]:
        bodies, size = self.bodies, self.bodies.table_size
        body = [f"x.numbers = x.new({bracketed(size)} * x.rows)"] * (size != "0")
        body += calls
        words = {*re.findall(r"\w+", "\n".join(body))}
        yield "def launch(x):"
        if self.bodies.needs_some():
            yield "    if x.has_empty:"
            yield "        return False  # of nothing there is no largest"
        for each in self.program.fits:
            sides = map(bodies.lists.count, (each.left, each.right))
            yield f"    if {' > '.join(map(_of_group, sides))}:"
            yield "        return False  # an entry is asked for that there is not"
        for count in bodies.lists.counts:
            if count in words:
                yield f"    {count} = {_of_group(count)}"
        yield from (INDENT + line for line in body)
        if self.program.fits or self.bodies.needs_some():
            yield "    return True"


def _call(name: str, launch: Launch) -> list[str]:
    """The lines that launch a kernel."""
    match launch:
        case Rows():
            return [f"x.each_row({name})"]
        case Single(level):
            return [f"x.each_{level.value}({name})"]
        case Joint():
            over_group = launch.step.call.over == "group"
            return [f"x.each_group({name})" if over_group else f"x.once({name})"]
    sums = len(gathered(launch.step.body))
    made = [f"x.parts = x.new({sums} * x.chunks)"] if sums else []
    return [*made, f"x.each_chunk({name})"]


def _imported(module: str, names: list[str], code: str) -> list[str]:
    """The lines that import what is called of a module."""
    lines = (line for line in code.splitlines() if not _is_comment(line))
    plain = "\n".join(lines)
    called = [x for x in names if re.search(rf"(?<![\w.]){x}\b", plain)]
    head = f"from optdsl.runtime.{module} import "
    line = head + ", ".join(called)
    if len(line) <= 88:
        return [line] if called else []
    return [f"{head}(", *(f"    {x}," for x in called), ")"]


def _of_group(count: str) -> str:
    """A count as the function that launches the kernels asks for it."""
    return count if count.isdigit() else f'x.arguments["{count}"]'


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")
