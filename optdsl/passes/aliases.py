"""Which memory a name may stand for, and which names are read again.

Buffers are named: each state and `p` by its own name, the model's gradient and the
arguments of a def as borrowed, every fresh result by a number.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from .. import ir

BORROWED = "borrowed"
VIEWS = frozenset("mT bfloat16 reshape reshape_as flatten movedim narrow diag".split())
"""Calls whose result may share the memory of their argument."""
Buffers = frozenset[str]


def is_storage(ref: ir.Expr) -> bool:
    """Whether writing to a name means writing into its memory."""
    return (
        isinstance(ref, ir.Ref)
        and ref.role in (ir.Role.PARAM, ir.Role.STATE)
        and not ref.type.on_host
    )


@dataclass
class Memory:
    """The buffers that each name may stand for at a point of a block."""

    of: dict[str, Buffers]
    fresh: frozenset[str]
    made: list[int] = field(default_factory=lambda: [0])

    def copy(self) -> "Memory":
        return Memory(dict(self.of), self.fresh, self.made)

    def merge(self, other: "Memory") -> None:
        for name in [*self.of, *(each for each in other.of if each not in self.of)]:
            self.of[name] = self.named(name) | other.named(name)

    def named(self, name: str) -> Buffers:
        return self.of.get(name, frozenset({BORROWED}))

    def behind(self, expr: ir.Expr) -> Buffers:
        """The buffers that the value of an expression may lie in."""
        match expr:
            case ir.Ref():
                return self.named(expr.name)
            case ir.Op(in_place=True):
                return self.behind(expr.arguments[0])
            case ir.Op(name=name) if name in VIEWS:
                return self.behind(expr.arguments[0])
            case ir.Call(function="as_tensor"):
                return frozenset({BORROWED})
            case ir.Choose():
                return self.behind(expr.then) | self.behind(expr.otherwise)
            case ir.Invoke() if expr.function not in self.fresh:
                return frozenset().union(*map(self.behind, expr.arguments))
        self.made[0] += 1
        return frozenset({str(self.made[0])})


Change = Callable[[ir.Block, "Memory", set[str]], ir.Block]


def with_memory(rule: ir.Rule, change: Change) -> ir.Rule:
    """The rule with `change(block, memory, live)` for every block: the memory when it
    begins, and the names that are read after it ends.

    Storages are their own memory and live on; a pre-step hook hands on `grad` as well;
    the arguments of a def are borrowed.
    """
    storages = {"p", *(each.name for each in rule.states if not each.host)}
    fresh = frozenset(each.name for each in rule.functions if _is_fresh(each))
    own = {name: frozenset({name}) for name in sorted(storages)}

    def changed(
        body: ir.Block, live: set[str], of: dict[str, Buffers] = own
    ) -> ir.Block:
        return change(body, Memory(dict(of), fresh), live)

    def hooks(each: tuple[ir.Hook, ...], live: set[str]) -> tuple[ir.Hook, ...]:
        return tuple(replace(hook, body=changed(hook.body, live)) for hook in each)

    return replace(
        rule,
        functions=tuple(
            replace(each, body=changed(each.body, set(), {})) for each in rule.functions
        ),
        pre_steps=hooks(rule.pre_steps, storages | {"grad"}),
        step=changed(rule.step, storages),
        post_steps=hooks(rule.post_steps, storages),
        on_calls=hooks(rule.on_calls, storages),
        modes=hooks(rule.modes, storages),
    )


def _is_fresh(function: ir.Function) -> bool:
    """Whether a def always returns new memory."""
    returned = [
        each.value
        for each in ir.statements(function.body)
        if isinstance(each, ir.Return)
    ]
    return all(
        isinstance(each, (ir.Binary, ir.Call))
        or (isinstance(each, ir.Op) and each.name not in VIEWS)
        for each in returned
    )


def live_after(block: ir.Block, live: set[str]) -> list[set[str]]:
    """For each statement of a block, the names that are read after it."""
    after = []
    for statement in reversed(block):
        after.append(live)
        live = live_before(statement, live)
    return after[::-1]


def live_before(statement: ir.Statement, live: set[str]) -> set[str]:
    match statement:
        case ir.Assign(target=target):
            kept = live if is_storage(target) else live - {target.name}
            return kept | _names(statement.value)
        case ir.Unpack(targets=targets):
            return (live - {each.name for each in targets}) | _names(statement.value)
        case ir.If():
            branches = _block_before(statement.then, live) | _block_before(
                statement.otherwise, live
            )
            return branches | _names(statement.condition)
        case ir.Repeat() | ir.Each():
            again = {
                ref.name for each in ir.children(statement) for ref in ir.reads(each)
            }
            return live | again
        case ir.Return() | ir.Effect():
            return live | _names(statement.value)
        case ir.Skip():
            return live
    raise AssertionError(statement)


def _block_before(block: ir.Block, live: set[str]) -> set[str]:
    for statement in reversed(block):
        live = live_before(statement, live)
    return live


def _names(expr: ir.Expr) -> set[str]:
    return {each.name for each in ir.reads(expr)}


def after_rounds(statement: ir.Repeat | ir.Each, memory: Memory) -> None:
    """What names may stand for at the start of any round: what they stood for before,
    or what a round leaves them.
    """
    for _ in range(len(memory.of) + len(statement.body) + 1):
        after = memory.copy()
        for each in ir.statements(statement.body):
            if isinstance(each, ir.Assign) and not is_storage(each.target):
                before = after.named(each.target.name)
                after.of[each.target.name] = before | after.behind(each.value)
            elif isinstance(each, ir.Unpack) and not each.value.type.on_host:
                for target in each.targets:
                    before = after.named(target.name)
                    after.of[target.name] = before | after.behind(each.value)
        same = all(
            _known(after.of[name]) == _known(memory.named(name)) for name in after.of
        )
        memory.merge(after)
        if same:
            break


def _known(buffers: Buffers) -> Buffers:
    """Those that are not fresh results, which have a new number every time."""
    return frozenset(each for each in buffers if not each.isdigit())


def sharing(memory: Memory, buffers: Buffers, names: Iterable[str]) -> list[str]:
    """Those of the names that may stand for one of the buffers."""
    return [name for name in names if memory.named(name) & buffers]
