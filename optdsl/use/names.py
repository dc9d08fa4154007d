"""Whose a name is: what a file shows to others, what it keeps to itself, and how that is
renamed so that no one takes it for another's.
"""

from collections.abc import Iterable, Iterator, Mapping

from .. import syntax, vocabulary
from ..source import Span

UPDATE = "update"
"""What a rule proposes, as a modifier calls it."""

LANGUAGE = ("p", "grad", "t", "first", "loss")

Shown = syntax.Hyper | syntax.State | syntax.Hook


def declared(tree: syntax.Spec) -> dict[str, Shown]:
    """What others see of a file: hypers, states and hooks."""
    kinds = (syntax.Hyper, syntax.State, syntax.Hook)
    return {
        each.name.text: each for each in tree.declarations if isinstance(each, kinds)
    }


def assigned(part: syntax.Declaration) -> dict[str, Span]:
    """The names that a part assigns, and where it does so first."""
    found: dict[str, Span] = {}
    for node in syntax.walk(part):
        match node:
            case syntax.Assign(target=target):
                found.setdefault(target.text, target.span)
            case syntax.Unpack(targets=targets):
                for each in targets:
                    found.setdefault(each.text, each.span)
            case syntax.Repeat(index=syntax.Identifier() as index):
                found.setdefault(index.text, index.span)
    return found


def kept(tree: syntax.Spec) -> list[str]:
    """What no one else sees: locals, indices, defs and their arguments."""
    names: dict[str, None] = {}
    for each in tree.declarations:
        names |= dict.fromkeys(assigned(each))
        match each:
            case syntax.Function(name=name, parameters=parameters):
                names |= {name.text: None, **{each.text: None for each in parameters}}
            case syntax.State(index=syntax.Identifier() as index):
                names[index.text] = None
    shown = (*declared(tree), *LANGUAGE, UPDATE)
    return [name for name in names if name not in shown]


def every(trees: Iterable[syntax.Spec]) -> set[str]:
    """Each name that is written anywhere."""
    named = (syntax.Name, syntax.Identifier)
    return {
        node.text
        for tree in trees
        for node in syntax.walk(tree)
        if isinstance(node, named)
    }


def fresh(wished: Iterable[str], taken: set[str]) -> str:
    """The first of the wishes that is free, or the last with a number; taken from now."""
    *_, last = wishes = [*wished]
    numbered = (f"{last}_{number}" for number in range(2, len(taken) + 3))
    name = next(each for each in (*wishes, *numbered) if each not in taken)
    taken.add(name)
    return name


def renamed(part: object, names: Mapping[str, str]) -> Iterator[tuple[Span, str]]:
    """Where a part says one of the names, and what it says then."""
    for node in syntax.walk(part):
        for each in _said(node):
            if each.text in names:
                yield each.span, names[each.text]


def _said(node: object) -> Iterator[syntax.Identifier | syntax.Name]:
    match node:
        case syntax.Name():
            yield node
        case syntax.Call(function=name) if name.text not in vocabulary.FUNCTIONS:
            yield name
        case syntax.Assign(target=name):
            yield name
        case syntax.Unpack(targets=several):
            yield from several
        case syntax.Function(name=name, parameters=several):
            yield from (name, *several)
        case syntax.Repeat(index=index) | syntax.State(index=index) if index:
            yield index
