"""What the kernels of a rule do that reduces along axes: tensors are seen as matrices.

In: a program with a view. Out: the bodies of its launches, as for any other, where a block
of elements is a tile of matrices, and others take lines, columns or matrices.
"""

from collections.abc import Iterator

from ... import ir
from ...ir.kernels import Along, Level, Program, gathers, level
from ..names import Names
from .block import GATHERINGS, Block, gathered, is_flag
from .bodies import Bodies, read_names
from .expr import Printer
from .launches import Pass, Single
from .layout import comment

_AXES = (Level.LINE, Level.COLUMN, Level.MATRIX)
KINDS = {Level.LINE: "lines", Level.COLUMN: "columns", Level.MATRIX: "matrices"}
# What a tile gathers, and what joins that of several.
_TILES = {
    "sum_of": ("total_in", "added"),
    "largest_of": ("largest_in", "larger"),
    "smallest_of": ("smallest_in", "smaller"),
}
# The axis of a tile that is reduced, and the shape that is left of it.
_REDUCED = {Level.NUMBER: "None", Level.LINE: "1"}
_SHAPES = {
    Level.NUMBER: "[]", Level.LINE: "[LINES, 1]", Level.COLUMN: "[LINES, COLUMNS]",
    Level.ELEMENT: "[LINES, COLUMNS]",
}  # fmt: skip
# How many a matrix has of what there is once a line, or once a column.
_SIDES = {Level.LINE: "height", Level.COLUMN: "width"}
# The names of the numbers of lines and columns.
_PLACES = {Level.LINE: "line", Level.COLUMN: "across", Level.MATRIX: "matrix"}


