"""What a rule can do beside the loop, in words, read off its lowered targets."""

from .. import ir
from ..emit import differentiable
from ..ir.kernels import Turns
from ..pipeline import Artifacts

_ANEW = "its step takes the gradient anew"
_IN_PLACE = {
    True: "its parameters step together",
    False: "entries of sparse gradients are written in place",
}


def targets(artifacts: Artifacts) -> dict[str, str]:
    """Each way to run the rule with what it is like; "no" and why where there is none."""
    rule, lowered = artifacts.checked, artifacts.lowered
    captured = f"no: {lowered.why_not}" if lowered.captured is None else "yes"
    pure = differentiable.possible(lowered.loop)
    in_place = _ANEW if rule.evaluates else _IN_PLACE[rule.in_phases]
    return {
        "loop": "yes",
        "foreach": _foreach(lowered.foreach),
        "fused": _fused(lowered),
        "capturable": captured,
        "differentiable": "yes" if pure else f"no: {in_place}",
        "sparse gradients": _sparse(rule),
        "complex parameters": _complex(rule, lowered.loop),
    }


def _foreach(rule: ir.Rule) -> str:
    """How much of the step is calls that take all tensors at once."""
    nodes = [node for each in rule.step for node in ir.walk(each)]
    listed = sum(isinstance(each, ir.Op) and each.listed for each in nodes)
    single = sum(isinstance(each, ir.Op) and not each.listed for each in nodes)
    defs = sum(isinstance(each, ir.Invoke) and not each.type.on_host for each in nodes)
    parts = [f"yes: {listed} call{'s' * (listed != 1)} for all tensors at once"]
    if single + defs:
        what = [f"{single} operation{'s' * (single != 1)}"] * bool(single)
        what += [f"{defs} def{'s' * (defs != 1)}"] * bool(defs)
        parts.append(f"{' and '.join(what)} for each by itself")
    return ", ".join(parts)


def _fused(lowered: ir.Targets) -> str:
    """How often its kernels pass over memory."""
    if lowered.kernels is None:
        return f"no: it has {lowered.no_kernels}"
    passes = lowered.kernels.passes
    between = ", with calls of torch between them"
    between *= isinstance(lowered.kernels, Turns)
    return f"yes: {passes} pass{'es' * (passes != 1)} over memory{between}"


def _sparse(rule: ir.Rule) -> str:
    match rule.sparse:
        case None:
            return "no"
        case ir.Sparse(only=True):
            return "yes, and no others"
        case ir.Sparse(when=None):
            return "yes"
    return f"yes, where {rule.source.cut(rule.sparse.when.span)}"


def _complex(rule: ir.Rule, lowered: ir.Rule) -> str:
    refused = any(
        isinstance(each, ir.Call) and each.function == "is_complex"
        for require in rule.requires
        for each in ir.walk(require.condition)
    )
    if refused or not lowered.pairs:
        return "no"
    if rule.complex:
        return "yes, as complex numbers where the spec says so, else as pairs of reals"
    return "yes, as pairs of reals"
