"""Names in expressions: which role one has here, and why it has none."""

import re

from .. import ir, syntax, vocabulary
from ..diagnostics import Label, did_you_mean
from ..source import Span
from .kinds import unknown
from .scope import Scope, conjuncts
from .whole import check_whole

NOT_HERE = {
    "default": "a default is a constant",
    "require": "a requirement is about hypers, flags, and the shape of `p`",
    "when": "a condition of a state is about hypers and shapes",
    "sparse": "sparse gradients are taken by hypers, and by what `p` is",
    "def": "a def sees its arguments alone; hand it over as one",
    "mode": "a mode is set between steps, where there is no gradient and no count",
}


_HAVE_STATES = ("state", "pre_step", "step", "post_step", "mode")


def check_name(expr: syntax.Name, scope: Scope) -> ir.Expr:
    """What a name stands for at the scope's place."""
    name, place = expr.text, scope.place
    if name in scope.locals:
        return _local(expr, scope)
    if name in vocabulary.FLAGS and name not in scope.refused:
        return _flag(expr, scope)
    if name in vocabulary.CONSTANTS:
        return ir.Const(vocabulary.CONSTANTS[name], ir.NUMBER, expr.span)
    ref = _builtin(expr, scope)
    if ref is not None:
        return ref
    if name in scope.hypers and place not in ("default", "def"):
        type_ = _known_to_be(name, scope.hypers[name].type, scope)
        return ir.Ref(name, ir.Role.HYPER, type_, expr.span)
    if name in scope.states and place in _HAVE_STATES:
        if not is_known_to_hooks(name, expr.span, scope):
            return unknown(expr.span)
        if place == "step" or not scope.states[name].shared:
            return _state(expr, scope)
        title = f"`{name}` cannot be read here"
        place = scope.states[name].place
        scope.report(
            "E0306", title, expr.span, f"a state of the {place} is for the step"
        )
        return unknown(expr.span)
    return _not_found(expr, scope)


_READ_IN = {
    vocabulary.CAPTURABLE: ("require", "step"),
    vocabulary.DIFFERENTIABLE: ("require", "step"),
    "foreach": ("require",),
}


def _flag(expr: syntax.Name, scope: Scope) -> ir.Expr:
    """An option that every optimizer has: known already, where the target is made for
    one value of it.
    """
    name = expr.text
    places = _READ_IN.get(name, ())
    if scope.place not in places:
        read = {
            (): "every optimizer has this option, and no rule depends on it",
            ("require",): "only a `require` reads it",
        }.get(places, "the step and a `require` read it")
        if scope.place == "def" and "step" in places:
            read = NOT_HERE["def"]
        scope.report("E0306", f"`{name}` cannot be read here", expr.span, read)
        return unknown(expr.span)
    why, _ = scope.not_captured
    if name == vocabulary.CAPTURABLE and scope.place == "step" and why:
        if _is_said_beside(expr, scope):
            scope.report("W0703", f"`{name}` is never on here", expr.span, why)
        return ir.Const("False", ir.FLAG, expr.span)
    known = getattr(scope.mode, name) if scope.place == "step" else None
    if known is None:
        return ir.Ref(name, ir.Role.FLAG, ir.FLAG, expr.span)
    return ir.Const(str(known), ir.FLAG, expr.span)


def _is_said_beside(expr: syntax.Name, scope: Scope) -> bool:
    """Whether the file that asks for `capturable` says itself why no step is captured; a
    rule does not know the modifiers that it is used with, nor they the rule.
    """
    source = scope.report.source
    here = source.written(expr.span)[0]
    return here in (source.written(each)[0] for each in scope.not_captured[1])


def is_known_to_hooks(name: str, span: Span, scope: Scope) -> bool:
    """Whether a state is there before the step, where this place is; says why not."""
    if scope.place != "pre_step":
        return True
    state = scope.states[name]
    sized = state.type.unknown or state.type == ir.TENSOR
    starts = {ref.role for ref in ir.reads(state.initial)}
    if (
        sized
        and not (state.place or state.index or state.when)
        and starts <= {ir.Role.PARAM, ir.Role.HYPER}
    ):
        return True
    help = (
        "a pre-step hook runs before the step makes its states: those that it has are "
        "like `p`, without `when`, and start from `p` and hypers alone"
    )
    scope.report("E0303", f"`{name}` is not known before the step", span, help=help)
    return False


def _not_found(expr: syntax.Name, scope: Scope) -> ir.Expr:
    name, place = expr.text, scope.place
    if name in scope.refused:
        return unknown(expr.span)
    if name == vocabulary.CALLS and place not in NOT_HERE:
        help = "it counts the runs of a `pre_step`, and belongs to one"
        scope.report("E0303", f"`{name}` is not known here", expr.span, help=help)
    elif place == "pre_step" and name in ("t", "first"):
        help = "`calls` is how often the hook has run"
        scope.report(
            "E0303", f"`{name}` is not known before the step", expr.span, help=help
        )
    elif name in ("first", "t", "loss") and place not in NOT_HERE:
        help = "it belongs to the step"
        scope.report("E0303", f"`{name}` is not known here", expr.span, help=help)
    elif place in NOT_HERE and (
        name in scope.hypers
        or name in scope.states
        or name in ("p", "grad", "t", "first", "loss", "calls")
    ):
        scope.report(
            "E0306", f"`{name}` cannot be read here", expr.span, NOT_HERE[place]
        )
    else:
        near = did_you_mean(name, [*scope.visible(), *["loss"] * (place == "step")])
        if near:
            scope.misspelled.append(near.split("`")[1])
        known = ", ".join(scope.visible())
        notes = (f"in scope here: {known}",) if known else ()
        if name in ("True", "False", "None"):
            near = f"did you mean `{name.lower()}`?"
        if name in vocabulary.FUNCTIONS:
            near = f"the function is called as `{name}(...)`"
        scope.report("E0201", f"`{name}` is not defined", expr.span, near, notes=notes)
    return unknown(expr.span)


