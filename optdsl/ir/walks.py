"""Ways through the tree: what is below a node, what a block assigns, a rule with every
block changed.
"""

import dataclasses
from collections.abc import Callable, Iterator

from ..vocabulary import GRADIENT
from .nodes import (
    Assign,
    Block,
    Call,
    Each,
    Expr,
    If,
    Node,
    Op,
    Ref,
    Repeat,
    Role,
    Skip,
    Statement,
    Unpack,
)
from .rules import HOOKS, Function, Hook, Rule, State


def children(node: Node) -> Iterator[Node]:
    """The expressions and statements directly below a node, in order of evaluation."""
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        if each.name in ("type", "span", "targets"):
            continue
        if each.name == "target":
            if value is not None and value.index is not None:
                yield value.index
        elif each.name == "keywords":
            yield from (argument for _, argument in value)
        elif isinstance(value, tuple):
            yield from (item for item in value if dataclasses.is_dataclass(item))
        elif dataclasses.is_dataclass(value):
            yield value


def mapped(node: Node, change: Callable[[Node], Node]) -> Node:
    """The node with the expressions and statements directly below it changed."""
    changed = {}
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        if each.name in ("type", "span"):
            continue
        if each.name == "keywords":
            value = tuple((name, change(argument)) for name, argument in value)
        elif isinstance(value, tuple):
            value = tuple(
                change(item) if dataclasses.is_dataclass(item) else item
                for item in value
            )
        elif dataclasses.is_dataclass(value):
            value = change(value)
        changed[each.name] = value
    return dataclasses.replace(node, **changed)


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def is_evaluation(node: Node) -> bool:
    """Whether a node is the gradient at another place, by the closure evaluated again."""
    return isinstance(node, Call) and node.function == GRADIENT


def reads(node: Node) -> Iterator[Ref]:
    """Every reference that a node reads, in order of evaluation."""
    return (each for each in walk(node) if isinstance(each, Ref))


def statements(block: Block) -> Iterator[Statement]:
    """Every statement of a block and of the branches inside it."""
    for statement in block:
        yield statement
        if isinstance(statement, If):
            yield from statements(statement.then)
            yield from statements(statement.otherwise)
        elif isinstance(statement, (Repeat, Each)):
            yield from statements(statement.body)


def targets(block: Block) -> Iterator[Ref]:
    """Everything that a block assigns, in its branches too."""
    for statement in statements(block):
        match statement:
            case Assign(target=target):
                yield target
            case Unpack(targets=several):
                yield from several
            case Repeat(target=Ref() as number):
                yield number


def assigned(block: Block) -> set[str]:
    """The names that a block assigns, in its branches too."""
    return {each.name for each in targets(block)}


def mentions(node: Node) -> Iterator[Ref]:
    """Every reference that a node reads or assigns."""
    yield from reads(node)
    yield from targets((node,))


def skips(hook: Hook) -> bool:
    """Whether a hook may end the step before anything is updated."""
    return any(isinstance(each, Skip) for each in statements(hook.body))


def counts(hook: Hook) -> bool:
    """Whether a hook reads how often it has run."""
    refs = (ref for each in hook.body for ref in reads(each))
    return any(ref.role is Role.CALLS for ref in refs)


def early(rule: Rule) -> tuple[State, ...]:
    """The states that a pre-step hook has, which are there before the first update."""
    bodies = (each for hook in rule.pre_steps for each in hook.body)
    names = {ref.name for each in bodies for ref in mentions(each)}
    return tuple(each for each in rule.own if each.name in names)


def written(expr: Expr) -> Expr:
    """What a chain of in-place calls writes into: where it starts."""
    while isinstance(expr, Op) and expr.in_place:
        expr = expr.arguments[0]
    return expr


def blocks(rule: Rule) -> Iterator[Block]:
    """Every block of a rule: functions, hooks, prologue, step."""
    for function in rule.functions:
        yield function.body
    for hook in rule.hooks:
        yield hook.body
    yield rule.prologue
    yield rule.step


def with_blocks(rule: Rule, change: Callable[[Block], Block]) -> Rule:
    """The rule with every block changed."""

    def changed(each: Function | Hook) -> Function | Hook:
        return dataclasses.replace(each, body=change(each.body))

    return dataclasses.replace(
        rule,
        functions=tuple(map(changed, rule.functions)),
        prologue=change(rule.prologue),
        step=change(rule.step),
        **{kind: tuple(map(changed, getattr(rule, kind))) for kind in HOOKS},
    )
