"""`skip`: a step that ends before anything is updated.

In: the statement, and later the hooks of a rule. Out: what is wrong with where it stands.
"""

from .. import ir, syntax
from ..diagnostics import Label
from .scope import Scope


def check_skip(statement: syntax.Skip, scope: Scope) -> ir.Statement | None:
    """The end of a step, where there is one to come."""
    if scope.place == "pre_step":
        return ir.Skip(statement.span)
    help = "it stands in `pre_step NAME:`, under an `if`"
    scope.report("E0318", "no step is skipped here", statement.span, help=help)
    return None


def check_skips(rule: ir.Rule, scope: Scope) -> None:
    """Reports a step that is never taken, and a gradient that is of the last of several
    batches alone.
    """
    skip = None
    for hook in rule.pre_steps:
        for statement in hook.body:
            if isinstance(statement, ir.Skip):
                title = "the step is never taken"
                scope.report(
                    "E0318", title, statement.span, help="put it under an `if`"
                )
            for node in ir.walk(statement):
                if isinstance(node, ir.Skip):
                    skip = skip or Label(node.span, "skipped here")
                if skip and ir.is_evaluation(node):
                    title = "the gradient is taken anew behind `skip`"
                    help = (
                        "the closure is of the last batch alone, and the gradient of all "
                        "since the last update: take it in a hook before"
                    )
                    scope.report("E0318", title, node.span, others=(skip,), help=help)
