"""What each value of a step is computed from.

In: a rule whose decided branches are gone. Out: the values that p and the states have
after a step, as a graph down to those that they and the gradient had before it. Hooks
and step are one sequence; where a branch is not decided, a name has the values of both.
"""

from dataclasses import dataclass

from .. import ir, vocabulary
from .known import Known, Undecided
from .memory import many
from .work import Kind, group, is_drawn, kind

_MOST = 500  # statements; loops run one round from there on


@dataclass(eq=False, slots=True)
class Value:
    """A `full` value has an element for each of the parameter's, any other is small.
    `before` is the name that had it before the step, `reduction` the text of the call
    that made it, and `matrices` tells work on whole matrices, or of the closure. It is
    known in the pass `level` at the earliest.
    """

    needs: tuple["Value", ...] = ()
    full: bool = False
    before: str = ""
    reduction: str = ""
    matrices: bool = False
    level: int = 0

    def __post_init__(self) -> None:
        self.level = max((each.level for each in self.needs), default=0) + self.reduces

    @property
    def reduces(self) -> bool:
        """Whether it takes all elements of a full value to know it."""
        return not self.full and any(each.full for each in self.needs)


def is_full(type_: ir.Type) -> bool:
    return type_.kind is ir.Kind.TENSOR and type_.shape == ir.LIKE_PARAM


def reached(values: list[Value]) -> list[Value]:
    """The values and all that they need, each once."""
    found: dict[int, Value] = {}
    open_ = list(values)
    while open_:
        value = open_.pop()
        if id(value) not in found:
            found[id(value)] = value
            open_ += value.needs
    return list(found.values())


class Flow:
    """Runs a rule on values; `known` are the hypers. After `run`, `values` holds what
    each name has.
    """

    def __init__(self, rule: ir.Rule, known: Known) -> None:
        self.rule = rule
        self.known = known
        self.functions = {each.name: each for each in rule.functions}
        self.kept = {
            vocabulary.PARAM: Value(full=True, before=vocabulary.PARAM),
            vocabulary.GRAD: Value(full=True, before=vocabulary.GRAD),
        }
        for state in rule.states:
            full = is_full(state.type) and not state.shared
            names = [state.name]
            if state.index is not None:
                names = [f"{state.name}[{at}]" for at in range(many(state, known))]
            self.kept |= {name: Value(full=full, before=name) for name in names}
        self.values = dict(self.kept)
        self.returned: list[Value] = []
        self.ran = 0

    def run(self) -> dict[str, Value]:
        """The values after a step of p and the states that a step changes."""
        for hook in self.rule.pre_steps:
            self.block(hook.body)
        self.block(self.rule.step)
        for hook in self.rule.post_steps:
            self.block(hook.body)
        return {
            name: self.values[name]
            for name, old in self.kept.items()
            if name != vocabulary.GRAD and self.values[name] is not old
        }

    # ---- statements

    def block(self, block: ir.Block) -> None:
        for statement in block:
            self.ran += 1
            match statement:
                case ir.Assign(target, value):
                    self.assign(target, self.value(value))
                case ir.Unpack(names, value):
                    whole = self.value(value)
                    for name in names:
                        self.assign(name, whole)
                case ir.Return(value):
                    self.returned.append(self.value(value))
                case ir.If():
                    self._branches(statement)
                case ir.Repeat():
                    self._loop(statement)
                case _ if hasattr(statement, "body"):
                    self.block(statement.body)

    def assign(self, target: ir.Ref, value: Value) -> None:
        if is_full(target.type) and not value.full:
            value = Value((value,), full=True)
        self.values[self._named(target)] = value

    def _named(self, ref: ir.Ref) -> str:
        """A name; of a list of states the one that is meant, where that is known."""
        index = ref.index
        try:
            return (
                ref.name if index is None else f"{ref.name}[{self.known.value(index)}]"
            )
        except Undecided:
            return ref.name

    def _loop(self, loop: ir.Repeat) -> None:
        number = loop.target
        for at in range(self._rounds(loop.count)):
            if at and self.ran > _MOST:
                return
            if number is not None:
                self.known = self.known.with_({number.name: at})
            self.block(loop.body)

    def _rounds(self, count: ir.Expr) -> int:
        """How often a loop runs: once where that is not known."""
        try:
            return int(self.known.value(count))
        except Undecided:
            return 1

    def _branches(self, statement: ir.If) -> None:
        condition = self.value(statement.condition)
        before = dict(self.values)
        self.block(statement.then)
        then, self.values = self.values, before
        self.block(statement.otherwise)
        for name, value in then.items():
            other = self.values.setdefault(name, value)
            if other is not value:
                both = (condition, value, other)
                self.values[name] = Value(both, full=value.full or other.full)

    # ---- expressions

    def value(self, expr: ir.Expr) -> Value:
        match expr:
            case ir.Const():
                return Value()
            case ir.Ref():
                return self.values.get(self._named(expr), Value())
            case ir.Invoke():
                return self._invoke(expr)
            case ir.Call() if group(expr) in ("shape", "asked"):
                return Value()
            case ir.Call() if is_drawn(expr):
                return Value(full=is_full(expr.type))
            case ir.Call("full_like", (_, value)):
                return Value((self.value(value),), full=is_full(expr.type))
        below = tuple(self.value(each) for each in ir.children(expr))
        on_host_or_known = expr.type.kind is not ir.Kind.TENSOR or expr.type.shape.known
        called = isinstance(expr, ir.Call) and group(expr) == "reduction"
        return Value(
            below,
            full=is_full(expr.type),
            reduction=self.rule.source.cut(expr.span) if called else "",
            matrices=kind(expr) in (Kind.MATRICES, Kind.CLOSURE)
            or not on_host_or_known,
        )

    def _invoke(self, call: ir.Invoke) -> Value:
        """The value of a def: of all its returns, where more than one may be taken."""
        function = self.functions[call.function]
        names = [each.name for each in function.parameters]
        given = [self.value(each) for each in call.arguments]
        outer = self.values, self.returned
        self.values, self.returned = dict(zip(names, given, strict=True)), []
        self.block(function.body)
        found = self.returned
        self.values, self.returned = outer
        if len(found) == 1:
            return found[0]
        return Value(tuple(found), full=is_full(call.type))
