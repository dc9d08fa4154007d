"""`step`: what it does around the update of each group, and which update that is.

In: the lowered rules. Out: the lines of the method behind its closure.
"""

from .. import ir
from . import again, differentiable, foreach, fused, loop
from .body import INDENT
from .differentiable import KIND
from .signature import option
from .trial import trial_step
from .update import Update, call

CAPTURABLE = "_capturable"
CHECK_CAPTURABLE = '''

def _check_capturable(params: list[Tensor], *kept: list[Tensor | None]) -> None:
    """Raise where a step cannot be captured; a compiler looks after this by itself."""
    if torch.compiler.is_compiling():
        return
    devices = _get_capturable_supported_devices()
    for p, *scalars in zip(params, *kept, strict=True):
        if p.device.type not in devices:
            raise AssertionError(f"If capturable=True, params must be on {devices}")
        if any(each is not None and each.device != p.device for each in scalars):
            raise AssertionError("capturable=True, but a state is on another device")
'''
AS_LOSS = '''

def _check_loss(loss: Any) -> None:
    """Raise where there was no closure, or none that returns a number."""
    if loss is None:
        raise RuntimeError("{0} needs a closure that returns the loss")
    one = loss.numel() == 1 if isinstance(loss, Tensor) else isinstance(loss, Real)
    if not one:
        raise RuntimeError(f"{0} needs a loss of one number, not {{loss!r}}")


def _as_loss(loss: Any, p: Tensor, maximize: bool) -> Tensor:
    """The loss that is minimized, as a tensor without axes and without a graph: beside p,
    and at least as precise.
    """
    own = loss.dtype if isinstance(loss, Tensor) else torch.get_default_dtype()
    dtype = torch.promote_types(own, p.dtype.to_real())
    value = torch.as_tensor(loss, dtype=dtype, device=p.device).detach().reshape(())
    return -value if maximize else value
'''


def without_grad(rule: ir.Rule) -> bool:
    """Whether autograd sees a differentiable update and nothing around it. A step is one
    graph then, as with the classes of torch that are never differentiable.
    """
    from_tensors = any(any(ir.reads(each.initial)) for each in rule.own)
    return KIND in rule.arguments.apart and not from_tensors


def decorators(rule: ir.Rule) -> list[str]:
    """What stands above the method."""
    result = ["@torch.compiler.disable"] * (
        rule.counted == "int"
        or rule.random
        or rule.reads_loss
        or rule.evaluates
        or any(map(ir.counts, rule.pre_steps))
    )
    if without_grad(rule):
        return [*result, "@torch.no_grad()"]
    return [*result, "@_use_grad_for_differentiable"]


def step(targets: ir.Targets, update: Update) -> list[str]:
    """The lines of a step behind its closure."""
    rule = targets.loop
    unscaled = ["if not self._unscale():", "    return loss", ""]
    asked = again.asks_for_closure(rule)
    return [
        *trial_step(rule, update),
        *asked,
        *[""] * bool(asked),
        *checked_loss(rule),
        *unscaled * (targets.kernels is not None and not rule.evaluates),
        *groups_step(targets, update),
    ]


def checked_loss(rule: ir.Rule) -> list[str]:
    """The line that refuses a step without a loss."""
    return ["_check_loss(loss)"] * rule.reads_loss


def groups_step(targets: ir.Targets, update: Update) -> list[str]:
    """The lines that update every group, between the hooks of the spec."""
    rule = targets.loop
    columns = update.collected
    body = [f"{each.items}: {each.annotation} = []" for each in columns]
    body.append(f"self._init_group(group, {', '.join(c.items for c in columns)})")
    if (losses := update.of(ir.Role.LOSS)) is not None:
        asked = option(rule, "maximize")
        value = f"_as_loss(loss, p, {asked})"
        body.append(f"{losses.items} = [{value} for p in params]")
    if rule.in_phases:
        body += ["if params:", f"    groups.append((group, [{update.lists}]))"]
    elif targets.kernels is not None:
        body.append(f"groups.append((group, [{update.lists}]))")
    else:
        body += _choice(targets, update)
        body += call(update, option(rule, "maximize"))
    if targets.kernels is None:
        body += _first_is_over(update)
    repeated = fused.repeated(targets)
    groups = fused.WAITING if repeated else "self.param_groups"
    steps = [*repeated, f"for group in {groups}:", *(INDENT + x for x in body)]
    if rule.in_phases:
        steps = _together(targets, update, steps)
    elif targets.kernels is not None:
        steps = _by_kernels(targets, update, steps)
    if rule.pre_steps:
        called = [line for each in rule.pre_steps for line in _called(each)]
        steps = [*called, "", *steps]
    if any("grad" in ir.assigned(each.body) for each in rule.pre_steps):
        steps = _with_held_gradients(steps)
    if rule.post_steps:
        steps += ["", *(f"self.{each.name}()" for each in rule.post_steps)]
    return steps


def _called(hook: ir.Hook) -> list[str]:
    call = f"self.{hook.name}({again.CLOSURE * again.takes(hook)})"
    return [f"if not {call}:", "    return loss"] if ir.skips(hook) else [call]


