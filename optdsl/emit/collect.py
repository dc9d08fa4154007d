"""`_init_group`: collects what the loop reads, and makes a parameter's state when it
first has a gradient.
"""

from .. import ir
from ..evaluate import literal
from .body import INDENT
from .differentiable import possible
from .expr import Name, text
from .layout import fit
from .names import keys
from .randoms import of_update
from .signature import option
from .sparse import refusals
from .update import Column, Update


def init_group(rule: ir.Rule, update: Update) -> list[str]:
    """The lines of the method."""
    columns = update.collected
    parameters = [f"    {each.items}: {each.annotation}," for each in columns]
    result = [
        "def _init_group(",
        "    self,",
        "    group: dict[str, Any],",
        *parameters,
    ]
    result.append(") -> None:")
    stateful = bool(rule.own or rule.counted)
    makes = ", and make the state of new parameters" if stateful else ""
    result.append(f'    """Collect what has a gradient{makes}."""')
    loop = 'for p in group["params"]:'
    if rule.random:
        loop = 'for at, p in enumerate(group["params"]):'
    body = [loop, "    grad = p.grad", "    if grad is None:", "        continue"]
    body += refusals(rule, _name(rule))
    body += _complex_refusal(rule)
    if stateful:
        body += [INDENT + line if line else "" for line in _states(rule, update)]
    changed = any(map(_reads_grad, rule.own))
    values = {"p.grad": "p.grad" if changed else "grad"}
    body += [
        f"    {each.items}.append({values.get(each.value, each.value)})"
        for each in columns
    ]
    return result + [INDENT + line if line else "" for line in body]


def _complex_refusal(rule: ir.Rule) -> list[str]:
    if rule.pairs:
        return []
    return [
        "    if torch.is_complex(p):",
        f'        raise RuntimeError("{rule.name} does not support complex parameters")',
    ]


def _name(
    rule: ir.Rule, is_new: bool = False, param: str = "p", index: str = ""
) -> Name:
    """How `_init_group` spells names, and the index of a list of states."""

    def name(ref: ir.Ref) -> str:
        match ref.role:
            case ir.Role.SEED:
                return of_update(rule, is_new)
            case ir.Role.PARAM:
                return param
            case ir.Role.HYPER:
                return f'group["{ref.name}"]'
            case ir.Role.STATE if ref.index is not None:
                return f'state[f"{ref.name}_{{{text(ref.index, name)}}}"]'
            case ir.Role.STATE:
                return f'state["{ref.name}"]' + (".item()" if ref.type.on_host else "")
            case ir.Role.INDEX:
                return index or ref.name
        return ref.name

    return name


def _states(rule: ir.Rule, update: Update) -> list[str]:
    name = _name(rule)
    conditions = [
        text(each.when, name, 3)
        for each in rule.own
        if each.when is not None and each.index is None
    ]
    early = ir.early(rule)
    always = [each for each in rule.own if each.when is None and each.index is None]
    always = [each for each in always if each not in early]
    several = any(each.index is not None for each in rule.own)
    result, new = ["state = self.state[p]"], "len(state) == 0"
    if early:
        new = f"state.keys() <= {without_update(rule)}"
    if not (always or rule.counted or several or early):
        # A parameter none of whose states is wanted gets no entry at all.
        wanted = " or ".join(dict.fromkeys(conditions))
        result = [f"state = self.state[p] if {wanted} else {{}}"]
        new = (
            f"{wanted} and {new}"
            if len({*conditions}) == 1
            else f"({wanted}) and {new}"
        )
    if any(_reads_grad(each) for each in rule.own):
        asked = option(rule, "maximize")
        result.append(f"grad = p.grad if not {asked} else -p.grad")
    making = ['state["first"] = True'] * (update.first is not None)
    if rule.counted == "int":
        making.append('state["step"] = 0')
    elif rule.counted:
        making.append('state["step"] = _zero_dim(0.0, group, p)')
    making += [line for each in always for line in _making(each, rule, is_new=True)]
    if making:
        result.append(f"if {new}:")
        result += [INDENT + line for line in making]
    for each in early:
        result += made_early(each, rule, "p")
    if rule.counted == "int":
        result.append('state["step"] += 1')
    for column in update.columns:
        state = column.state
        if state is not None and column.listed:
            result += _made_entries(column, rule)
        elif state is not None and state.when is not None:
            condition = text(state.when, name, 4)
            result.append(f'if {condition} and "{state.name}" not in state:')
            result += [INDENT + line for line in _making(state, rule)]
    return result


def without_update(rule: ir.Rule) -> str:
    """The keys that the state of a parameter has at most before its first update."""
    names = ", ".join(f'"{each.name}"' for each in ir.early(rule))
    return f"{{{names}}}"


def made_early(state: ir.State, rule: ir.Rule, param: str) -> list[str]:
    """The lines that make a state of a hook, where it is not there yet."""
    made = _made(state, rule, _name(rule, param=param), param=param)
    return [f'if "{state.name}" not in state:', *(INDENT + line for line in made)]


def _made_entries(column: Column, rule: ir.Rule) -> list[str]:
    """The lines that make those of a list of states that there are not yet."""
    state, name = column.state, _name(rule, index=column.index)
    asked = f'f"{state.name}_{{{column.index}}}" not in state'
    if state.when is not None:
        asked = f"{text(state.when, name, 4)} and {asked}"
    made = _making(state, rule, index=column.index)
    return [
        f"for {column.index} in range({text(state.count, name)}):",
        f"    if {asked}:",
        *(INDENT * 2 + line for line in made),
    ]


