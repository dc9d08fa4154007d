"""The same equations over lists of tensors: a module-level function that calls torch's
`_foreach` functions.

In: a rule that `flatten` has been through. Out: the lines of its function. Parameters of
one device and dtype, about which the host knows the same (their count, their shape),
are updated together, so that the host's work reads as it does in the loop.
"""

import dataclasses
from collections.abc import Iterator

from .. import ir
from .body import INDENT, lines
from .complex import Run, runs
from .expr import text
from .layout import fit
from .names import plural
from .sparse import gathered_lists, scattered_lists
from .update import MAXIMIZE, Column, Update, asked, asks_count, head

KIND = "multi_tensor"
GIVEN = "given"
ALIKE = '''

def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]
'''


def emit(
    rule: ir.Rule, update: Update, suffix: str = "", captured: bool = False
) -> list[str]:
    """The lines of a function that runs the rule on all parameters of a batch at once."""
    names = Lists(update)
    body = [] if captured else _numbers(update)
    body += lines(rule.prologue, names.host, rule.source, names.single)
    body += [""] * bool(body)
    body += _batches(rule, update)
    given = [f"{GIVEN} = grads"] * _consumes(rule)
    inner = [*given, f"if {MAXIMIZE}:", "    grads = torch._foreach_neg(grads)"]
    gathered = gathered_lists(rule, [each.items for each in update.kept])
    inner += [*gathered, *given] if gathered else []
    inner += _count(rule, update)
    several = list(runs(rule, update))
    is_complex = "torch.is_complex(params[0])"
    if sum(bool(run.changed) for run in several) > 1:
        inner.append(f"is_complex = {is_complex}")
        is_complex = "is_complex"
    for run in several:
        viewed = _viewed(run, names, is_complex)
        inner += viewed
        if viewed and "grad" in run.changed:
            inner += [INDENT + each for each in given]
        written = lines(run.block, names.host, rule.source, names.single)
        inner += [""] * written[:1][0].startswith("#") if written else []
        inner += written
    inner += scattered_lists(rule)
    body += [INDENT + line if line else "" for line in inner]
    result = [
        *head(update, update.function(KIND) + suffix),
        *(INDENT + line if line else "" for line in body),
    ]
    return [part for line in result for part in fit(line)]


def _consumes(rule: ir.Rule) -> bool:
    """Whether a call writes into gradients where they are copies."""
    return any(
        isinstance(each, ir.Assign) and getattr(each.value, "may_consume", False)
        for each in ir.statements(rule.step)
    )


def _numbers(update: Update) -> list[str]:
    """Hypers as numbers, where a group may have tensors."""
    own = update.names.own
    floats = [
        own(each.name)
        for each in update.hypers
        if each.annotation == "float" and not each.type.optional
    ]
    tuples = [
        own(each.name)
        for each in update.hypers
        if each.annotation == "tuple" and not each.type.nones
    ]
    joined = ", ".join(floats)
    result = [f"{each} = tuple(map(float, {each}))" for each in tuples]
    if len(floats) == 1:
        result.insert(0, f"{joined} = float({joined})")
    elif floats:
        result.insert(0, f"{joined} = map(float, ({joined}))")
    return ["# Numbers, where a group has tensors of one element."] * bool(
        result
    ) + result


# ---- batches


def _batches(rule: ir.Rule, update: Update) -> list[str]:
    """The loop over parameters that are updated together."""
    columns = f"columns = [{update.lists}]"
    loop = f"for {update.lists} in _alike(columns"
    facts = dict(_facts(rule, update))
    if not facts:
        return [columns, f"{loop}):"]
    read = dict.fromkeys(facts.values())
    one = ", ".join(facts)
    one = one if len(facts) == 1 else f"({one})"
    items = ", ".join(each.item for each in read)
    lists = ", ".join(each.items for each in read)
    lists = lists if len(read) == 1 else f"zip({lists}, strict=True)"
    keys = lists if one == items else f"[{one} for {items} in {lists}]"
    return [columns, f"keys = {keys}", f"{loop}, keys):"]


def _facts(rule: ir.Rule, update: Update) -> Iterator[tuple[str, object]]:
    """What the host asks about each parameter, with the column that it asks."""
    nodes = [
        node
        for block in (rule.prologue, rule.step)
        for statement in block
        for node in ir.walk(statement)
    ]
    nodes += [
        node for state in rule.states if state.when for node in ir.walk(state.when)
    ]
    read = asked((*rule.prologue, *rule.step))
    shapes = {each.function for each in nodes if isinstance(each, ir.Call)}
    param = update.columns[0]
    if shapes & {"size", "numel"}:
        yield f"{param.item}.shape", param
    elif "ndim" in shapes:
        yield f"{param.item}.ndim", param
    for each in update.columns[2:]:
        if each.state is not None:
            fact = ir.Role.STATE, each.state.name
        elif each is update.step:
            fact = ir.Role.COUNT, "t"
        else:
            fact = ir.Role.FIRST, "first"
        if fact in read:
            yield _as_fact(each), each


def _as_fact(column: Column) -> str:
    """One thing of a column as the host knows it."""
    if not column.annotation.startswith("list[Tensor"):
        return column.item
    number = f"{column.item}.item()"
    if "None" not in column.annotation:
        return number
    return f"None if {column.item} is None else {number}"


def _count(rule: ir.Rule, update: Update) -> list[str]:
    first = [
        f"{each.item} = {each.items}[0]"
        for each in update.columns[2:]
        if each.state is None and (each is not update.step or rule.counted == "int")
    ]
    if rule.counted != "tensor":
        return first
    steps = update.step.items
    result = [*first, f"torch._foreach_add_({steps}, 1)"]
    if asks_count(rule):
        result.append(f"{update.names.own('t')} = {steps}[0].item()")
    return result


