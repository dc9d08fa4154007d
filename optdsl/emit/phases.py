"""A step in phases: a module-level function that sees all groups, one parameter after the
other or many at once.

In: a lowered rule with `ir.Each` in its step. Out: the lines of its function. Each group
comes with its columns, the lists that hold one thing of each parameter; what a parameter
keeps for a later phase becomes one more of them.
"""

import textwrap

from .. import ir
from ..stages import (
    between,
    direct_parts,
    loops,
    outer,
    own,
    parts,
    phases,
    runs,
    surely,
    waiting,
)
from .body import INDENT, lines
from .complex import AS_REAL, Run
from .layout import WIDTH, fit
from .names import Names, plural
from .signature import option
from .update import Update, asked

GROUPS = "groups: list[tuple[dict[str, Any], list[list[Any]]]]"
STACKED = '''

def _stacked(parts: list[Tensor]) -> Tensor:
    """What every parameter gives to a reduction, next to the first; of one that is
    sharded, what all shards give.
    """
    whole = [x.full_tensor() if hasattr(x, "full_tensor") else x for x in parts]
    dtype = torch.promote_types(whole[0].dtype, _get_scalar_dtype())
    return torch.stack([x.to(whole[0].device, dtype) for x in whole])
'''


def function(phases: "Phases", kind: str, suffix: str) -> list[str]:
    update = phases.update
    doc = f'"""Update all groups, each with its columns: {update.lists}.'
    spoken = textwrap.wrap(doc, WIDTH - len(INDENT) - 3)
    spoken = [*spoken, '"""'] if len(spoken) > 1 else [f'{doc}"""']
    name = f"def {update.function(kind)}{suffix}"
    head = [f"{name}({GROUPS}) -> None:"]
    if len(head[0]) > WIDTH:
        head = [f"{name}(", f"{INDENT}{GROUPS},", ") -> None:"]
    body = [*spoken, *_unspaced([*phases.begin(), *phases.body()])]
    body = [INDENT + line if line else "" for line in body]
    return [part for line in [*head, *body] for part in (fit(line) if line else [""])]


def _unspaced(body: list[str]) -> list[str]:
    """Lines that begin with one that says something."""
    return body[next(at for at, line in enumerate(body) if line) :]


