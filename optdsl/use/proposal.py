"""What a rule proposes: the sum of what `p -= ...` and `p += ...` of its step change.

They stand together: one behind the other, or in each branch of an `if`, at its end. What
scales the parameter, `p *= 1 - lr*weight_decay` or `p -= lr*weight_decay*p`, is decay and
no part of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .. import syntax, vocabulary
from ..source import Source, Span

_OF_SHAPES = frozenset(
    name
    for name, each in vocabulary.FUNCTIONS.items()
    if each.group in ("created", "shape", "drawn")
)
Block = tuple[syntax.Statement, ...]
Run = tuple[syntax.Assign, ...]


class NoProposal(Exception):
    """The rule proposes no update, or not one; the message says what stands there."""

    def __init__(self, message: str, span: Span) -> None:
        super().__init__(message)
        self.span = span


@dataclass(frozen=True, slots=True)
class Site:
    """Changes of `p` that follow each other, on each of the ways that lead behind the
    `last` statement of a block, where the update is known.
    """

    runs: tuple[Run, ...]
    last: syntax.Statement
    block: Block


def sites(step: syntax.Step, source: Source) -> tuple[Site, ...]:
    """Every place of a step where an update is known and not yet applied.

    Raises:
        NoProposal: where `p` is changed another way.
    """
    for each in _changes(step):
        if not _is_proposal(each) and not _is_decay(each):
            word = source.text[each.span.start : each.value.span.start].strip(" (")
            raise NoProposal(f"`{word}` makes `p` anew", each.span)
    for loop in syntax.walk(step):
        if isinstance(loop, syntax.Repeat) and _proposes(loop):
            span = next(filter(_is_proposal, _changes(loop))).span
            raise NoProposal("each round changes `p`", span)
    found = tuple(_found(step.body, source))
    if not found:
        span = Span(step.span.start, step.span.start + len("step"))
        raise NoProposal("no `p -= ...` in the step", span)
    return found


def _changes(part: object) -> Iterator[syntax.Assign]:
    for each in syntax.walk(part):
        if isinstance(each, syntax.Assign) and each.target.text == "p":
            yield each


def _is_decay(change: syntax.Assign) -> bool:
    if change.operator in ("*", "/"):
        return True
    return change.operator in ("+", "-") and any(
        isinstance(each, syntax.Name) and each.text == "p"
        for each in _factors(change.value)
    )


def _factors(expr: syntax.Expression) -> Iterator[syntax.Expression]:
    match expr:
        case syntax.Binary(operator="*", left=left, right=right):
            yield from _factors(left)
            yield from _factors(right)
        case syntax.Binary(operator="/", left=left):
            yield from _factors(left)
        case syntax.Unary(operator="-", operand=operand):
            yield from _factors(operand)
        case _:
            yield expr


def _is_proposal(change: syntax.Assign) -> bool:
    return change.operator in ("+", "-") and not _is_decay(change)


def _proposes(part: object) -> bool:
    return any(map(_is_proposal, _changes(part)))


def _found(block: Block, source: Source) -> Iterator[Site]:
    at = [index for index, each in enumerate(block) if _proposes(each)]
    if not at:
        return
    run = block[at[0] : at[-1] + 1]
    if len(run) != len(at):
        span = next(filter(_is_proposal, _changes(block[at[-1]]))).span
        raise NoProposal("`p` is changed before, and apart from this", span)
    if isinstance(run[0], syntax.Assign) or len(run) > 1:
        yield Site((_together(run),), run[-1], block)
    elif (tails := _tails(run[0], source)) is not None:
        yield Site(tails, run[0], block)
    else:
        for below in _blocks(run[0]):
            yield from _found(below, source)


def _together(run: Block) -> Run:
    """Changes of `p`, none of which sees what another one did."""
    for each in run:
        if not isinstance(each, syntax.Assign):
            span = next(filter(_is_proposal, _changes(each))).span
            raise NoProposal("`p` is changed here and there", span)
    for each in run[1:]:
        if _reads_param(each.value):
            raise NoProposal("this reads what was changed just before", each.span)
    return run


def _reads_param(node: object) -> bool:
    """Whether it asks for the numbers of `p`, not for its shape alone."""
    match node:
        case syntax.Name(text=name):
            return name == "p"
        case syntax.Call(function=function) if function.text in _OF_SHAPES:
            return False
    return any(map(_reads_param, syntax.children(node)))


def _blocks(statement: syntax.Statement) -> tuple[Block, ...]:
    if isinstance(statement, syntax.If):
        return statement.then, statement.otherwise
    return (statement.body,)


def _tails(statement: syntax.Statement, source: Source) -> tuple[Run, ...] | None:
    """The changes at the end of each way through a statement; None, where one of them
    has none, or does something behind it.
    """
    is_elif = source.text.startswith("elif", statement.span.start)
    return None if is_elif else _ends(statement)


def _ends(statement: syntax.Statement) -> tuple[Run, ...] | None:
    found: list[Run] = []
    for block in _blocks(statement):
        tail: list[syntax.Statement] = []
        for each in reversed(block):
            if not _proposes(each):
                break
            tail.insert(0, each)
        if not tail or any(map(_proposes, block[: len(block) - len(tail)])):
            return None
        if len(tail) == 1 and not isinstance(tail[0], syntax.Assign):
            below = _ends(tail[0])
            if below is None:
                return None
            found += below
        else:
            found.append(_together(tuple(tail)))
    return tuple(found)
