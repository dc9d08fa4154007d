"""What the kernels of a program do, line by line: once a row, once a group, once an element.

In: a program. Out: the bodies of its launches, which read tables under their names.
"""

from collections.abc import Iterator

from ... import ir
from .block import GATHERINGS, Block, gathered, is_flag, takes
from .expr import is_element
from .launches import Joint, Pass, Rows, Single
from .layout import comment
from .tables import Tables, assignment


class Bodies(Tables):
    """Prints the launches of one program."""

    @property
    def memory(self) -> dict[str, str]:
        """What lives as long as a step, beside scratch, and what there are as many of."""
        return {}

    def needs_some(self) -> bool:
        """Whether something is asked for that there may be none of, along an axis."""
        return False

    def _place(self, target: ir.Ref) -> str:
        """The place in a list that is assigned, where it is one of a list."""
        return "" if target.index is None else self._whole(target.index)

    # ---- once a row

    def rows(self, launch: Rows, at: int) -> Iterator[str]:
        own = self.names.own
        yield "if overflowed(found_inf):"
        yield "    return"
        yield "row = tl.program_id(0)"
        loads = self.launches.loads(at)
        stores = self.launches.stores(at)
        if loads or stores:
            yield "n = numbers + row"
        yield from self._of_row(read_names(launch.body))
        yield from self._from_table(loads)
        for name in launch.begins:
            column = "step" if name == "t" else name
            one_more = " + 1" * (name == "t")
            read = self._column(column, "number", self.types[column])
            yield f"{own(name)} = {read}{one_more}"
        yield from self._joins(launch)

        def line(statement: ir.Assign) -> Iterator[str]:
            name, value = statement.target.name, self.printer.value(statement.value)
            yield assignment(own(name), self._place(statement.target), value)

        def start(ref: ir.Ref) -> str:
            nothing = "tl.full([], False, tl.int1)" if is_flag(ref) else "double(0.0)"
            if ref.name in self.lists:
                nothing = f"filled({nothing}, {self.lists.length(ref.name)})"
            return f"{own(ref.name)} = {nothing}"

        known = loads | {*launch.begins} | {x.target.name for x in launch.joined}
        block = Block(self.printer, self.rule.source, line, start, self._whole)
        later = self.launches.later(at) | {*launch.keeps}
        yield from block.lines(launch.body, known, later)
        yield from self._to_table(stores)
        for name in launch.keeps:
            column = "step" if name == "t" else name
            kind = self.types[column]
            yield self._column(column, "keep_number", kind, own(name))

    def _joins(self, launch: Rows) -> Iterator[str]:
        for of in launch.joins:
            yield from self._bounds(of)
            for k, each in enumerate(gathered(of.step.body)):
                how = GATHERINGS[each.value.function]
                found = f"{how.chunks}({self._parts(of, each, k)}, begin, end)"
                count = (
                    "tl.load(numel + row)" if isinstance(of, Pass) else "(end - begin)"
                )
                yield from comment(self.rule.source.cut(each.span))
                value = how.end.format(found, count)
                yield f"{self.names.own(each.target.name)} = {value}"

    def _bounds(self, of: Pass | Single) -> Iterator[str]:
        """Where the parts of a row begin and end."""
        yield "begin, end = tl.load(starts + row), tl.load(starts + row + 1)"

    def _parts(self, of: Pass | Single, each: ir.Assign, k: int) -> str:
        """Where the parts of a reduction are, the one in the k-th place."""
        return f"parts + {k} * chunks"

    # ---- once a group

    def across(self, launch: Joint) -> Iterator[str]:
        step, table = launch.step, self.launches.table
        function = step.call.function
        how = GATHERINGS[function]
        yield "if overflowed(found_inf):"
        yield "    return"
        if step.call.over == "group":
            yield "at = bounds + tl.program_id(0)"
            yield "begin, end = tl.load(at), tl.load(at + 1)"
        else:
            yield "begin, end = 0, rows"
        yield from comment(self.rule.source.cut(step.call.span))
        part = f"numbers + {self.in_table(step.part.name)}"
        end = {"all": "({0} == {1})", "any": "({0} > 0)"}.get(function, how.end)
        value = end.format(f"{how.rows}({part}, begin, end)", "(end - begin)")
        if is_flag(step.target) or function in ("all", "any"):
            value = f"{value}.to(tl.float64)"
        if step.target.name in table:
            place = self.in_table(step.target.name)
            yield f"{self.names.own(step.target.name)} = {value}"
            target = self.names.own(step.target.name)
            yield f"spread(numbers + {place}, begin, end, {target})"

    # ---- once an element

    def elements(self, launch: Pass, at: int) -> Iterator[str]:
        own, step = self.names.own, launch.step
        changed = {each.name for each in ir.targets(step.body)}
        again = self.program.handed_on(step)
        yield "if overflowed(found_inf):"
        yield "    return"
        yield "chunk = tl.program_id(0)"
        yield "row = tl.load(row_of + chunk)"
        yield "begin = (chunk - tl.load(starts + row)) * BLOCK"
        yield "left = tl.load(numel + row) - begin"
        yield "i = tl.arange(0, BLOCK)"
        loads = self.launches.loads(at)
        if loads:
            yield "n = numbers + row"
        names = read_names(step.body) | (
            {"maximize"} if "grad" in step.loads else set()
        )
        yield from self._of_row(names)
        yield from self._from_table(loads)
        for name in self.columns.elements:
            if name in (*step.loads, *step.stores):
                yield from self._find(name)
        for name in step.loads:
            yield self._load(name)
        started: set[str] = set()

        def line(statement: ir.Assign) -> Iterator[str]:
            name = statement.target.name
            target = own(name)
            if is_element(statement.target):
                value = self.printer.element(statement.value)
                if name in again:
                    # All passes see the number that is in memory.
                    value = f"kept({value}, {self.types[name]})"
                yield assignment(target, self._place(statement.target), value)
            else:
                goes_on = statement.target.name in started
                yield takes(target, statement, self.printer, goes_on)

        def start(ref: ir.Ref) -> str:
            if is_element(ref):
                kind = "tl.int1" if is_flag(ref) else "real"
                return f"{own(ref.name)} = tl.zeros([BLOCK], {kind})"
            started.add(ref.name)
            sums = gathered(step.body)
            function = next(x.value.function for x in sums if x.target.name == ref.name)
            return f"{own(ref.name)} = double({GATHERINGS[function].empty})"

        block = Block(self.printer, self.rule.source, line, start, self._whole)
        sums = gathered(step.body)
        later = {*step.stores, *(each.target.name for each in sums)}
        yield from block.lines(step.body, {*step.loads}, later & changed)
        for name in step.stores:
            function = "keep_each" if name in self.lists else "keep"
            left = self.lefts.get(name, "left")
            yield f"{function}({self.where[name]}, i, {left}, {own(name)})"
        for k, each in enumerate(sums):
            yield f"tl.store(parts + {k} * chunks + chunk, {own(each.target.name)})"

    def _find(self, name: str) -> Iterator[str]:
        """Where a block of a tensor is, or of each tensor of a list, and how much is left
        of those that may be missing.
        """
        where, left, kind = self.where[name], self.lefts.get(name), self.types[name]
        if name in self.lists:
            count = self.lists.length(name)
            found = self._column(name, "each_column", kind, "aligned", "begin", count)
            yield f"{where} = {found}"
            yield f"{left} = {self._column(name, 'each_left', 'left', count)}"
            return
        yield f"{where} = {self._column(name, 'column', kind, 'aligned')} + begin"
        if left is not None:
            yield f"{left} = {self._column(name, 'if_there', 'left')}"

    def _load(self, name: str) -> str:
        parts = f"{self.where[name]}, i, {self.lefts.get(name, 'left')}"
        if name == "grad":
            maximize = self.options[0]
            return f"grad = gradient({parts}, {maximize}, grad_scale, real)"
        function = "each_element" if name in self.lists else "elements"
        return f"{self.names.own(name)} = {function}({parts}, real)"


def read_names(block: ir.Block) -> set:
    """The names that a block mentions, and the places of tuples."""
    names: set = set()
    for statement in block:
        for node in ir.walk(statement):
            if isinstance(node, ir.Index) and isinstance(node.value, ir.Ref):
                names.add((node.value.name, node.index))
            elif isinstance(node, ir.Ref):
                names.add(node.name)
    return names
