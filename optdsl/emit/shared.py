"""What a group, or the whole model, has one of: 0-d tensors in the param groups, so that
`state_dict` holds them as they are, and hypers that are the same in all groups.

In: a rule. Out: lines of the methods that make and check them.
"""

from .. import ir
from ..evaluate import literal
from .expr import text
from .names import keys


def init_shared(rule: ir.Rule) -> list[str]:
    """The lines of the method that makes what is not there yet."""
    if not rule.shared:
        return []
    values = [f'"{each.name}": {_number(each.initial)},' for each in rule.shared]
    result = [
        "",
        "def _init_shared(self) -> None:",
        '    """Make the numbers of groups and of the model, next to the parameters."""',
        '    p = next(p for group in self.param_groups for p in group["params"])',
        "    dtype = torch.promote_types(_get_scalar_dtype(), p.real.dtype)",
        "    for group in self.param_groups:",
        "        new = {",
        *(f"            {each}" for each in values),
        "        }",
        "        for name, value in new.items():",
        "            if name not in group:",
        "                group[name] = torch.tensor(value, dtype=dtype)",
        "            group[name] = group[name].to(p.device)",
    ]
    of_model = [each.name for each in rule.shared if each.place == "model"]
    if of_model:
        result += [
            f"    for name in ({keys(of_model)}):",
            "        for group in self.param_groups:",
            "            group[name] = self.param_groups[0][name]",
        ]
    return result


def _number(initial: ir.Expr) -> str:
    if isinstance(initial, ir.Const):
        value = literal(initial)
        return initial.text if initial.text.startswith("math.") else str(float(value))
    return f"float({text(initial, _of_group)})"


def _of_group(ref: ir.Ref) -> str:
    return f'group["{ref.name}"]'


def same_in_all(rule: ir.Rule) -> list[str]:
    """The lines that refuse a group with a hyper of its own where the model has one."""
    if not rule.of_model:
        return []
    return [
        "for group in self.param_groups[:1]:",
        f"    for name in ({keys(rule.of_model)}):",
        "        if param_group.setdefault(name, group[name]) != group[name]:",
        '            given = f"Invalid {name}: {param_group[name]!r}, "',
        '            raise ValueError(f"{given}expected the same in all groups")',
    ]
