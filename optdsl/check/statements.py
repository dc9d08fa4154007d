"""Statements: assignments to roles, branches, loops, and the bodies of hooks and defs."""

from .. import ir, syntax, vocabulary
from ..diagnostics import Label
from ..source import Span
from . import whole
from .again import is_evaluation
from .calls import check_gradient, check_parts_of
from .expressions import (
    arithmetic,
    asks_of_target,
    check_expression,
    is_decided,
    is_host_flag,
)
from .kinds import unknown
from .linear import check_linear
from .names import check_name, is_known_to_hooks
from .paths import assigned, changes_kind, merged
from .scope import INDEX, Scope, holds, holds_not
from .shapes import SEVERAL, one_part
from .skips import check_skip


def check_step(step: syntax.Step, scope: Scope) -> ir.Block:
    body = check_block(step.body, scope.at("step"))
    if not _assigns(step, {"p"}):
        title = "the step never changes `p`"
        scope.report("E0305", title, Span(step.span.start, step.span.start + 4))
    return body


def check_hook(hook: syntax.Hook, scope: Scope) -> ir.Hook:
    # A hook that is called by hand sees what one after the step sees.
    place = "post_step" if hook.phase == "on_call" else hook.phase
    body = check_block(hook.body, scope.at(place))
    changes = {"p", *scope.states} | ({"grad"} if hook.phase == "pre_step" else set())
    skips = any(isinstance(each, syntax.Skip) for each in syntax.walk(hook))
    if not (skips or _assigns(hook, changes)):
        title = f"the hook `{hook.name.text}` changes nothing"
        expected = "`p` or `grad`" if hook.phase == "pre_step" else "`p` or a state"
        scope.report(
            "E0309", title, hook.name.span, f"expected an assignment to {expected}"
        )
    return ir.Hook(hook.name.text, body, hook.span)


def _assigns(written: syntax.Step | syntax.Hook, names: set[str]) -> bool:
    return any(
        isinstance(each, syntax.Assign) and each.target.text in names
        for each in syntax.walk(written)
    )


def check_block(body: tuple[syntax.Statement, ...], scope: Scope) -> ir.Block:
    checked = []
    for statement in body:
        match statement:
            case syntax.Assign():
                result = _assign(statement, scope)
            case syntax.Unpack():
                result = _unpack(statement, scope)
            case syntax.If():
                decided = _decided(statement, scope)
                if decided is not None:
                    checked += check_block(decided, scope)
                    continue
                result = _if(statement, scope)
            case syntax.Repeat():
                result = _repeat(statement, scope)
            case syntax.Complex():
                checked += _of_complex_numbers(statement, scope)
                continue
            case syntax.Return():
                result = _return(statement, scope)
            case syntax.Skip():
                result = check_skip(statement, scope)
        if result is not None:
            checked.append(result)
    return tuple(checked)


# ---- assignments


def _assign(statement: syntax.Assign, scope: Scope) -> ir.Statement | None:
    if is_evaluation(statement, scope):
        value = check_gradient(statement.value, scope, check_expression)
    else:
        value = check_expression(statement.value, scope)
    if statement.operator:
        old = check_expression(_as_read(statement.target, statement.index), scope)
        value = arithmetic(statement.operator, old, value, statement.span, scope)
    target = _target(statement.target, value, scope, statement.index)
    if target is None:
        return None
    return ir.Assign(target, value, statement.span)


def _as_read(
    name: syntax.Identifier, index: syntax.Expression | None
) -> syntax.Expression:
    """What stands left of `=` as an expression."""
    read = syntax.Name(name.text, name.span)
    return read if index is None else syntax.Index(read, index, name.span)