class OfMatrices(Bodies):
    """Prints the launches of one program with a view."""

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
            for each in gathered(getattr(step, "body", ()), Level.NUMBER, *_AXES)
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
            for each in gathered(getattr(step, "body", ()), Level.NUMBER, *_AXES):
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

    # ---- once an element

    def elements(self, launch: Pass, at: int) -> Iterator[str]:
        step = launch.step
        yield "if overflowed(found_inf):"
        yield "    return"
        yield "chunk = tl.program_id(0)"
        yield "row = tl.load(row_of + chunk)"
        yield from self._seen()
        yield "# A tile of lines of all matrices, and of columns of them."
        yield "tile = chunk - tl.load(starts + row)"
        yield "tiles = tl.cdiv(width, COLUMNS)"
        yield "line = tile // tiles * LINES + tl.arange(0, LINES)[:, None]"
        yield "across = tile % tiles * COLUMNS + tl.arange(0, COLUMNS)[None, :]"
        yield "i = line * width + across"
        yield "inside = (across < width) & (i < tl.load(numel + row))"
        sums = gathered(step.body)
        along = gathered(step.body, Level.LINE, Level.COLUMN)
        moved = {self.reduced.get(x) for x in step.loads} - {None}
        if moved or along:
            yield "seen = line < matrices * height"
        if moved - {Level.LINE}:
            yield "matrix = line // height"
        if loads := self.launches.loads(at):
            yield "n = numbers + row"
        names = read_names(step.body) | (
            {"maximize"} if "grad" in step.loads else set()
        )
        yield from self._of_row(names)
        yield from self._from_table(loads)
        for name in dict.fromkeys((*self.columns.elements, *self.kept)):
            if name in (*step.loads, *step.stores):
                yield from self._find(name)
        for name in step.loads:
            match self.reduced.get(name):
                case None:
                    yield from self._loaded(name, "i", "inside", "real")
                case Level.COLUMN:
                    place = "matrix * width + across"
                    yield from self._loaded(name, place, "inside & seen", "real")
                case Level() as of:
                    yield from self._loaded(name, _PLACES[of], "seen", "tl.float64")
        yield from self._of_tile(launch)
        for name in step.stores:
            yield from self._stored(name, "i", "inside", name in step.loads)
        for k, each in enumerate(sums):
            value = self.names.own(each.target.name)
            yield f"tl.store(parts + {k} * chunks + chunk, {value})"
        for each in along:
            yield from self._store_part(each)

    def _store_part(self, each: ir.Assign) -> Iterator[str]:
        """The lines that store what a tile gathered along an axis."""
        name, of = each.target.name, level(each.target.type).value
        own, at = self.names.own(name), self.part_at[name]
        yield f"{at} = {self.parts[name]} + tl.load({of}_parts_before + row)"
        if of == "line":
            yield f"{at} += tile % tiles * matrices * height"
            yield f"store({at}, line, seen, {own})"
            return
        gather, _ = _TILES[GATHERINGS[each.value.function].chunks]
        shape = "line, across, matrices, height, width"
        yield f"store_columns({at}, {own}, inside, {shape}, {gather})"

    def _of_tile(self, launch: Pass) -> Iterator[str]:
        """What is worked out of one tile."""
        own, step = self.names.own, launch.step
        again = self.program.handed_on(step)
        started: set[str] = set()

        def line(statement: ir.Assign) -> Iterator[str]:
            name = statement.target.name
            if not gathers(statement):
                value = self.tiles.whole(statement.value)
                if name in again:
                    # All passes see the number that is in memory.
                    value = f"kept({value}, {self.types[name]})"
                yield f"{own(name)} = {value}"
                return
            how = GATHERINGS[statement.value.function]
            value = _gathered(statement, self.tiles)
            to = level(statement.target.type)
            if to is Level.COLUMN:
                yield f"{own(name)} = {value}"
                return
            gather, _ = _TILES[how.chunks]
            value = f"{gather}({value}, inside, {_REDUCED[to]})"
            yield f"{own(name)} = {value}"

        def start(ref: ir.Ref) -> str:
            started.add(ref.name)
            shape = _SHAPES[level(ref.type)]
            if empty := self._empty(step.body, ref):
                return f"{own(ref.name)} = tl.full({shape}, {empty}, tl.float64)"
            if is_flag(ref):
                return f"{own(ref.name)} = tl.full({shape}, False, tl.int1)"
            return f"{own(ref.name)} = tl.zeros({shape}, real)"

        block = Block(self.tiles, self.rule.source, line, start, self._whole)
        gathers_to = (Level.NUMBER, Level.LINE, Level.COLUMN)
        later = {*step.stores} | {
            each.target.name for each in gathered(step.body, *gathers_to)
        }
        changed = {each.name for each in ir.targets(step.body)}
        yield from block.lines(step.body, {*step.loads}, later & changed)

    def _empty(self, body: ir.Block, ref: ir.Ref) -> str:
        """What a reduction of a body starts from; nothing, where it is none."""
        for each in gathered(body, Level.NUMBER, *_AXES):
            if each.target.name == ref.name:
                return GATHERINGS[each.value.function].empty
        return ""

    # ---- once a line, a column or a matrix

    def single(self, launch: Single, at: int) -> Iterator[str]:
        own, step, of = self.names.own, launch.step, launch.level
        place = _PLACES[of]
        yield "if overflowed(found_inf):"
        yield "    return"
        yield "chunk = tl.program_id(0)"
        yield "row = tl.load(row_of + chunk)"
        yield from self._seen()
        begin = "chunk - tl.load(starts + row)"
        if of is Level.MATRIX:
            yield f"matrix = {begin}"
            yield "inside = matrix < matrices"
        else:
            side = _SIDES[of]
            yield f"{place} = ({begin}) * BLOCK + tl.arange(0, BLOCK)"
            yield f"inside = {place} < matrices * {side}"
            yield f"matrix = {place} // {side}"
        if loads := self.launches.loads(at):
            yield "n = numbers + row"
        yield from self._of_row(read_names(step.body) if step else set())
        yield from self._from_table(loads)
        joined = {each.target.name for each, _ in launch.joins}
        kept = {x for x in joined if x in self._loaded_later(at)}
        moved = {*step.loads, *step.stores} if step else set()
        for name in dict.fromkeys((*self.columns.elements, *self.kept)):
            if name in kept or (name in moved and name not in joined):
                yield from self._find(name)
        for each, source in launch.joins:
            yield from comment(self.rule.source.cut(each.span))
            yield from self._joined(of, each, source)
        for name in (x for x in self.reduced if x in kept):
            yield f"store({self.where[name]}, {place}, inside, {own(name)})"
        if step is None:
            return
        known = {*joined, *self._loads(step, at)}
        for name in step.loads:
            if name in known - joined:
                i = _PLACES[self.reduced[name]]
                yield from self._loaded(name, i, "inside", "tl.float64")
        yield from self._once(step, known)
        for name in step.stores:
            yield from self._stored(name, place, "inside", name in step.loads)
        for each in gathered(step.body, Level.NUMBER, *_AXES):
            name = each.target.name
            at_part = self.part_at[name]
            yield f"{at_part} = {self.parts[name]} + tl.load({KINDS[of]}_before + row)"
            yield f"store({at_part}, {place}, inside, {own(name)})"

    def _loads(self, step: Along, at: int) -> list[str]:
        """What is in memory of that which a step loads, beside what it joins itself."""
        before = (getattr(each, "step", None) for each in self.launches.all[:at])
        stored = {x for each in before for x in getattr(each, "stores", ())}
        joins = (getattr(each, "joins", ()) for each in self.launches.all[:at])
        stored |= {x[0].target.name for each in joins for x in each if type(x) is tuple}
        return [x for x in step.loads if x not in self.kept or x in stored]

    def _loaded_later(self, at: int) -> set[str]:
        later = (getattr(each, "step", None) for each in self.launches.all[at + 1 :])
        return {x for step in later for x in getattr(step, "loads", ())}

    def _joined(
        self, of: Level, each: ir.Assign, source: Pass | Single
    ) -> Iterator[str]:
        """What was gathered, put together."""
        how, name = GATHERINGS[each.value.function], each.target.name
        at, how_joined = self.part_at[name], (how.empty, _TILES[how.chunks][1])
        if isinstance(source, Single):
            side, kind = _SIDES[source.level], KINDS[source.level]
            found = f"{how.chunks}({at}, matrix * {side}, (matrix + 1) * {side})"
            count = side
        elif of is Level.LINE:
            kind, count = "line_parts", "width"
            given = (at, "line", "inside", "matrices * height", "tiles", *how_joined)
            yield "tiles = tl.cdiv(width, COLUMNS)"
            found = f"join_lines({', '.join(given)})"
        else:
            kind, count = "column_parts", "height"
            given = (at, "across", "inside", "height", "width", "LINES", *how_joined)
            found = f"join_columns({', '.join(given)})"
        yield f"{at} = {self.parts[name]} + tl.load({kind}_before + row)"
        yield f"{self.names.own(name)} = {how.end.format(found, count)}"

    def _once(self, step: Along, known: set[str]) -> Iterator[str]:
        """What is worked out of each line, column or matrix."""
        own, printer = self.names.own, self.singles[step.level]
        again = self.program.handed_on(step)

        def line(statement: ir.Assign) -> Iterator[str]:
            name = statement.target.name
            if gathers(statement):
                value = _gathered(statement, printer)
            else:
                value = printer.whole(statement.value)
            if name in again:
                value = f"kept({value}, {self.types[name]})"
            yield f"{own(name)} = {value}"

        def start(ref: ir.Ref) -> str:
            if empty := self._empty(step.body, ref):
                filled = f"{empty}, tl.float64"
            else:
                filled = "False, tl.int1" if is_flag(ref) else "0.0, tl.float64"
            return f"{own(ref.name)} = tl.full({printer.shape}, {filled})"

        block = Block(printer, self.rule.source, line, start, self._whole)
        to_others = gathered(step.body, Level.NUMBER, *_AXES)
        later = {*step.stores, *(each.target.name for each in to_others)}
        yield from block.lines(step.body, known, later)


def _gathered(statement: ir.Assign, printer: Printer) -> str:
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
