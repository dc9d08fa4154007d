"""What may stand in a file: in an optimizer, and in a modifier.

In: the tree of one file. Out: nothing, or OptdslError with every part that does not belong
there.
"""

from collections.abc import Iterator

from .. import syntax
from ..diagnostics import Diagnostic, Label, OptdslError
from ..source import Source, Span
from .names import UPDATE, assigned, declared

TARGETS = {"before": ("grad", "p"), "update": (UPDATE,), "after": ("p",)}
"""What a point changes, beside states of its own."""

_OF_RULES = {
    syntax.Reference: "reference",
    syntax.Positional: "positional",
    syntax.Named: "named",
    syntax.Counter: "state t",
    syntax.Use: "use",
    syntax.Step: "step",
}
_OF_MODIFIERS = {syntax.Needs: "needs"}


def check_rule(tree: syntax.Spec, source: Source) -> None:
    """An optimizer, and no modifier."""
    found = []
    for header in tree.of(syntax.Modifier):
        name = header.name.text
        title = f"`{name}` is a modifier, and no optimizer"
        help = f"a rule has it by `use {name}`, the command line by `--use {name}`"
        if tree.of(syntax.Header):
            help = "a file is one or the other: `optimizer NAME`, or `modifier NAME`"
        label = Label(header.name.span)
        found.append(Diagnostic("E0113", title, source, label, help=help))
    if not found:
        for each in tree.declarations:
            word = _OF_MODIFIERS.get(type(each))
            if isinstance(each, syntax.Point):
                word = each.name.text
            if word:
                help = "in a file of its own, under `modifier NAME`"
                if word != "needs":
                    help = "an optimizer says it in its `step:`; " + help
                found.append(_foreign(each, word, "an optimizer", source, help))
    if found:
        raise OptdslError(found)


def check_modifier(tree: syntax.Spec, source: Source, mark: Label) -> None:
    """A modifier, and no optimizer; `mark` is where it is used."""
    if not tree.of(syntax.Modifier) or tree.of(syntax.Header):
        kind = "an optimizer" if tree.of(syntax.Header) else "a file without a header"
        title = f"this is {kind}, and no modifier"
        help = "a modifier is a file that begins with `modifier NAME`"
        raise OptdslError(
            [Diagnostic("E0113", title, mark.source or source, mark, help=help)]
        )
    found = [*_parts(tree, source), *_points(tree, source), *_needs(tree, source)]
    if found:
        raise OptdslError(found)


def _parts(tree: syntax.Spec, source: Source) -> Iterator[Diagnostic]:
    for each in tree.declarations:
        word = _OF_RULES.get(type(each))
        if word:
            help = "what a modifier does stands in `before:`, `update:` and `after:`"
            if word == "use":
                help = "a rule uses each modifier itself"
            yield _foreign(each, word, "a modifier", source, help)
    for several in (tree.of(syntax.Modifier), *_by_name(tree)):
        for each in several[1:]:
            title = f"a second `{each.name.text}:`"
            if isinstance(each, syntax.Modifier):
                title = "a second `modifier NAME`"
            first = Label(several[0].name.span, "the first one")
            label = Label(each.name.span)
            yield Diagnostic("E0112", title, source, label, (first,))
    if not tree.of(syntax.Point) and not tree.of(syntax.Hook):
        title = "the modifier changes nothing"
        label = Label(tree.of(syntax.Modifier)[0].name.span)
        help = "say what in `before:`, `update:`, `after:`, or in a hook"
        yield Diagnostic("E0309", title, source, label, help=help)


def _by_name(tree: syntax.Spec) -> Iterator[list[syntax.Point]]:
    for name in TARGETS:
        yield [each for each in tree.of(syntax.Point) if each.name.text == name]


def _foreign(
    part: syntax.Declaration, word: str, kind: str, source: Source, help: str
) -> Diagnostic:
    title = f"`{word}` does not belong in {kind}"
    label = Label(Span(part.span.start, part.span.start + len(word)))
    return Diagnostic("E0114", title, source, label, help=help)


def _points(tree: syntax.Spec, source: Source) -> Iterator[Diagnostic]:
    """Each point changes what it is there for."""
    states = {each.name.text for each in tree.of(syntax.State)}
    for point in tree.of(syntax.Point):
        own = TARGETS[point.name.text]
        there = " or ".join(f"`{each}`" for each in own)
        foreign = False
        for name, span in assigned(point).items():
            if name in ("p", "grad", UPDATE) and name not in own:
                foreign = True
                title = f"`{name}` cannot be changed here"
                label = Label(span, f"`{point.name.text}:` changes {there}")
                yield Diagnostic("E0315", title, source, label)
        if not foreign and not assigned(point).keys() & {*own, *states}:
            title = f"`{point.name.text}:` changes nothing"
            label = Label(point.name.span, f"expected an assignment to {there}")
            yield Diagnostic("E0309", title, source, label)
    for each in tree.declarations:
        if isinstance(each, syntax.Point) and each.name.text == UPDATE:
            continue
        for name in syntax.walk(each):
            if isinstance(name, syntax.Name) and name.text == UPDATE:
                if UPDATE not in assigned(each) or isinstance(each, syntax.Point):
                    title = f"`{UPDATE}` cannot be read here"
                    label = Label(name.span, "`update:` alone has it")
                    yield Diagnostic("E0306", title, source, label)
    for each in declared(tree).values():
        if each.name.text == UPDATE:
            title = f"`{UPDATE}` cannot name what a modifier has"
            label = Label(each.name.span, "it is what the rule proposes")
            yield Diagnostic("E0203", title, source, label)


def _needs(tree: syntax.Spec, source: Source) -> Iterator[Diagnostic]:
    read = {each.text for each in syntax.walk(tree) if isinstance(each, syntax.Name)}
    for name in (name for each in tree.of(syntax.Needs) for name in each.names):
        if name.text not in read:
            title = f"`{name.text}` is needed, and never read"
            yield Diagnostic("E0206", title, source, Label(name.span))
        elif name.text in declared(tree):
            title = f"`{name.text}` is declared twice"
            first = Label(declared(tree)[name.text].name.span, "declared here")
            yield Diagnostic("E0202", title, source, Label(name.span), (first,))
