"""Where the numbers of matrices are: for the kernels of a rule that reduces along axes, to
which tensors are matrices.

In: a program with a view. Out: lines that find, load and store what there is of elements,
lines, columns and matrices, and the memory for what lives as long as a step.
"""

from collections.abc import Iterator

from ... import ir
from ...ir.kernels import Along, Level, Program, level
from ..names import Names
from .block import GATHERINGS, gathered, is_flag
from .bodies import Bodies
from .expr import Printer
from .launches import Pass, Single

AXES = (Level.LINE, Level.COLUMN, Level.MATRIX)
KINDS = {Level.LINE: "lines", Level.COLUMN: "columns", Level.MATRIX: "matrices"}
# The names of the numbers of lines and columns.
PLACES = {Level.LINE: "line", Level.COLUMN: "across", Level.MATRIX: "matrix"}
# What a tile gathers, and what joins that of several.
TILES = {
    "sum_of": ("total_in", "added"),
    "largest_of": ("largest_in", "larger"),
    "smallest_of": ("smallest_in", "smaller"),
}


class Matrices(Bodies):
    """Spells what the launches of one program with a view read and store."""

    def __init__(self, program: Program, names: Names) -> None:
        super().__init__(program, names)
        own = names.own
        self.reduced = dict(program.reduced)
        states = {each.name for each in program.rule.own}
        self.kept = {
            x: names.claim(f"{own(x)}_all") for x in self.reduced if x not in states
        }
        self.where |= {x: names.claim(f"{own(x)}_at") for x in self.kept}
        self.insides = {x: names.claim(f"{own(x)}_in") for x in self.columns.optional}
        self.parts = {
            each.target.name: names.claim(f"{own(each.target.name)}_parts")
            for step in program.steps
            for each in gathered(getattr(step, "body", ()), Level.NUMBER, *AXES)
        }
        self.part_at = {x: names.claim(f"{own(x)}_part") for x in self.parts}
        named = self._name, self._is_built_in, self._kept
        self.lines = Printer(*named, "tl.float64", "[LINES, 1]")
        self.tiles = Printer(*named, "real", "[LINES, COLUMNS]", self.lines)
        self.singles = {
            Level.LINE: Printer(*named, "tl.float64", "[BLOCK]"),
            Level.COLUMN: Printer(*named, "tl.float64", "[BLOCK]"),
            Level.MATRIX: Printer(*named, "tl.float64", "[]"),
        }

    def needs_some(self) -> bool:
        return any(
            isinstance(node, ir.Call) and node.dim and node.function in ("max", "min")
            for step in self.program.steps
            for statement in getattr(step, "body", ())
            for node in ir.walk(statement)
        )

    # ---- memory that lives as long as a step

    @property
    def memory(self) -> dict[str, str]:
        made = {self.kept[x]: KINDS[self.reduced[x]] for x in self.kept}
        for step in self.program.steps:
            for each in gathered(getattr(step, "body", ()), Level.NUMBER, *AXES):
                of = level(each.target.type).value
                single = isinstance(step, Along)
                kind = KINDS[step.level] if single else f"{of}_parts"
                made[self.parts[each.target.name]] = kind
        return made

    def _bounds(self, of: Pass | Single) -> Iterator[str]:
        if isinstance(of, Pass):
            yield from super()._bounds(of)
            return
        before = f"{KINDS[of.level]}_before"
        yield f"begin, end = tl.load({before} + row), tl.load({before} + row + 1)"

    def _parts(self, of: Pass | Single, each: ir.Assign, k: int) -> str:
        if isinstance(of, Pass):
            return super()._parts(of, each, k)
        return self.parts[each.target.name]

    # ---- where numbers are

    def _seen(self) -> Iterator[str]:
        yield "matrices = tl.load(shapes + row)"
        yield (
            "height, width = tl.load(shapes + rows + row), tl.load(shapes + 2 * rows + row)"
        )

    def _find(self, name: str) -> Iterator[str]:
        """Where the numbers of a tensor are, and which are there that may be missing."""
        where = self.where[name]
        if name in self.kept:
            before = f"{KINDS[self.reduced[name]]}_before"
            yield f"{where} = {self.kept[name]} + tl.load({before} + row)"
            return
        kind = self.types[name]
        yield f"{where} = {self._column(name, 'column', kind, 'aligned')}"

    def _loaded(self, name: str, at: str, inside: str, real: str) -> Iterator[str]:
        """A load of numbers, of those that are `inside`."""
        if name in self.insides:
            yield f"{self.insides[name]} = {self._column(name, 'there', inside)}"
            inside = self.insides[name]
        parts = f"{self.where[name]}, {at}, {inside}"
        own = self.names.own(name)
        if name == "grad":
            maximize = self.options[0]
            yield f"grad = load_gradient({parts}, {maximize}, grad_scale, real)"
        elif name in self._reduced_flags():
            yield f"{own} = load({parts}, {real}) != 0"
        else:
            yield f"{own} = load({parts}, {real})"

    def _stored(self, name: str, at: str, inside: str, loaded: bool) -> Iterator[str]:
        if name in self.insides:
            if not loaded:
                yield f"{self.insides[name]} = {self._column(name, 'there', inside)}"
            inside = self.insides[name]
        yield f"store({self.where[name]}, {at}, {inside}, {self.names.own(name)})"

    def _reduced_flags(self) -> set[str]:
        return {
            ref.name
            for step in self.program.steps
            for ref in ir.targets(getattr(step, "body", ()))
            if ref.name in self.reduced and is_flag(ref)
        }

    def _empty(self, body: ir.Block, ref: ir.Ref) -> str:
        """What a reduction of a body starts from; nothing, where it is none."""
        for each in gathered(body, Level.NUMBER, *AXES):
            if each.target.name == ref.name:
                return GATHERINGS[each.value.function].empty
        return ""


def taken(statement: ir.Assign, printer: Printer) -> str:
    """What a reduction gathers, once for each that it is of, in float64."""
    (of,) = statement.value.arguments
    match statement.value.function:
        case "any":
            flag = (
                printer.element(of)
                if is_flag(of)
                else f"{printer.element(of, 11)} != 0"
            )
            return f"({flag}).to(tl.float64)"
        case "all":
            written = printer.element(of, 11)
            flag = f"~{written}" if is_flag(of) else f"{written} == 0"
            return f"({flag}).to(tl.float64)"
    if is_flag(of):
        double = f"({printer.element(of)}).to(tl.float64)"
    elif printer.real == "tl.float64":
        double = printer.whole(of)
    else:
        double = f"{printer.element(of, 11)}.to(tl.float64)"
    return f"square({double})" if statement.value.function == "norm" else double
