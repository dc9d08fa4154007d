"""What a param group keeps beside hypers and options: the numbers that hypers were when it
was added, the seed of its random numbers, its mode, and how often hooks have run.

In: a rule. Out: the lines that put it into a new group and into one of an older
checkpoint, what the docstring says of it, and the functions for it.
"""

from .. import ir, vocabulary
from .hooks import TRAIN
from .randoms import SEED

AS_FLOAT = '''

def _as_float(value: Any) -> float:
    """A number, or the one in a tensor, as a float."""
    return float(value.item() if isinstance(value, Tensor) else value)
'''


def seeded(rule: ir.Rule) -> list[str]:
    """The lines of `add_param_group` before the group is added."""
    result = []
    if rule.random:
        result += [
            f'if "{SEED}" not in param_group:',
            f'    param_group["{SEED}"] = _new_seed()',
            f'_check_int("{SEED}", param_group["{SEED}"])',
        ]
    if rule.modes:
        result.append(f'modes = [group["{TRAIN}"] for group in self.param_groups]')
        result.append(f'param_group.setdefault("{TRAIN}", all(modes))')
    for key in _counts(rule).values():
        result.append(f'calls = [group["{key}"] for group in self.param_groups]')
        result.append(f'param_group.setdefault("{key}", max(calls, default=0))')
    return result


def _counts(rule: ir.Rule) -> dict[str, str]:
    """The hooks that count their runs, and the keys of the counts."""
    names = [each.name for each in rule.pre_steps if ir.counts(each)]
    return {name: vocabulary.calls_key(name) for name in names}


def added(rule: ir.Rule) -> list[str]:
    """The last lines of `add_param_group`."""
    return [
        f'param_group["{each.name}"] = _as_float(param_group["{each.hyper.name}"])'
        for each in rule.remembered
    ]


def completed(rule: ir.Rule) -> list[str]:
    """The lines of `__setstate__` for a group without these entries."""
    result = [
        f'group.setdefault("{each.name}", _as_float(group["{each.hyper.name}"]))'
        for each in rule.remembered
    ]
    if rule.random:
        result += [f'if "{SEED}" not in group:', f'    group["{SEED}"] = _new_seed()']
    if rule.modes:
        result.append(f'group.setdefault("{TRAIN}", True)')
    result += [f'group.setdefault("{key}", 0)' for key in _counts(rule).values()]
    return result


def said(rule: ir.Rule) -> list[str]:
    """What the docstring of the class says of each entry."""
    result = [
        f"{each.name} (float): {each.hyper.name} when the group was added."
        for each in rule.remembered
    ]
    if rule.modes:
        result.append(
            f"{TRAIN} (bool): whether the parameters are those of training, which `train()` "
            "and `eval()` set."
        )
    for hook, key in _counts(rule).items():
        result.append(f"{key} (int): how often `{hook}` has run.")
    if rule.random:
        result.append(
            f"{SEED} (int): where its random numbers start; drawn from torch's default "
            "generator when the group is added without one."
        )
    return result


def functions(rule: ir.Rule) -> str:
    """The functions that these lines call."""
    return AS_FLOAT if rule.remembered else ""
