"""What a `use` names, read: in, a `use`; out, the modifier that is meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import syntax
from ..diagnostics import Diagnostic, Label, OptdslError
from ..find import find_modifier
from ..parse import parse
from ..source import Source, Span
from .defaults import check_settings
from .outline import check_modifier


@dataclass(frozen=True, slots=True)
class Used:
    """A modifier and the `use` that brings it in, which stands in the source `by`; in no
    spec, where it was asked for from `outside`.
    """

    tree: syntax.Spec
    source: Source
    use: syntax.Use
    by: Source
    outside: bool = False

    @property
    def name(self) -> str:
        return self.use.name.text

    @property
    def mark(self) -> Label:
        """Where it is used."""
        return Label(self.use.name.span, source=self.by)

    def points(self, name: str) -> list[syntax.Point]:
        return [each for each in self.tree.of(syntax.Point) if each.name.text == name]


def asked_for(text: str) -> tuple[syntax.Use, Source]:
    """A modifier that is named outside of a spec, as it would be behind `use`.

    Raises:
        OptdslError: this names none.
    """
    source = Source("use", f"use {text}")
    tree = parse(source)
    if len(tree.declarations) != 1 or not isinstance(tree.declarations[0], syntax.Use):
        end = tree.declarations[0].span.end if tree.declarations else 0
        label = Label(Span(end, len(source.text)), "one modifier is named at a time")
        title = "something stands behind the modifier"
        raise OptdslError([Diagnostic("E0108", title, source, label)])
    return tree.declarations[0], source


def looked_up(
    uses: Sequence[tuple[syntax.Use, Source, bool]], folder: Path | None
) -> list[Used]:
    """The modifiers that are used, in their order.

    Raises:
        OptdslError: with every mistake of every one of them.
    """
    found: list[Used] = []
    mistakes: list[Diagnostic] = []
    for use, by, outside in uses:
        try:
            source = find_modifier(use.name.text, folder, by, use.name.span)
            tree = parse(source)
            each = Used(tree, source, use, by, outside)
            check_modifier(tree, source, each.mark)
            check_settings(tree, use.settings, use.name, by)
            found.append(each)
        except OptdslError as error:
            mistakes += [each for each in error.diagnostics if each not in mistakes]
    if mistakes:
        raise OptdslError(mistakes)
    return found
