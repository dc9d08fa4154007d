"""What may stand in a spec that chooses among rules, and how a route ends.

In: the tree of one file. Out: nothing, or OptdslError with every mistake.
"""

import builtins
from collections.abc import Iterator, Mapping, Sequence

from .. import ir, syntax, vocabulary
from ..diagnostics import Diagnostic, Label, OptdslError
from ..source import Source, Span

GROUP_KEYS = ("rule", "rules")
"""What a param group, and the defaults of all groups, keep beside hypers."""

_WORDS = {
    syntax.Modifier: "modifier",
    syntax.About: "about",
    syntax.Needs: "needs",
    syntax.Use: "use",
    syntax.Reference: "reference",
    syntax.Hyper: "hyper",
    syntax.Positional: "positional",
    syntax.Named: "named",
    syntax.State: "state",
    syntax.Counter: "state",
    syntax.Sparse: "sparse_grads",
    syntax.Require: "require",
    syntax.Function: "def",
    syntax.Step: "step",
}
_NO_ARGUMENT = ("rule", "route", "name", "matches")


def check_outline(tree: syntax.Spec, source: Source, use: Sequence[str] = ()) -> None:
    """One optimizer, one route that ends in `else`, and nothing else, no modifiers either.

    Raises:
        OptdslError: with all that is wrong.
    """
    route = tree.of(syntax.Route)[0]
    found = [
        *_header(tree, source),
        *_foreign(tree, source),
        *_ends(route, source),
        *_names(route, source),
    ]
    if use:
        title = f"`{use[0]}` is for a rule, and this is a route"
        help = "a rule of the route can have it, by `use` in a file of its own"
        found.append(Diagnostic("E0114", title, source, help=help))
    if found:
        raise OptdslError(found)


def _header(tree: syntax.Spec, source: Source) -> Iterator[Diagnostic]:
    headers = tree.of(syntax.Header)
    if not headers:
        title = "the spec has no `optimizer NAME`"
        help = "a route is one optimizer: `optimizer NAME`, and a `route:`"
        yield Diagnostic("E0110", title, source, help=help)
    for header in headers[:1]:
        name = header.name
        reason = vocabulary.why_reserved(name.text)
        if hasattr(builtins, name.text):
            reason = "Python has something else under this name"
        if reason:
            title = f"`{name.text}` cannot name an optimizer"
            yield Diagnostic("E0203", title, source, Label(name.span, reason))
    for several, word in (
        (headers, "optimizer NAME"),
        (tree.of(syntax.Route), "route:"),
    ):
        for each in several[1:]:
            first = Label(several[0].span, "the first one")
            label = Label(each.span)
            yield Diagnostic("E0112", f"a second `{word}`", source, label, (first,))


def _foreign(tree: syntax.Spec, source: Source) -> Iterator[Diagnostic]:
    for each in tree.declarations:
        word = _WORDS.get(type(each), "")
        if isinstance(each, syntax.Hook):
            word = each.phase
        elif isinstance(each, syntax.Point):
            word = each.name.text
        if word:
            start = each.span.start
            label = Label(Span(start, start + len(word)))
            title = f"`{word}` does not belong beside a `route:`"
            help = "it is of a rule: put it into a file of its own, and name that here"
            yield Diagnostic("E0114", title, source, label, help=help)


def _ends(route: syntax.Route, source: Source) -> Iterator[Diagnostic]:
    """The last line, and no other, is for all that is left."""
    cases = route.cases
    if all(each.condition is not None for each in cases):
        title = "the route says nothing of the parameters that are left"
        label = Label(cases[-1].span, "expected `else -> RULE` behind this line")
        yield Diagnostic("E0115", title, source, label)
    for at, each in enumerate(cases):
        before = [other for other in cases[:at] if other.condition is None]
        before += [other for other in cases[:at] if other.condition == each.condition]
        if before:
            first = Label(before[0].span, "it has taken all of them")
            title = "no parameter gets to this line"
            yield Diagnostic("E0116", title, source, Label(each.span), (first,))
        elif each.condition is not None and not _asks(each.condition):
            title = "this condition is the same for all parameters"
            hint = "ask for what `p` is, or for its name"
            yield Diagnostic("E0116", title, source, Label(each.condition.span, hint))


def _asks(condition: syntax.Expression) -> bool:
    return any(isinstance(each, syntax.Name) for each in syntax.walk(condition))


def _names(route: syntax.Route, source: Source) -> Iterator[Diagnostic]:
    """A rule's name becomes an argument of the constructor."""
    for each in route.cases:
        name = each.rule.text
        reason = vocabulary.why_reserved(name)
        if name in _NO_ARGUMENT:
            reason = "a route gives it a meaning of its own"
        elif name in vocabulary.METHODS:
            reason = "torch.optim.Optimizer has something under this name"
        if reason:
            title = f"`{name}` cannot name a rule of a route"
            yield Diagnostic("E0203", title, source, Label(each.rule.span, reason))


def clashes(
    route: syntax.Route, rules: Mapping[str, ir.Rule], source: Source
) -> Iterator[Diagnostic]:
    """What a param group would keep two things under one name for."""
    seen: set[str] = set()
    for case in route.cases:
        name = case.rule.text
        if name in seen or name not in rules:
            continue
        seen.add(name)
        for each in rules[name].hypers:
            if each.name in GROUP_KEYS:
                title = f"`{name}` has a hyper `{each.name}`"
                hint = "a param group has something else under this name"
                yield Diagnostic("E0203", title, source, Label(case.rule.span, hint))
