"""Hooks as public methods: over all parameters of all groups, by hand as by the step."""

from .. import ir
from .body import INDENT, lines, one_at_a_time
from .complex import takes_complex
from .expr import entry
from .names import Names
from .signature import option
from .update import entries

_WHEN = {"pre": "before every step", "post": "after every step"}


def hook_methods(rule: ir.Rule) -> list[str]:
    """The lines of all hook methods."""
    result: list[str] = []
    for hook in rule.pre_steps:
        result += ["", *_method(hook, rule, "pre")]
    for hook in rule.post_steps:
        result += ["", *_method(hook, rule, "post")]
    return result


def _method(hook: ir.Hook, rule: ir.Rule, when: str) -> list[str]:
    names = Names(("self", "group", "param", "state"))
    refs = [ref for each in hook.body for ref in _all_refs(each)]
    roles = {ref.role for ref in refs}
    used = {ref.name for ref in refs}
    result = ["@_use_grad_for_differentiable", f"def {hook.name}(self) -> None:"]
    doc = f'"""Runs by itself {_WHEN[when]}; a call by hand does the same once."""'
    body = [doc, "for group in self.param_groups:"]
    for hyper in rule.hypers:
        if hyper.name in used:
            body.append(f'    {names.own(hyper.name)} = group["{hyper.name}"]')
    body += ['    for param in group["params"]:']
    inner = _begin(rule, hook, names, roles, used)

    def name(ref: ir.Ref) -> str:
        asked = ref.role is ir.Role.STATE and ref.type.on_host
        return entry(names.own(ref.name) + ".item()" * asked, ref, name)

    inner += lines(hook.body, name, rule.source, one_at_a_time(name))
    inner += _end(rule, hook, names, used)
    body += [INDENT * 2 + line if line else "" for line in inner]
    return result + [INDENT + line if line else "" for line in body]


def _all_refs(statement: ir.Statement) -> list[ir.Ref]:
    targets = [
        each.target
        for each in ir.statements((statement,))
        if isinstance(each, ir.Assign)
    ]
    return [*ir.reads(statement), *targets]


def _begin(
    rule: ir.Rule, hook: ir.Hook, names: Names, roles: set, used: set[str]
) -> list[str]:
    stateful = ir.Role.STATE in roles or ir.Role.COUNT in roles
    # A parameter has an entry once it has stepped, unless all of its states are optional.
    entered = rule.counted or any(state.when is None for state in rule.states)
    missing = " or param not in self.state" if stateful and entered else ""
    result = [f"if param.grad is None{missing}:", "    continue"]
    real = takes_complex(rule)
    as_real = "torch.view_as_real({0}) if torch.is_complex({0}) else {0}"
    result.append(f"p = {as_real.format('param') if real else 'param'}")
    if ir.Role.GRAD in roles:
        asked = option(rule, "maximize")
        result.append(f"grad = param.grad if not {asked} else -param.grad")
        if real:
            result += [
                "if torch.is_complex(grad):",
                "    grad = torch.view_as_real(grad)",
            ]
    if stateful:
        result.append(
            f"state = self.state{'[param]' if entered else '.get(param, {})'}"
        )
    for state in rule.states:
        if state.name in used:
            own = names.own(state.name)
            if state.index is not None:
                result += _entries(state, own, names, real)
                continue
            value = (
                f'state["{state.name}"]'
                if state.when is None
                else f'state.get("{state.name}")'
            )
            if real and not state.scalar:
                result.append(f"{own} = {value}")
                result.append(f"if {own} is not None and torch.is_complex({own}):")
                result.append(f"    {own} = torch.view_as_real({own})")
            else:
                result.append(f"{own} = {value}")
    if ir.Role.COUNT in roles:
        read = ".item()" if rule.counted == "tensor" else ""
        result.append(f't = state["step"]{read}')
    return result


def _entries(state: ir.State, own: str, names: Names, real: bool) -> list[str]:
    """The lines that collect a list of states."""
    listed = entries(state, names.copy().claim(state.index.name))
    result = [f"{own} = {listed}"]
    if real:
        asked = "each is not None and torch.is_complex(each)"
        viewed = f"torch.view_as_real(each) if {asked} else each"
        result.append(f"{own} = [{viewed} for each in {own}]")
    return result


def _end(rule: ir.Rule, hook: ir.Hook, names: Names, used: set[str]) -> list[str]:
    targets = ir.assigned(hook.body)
    result = []
    if "grad" in targets and hook in rule.pre_steps:
        if takes_complex(rule):
            result += [
                "if torch.is_complex(param):",
                "    grad = torch.view_as_complex(grad)",
            ]
        asked = option(rule, "maximize")
        result.append(f"param.grad = grad if not {asked} else -grad")
    return result
