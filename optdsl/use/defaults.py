"""New defaults for hypers of a spec, each from a place in another file.

In: the tree and the text of a spec, and settings as `use NAME(hyper=value)` has them. Out:
the spec in which they are the defaults, each of which knows where it was written.
"""

import re
from collections.abc import Sequence

from .. import syntax
from ..diagnostics import Diagnostic, Label, OptdslError, did_you_mean
from ..source import Piece, Source, Span
from .draft import Draft, glue, line_end


def with_defaults(
    tree: syntax.Spec, source: Source, settings: Sequence[syntax.Keyword], by: Source
) -> Source:
    """The spec with settings of the source `by`."""
    if not settings:
        return source
    draft = Draft(source)
    for each in settings:
        set_default(tree, each, by, draft)
    pieces = draft.pieces(0, len(source.text))
    text = "".join(each.text for each in pieces)
    return Source(source.name, text, source.folder, pieces)


def set_default(
    tree: syntax.Spec, setting: syntax.Keyword, by: Source, draft: Draft
) -> None:
    """Put a new default into a draft of the spec."""
    for hyper in tree.of(syntax.Hyper):
        if hyper.name.text == setting.name.text:
            written = by.text[setting.span.start : setting.span.end]
            sign = re.compile(r"\w+\s*=\s*").match(written)
            span = Span(setting.span.start + sign.end(), setting.span.end)
            text = by.text[span.start : span.end]
            pieces = [Piece(text, by, span)]
            if "\n" in text:  # which ends no line where it was written
                pieces = [glue("(", by, span), *pieces, glue(")", by, span)]
            draft.replace(_default(hyper, draft.source), pieces)


def check_settings(
    tree: syntax.Spec,
    settings: Sequence[syntax.Keyword],
    name: syntax.Identifier,
    by: Source,
) -> None:
    """Each setting is of a hyper that the spec has, and stands there once.

    Raises:
        OptdslError: with every one that is not.
    """
    hypers = [each.name.text for each in tree.of(syntax.Hyper)]
    found, seen = [], set()
    for each in settings:
        own = each.name.text
        if own not in hypers:
            has = ", ".join(f"`{other}`" for other in hypers) or "none"
            hint = did_you_mean(own, hypers) or f"its hypers: {has}"
            title = f"`{name.text}` has no hyper `{own}`"
            found.append(Diagnostic("E0507", title, by, Label(each.name.span, hint)))
        elif own in seen:
            title = f"`{own}` is set twice"
            found.append(Diagnostic("E0202", title, by, Label(each.name.span)))
        seen.add(own)
    if found:
        raise OptdslError(found)


def _default(hyper: syntax.Hyper, source: Source) -> Span:
    """The default of a hyper as it is written, with its brackets."""
    start = hyper.type.span.end if hyper.type else hyper.name.span.end
    text = source.text
    start = re.compile(r"[^=]*=\s*").match(text, start).end()
    if hyper.range:
        end = text.rindex("in", start, hyper.range.span.start)
        return Span(start, start + len(text[start:end].rstrip()))
    end = (
        hyper.doc.span.start if hyper.doc else line_end(source, hyper.default.span.end)
    )
    rest = text[hyper.default.span.end : end]
    closing = re.match(r"[\s)]*", rest).end()
    return Span(start, hyper.default.span.end + closing)
