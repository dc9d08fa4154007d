"""Defs of one name mean one thing in all targets of a rule.

A def whose arguments are numbers in one target and tensors in another, or whose calls are
in place in one alone, is several functions, each with a name of its own.
"""

from dataclasses import replace
from itertools import count

from .. import ir


def distinct(rules: list[ir.Rule]) -> list[ir.Rule]:
    """The rules, with another name for each def that is another one in a rule before."""
    taken = {each.name for rule in rules for each in rule.functions}
    variants: dict[str, list[ir.Function]] = {}
    return [_distinct(rule, variants, taken) for rule in rules]


def _distinct(
    rule: ir.Rule, variants: dict[str, list[ir.Function]], taken: set[str]
) -> ir.Rule:
    names: dict[str, str] = {}
    functions = []
    for each in rule.functions:
        function = replace(each, body=_renamed_block(each.body, names))
        known = variants.setdefault(each.name, [])
        same = (one for one in known if replace(one, name=each.name) == function)
        found = next(same, None)
        if found is None:
            name = _free_name(each.name, taken) if known else each.name
            found = replace(function, name=name)
            known.append(found)
            taken.add(name)
        names[each.name] = found.name
        functions.append(found)
    rule = ir.with_blocks(rule, lambda block: _renamed_block(block, names))
    return replace(rule, functions=tuple(functions))


def _free_name(name: str, taken: set[str]) -> str:
    numbered = (f"{name}_{number}" for number in count(2))
    return next(each for each in numbered if each not in taken)


def _renamed_block(block: ir.Block, names: dict[str, str]) -> ir.Block:
    return tuple(_renamed(each, names) for each in block)


def _renamed(node: ir.Node, names: dict[str, str]) -> ir.Node:
    node = ir.mapped(node, lambda each: _renamed(each, names))
    if isinstance(node, ir.Invoke):
        return replace(node, function=names[node.function])
    return node
