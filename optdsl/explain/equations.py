"""A rule as the lines of an algorithm: how its states start, its hooks, its step, its
defs.

In: a checked rule. Out: lines of formulas and words, which `text` prints in plain text or
in LaTeX. A state is written with the time of its value: `x_{t-1}` until a line sets it,
`x_t` from then on.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .. import ir, vocabulary
from . import latex as latex_
from .formula import Apply, Formula, Item, Letter, Several, Symbol
from .plain import plain
from .reading import Reading, whenever
from .symbols import letters

INDENT = 4
_TIMED = (ir.Role.PARAM, ir.Role.STATE)
Piece = Formula | str


@dataclass(frozen=True, slots=True)
class Line:
    """Formulas and the words between them, so many blocks deep."""

    depth: int
    pieces: tuple[Piece, ...]

    @property
    def plain(self) -> str:
        text = "".join(
            each if isinstance(each, str) else plain(each) for each in self.pieces
        )
        return " " * INDENT * self.depth + text

    @property
    def latex(self) -> str:
        """The line, in mathematical mode."""
        text = "".join(map(_in_latex, self.pieces))
        return r"\quad " * self.depth + text


_SIGNS = {" = ": " = ", " ← ": r" \leftarrow "}


def _in_latex(piece: Piece) -> str:
    if not isinstance(piece, str):
        return latex_.latex(piece)
    return _SIGNS.get(piece) or latex_.words(piece)


def in_latex(lines: Iterable[Line]) -> str:
    """The lines as an environment of amsmath."""
    rows = " \\\\\n".join(f"    & {each.latex}" for each in lines)
    return f"\\begin{{align*}}\n{rows}\n\\end{{align*}}"


def scope_letters(rule: ir.Rule) -> dict[str, Letter]:
    """A letter for each name that the step and the hooks use."""
    names = [vocabulary.PARAM, vocabulary.GRAD, vocabulary.COUNT]
    names += [each.name for each in (*rule.hypers, *rule.states)]
    names += [each.name for state in rule.states for each in ir.reads(state.initial)]
    for block in (*(each.body for each in rule.hooks), rule.step):
        names += _locals(block)
    found = letters(names)
    for each in rule.remembered:
        now = found[each.hyper.name]
        below = ", ".join(filter(None, (now.below, "0")))
        found[each.name] = Letter(f"{now.plain}₀", now.latex, below)
    return found


def _locals(block: ir.Block) -> Iterator[str]:
    yield from (each.name for each in ir.targets(block))
    for statement in block:
        yield from (each.name for each in ir.reads(statement))


def starts(rule: ir.Rule) -> tuple[Line, ...]:
    """What each state is before its first step."""

    def time(ref: ir.Ref) -> str:
        role = ref.role
        return {ir.Role.GRAD: "1", ir.Role.PARAM: "0", ir.Role.STATE: "0"}.get(role, "")

    letters_ = scope_letters(rule)
    lists = (each.index for each in rule.states)
    letters_ |= letters([*letters_, *(each.name for each in lists if each is not None)])
    reading = Reading(letters_, time, {})
    lines = []
    for state in rule.states:
        ref = ir.Ref(state.name, ir.Role.STATE, state.type, state.span)
        pieces = [_one_of_list(state, reading.symbol(ref), reading), " = "]
        pieces.append(reading.formula(state.initial))
        if state.when is not None:
            pieces += [" if ", reading.formula(state.when)]
        lines.append(Line(0, tuple(pieces)))
    return tuple(lines)


def _one_of_list(state: ir.State, symbol: Symbol, reading: Reading) -> Formula:
    """A state, or any one of a list of states."""
    index = state.index
    return symbol if index is None else Item(symbol, reading.formula(index))


def equations(rule: ir.Rule, timed: bool = True) -> tuple[Line, ...]:
    """Hooks and step in the order in which they run, and then the defs; the names without
    a time where it is not to be `timed`.
    """
    defs = {each.name: name for name, each in _named(rule)}
    writer = _Writer(scope_letters(rule), defs, timed)
    lines: list[Line] = []
    for hook in rule.pre_steps:
        lines.append(Line(0, (f"before the step, {hook.name}:",)))
        lines += writer.block(hook.body, 1)
    apart = bool(rule.hooks)
    lines += [Line(0, ("step:",))] * apart
    lines += writer.block(rule.step, int(apart))
    for hook in rule.post_steps:
        lines.append(Line(0, (f"after the step, {hook.name}:",)))
        lines += writer.block(hook.body, 1)
    for hook in rule.on_calls:
        lines.append(Line(0, (f"when called, {hook.name}:",)))
        lines += _Writer(writer.letters, defs, timed).block(hook.body, 1)
    for hook in rule.modes:
        lines.append(Line(0, (f"when the mode becomes {hook.name}:",)))
        lines += _Writer(writer.letters, defs, timed).block(hook.body, 1)
    shown = set()
    for name, function in _named(rule):
        if name not in shown:
            lines += _definition(name, function, defs)
        shown.add(name)
    return tuple(lines)


def _named(rule: ir.Rule) -> list[tuple[str, ir.Function]]:
    """The instances of defs with the name that the spec calls them by: instances of one
    def have one place in it, and the first has its name.
    """
    names: dict[ir.Span, str] = {}
    return [(names.setdefault(each.span, each.name), each) for each in rule.functions]


def _definition(name: str, function: ir.Function, defs: dict[str, str]) -> list[Line]:
    names = [each.name for each in function.parameters]
    writer = _Writer(letters([*names, *_locals(function.body)]), defs, timed=False)
    reading = writer.reading(writer.assigned)
    head = Apply(name, tuple(map(reading.formula, function.parameters)))
    match function.body:
        case (ir.Return(value),):
            return [Line(0, (head, " = ", reading.formula(value)))]
    return [Line(0, (head, ":")), *writer.block(function.body, 1)]


class _Writer:
    """Writes one scope from its first line to its last. `assigned` are the names that a
    line before may have set.
    """

    def __init__(
        self, letters: dict[str, Letter], defs: dict[str, str], timed: bool
    ) -> None:
        self.letters = letters
        self.defs = defs
        self.timed = timed
        self.assigned: set[str] = set()

    def reading(self, assigned: set[str]) -> Reading:
        """What reads expressions where these names have been set."""

        def time(ref: ir.Ref) -> str:
            if ref.role is ir.Role.GRAD:
                return "t"
            if ref.role not in _TIMED:
                return ""
            return "t" if ref.name in assigned else "t-1"

        return Reading(self.letters, time if self.timed else whenever, self.defs)

    def block(self, block: ir.Block, depth: int) -> Iterator[Line]:
        for statement in block:
            yield from self.statement(statement, depth)

    def statement(self, statement: ir.Statement, depth: int) -> Iterator[Line]:
        reading = self.reading(self.assigned)
        match statement:
            case ir.Assign(target, value):
                yield self._assignment((target,), value, reading, depth)
            case ir.Unpack(names, value):
                yield self._assignment(names, value, reading, depth)
            case ir.Return(value):
                yield Line(depth, ("return ", reading.formula(value)))
            case ir.If():
                yield from self._branches(statement, "if ", depth)
            case ir.Repeat(count):
                rounds, number = reading.formula(count), statement.target
                pieces: tuple[Piece, ...] = ("repeat ", rounds, " times:")
                if number is not None:
                    pieces = ("for ", reading.symbol(number), " from 0, ", *pieces[1:])
                yield Line(depth, pieces)
                kept = (
                    each for each in ir.targets(statement.body) if each.role in _TIMED
                )
                self.assigned = self.assigned | {each.name for each in kept}
                yield from self.block(statement.body, depth + 1)
            case ir.Skip():
                yield Line(depth, ("skip the step",))
            case ir.Each(level):
                name = {"param": "parameter"}.get(level, level)
                yield Line(depth, (f"for each {name}:",))
                yield from self.block(statement.body, depth + 1)

    def _assignment(
        self, names: tuple[ir.Ref, ...], value: ir.Expr, before: Reading, depth: int
    ) -> Line:
        """An arrow stands where the equation would say that a value is another one."""
        again = any(each.name in self.assigned for each in names)
        self.assigned = self.assigned | {each.name for each in names}
        after = self.reading(self.assigned)
        written = tuple(map(after.formula, names))
        read = {before.formula(each) for each in ir.reads(value)}
        sign = " ← " if again or read & set(written) else " = "
        left = written[0] if len(written) == 1 else Several(written)
        return Line(depth, (left, sign, before.formula(value)))

    def _branches(self, statement: ir.If, word: str, depth: int) -> Iterator[Line]:
        reading = self.reading(self.assigned)
        yield Line(depth, (word, reading.formula(statement.condition), ":"))
        before = self.assigned
        yield from self.block(statement.then, depth + 1)
        after, self.assigned = self.assigned, before
        match statement.otherwise:
            case (ir.If() as other,):
                yield from self._branches(other, "else if ", depth)
            case (_, *_):
                yield Line(depth, ("else:",))
                yield from self.block(statement.otherwise, depth + 1)
        self.assigned = self.assigned | after
