"""The kernels of a rule that reduces along axes: tensors are seen as matrices.

In: a program with a view. Out: its C++, as for any other, where passes go over tiles of
matrices, line by line, and steps along lines or columns stand between them.
"""

from collections.abc import Iterator

from ... import ir
from ...ir.kernels import Along, Elements, Level, gathers, level
from .block import GATHERINGS, INDENT, Block, declared, gathered, takes
from .kernels import Kernels
from .layout import WIDTH

_AXES = (Level.MATRIX, Level.LINE, Level.COLUMN)
# The place of a value in memory, and how many of them there are.
_PLACES = {
    Level.MATRIX: "matrix", Level.LINE: "line", Level.COLUMN: "matrix * row.width + column",
}  # fmt: skip
_COUNTS = {
    Level.MATRIX: "row.matrices", Level.LINE: "row.matrices * row.height",
    Level.COLUMN: "row.matrices * row.width",
}  # fmt: skip
_SIDES = {Level.LINE: "height", Level.COLUMN: "width"}


class OfMatrices(Kernels):
    words = tuple(
        "matrices height width matrix line column lines columns tile tiles memory zeros "
        "Tile Tiles Memory Shape tiles_of each_tensor join_lines join_columns".split()
    )

    def __init__(self, program: ir.kernels.Program) -> None:
        self.reduced = dict(program.reduced)
        super().__init__(program)
        states = {each.name for each in program.rule.own}
        self.kept = [name for name in self.reduced if name not in states]

    def _derived(self) -> Iterator[str]:
        yield from super()._derived()
        for name in self.reduced:
            yield from (f"{name}_nans", f"{name}_next", f"{name}_parts", f"has_{name}")

    # ---- what a tensor has

    def _sizes(self) -> list[str]:
        return ["    int64_t matrices, height, width;"]

    def _memory(self) -> list[str]:
        return [f"    double *{self.names.own(name)};" for name in self.kept]

    def _before(self) -> list[str]:
        return ["    Memory memory;"]

    def _seen(self) -> list[str]:
        fields = ("matrices", "height", "width")
        lines = [f"row.{each} = table->shapes[at].{each};" for each in fields]
        if self._needs_some():
            lines.append("if (row.numel == 0) return 1;")
        for name in self.kept:
            count = _COUNTS[self.reduced[name]]
            lines.append(f"row.{self.names.own(name)} = memory.zeros({count});")
        return [INDENT * 2 + each for each in lines]

    def _needs_some(self) -> bool:
        """Whether something is asked for that there may be none of, along an axis."""
        return any(
            isinstance(node, ir.Call) and node.dim and node.function in ("max", "min")
            for step in self.program.steps
            for statement in getattr(step, "body", ())
            for node in ir.walk(statement)
        )

    def _pieces(self) -> str:
        return "    const Tiles tiles = tiles_of(*table);"

    # ---- once an element

    def _pass(self, step: Elements, number: int) -> Iterator[str]:
        own = self.names.own
        sums = gathered(step.body)
        lines, columns = _along_axes(step)
        yield ""
        given = ["double *sums"] * bool(sums)
        given += [
            f"double *{own(each.target.name)}_parts" for each in (*lines, *columns)
        ]
        more = "".join(f", {each}" for each in given)
        head = f"static void pass_{number}("
        parameters = f"const Row row, const Numbers n, const Tile tile{more}"
        if len(head + parameters) + 3 > WIDTH:
            yield head
            head = INDENT
        yield f"{head}{parameters}) {{"
        yield from (INDENT + each for each in self._starts(sums))
        yield "    for (int64_t line = tile.line; line < tile.line_end; ++line) {"
        if columns or any(
            self.reduced.get(x) not in (None, Level.LINE) for x in step.loads
        ):
            yield "        const int64_t matrix = line / row.height;"
        for name in step.loads:
            if self.reduced.get(name) in (Level.LINE, Level.MATRIX):
                yield INDENT * 2 + self._loaded(
                    name, "double", name in self._changed(step)
                )
        yield from (INDENT * 2 + each for each in self._starts(lines))
        for each in columns:
            name = own(each.target.name)
            yield f"        double *{name} = {name}_parts + tile.before(matrix, row.height);"
        yield "        const int64_t begin = line * row.width;"
        yield "        for (int64_t at = tile.column; at < tile.column_end; at += BLOCK) {"
        yield "            const int64_t to = end_of_block(at, tile.column_end);"
        yield f"            ask(begin + at, begin + to, row{self._moved(step)});"
        yield "            #pragma omp simd" + self._clauses([*sums, *lines])
        yield "            for (int64_t column = at; column < to; ++column) {"
        yield "                const int64_t i = begin + column;"
        yield from (INDENT * 4 + each for each in self._of_elements(step))
        yield "            }"
        yield "        }"
        for each in lines:
            name = own(each.target.name)
            value = self._gathered(name, each)
            yield f"        {name}_parts[line - tile.line] = {value};"
        yield "    }"
        for at, each in enumerate(sums):
            yield f"    sums[{at}] = {self._gathered(own(each.target.name), each)};"
        yield "}"

    def _is_whole(self, name: str) -> bool:
        return super()._is_whole(name) and name not in self.reduced

    def _loads(self, step: Elements) -> Iterator[str]:
        for name in step.loads:
            match self.reduced.get(name):
                case None:
                    yield self._load(name, name in self._changed(step))
                case Level.COLUMN:
                    yield self._loaded(name, "real", changed=False)

    def _loaded(self, name: str, kind: str, changed: bool) -> str:
        """What there is once a line, a column or a matrix, out of memory."""
        own = self.names.own(name)
        value = f"load(row.{own}[{_PLACES[self.reduced[name]]}])"
        if name in self.columns.optional:
            value = f"{self._has(name)} ? {value} : 0"
        elif kind == "real" and self.program.least:
            value = f"row.matrices > 0 ? {value} : 0"
        return f"{'' if changed else 'const '}{kind} {own} = {value};"

    def _takes(self, target: str, statement: ir.Assign) -> Iterator[str]:
        if level(statement.target.type) is not Level.COLUMN:
            yield from takes(target, statement, self.printer)
            return
        place = f"{target}[column - tile.column]"
        (of,) = statement.value.arguments
        written = self.printer.element(of)
        yield _taken(place, statement, written, f"double({written})")

    def _gathered_along(self, block: ir.Block) -> list[str]:
        return [each.target.name for each in gathered(block, *_AXES)]

    def _call_pass(self, step: Elements, number: int) -> Iterator[str]:
        own = self.names.own
        sums = gathered(step.body)
        along = [each for side in _along_axes(step) for each in side]
        call = f"pass_{number}(rows[x.row], numbers[x.row], x"
        if sums:
            count = f"{len(sums)} * tiles.all.size()"
            yield f"    std::vector<double> {self._parts(number)}({count});"
            call += f", &{self._parts(number)}[{len(sums)} * at]"
        for each in along:
            name, how = own(each.target.name), GATHERINGS[each.value.function]
            of = f"{level(each.target.type).value}s"
            yield f"    std::vector<double> {name}_parts(tiles.{of}, {how.empty});"
            call += f", &{name}_parts[x.{of}]"
        yield "    each_chunk(*table, tiles.all, [&](const Tile &x, int64_t{}) {{".format(
            " at" * bool(sums)
        )
        yield f"        {call});"
        yield "    });"
        if sums:
            yield from self._joined(sums, number, "tiles.all")
        for each in along:
            name, how = own(each.target.name), GATHERINGS[each.value.function]
            of = f"{level(each.target.type).value}s"
            end = how.end.format("value", "count")
            yield f"    join_{of}(*table, tiles, {name}_parts, {how.empty}, {how.join},"
            yield f"        [&](int64_t at) {{ return rows[at].{name}; }},"
            count = "double count" if "count" in end else "double"
            yield f"        [](double value, {count}) {{ return double({end}); }});"

    # ---- once a line, a column or a matrix

    def _along(self, step: Along, number: int) -> Iterator[str]:
        own = self.names.own
        yield ""
        yield f"// Once a {step.level.value}."
        yield f"static void along_{number}(const Row &row, Numbers &n) {{"
        sums, matrices = gathered(step.body), gathered(step.body, Level.MATRIX)
        for each in sums:
            name, how = own(each.target.name), GATHERINGS[each.value.function]
            yield f"    double {name} = {how.empty};"
        yield "    for (int64_t matrix = 0; matrix < row.matrices; ++matrix) {"
        changed = {each.name for each in ir.targets(step.body)}
        inner = [x for x in step.loads if self.reduced[x] is not Level.MATRIX]
        for name in step.loads:
            if name not in inner:
                yield INDENT * 2 + self._loaded(name, "double", name in changed)
        for each in matrices:
            name, how = own(each.target.name), GATHERINGS[each.value.function]
            yield f"        double {name} = {how.empty};"
        depth = 2
        if step.level is not Level.MATRIX:
            word = step.level.value
            begin, end = (
                ("matrix * row.height", "(matrix + 1) * row.height")
                if step.level is Level.LINE
                else ("0", "row.width")
            )
            yield (
                f"        for (int64_t {word} = {begin}; {word} < {end}; ++{word}) {{"
            )
            depth = 3
        for name in inner:
            yield INDENT * depth + self._loaded(name, "double", name in changed)
        yield from (INDENT * depth + each for each in self._once(step))
        if step.level is not Level.MATRIX:
            yield "        }"
        for each in matrices:
            name, how = own(each.target.name), GATHERINGS[each.value.function]
            end = how.end.format(name, f"row.{_SIDES[step.level]}")
            yield f"        row.{name}[matrix] = {end};"
        yield "    }"
        for each in sums:
            name, how = own(each.target.name), GATHERINGS[each.value.function]
            count = f"double({_COUNTS[step.level]})"
            yield f"    n.{name} = {how.end.format(name, count)};"
        yield "}"

    def _once(self, step: Along) -> Iterator[str]:
        """What is done for one line, column or matrix."""
        own = self.names.own
        to_others = [
            each.target.name for each in gathered(step.body, Level.NUMBER, *_AXES)
        ]
        fields = frozenset({*to_others, *step.loads})
        constant, below = declared(
            step.body, fields, lambda ref: level(ref.type) is step.level
        )
        again = self.program.handed_on(step)
        started: set[str] = set()

        def line(statement: ir.Assign) -> Iterator[str]:
            name = statement.target.name
            value = self.printer.number(statement.value)
            if name in again:
                value = f"kept<{own(name)}_t>({value})"
            if gathers(statement):
                (of,) = statement.value.arguments
                written = self.printer.number(of)
                yield _taken(own(name), statement, written, written)
                return
            kind = _kind(statement.target)
            fresh = name not in fields | below | started
            started.add(name)
            const = "const " * (name in constant)
            yield f"{f'{const}{kind} ' if fresh else ''}{own(name)} = {value};"

        flags = {x.name for x in ir.targets(step.body) if x.type.element == "flag"}
        for name in sorted(below):
            kind = "bool" if name in flags else "double"
            yield f"{kind} {own(name)} = 0;"
        yield from Block(self.printer, self.rule.source, line).lines(step.body)
        for name in step.stores:
            guard = f"if ({self._has(name)}) " * (name in self.columns.optional)
            place = _PLACES[step.level]
            yield f"{guard}store(row.{own(name)}[{place}], {own(name)});"

    def _call_along(self, step: Along, number: int) -> Iterator[str]:
        yield "    each_tensor(*table, [&](int64_t at) {"
        yield f"        along_{number}(rows[at], numbers[at]);"
        yield "    });"


def _along_axes(step: Elements) -> tuple[list[ir.Assign], list[ir.Assign]]:
    """What a pass gathers along lines, and along columns."""
    return gathered(step.body, Level.LINE), gathered(step.body, Level.COLUMN)


def _kind(ref: ir.Ref) -> str:
    return "bool" if ref.type.element == "flag" else "double"


def _taken(place: str, statement: ir.Assign, written: str, number: str) -> str:
    """One more value for a reduction, whose place may be in memory."""
    how = GATHERINGS[statement.value.function]
    if not how.takes:
        return f"{place} = {how.join}({place}, {number});"
    is_flag = statement.value.arguments[0].type.element == "flag"
    return how.takes.format(place, written if is_flag else number)