def _target(
    name: syntax.Identifier,
    value: ir.Expr,
    scope: Scope,
    index: syntax.Expression | None = None,
) -> ir.Ref | None:
    """What an assignment writes to; None, and a diagnostic, where it may not."""
    text, place = name.text, scope.place
    listed = place != "def" and text in scope.states and scope.states[text].index
    if index is not None and not listed and text not in scope.hypers:
        title = f"`{text}` is no list of states"
        hint = "only one of a list is assigned by its index"
        scope.report("E0404", title, name.span, hint)
        return None
    if place != "def":
        if text in scope.hypers:
            other = Label(scope.declared[text], "declared here")
            help = f"a local takes a value of its own: `new_{text} = ...`"
            title = f"`{text}` is a hyper, and hypers are read-only in the step"
            scope.report("E0301", title, name.span, others=(other,), help=help)
            return None
        if text in ("p", "grad"):
            role = ir.Role.PARAM if text == "p" else ir.Role.GRAD
            return _written(ir.Ref(text, role, ir.TENSOR, name.span), value, scope)
        if text in scope.states:
            return _state_target(name, value, scope, index)
    counts = text in scope.locals and scope.locals[text].index
    fixed = text in ("t", "first", "loss", "calls") and place != "def"
    if counts or fixed or text in vocabulary.CONSTANTS:
        sets = "the loop sets it" if counts else "the language sets it"
        scope.report("E0302", f"`{text}` cannot be assigned", name.span, sets)
        if counts:
            return None
        scope.refused.append(text)
        return None
    if text in scope.refused:
        return None
    reason = "" if text in scope.locals else vocabulary.why_reserved(text)
    if place != "def" and text in scope.group_keys:
        reason = scope.group_keys[text]
    if reason:
        scope.report("E0203", f"`{text}` cannot name a local", name.span, reason)
        scope.refused.append(text)
        return None
    if text in scope.functions:
        other = Label(scope.declared[text], "declared here")
        scope.report("E0202", f"`{text}` is a def already", name.span, others=(other,))
        return None
    if value.type.element == "nothing":
        scope.report("E0404", "a local cannot be none", value.span)
        return None
    scope.locals[text] = whole.local(value, scope)
    scope.forget(text)
    return ir.Ref(text, ir.Role.LOCAL, value.type, name.span)


def _state_target(
    name: syntax.Identifier,
    value: ir.Expr,
    scope: Scope,
    index: syntax.Expression | None,
) -> ir.Ref | None:
    if not is_known_to_hooks(name.text, name.span, scope) or value.type.unknown:
        return None
    read = check_expression(_as_read(name, index), scope)
    if read.type.unknown:
        return None
    state = scope.states[name.text]
    if state.host and not value.type.on_host:
        other = Label(state.span, "a host scalar: it starts as a number")
        help = (
            f"leave `scalar` out and start `{name.text}` from a tensor, as `norm(grad)`"
        )
        title = f"`{name.text}` cannot take a {value.type}"
        scope.report("E0407", title, value.span, others=(other,), help=help)
        return None
    target = ir.Ref(name.text, ir.Role.STATE, state.type, name.span, read.index)
    return _written(target, value, scope)


def _written(target: ir.Ref, value: ir.Expr, scope: Scope) -> ir.Ref | None:
    """The target, where the value has its shape or broadcasts to it."""
    type_ = value.type
    if type_.unknown or target.type.unknown:
        return None
    if type_.element != "number" or type_.optional:
        hint = (
            "make numbers of flags: `where(flags, 1, 0)`"
            if type_.element == "flag"
            else ""
        )
        scope.report(
            "E0404", f"`{target.name}` cannot take a {type_}", value.span, hint
        )
        return None
    if type_.kind is ir.Kind.TENSOR:
        scalar = target.type.kind is ir.Kind.SCALAR
        fits = target.type.shape.with_(type_.shape) in (target.type.shape, ir.ANY_SHAPE)
        if scalar or not fits:
            title = f"`{target.name}` is a {target.type} and cannot take a {type_}"
            scope.report("E0403", title, value.span)
            return None
    return target


def _unpack(statement: syntax.Unpack, scope: Scope) -> ir.Statement | None:
    value = _taken_apart(statement.value, scope)
    count = len(statement.targets)
    several = value.type.element == SEVERAL
    if several and value.type.length != count:
        title = f"{count} names for {value.type.length} tensors"
        scope.report("E0406", title, statement.span)
        several = False
    elif several:
        pass
    elif not value.type.unknown and value.type.element != "tuple":
        title = f"a {value.type} cannot be taken apart"
        scope.report("E0406", title, statement.value.span)
    elif not value.type.unknown and not value.type.length:
        title = "a tuple of any length cannot be taken apart"
        hint = "its items are read one by one: `x[0]`, or `x[i]` in a loop"
        scope.report("E0406", title, statement.value.span, hint)
    elif not value.type.unknown and value.type.length != count:
        title = f"{count} names for a tuple of {value.type.length}"
        scope.report("E0406", title, statement.span)
    good = value.type.element == "tuple" and value.type.length == count
    good = good or several
    targets = []
    for at, name in enumerate(statement.targets):
        item = _item(value, at) if good else unknown(statement.value.span)
        if name.text in ("p", "grad") or name.text in scope.states:
            scope.report("E0406", "a tuple is taken apart into locals", name.span)
            continue
        targets.append(_target(name, item, scope))
    if not good or None in targets or len(targets) < count:
        return None
    return ir.Unpack(tuple(targets), value, statement.span)


def _taken_apart(written: syntax.Expression, scope: Scope) -> ir.Expr:
    if isinstance(written, syntax.Call):
        parts = check_parts_of(written, scope, check_expression)
        if parts is not None:
            return parts
    return check_expression(written, scope)


