"""The kernels of a rule in Triton.

In: a program of passes. Out: the text of one Python module: kernels, and the function
that launches them one after the other. It is built for types and options when it is
launched.
"""

import re
import textwrap
from collections.abc import Iterator

from ...ir.kernels import Elements, Program
from ..layout import fit
from ..names import Names, keys
from .block import INDENT, gathered
from .bodies import Bodies
from .launches import Joint, Pass, Rows

_SHARED = (
    "clamp column count_of double elements epsilon_of floor_divide gradient if_there "
    "isfinite isnan keep keep_number kept larger largest largest_of lerp modulo number "
    "overflowed reciprocal sigmoid sign smaller smallest smallest_of spread square "
    "squares_of sum_of total"
).split()
_TABLES = (
    "columns rows chunks row_of starts bounds numel group hypers asked numbers parts "
    "found_inf grad_scale"
).split()
_BUILT = ("real", "aligned", "BLOCK")
_KEYWORDS = [
    *(*_SHARED, *_TABLES, *_BUILT),
    *"triton tl libdevice launch chunk row begin end left i n of at x".split(),
]


def emit(program: Program) -> str:
    """The text of the kernels of a program."""
    return Kernels(program).text()


class Kernels:
    """Prints one program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.rule = program.rule
        self.names = Names(_KEYWORDS)
        self.bodies = Bodies(program, self.names)

    # ---- the text

    def text(self) -> str:
        passes = sum(isinstance(each, Elements) for each in self.program.steps)
        count = f"{passes} passes" if passes > 1 else "one pass"
        kernels: list[str] = []
        calls: list[str] = []
        rows = 0
        for at, launch in enumerate(self.bodies.launches.all):
            match launch:
                case Rows():
                    rows += 1
                    name, body = f"numbers_{rows}", self.bodies.rows(launch, at)
                case Pass():
                    name = f"pass_{launch.number}"
                    body = self.bodies.elements(launch, at)
                case Joint():
                    name, body = f"across_{launch.number}", self.bodies.across(launch)
            calls += _call(name, launch)
            kernels += ["", "", *self._kernel(name, [*body])]
        lines = [*kernels, "", "", *self._launch(calls)]
        fitted = [part for line in lines for part in (fit(line) if line else [""])]
        code = "\n".join(fitted)
        shared = [x for x in _SHARED if re.search(rf"(?<![\w.]){x}\(", code)]
        return "\n".join([*self._head(count, shared, code), code]) + "\n"

    def _head(self, count: str, shared: list[str], code: str) -> Iterator[str]:
        yield f"# {self.rule.name} in {count} over memory."
        yield ""
        yield "import triton"
        yield "import triton.language as tl"
        if "libdevice." in code:
            yield "from triton.language.extra import libdevice"
        yield ""
        if shared:
            line = f"from optdsl.runtime.arithmetic import {', '.join(shared)}"
            head = "from optdsl.runtime.arithmetic import ("
            yield from (
                [line]
                if len(line) <= 88
                else [head, *(f"    {x}," for x in shared), ")"]
            )
        bodies = self.bodies
        yield ""
        yield "# What kernels are built for: the types of columns, and options."
        yield from fit(f"TYPES = ({keys(bodies.types[x] for x in bodies.all_columns)})")
        yield from fit(f"OPTIONS = ({keys(self.options)})")

    @property
    def options(self) -> list[str]:
        """Rows that have to be in one launch may differ in them: then they are numbers."""
        return [] if self.rule.in_phases else self.bodies.options

    def _kernel(self, name: str, body: list[str]) -> Iterator[str]:
        words = {*re.findall(r"\w+", "\n".join(x for x in body if not _is_comment(x)))}
        built = dict.fromkeys([*self.bodies.types.values(), *self.options, *_BUILT])
        tables = [x for x in _TABLES if x in words]
        sizes = [x for x in ("rows", "chunks") if x in tables]
        listed = ", ".join(f'"{x}"' for x in sizes)
        yield f"@triton.jit(do_not_specialize=[{listed}])" if sizes else "@triton.jit"
        yield f"def {name}("
        yield from (INDENT + x for x in textwrap.wrap(", ".join(tables) + ",", 84))
        yield from (f"{INDENT}{x}: tl.constexpr," for x in built if x in words)
        yield "):"
        yield from (INDENT + line if line else "" for line in body)

    def _launch(self, calls: list[str]) -> Iterator[str]:
        yield "def launch(x):"
        if self.bodies.launches.table:
            yield f"    x.numbers = x.new({len(self.bodies.launches.table)} * x.rows)"
        yield from (INDENT + line for line in calls)


def _call(name: str, launch: Rows | Pass | Joint) -> list[str]:
    """The lines that launch a kernel."""
    match launch:
        case Rows():
            return [f"x.each_row({name})"]
        case Joint():
            over_group = launch.step.call.over == "group"
            return [f"x.each_group({name})" if over_group else f"x.once({name})"]
    sums = len(gathered(launch.step.body))
    made = [f"x.parts = x.new({sums} * x.chunks)"] if sums else []
    return [*made, f"x.each_chunk({name})"]


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")
