"""Host statements that depend on hypers alone move in front of the loop."""

import dataclasses

from .. import ir

_OF_THE_GROUP = (ir.Const, ir.Unary, ir.Binary, ir.Choose, ir.Pack, ir.Index, ir.Ref)


def hoist(rule: ir.Rule) -> ir.Rule:
    if rule.in_phases:
        return rule  # Its phases have the host work of groups in its place.
    assigned = [
        target.name
        for statement in ir.statements(rule.step)
        for target in _targets(statement)
    ]
    known = {each.name for each in rule.of_group}
    prologue, step = [], []
    for statement in rule.step:
        targets = [each.name for each in _targets(statement)]
        own = isinstance(statement, (ir.Assign, ir.Unpack)) and all(
            each.role is ir.Role.LOCAL for each in _targets(statement)
        )
        once = own and targets and all(assigned.count(each) == 1 for each in targets)
        if once and _of_the_group(statement.value, known):
            known |= set(targets)
            prologue.append(statement)
        else:
            step.append(statement)
    return dataclasses.replace(rule, prologue=tuple(prologue), step=tuple(step))


def _targets(statement: ir.Statement) -> tuple[ir.Ref, ...]:
    match statement:
        case ir.Assign():
            return (statement.target,)
        case ir.Unpack():
            return statement.targets
        case ir.Repeat(target=ir.Ref() as target):
            return (target,)
    return ()


def _of_the_group(value: ir.Expr, known: set[str]) -> bool:
    return all(
        isinstance(each, _OF_THE_GROUP)
        or (isinstance(each, ir.Call) and each.type.on_host)
        for each in ir.walk(value)
    ) and all(each.name in known for each in ir.reads(value))
