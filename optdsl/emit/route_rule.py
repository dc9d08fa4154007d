"""The class of one rule of a route: it has what the class of the rule alone has, for the
param groups of the whole that are its own.
"""

from .. import ir
from . import group
from .body import INDENT
from .checks import param_checks
from .collect import init_group, old_pickles, scalars
from .hooks import hook_methods
from .link import Linked, renamed
from .names import keys
from .page import completed_scalars, indented, joined, rendered
from .shared import init_shared, same_in_all
from .signature import default, setdefaults
from .step import checked_loss, decorators, groups_step
from .trial import forgotten, made
from .update import Update, update_of

RULE = "rule.py.jinja"


def rule_class(
    route: ir.Route, name: str, targets: ir.Targets, cls: str, functions: Linked
) -> str:
    """The class of a rule, with the names that its functions have in the file."""
    rule = targets.loop
    update = update_of(targets)
    hypers = [f'"{each.name}": {default(each)},' for each in rule.hypers]
    checked = '_check_params(param_group["params"], param_group)'
    found = {
        "class_name": cls,
        "rule_name": rule.name,
        "whole": route.name,
        "rule": name,
        "hypers": indented(hypers, 2),
        "seeded": indented(group.seeded(rule), 2),
        "same_in_all": indented(same_in_all(rule), 2),
        "param_checks": indented([checked] * bool(param_checks(rule)), 2),
        "scalars": indented(completed_scalars(rule), 2),
        "setdefaults": indented([*setdefaults(rule), *group.completed(rule)], 3),
        "old_pickles": indented(old_pickles(rule), 3),
        "load_scalars": joined(_load_scalars(rule), 1),
        "init_group": joined(init_group(rule, update), 1),
        "init_shared": joined(init_shared(rule), 1),
        "trial": joined(_made(rule, update), 1),
        "decorators": indented(decorators(rule), 1),
        "step": joined([*checked_loss(rule), *groups_step(targets, update)], 2),
        "hooks": joined(hook_methods(rule), 1),
    }
    return renamed(rendered(RULE, found).rstrip(), functions.names[name])


def _made(rule: ir.Rule, update: Update) -> list[str]:
    """The methods for a step that only makes the state."""
    result = [
        "",
        "def make_state(self) -> None:",
        '    """Make the state of all parameters, and no step."""',
        *(INDENT + line for line in made(rule, update)),
    ]
    if forgets := forgotten(rule):
        result += [
            "",
            "def forget(self) -> None:",
            '    """Forget what param groups have got by that."""',
            *(INDENT + line for line in forgets),
        ]
    return result


def _load_scalars(rule: ir.Rule) -> list[str]:
    """The method that loads scalar states as they were saved."""
    names = scalars(rule)
    if not names:
        return []
    return [
        "",
        "def load_scalars(",
        "    self, loaded: dict[str, Any], saved: dict[str, Any], group: dict[str, Any]",
        ") -> None:",
        '    """Load the numbers that torch has cast to the dtype of p as they were."""',
        '    for key, p in zip(saved["params"], group["params"], strict=True):',
        '        values = loaded["state"].get(key, {})',
        f"        for name in ({keys(names)}):",
        "            if name in values:",
        "                value = float(values[name])",
        "                self.state[p][name] = _zero_dim(value, group, p)",
    ]
