"""States: where they are kept, and what they start as."""

from .. import ir, syntax
from ..diagnostics import Label, did_you_mean
from .expressions import check_expression, is_host_flag
from .kinds import unknown
from .scope import INDEX, Scope, holds
from .statements import check_index, index_ref
from .whole import check_whole

_PLACES = ("scalar", "group", "model")


def check_state(each: syntax.State, scope: Scope) -> ir.State:
    report = scope.report
    when = count = None
    scope.place = "when"
    if each.index is not None:
        count = check_expression(each.count, scope)
        if not check_whole(count, scope):
            count = unknown(each.count.span)
        if check_index(each.index, scope):
            scope.locals = {each.index.text: INDEX}
    if each.when is not None:
        when = check_expression(each.when, scope)
        if not is_host_flag(when, scope, each.when.span):
            when = None
    scope.place = "state"
    with scope.knowing(holds(when) if when else ()):
        initial = check_expression(each.initial, scope)
    place = each.place.text if each.place else ""
    if place and place not in _PLACES:
        title = f"`{place}` is no place for a state"
        near = did_you_mean(place, _PLACES)
        expected = "expected `scalar`, `group` or `model`, or nothing"
        report("E0504", title, each.place.span, near or expected)
    elif place and each.index is not None:
        title = "a list of states is made of tensors"
        report("E0504", title, each.place.span, "expected nothing")
    shared = place in ("group", "model")
    if shared and when is not None:
        title = f"a state of the {place} has no condition"
        help = "it is one number; leave `when` out"
        report("E0504", title, each.when.span, help=help)
        when = None
    type_ = initial.type if not place or place in _PLACES else ir.UNKNOWN
    on_device = scope.mode.counts_on_device or shared
    if place in _PLACES and type_ == ir.NUMBER and on_device:
        type_ = ir.SCALAR
    if initial.type.element not in ("number", "unknown"):
        title = f"a state cannot keep a {initial.type}"
        report("E0404", title, each.initial.span, "a state is made of numbers")
        type_ = ir.UNKNOWN
    elif place in _PLACES and not initial.type.on_host:
        help = f"leave `{place}` out: `state {each.name.text} = ...` takes its value's shape"
        title = f"a {place} state starts as a number"
        report("E0407", title, each.initial.span, help=help)
        type_ = ir.UNKNOWN
    elif shared and any(each.role is not ir.Role.HYPER for each in ir.reads(initial)):
        help = "its first value is made of hypers"
        title = f"a state of the {place} cannot start from this"
        report("E0407", title, each.initial.span, help=help)
        type_ = ir.UNKNOWN
    elif initial.type.on_host and not place and not initial.type.unknown:
        type_ = ir.TENSOR
    doc = each.doc.value if each.doc else ""
    return ir.State(
        each.name.text, initial, when, type_, place, doc, each.name.span,
        index_ref(each.index), count,
    )  # fmt: skip


def check_entries(scope: Scope) -> None:
    """Each of a list of states is kept under the list's name and its number."""
    listed = [each.name for each in scope.states.values() if each.index is not None]
    for name, state in scope.states.items():
        stem, _, number = name.rpartition("_")
        if stem in listed and number.isdigit():
            other = Label(scope.states[stem].span, "a list of states")
            title = f"`{name}` is one of the list `{stem}`"
            scope.report("E0202", title, state.span, others=(other,))
