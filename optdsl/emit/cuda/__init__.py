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
from ..names import Names
from .block import INDENT, gathered
from .bodies import Bodies
from .launches import Joint, Pass, Rows

_SHARED = (
    "clamp column count_of double elements epsilon_of floor_divide gradient if_there "
    "isfinite isnan keep keep_number larger largest largest_of lerp modulo number "
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
                    name, body = f"numbers_{rows}", [*self.bodies.rows(launch, at)]
                case Pass():
                    name, body = (
                        f"pass_{launch.number}",
                        [*self.bodies.elements(launch, at)],
                    )
                case Joint():
                    name, body = (
                        f"across_{launch.number}",
                        [*self.bodies.across(launch)],
                    )
            calls += self._call(name, launch, body)
            kernels += ["", "", *self._kernel(name, body)]
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

    def _parameters(self, body: list[str]) -> tuple[list[str], list[str]]:
        """The tables that a kernel reads, and what it is built for."""
        words = {*re.findall(r"\w+", "\n".join(x for x in body if not _is_comment(x)))}
        options = [] if self.rule.in_phases else self.bodies.options
        built = [*dict.fromkeys(self.bodies.types.values()), *options, *_BUILT]
        return [x for x in _TABLES if x in words], [
            x for x in dict.fromkeys(built) if x in words
        ]

    def _kernel(self, name: str, body: list[str]) -> Iterator[str]:
        tables, built = self._parameters(body)
        sizes = [x for x in ("rows", "chunks") if x in tables]
        listed = ", ".join(f'"{x}"' for x in sizes)
        yield f"@triton.jit(do_not_specialize=[{listed}])" if sizes else "@triton.jit"
        yield f"def {name}("
        yield from (INDENT + x for x in textwrap.wrap(", ".join(tables) + ",", 84))
        for each in built:
            yield f"{INDENT}{each}: tl.constexpr,"
        yield "):"
        yield from (INDENT + line if line else "" for line in body)

    # ---- the way in

    def _call(
        self, name: str, launch: Rows | Pass | Joint, body: list[str]
    ) -> list[str]:
        tables, built = self._parameters(body)
        types = [self.bodies.types[x] for x in self.bodies.all_columns]
        given = {"numbers": "numbers"}
        if isinstance(launch, Pass):
            given["parts"] = f"parts_{launch.number}"
        elif isinstance(launch, Rows) and launch.joins:
            given["parts"] = f"parts_{launch.joins.number}"
        arguments = [given.get(x, f"x.{x}") for x in tables]
        for each in built:
            value = f"x.{each}"
            if each in types and each != "real":
                value = f"x.types[{types.index(each)}]"
            elif each in self.bodies.options:
                value = f"x.options[{self.bodies.options.index(each)}]"
            arguments.append(f"{each}={value}")
        grid, how = "x.rows", "x.of_rows"
        if isinstance(launch, Pass):
            grid, how = "x.chunks", "x.of_chunks"
        elif isinstance(launch, Joint):
            grid = "x.groups" if launch.step.call.over == "group" else "1"
        call = f"{name}[({grid},)]({', '.join([*arguments, f'**{how}'])})"
        if not isinstance(launch, Pass):
            return [call]
        result = []
        if sums := gathered(launch.step.body):
            result.append(f"parts_{launch.number} = x.new({len(sums)} * x.chunks)")
        return [*result, "if x.chunks:", INDENT + call]

    def _launch(self, calls: list[str]) -> Iterator[str]:
        yield "def launch(x):"
        if self.bodies.launches.table:
            yield f"    numbers = x.new({len(self.bodies.launches.table)} * x.rows)"
        yield from (INDENT + line for line in calls)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")
