"""What a group keeps beside the hypers: the numbers that hypers were when it was added,
the seed of its random numbers, its mode, and how often hooks have run.

In: calls of `initial`. Out: references to those numbers, which are read as hypers are.
"""

from .. import ir, syntax, vocabulary
from ..source import Span
from .kinds import unknown
from .scope import Scope


def group_keys(spec: syntax.Spec, draws: dict[int, int]) -> dict[str, str]:
    """The names that a group has for what it keeps, with the reason why no one else may
    have them.
    """
    calls = [each for each in syntax.walk(spec) if isinstance(each, syntax.Call)]
    seed = {"seed": "the seed of the random numbers is kept under this name"}
    mode = {
        "train_mode": "whether the optimizer is in train mode is kept under this name"
    }
    counting = [each.name.text for each in spec.of(syntax.Hook) if calls_in(each)]
    kept = "how often `{}` has run is kept under this name"
    counted = {vocabulary.calls_key(name): kept.format(name) for name in counting}
    has_modes = any(each.phase == "mode" for each in spec.of(syntax.Hook))
    return (
        counted
        | (seed if draws else {})
        | (mode if has_modes else {})
        | {
            f"{vocabulary.BASE}{name.text}": f"`initial({name.text})` is kept under this name"
            for call in calls
            if call.function.text == "initial"
            for name in call.arguments
            if isinstance(name, syntax.Name)
        }
    )


def calls_in(hook: syntax.Hook) -> tuple[Span, ...]:
    """Where a hook asks how often it has run."""
    return tuple(
        each.span
        for each in syntax.walk(hook)
        if isinstance(each, syntax.Name) and each.text == vocabulary.CALLS
    )


def check_initial(call: syntax.Call, given: ir.Expr, scope: Scope) -> ir.Expr:
    """The number that a hyper was when its group was added."""
    if scope.place in ("require", "sparse"):
        hint = "what is checked is the value of now"
        scope.report("E0306", "`initial` cannot be called here", call.span, hint)
        return unknown(call.span)
    hyper = scope.hypers.get(given.name) if isinstance(given, ir.Ref) else None
    if hyper is None or hyper.annotation != "float" or hyper.type != ir.NUMBER:
        what = "may be none" if hyper and hyper.type.optional else f"is a {given.type}"
        title = "`initial` takes a hyper that is a float"
        scope.report("E0404", title, given.span, f"this {what}")
        return unknown(call.span)
    name = f"{vocabulary.BASE}{hyper.name}"
    scope.remembered[name] = ir.Remembered(name, hyper)
    return ir.Ref(name, ir.Role.HYPER, ir.NUMBER, call.span)
