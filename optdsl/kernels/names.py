"""Names for what a step says without one."""

from .. import ir


def taken(rule: ir.Rule) -> set[str]:
    """The names that the step of a rule has, or may not have."""
    found = {each.name for each in (*rule.of_group, *rule.states)} | {"p", "grad", "t"}
    return found | {ref.name for each in rule.step for ref in ir.mentions(each)}


def free(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where it is taken; it is taken then."""
    fresh, number = name, 2
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    taken.add(fresh)
    return fresh
