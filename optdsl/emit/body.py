"""Statements as lines of Python, each under the equation of the spec that it implements."""

import dataclasses
from collections.abc import Callable, Iterator

from .. import ir
from ..source import Source, Span
from .expr import INFIX, Name, text

INDENT = "    "
METHODS = {symbol: method for method, symbol in INFIX.items() if method != "matmul"}


Single = Callable[[ir.Statement], Iterator[str]]


_PLAIN = (ir.Forget, ir.Skip)


def lines(
    block: ir.Block,
    name: Name,
    source: Source,
    single: Single,
    quoted: Span | None = None,
) -> list[str]:
    """The lines of a block, not indented and not yet broken to width. `single` prints the
    statements that hold no others.

    An equation that its code repeats to the letter is not quoted; `quoted` stands above
    already.
    """
    result: list[str] = []
    for statement in block:
        equation = source.cut(statement.span)
        written = list(_statement(statement, name, source, single))
        if not written:
            continue
        same = [line.replace(" ", "") for line in written] == [
            equation.replace(" ", "")
        ]
        branch = isinstance(statement, ir.If) and equation.startswith(("if ", "elif "))
        branch = branch or isinstance(statement, ir.Repeat)
        same = same or _renames(statement) or isinstance(statement, _PLAIN)
        if not (same or branch or statement.span == quoted):
            if result:
                result.append("")
            result.append(f"# {equation}")
            quoted = statement.span
        result += written
    return result


def one_at_a_time(name: Name) -> Single:
    """Prints the statements of one parameter, or of a def."""

    def single(statement: ir.Statement) -> Iterator[str]:
        match statement:
            case ir.Assign(target, value) if target.role is ir.Role.STATE:
                yield _kept(target, value, name)
            case ir.Assign(target, value):
                yield f"{name(target)} = {text(value, name)}"
            case ir.Unpack(targets, value):
                yield f"{', '.join(map(name, targets))} = {text(value, name)}"
            case ir.Return(value):
                yield f"return {text(value, name)}"
            case ir.Effect(value):
                if value.name != "copy" or value.arguments[0] != value.arguments[1]:
                    yield text(value, name)

    return single


def _renames(statement: ir.Statement) -> bool:
    """Whether a local is only another name."""
    named = isinstance(statement, ir.Assign) and isinstance(statement.value, ir.Ref)
    return named and statement.target.role is ir.Role.LOCAL


def _statement(
    statement: ir.Statement, name: Name, source: Source, single: Single
) -> Iterator[str]:
    match statement:
        case ir.If():
            yield from _branches(statement, name, source, single, "if")
        case ir.Repeat(count, body, target=target):
            index = "_" if target is None else name(target)
            yield f"for {index} in range({text(count, name)}):"
            yield from _indented(body, name, source, single, statement.span)
        case _:
            yield from single(statement)


def _kept(state: ir.Ref, value: ir.Expr, name: Name) -> str:
    """A new value for a state that is read as a number, in the tensor that keeps it."""
    kept = name(dataclasses.replace(state, type=ir.SCALAR))
    match value:
        case ir.Binary(operator, left, right) if left == state and operator in METHODS:
            return f"{kept}.{METHODS[operator]}_({text(right, name)})"
    return f"{kept}.fill_({text(value, name)})"


def _branches(
    statement: ir.If, name: Name, source: Source, single: Single, word: str
) -> Iterator[str]:
    yield f"{word} {text(statement.condition, name)}:"
    yield from _indented(statement.then, name, source, single, statement.span)
    match statement.otherwise:
        case (ir.If() as below,) if source.cut(below.span).startswith("elif "):
            yield from _branches(below, name, source, single, "elif")
        case ():
            pass
        case otherwise:
            yield "else:"
            yield from _indented(otherwise, name, source, single, statement.span)


def _indented(
    block: ir.Block, name: Name, source: Source, single: Single, quoted: Span
) -> Iterator[str]:
    inner = lines(block, name, source, single, quoted) or ["pass"]
    yield from (INDENT + line if line else "" for line in inner)
