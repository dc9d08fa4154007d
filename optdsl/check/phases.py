"""A step of several phases: what each parameter does, what the group does once, and what
the whole model does once, in the order written.

In: a checked block and the levels of its names. Out: the same statements in `ir.Each`
blocks. A reduction over a group or the model becomes a part of each parameter and one
statement that puts the parts together; between the two lies the barrier.
"""

from collections.abc import Iterator
from dataclasses import replace

from .. import ir, stages
from ..source import Span
from .levels import GROUP, MODEL, PARAM, Levels, levels, narrower, overs
from .scope import Scope

OWN = ir.Ref("p", ir.Role.PARAM, ir.TENSOR, Span(0, 0))
Leveled = tuple[str, ir.Statement]
_WHOLE = {"dot": "sum"}


def in_phases(rule: ir.Rule, scope: Scope) -> ir.Rule:
    """The rule with its step and hooks in phases, where parameters come together."""
    of_model: set[str] = set()

    def phased(hook: ir.Hook) -> ir.Hook:
        body, hypers = _block(hook.body, rule, scope)
        _check_hook(body, scope)
        of_model.update(hypers)
        return replace(hook, body=body)

    step, hypers = _block(rule.step, rule, scope, bool(rule.shared))
    of_model.update(hypers)
    if step is not rule.step:
        for other, what in (
            (rule.sparse, "sparse gradients"),
            (rule.complex, "`complex:`"),
        ):
            if other:
                title = f"{what} in a rule whose parameters come together"
                scope.report("E0601", title, rule.step[0].span)
    hooks = {kind: tuple(map(phased, getattr(rule, kind))) for kind in ir.HOOKS}
    shared = tuple(each.name for each in rule.hypers if each.name in of_model)
    return replace(rule, step=step, of_model=shared, **hooks)


def _block(
    block: ir.Block, rule: ir.Rule, scope: Scope, shared: bool = False
) -> tuple[ir.Block, set[str]]:
    """A block in phases, and the hypers that all of the model has to share."""
    together = any(kind for each in block for kind in overs(each))
    if not (shared or together or any(map(_stays, block))):
        return block, set()
    known = levels(block, rule.states, scope, shared)
    if scope.report.errors:
        return block, set()
    taken = {each.name for each in (*rule.hypers, *rule.states, *rule.functions)}
    phases = _Phases(known, {*taken, *known.locals})
    tree = phases.tree(_ordered([*phases.leveled(block)]))
    wide = [each for each in known.given if known.of(each) == MODEL]
    tree = (*_needed(wide, tree, []), *tree)
    return tree, known.of_model


def _check_hook(tree: ir.Block, scope: Scope) -> None:
    """Reports a value that a hook keeps from one phase to the next."""
    known: set[str] = set()
    for phase in stages.loops(tree):
        body = phase.body
        for ref in ir.reads(phase):
            if ref.role is ir.Role.LOCAL and ref.name in known:
                if ref.name in {*stages.read_first(body, set())}:
                    title = f"`{ref.name}` is from before a reduction across parameters"
                    help = (
                        "a hook keeps `p` and `grad` alone; the step keeps every value"
                    )
                    scope.report("E0601", title, ref.span, help=help)
        known |= ir.assigned(body)


