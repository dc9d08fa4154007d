"""What a launch hands to the kernels of a rule, column by column.

In: a program. Out: the names of the tensors, of the numbers that lie in memory, of the
hypers and of what the host looks up, in the order of the tables.
"""

from dataclasses import dataclass

from ... import ir
from ...ir.kernels import Along, Elements, Program


@dataclass(frozen=True, slots=True)
class Columns:
    """`tensors` are of the parameter's size, or of what is left of it along axes, and may
    be missing where they are `optional`;
    `scratch` is memory of that size for as long as a step takes; `numbers` are 0-d
    tensors.
    """

    tensors: tuple[str, ...]
    optional: frozenset[str]
    scratch: tuple[str, ...]
    numbers: tuple[str, ...]
    hypers: tuple[ir.Hyper, ...]
    asked: tuple[str, ...]
    counts: bool

    @property
    def elements(self) -> tuple[str, ...]:
        """What has a number for each element."""
        return (*self.tensors, *self.scratch)


def columns_of(program: Program) -> Columns:
    rule = program.rule
    passes = [each for each in program.steps if isinstance(each, (Along, Elements))]
    moved = {name for each in passes for name in (*each.loads, *each.stores)}
    scratch = tuple(each.name for each in program.scratch)
    refs = [ref for each in _statements(program) for ref in ir.mentions(each)]
    mentioned = {ref.name for ref in refs}
    elements = ["p", *["grad"] * ("grad" in moved)]
    numbers, optional = [], set()
    for state in rule.own:
        if state.name in moved:
            elements.append(state.name)
            if state.when is not None:
                optional.add(state.name)
        elif state.name in mentioned:
            numbers.append(state.name)
            if state.when is not None:
                optional.add(state.name)
    numbers += [each.name for each in rule.shared if each.name in mentioned]
    counts = any(ref.role is ir.Role.COUNT for ref in refs)
    if rule.counted == "tensor":
        numbers.append("step")
    hypers = tuple(each for each in rule.of_group if _is_read(each, refs))
    asked = [name for name, _ in program.asked]
    asked += ["first"] * any(ref.role is ir.Role.FIRST for ref in refs)
    asked += ["t"] * (rule.counted == "int" and counts)
    return Columns(
        tuple(elements),
        frozenset(optional),
        scratch,
        tuple(numbers),
        hypers,
        tuple(asked),
        counts or rule.counted == "tensor",
    )


def _statements(program: Program) -> list[ir.Node]:
    found: list[ir.Node] = []
    for step in program.steps:
        found += getattr(step, "body", ())
        if hasattr(step, "call"):
            found += [step.call, step.target]
    return found


def _is_read(hyper: ir.Hyper, refs: list[ir.Ref]) -> bool:
    """Whether the kernels read it as a number."""
    return any(ref.role is ir.Role.HYPER and ref.name == hyper.name for ref in refs)
