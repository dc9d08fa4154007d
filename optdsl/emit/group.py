"""What a param group keeps beside hypers and options: the numbers that hypers were when it
was added.

In: a rule. Out: the lines that put it into a new group and into one of an older
checkpoint, what the docstring says of it, and the functions for it.
"""

from .. import ir

AS_FLOAT = '''

def _as_float(value: Any) -> float:
    """A number, or the one in a tensor, as a float."""
    return float(value.item() if isinstance(value, Tensor) else value)
'''


def added(rule: ir.Rule) -> list[str]:
    """The last lines of `add_param_group`."""
    return [
        f'param_group["{each.name}"] = _as_float(param_group["{each.hyper.name}"])'
        for each in rule.remembered
    ]


def completed(rule: ir.Rule) -> list[str]:
    """The lines of `__setstate__` for a group without these entries."""
    return [
        f'group.setdefault("{each.name}", _as_float(group["{each.hyper.name}"]))'
        for each in rule.remembered
    ]


def said(rule: ir.Rule) -> list[str]:
    """What the docstring of the class says of each entry."""
    return [
        f"{each.name} (float): {each.hyper.name} when the group was added."
        for each in rule.remembered
    ]


def functions(rule: ir.Rule) -> str:
    """The functions that these lines call."""
    return AS_FLOAT if rule.remembered else ""
