"""`grad = gradient(x)`: the closure evaluated again, with every parameter at another place.

In: an assignment of a `pre_step` hook. Out: the same with a call over the model, since all
parameters have to be in their places before one of them has a new gradient.
"""

from .. import ir, syntax, vocabulary
from .kinds import unknown
from .scope import Scope

HELP = "in `pre_step NAME:` alone, as `grad = gradient(x)`"


def is_evaluation(statement: syntax.Assign, scope: Scope) -> bool:
    """Whether an assignment takes the gradient anew where that can be done."""
    value = statement.value
    return (
        scope.place == "pre_step"
        and statement.target.text == vocabulary.GRAD
        and not statement.operator
        and isinstance(value, syntax.Call)
        and value.function.text == vocabulary.GRADIENT
    )


def check_evaluation(call: syntax.Call, x: ir.Expr, scope: Scope) -> ir.Expr:
    """The gradient of the loss with `p` at `x`, which is like `p`."""
    type_ = x.type
    if type_.element != "number" or type_.kind is not ir.Kind.TENSOR:
        title = f"`gradient` cannot take a {type_}"
        scope.report("E0404", title, x.span, "expected a tensor like `p`")
        return unknown(call.span)
    if type_.shape.with_(ir.LIKE_PARAM) not in (ir.LIKE_PARAM, ir.ANY_SHAPE):
        title = f"`p` cannot be moved to a {type_}"
        scope.report("E0403", title, x.span)
        return unknown(call.span)
    return ir.Call(call.function.text, (x,), ir.TENSOR, call.span, over="model")


def refuse_evaluation(call: syntax.Call, scope: Scope) -> ir.Expr:
    """Says that the gradient cannot be taken anew here."""
    title = "the gradient cannot be taken anew here"
    hint = "it is all that `grad` is given" if scope.place == "pre_step" else ""
    scope.report("E0317", title, call.span, hint, help=HELP)
    return unknown(call.span)
