"""What is done once a line, once a column or once a matrix.

In: a program with a view. Out: the bodies of its launches.
"""

from collections.abc import Iterator

from ... import ir
from ...ir.kernels import Along, Level, gathers
from .block import GATHERINGS, Block, gathered, is_flag
from .bodies import read_names
from .launches import Pass, Single
from .layout import comment
from .matrices import AXES, KINDS, PLACES, TILES, taken
from .tiles import Tiles

# How many a matrix has of what there is once a line, or once a column.
_SIDES = {Level.LINE: "height", Level.COLUMN: "width"}


class OfMatrices(Tiles):
    """Prints the launches of one program with a view."""

    def single(self, launch: Single, at: int) -> Iterator[str]:
        own, step, of = self.names.own, launch.step, launch.level
        place = PLACES[of]
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
            if Level.MATRIX in {self.reduced[x] for x in (step.loads if step else ())}:
                yield f"matrix = {place} // {side}"
        if numbers := self.launches.loads(at):
            yield "n = numbers + row"
        yield from self._of_row(read_names(step.body) if step else set())
        yield from self._from_table(numbers)
        joined = {each.target.name for each, _ in launch.joins}
        stores = {*step.stores} if step else set()
        kept = joined & self._loaded_later(at) - stores
        loads = {*self._loads(step, at)} - joined if step else set()
        for name in dict.fromkeys((*self.columns.elements, *self.kept)):
            if name in kept | stores | loads:
                yield from self._find(name)
        for each, source in launch.joins:
            yield from comment(self.rule.source.cut(each.span))
            yield from self._joined(of, each, source)
        for name in (x for x in self.reduced if x in kept):
            yield f"store({self.where[name]}, {place}, inside, {own(name)})"
        if step is None:
            return
        for name in step.loads:
            if name in loads:
                i = PLACES[self.reduced[name]]
                yield from self._loaded(name, i, "inside", "tl.float64")
        yield from self._once(step, joined | loads)
        for name in step.stores:
            yield from self._stored(name, place, "inside", name in step.loads)
        for each in gathered(step.body, Level.NUMBER, *AXES):
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
        at, how_joined = self.part_at[name], (how.empty, TILES[how.chunks][1])
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
                value = taken(statement, printer)
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
        to_others = gathered(step.body, Level.NUMBER, *AXES)
        later = {*step.stores, *(each.target.name for each in to_others)}
        yield from block.lines(step.body, known, later)
