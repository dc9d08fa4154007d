"""A step in phases that takes one parameter after the other.

In: a lowered rule with `ir.Each` in its step. Out: the lines of its function.
"""

from collections.abc import Iterator

from .. import ir
from ..stages import phases, waiting
from . import loop
from .body import INDENT, Single, one_at_a_time
from .complex import Run
from .expr import text
from .names import plural
from .phases import Phases, function
from .update import Column, Update


def emit(rule: ir.Rule, update: Update, suffix: str = "") -> list[str]:
    """The lines of a function that takes one parameter after the other."""
    return function(OneByOne(rule, update), loop.KIND, suffix)


class OneByOne(Phases):
    """One parameter after the other."""

    def __init__(self, rule: ir.Rule, update: Update) -> None:
        super().__init__(rule, update)
        self.keeps = any(names for _, names in waiting([*phases(rule.step)]))
        self.inside = "columns" if self.keeps else f"({self.columns()})"
        self.plain: Single = one_at_a_time(self.name)

    def name(self, ref: ir.Ref) -> str:
        return self.lists.get(ref.name) or self.update.one(ref)

    def single(self, statement: ir.Statement) -> Iterator[str]:
        match statement:
            case ir.Assign(target, value) if target.name in self.lists:
                yield f"{self.lists[target.name]}.append({text(value, self.name)})"
            case _:
                yield from self.plain(statement)

    def kept_list(self, name: str) -> str:
        return self.names.claim(plural(name))

    def name_of(self, kept: str) -> str:
        return self.names.own(kept)

    def _loop(
        self, phase: ir.Each, inner: list[str], handed: dict[str, str]
    ) -> list[str]:
        read = {ref.name for ref in ir.mentions(phase)}
        columns = [
            (each.item, each.items)
            for at, each in enumerate(self.update.columns)
            if at == 0 or self._is_read(each, phase, read)
        ]
        columns += [
            (self.name_of(each), items)
            for each, items in self.kept.items()
            if each in read
        ]
        if "grad" in self.kept:
            columns = [each for each in columns if each[1] != "grads"]
        items = ", ".join(item for item, _ in columns)
        lists = ", ".join(items for _, items in columns)
        rows = f"zip({lists}, strict=True)" if len(columns) > 1 else lists
        result = [f"{self.columns()} = columns"] if self.keeps else []
        result += [f"{each}: list[Any] = []" for each in handed.values()]
        result.append(f"for {items} in {rows}:")
        inner = [*inner]
        for each, items in handed.items():
            inner.append(f"{items}.append({self.name_of(each)})")
        result += [INDENT + line if line else "" for line in inner]
        if handed:
            result.append(f"columns += [{', '.join(handed.values())}]")
        return result

    def _is_read(self, column: Column, phase: ir.Each, read: set[str]) -> bool:
        if column is self.update.step and self.counts_here(phase):
            return True
        if column.state is not None:
            return column.state.name in read
        if column.role is not None:
            return any(ref.role is column.role for ref in ir.mentions(phase))
        return column.items == "grads" and "grad" in read

    def _first_lines(self, phase: ir.Each) -> list[str]:
        if not self.reads_grad(phase):
            return []
        return [f"grad = grad if not {self.maximizes()} else -grad"]

    def _count(self, phase: ir.Each) -> list[str]:
        result = []
        step = self.update.step
        if self.counts_here(phase):
            result.append(f"{step.item} += 1")
        if self.rule.counted == "tensor" and self.reads_count(phase):
            result.append(f"{self.update.names.own('t')} = {step.item}.item()")
        return result

    def as_reals(self, phase: ir.Each, run: Run) -> list[str]:
        return loop.viewed(run, self.update, "torch.is_complex(p)")
