"""Tensor arithmetic to torch's own calls.

`x + c*a*b` is one addcmul, `x - c*a/b` one addcdiv, `x + c*a` an add with alpha: the
host scalars of a term are gathered into its coefficient. These are the calls that
torch.optim makes for the same equations, so the bits are the same.
"""

import dataclasses

from .. import ir
from ..source import Span
from .aliases import VIEWS
from .terms import interpolation, joined_type, split, with_sign

_SPELLED = {
    "norm": "linalg.vector_norm", "max": "amax", "min": "amin", "transpose": "mT",
}  # fmt: skip
_MADE = {"eye": "eye", "zeros": "new_zeros"}
"""Calls that take their precision and place from a tensor."""
_CLAMP = {"max": "min", "min": "max"}


OWN = ir.Ref("p", ir.Role.PARAM, ir.TENSOR, Span(0, 0))


def select(rule: ir.Rule) -> ir.Rule:
    matrices = any(_asks_for_matrices(each.condition) for each in rule.requires)
    own = Given(OWN, matrices)
    functions = tuple(
        dataclasses.replace(
            each, body=_block(each.body, Given(_witness(each), matrices))
        )
        for each in rule.functions
    )
    states = tuple(
        dataclasses.replace(
            each,
            initial=_owned(Selection(own).expr(each.initial)),
            when=each.when and Selection(own).expr(each.when),
            count=each.count and Selection(own).expr(each.count),
        )
        for each in rule.states
    )
    requires = tuple(
        dataclasses.replace(each, condition=Selection(own).expr(each.condition))
        for each in rule.requires
    )

    def selected(block: ir.Block) -> ir.Block:
        phases = any(isinstance(each, ir.Each) for each in block)
        return _block(block, Given(None, matrices) if phases else own)

    rule = ir.with_blocks(rule, selected)
    return dataclasses.replace(
        rule, functions=functions, states=states, requires=requires
    )


def _owned(initial: ir.Expr) -> ir.Expr:
    """The first value of a state in memory of its own."""
    if isinstance(initial, ir.Op) and initial.name in VIEWS:
        return ir.Op("clone", (initial,), (), initial.type, initial.span)
    return initial


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """What the calls of a block may build on: a tensor whose dtype and device numbers can
    take, and whether every parameter is a matrix.
    """

    witness: ir.Ref | None
    matrices: bool = False


def _asks_for_matrices(condition: ir.Expr) -> bool:
    match condition:
        case ir.Binary("and", left, right):
            return _asks_for_matrices(left) or _asks_for_matrices(right)
        case ir.Binary("==", ir.Call("ndim", (ir.Ref("p"),)), ir.Const("2")):
            return True
    return False


def _witness(function: ir.Function) -> ir.Ref | None:
    """A tensor whose dtype and device the numbers of a def can take."""
    tensors = [
        each
        for each in function.parameters
        if not each.type.on_host and each.type.element == "number"
    ]
    return tensors[0] if tensors else None


def _block(block: ir.Block, given: Given) -> ir.Block:
    return tuple(_statement(each, given) for each in block)


def _statement(statement: ir.Statement, given: Given) -> ir.Statement:
    match statement:
        case ir.Assign(target, value, span):
            if value.type.on_host and not target.type.on_host:
                value = Selection(given).expr(value)
                full = ir.Op("full_like", (target, value), (), target.type, span)
                return ir.Assign(target, full, span)
            if target.role in (ir.Role.PARAM, ir.Role.STATE):
                # Only a value of the same shape can be written into its memory.
                value = dataclasses.replace(value, type=_kept(target, value))
            value = Selection(given, target.name).expr(value)
            return ir.Assign(target, _shaped(target, value), span)
        case ir.Unpack(targets, value, span):
            return ir.Unpack(targets, Selection(given).expr(value), span)
        case ir.Return(value, span):
            return ir.Return(Selection(given).expr(value), span)
        case ir.If():
            return dataclasses.replace(
                statement,
                condition=Selection(given).expr(statement.condition),
                then=_block(statement.then, given),
                otherwise=_block(statement.otherwise, given),
            )
        case ir.Each(level):
            witness = OWN if level == "param" else None
            inner = dataclasses.replace(given, witness=witness)
            body = _block(statement.body, inner)
            return dataclasses.replace(statement, body=body)
        case ir.Repeat():
            body = _block(statement.body, given)
            count = Selection(given).expr(statement.count)
            return dataclasses.replace(statement, count=count, body=body)
    return statement


def _kept(target: ir.Ref, value: ir.Expr) -> ir.Type:
    known = value.type.on_host or value.type.shape.known
    return value.type if known else target.type


