"""The same equations for autograd: a module-level function in which every assignment makes
a new value, and the new values are written back at the end.

In: a rule without calls in place. Out: the lines of its function.
"""

import dataclasses
from collections.abc import Iterator

from .. import ir
from .body import INDENT, METHODS, Single, lines, one_at_a_time
from .complex import runs
from .expr import Name, text
from .layout import fit
from .loop import viewed
from .update import MAXIMIZE, Column, Update, asks_count, head

KIND = "differentiable"
_SCALED = ("add", "addcmul", "addcdiv")


def emit(rule: ir.Rule, update: Update, suffix: str = "") -> list[str]:
    """The lines of a function that runs the rule one parameter at a time."""
    name = update.one
    single = _new_values(name)
    rule = ir.with_blocks(rule, _with_scales)
    body = lines(rule.prologue, name, rule.source, single)
    body += [""] * bool(body)
    body.append(f"for {update.items} in zip({update.lists}, strict=True):")
    inner = [f"grad = grad if not {MAXIMIZE} else -grad"]
    kept = [update.columns[0], *(each for each in update.columns if each.state)]
    kept += [update.step] if rule.counted == "tensor" else []
    joined = ", ".join(each.item for each in kept)
    if any(each.listed for each in kept):
        cloned, written_back = _cloned_lists(kept)
        inner += cloned
    elif len(kept) == 1:
        inner.append(f"kept, {joined} = {joined}, {joined}.clone()")
        written_back = [f"kept.copy_({joined})"]
    else:
        inner.append(f"kept = ({joined})")
        optional = any(each.when is not None for each in rule.own)
        copy = "each if each is None else each.clone()" if optional else "each.clone()"
        inner.append(f"{joined} = ({copy} for each in kept)")
        written_back = [f"for each, new in zip(kept, ({joined}), strict=True):"]
        written_back += ["    if each is not None:"] * optional
        written_back.append(INDENT * (1 + optional) + "each.copy_(new)")
    if rule.counted == "tensor":
        step = update.step.item
        inner.append(f"{step} = {step} + 1")
        if asks_count(rule):
            inner.append(f"{update.names.own('t')} = {step}.item()")
    several = list(runs(rule, update, restored=True))
    if any(run.changed for run in several):
        inner.append("is_complex = torch.is_complex(p)")
    for run in several:
        inner += viewed(run, update, "is_complex")
        written = lines(run.block, name, rule.source, single)
        inner += [""] * bool(written and written[0].startswith("#"))
        inner += written
    inner += ["", *written_back]
    body += [INDENT + line if line else "" for line in inner]
    result = head(update, update.function(KIND) + suffix)
    result += [INDENT + line if line else "" for line in body]
    return [part for line in result for part in fit(line)]


def _cloned_lists(kept: list[Column]) -> tuple[list[str], list[str]]:
    """The lines that make copies of what is kept, where there are lists of states, and
    those that write the copies back.
    """
    joined = ", ".join("*" * each.listed + each.item for each in kept)
    optional = any(each.state and each.state.when for each in kept)
    copy = "each if each is None else each.clone()" if optional else "each.clone()"
    single = [each.item for each in kept if not each.listed]
    names = ", ".join(single)
    cloned = [f"kept = ({joined})"]
    if len(single) == 1:
        cloned.append(f"{names} = {names}.clone()")
    else:
        cloned.append(f"{names} = ({copy} for each in ({names}))")
    for each in kept:
        if each.listed:
            cloned.append(f"{each.item} = [{copy} for each in {each.item}]")
    written = [f"for each, new in zip(kept, ({joined}), strict=True):"]
    written += ["    if each is not None:"] * optional
    return cloned, [*written, INDENT * (1 + optional) + "each.copy_(new)"]


def possible(rule: ir.Rule) -> bool:
    """Whether autograd can follow: entries of sparse gradients are written in place, and
    so are the states that parameters share, and parameters that are moved.
    """
    sparse = rule.sparse is not None and rule.sparse.only
    return not (rule.in_phases or rule.evaluates or sparse)


