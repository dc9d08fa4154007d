"""A name that stands for the memory of `p` or a state, and is read after that memory is
written or the block has ended, gets a copy of its own where it is assigned.
"""

import dataclasses

from .. import ir
from .aliases import (
    VIEWS,
    Memory,
    after_rounds,
    is_storage,
    live_after,
    live_before,
    sharing,
    with_memory,
)


def detach(rule: ir.Rule) -> ir.Rule:
    return with_memory(rule, _detached)


def _detached(block: ir.Block, memory: Memory, live: set[str]) -> ir.Block:
    copied: set[str] = set()
    while True:
        clashes: set[str] = set()
        after = memory.copy()
        _find(block, after, live, copied, clashes)
        storages = frozenset(name for name in live if memory.named(name) == {name})
        clashes |= set(sharing(after, storages, live - storages))
        if clashes <= copied:
            return _with_copies(block, memory.copy(), copied)
        copied |= clashes


def _find(
    block: ir.Block, memory: Memory, live: set[str], copied: set[str], clashes: set[str]
) -> None:
    """Collects the locals that a write would change under their readers."""
    for statement, after in zip(block, live_after(block, live), strict=True):
        match statement:
            case ir.If():
                other = memory.copy()
                _find(statement.then, memory, after, copied, clashes)
                _find(statement.otherwise, other, after, copied, clashes)
                memory.merge(other)
            case ir.Repeat() | ir.Each():
                after_rounds(statement, memory)
                round_, none = live_before(statement, after), memory.copy()
                _find(statement.body, memory, round_, copied, clashes)
                memory.merge(none)
            case ir.Unpack(targets, value) if not value.type.on_host:
                for target in targets:
                    memory.of[target.name] = memory.behind(value)
            case (
                ir.Assign(target=target)
                | ir.Effect(value=ir.Op(arguments=(target, *_)))
            ):
                if is_storage(target):
                    written = memory.named(target.name)
                    clashes |= set(sharing(memory, written, after - {target.name}))
                elif isinstance(statement, ir.Assign) and not target.type.on_host:
                    memory.of[target.name] = (
                        frozenset()
                        if target.name in copied
                        else memory.behind(statement.value)
                    )


def _with_copies(block: ir.Block, memory: Memory, copied: set[str]) -> ir.Block:
    result = []
    for statement in block:
        match statement:
            case ir.If():
                statement = dataclasses.replace(
                    statement,
                    then=_with_copies(statement.then, memory, copied),
                    otherwise=_with_copies(statement.otherwise, memory, copied),
                )
            case ir.Repeat() | ir.Each():
                body = _with_copies(statement.body, memory, copied)
                statement = dataclasses.replace(statement, body=body)
            case ir.Assign(target, value, span) if target.name in copied and _is_alias(
                value
            ):
                copy = ir.Op("clone", (value,), (), value.type, value.span)
                statement = ir.Assign(target, copy, span)
        result.append(statement)
    return tuple(result)


def _is_alias(value: ir.Expr) -> bool:
    view = isinstance(value, ir.Op) and value.name in VIEWS
    alias = isinstance(value, (ir.Ref, ir.Choose, ir.Invoke, ir.Call))
    alias = alias and not ir.is_evaluation(value)
    return (view or alias) and not value.type.on_host
