"""The kernels of a rule in C++.

In: a program of passes. Out: the text of one translation unit, behind what all kernels
share and behind a prelude that says which types and options it is built for.
"""

from collections.abc import Iterator
from functools import partial

from ... import ir
from ...evaluate import literal
from ...ir.kernels import Across, Along, Elements, Numbers, gathers
from .block import GATHERINGS, INDENT, Block, declared, gathered, takes
from .entry import Entry
from .layout import WIDTH, comment, fit


class Kernels(Entry):
    """Prints one program that reduces along no axes."""

    def text(self) -> str:
        result = [
            f"// {self.program.title}",
            *self._row(),
            *self._struct(),
        ]
        functions: list[str] = []
        calls: list[str] = []
        numbered = {Numbers: 0, Elements: 0, Along: 0}
        for step in self.program.steps:
            if isinstance(step, Across):
                calls += self._across(step)
                continue
            numbered[type(step)] += 1
            number = numbered[type(step)]
            if isinstance(step, Numbers):
                first = number == 1 and not (numbered[Elements] or numbered[Along])
                checked = first and not self.program.turn
                functions += self._numbers(step, number, checked)
                calls += self._call_numbers(number, checked)
            elif isinstance(step, Along):
                functions += self._along(step, number)
                calls += self._call_along(step, number)
            else:
                functions += self._pass(step, number)
                calls += self._call_pass(step, number)
        result += [*functions, *self._entry(calls)]
        return "\n".join(part for line in result for part in fit(line)) + "\n"

    # ---- once a tensor

    def _numbers(self, step: Numbers, number: int, checked: bool) -> Iterator[str]:
        def line(statement: ir.Assign) -> Iterator[str]:
            value = self.printer.number(statement.value)
            yield f"{self.printer.place(statement.target)} = {value};"

        kind = "bool" if checked else "void"
        yield ""
        if checked:
            yield "// Once a tensor; false where a number that Python raises for comes out."
        yield f"static {kind} numbers_{number}(const Row &row, Numbers &n) {{"
        body = Block(self.printer, self.rule.source, line).lines(step.body)
        yield from (INDENT + each for each in body)
        if checked:
            targets = [
                each.target
                for each in ir.statements(step.body)
                if isinstance(each, ir.Assign) and _may_fail(each)
            ]
            yield f"    return {self._are_finite(targets)};"
        yield "}"

    def _are_finite(self, targets: list[ir.Ref]) -> str:
        single = dict.fromkeys(self._name(x) for x in targets if x.index is None)
        listed = dict.fromkeys(
            f"all_finite({self._name(x)}, {self.lists.length(x.name)})"
            for x in targets
            if x.index is not None
        )
        found = [f"are_finite({', '.join(single)})"] * bool(single or not listed)
        return " && ".join([*found, *listed])

    def _call_numbers(self, number: int, checked: bool) -> Iterator[str]:
        if checked:
            given = (
                f"*table, {len(self.columns.asked)}, rows, numbers, numbers_{number}"
            )
            yield f"    if (!each_row({given})) return 1;"
        else:
            yield "    for (int64_t at = 0; at < table->rows; ++at)"
            yield f"        numbers_{number}(rows[at], numbers[at]);"

    def _across(self, step: Across) -> Iterator[str]:
        how = GATHERINGS[step.call.function]
        part = f"numbers[at].{self.names.own(step.part.name)}"
        part = {
            "norm": f"{part} * {part}",
            "any": f"{part} != 0",
            "all": f"{part} == 0",
        }.get(step.call.function, part)
        of_group = "true" if step.call.over == "group" else "false"
        target = f"numbers[at].{self.names.own(step.target.name)}"
        yield from (
            INDENT + each for each in comment(self.rule.source.cut(step.call.span))
        )
        yield f"    across(*table, {of_group}, {how.empty}, {how.join},"
        yield f"           [&](int64_t at) {{ return double({part}); }},"
        end = how.end.format("value", "count")
        yield "           [&](int64_t at, double value, double count) {"
        yield f"               {target} = {end};"
        yield "           });"

    # ---- once an element

    def _pass(self, step: Elements, number: int) -> Iterator[str]:
        own = self.names.own
        sums = gathered(step.body)
        yield ""
        more = ", double *sums" if sums else ""
        head = f"static void pass_{number}("
        parameters = f"const Row row, const Numbers n, int64_t begin, int64_t end{more}"
        if len(head + parameters) + 3 > WIDTH:
            yield head
            head = INDENT
        yield f"{head}{parameters}) {{"
        yield from (INDENT + each for each in self._starts(sums))
        yield "    for (int64_t at = begin; at < end; at += BLOCK) {"
        yield "        const int64_t to = end_of_block(at, end);"
        yield f"        ask(at, to, row{self._moved(step)});"
        yield "        #pragma omp simd" + self._clauses(sums)
        yield "        for (int64_t i = at; i < to; ++i) {"
        yield from (INDENT * 3 + each for each in self._of_elements(step))
        yield "        }"
        yield "    }"
        for at, each in enumerate(sums):
            yield f"    sums[{at}] = {self._gathered(own(each.target.name), each)};"
        yield "}"

    def _of_elements(self, step: Elements) -> Iterator[str]:
        """What a pass does with one element."""
        own = self.names.own
        fields = frozenset({*self.elements, *self._gathered_along(step.body)})
        constant, below = declared(step.body, fields)
        again = self.program.handed_on(step)
        started: set[str] = set()

        def line(statement: ir.Assign) -> Iterator[str]:
            if gathers(statement):
                yield from self._takes(own(statement.target.name), statement)
                return
            target = self.printer.place(statement.target)
            kind = "bool" if statement.target.type.element == "flag" else "real"
            fresh = statement.target.name not in self.elements | below | started
            started.add(statement.target.name)
            const = "const " * (statement.target.name in constant)
            value = self.printer.element(statement.value)
            if statement.target.name in again:
                # All passes see the number that is in memory.
                value = f"kept<{own(statement.target.name)}_t>({value})"
            yield f"{f'{const}{kind} ' if fresh else ''}{target} = {value};"

        yield from self._loads(step)
        fresh = [x for x in step.stores if x not in step.loads]
        if "grad" in self._changed(step) and "grad" not in step.loads:
            fresh.append("grad")
        for name in fresh:
            yield f"real {own(name)} = 0;"
        flags = {x.name for x in ir.targets(step.body) if x.type.element == "flag"}
        for name in sorted(below):
            kind = "bool" if name in flags else "real"
            yield f"{kind} {own(name)}{' = false' if kind == 'bool' else ' = 0'};"
        yield from Block(self.printer, self.rule.source, line).lines(step.body)
        for name in step.stores:
            yield from self.lists.each_unrolled(name, partial(self._store, name))

    def _moved(self, step: Elements) -> str:
        """The columns that a pass moves, as arguments."""
        names = dict.fromkeys((*step.loads, *step.stores))
        moved = [self.names.own(x) for x in names if self._is_whole(x)]
        return "".join(f", &Row::{each}" for each in moved)

    def _is_whole(self, name: str) -> bool:
        """Whether a column has a number for each element."""
        return name in self.elements and name not in self.lists

    def _loads(self, step: Elements) -> Iterator[str]:
        for name in step.loads:
            if name in self.lists:
                yield f"real {self.lists.field(name)};"
                line = partial(self._load_entry, name)
                yield from self.lists.each_unrolled(name, line)
            else:
                yield self._load(name, name in self._changed(step))

    def _load_entry(self, name: str, entry: str) -> str:
        own = self.names.own(name)
        value = f"load(row.{own}{entry}[i])"
        if name in self.columns.optional:
            value = f"{self._has(name, entry=entry)} ? {value} : 0"
        return f"{own}{entry} = {value};"

    def _store(self, name: str, entry: str) -> str:
        own = self.names.own(name)
        guard = f"if ({self._has(name, entry=entry)}) "
        stored = f"store(row.{own}{entry}[i], {own}{entry});"
        return guard * (name in self.columns.optional) + stored

    def _takes(self, target: str, statement: ir.Assign) -> Iterator[str]:
        """One more element for a reduction."""
        return takes(target, statement, self.printer)

    def _gathered_along(self, block: ir.Block) -> list[str]:
        """The names of what is gathered along axes: nothing, where none are reduced."""
        return []

    def _starts(self, sums: list[ir.Assign]) -> Iterator[str]:
        """What reductions start from."""
        for each in sums:
            how, name = (
                GATHERINGS[each.value.function],
                self.names.own(each.target.name),
            )
            nans = f", {name}_nans = 0" * (not how.takes)
            yield f"double {name} = {how.empty}{nans};"

    def _gathered(self, name: str, each: ir.Assign) -> str:
        if GATHERINGS[each.value.function].takes:
            return name
        return f"{name}_nans > 0 ? NAN : {name}"

    def _clauses(self, sums: list[ir.Assign]) -> str:
        return "".join(
            f" reduction({how}: {', '.join(names)})"
            for how, names in self._lanes(sums).items()
        )

    def _lanes(self, sums: list[ir.Assign]) -> dict[str, list[str]]:
        lanes: dict[str, list[str]] = {}
        for each in sums:
            how, name = (
                GATHERINGS[each.value.function],
                self.names.own(each.target.name),
            )
            lanes.setdefault(how.lanes, []).append(name)
            if not how.takes:
                lanes.setdefault("+", []).append(f"{name}_nans")
        return lanes

    def _changed(self, step: Elements) -> set[str]:
        return {each.name for each in ir.targets(step.body)}

    def _load(self, name: str, changed: bool) -> str:
        own = self.names.own(name)
        value = f"load(row.{own}[i])"
        if name == "grad":
            sign = "row.maximize" if self.together else "maximize"
            value = f"({sign} ? -1 : 1) * real({value})"
        elif name in self.columns.optional:
            value = f"{self._has(name)} ? {value} : 0"
        return f"{'' if changed else 'const '}real {own} = {value};"

    def _call_pass(self, step: Elements, number: int) -> Iterator[str]:
        sums = gathered(step.body)
        call = f"pass_{number}(rows[x.row], numbers[x.row], x.begin, x.end"
        if not sums:
            yield "    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {"
            yield f"        {call});"
            yield "    });"
            return
        yield f"    std::vector<double> {self._parts(number)}({len(sums)} * chunks.size());"
        yield "    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {"
        yield f"        {call}, &{self._parts(number)}[{len(sums)} * at]);"
        yield "    });"
        yield from self._joined(sums, number, "chunks")

    def _parts(self, number: int) -> str:
        return f"parts_{number}" if number > 1 else "parts"

    def _joined(self, sums: list[ir.Assign], number: int, chunks: str) -> Iterator[str]:
        """What the parts of each tensor gathered, as numbers of it."""
        count = len(sums)
        how = [GATHERINGS[each.value.function] for each in sums]
        joined = f"sums_{number}" if number > 1 else "sums"
        yield f"    const auto {joined} = gathered<{count}>("
        empty = ", ".join(x.empty for x in how)
        yield f"        *table, {chunks}, {self._parts(number)}, {{{empty}}},"
        yield f"        {{{', '.join(x.join for x in how)}}});"
        yield "    for (int64_t at = 0; at < table->rows; ++at) {"
        for k, (each, x) in enumerate(zip(sums, how, strict=True)):
            value = x.end.format(f"{joined}[{count} * at + {k}]", "rows[at].numel")
            yield f"        numbers[at].{self.names.own(each.target.name)} = {value};"
        yield "    }"


def _may_fail(statement: ir.Assign) -> bool:
    """Whether Python could raise for what the host works out."""
    target, value = statement.target, statement.value
    if not target.type.on_host or target.type.element != "number":
        return False
    if isinstance(value, (ir.Ref, ir.Index)):
        return False
    return not (isinstance(value, ir.Const) and literal(value) is not None)
