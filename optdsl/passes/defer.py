"""A number that multiplies a local waits until a call can take it.

In: a checked rule. Out: the same rule in which `update = exp_avg/(1 - beta1**t)` is two
locals, a tensor and the number `update_scale`, if all that reads `update` are products
and sums: there the number is torch's `alpha=` or `value=`, which costs no pass over the
memory of a tensor.
"""

from dataclasses import replace

from .. import ir
from .signs import Signs
from .terms import joined_type, with_sign

Factors = tuple[ir.Expr | None, ir.Expr | None]


def defer(rule: ir.Rule) -> ir.Rule:
    signs = Signs(rule)
    names = _assigned_outside_rounds(rule.step)
    while True:
        deferral = Deferral(names, signs, _taken(rule))
        step = deferral.block(rule.step)
        kept = (names & deferral.scaled) - deferral.misused
        if kept == names:
            return replace(rule, step=step)
        names = kept


def _assigned_outside_rounds(block: ir.Block) -> frozenset[str]:
    """The locals like the parameter that no `repeat` assigns or reads."""
    names = {
        each.target.name
        for each in ir.statements(block)
        if isinstance(each, ir.Assign)
        and each.target.role is ir.Role.LOCAL
        and (each.target.type.kind, each.target.type.element)
        == (ir.Kind.TENSOR, "number")
    }
    for each in ir.statements(block):
        if isinstance(each, ir.Unpack):
            names -= {target.name for target in each.targets}
        if isinstance(each, (ir.Repeat, ir.Each)):
            names -= ir.assigned(each.body) | {ref.name for ref in ir.reads(each)}
    return frozenset(names)


def _taken(rule: ir.Rule) -> frozenset[str]:
    names = ir.assigned(rule.step) | {each.name for each in rule.functions}
    names |= {each.name for each in (*rule.of_group, *rule.states)}
    names |= {ref.name for each in rule.step for ref in ir.reads(each)}
    return frozenset(names)


class Deferral:
    """Takes the numbers of some locals apart. Afterwards, those whose number had to be
    multiplied in are `misused`, and those that have a number are `scaled`.
    """

    def __init__(
        self, names: frozenset[str], signs: Signs, taken: frozenset[str]
    ) -> None:
        self.names = names
        self.signs = signs
        self.taken = taken
        self.misused: set[str] = set()
        self.scaled: set[str] = set()

    def block(self, block: ir.Block) -> ir.Block:
        return tuple(each for statement in block for each in self.statement(statement))

    def statement(self, statement: ir.Statement) -> list[ir.Statement]:
        match statement:
            case ir.If(condition, then, otherwise):
                self._misuse(condition)
                then, otherwise = self.block(then), self.block(otherwise)
                return [replace(statement, then=then, otherwise=otherwise)]
            case ir.Assign(target=target) if target.name in self.names:
                return self._local(statement)
            case ir.Assign(value=ir.Binary(operator="+" | "-") as value):
                return [replace(statement, value=self._sum(value))]
        self._misuse(statement)
        return [statement]

    def _misuse(self, node: ir.Node) -> None:
        self.misused |= {ref.name for ref in ir.reads(node)} & self.names

    def _local(self, statement: ir.Assign) -> list[ir.Statement]:
        target, span = statement.target, statement.span
        coefficient, rest = self.factors(statement.value)
        if rest is None:
            self.misused.add(target.name)
            return [statement]
        if coefficient is not None:
            self.scaled.add(target.name)
        scale = coefficient or ir.Const("1", ir.NUMBER, span)
        result: list[ir.Statement] = [ir.Assign(self._scale(target), scale, span)]
        if rest != target:
            result.append(ir.Assign(target, rest, span))
        return result

    def _sum(self, value: ir.Binary) -> ir.Expr:
        self._misuse(value.left)
        coefficient, rest = self.factors(value.right)
        if value.left.type.on_host or rest is None:
            self._misuse(value.right)
        elif any(ref.name in self.names for ref in ir.reads(value.right)):
            return replace(value, right=_product(coefficient, rest, value.right))
        return value

    def _scale(self, local: ir.Ref) -> ir.Ref:
        name = f"{local.name}_scale"
        while name in self.taken:
            name += "_"
        return ir.Ref(name, ir.Role.LOCAL, ir.NUMBER, local.span)

    # ---- a product as number and tensor, None for a one

    def factors(self, expr: ir.Expr) -> Factors:
        match expr:
            case _ if expr.type.on_host:
                self._misuse(expr)
                return expr, None
            case ir.Ref(name=name) if name in self.names:
                return self._scale(expr), expr
            case ir.Unary("-", operand):
                coefficient, rest = self.factors(operand)
                return with_sign(coefficient, True, expr), rest
            case ir.Binary("*", left, right):
                (number, tensor), (other, factor) = map(self.factors, (left, right))
                return (
                    _product(number, other, expr),
                    _tensor_product(tensor, factor, expr),
                )
            case ir.Binary("/", left, right):
                return self._quotient(expr, left, right)
        self._misuse(expr)
        return None, expr

    def _quotient(self, expr: ir.Binary, left: ir.Expr, right: ir.Expr) -> Factors:
        self._misuse(right)
        number, tensor = self.factors(left)
        one = ir.Const("1", ir.NUMBER, expr.span)
        if right.type.on_host and self.signs.positive(right):
            return _binary("/", number or one, right, expr), tensor
        return number, _binary("/", tensor or one, right, expr)


def _product(
    left: ir.Expr | None, right: ir.Expr | None, expr: ir.Expr
) -> ir.Expr | None:
    if left is None or right is None:
        return left or right
    return _binary("*", left, right, expr)


def _tensor_product(
    left: ir.Expr | None, right: ir.Expr | None, expr: ir.Expr
) -> ir.Expr | None:
    match left, right:
        case (None, each) | (each, None):
            return each
        case (each, ir.Binary("/", ir.Const(text="1"), divisor)):
            return _binary("/", each, divisor, expr)
        case (ir.Binary("/", ir.Const(text="1"), divisor), each):
            return _binary("/", each, divisor, expr)
    return _binary("*", left, right, expr)


def _binary(operator: str, left: ir.Expr, right: ir.Expr, like: ir.Expr) -> ir.Binary:
    return ir.Binary(operator, left, right, joined_type(left, right), like.span)
