"""The conditions of a route: what is asked of a parameter when its group is added.

What is asked of its name, `matches(name, "embed")`, stands for a flag that no one else
knows: it is checked as the name of a hyper would be that is spelled like this.
"""

import dataclasses
import re
import warnings
from collections.abc import Iterator

from .. import ir, syntax, vocabulary
from ..diagnostics import Diagnostic
from ..source import Source
from .expressions import check_expression, is_host_flag
from .scope import LOOP, Report, Scope

MATCHES, NAME = "matches", "name"
_OF_A_STEP = (
    vocabulary.GRAD,
    vocabulary.COUNT,
    vocabulary.FIRST,
    vocabulary.LOSS,
    *vocabulary.FLAGS,
)
_FLAG = ir.Const("False", ir.FLAG, None)


def check_condition(asked: syntax.Expression, report: Report) -> ir.Expr | None:
    """What a condition of a route means; None, and a diagnostic, where it means nothing."""
    before = report.errors
    patterns: dict[str, syntax.Expression] = {}
    asked = _with_names(asked, report, patterns)
    if report.errors > before:
        return None
    scope = Scope(report, LOOP)
    for spelled, node in patterns.items():
        scope.hypers[spelled] = ir.Hyper(
            spelled, "bool", _FLAG, ir.FLAG, None, (), "", node.span
        )
    condition = check_expression(asked, scope.at("require"))
    if not is_host_flag(condition, scope, asked.span):
        return None
    return condition if report.errors == before else None


def _with_names(
    node: syntax.Expression, report: Report, patterns: dict[str, syntax.Expression]
) -> syntax.Expression:
    """The condition, in which a name stands for each question about the name."""
    if isinstance(node, syntax.Name) and node.text == NAME:
        hint = f'ask `{MATCHES}({NAME}, "a regular expression")`'
        report("E0404", "the name is a text, and no value", node.span, hint)
        return node
    if isinstance(node, syntax.Name) and node.text in _OF_A_STEP:
        hint = "a route asks what a parameter is, and for its name"
        report("E0306", f"`{node.text}` cannot be read here", node.span, hint)
        return node
    if isinstance(node, syntax.Call) and node.function.text == MATCHES:
        if (pattern := _pattern(node, report)) is None:
            return node
        spelled = ir.question(pattern)
        patterns[spelled] = node
        return syntax.Name(spelled, node.span)
    changes = {
        each.name: _changed(getattr(node, each.name), report, patterns)
        for each in dataclasses.fields(node)
        if each.name != "span"
    }
    return dataclasses.replace(node, **changes)


def _changed(value, report: Report, patterns: dict[str, syntax.Expression]):
    if isinstance(value, tuple):
        return tuple(_changed(each, report, patterns) for each in value)
    if isinstance(value, (syntax.Expression, syntax.Keyword)):
        return _with_names(value, report, patterns)
    return value


def _pattern(call: syntax.Call, report: Report) -> str | None:
    """The regular expression that a call asks for."""
    match call:
        case syntax.Call(
            arguments=(syntax.Name(text="name"), syntax.Text(value, span)), keywords=()
        ):
            if wrong := "; ".join(_wrong(value)):
                title = "this is no regular expression of Python"
                report("E0508", title, span, wrong)
                return None
            return value
    hint = f'it is asked `{MATCHES}({NAME}, "a regular expression")`'
    report("E0402", f"`{MATCHES}` takes the name and a text", call.span, hint)
    return None


def _wrong(pattern: str) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern)
    except (re.error, OverflowError, Warning) as error:
        yield str(error).splitlines()[0]
    except RecursionError:
        yield "its brackets are nested too deep"


def check_route(
    route: syntax.Route, source: Source
) -> tuple[list[ir.Expr | None], list[Diagnostic]]:
    """What the conditions of a route mean, and what is wrong with them."""
    report = Report(source)
    meant = [
        each.condition and check_condition(each.condition, report)
        for each in route.cases
    ]
    return meant, report.sorted()
