"""Loops whose rounds the host counts before a step: numbers that differ from round to round
become lists of numbers, so that those of all rounds are worked out before the elements.

In: a plain block. Out: the same, where numbers that are the same in all rounds of a loop
stand before it, and the others have an index. Raises Refusal where one round needs what
another one has worked out once a tensor.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from .. import ir
from ..ir.kernels import gathers
from ..stages import read_first
from .refusal import Refusal

_HANDED_ON = "a number that one round of a loop hands on"


def unrolled(block: ir.Block) -> tuple[ir.Block, dict[str, ir.Expr]]:
    """The block, and how long each of its lists of numbers is."""
    lengths: dict[str, ir.Expr] = {}
    mentioned = Counter(ref.name for each in block for ref in ir.mentions(each))
    return tuple(_statements(block, lengths, mentioned)), lengths


def _statements(
    block: ir.Block, lengths: dict[str, ir.Expr], mentioned: Counter[str]
) -> Iterator[ir.Statement]:
    for statement in block:
        match statement:
            case ir.If(then=then, otherwise=otherwise):
                sides = (
                    tuple(_statements(each, lengths, mentioned))
                    for each in (then, otherwise)
                )
                then, otherwise = sides
                yield replace(statement, then=then, otherwise=otherwise)
            case ir.Repeat():
                yield from _loop(statement, lengths, mentioned)
            case _:
                yield statement


def _loop(
    loop: ir.Repeat, lengths: dict[str, ir.Expr], mentioned: Counter[str]
) -> Iterator[ir.Statement]:
    _check(loop, mentioned)
    same = _same_in_all(loop)
    yield from same
    loop = replace(loop, body=tuple(each for each in loop.body if each not in same))
    names = _numbers(loop)
    lengths |= dict.fromkeys(sorted(names), loop.count)

    def indexed(node: ir.Node) -> ir.Node:
        node = ir.mapped(node, indexed)
        if isinstance(node, ir.Ref) and node.name in names:
            return replace(node, index=loop.target)
        return node

    yield indexed(loop)


def _check(loop: ir.Repeat, mentioned: Counter[str]) -> None:
    for each in ir.statements(loop.body):
        if isinstance(each, ir.Repeat):
            raise Refusal("a loop in a loop")
        if not isinstance(each, ir.Assign):
            continue
        if gathers(each) or (isinstance(each.value, ir.Call) and each.value.over):
            raise Refusal("a reduction in a loop")
        if _is_number(each.target) and each.target.role is not ir.Role.LOCAL:
            raise Refusal(_HANDED_ON)
    inside = Counter(ref.name for ref in ir.mentions(loop))
    read = {*read_first(loop.body, set())}
    for name in _numbers(loop):
        if name in read or inside[name] != mentioned[name]:
            raise Refusal(_HANDED_ON)


def _same_in_all(loop: ir.Repeat) -> list[ir.Assign]:
    """The numbers that every round works out anew, and each of them the same."""
    targets = Counter(each.name for each in ir.targets((loop,)))
    found: list[ir.Assign] = []
    for each in loop.body:
        if not isinstance(each, ir.Assign) or not _is_number(each.target):
            continue
        if targets[each.target.name] > 1:
            continue
        if not any(targets[ref.name] for ref in ir.reads(each.value)):
            found.append(each)
            targets[each.target.name] = 0
    return found


def _numbers(loop: ir.Repeat) -> set[str]:
    return {each.name for each in ir.targets(loop.body) if _is_number(each)}


def _is_number(ref: ir.Ref) -> bool:
    return ref.type.kind is not ir.Kind.TENSOR
