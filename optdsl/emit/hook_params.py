"""What a hook reads of one parameter before its lines, and hands on behind them.

In: a rule, a hook and one of its phases. Out: the first and the last lines of its loop.
"""

from .. import ir, stages, vocabulary
from .collect import made_early, without_update
from .expr import PRECEDENCE, text
from .names import Names
from .signature import option
from .sparse import refusal
from .update import entries


def begin(
    rule: ir.Rule, hook: ir.Hook, body: ir.Block, names: Names, made: set[str]
) -> list[str]:
    """The lines that leave a parameter out, or give what a phase reads of it; `made` grows
    by the states that they make.
    """
    refs = [ref for each in body for ref in ir.mentions(each)]
    roles, used = {ref.role for ref in refs}, {ref.name for ref in refs}
    states = [each for each in rule.own if each.name in used]
    early = [each for each in states if each in ir.early(rule)]
    before = hook in rule.pre_steps
    stateful = bool(states) or ir.Role.COUNT in roles
    # A parameter has an entry once it has stepped, unless all of its states are optional.
    entered = before or _entered(rule)
    missing = ["param.grad is None"] * (hook not in rule.modes)
    if stateful and not before:
        missing += [_never_updated(rule)] if entered else _without(early)
    result = [f"if {' or '.join(missing)}:", "    continue"] if missing else []
    new = [each for each in early if before and each.name not in made]
    if new and rule.sparse is None:
        result += refusal(rule, "param.grad")
    result += _param_and_grad(rule, roles, body)
    if stateful:
        result.append(
            f"state = self.state{'[param]' if entered else '.get(param, {})'}"
        )
    by_hand = hook in (*rule.modes, *rule.on_calls)
    for state in states:
        if state in new:
            result += made_early(state, rule, "param")
            made.add(state.name)
        result += _state(state, rule, names, by_hand)
    if ir.Role.COUNT in roles:
        read = ".item()" if rule.counted == "tensor" else ""
        result.append(f't = state["step"]{read}')
    return result


def _entered(rule: ir.Rule) -> bool:
    """Whether every parameter has states of its own once it has been updated."""
    early = ir.early(rule)
    updated = (each for each in rule.own if each not in early)
    return bool(rule.counted) or any(each.when is None for each in updated)


def _never_updated(rule: ir.Rule) -> str:
    """The condition that a parameter has no states but those of hooks before the step."""
    if not ir.early(rule):
        return "param not in self.state"
    return f"self.state.get(param, {{}}).keys() <= {without_update(rule)}"


def _without(states: list[ir.State]) -> list[str]:
    return [f'"{each.name}" not in self.state.get(param, {{}})' for each in states]


def _param_and_grad(rule: ir.Rule, roles: set[ir.Role], body: ir.Block) -> list[str]:
    result = []
    if ir.Role.PARAM in roles:
        as_real = "torch.view_as_real(param) if torch.is_complex(param) else param"
        result.append(f"p = {as_real if rule.pairs else 'param'}")
    grad = vocabulary.GRAD
    made_anew = grad in stages.surely(body) and grad not in stages.read_first(
        body, set()
    )
    if ir.Role.GRAD in roles and not made_anew:
        asked = option(rule, "maximize")
        result.append(f"grad = param.grad if not {asked} else -param.grad")
        if rule.pairs:
            result += [
                "if torch.is_complex(grad):",
                "    grad = torch.view_as_real(grad)",
            ]
    return result


def _state(state: ir.State, rule: ir.Rule, names: Names, by_hand: bool) -> list[str]:
    own = names.own(state.name)
    if state.index is not None:
        return _entries(state, own, names, rule.pairs)
    optional = state.when is not None
    value = f'state.get("{state.name}")' if optional else f'state["{state.name}"]'
    result = [f"{own} = {value}"]
    if rule.pairs and not state.scalar:
        there = f"{own} is not None and " * optional
        result.append(f"if {there}torch.is_complex({own}):")
        result.append(f"    {own} = torch.view_as_real({own})")
    if by_hand and optional:
        wanted = text(state.when, _of_group, PRECEDENCE["and"])
        result += [f"if {wanted} and {own} is None:", "    continue"]
    return result


def _of_group(ref: ir.Ref) -> str:
    """What a condition of a state reads, before the names of the hook are there."""
    match ref.role:
        case ir.Role.HYPER:
            return f'group["{ref.name}"]'
    return "param"


def _entries(state: ir.State, own: str, names: Names, real: bool) -> list[str]:
    """The lines that collect a list of states."""
    listed = entries(state, names.copy().claim(state.index.name))
    result = [f"{own} = {listed}"]
    if real:
        asked = "each is not None and torch.is_complex(each)"
        viewed = f"torch.view_as_real(each) if {asked} else each"
        result.append(f"{own} = [{viewed} for each in {own}]")
    return result


def end(rule: ir.Rule, body: ir.Block, reduces: bool) -> list[str]:
    """The lines that hand a gradient on. A number that other parameters were reduced to
    may be more precise than this one, which where it has no axes would become so too.
    """
    if vocabulary.GRAD not in ir.assigned(body):
        return []
    result = []
    if rule.pairs:
        result += [
            "if torch.is_complex(param):",
            "    grad = torch.view_as_complex(grad)",
        ]
    given = f"grad if not {option(rule, 'maximize')} else -grad"
    if reduces:
        given = f"({given}).to(param.grad.dtype)"
    return [*result, f"param.grad = {given}"]
