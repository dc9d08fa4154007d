"""A step in phases that takes all parameters of a batch at once.

In: a rule that `flatten` has been through, with `ir.Each` in its step. Out: the lines of its
function.
"""

from collections.abc import Iterator

from .. import ir
from . import foreach
from .body import INDENT, one_at_a_time
from .complex import Run
from .expr import Name, text
from .lists import GIVEN, Lists
from .names import Names
from .phases import Phases, function
from .update import Update


def emit(
    rule: ir.Rule, update: Update, suffix: str = "", captured: bool = False
) -> list[str]:
    """The lines of a function that takes all parameters of a batch at once."""
    return function(AtOnce(rule, update, captured), foreach.KIND, suffix)


class AtOnce(Phases):
    """All parameters of a batch at once."""

    container = "batches"
    inside = "rows"

    def __init__(self, rule: ir.Rule, update: Update, captured: bool) -> None:
        self.captured = captured
        super().__init__(rule, update)
        self.name: Name = self._host

    def _names(self) -> Names:
        self.printer = Lists(self.update, self.outer)
        return self.printer.names

    def begin(self) -> list[str]:
        body = foreach.batched(self.rule, self.update)
        return [
            "batches = []",
            f"for group, ({self.columns()}) in groups:",
            *(INDENT + line for line in body),
        ]

    def _host(self, ref: ir.Ref) -> str:
        return self.lists.get(ref.name) or self.printer.host(ref)

    def _hyper(self, name: str) -> str:
        hyper, value = self.hypers[name], super()._hyper(name)
        if self.captured or hyper.type.optional or hyper.type.nones:
            return value
        if hyper.annotation == "float":
            return f"float({value})"
        if hyper.annotation == "tuple":
            return f"tuple(map(float, {value}))"
        return value

    def single(self, statement: ir.Statement) -> Iterator[str]:
        match statement:
            case ir.Assign(target, value) if target.name in self.lists:
                if target.type.on_host:
                    value_ = text(value, self.name)
                    yield f"{self.lists[target.name]} += [{value_}] * len(params)"
                else:
                    yield f"{self.lists[target.name]} += {self.printer.values(value)}"
            case ir.Assign(target) if target.name in self.outer:
                yield from one_at_a_time(self.name)(statement)
            case ir.Effect(value) if ir.written(value).name in self.outer:
                yield from one_at_a_time(self.name)(statement)
            case _:
                yield from self.printer.single(statement)

    def kept_list(self, name: str) -> str:
        return self.name_of(name)

    def name_of(self, kept: str) -> str:
        """A list of tensors, or what is the same for all of a batch."""
        numbers = {
            each.name for each in ir.targets(self.rule.step) if each.type.on_host
        }
        alone = kept in self.outer or kept in numbers
        return self.names.own(kept) if alone else self.printer.many(kept)

    def _loop(
        self, phase: ir.Each, inner: list[str], handed: dict[str, str]
    ) -> list[str]:
        fresh = ", ".join(handed.values())
        if handed or self.kept:
            head = ["for columns in rows:", f"    {self.columns()} = columns"]
        else:
            head = [f"for {self.columns()} in rows:"]
        tail = [f"columns += [{fresh}]"] if handed else []
        return [*head, *(INDENT + line if line else "" for line in [*inner, *tail])]

    def _first_lines(self, phase: ir.Each) -> list[str]:
        given = [f"{GIVEN} = grads"] * foreach.consumes(phase.body)
        if not self.reads_grad(phase):
            return given
        negated = "    grads = torch._foreach_neg(grads)"
        return [*given, f"if {self.maximizes()}:", negated]

    def _count(self, phase: ir.Each) -> list[str]:
        return foreach.count(
            self.rule,
            self.update,
            self.captured,
            goes_up=self.counts_here(phase),
            asked=self.reads_count(phase),
        )

    def as_reals(self, phase: ir.Each, run: Run) -> list[str]:
        result = foreach.viewed(run, self.printer, "torch.is_complex(params[0])")
        if result and "grad" in run.changed and foreach.consumes(phase.body):
            result.append(f"    {GIVEN} = grads")
        return result
