"""What does not go together: names that two files show, two that are about the same, and
what a modifier asks of a rule that it does not have.
"""

from collections.abc import Iterator, Sequence

from .. import syntax, vocabulary
from ..diagnostics import Diagnostic, Label, OptdslError, did_you_mean
from ..source import Source
from .names import declared, kept
from .proposal import NoProposal, sites
from .reading import Used

_KINDS = {syntax.Hyper: "hyper", syntax.State: "state", syntax.Hook: "hook"}


def check_together(
    tree: syntax.Spec, source: Source, modifiers: Sequence[Used]
) -> None:
    """A rule and the modifiers that it uses.

    Raises:
        OptdslError: with all that clashes.
    """
    found = [
        *_twice(modifiers),
        *_about(tree, source, modifiers),
        *_names(tree, source, modifiers),
        *_missing(tree, source, modifiers),
        *_proposed(tree, source, modifiers),
    ]
    if found:
        first = {(each.source.name, each.label.span): each for each in reversed(found)}
        raise OptdslError(each for each in found if each in first.values())


def _said(
    used: Used, code: str, title: str, *others: Label, help: str = ""
) -> Diagnostic:
    return Diagnostic(
        code, title, used.by, Label(used.use.name.span), others, help=help
    )


def _twice(modifiers: Sequence[Used]) -> Iterator[Diagnostic]:
    seen: dict[str, Used] = {}
    for each in modifiers:
        if each.name in seen:
            first = Label(seen[each.name].use.name.span, "here", seen[each.name].by)
            yield _said(each, "E0212", f"`{each.name}` is used twice", first)
        seen.setdefault(each.name, each)


def _about(
    tree: syntax.Spec, source: Source, modifiers: Sequence[Used]
) -> Iterator[Diagnostic]:
    known: dict[str, Label] = {}
    for each in tree.of(syntax.About):
        known[each.subject.value] = Label(each.span, "so is the rule", source)
    for used in modifiers:
        for each in used.tree.of(syntax.About):
            subject = each.subject.value
            if subject in known:
                title = f"`{used.name}` is about the {subject}, and is not the only one"
                yield _said(used, "E0212", title, known[subject])
            span = used.use.name.span
            known.setdefault(subject, Label(span, "so is this", used.by))


def _names(
    tree: syntax.Spec, source: Source, modifiers: Sequence[Used]
) -> Iterator[Diagnostic]:
    known = {
        name: Label(each.name.span, "here", source)
        for name, each in declared(tree).items()
    }
    for used in modifiers:
        for name, each in declared(used.tree).items():
            if name in known:
                kind = _KINDS[type(each)]
                title = f"`{used.name}` has a {kind} `{name}`, and is not the only one"
                here = Label(each.name.span, f"the {kind}", used.source)
                yield _said(used, "E0211", title, known[name], here)
            known.setdefault(name, Label(each.name.span, "here", used.source))


def _missing(
    tree: syntax.Spec, source: Source, modifiers: Sequence[Used]
) -> Iterator[Diagnostic]:
    hypers = {each.name.text for each in tree.of(syntax.Hyper)}
    for used in modifiers:
        hypers |= {each.name.text for each in used.tree.of(syntax.Hyper)}
    of_rule = {*declared(tree), *kept(tree)}
    for used in modifiers:
        needed = [name for each in used.tree.of(syntax.Needs) for name in each.names]
        for each in needed:
            if each.text not in hypers:
                title = f"`{used.name}` needs a hyper `{each.text}`"
                near = did_you_mean(each.text, hypers)
                here = Label(each.span, "", used.source)
                yield _said(used, "E0213", title, here, help=near)
        own = {*declared(used.tree), *kept(used.tree), *(each.text for each in needed)}
        for node in syntax.walk(used.tree):
            each = node.function if isinstance(node, syntax.Call) else node
            if not isinstance(each, (syntax.Name, syntax.Identifier)):
                continue
            read = isinstance(node, (syntax.Name, syntax.Call))
            if isinstance(node, syntax.Call) and each.text in vocabulary.FUNCTIONS:
                continue  # a local of the rule may be called so
            if read and each.text in of_rule and each.text not in own:
                help = (
                    "it is of the rule alone; `needs NAME` gives a modifier its hypers"
                )
                title = f"`{each.text}` is not the modifier's"
                label = Label(each.span)
                yield Diagnostic("E0213", title, used.source, label, help=help)


def _proposed(
    tree: syntax.Spec, source: Source, modifiers: Sequence[Used]
) -> Iterator[Diagnostic]:
    steps = tree.of(syntax.Step)
    try:
        return sites(steps[0], source) if steps else None
    except NoProposal as error:
        for used in modifiers:
            if used.points("update"):
                title = f"`{used.name}` changes the update, and the rule proposes none"
                there = Label(error.span, str(error), source)
                yield _said(used, "E0314", title, there)