def _first_is_over(update: Update) -> list[str]:
    """The lines that say of the parameters of a group that they have been updated."""
    if update.first is None:
        return []
    # A compiled step has to see the state change, or it is never another one.
    first = update.first
    return [
        f"for p, {first.item} in zip(params, {first.items}, strict=True):",
        f"    if {first.item}:",
        '        self.state[p].pop("first")',
    ]


GROUPS = "groups: list[tuple[dict[str, Any], list[list[Any]]]] = []"


def _by_kernels(
    targets: ir.Targets, update: Update, collecting: list[str]
) -> list[str]:
    """The lines that update groups by kernels, and those that these leave by another way."""
    rule = targets.loop
    others = [
        f"{update.taken_apart} = columns",
        *_choice(targets, update),
        *call(update, option(rule, "maximize")),
    ]
    return [
        GROUPS,
        *collecting,
        "left = groups",
        *fused.call("left"),
        "for group, columns in left:",
        *(INDENT + line for line in others),
        *_firsts_are_over(update),
    ]


def _firsts_are_over(update: Update) -> list[str]:
    """The same of all groups, whatever has updated them."""
    lines = _first_is_over(update)
    if not lines:
        return []
    # An update in phases hands lists on behind these columns.
    at = update.columns.index(update.first)
    lines = [f"params, {update.first.items} = columns[0], columns[{at}]", *lines]
    return ["for _, columns in groups:", *(INDENT + line for line in lines)]


def _together(targets: ir.Targets, update: Update, collecting: list[str]) -> list[str]:
    """The lines that update all groups by one call; the first one chooses how."""
    before = ["if groups:", "    self._init_shared()"] * bool(targets.loop.shared)
    left, over = "groups", []
    if targets.kernels is not None:
        over = _firsts_are_over(update)
        if over:
            left = "left"
            before.append("left = groups")
        before += fused.call(left)
    chosen = [
        f"group, ({update.lists}) = {left}[0]",
        *_choice(targets, update),
        f"update({left})",
    ]
    return [
        GROUPS,
        *collecting,
        *before,
        f"if {left}:",
        *(INDENT + line for line in chosen),
        *over,
    ]


def _choice(targets: ir.Targets, update: Update) -> list[str]:
    """Which function updates a group."""
    rule = targets.loop
    foreach_, fused, differentiable_, capturable = (
        option(rule, name) for name in ("foreach", "fused", KIND, "capturable")
    )
    result = [
        f"use_foreach = {foreach_} or {fused}",
        f"if {foreach_} is None and {fused} is None:",
        "    _, use_foreach = _default_to_fused_or_foreach(",
        f"        params, {differentiable_}",
        "    )",
    ]
    if rule.sparse is not None and not rule.sparse.only:
        result += [
            "if use_foreach and any(grad.is_sparse for grad in grads):",
            "    use_foreach = False",
        ]
    single, multi = (update.function(each.KIND) for each in (loop, foreach))
    result.append(f"update = {multi} if use_foreach else {single}")
    if targets.captured is not None:
        kept = [
            each.items for each in update.columns if each.state and each.state.scalar
        ]
        kept += [update.step.items] if rule.counted == "tensor" else []
        result += [
            f"if {capturable}:",
            f"    _check_capturable({', '.join(['params', *kept])})",
        ]
        result += _without_host(targets, single, multi)
    if not differentiable.possible(rule):
        return result
    pure, captured = update.function(differentiable.KIND), []
    if differentiable.is_apart(targets, update):
        captured = [
            f"    if {capturable}:",
            f"        update = {pure}{CAPTURABLE}",
        ]
    return [
        *result,
        f"if {differentiable_}:",
        "    if use_foreach:",
        '        raise AssertionError("_foreach ops don\'t support autograd")',
        f"    update = {pure}",
        *captured,
        *["    update = torch.enable_grad()(update)"] * without_grad(rule),
    ]


def _without_host(targets: ir.Targets, single: str, multi: str) -> list[str]:
    """The functions for steps that are captured or compiled, where they differ."""
    asked = f"{option(targets.loop, 'capturable')} or torch.compiler.is_compiling()"
    match targets.apart:
        case None, None:
            return []
        case None, _:
            choice = [
                f"if use_foreach and ({asked}):",
                f"    update = {multi}{CAPTURABLE}",
            ]
        case _, None:
            choice = [f"if not use_foreach and ({asked}):"]
            choice.append(f"    update = {single}{CAPTURABLE}")
        case _:
            choice = [
                f"if {asked}:",
                f"    update = {single}{CAPTURABLE}",
                "    if use_foreach:",
                f"        update = {multi}{CAPTURABLE}",
            ]
    return choice


def _with_held_gradients(lines: list[str]) -> list[str]:
    return [
        "# The hooks hand new gradients to the update; the model keeps its own.",
        'held = [(p, p.grad) for group in self.param_groups for p in group["params"]]',
        "try:",
        *(INDENT + line if line else "" for line in lines),
        "finally:",
        f"{INDENT}for p, grad in held:",
        f"{INDENT * 2}p.grad = grad",
    ]