def _viewed(run: Run, names: "Lists", is_complex: str) -> list[str]:
    """Complex tensors in the form that the next statements see them in."""
    if not (run.changed or run.optional):
        return []
    result = [f"if {is_complex}:"]
    for name in map(names.many, run.changed):
        result.append(f"    {name} = [torch.{run.view}(each) for each in {name}]")
    for name in map(names.many, run.optional):
        result += [
            f"    if {name}[0] is not None:",
            f"        {name} = [torch.{run.view}(each) for each in {name}]",
        ]
    return result


# ---- statements


class Lists:
    """The names of a function over lists, and its statements."""

    def __init__(self, update: Update) -> None:
        self.update = update
        self.names = update.names.copy()
        self.columns = {"p": update.columns[0], "grad": update.columns[1]}
        self.columns |= {each.state.name: each for each in update.columns if each.state}
        self.locals: dict[str, str] = {}

    def one(self, ref: ir.Ref) -> str:
        """A tensor of a list, or what the host knows."""
        if ref.type.on_host:
            return self.host(ref)
        return (
            self.update.one(ref)
            if ref.role is ir.Role.COUNT
            else self.names.own(ref.name)
        )

    def many(self, name: str) -> str:
        """The list of what a name stands for."""
        if name in self.columns:
            return self.columns[name].items
        if name not in self.locals:
            self.locals[name] = self.names.claim(plural(name))
        return self.locals[name]

    def listed(self, ref: ir.Ref) -> str:
        if ref.role is ir.Role.COUNT:
            return self.update.step.items
        return self.many(ref.name)

    def host(self, ref: ir.Ref) -> str:
        """A name as the host reads it: of the first parameter, which speaks for all."""
        if not ref.type.on_host:
            return f"{self.listed(ref)}[0]"
        if ref.role is ir.Role.STATE:
            return f"{self.columns[ref.name].items}[0].item()"
        return self.names.own(ref.name)

    def single(self, statement: ir.Statement) -> Iterator[str]:
        match statement:
            case ir.Assign(target, value) if target.type.on_host:
                if target.role is ir.Role.STATE:
                    yield from self._filled(target, value)
                else:
                    yield f"{self.host(target)} = {text(value, self.host)}"
            case ir.Assign(target, ir.Op(may_consume=True, listed=True) as value):
                yield from self._consuming(target, value)
            case ir.Assign(target, value):
                yield f"{self.many(target.name)} = {self._values(value)}"
            case ir.Unpack(targets, value):
                yield f"{', '.join(map(self.host, targets))} = {text(value, self.host)}"
            case ir.Forget(names):
                yield f"del {', '.join(map(self.many, names))}"
            case ir.Effect(ir.Op("copy", (target, source))) if target == source:
                return
            case ir.Effect(value) if value.listed:
                yield self._call(value)
            case ir.Effect(ir.Op("fill", (target, value))) if _is_zero(value):
                yield f"torch._foreach_zero_({self.listed(target)})"
            case ir.Effect(value):
                items, lists = self._rows(value)
                yield f"for {items} in {lists}:"
                yield INDENT + text(value, self.one)

    def _filled(self, state: ir.Ref, value: ir.Expr) -> Iterator[str]:
        """A number for a state that is read as one, in every tensor that keeps it."""
        column = self.columns[state.name]
        new = self.names.own(f"new_{state.name}")
        yield f"{new} = {text(value, self.host)}"
        yield f"for {column.item} in {column.items}:"
        yield f"    {column.item}.fill_({new})"

    def _consuming(self, target: ir.Ref, value: ir.Op) -> Iterator[str]:
        """A call on gradients that is in place where they are copies."""
        name = self.many(target.name)
        yield f"if grads is {GIVEN}:"
        yield f"    {name} = {self._call(value)}"
        yield "else:"
        yield f"    {self._call(dataclasses.replace(value, in_place=True))}"
        if name != "grads":
            yield f"    {name} = grads"

    def _values(self, value: ir.Expr) -> str:
        match value:
            case ir.Ref():
                return self.listed(value)
            case ir.Choose(condition, ir.Ref() as then, ir.Ref() as otherwise):
                chosen = f"{self.listed(then)} if {text(condition, self.host)}"
                return f"{chosen} else {self.listed(otherwise)}"
        if isinstance(value, ir.Op) and value.listed:
            return self._call(value)
        items, lists = self._rows(value)
        return f"[{text(value, self.one)} for {items} in {lists}]"

    def _rows(self, value: ir.Expr) -> tuple[str, str]:
        """The lists that a value is made from, and names for one row of them."""
        refs = {
            self.one(each): each for each in ir.reads(value) if not each.type.on_host
        }
        if not refs:
            return "_", "params"
        lists = ", ".join(map(self.listed, refs.values()))
        return ", ".join(refs), lists if len(
            refs
        ) == 1 else f"zip({lists}, strict=True)"

    def _call(self, op: ir.Op) -> str:
        """A call of a function for lists."""
        written = [
            text(each, self.host) if each.type.on_host else self.listed(each)
            for each in op.arguments
        ]
        written += [f"{key}={text(each, self.host)}" for key, each in op.keywords]
        return f"torch._foreach_{op.name}{'_' * op.in_place}({', '.join(written)})"


def _is_zero(value: ir.Expr) -> bool:
    return isinstance(value, ir.Const) and value.text in ("0", "0.0")
