"""Calls of a `def` become its statements, in names of their own.

In: a checked block. Out: the same without calls; a result that branches is assigned to a
local in each branch.
"""

from collections.abc import Collection
from dataclasses import replace

from .. import ir
from .names import free
from .refusal import Refusal


def inline(rule: ir.Rule, taken: set[str], called: Collection[str] = ()) -> ir.Block:
    """The step of a rule without calls of its defs, but for those that stay `called`. What
    is `taken` names something else already; the new names are taken then, too.
    """
    functions = {each.name: each for each in rule.functions if each.name not in called}
    return Inlined(functions, taken).block(rule.step)


class Inlined:
    """Writes blocks anew; `taken` are the names that there are."""

    def __init__(self, functions: dict[str, ir.Function], taken: set[str]) -> None:
        self.functions = functions
        self.taken = taken

    def block(self, block: ir.Block) -> ir.Block:
        return tuple(each for statement in block for each in self._statement(statement))

    def _statement(self, statement: ir.Statement) -> list[ir.Statement]:
        before: list[ir.Statement] = []
        match statement:
            case ir.If(condition, then, otherwise):
                condition = self._expr(condition, before)
                then, otherwise = self.block(then), self.block(otherwise)
                changed = replace(
                    statement, condition=condition, then=then, otherwise=otherwise
                )
            case ir.Each(body=body) | ir.Repeat(body=body):
                changed = replace(statement, body=self.block(body))
            case ir.Assign() | ir.Unpack():
                changed = replace(statement, value=self._expr(statement.value, before))
            case _:
                raise Refusal("such a statement")
        return [*before, changed]

    def _expr(self, expr: ir.Expr, before: list[ir.Statement]) -> ir.Expr:
        expr = ir.mapped(expr, lambda each: self._expr(each, before))
        if not isinstance(expr, ir.Invoke) or expr.function not in self.functions:
            return expr
        function = self.functions[expr.function]
        names = {
            name: free(f"{function.name}_{name}", self.taken)
            for name in dict.fromkeys(
                (
                    *(each.name for each in function.parameters),
                    *(each.name for each in ir.targets(function.body)),
                )
            )
        }

        def renamed(node: ir.Node) -> ir.Node:
            node = ir.mapped(node, renamed)
            if isinstance(node, ir.Ref) and node.name in names:
                role = ir.Role.LOCAL if node.role is not ir.Role.INDEX else node.role
                return replace(node, name=names[node.name], role=role)
            return node

        for parameter, argument in zip(
            function.parameters, expr.arguments, strict=True
        ):
            target = replace(renamed(parameter), type=argument.type)
            before.append(ir.Assign(target, argument, expr.span))
        body = tuple(renamed(each) for each in function.body)
        match body:
            case (*most, ir.Return(value)) if not any(map(_returns, most)):
                before += self.block(tuple(most))
                return self._expr(value, before)
        result = ir.Ref(
            free(function.name, self.taken), ir.Role.LOCAL, expr.type, expr.span
        )
        before += self.block(_assigned(body, result))
        return result


def _returns(statement: ir.Statement) -> bool:
    return any(isinstance(each, ir.Return) for each in ir.statements((statement,)))


def _assigned(block: ir.Block, result: ir.Ref) -> ir.Block:
    """The block with the result assigned where it was returned."""
    match block:
        case ():
            return ()
        case (ir.Return(value, span), *_):
            return (ir.Assign(result, value, span),)
        case (ir.If() as branch, *rest) if _returns(branch):
            then = _assigned((*branch.then, *rest), result)
            otherwise = _assigned((*branch.otherwise, *rest), result)
            return (replace(branch, then=then, otherwise=otherwise),)
        case (first, *rest):
            return (first, *_assigned(tuple(rest), result))