def _item(value: ir.Expr, at: int) -> ir.Expr:
    if value.type.element == SEVERAL:
        return one_part(value)
    if isinstance(value, ir.Pack):
        return value.items[at]
    return ir.Index(value, at, value.type.item(at), value.span)


def _return(statement: syntax.Return, scope: Scope) -> ir.Statement | None:
    if scope.place != "def":
        title = "`return` stands outside a def"
        scope.report(
            "E0307", title, Span(statement.span.start, statement.span.start + 6)
        )
        return None
    return ir.Return(check_expression(statement.value, scope), statement.span)


# ---- branches and loops


def _decided(statement: syntax.If, scope: Scope) -> tuple[syntax.Statement, ...] | None:
    """The branch that this target takes, where a flag of one value decides."""
    if not asks_of_target(statement.condition):
        return None
    condition = check_expression(statement.condition, scope)
    if not is_decided(condition, statement.condition):
        return None
    # Another target takes the other branch, and all keep the same states.
    if any(_names_first(each) for each in (*statement.then, *statement.otherwise)):
        check_name(syntax.Name(vocabulary.FIRST, statement.span), scope)
    return statement.then if condition.text == "True" else statement.otherwise


def _names_first(statement: syntax.Statement) -> bool:
    return any(
        isinstance(each, syntax.Name) and each.text == vocabulary.FIRST
        for each in syntax.walk(statement)
    )


def _repeat(statement: syntax.Repeat, scope: Scope) -> ir.Statement | None:
    """A loop. Its body is checked until every name is before a round what it is after
    one; that takes a few times, since a name only ever gets less known.
    """
    count = check_expression(statement.count, scope)
    good = whole.check_whole(count, scope)
    index = {}
    if statement.index is not None and check_index(statement.index, scope):
        index = {statement.index.text: INDEX}
    before, made = scope.locals, dict(scope.instances)
    for name in assigned(statement.body):
        scope.forget(name)
    scope.loops += 1
    while True:
        scope.locals = before | index
        body = check_block(statement.body, scope)
        own = {name: each for name, each in scope.locals.items() if name not in index}
        after = merged(own, body, before, (), looped=True)
        if any(changes_kind(name, before, after, body, scope) for name in before):
            break
        if all(before[name] == after[name] for name in before):
            break
        before = {name: after[name] for name in before}
        scope.instances.clear()
        scope.instances.update(made)
    scope.loops -= 1
    scope.locals = after
    if not good or (statement.index is not None and not index):
        return None
    return ir.Repeat(count, body, statement.span, index_ref(statement.index))


def check_index(name: syntax.Identifier, scope: Scope) -> bool:
    """Whether the index of a loop, or of a list of states, may have this name."""
    reason = vocabulary.why_reserved(name.text)
    if reason:
        title = f"`{name.text}` cannot name an index"
        scope.report("E0203", title, name.span, reason)
        return False
    if name.text in scope.functions or (
        scope.place != "def" and name.text in scope.declared
    ):
        other = Label(scope.declared[name.text], "declared here")
        title = f"`{name.text}` is declared already"
        scope.report("E0202", title, name.span, others=(other,))
        return False
    if name.text in scope.locals:
        scope.report("E0202", f"`{name.text}` has a value already", name.span)
        return False
    return True


def index_ref(name: syntax.Identifier | None) -> ir.Ref | None:
    if name is None:
        return None
    return ir.Ref(name.text, ir.Role.INDEX, ir.NUMBER, name.span)


def _of_complex_numbers(statement: syntax.Complex, scope: Scope) -> ir.Block:
    body = check_block(statement.body, scope)
    for each in ir.statements(body):
        if isinstance(each, ir.Assign):
            check_linear(each.value, each.target.type.kind is ir.Kind.TENSOR, scope)
        elif isinstance(each, ir.Unpack):
            check_linear(each.value, False, scope)
    return body


def _if(statement: syntax.If, scope: Scope) -> ir.Statement | None:
    condition = check_expression(statement.condition, scope)
    good = is_host_flag(condition, scope, statement.condition.span)
    if good and not any(isinstance(each, ir.Ref) for each in ir.walk(condition)):
        title = "this condition never changes"
        scope.report("W0702", title, statement.condition.span)
    before, facts = dict(scope.locals), scope.facts
    with scope.knowing(holds(condition) if good else ()):
        then = check_block(statement.then, scope)
    after_then, scope.locals = scope.locals, dict(before)
    kept, scope.facts = scope.facts, facts
    with scope.knowing(holds_not(condition) if good else ()):
        otherwise = check_block(statement.otherwise, scope)
    scope.facts &= kept
    scope.locals = merged(after_then, then, scope.locals, otherwise)
    return ir.If(condition, then, otherwise, statement.span) if good else None