class _Phases:
    def __init__(self, levels: Levels, taken: set[str]) -> None:
        self.levels = levels
        self.taken = taken

    # ---- statements with their levels

    def leveled(self, block: ir.Block) -> Iterator[Leveled]:
        for statement in block:
            if not any(statement is each for each in self.levels.given):
                yield from self._statement(statement)

    def _statement(self, statement: ir.Statement) -> Iterator[Leveled]:
        match statement:
            case ir.If(condition, then, otherwise):
                before, condition = self._reduced(
                    condition, "condition", statement.span
                )
                yield from before
                sides = [*self.leveled(then)], [*self.leveled(otherwise)]
                kinds = {level for side in sides for level, _ in side}
                if len(kinds) == 1:
                    blocks = (tuple(each for _, each in side) for side in sides)
                    whole = ir.If(condition, *blocks, statement.span)
                    yield narrower(*kinds, self.levels.of(condition)), whole
                    return
                for level, *pair in _paired(*(list(_runs(side)) for side in sides)):
                    yield level, ir.If(condition, *pair, statement.span)
            case ir.Assign(target, ir.Call() as call, span) if ir.is_evaluation(call):
                before, x = self._reduced(call.arguments[0], target.name, span)
                yield from before
                place = ir.Ref(self._name("place"), ir.Role.LOCAL, x.type, x.span)
                self.levels.locals[place.name] = PARAM
                yield PARAM, ir.Assign(place, x, span)
                yield MODEL, ir.Assign(target, replace(call, arguments=(place,)), span)
            case ir.Assign(target, ir.Call(over=over) as call, span) if (
                over
                and call.function != "mean"
                and target.role is ir.Role.LOCAL
                and self.levels.of(target) == over
            ):
                part, call = self._parts(call, target.name, span)
                yield from part
                yield over, ir.Assign(target, call, span)
            case ir.Assign(target, value, span):
                before, value = self._reduced(value, target.name, span)
                yield from before
                yield self.levels.of(target), ir.Assign(target, value, span)
            case ir.Unpack(targets, value, span):
                before, value = self._reduced(value, targets[0].name, span)
                yield from before
                level = narrower(*map(self.levels.of, targets))
                yield level, replace(statement, value=value)
            case _:
                written = map(self.levels.of, ir.targets((statement,)))
                yield narrower(self.levels.of(statement), *written), statement

    # ---- reductions

    def _reduced(
        self, expr: ir.Expr, name: str, span: Span
    ) -> tuple[list[Leveled], ir.Expr]:
        """The expression with a name for each reduction across parameters, and the
        statements that give it a value.
        """
        before: list[Leveled] = []

        def named(node: ir.Expr) -> ir.Expr:
            if not any(overs(node)):
                return node
            if not (isinstance(node, ir.Call) and node.over):
                return ir.mapped(node, named)
            if node.function == "mean":
                return ir.mapped(_mean(node), named)
            parts, call = self._parts(node, name, span)
            total = ir.Ref(
                self._name(f"{name}_total"), ir.Role.LOCAL, call.type, node.span
            )
            self.levels.locals[total.name] = node.over
            before.extend([*parts, (node.over, ir.Assign(total, call, span))])
            return total

        return before, named(expr)

    def _parts(
        self, call: ir.Call, name: str, span: Span
    ) -> tuple[list[Leveled], ir.Call]:
        """What each parameter gives to a reduction, and the call that takes it."""
        arguments = []
        before: list[Leveled] = []
        for each in call.arguments:
            inner, each = self._reduced(each, name, span)
            before += inner
            arguments.append(each)
        part = ir.Ref(self._name(f"{name}_part"), ir.Role.LOCAL, call.type, call.span)
        self.levels.locals[part.name] = PARAM
        value = _part(replace(call, arguments=tuple(arguments), over=""))
        function = _WHOLE.get(call.function, call.function)
        whole = replace(call, function=function, arguments=(part,))
        return [*before, (PARAM, ir.Assign(part, value, span))], whole

    def _name(self, wished: str) -> str:
        names = (wished, *(f"{wished}_{number}" for number in range(2, 99)))
        name = next(each for each in names if each not in self.taken)
        self.taken.add(name)
        return name

    # ---- the tree

    def tree(self, flat: list[Leveled]) -> ir.Block:
        result: list[ir.Statement] = []
        for level, run in _gathered(flat, MODEL):
            if level == MODEL:
                result += run
            else:
                result.append(self._group(run))
        return tuple(result)

    def _group(self, flat: list[Leveled]) -> ir.Each:
        body: list[ir.Statement] = []
        for level, run in _gathered(flat, GROUP):
            if level == GROUP:
                body += run
            else:
                block = tuple(each for _, each in run)
                body.append(ir.Each(PARAM, block, _span(block)))
        narrow = [each for each in self.levels.given if self.levels.of(each) != MODEL]
        body = [*_needed(narrow, tuple(body), []), *body]
        return ir.Each(GROUP, tuple(body), _span(tuple(body)))