def _reads_grad(state: ir.State) -> bool:
    return any(ref.role is ir.Role.GRAD for ref in ir.reads(state.initial))


def _computes_with_p(state: ir.State) -> bool:
    """Whether the first value of a state is a tensor, made from p by more than a copy."""
    if state.scalar or state.initial.type.on_host or isinstance(state.initial, ir.Ref):
        return False
    return any(ref.role is ir.Role.PARAM for ref in ir.reads(state.initial))


def _making(
    state: ir.State, rule: ir.Rule, is_new: bool = False, index: str = ""
) -> list[str]:
    """The lines that make a state. Where it is computed with p, which the update changes,
    autograd needs a copy: it keeps what the state was computed from.
    """
    target = f'state[f"{state.name}_{{{index}}}"]' if index else ""
    if not (possible(rule) and _computes_with_p(state)):
        return _made(state, rule, _name(rule, is_new, index=index), target)
    copied = f"start = p.clone() if {option(rule, 'differentiable')} else p"
    return [copied, *_made(state, rule, _name(rule, is_new, "start", index), target)]


def _made(
    state: ir.State, rule: ir.Rule, name: Name, target: str = "", param: str = "p"
) -> list[str]:
    """The lines that make a state, in memory of its own."""
    target = target or f'state["{state.name}"]'
    written = text(state.initial, name)
    if state.scalar:
        value = _as_float(state.initial, written)
        return [f"{target} = _zero_dim({value}, group, p)"]
    if state.initial.type.on_host:
        kept = "memory_format=torch.preserve_format"
        if isinstance(state.initial, ir.Const) and not literal(state.initial):
            return [f"{target} = torch.zeros_like({param}, {kept})"]
        if not rule.pairs:
            return [f"{target} = torch.full_like({param}, {written}, {kept})"]
        return [
            f"fill = {written}",
            f"if torch.is_complex({param}):",
            "    fill = complex(fill, fill)",
            f"{target} = torch.full_like({param}, fill, {kept})",
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


def zero_dim(rule: ir.Rule, has_kernels: bool) -> str:
    """The function that makes the 0-d tensors of the state, where there are any."""
    if rule.counted != "tensor" and not any(each.scalar for each in rule.own):
        return ""
    near = option(rule, "capturable")
    if not has_kernels:
        return ZERO_DIM.format(near)
    return ZERO_DIM_NEAR.format(near)


ZERO_DIM = '''

def _zero_dim(value: float, group: dict[str, Any], p: Tensor) -> Tensor:
    """A number as a tensor: on the CPU, unless steps are to be captured."""
    device = p.device if {} else None
    return torch.tensor(value, dtype=_get_scalar_dtype(), device=device)
'''


ZERO_DIM_NEAR = '''

def _zero_dim(value: float, group: dict[str, Any], p: Tensor) -> Tensor:
    """A number as a tensor: on the CPU, unless steps are to be captured, or kernels on
    the parameter's device read it.
    """
    near = {}
    if _KERNELS:
        near = near or _KERNELS.has_numbers_near(group, p)
    device = p.device if near else None
    return torch.tensor(value, dtype=_get_scalar_dtype(), device=device)
'''


def old_pickles(rule: ir.Rule) -> list[str]:
    """The lines of `__setstate__` for states whose numbers were kept in another form."""
    if rule.counted == "int":
        return [
            'for p in group["params"]:',
            "    if p in self.state:",
            '        self.state[p]["step"] = int(self.state[p]["step"])',
        ]
    names = ["step"] * bool(rule.counted) + scalars(rule)
    if not names:
        return []
    return [
        'for p in group["params"]:',
        "    state = self.state.get(p, {})",
        f"    for name in ({keys(names)}):",
        "        if name in state and not isinstance(state[name], Tensor):",
        "            state[name] = _zero_dim(float(state[name]), group, p)",
    ]


def scalars(rule: ir.Rule) -> list[str]:
    """The states that are one number a parameter."""
    return [each.name for each in rule.own if each.scalar]


LOAD_STATE_DICT = '''
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does, but keep the precision of {said}.

        torch casts every state but `step` to the dtype of its parameter.
        """

        def note(_: Optimizer, state_dict: dict[str, Any]) -> None:
            loaded.update(state_dict)

        def keep(_: Optimizer) -> None:
            pairs = zip(loaded["param_groups"], self.param_groups, strict=True)
            for saved, group in pairs:
                for key, p in zip(saved["params"], group["params"], strict=True):
                    values = loaded["state"].get(key, {{}})
                    for name in ({keys}):
                        if name in values:
                            value = _zero_dim(float(values[name]), group, p)
                            self.state[p][name] = value

        loaded: dict[str, Any] = {{}}
        hooks = [
            self.register_load_state_dict_pre_hook(note),
            self.register_load_state_dict_post_hook(keep, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()
'''


def load_state_dict(rule: ir.Rule) -> str:
    """A method that keeps the precision of scalar states, where there are any."""
    names = scalars(rule)
    if not names:
        return ""
    said = " and ".join(f"`{each}`" for each in names)
    method = LOAD_STATE_DICT.format(said=said, keys=keys(names))
    lines = (fit(line) if line else [""] for line in method.split("\n"))
    return "\n".join(part for each in lines for part in each)
