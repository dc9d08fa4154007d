"""The way into the kernels of a rule: a C function that reads a launch table, runs the passes
over its rows, and keeps the numbers that changed.
"""

from collections.abc import Iterator
from functools import partial

from .block import INDENT
from .rows import Rows


class Entry(Rows):
    """Prints the function that Python calls."""

    def _entry(self, calls: list[str]) -> Iterator[str]:
        own, columns = self.names.own, self.columns
        yield ""
        yield "// 0, or 1 where nothing was changed since the host has to work it out."
        yield f'extern "C" int {self.function}(const Table *table) {{'
        for each in self.program.fits:
            sides = map(self.lists.count, (each.left, each.right))
            yield f"    if ({' > '.join(sides)}) return 1;"
        yield "    std::vector<Row> rows(table->rows);"
        yield "    std::vector<Numbers> numbers(table->rows, Numbers{});"
        yield from self._before()
        yield "    for (int64_t at = 0; at < table->rows; ++at) {"
        yield "        Row &row = rows[at];"
        yield "        row.numel = table->numel[at];"
        yield "        row.next = &row + (at + 1 < table->rows);"
        moved = (*columns.elements, *columns.numbers)
        for k, name in enumerate(moved):
            line = partial(self._begins, name, self.lists.sum(moved[:k]))
            yield from (INDENT * 2 + each for each in self.lists.each(name, line))
        yield from self._seen()
        if columns.hypers or self.together:
            size = self._hyper_count()
            yield f"        const double *hyper = table->hypers + {size} * table->group[at];"
        for hyper in columns.hypers:
            if hyper.name in self.lists:
                yield f"        for (double &each : row.{own(hyper.name)}) each = *hyper++;"
                continue
            length = hyper.type.length if hyper.type.element == "tuple" else 0
            for k in range(length):
                yield f"        row.{own(hyper.name)}[{k}] = *hyper++;"
            if not length:
                yield f"        row.{own(hyper.name)} = *hyper++;"
        for name in self.options if self.together else ():
            yield f"        row.{name} = *hyper++ != 0;"
        for k, name in enumerate(columns.asked):
            place = f"{k} * table->rows + at" if k else "at"
            yield f"        row.{own(name)} = table->asked[{place}];"
        for name in columns.numbers:
            if name == "step":
                yield "        numbers[at].t = load(*row.step) + 1;"
            else:
                value = f"load(*row.{own(name)})"
                if name in columns.optional:
                    value = f"{self._has(name)} ? {value} : 0"
                yield f"        numbers[at].{own(name)} = {value};"
        if columns.counts and "step" not in columns.numbers:
            yield f"        numbers[at].t = row.{own('t')};"
        yield "    }"
        yield self._pieces()
        yield from calls
        changed = {each.name for each in self.program.numbers}
        kept = [x for x in columns.numbers if x == "step" or x in changed]
        if kept:
            yield "    for (int64_t at = 0; at < table->rows; ++at) {"
            for name in kept:
                value = "t" if name == "step" else own(name)
                has = self._has(name, "rows[at]")
                guard = f"if ({has}) " * (name in columns.optional)
                stored = f"store(*rows[at].{own(name)}, numbers[at].{value});"
                yield f"        {guard}{stored}"
            yield "    }"
        yield "    return 0;"
        yield "}"

    def _begins(self, name: str, column: str, entry: str) -> str:
        """Where a tensor lies, or an entry of a list: a list has a column for each."""
        own = self.names.own(name)
        if entry:
            column += f" + {entry.strip('[]')}"
        return f"row.{own}{entry} = ({own}_t *)table->columns[{column}][at];"

    def _hyper_count(self) -> str:
        """How many numbers of a group there are."""
        hypers = self.columns.hypers
        more = sum(max(0, each.type.length - 1) for each in hypers)
        more += self.together * len(self.options)
        count = self.lists.sum([each.name for each in hypers], more)
        return f"({count})" if " " in count else count

    def _before(self) -> list[str]:
        """What comes before the rows of a table are read."""
        return []

    def _seen(self) -> list[str]:
        """How a tensor is seen, where its rule reduces along axes."""
        return []

    def _pieces(self) -> str:
        """The pieces of tensors that threads take."""
        return "    const std::vector<Chunk> chunks = chunks_of(*table);"