class Phases:
    """Prints one step. `kept` are the names that wait for a later phase, behind the
    columns; `outer` those that are not of one parameter.
    """

    container = "groups"

    def __init__(self, rule: ir.Rule, update: Update) -> None:
        self.rule = rule
        self.update = update
        self.outer = outer(rule)
        self.parts = parts(rule.step)
        self.kept: dict[str, str] = {}
        self.appended: list[str] = []
        self.of_groups: dict[str, str] = {}
        every = [*waiting([*phases(rule.step)]), *waiting(loops(rule.step))]
        self.waiting = {id(each): names for each, names in every}
        self.hypers = {each.name: each for each in rule.of_group}
        self.names = self._names()
        self.lists = {name: self.names.claim(plural(name)) for name in self.parts}

    def _names(self) -> Names:
        return self.update.names.copy()

    def begin(self) -> list[str]:
        return []

    def body(self) -> list[str]:
        rule = self.rule
        nodes = (*rule.prologue, *rule.step)
        names = self._of_group(nodes, rule.of_model, "model")
        result = ["(group, _), *_ = groups", *names] if names else []
        losses = self.update.of(ir.Role.LOSS)
        roles = {ref.role for each in between(rule) for ref in ir.reads(each)}
        if ir.Role.LOSS in roles:
            at = self.update.columns.index(losses)
            result.append(f"{losses.item} = groups[0][1][{at}][0]")
        for run in runs(nodes):
            result += self._lines(run) if isinstance(run, tuple) else self._group(run)
        return result

    def _lines(self, block: ir.Block) -> list[str]:
        result = lines(block, self.name, self.rule.source, self.single)
        return ["", *result] if result else []

    def _group(self, phase: ir.Each) -> list[str]:
        """The loop over groups, with what it collects for the model."""
        others = [each for each in self.hypers if each not in self.rule.of_model]
        body = self._of_group(phase.body, tuple(others), "group")
        for run in runs(phase.body):
            if isinstance(run, tuple):
                body += self._lines(run)
            else:
                body += self._lists(run, direct_parts(phase.body))
                body += self._phase(run)
        before = self._lists(phase, direct_parts(self.rule.step))
        read = {ref.name for ref in ir.mentions(phase)}
        old = [each for each in self.of_groups if each in read]
        unsure = {*self.waiting[id(phase)]} - surely(own(phase)) - {*old}
        body[:0] = [f"{self.names.own(each)} = None" for each in sorted(unsure)]
        head = f"for group, {self.inside} in {self.container}:"
        if old:
            names = ", ".join(map(self.names.own, old))
            kept = ", ".join(self.of_groups[each] for each in old)
            rows = f"zip({self.container}, {kept}, strict=True)"
            head = f"for (group, {self.inside}), {names} in {rows}:"
        for each in self.waiting[id(phase)]:
            fresh = self.names.claim(plural(each))
            before.append(f"{fresh}: list[Any] = []")
            body.append(f"{fresh}.append({self.names.own(each)})")
            self.of_groups[each] = fresh
        return ["", *before, head, *(INDENT + line if line else "" for line in body)]

    def _lists(self, phase: ir.Each, parts: dict[str, ir.Type]) -> list[str]:
        """The empty lists that a phase adds to."""
        result = []
        for name in ir.assigned((phase,)) & {*parts}:
            kind = "Any" if parts[name].on_host else "Tensor"
            result.append(f"{self.lists[name]}: list[{kind}] = []")
        return sorted(result)

    def _of_group(
        self, block: ir.Block, hypers: tuple[str, ...], place: str
    ) -> list[str]:
        """The lines that give the hypers of a group, and its states, their names."""
        read = {ref.name for each in block for ref in ir.mentions(each)}
        names = [each for each in hypers if each in read]
        values = [self._hyper(each) for each in names]
        for state in self.rule.shared:
            if state.place == place and state.name in read:
                names.append(state.name)
                values.append(f'group["{state.name}"]')
        pairs = zip(map(self.names.own, names), values, strict=True)
        return [f"{name} = {value}" for name, value in pairs]

    def _hyper(self, name: str) -> str:
        return f'group["{name}"]'

    # ---- one phase of the parameters

    def _phase(self, phase: ir.Each) -> list[str]:
        handed = {each: self.kept_list(each) for each in self.waiting[id(phase)]}
        inner = [*self._first_lines(phase), *self._count(phase), *self._viewed(phase)]
        written = lines(phase.body, self.name, self.rule.source, self.single)
        unsure = {*handed} - surely(phase.body) - {*self.kept, "grad"}
        inner += [f"{self.name_of(each)} = None" for each in sorted(unsure)]
        inner += [""] * bool(written and inner and written[0].startswith("#"))
        result = self._loop(phase, [*inner, *written], handed)
        self.kept |= handed
        self.appended += handed.values()
        return result

    def columns(self) -> str:
        """The names of the lists that a row of columns is taken apart into."""
        return ", ".join([each.items for each in self.update.columns] + self.appended)

    def _viewed(self, phase: ir.Each) -> list[str]:
        if not self.rule.pairs:
            return []
        read = {ref.name for ref in ir.mentions(phase)} - {*self.kept}
        names = [each for each in ("p", "grad") if each in read]
        states = [
            each for each in self.rule.own if each.name in read and not each.scalar
        ]
        optional = tuple(each.name for each in states if each.when is not None)
        names += [each.name for each in states if each.name not in optional]
        return self.as_reals(phase, Run((), AS_REAL, tuple(names), optional))

    def counts_here(self, phase: ir.Each) -> bool:
        """Whether this is the phase in which the counts go up: the first one."""
        return self.rule.counted == "tensor" and phase is self._first

    @property
    def _first(self) -> ir.Each:
        return next(
            each
            for each in ir.statements(self.rule.step)
            if isinstance(each, ir.Each) and each.level == "param"
        )

    def reads_count(self, phase: ir.Each) -> bool:
        read = asked(phase.body)
        return any(role is ir.Role.COUNT for role, _ in read)

    def reads_grad(self, phase: ir.Each) -> bool:
        read = any(ref.name == "grad" for ref in ir.reads(phase))
        return read and "grad" not in self.kept

    def maximizes(self) -> str:
        return option(self.rule, "maximize")