def _local(expr: syntax.Name, scope: Scope) -> ir.Expr:
    local = scope.locals[expr.text]
    if local.missing:
        where = "in a loop that may have no round" if local.looped else "on one path"
        other = Label(local.missing, f"assigned here, {where}")
        title = f"`{expr.text}` may have no value here"
        scope.report("E0208", title, expr.span, others=(other,))
        return unknown(expr.span)
    if local.conflict:
        title = f"`{expr.text}` is a {local.type} on one path and a {local.conflict} on another"
        scope.report("E0405", title, expr.span)
        return unknown(expr.span)
    type_ = _known_to_be(expr.text, local.type, scope)
    role = ir.Role.INDEX if local.index else ir.Role.LOCAL
    return ir.Ref(expr.text, role, type_, expr.span)


def _known_to_be(name: str, type_: ir.Type, scope: Scope) -> ir.Type:
    """The type of a value that may be none, where it is known not to be."""
    if type_.optional and f"({name} != None)" in scope.facts:
        return ir.Type(element=type_.element)
    return type_


def _builtin(expr: syntax.Name, scope: Scope) -> ir.Expr | None:
    name, place = expr.text, scope.place
    if name == vocabulary.PARAM and place in (
        "require",
        "sparse",
        "state",
        "when",
        "pre_step",
        "step",
        "post_step",
        "mode",
    ):
        return ir.Ref(name, ir.Role.PARAM, ir.TENSOR, expr.span)
    if name == vocabulary.GRAD and place in (
        "state",
        "when",
        "pre_step",
        "step",
        "post_step",
    ):
        return ir.Ref(name, ir.Role.GRAD, ir.TENSOR, expr.span)
    if name == vocabulary.COUNT and place in ("step", "post_step"):
        type_ = ir.SCALAR if scope.mode.counts_on_device else ir.NUMBER
        return ir.Ref(name, ir.Role.COUNT, type_, expr.span)
    if name == vocabulary.CALLS and place == "pre_step":
        return ir.Ref(name, ir.Role.CALLS, ir.NUMBER, expr.span)
    if name == vocabulary.LOSS and place == "step":
        return ir.Ref(name, ir.Role.LOSS, ir.SCALAR, expr.span)
    if name == vocabulary.FIRST and place == "step":
        alone = [
            state
            for state in scope.states.values()
            if state.index is None
            and not state.shared
            and state.name not in scope.early
        ]
        if not any(known_here(state, scope) for state in alone):
            scope.counted.append(name)
        return ir.Ref(name, ir.Role.FIRST, ir.FLAG, expr.span)
    return None


def known_here(state: ir.State, scope: Scope, index: ir.Expr | None = None) -> bool:
    """Whether a state, or the one of a list at an index, exists wherever this place is
    reached.
    """
    when = state.when
    if when is not None and index is not None:
        when = _at(when, state.index.name, index)
    return when is None or set(conjuncts(when)) <= scope.facts


def _at(expr: ir.Expr, name: str, index: ir.Expr) -> ir.Expr:
    """An expression with a value for the index that it reads."""
    if isinstance(expr, ir.Ref) and expr.role is ir.Role.INDEX and expr.name == name:
        return index
    return ir.mapped(expr, lambda each: _at(each, name, index))


def _state(expr: syntax.Name, scope: Scope) -> ir.Expr:
    state = scope.states[expr.text]
    if state.index is not None:
        hint = f"name one of them: `{state.name}[{state.index.name}]`"
        scope.report("E0404", f"`{state.name}` is a list of states", expr.span, hint)
        return unknown(expr.span)
    return _existing(state, expr.span, scope)


def check_entry(expr: syntax.Index, index: ir.Expr, scope: Scope) -> ir.Expr:
    """One of a list of states."""
    state = scope.states[expr.value.text]
    if not check_whole(index, scope, "index"):
        return unknown(expr.span)
    return _existing(state, expr.span, scope, index)


def _existing(
    state: ir.State, span: Span, scope: Scope, index: ir.Expr | None = None
) -> ir.Expr:
    if not known_here(state, scope, index):
        condition = scope.report.source.cut(state.when.span)
        if index is not None:
            own = scope.report.source.cut(index.span)
            condition = re.sub(rf"\b{state.index.name}\b", lambda _: own, condition)
        title = f"`{state.name}` exists only when `{condition}`"
        scope.report("E0304", title, span, f"read it under `if {condition}:`")
        return unknown(span)
    return ir.Ref(state.name, ir.Role.STATE, state.type, span, index)