def _shaped(target: ir.Ref, value: ir.Expr) -> ir.Expr:
    """The value for `grad` in the shape of `grad`, which no memory gives it."""
    if target.role is not ir.Role.GRAD or value.type == target.type:
        return value
    view = ir.Op("expand_as", (value, target), (), target.type, value.span)
    return ir.Op("clone", (view,), (), target.type, value.span)


def _of_numbers(*operands: ir.Expr) -> bool:
    """Whether all are tensors of numbers, as addcmul and addcdiv want them."""
    return all(
        not each.type.on_host and each.type.element == "number" for each in operands
    )


class Selection:
    """Chooses calls for one statement; `target` is the name that it assigns."""

    def __init__(self, given: Given, target: str = "") -> None:
        self.witness = given.witness
        self.matrices = given.matrices
        self.target = target

    def expr(self, expr: ir.Expr) -> ir.Expr:
        match expr:
            case ir.Invoke():
                arguments = tuple(self.expr(each) for each in expr.arguments)
                return dataclasses.replace(expr, arguments=arguments)
            case ir.Ref() | ir.Const():
                return expr
            case ir.Call() if expr.over:
                return expr
            case _ if expr.type.on_host:
                return ir.mapped(expr, self.expr)
            case ir.Unary():
                name = "neg" if expr.operator == "-" else "logical_not"
                return self._op(name, expr, expr.operand)
            case ir.Binary(operator="+" | "-"):
                return self._sum(expr)
            case ir.Binary(operator="*"):
                return self._product(expr)
            case ir.Binary(operator="/"):
                return self._quotient(expr)
            case ir.Binary(operator="@"):
                return self._op("matmul", expr, expr.left, expr.right)
            case ir.Binary(operator="**"):
                return self._power(expr, expr.left, expr.right)
            case ir.Binary(operator="and" | "or"):
                return self._op(f"logical_{expr.operator}", expr, expr.left, expr.right)
            case ir.Binary():
                return self._infix(expr)
            case ir.Choose():
                return dataclasses.replace(
                    expr, then=self.expr(expr.then), otherwise=self.expr(expr.otherwise)
                )
            case ir.Call():
                return self._call(expr)
        return expr

    def _op(
        self, name: str, like: ir.Expr, *arguments: ir.Expr, **keywords: ir.Expr
    ) -> ir.Op:
        chosen = tuple(self.expr(each) for each in arguments)
        named = tuple((key, self.expr(each)) for key, each in keywords.items())
        return ir.Op(name, chosen, named, like.type, like.span)

    def _infix(self, expr: ir.Binary) -> ir.Binary:
        return dataclasses.replace(
            expr, left=self.expr(expr.left), right=self.expr(expr.right)
        )

    def _leads(self, expr: ir.Expr) -> bool:
        """Whether the chain of first operands starts at the target, so that the calls
        can run in its memory.
        """
        _, rest = split(expr)
        while not isinstance(rest, ir.Ref):
            match rest:
                case ir.Binary(operator="+" | "-" | "*" | "/"):
                    left, right = rest.left, rest.right
                    swapped = left.type.on_host and rest.operator in "+*"
                    _, rest = split(right if swapped else left)
                case ir.Call() if rest.arguments:
                    rest = rest.arguments[0]
                case ir.Unary():
                    rest = rest.operand
                case _:
                    return False
            if rest is None:
                return False
        return rest.name == self.target

    # ---- x + term, x - term

    def _sum(self, expr: ir.Binary) -> ir.Expr:
        base, term, minus = expr.left, expr.right, expr.operator == "-"
        if base.type.on_host and minus:
            return self._infix(expr)
        if base.type.on_host or (
            not minus
            and not term.type.on_host
            and self._leads(term)
            and not self._leads(base)
        ):
            base, term = term, base
        if term.type.on_host:
            return self._op("sub" if minus else "add", expr, base, term)
        coefficient, rest = split(term)
        if rest is None:
            return self._op("sub" if minus else "add", expr, base, term)
        match rest:
            case ir.Binary(operator="*" | "/") if _of_numbers(rest.left, rest.right):
                name = "addcmul" if rest.operator == "*" else "addcdiv"
                scale = with_sign(coefficient, minus, term)
                keywords = {"value": scale} if scale else {}
                return self._op(name, expr, base, rest.left, rest.right, **keywords)
            case ir.Binary("@", left, right) if self.matrices and not base.type.on_host:
                return self._addmm(expr, base, left, right, coefficient, minus)
        if coefficient is None:
            return self._op("sub" if minus else "add", expr, base, rest)
        return self._op(
            "add", expr, base, rest, alpha=with_sign(coefficient, minus, term)
        )

    def _addmm(
        self,
        expr: ir.Binary,
        base: ir.Expr,
        left: ir.Expr,
        right: ir.Expr,
        coefficient: ir.Expr | None,
        minus: bool,
    ) -> ir.Op:
        """`beta*base + alpha*left@right`, in one call for matrices."""
        beta, rest = split(base)
        keywords = {"beta": beta, "alpha": with_sign(coefficient, minus, expr)}
        keywords = {name: each for name, each in keywords.items() if each is not None}
        return self._op("addmm", expr, rest, left, right, **keywords)

    # ---- products, quotients, powers

    def _product(self, expr: ir.Binary) -> ir.Expr:
        coefficient, rest = split(expr)
        if coefficient is not None and rest is not None:
            return self._op("mul", expr, rest, coefficient)
        left, right = expr.left, expr.right
        if left.type.element == "flag" or (
            self._leads(right) and not self._leads(left)
        ):
            left, right = right, left
        return self._op("mul", expr, left, right)

    def _quotient(self, expr: ir.Binary) -> ir.Expr:
        if expr.left.type.on_host:
            return self._infix(expr)
        coefficient, rest = split(expr.left)
        if expr.right.type.on_host and coefficient is not None and rest is not None:
            scale = ir.Binary("/", coefficient, expr.right, ir.NUMBER, expr.span)
            return self._op("mul", expr, rest, scale)
        return self._op("div", expr, expr.left, expr.right)

    def _power(self, expr: ir.Expr, base: ir.Expr, exponent: ir.Expr) -> ir.Expr:
        if isinstance(exponent, ir.Const) and exponent.text == "2":
            return self._op("square", expr, base)
        if base.type.on_host:
            return ir.Binary("**", base, self.expr(exponent), expr.type, expr.span)
        return self._op("pow", expr, base, exponent)

    # ---- functions

    def _call(self, call: ir.Call) -> ir.Expr:
        name, arguments = call.function, call.arguments
        if name in _MADE and self.witness is not None:
            return self._op(_MADE[name], call, self.witness, *arguments)
        if name in ("sum", "mean", "norm", "any", "all", "dot") or len(arguments) == 1:
            if name in ("as_tensor", "item"):
                inner = tuple(self.expr(each) for each in arguments)
                return dataclasses.replace(call, arguments=inner)
            return self._unary_or_reduction(call)
        match name, arguments:
            case (("max" | "min"), (x, y)):
                return self._extreme(call, x, y)
            case "clamp", (x, low, high):
                return self._op("clamp", call, x, min=low, max=high)
            case "lerp", (start, end, weight):
                if start.type.on_host or end.type.on_host:
                    return self.expr(interpolation(call, start, end, weight))
                return self._op("lerp", call, start, end, weight)
            case "where", (condition, x, y):
                if x.type.on_host and y.type.on_host:
                    x = self._tensor(x)
                return self._op("where", call, condition, x, y)
            case "pow", (x, exponent):
                return self._power(call, x, exponent)
            case "argsort", (x, descending):
                stable = ir.Const("True", ir.FLAG, call.span)
                return self._op(name, call, x, descending=descending, stable=stable)
            case "atan2", (y, x):
                return self._op(name, call, self._tensor(y), self._tensor(x))
        return self._op(name, call, *arguments)

    def _unary_or_reduction(self, call: ir.Call) -> ir.Expr:
        name, arguments = call.function, call.arguments
        keywords = {}
        if call.dim is not None:
            text = str(call.dim if len(call.dim) > 1 else call.dim[0])
            keywords["dim"] = ir.Const(text, ir.NUMBER, call.span)
            if call.keepdim:
                keywords["keepdim"] = ir.Const("True", ir.FLAG, call.span)
        if name == "dot":
            both = ir.Binary("*", *arguments, joined_type(*arguments), call.span)
            return self._op("sum", call, both)
        torch_name = _SPELLED.get(name, name)
        return self._op(torch_name, call, *arguments, **keywords)

    def _extreme(self, call: ir.Call, x: ir.Expr, y: ir.Expr) -> ir.Expr:
        name = call.function
        if x.type.on_host or y.type.on_host:
            tensor, limit = (y, x) if x.type.on_host else (x, y)
            return self._op("clamp", call, tensor, **{_CLAMP[name]: limit})
        if self._leads(y) and not self._leads(x):
            x, y = y, x
        return self._op(f"{name}imum", call, x, y)

    def _tensor(self, expr: ir.Expr) -> ir.Expr:
        """A number as a 0-d tensor of the witness's dtype, where there is one."""
        if not expr.type.on_host or self.witness is None:
            return expr
        empty = ir.Pack((), ir.Type(element="tuple"), expr.span)
        return ir.Op("new_full", (self.witness, empty, expr), (), ir.SCALAR, expr.span)
