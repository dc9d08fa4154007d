"""`x = a if c else b` becomes `if c: x = a` and `else: x = b`, for tensors."""

import dataclasses

from .. import ir


def branch(rule: ir.Rule) -> ir.Rule:
    return ir.with_blocks(rule, _block)


def _computes(choice: ir.Choose) -> bool:
    """Whether there is more to a choice of tensors than their names."""
    sides = (choice.then, choice.otherwise)
    named = all(isinstance(each, ir.Ref) for each in sides)
    return not choice.type.on_host and not named


def _block(block: ir.Block) -> ir.Block:
    return tuple(_statement(each) for each in block)


def _statement(statement: ir.Statement) -> ir.Statement:
    match statement:
        case ir.Assign(target, ir.Choose() as choice, span) if _computes(choice):
            then = ir.Assign(target, choice.then, span)
            otherwise = ir.Assign(target, choice.otherwise, span)
            return ir.If(choice.condition, _block((then,)), _block((otherwise,)), span)
        case ir.If():
            return dataclasses.replace(
                statement,
                then=_block(statement.then),
                otherwise=_block(statement.otherwise),
            )
        case ir.Repeat() | ir.Each():
            return dataclasses.replace(statement, body=_block(statement.body))
    return statement
