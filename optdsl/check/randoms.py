"""Random numbers: where a rule may draw them, and which draw of the spec each call is.

In: calls of `randn_like` and `rand_like`. Out: calls that know their number, and read what
the numbers of a parameter's update start from.
"""

from .. import ir, syntax, vocabulary
from .kinds import unknown
from .scope import Scope

_NOT_HERE = "only the step draws random numbers, and the first value of a state"
_NOT_IN_DEF = "draw them in the step, and hand them over"


def draws(spec: syntax.Spec) -> dict[int, int]:
    """The number of each draw, by the place in the text where it starts."""
    starts = [
        each.span.start
        for each in syntax.walk(spec)
        if isinstance(each, syntax.Call)
        and each.function.text in vocabulary.FUNCTIONS
        and vocabulary.FUNCTIONS[each.function.text].group == "drawn"
    ]
    return {start: number for number, start in enumerate(sorted(starts))}


def check_draw(call: syntax.Call, like: ir.Expr, scope: Scope) -> ir.Expr:
    """Random numbers in the shape of an argument."""
    name = call.function.text
    hint = ""
    if scope.place not in ("step", "state"):
        hint = _NOT_IN_DEF if scope.place == "def" else _NOT_HERE
    elif scope.loops:
        hint = "every round would draw the same numbers; draw them before the loop"
    if hint:
        scope.report("E0306", f"`{name}` cannot be called here", call.span, hint)
        return unknown(call.span)
    if like.type.on_host or like.type.element != "number":
        title = f"`{name}` cannot take a {like.type}"
        scope.report("E0404", title, like.span, "expected a tensor of numbers")
        return unknown(call.span)
    number = ir.Const(str(scope.draws[call.span.start]), ir.NUMBER, call.span)
    seed = ir.Ref("_seed", ir.Role.SEED, ir.SCALAR, call.span)
    type_ = ir.Type(like.type.kind, "number", like.type.shape)
    return ir.Call(name, (like, seed, number), type_, call.span)
