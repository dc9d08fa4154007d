"""What the host decides where only some values are known: the hypers, the number of axes.

In: a checked rule and what is known. Out: the rule with every choice made that this
decides, all others left as they are.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import ir, vocabulary
from ..evaluate import evaluate


class Undecided(Exception):
    """The value depends on what is not known."""


@dataclass(frozen=True, slots=True)
class Known:
    """Values by name, and the number of axes of the parameter where that is known."""

    values: Mapping[str, Any]
    axes: int | None = None

    def with_(self, values: Mapping[str, Any]) -> "Known":
        return dataclasses.replace(self, values={**self.values, **values})

    def without(self, names: set[str]) -> "Known":
        left = {name: value for name, value in self.values.items() if name not in names}
        return dataclasses.replace(self, values=left)

    def value(self, expr: ir.Expr) -> Any:
        """The value of a host expression.

        Raises:
            Undecided: it is not known, or there is none.
        """
        match expr:
            case ir.Binary(operator="and" | "or" as operator):
                return self._either(expr, operator == "or")
            case ir.Unary("not", operand):
                return not self.value(operand)
        try:
            return evaluate(expr, self._leaf)
        except (ArithmeticError, ValueError, TypeError, LookupError):
            raise Undecided from None

    def _either(self, expr: ir.Binary, decisive: bool) -> bool:
        """One side that is decisive is enough."""
        sides = []
        for side in (expr.left, expr.right):
            try:
                sides.append(bool(self.value(side)))
            except Undecided:
                sides.append(None)
        if decisive in sides:
            return decisive
        if None in sides:
            raise Undecided
        return not decisive

    def _leaf(self, expr: ir.Expr) -> Any:
        match expr:
            case ir.Ref(name=name) if name in self.values:
                if expr.index is None:
                    return self.values[name]
            case ir.Call("ndim", (x,)) if self.axes is not None:
                if x.type.shape == ir.LIKE_PARAM:
                    return self.axes
        raise Undecided

    def decides(self, condition: ir.Expr | None) -> bool | None:
        """Whether a condition holds; None where that is not known."""
        if condition is None:
            return True
        if not condition.type.on_host:
            return None
        try:
            return bool(self.value(condition))
        except Undecided:
            return None


def defaults(rule: ir.Rule, set_: Mapping[str, Any], axes: int | None = None) -> Known:
    """The hypers of a rule, those that are set and the others by default; the options
    that every optimizer has are off.
    """
    known = Known(dict.fromkeys(vocabulary.FLAGS, False), axes)
    values = {each.name: known.value(each.default) for each in rule.hypers}
    values |= set_
    # The first values of hypers, which a group keeps.
    first = {each.name: values[each.hyper.name] for each in rule.remembered}
    return known.with_(values | first)


def decided(rule: ir.Rule, known: Known) -> ir.Rule:
    """The rule without the choices, branches and states that are decided."""
    states = tuple(
        dataclasses.replace(each, when=None if known.decides(each.when) else each.when)
        for each in rule.states
        if known.decides(each.when) is not False
    )
    rule = dataclasses.replace(rule, states=states)
    inside = Known({}, known.axes)
    functions = tuple(
        dataclasses.replace(each, body=_Decider(inside).block(each.body))
        for each in rule.functions
    )

    def hook(each: ir.Hook) -> ir.Hook:
        return dataclasses.replace(each, body=_Decider(known).block(each.body))

    return dataclasses.replace(
        rule,
        functions=functions,
        step=_Decider(known).block(rule.step),
        **{kind: tuple(map(hook, getattr(rule, kind))) for kind in ir.HOOKS},
    )


@dataclass
class _Decider:
    """Goes through a block and learns the values of its locals."""

    known: Known

    def block(self, block: ir.Block) -> ir.Block:
        return tuple(each for statement in block for each in self.statement(statement))

    def statement(self, statement: ir.Statement) -> ir.Block:
        match statement:
            case ir.Assign(target, value):
                value = self.expression(value)
                self._learn((target,), value, single=True)
                return (dataclasses.replace(statement, value=value),)
            case ir.Unpack(names, value):
                value = self.expression(value)
                self._learn(names, value, single=False)
                return (dataclasses.replace(statement, value=value),)
            case ir.Return(value):
                return (dataclasses.replace(statement, value=self.expression(value)),)
            case ir.If():
                return self._if(statement)
            case _ if hasattr(statement, "body"):
                again = {each.name for each in ir.targets(statement.body)}
                self.known = self.known.without(again)
                body = self.block(statement.body)
                self.known = self.known.without(again)
                return (dataclasses.replace(statement, body=body),)
        return (statement,)

    def _learn(self, names: tuple[ir.Ref, ...], value: ir.Expr, single: bool) -> None:
        self.known = self.known.without({each.name for each in names})
        if not value.type.on_host:
            return
        try:
            found = self.known.value(value)
        except Undecided:
            return
        items = (found,) if single else found
        pairs = zip(names, items, strict=True)
        self.known = self.known.with_({each.name: item for each, item in pairs})

    def _if(self, statement: ir.If) -> ir.Block:
        chosen = self.known.decides(statement.condition)
        if chosen is not None:
            return self.block(statement.then if chosen else statement.otherwise)
        before = self.known
        then, after = self.block(statement.then), self.known
        self.known = before
        otherwise = self.block(statement.otherwise)
        differ = {
            each.name for each in ir.targets((*statement.then, *statement.otherwise))
        }
        differ = {
            name
            for name in differ
            if after.values.get(name, after) != self.known.values.get(name, self)
        }
        self.known = self.known.without(differ)
        condition = self.expression(statement.condition)
        return (ir.If(condition, then, otherwise, statement.span),)

    def expression(self, expr: ir.Expr) -> ir.Expr:
        if isinstance(expr, ir.Choose):
            chosen = self.known.decides(expr.condition)
            if chosen is not None:
                return self.expression(expr.then if chosen else expr.otherwise)
        return ir.mapped(expr, self.expression)
