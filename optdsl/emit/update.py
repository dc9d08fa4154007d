"""What an update function looks like to its caller: the lists that hold one thing of each
parameter, and the values that a group has once. All update functions of a rule take the
same.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .. import ir
from .expr import entry, text
from .names import Names, plural, snake
from .randoms import SEED, of_update

MAXIMIZE = "maximize"
_TAKEN = (
    "self group state params grads given kept new closure loss columns keys each "
    "is_complex is_sparse entries whole part parts tensors at values optimizer groups taken "
    "left turns batch"
).split()
_ANNOTATIONS = {"float": "float", "int": "int", "bool": "bool", "str": "str"}


@dataclass(frozen=True, slots=True)
class Column:
    """What an update gets one of for each parameter: `items` is the list's name, `item`
    one of them, `value` what the collecting loop puts in, if it does. What is no tensor of
    the parameter and no state of its own has a `role`. Of a list of states it gets a
    list; `index` is what the collecting loop calls its numbers.
    """

    item: str
    items: str
    annotation: str
    value: str
    state: ir.State | None = None
    role: ir.Role | None = None
    index: str = ""

    @property
    def listed(self) -> bool:
        """Whether there is a list for each parameter."""
        return self.index != ""


@dataclass(frozen=True, slots=True)
class Update:
    """The columns are `p`, `grad`, the states in order, `first`, the loss, the seeds of
    random numbers and the step count; those that are `unread` are not handed over.
    `names` spells the names of the spec.
    """

    rule_name: str
    columns: tuple[Column, ...]
    hypers: tuple[ir.Hyper, ...]
    names: Names
    counted: str
    unread: tuple[Column, ...] = ()

    @property
    def given(self) -> tuple[Column, ...]:
        """The columns that are handed over."""
        return tuple(each for each in self.columns if each not in self.unread)

    @property
    def reads_grad(self) -> bool:
        return self.columns[1] not in self.unread

    @property
    def step(self) -> Column | None:
        """The column of the step count, where it is kept."""
        return self.columns[-1] if self.counted else None

    @property
    def first(self) -> Column | None:
        """The column that says whose first update it is, where the rule asks for it."""
        return self.of(ir.Role.FIRST)

    def of(self, role: ir.Role) -> Column | None:
        """The column of a role, where the update has it."""
        return next((each for each in self.columns if each.role is role), None)

    @property
    def collected(self) -> tuple[Column, ...]:
        """The columns that the collecting loop fills."""
        return tuple(each for each in self.columns if each.value)

    @property
    def kept(self) -> tuple[Column, ...]:
        """The columns of `p` and of the states of its shape."""
        states = (each for each in self.columns if each.state)
        return (self.columns[0], *(each for each in states if not each.state.scalar))

    @property
    def items(self) -> str:
        return ", ".join(each.item for each in self.columns)

    @property
    def lists(self) -> str:
        return ", ".join(each.items for each in self.given)

    def one(self, ref: ir.Ref) -> str:
        """What a reference is called among the things of one parameter; a state that is
        read as a number is asked for it.
        """
        if ref.role in (ir.Role.SEED, ir.Role.LOSS):
            return self.of(ref.role).item
        own = self.names.own(ref.name)
        if ref.role is ir.Role.STATE and ref.type.on_host:
            return f"{own}.item()"
        if ref.role is not ir.Role.COUNT or ref.type.on_host:
            return entry(own, ref, self.one)
        if self.counted == "int":
            return f"torch.as_tensor({own}, dtype=_get_scalar_dtype())"
        return self.step.item

    @property
    def taken_apart(self) -> str:
        """The lists, to be assigned."""
        return self.lists if len(self.given) > 1 else f"({self.lists},)"

    def function(self, kind: str) -> str:
        return f"_{kind}_{snake(self.rule_name)}"


def update_of(targets: ir.Targets) -> Update:
    """What the update functions of a rule take."""
    rule = targets.loop
    names, early = Names(_TAKEN), ir.early(rule)
    columns = [
        Column(names.own("p"), "params", "list[Tensor]", "p"),
        Column(names.own("grad"), "grads", "list[Tensor]", "p.grad"),
    ]
    read = [
        ref for block in targets.blocks() for each in block for ref in ir.reads(each)
    ]
    updated = {ref.name for ref in read} | {
        name for block in targets.blocks() for name in ir.assigned(block)
    }
    for state in rule.own:
        if state in early and state.name not in updated:
            continue
        value, annotation = f'state["{state.name}"]', "list[Tensor]"
        if state.when is not None:
            value, annotation = f'state.get("{state.name}")', "list[Tensor | None]"
        own, items = names.own(state.name), names.claim(plural(state.name))
        index = ""
        if state.index is not None:
            index = names.copy().claim(state.index.name)
            value, annotation = entries(state, index), f"list[{annotation}]"
        columns.append(Column(own, items, annotation, value, state, index=index))
    if any(ref.role is ir.Role.FIRST for ref in read):
        first = names.own("first")
        value = 'state.get("first", False)'
        items, role = names.claim("firsts"), ir.Role.FIRST
        columns.append(Column(first, items, "list[bool]", value, role=role))
    if any(ref.role is ir.Role.LOSS for ref in read):
        items, role = names.claim("losses"), ir.Role.LOSS
        columns.append(Column("loss", items, "list[Tensor]", "", role=role))
    if any(ref.role is ir.Role.SEED for ref in read):
        seed, items = names.claim(SEED), names.claim("seeds")
        value = of_update(rule)
        columns.append(Column(seed, items, "list[int]", value, role=ir.Role.SEED))
    if rule.counted:
        as_int = rule.counted == "int"
        step = names.own("t") if as_int else names.claim("step")
        annotation = f"list[{'int' if as_int else 'Tensor'}]"
        items, value = names.claim("steps"), 'state["step"]'
        columns.append(Column(step, items, annotation, value, role=ir.Role.COUNT))
    used = {ref.name for ref in read}
    hypers = tuple(each for each in rule.of_group if each.name in used)
    return Update(rule.name, tuple(columns), hypers, names, rule.counted)


def entries(state: ir.State, index: str) -> str:
    """A list of states out of what is kept of a parameter."""

    def name(ref: ir.Ref) -> str:
        return f'group["{ref.name}"]' if ref.role is ir.Role.HYPER else ref.name

    key = f'f"{state.name}_{{{index}}}"'
    value = f"state[{key}]" if state.when is None else f"state.get({key})"
    return f"[{value} for {index} in range({text(state.count, name)})]"


def asked(block: ir.Block) -> set[tuple[ir.Role, str]]:
    """What statements read of the host: counts, states and hypers that are numbers."""
    return {each for statement in block for each in _asked(statement)}


def _asked(node: ir.Node) -> Iterator[tuple[ir.Role, str]]:
    match node:
        case ir.Ref():
            if node.type.on_host:
                yield node.role, node.name
        case ir.Call("as_tensor", (ir.Ref(),)):
            pass
        case _:
            for child in ir.children(node):
                yield from _asked(child)


def asks_count(rule: ir.Rule) -> bool:
    """Whether an update reads the step count as a number."""
    read = asked((*rule.prologue, *rule.step))
    return any(role is ir.Role.COUNT for role, _ in read)


def head(update: Update, function: str, returns: str = "None") -> list[str]:
    """The first lines of an update function."""
    own = update.names.own
    columns = [f"    {each.items}: {each.annotation}," for each in update.given]
    named = [f"    {own(each.name)}: {annotation(each)}," for each in update.hypers]
    named += [f"    {MAXIMIZE}: bool,"] * update.reads_grad
    named[:0] = ["    *,"] * bool(named)
    return [f"def {function}(", *columns, *named, f") -> {returns}:"]


def call(update: Update, maximize: str) -> list[str]:
    """The lines of a call of the function named `update`, with the values of a group."""
    own = update.names.own
    result = ["update("]
    result += [f"    {each.items}," for each in update.given]
    result += [f'    {own(each.name)}=group["{each.name}"],' for each in update.hypers]
    return [*result, *[f"    {MAXIMIZE}={maximize},"] * update.reads_grad, ")"]


def annotation(hyper: ir.Hyper) -> str:
    if hyper.annotation == "tuple" and not hyper.type.length:
        written = "tuple[float, ...]"
    elif hyper.annotation == "tuple":
        items = (hyper.type.item(at) for at in range(hyper.type.length))
        written = ", ".join("float" + " | None" * each.optional for each in items)
        written = f"tuple[{written}]"
    else:
        written = _ANNOTATIONS[hyper.annotation]
    return f"{written} | None" if hyper.type.optional else written
