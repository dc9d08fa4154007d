"""The trial step: torch.distributed.checkpoint steps a new optimizer with zero gradients
and a learning rate of zero, so that it makes its state. Nothing of it may stay.

In: a rule. Out: the lines that know such a step, make the state, and forget it again.
"""

from .. import ir
from .body import INDENT
from .names import keys
from .update import Update

RATE = "lr"


def _has_rate(rule: ir.Rule) -> bool:
    return any(each.name == RATE for each in rule.hypers)


def trial(rule: ir.Rule, update: Update) -> list[str]:
    """The method that knows a trial step."""
    if not _has_rate(rule):
        return []
    return [
        "",
        "def _is_trial(self) -> bool:",
        '    """Whether a step is to make the state of a new optimizer and change nothing."""',
        "    if torch.compiler.is_compiling() or self.state:",
        "        return False",
        "    return all(",
        f'        group["{RATE}"] == 0',
        '        and not any(p.grad is None or p.grad.any() for p in group["params"])',
        "        for group in self.param_groups",
        "    )",
    ]


def trial_step(rule: ir.Rule, update: Update) -> list[str]:
    """What `step` does in a trial, and in the step after one."""
    if not _has_rate(rule):
        return []
    return [
        "if self._trial:",
        "    self._trial = False",
        "    self.state.clear()",
        *(INDENT + line for line in forgotten(rule)),
        "if self._is_trial():",
        "    # torch.distributed.checkpoint asks for the state; the first step is to come.",
        "    self._trial = True",
        *(INDENT + line for line in made(rule, update)),
        "    return loss",
        "",
    ]


def made(rule: ir.Rule, update: Update) -> list[str]:
    """The lines that make the state of all parameters."""
    lists = ", ".join(["[]"] * len(update.collected))
    result = [
        "for group in self.param_groups:",
        f"    self._init_group(group, {lists})",
    ]
    result += ["self._init_shared()"] * bool(rule.shared)
    if update.first is not None:
        result += ["for state in self.state.values():"]
        result += ['    state.pop("first", None)']
    return result


def forgotten(rule: ir.Rule) -> list[str]:
    """The lines that forget what groups have got."""
    if not rule.shared:
        return []
    names = keys(each.name for each in rule.shared)
    return [
        "for group in self.param_groups:",
        f"    for name in ({names}):",
        "        group.pop(name, None)",
    ]