def _ordered(flat: list[Leveled]) -> list[Leveled]:
    """What is done once, before the parameters come by where it needs nothing of them, and
    else as late as they can wait for it: so that they come by as seldom as possible.
    """
    result: list[Leveled] = []
    waiting: list[Leveled] = []
    here = 0  # where the parameters began to come by
    for level, statement in flat:
        read = {ref.name for ref in ir.reads(statement)}
        if level == PARAM:
            if read & _made(waiting) or any(_stays(each) for _, each in waiting):
                result += _groups_first(waiting)
                waiting, here = [], len(result)
            result.append((level, statement))
            continue
        before = [*result[here:], *waiting]
        seen = {ref.name for _, each in before for ref in ir.reads(each)}
        made = _made(before)
        written = _made([(level, statement)])
        if read & made or written & (seen | made) or _stays(statement):
            waiting.append((level, statement))
        else:
            result.insert(here, (level, statement))
            here += 1
    return result + _groups_first(waiting)


def _made(flat: list[Leveled]) -> set[str]:
    return ir.assigned(tuple(each for _, each in flat))


def _stays(statement: ir.Statement) -> bool:
    """Whether what stands behind a statement stays there: it takes the gradient anew, or
    may end the step.
    """
    return any(
        isinstance(each, ir.Skip) or ir.is_evaluation(each)
        for each in ir.walk(statement)
    )


def _groups_first(waiting: list[Leveled]) -> list[Leveled]:
    """What groups do before what the model does, where it does not depend on that: a group
    reduces where its parameters have just been.
    """
    groups: list[Leveled] = []
    others: list[Leveled] = []
    made: set[str] = set()
    for level, statement in waiting:
        read = {ref.name for ref in ir.reads(statement)}
        if level == MODEL or read & made:
            others.append((level, statement))
            made |= ir.assigned((statement,))
        else:
            groups.append((level, statement))
    return groups + others


def _gathered(flat: list[Leveled], level: str) -> Iterator[tuple[str, list]]:
    """Runs of what is of a level, as statements, and of what is narrower, with levels."""
    narrow: list[Leveled] = []
    for each in flat:
        if each[0] == level:
            if narrow:
                yield PARAM, narrow
                narrow = []
            yield level, [each[1]]
        else:
            narrow.append(each)
    if narrow:
        yield PARAM, narrow


def _paired(
    then: list[Leveled], otherwise: list[Leveled]
) -> Iterator[tuple[str, ir.Block, ir.Block]]:
    """Runs of both sides of a branch; where one ends as the other begins, they meet."""
    meet = bool(then and otherwise) and then[-1][0] == otherwise[0][0]
    yield from ((level, run, ()) for level, run in (then[:-1] if meet else then))
    if meet:
        yield then[-1][0], then[-1][1], otherwise[0][1]
    yield from ((level, (), run) for level, run in otherwise[meet:])


def _runs(side: list[Leveled]) -> Iterator[tuple[str, ir.Block]]:
    """Neighbours of one level."""
    run: list[ir.Statement] = []
    for at, (level, statement) in enumerate(side):
        run.append(statement)
        if at + 1 == len(side) or side[at + 1][0] != level:
            yield level, tuple(run)
            run = []


def _needed(
    given: list[ir.Statement], block: ir.Block, found: list[ir.Statement]
) -> list[ir.Statement]:
    """Those of the statements whose values a block reads, in their order."""
    read = {ref.name for each in block for ref in ir.reads(each)}
    for statement in reversed(given):
        if read & ir.assigned((statement,)):
            found.insert(0, statement)
            read |= {ref.name for ref in ir.reads(statement)}
    return found


def _span(block: ir.Block) -> Span:
    return block[0].span.to(block[-1].span)


def _part(call: ir.Call) -> ir.Expr:
    """What one parameter gives: its own reduction, or a number as it is."""
    tensors = [each for each in call.arguments if each.type.kind is ir.Kind.TENSOR]
    if tensors:
        return call
    if call.function == "dot":
        return ir.Binary("*", *call.arguments, call.type, call.span)
    return call.arguments[0]


def _mean(call: ir.Call) -> ir.Expr:
    """A mean as the sum over the count."""
    (x,) = call.arguments
    total = replace(call, function="sum")
    size: ir.Expr = ir.Const("1", ir.NUMBER, call.span)
    if x.type.kind is ir.Kind.TENSOR:
        sized = OWN if x.type.shape == ir.LIKE_PARAM else x
        size = ir.Call("numel", (sized,), ir.NUMBER, call.span)
    number = ir.Call("sum", (size,), ir.NUMBER, call.span, over=call.over)
    return ir.Binary("/", total, number, call.type, call.span)
