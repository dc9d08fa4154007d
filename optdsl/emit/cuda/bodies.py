"""What the kernels of a program do, line by line: once a row, once a group, once an element.

In: a program. Out: the bodies of its launches, which read tables under their names.
"""

from collections.abc import Iterator

from ... import ir
from ...ir.kernels import Program
from ..cpu.table import Columns, columns_of
from ..names import Names
from .block import GATHERINGS, Block, gathered, is_flag, takes
from .expr import Printer, is_element
from .launches import Joint, Launches, Pass, Rows
from .layout import comment


class Bodies:
    """Prints the launches of one program, all in the same names."""

    def __init__(self, program: Program, names: Names) -> None:
        self.program = program
        self.rule = program.rule
        self.columns: Columns = columns_of(program)
        self.launches = Launches(program, self.columns)
        self.names = names
        own = self.names.own
        self.options = [
            own(x) for x in ("maximize", *(o.name for o in program.options))
        ]
        self.printer = Printer(self._name, self._is_built_in, self._kept)
        self.all_columns = (*self.columns.elements, *self.columns.numbers)
        self.types = {x: self.names.claim(f"{own(x)}_t") for x in self.all_columns}
        self.types |= {x: "real" for x in self.columns.scratch}
        self.where = {
            x: self.names.claim(f"{own(x)}_at") for x in self.columns.elements
        }
        self.lefts = {
            x: self.names.claim(f"{own(x)}_left") for x in self.columns.optional
        }
        self.items = {
            (each.name, k): self.names.claim(f"{own(each.name)}_{k}")
            for each in self.columns.hypers
            for k in range(each.type.length if each.type.element == "tuple" else 0)
        }

    def _kept(self, ref: ir.Ref) -> str:
        return self.types[ref.name]

    def _name(self, ref: ir.Ref | ir.Index) -> str:
        if isinstance(ref, ir.Index):
            return self.items[ref.value.name, ref.index]
        return self.names.own(ref.name)

    def _is_built_in(self, ref: ir.Ref) -> bool:
        of_group = ref.role is ir.Role.OPTION or ref.name == "maximize"
        return of_group and not self.rule.in_phases

    # ---- what every kernel reads of a row

    def _of_row(self, names: set[str]) -> Iterator[str]:
        """What a group says, and what the host has looked up, as far as it is mentioned."""
        own, columns = self.names.own, self.columns
        place, lines = 0, []
        for hyper in columns.hypers:
            several = hyper.type.length if hyper.type.element == "tuple" else 0
            for k in range(several):
                if (hyper.name, k) in names:
                    lines.append(
                        f"{self.items[hyper.name, k]} = tl.load(of + {place + k})"
                    )
            if not several and hyper.name in names:
                lines.append(f"{own(hyper.name)} = tl.load(of + {place})")
            place += max(1, several)
        if self.rule.in_phases:
            for k, name in enumerate(
                ("maximize", *(x.name for x in self.program.options))
            ):
                if name in names:
                    lines.append(f"{own(name)} = tl.load(of + {place + k}) != 0")
            place += len(self.options)
        if lines:
            yield f"of = hypers + {place} * tl.load(group + row)"
            yield from lines
        for k, name in enumerate(columns.asked):
            if name in names:
                flag = " != 0" * (name == "first")
                yield f"{own(name)} = tl.load(asked + {k} * rows + row){flag}"

    def _from_table(self, names: set[str]) -> Iterator[str]:
        flags = {each.name for each in self.program.numbers if is_flag(each)}
        for place, name in enumerate(self.launches.table):
            if name in names:
                flag = " != 0" * (name in flags)
                yield f"{self.names.own(name)} = tl.load(n + {place} * rows){flag}"

    def _column(self, name: str, function: str = "column", *more: str) -> str:
        place = self.all_columns.index(name)
        parts = ["columns", "rows", "row", str(place), *more]
        return f"{function}({', '.join(parts)})"

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
        yield from self._of_row(_read(launch.body))
        yield from self._from_table(loads)
        for name in launch.begins:
            column = "step" if name == "t" else name
            one_more = " + 1" * (name == "t")
            read = self._column(column, "number", self.types[column])
            yield f"{own(name)} = {read}{one_more}"
        yield from self._joins(launch)

        def line(statement: ir.Assign) -> Iterator[str]:
            yield f"{own(statement.target.name)} = {self.printer.value(statement.value)}"

        def start(ref: ir.Ref) -> str:
            nothing = "tl.full([], False, tl.int1)" if is_flag(ref) else "double(0.0)"
            return f"{own(ref.name)} = {nothing}"

        known = loads | {*launch.begins} | {x.target.name for x in launch.joined}
        block = Block(self.printer, self.rule.source, line, start)
        later = self.launches.later(at) | {*launch.keeps}
        yield from block.lines(launch.body, known, later)
        yield from self._to_table(stores)
        for name in launch.keeps:
            column = "step" if name == "t" else name
            kind = self.types[column]
            yield self._column(column, "keep_number", kind, own(name))

    def _joins(self, launch: Rows) -> Iterator[str]:
        if not launch.joined:
            return
        yield "begin, end = tl.load(starts + row), tl.load(starts + row + 1)"
        for k, each in enumerate(launch.joined):
            how = GATHERINGS[each.value.function]
            gathered = f"{how.chunks}(parts + {k} * chunks, begin, end)"
            value = how.end.format(gathered, "tl.load(numel + row)")
            yield from comment(self.rule.source.cut(each.span))
            yield f"{self.names.own(each.target.name)} = {value}"

    def _to_table(self, names: set[str]) -> Iterator[str]:
        flags = {each.name for each in self.program.numbers if is_flag(each)}
        for place, name in enumerate(self.launches.table):
            if name in names:
                value = self.names.own(name) + ".to(tl.float64)" * (name in flags)
                yield f"tl.store(n + {place} * rows, {value})"

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
        part = f"numbers + {table.index(step.part.name)} * rows"
        end = {"all": "({0} == {1})", "any": "({0} > 0)"}.get(function, how.end)
        value = end.format(f"{how.rows}({part}, begin, end)", "(end - begin)")
        if is_flag(step.target) or function in ("all", "any"):
            value = f"{value}.to(tl.float64)"
        if step.target.name in table:
            place = table.index(step.target.name)
            yield f"{self.names.own(step.target.name)} = {value}"
            target = self.names.own(step.target.name)
            yield f"spread(numbers + {place} * rows, begin, end, {target})"

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
        names = _read(step.body) | ({"maximize"} if "grad" in step.loads else set())
        yield from self._of_row(names)
        yield from self._from_table(loads)
        for name in self.columns.elements:
            if name in (*step.loads, *step.stores):
                where = self._column(name, "column", self.types[name], "aligned")
                yield f"{self.where[name]} = {where} + begin"
                if name in self.lefts:
                    yield f"{self.lefts[name]} = {self._column(name, 'if_there', 'left')}"
        for name in step.loads:
            left = self.lefts.get(name, "left")
            parts = f"{self.where[name]}, i, {left}"
            if name == "grad":
                maximize = self.options[0]
                yield f"{own(name)} = gradient({parts}, {maximize}, grad_scale, real)"
            else:
                yield f"{own(name)} = elements({parts}, real)"
        started: set[str] = set()

        def line(statement: ir.Assign) -> Iterator[str]:
            name = statement.target.name
            target = own(name)
            if is_element(statement.target):
                value = self.printer.element(statement.value)
                if name in again:
                    # All passes see the number that is in memory.
                    value = f"kept({value}, {self.types[name]})"
                yield f"{target} = {value}"
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

        block = Block(self.printer, self.rule.source, line, start)
        sums = gathered(step.body)
        later = {*step.stores, *(each.target.name for each in sums)}
        yield from block.lines(step.body, {*step.loads}, later & changed)
        for name in step.stores:
            left = self.lefts.get(name, "left")
            yield f"keep({self.where[name]}, i, {left}, {own(name)})"
        for k, each in enumerate(sums):
            yield f"tl.store(parts + {k} * chunks + chunk, {own(each.target.name)})"


def _read(block: ir.Block) -> set:
    """The names that a block mentions, and the places of tuples."""
    names: set = set()
    for statement in block:
        for node in ir.walk(statement):
            if isinstance(node, ir.Index) and isinstance(node.value, ir.Ref):
                names.add((node.value.name, node.index))
            elif isinstance(node, ir.Ref):
                names.add(node.name)
    return names
