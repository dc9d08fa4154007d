"""What passes do that see tensors as matrices: a program takes a tile, some lines and some
columns.

In: a program with a view. Out: the bodies of its passes.
"""

from collections.abc import Iterator

from ... import ir
from ...ir.kernels import Level, gathers, level
from .block import GATHERINGS, Block, gathered, is_flag
from .bodies import read_names
from .launches import Pass
from .matrices import PLACES, TILES, Matrices, taken

# The axis of a tile that is reduced, and the shape that is left of it.
_REDUCED = {Level.NUMBER: "None", Level.LINE: "1"}
_SHAPES = {
    Level.NUMBER: "[]", Level.LINE: "[LINES, 1]", Level.COLUMN: "[LINES, COLUMNS]",
    Level.ELEMENT: "[LINES, COLUMNS]",
}  # fmt: skip


class Tiles(Matrices):
    """Prints passes."""

    def elements(self, launch: Pass, at: int) -> Iterator[str]:
        step = launch.step
        yield "if overflowed(found_inf):"
        yield "    return"
        yield "chunk = tl.program_id(0)"
        yield "row = tl.load(row_of + chunk)"
        yield from self._seen()
        yield "size = tl.load(numel + row)"
        yield "if even:"
        yield "    # Several elements are loaded at once."
        yield "    width, size = tl.multiple_of(width, 16), tl.multiple_of(size, 16)"
        yield "# A tile of lines of all matrices, and of columns of them."
        yield "tile = chunk - tl.load(starts + row)"
        yield "tiles = tl.cdiv(width, COLUMNS)"
        yield "line = tile // tiles * LINES + tl.arange(0, LINES)[:, None]"
        yield "across = tile % tiles * COLUMNS + tl.arange(0, COLUMNS)[None, :]"
        yield "i = line * width + across"
        yield "inside = (across < width) & (i < size)"
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
                    yield from self._loaded(name, PLACES[of], "seen", "tl.float64")
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
        gather, _ = TILES[GATHERINGS[each.value.function].chunks]
        shape = "line, across, matrices, height, width"
        yield f"store_columns({at}, {own}, inside, {shape}, {gather})"

    def _of_tile(self, launch: Pass) -> Iterator[str]:
        """What is worked out of one tile."""
        own, step = self.names.own, launch.step
        again = self.program.handed_on(step)

        def line(statement: ir.Assign) -> Iterator[str]:
            name = statement.target.name
            if not gathers(statement):
                value = self.tiles.whole(statement.value)
                if name in again:
                    # All passes see the number that is in memory.
                    value = f"kept({value}, {self.types[name]})"
                yield f"{own(name)} = {value}"
                return
            value = taken(statement, self.tiles)
            to = level(statement.target.type)
            if to is Level.COLUMN:
                yield f"{own(name)} = {value}"
                return
            gather, _ = TILES[GATHERINGS[statement.value.function].chunks]
            value = f"{gather}({value}, inside, {_REDUCED[to]})"
            yield f"{own(name)} = {value}"

        def start(ref: ir.Ref) -> str:
            shape = _SHAPES[level(ref.type)]
            if empty := self._empty(step.body, ref):
                return f"{own(ref.name)} = tl.full({shape}, {empty}, tl.float64)"
            if is_flag(ref):
                return f"{own(ref.name)} = tl.full({shape}, False, tl.int1)"
            return f"{own(ref.name)} = tl.zeros({shape}, real)"

        block = Block(self.tiles, self.rule.source, line, start, self._whole)
        sums = gathered(step.body, Level.NUMBER, Level.LINE, Level.COLUMN)
        later = {*step.stores, *(each.target.name for each in sums)}
        changed = {each.name for each in ir.targets(step.body)}
        yield from block.lines(step.body, {*step.loads}, later & changed)
