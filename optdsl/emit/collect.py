"""`_init_group`: collects what the loop reads, and makes a parameter's state when it
first has a gradient.
"""

from .. import ir
from ..evaluate import literal
from .body import INDENT
from .expr import Name, text
from .layout import fit
from .loop import Loop, takes_complex


def init_group(rule: ir.Rule, loop: Loop) -> list[str]:
    """The lines of the method."""
    parameters = [f"    {each.items}: {each.annotation}," for each in loop.columns]
    result = [
        "def _init_group(",
        "    self,",
        "    group: dict[str, Any],",
        *parameters,
    ]
    result.append(") -> None:")
    stateful = bool(rule.states or rule.counted)
    makes = ", and make the state of new parameters" if stateful else ""
    result.append(f'    """Collect what has a gradient{makes}."""')
    body = ['for p in group["params"]:', "    if p.grad is None:", "        continue"]
    body += _refusals(rule)
    if stateful:
        body += [INDENT + line if line else "" for line in _states(rule, loop)]
    body += [f"    {each.items}.append({each.value})" for each in loop.columns]
    return result + [INDENT + line if line else "" for line in body]


def _refusals(rule: ir.Rule) -> list[str]:
    result = [
        "    if p.grad.is_sparse:",
        f'        raise RuntimeError("{rule.name} does not support sparse gradients")',
    ]
    if not takes_complex(rule):
        result += [
            "    if torch.is_complex(p):",
            f'        raise RuntimeError("{rule.name} does not support complex parameters")',
        ]
    return result


def _name() -> Name:
    def name(ref: ir.Ref) -> str:
        match ref.role:
            case ir.Role.HYPER:
                return f'group["{ref.name}"]'
            case ir.Role.STATE:
                return f'state["{ref.name}"]' + (".item()" if ref.type.on_host else "")
        return ref.name

    return name


def _states(rule: ir.Rule, loop: Loop) -> list[str]:
    name = _name()
    conditions = [
        text(each.when, name, 3) for each in rule.states if each.when is not None
    ]
    always = [each for each in rule.states if each.when is None]
    result = ["state = self.state[p]"]
    if not always and not rule.counted:
        # A parameter none of whose states is wanted gets no entry at all.
        wanted = " or ".join(dict.fromkeys(conditions))
        result = [f"state = self.state[p] if {wanted} else {{}}"]
    first = any(each.items == "firsts" or each.item == "first" for each in loop.columns)
    if first:
        result.append("first = len(state) == 0")
    if any(_reads_grad(each) for each in rule.states):
        result.append('grad = p.grad if not group["maximize"] else -p.grad')
    making = []
    if rule.counted:
        making.append('state["step"] = torch.tensor(0.0, dtype=_get_scalar_dtype())')
    making += [line for each in always for line in _made(each, rule, name)]
    if making:
        result.append("if first:" if first else "if len(state) == 0:")
        result += [INDENT + line for line in making]
    for state in rule.states:
        if state.when is not None:
            condition = text(state.when, name, 4)
            result.append(f'if {condition} and "{state.name}" not in state:')
            result += [INDENT + line for line in _made(state, rule, name)]
    return result


def _reads_grad(state: ir.State) -> bool:
    return any(ref.role is ir.Role.GRAD for ref in ir.reads(state.initial))


def _made(state: ir.State, rule: ir.Rule, name: Name) -> list[str]:
    """The lines that make a state, in memory of its own."""
    target, written = f'state["{state.name}"]', text(state.initial, name)
    if state.host:
        value = _as_float(state.initial, written)
        return [f"{target} = torch.tensor({value}, dtype=_get_scalar_dtype())"]
    if state.initial.type.on_host:
        kept = "memory_format=torch.preserve_format"
        if isinstance(state.initial, ir.Const) and not literal(state.initial):
            return [f"{target} = torch.zeros_like(p, {kept})"]
        if not takes_complex(rule):
            return [f"{target} = torch.full_like(p, {written}, {kept})"]
        return [
            f"fill = {written}",
            "if torch.is_complex(p):",
            "    fill = complex(fill, fill)",
            f"{target} = torch.full_like(p, fill, {kept})",
        ]
    if isinstance(state.initial, ir.Ref):
        return [f"{target} = {written}.clone(memory_format=torch.preserve_format)"]
    if isinstance(state.initial, (ir.Op, ir.Binary)):
        return [f"{target} = {written}"]
    return [f"{target} = ({written}).clone()"]


def _as_float(initial: ir.Expr, written: str) -> str:
    if not isinstance(initial, ir.Const):
        return f"float({written})"
    return written if written.startswith("math.") else str(float(written))


def load_state_dict(rule: ir.Rule) -> str:
    """A method that keeps the precision of host scalar states, where there are any."""
    names = [each.name for each in rule.states if each.host]
    if not names:
        return ""
    said = " and ".join(f"`{each}`" for each in names)
    keys = ", ".join(f'"{each}"' for each in names) + ("," if len(names) == 1 else "")
    lines = [
        "",
        "def load_state_dict(self, state_dict: dict[str, Any]) -> None:",
        f'    """Load as torch does, but keep the precision of {said}.',
        "",
        "    torch casts every state but `step` to the dtype of its parameter.",
        '    """',
        "    super().load_state_dict(state_dict)",
        '    saved, groups = state_dict["state"], state_dict["param_groups"]',
        '    keys = [key for group in groups for key in group["params"]]',
        '    params = [p for group in self.param_groups for p in group["params"]]',
        "    for key, p in zip(keys, params, strict=True):",
        f"        for name in ({keys}):",
        "            if name in saved.get(key, {}):",
        "                self.state[p][name] = saved[key][name].clone()",
        "",
    ]
    return "\n".join(
        part for line in lines for part in (fit(INDENT + line) if line else [""])
    )
