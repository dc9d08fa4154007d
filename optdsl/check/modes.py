"""`mode train` and `mode eval`: what becomes of the parameters when the mode changes."""

from collections.abc import Sequence

from .. import ir, syntax
from ..diagnostics import Label, did_you_mean
from .scope import Scope
from .statements import check_hook

MODES = ("train", "eval")


def check_modes(written: Sequence[syntax.Hook], scope: Scope) -> tuple[ir.Hook, ...]:
    """The two modes, train first; nothing where the rule has none."""
    found: dict[str, syntax.Hook] = {}
    for each in written:
        name, span = each.name.text, each.name.span
        if name not in MODES:
            label = did_you_mean(name, MODES) or "the modes are `train` and `eval`"
            scope.report("E0316", f"there is no mode `{name}`", span, label)
        elif name in found:
            first = Label(found[name].name.span, "the first one")
            title = f"a second `mode {name}`"
            scope.report("E0202", title, span, others=(first,))
        else:
            found[name] = each
    if len(found) == 1:
        (name,) = found
        (missing,) = {*MODES} - {name}
        title = f"there is no way back from `mode {name}`"
        help = f"`mode {missing}` says how `p` is turned back"
        scope.report("E0316", title, found[name].name.span, help=help)
    return tuple(check_hook(found[name], scope) for name in MODES if name in found)