def is_apart(targets: ir.Targets, update: Update) -> bool:
    """Whether a captured step computes otherwise than one with the host."""
    captured = targets.captured_differentiable
    if captured is None:
        return False
    return emit(captured, update) != emit(targets.differentiable, update)


def _new_values(name: Name) -> Single:
    """Prints statements whose states are values like any other."""
    plain = one_at_a_time(name)

    def single(statement: ir.Statement) -> Iterator[str]:
        match statement:
            case ir.Assign(target, value) if target.role is ir.Role.STATE:
                kept = name(dataclasses.replace(target, type=ir.SCALAR))
                match value:
                    case _ if not target.type.on_host:
                        yield f"{kept} = {text(value, name)}"
                    case ir.Binary(operator, left, right) if (
                        left == target and operator in METHODS
                    ):
                        method = METHODS[operator]
                        yield f"{kept} = {kept}.{method}({text(right, name)})"
                    case _:
                        yield f"{kept} = torch.full_like({kept}, {text(value, name)})"
            case _:
                yield from plain(statement)

    return single


# ---- scales that may be tensors


def _with_scales(block: ir.Block) -> ir.Block:
    """`alpha=` and `value=` take no tensors: a call with one that depends on a hyper
    becomes a call of a function that takes both.
    """
    return tuple(_scaled_statement(each) for each in block)


def _scaled_statement(statement: ir.Statement) -> ir.Statement:
    match statement:
        case ir.If():
            then, otherwise = map(_with_scales, (statement.then, statement.otherwise))
            return dataclasses.replace(statement, then=then, otherwise=otherwise)
        case ir.Repeat():
            return dataclasses.replace(statement, body=_with_scales(statement.body))
        case ir.Assign(target, value):
            return dataclasses.replace(statement, value=_shaped(target, _scaled(value)))
        case ir.Unpack(value=value) if not value.type.on_host:
            return dataclasses.replace(statement, value=_scaled(value))
        case ir.Return(value):
            return dataclasses.replace(statement, value=_scaled(value))
    return statement


def _shaped(target: ir.Ref, value: ir.Expr) -> ir.Expr:
    """A value for a parameter or a state in its shape, as if written into its memory."""
    kept = target.role in (ir.Role.PARAM, ir.Role.STATE) and not target.type.on_host
    if not kept or value.type == target.type:
        return value
    view = ir.Op("expand_as", (value, target), (), target.type, value.span)
    return ir.Op("clone", (view,), (), target.type, value.span)


def _scaled(expr: ir.Expr) -> ir.Expr:
    if expr.type.on_host:
        return expr
    expr = ir.mapped(expr, _scaled)
    if isinstance(expr, ir.Op) and expr.name in _SCALED:
        for key, scale in expr.keywords:
            if key in ("alpha", "value") and any(ir.reads(scale)):
                arguments = (*expr.arguments, scale)
                return ir.Invoke(f"scaled_{expr.name}", arguments, expr.type, expr.span)
    return expr


_BODIES = {
    "add": ("x, y", "y", "alpha"),
    "addcmul": ("x, y, z", "y, z", "value"),
    "addcdiv": ("x, y, z", "y, z", "value"),
}


def scaled_functions(functions: list[list[str]]) -> list[list[str]]:
    """The functions of scales that others call."""
    written = [line for each in functions for line in each]
    result: list[list[str]] = []
    for name, (parameters, factors, keyword) in _BODIES.items():
        if any(f"_scaled_{name}(" in line for line in written):
            tensors = ", ".join(f"{each}: Tensor" for each in parameters.split(", "))
            function = [
                f"def _scaled_{name}({tensors}, scale: Any) -> Tensor:",
                f'    """x.{name}({factors}, {keyword}=scale), with a gradient for scale."""',
                "    if isinstance(scale, Tensor) and scale.requires_grad:",
                f"        return x.{name}({factors.replace('y', 'y * scale', 1)})",
                f"    return x.{name}({factors}, {keyword}=scale)",
            ]
            result.append(function)
    return result
