"""What the compiler knows of an optimizer that chooses among rules: which line is for which
parameters, and all that it knows of each rule.
"""

import textwrap
from dataclasses import dataclass
from typing import Any

from ..pipeline import Routed
from . import Explained, explain, in_latex
from .page import WIDTH, page


@dataclass(frozen=True, slots=True)
class ExplainedRoute:
    name: str
    doc: str
    lines: tuple[str, ...]
    rules: dict[str, Explained]

    def as_json(self) -> dict[str, Any]:
        rules = {name: each.as_json() for name, each in self.rules.items()}
        route = [*self.lines]
        return {"name": self.name, "doc": self.doc, "route": route, "rules": rules}


def explain_route(routed: Routed) -> ExplainedRoute:
    """Everything that is known of a route."""
    lines = tuple(routed.source.cut(each.span) for each in routed.route.lines)
    rules = {name: explain(each) for name, each in routed.rules.items()}
    return ExplainedRoute(routed.name, routed.route.doc.strip(), lines, rules)


def route_in_latex(explained: ExplainedRoute) -> str:
    """The equations of all rules, each behind the lines of the route that name it."""
    head = [f"% {explained.name}", *(f"%   {each}" for each in explained.lines)]
    return "\n\n".join(["\n".join(head), *map(in_latex, explained.rules.values())])


def route_page(explained: ExplainedRoute) -> str:
    """The lines of the route, and then a page for each rule."""
    lines = [
        part
        for line in explained.lines
        for part in textwrap.wrap(
            line, WIDTH, initial_indent="    ", subsequent_indent=" " * 8
        )
    ]
    head = [
        explained.doc or explained.name,
        "",
        "Which rule is for a parameter",
        *lines,
    ]
    pages = [
        f"{f' {name} ':-^{WIDTH}}\n\n{page(each)}"
        for name, each in explained.rules.items()
    ]
    return "\n\n".join(["\n".join(head), *pages])
