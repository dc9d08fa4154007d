"""The rules that a route names, read."""

from collections.abc import Mapping
from dataclasses import dataclass

from .. import syntax
from ..diagnostics import Diagnostic, Label, OptdslError
from ..find import find_rule
from ..parse import parse
from ..source import Source


@dataclass(frozen=True, slots=True)
class Chosen:
    """A rule and the first line that names it."""

    name: str
    tree: syntax.Spec
    source: Source
    case: syntax.Case


def looked_up(
    route: syntax.Route, source: Source, given: Mapping[str, Source]
) -> list[Chosen]:
    """The rules of a route in the order in which it names them; those that are `given` are
    not looked for.

    Raises:
        OptdslError: with every mistake of every one of them.
    """
    found: dict[str, Chosen] = {}
    mistakes: list[Diagnostic] = []
    for case in route.cases:
        name = case.rule.text
        if name in found:
            continue
        try:
            rule = given.get(name)
            if rule is None:
                rule = find_rule(name, source.folder, source, case.rule.span)
            tree = parse(rule)
            mistakes += _no_rule(tree, case.rule, source)
            found[name] = Chosen(name, tree, rule, case)
        except OptdslError as error:
            mistakes += [each for each in error.diagnostics if each not in mistakes]
    if mistakes:
        raise OptdslError(mistakes)
    return [*found.values()]


def _no_rule(
    tree: syntax.Spec, name: syntax.Identifier, by: Source
) -> list[Diagnostic]:
    label = Label(name.span)
    if tree.of(syntax.Route):
        title = f"`{name.text}` chooses among rules itself"
        help = "name the rules that it names"
        return [Diagnostic("E0215", title, by, label, help=help)]
    if tree.of(syntax.Modifier):
        title = f"`{name.text}` is a modifier, and no rule"
        help = f"a rule has it by `use {name.text}`"
        return [Diagnostic("E0113", title, by, label, help=help)]
    return []
