"""A rule and modifiers, woven into one spec.

The modifiers' declarations stand where the rule uses them, or behind its hypers; what they
do stands in the rule's step: first `before:` of each, then the rule, in which `update`
takes the place of what it proposes, with `update:` of each, and last `after:` of each.
"""

import re
from collections.abc import Iterator, Sequence

from .. import syntax
from ..source import Piece, Source, Span
from .defaults import set_default
from .draft import Draft, Line, glue, last, region
from .names import UPDATE, assigned, declared, every, fresh, kept, renamed
from .proposal import Run, Site, sites
from .reading import Used

_DOC = re.compile(r'(?:\s|#[^\n]*\n)*("""(?:.|\n)*?"""|"[^"\n]*")')
_BESIDE = (syntax.Modifier, syntax.Needs, syntax.Point, syntax.Sparse)


def woven(tree: syntax.Spec, source: Source, modifiers: Sequence[Used]) -> Source:
    """The spec that says all of it."""
    pieces = _Weaving(tree, source, modifiers).pieces()
    text = "".join(each.text for each in pieces)
    return Source(source.name, text, source.folder, pieces)


class _Weaving:
    def __init__(
        self, tree: syntax.Spec, source: Source, modifiers: Sequence[Used]
    ) -> None:
        self.tree, self.source, self.modifiers = tree, source, modifiers
        self.rule = Draft(source)
        trees = [tree, *(each.tree for each in modifiers)]
        self.taken = every(trees) - {UPDATE}
        self.update = UPDATE
        if UPDATE in every([tree]):
            self.update = fresh(("proposed", "proposed_update"), self.taken)
        self.given = ""
        self.drafts = [Draft(each.source) for each in modifiers]

    def pieces(self) -> tuple[Piece, ...]:
        self._rename()
        self._declare()
        for step in self.tree.of(syntax.Step)[:1]:
            self._step(step)
        self._document()
        return self.rule.pieces(0, len(self.source.text))

    # ---- names

    def _rename(self) -> None:
        """Gives a name of its own to what would be taken for another's."""
        shown = {name for each in self.modifiers for name in declared(each.tree)}
        names = {
            name: fresh((f"own_{name}",), self.taken)
            for name in kept(self.tree)
            if name in shown
        }
        self.rule.rename(renamed(self.tree, names))
        seen = every([self.tree])
        for used, draft in zip(self.modifiers, self.drafts, strict=True):
            names = {
                name: fresh((f"{used.name}_{name}",), self.taken)
                for name in kept(used.tree)
                if name in seen
            }
            seen |= every([used.tree])
            later = {"grad": self._gradient()} if self._reads_gradient(used) else {}
            later |= {} if self.update == UPDATE else {UPDATE: self.update}
            for part in used.tree.declarations:
                point = part.name.text if isinstance(part, syntax.Point) else ""
                here = names | (later if point in ("update", "after") else {})
                draft.rename(renamed(part, here))
            for setting in used.use.settings:
                set_default(used.tree, setting, used.by, draft)

    def _reads_gradient(self, used: Used) -> bool:
        """Whether it asks for the gradient when the rule may have changed it."""
        changed = any("grad" in assigned(each) for each in self.tree.of(syntax.Step))
        return changed and any(
            isinstance(node, syntax.Name) and node.text == "grad"
            for point in (*used.points("update"), *used.points("after"))
            for node in syntax.walk(point)
        )

    def _gradient(self) -> str:
        if not self.given:
            self.given = fresh(("gradient", "given_gradient"), self.taken)
        return self.given

    # ---- declarations

    def _declare(self) -> None:
        for use in self.tree.of(syntax.Use):
            pieces = [
                piece
                for used, draft in zip(self.modifiers, self.drafts, strict=True)
                if used.use is use
                for piece in _declarations(used, draft)
            ]
            self.rule.replace(region(self.tree, use, self.source), pieces)
        outside = [
            piece
            for used, draft in zip(self.modifiers, self.drafts, strict=True)
            if used.outside
            for piece in (
                glue("\n", used.by, used.use.span),
                *_declarations(used, draft),
            )
        ]
        kinds = (syntax.Header, syntax.Hyper)
        places = [each for each in self.tree.declarations if isinstance(each, kinds)]
        if outside and places:
            end = region(self.tree, places[-1], self.source).end
            self.rule.replace(Span(end, end), outside)
        if outside:
            self._leave_out()

    def _leave_out(self) -> None:
        """What the rule says of itself and no longer holds."""
        dense = any(
            used.outside and not used.tree.of(syntax.Sparse) for used in self.modifiers
        )
        for each in self.tree.declarations:
            is_sparse = isinstance(each, syntax.Sparse) and not each.only
            if isinstance(each, syntax.Reference) or (is_sparse and dense):
                span = region(self.tree, each, self.source)
                end = min(span.end + 1, len(self.source.text))
                self.rule.replace(Span(span.start, end), ())

    def _document(self) -> None:
        """What each modifier says of itself, behind the rule's last words; those that it
        does not know of are named behind its first.
        """
        found = _DOC.match(self.source.text)
        span = Span(*found.span(1)) if found else Span(0, 0)
        first, _, rest = self.tree.doc.strip().partition("\n\n")
        added = [used.name for used in self.modifiers if used.outside]
        named = f"With {', '.join(added)}." if added else ""
        said = (f"{used.name}: {used.tree.doc.strip()}" for used in self.modifiers)
        texts = (f"{first}\n{named}".strip(), rest, *said)
        whole = "\n\n".join(each for each in texts if each)
        written = f'"""{whole}\n"""' + "\n" * (not found)
        self.rule.replace(span, (glue(written, self.source, span),))

    # ---- the step

    def _step(self, step: syntax.Step) -> None:
        first = list(self._lines("before"))
        if self.given:
            first.append((glue(f"{self.given} = grad", self.source, step.span),))
        if first:
            self.rule.before(step.body, first)
        if any(used.points("update") for used in self.modifiers):
            for site in sites(step, self.source):
                self._propose(site)
        behind = list(self._lines("after"))
        if behind:
            self.rule.behind(step.body[-1], step.body, behind)

    def _lines(self, name: str) -> Iterator[Line]:
        for used, draft in zip(self.modifiers, self.drafts, strict=True):
            for point in used.points(name):
                yield from draft.lines(point.body, point.span.start)

    def _propose(self, site: Site) -> None:
        for run in site.runs:
            self._collect(run)
        change = last([site.last])
        apply = glue(f"p -= {self.update}", self.source, change.span)
        self.rule.behind(site.last, site.block, [*self._lines("update"), (apply,)])

    def _collect(self, run: Run) -> None:
        """`p -= x` as `update = x`, and another `p += y` behind it as `update -= y`."""
        text = self.source.text
        for at, each in enumerate(run):
            sign = re.compile(r"\s*[+-]=\s*").match(text, each.target.span.end)
            flipped = each.operator == "+"
            words = ("-=" if flipped else "+=") if at else "= -" if flipped else "="
            closed = at == 0 and flipped and not _is_one(each, sign.end())
            start = f"{self.update} {words}" + (" " if words != "= -" else "")
            start += "(" * closed
            span = Span(each.span.start, sign.end())
            self.rule.replace(span, (glue(start, self.source, span),))
            if closed:
                end = Span(each.span.end, each.span.end)
                self.rule.replace(end, (glue(")", self.source, each.span),))


def _is_one(change: syntax.Assign, start: int) -> bool:
    """Whether a minus sign in front of a value is of all of it."""
    value = change.value
    in_brackets = start < value.span.start and value.span.end < change.span.end
    simple = (syntax.Name, syntax.Call, syntax.Number, syntax.Index)
    product = isinstance(value, syntax.Binary) and value.operator in ("*", "/", "@")
    return in_brackets or isinstance(value, simple) or product


def _declarations(used: Used, draft: Draft) -> Iterator[Piece]:
    yield glue(f"# use {used.name}", used.by, used.use.span)
    for each in used.tree.declarations:
        if not isinstance(each, _BESIDE):
            span = region(used.tree, each, used.source)
            yield glue("\n", used.source, span)
            yield from draft.pieces(span.start, span.end)
