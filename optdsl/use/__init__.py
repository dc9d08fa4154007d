"""Modifiers: from a spec that uses some to a spec that says all of it itself.

In: the tree and the text of a spec, and what is used beside what it says. Out: a Source
without any `use`, each piece of which knows where a person wrote it; or OptdslError with
every mistake. What comes after this stage does not know of modifiers.
"""

from collections.abc import Sequence

from .. import syntax
from ..diagnostics import Label
from ..parse import parse
from ..source import Source, Span
from .clashes import check_together
from .defaults import check_settings, with_defaults
from .names import assigned
from .outline import check_modifier, check_rule
from .reading import Used, asked_for, looked_up
from .weave import woven

__all__ = [
    "alone",
    "apart_from_rate",
    "check_settings",
    "is_modifier",
    "used",
    "with_defaults",
]


def used(tree: syntax.Spec, source: Source, asked: Sequence[str] = ()) -> Source:
    """The spec with the modifiers that it uses, and then those that are `asked` for, as
    `cautious` or `clip_value(max_value=0.5)`; the source itself, where there are none.

    Raises:
        OptdslError: a modifier is not there, is wrong, or does not go together with the
            rule or another one.
    """
    check_rule(tree, source)
    modifiers = _all(tree, source, asked)
    if not modifiers:
        return source
    check_together(tree, source, modifiers)
    return woven(tree, source, modifiers)


def apart_from_rate(
    tree: syntax.Spec, source: Source, asked: Sequence[str] = ()
) -> tuple[str, ...]:
    """The modifiers among them that change parameters, and do not know the learning rate
    by which a rule does: they mean to change them whatever it is.
    """
    return tuple(
        used.name
        for used in _all(tree, source, asked)
        if not any(
            name.text == "lr"
            for each in used.tree.of(syntax.Needs)
            for name in each.names
        )
        and any(
            "p" in assigned(point)
            for name in ("before", "after")
            for point in used.points(name)
        )
    )


def _all(tree: syntax.Spec, source: Source, asked: Sequence[str]) -> list[Used]:
    uses = [(each, source, False) for each in tree.of(syntax.Use)]
    uses += [(*asked_for(each), True) for each in asked]
    return looked_up(uses, source.folder)


def is_modifier(tree: syntax.Spec) -> bool:
    """Whether a file is for others to use, and no optimizer."""
    return bool(tree.of(syntax.Modifier)) and not tree.of(syntax.Header)


def alone(tree: syntax.Spec, source: Source) -> Source:
    """A modifier in the plainest rule that has what it needs, to see whether it is right.

    Raises:
        OptdslError: it is not.
    """
    check_modifier(tree, source, Label(Span(0, 1)))
    needed = [name.text for each in tree.of(syntax.Needs) for name in each.names]
    hypers = [f"hyper {name} = 0.1" for name in dict.fromkeys(needed)]
    rate = "lr" if "lr" in needed else "0.1"
    lines = ["optimizer Plain", *hypers, f"step: p -= {rate}*grad", ""]
    plain = Source(source.name, "\n".join(lines))
    rule = parse(plain)
    name = tree.of(syntax.Modifier)[0].name
    modifiers = [Used(tree, source, syntax.Use(name, (), name.span), source, True)]
    check_together(rule, plain, modifiers)
    return woven(rule, plain, modifiers)
