"""What a kernel reads of its row, and keeps for others: the tables, under the names that a
spec has.

In: a program. Out: lines that load numbers and find tensors. Of a list there is a tuple.
"""

from collections.abc import Iterator

from ... import ir
from ...ir.kernels import Program
from ..cpu.lists import Lists
from ..cpu.table import Columns, columns_of
from ..names import Names
from .block import is_flag
from .expr import Printer
from .launches import Launches


class Tables:
    """Spells the names of one program, all of whose launches have the same."""

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
        self.lists = Lists(program, names)
        self.printer = Printer(self._name, self._is_built_in, self._kept)
        self.all_columns = (*self.columns.elements, *self.columns.numbers)
        self.types = {x: self.names.claim(f"{own(x)}_t") for x in self.all_columns}
        self.types |= {x: "real" for x in self.columns.scratch}
        self.where = {
            x: self.names.claim(f"{own(x)}_at") for x in self.columns.elements
        }
        self.lefts = {
            x: self.names.claim(f"{own(x)}_left")
            for x in self.columns.elements
            if x in self.columns.optional or x in self.lists
        }
        self.tuples = _chosen_from(program) | {*self.lists.lengths}
        self.items = {
            (each.name, k): self.names.claim(f"{own(each.name)}_{k}")
            for each in self.columns.hypers
            if each.name not in self.tuples
            for k in range(each.type.length if each.type.element == "tuple" else 0)
        }

    def _kept(self, ref: ir.Ref) -> str:
        return self.types[ref.name]

    def _name(self, ref: ir.Ref | ir.Index) -> str:
        if isinstance(ref, ir.Index):
            of = ref.value.name
            if of not in self.tuples:
                return self.items[of, ref.index]
            at = ref.index if isinstance(ref.index, int) else self._whole(ref.index)
            return f"{self.names.own(of)}[{at}]"
        if ref.role is ir.Role.INDEX or _is_count(ref):
            return f"double({self.names.own(ref.name)})"
        index = "" if ref.index is None else f"[{self._whole(ref.index)}]"
        return self.names.own(ref.name) + index

    def _whole(self, expr: ir.Expr) -> str:
        """A count, or the number of a round, as Python's own number."""
        return expr.text if isinstance(expr, ir.Const) else self.names.own(expr.name)

    def _is_built_in(self, ref: ir.Ref) -> bool:
        if _is_count(ref):
            return False  # a number as any other, for arithmetic
        of_group = ref.role is ir.Role.OPTION or ref.name == "maximize"
        return of_group and not self.rule.in_phases

    # ---- what every kernel reads of a row

    def _of_row(self, names: set) -> Iterator[str]:
        """What a group says, and what the host has looked up, as far as it is mentioned."""
        own, columns = self.names.own, self.columns
        before, more, lines = [], 0, []
        for hyper in columns.hypers:
            name = own(hyper.name)
            place = self.lists.sum(before, more)
            length = hyper.type.length if hyper.type.element == "tuple" else 0
            if hyper.name in self.tuples:
                count = length or self.lists.length(hyper.name)
                if hyper.name in names:
                    lines.append(f"{name} = each_number(of + {place}, 1, {count})")
            for k in range(length if hyper.name not in self.tuples else 0):
                if (hyper.name, k) in names:
                    item = self.items[hyper.name, k]
                    at = self.lists.sum(before, more + k)
                    lines.append(f"{item} = tl.load(of + {at})")
            if not length and hyper.name not in self.tuples and hyper.name in names:
                lines.append(f"{name} = tl.load(of + {place})")
            if length or hyper.name not in self.lists:
                more += max(1, length)
            else:
                before.append(hyper.name)
        if self.rule.in_phases:
            for name in ("maximize", *(x.name for x in self.program.options)):
                if name in names:
                    place = self.lists.sum(before, more)
                    lines.append(f"{own(name)} = tl.load(of + {place}) != 0")
                more += 1
        if lines:
            size = bracketed(self.lists.sum(before, more))
            yield f"of = hypers + {size} * tl.load(group + row)"
            yield from lines
        for k, name in enumerate(columns.asked):
            if name in names:
                flag = " != 0" * (name == "first")
                yield f"{own(name)} = tl.load(asked + {k} * rows + row){flag}"

    # ---- numbers that one launch hands to another

    def _flags(self) -> set[str]:
        return {each.name for each in self.program.numbers if is_flag(each)}

    def in_table(self, name: str) -> str:
        """How far behind the first number of a row this one is."""
        table = self.launches.table
        return bracketed(self.lists.sum(table[: table.index(name)])) + " * rows"

    @property
    def table_size(self) -> str:
        return self.lists.sum(self.launches.table)

    def _from_table(self, names: set[str]) -> Iterator[str]:
        flags = self._flags()
        for name in self.launches.table:
            if name not in names:
                continue
            at, own = f"n + {self.in_table(name)}", self.names.own(name)
            if name in self.lists:
                function = "each_flag" if name in flags else "each_number"
                yield f"{own} = {function}({at}, rows, {self.lists.length(name)})"
            else:
                yield f"{own} = tl.load({at}){' != 0' * (name in flags)}"

    def _to_table(self, names: set[str]) -> Iterator[str]:
        flags = self._flags()
        for name in self.launches.table:
            if name not in names:
                continue
            at, own = f"n + {self.in_table(name)}", self.names.own(name)
            if name in self.lists:
                yield f"keep_each_number({at}, rows, {own})"
            else:
                yield f"tl.store({at}, {own}{'.to(tl.float64)' * (name in flags)})"

    # ---- tensors

    def _column(self, name: str, function: str = "column", *more: str) -> str:
        place = self.lists.sum(self.all_columns[: self.all_columns.index(name)])
        parts = ["columns", "rows", "row", place, *more]
        return f"{function}({', '.join(parts)})"


def bracketed(count: str) -> str:
    return f"({count})" if " " in count else count


def _is_count(ref: ir.Ref) -> bool:
    return ref.role is ir.Role.OPTION and ref.type == ir.NUMBER


def _chosen_from(program: Program) -> set[str]:
    """The tuples of hypers of which a round chooses an item."""
    return {
        node.value.name
        for step in program.steps
        for statement in getattr(step, "body", ())
        for node in ir.walk(statement)
        if isinstance(node, ir.Index)
        and isinstance(node.value, ir.Ref)
        and not isinstance(node.index, int)
    }


def assignment(name: str, whole: str, value: str) -> str:
    """The line that gives a name a value, or a list an entry in the place `whole`."""
    return f"{name} = put({name}, {whole}, {value})" if whole else f"{name} = {value}"
