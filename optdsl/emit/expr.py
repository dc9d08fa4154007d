"""Expressions as Python text: one table of precedence, the right operand one higher."""

import dataclasses
from collections.abc import Callable

from .. import ir, vocabulary

PRECEDENCE = {
    "choose": 1, "or": 2, "and": 3, "not": 4,
    "<": 5, "<=": 5, ">": 5, ">=": 5, "==": 5, "!=": 5,
    "+": 6, "-": 6, "*": 7, "/": 7, "//": 7, "%": 7, "@": 7,
    "negative": 8, "**": 9, "call": 10,
}  # fmt: skip
INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@"}
OF_TORCH = frozenset(
    "where full_like zeros_like ones_like linalg.vector_norm maximum minimum atan2 "
    "logical_and logical_or addmm".split()
)
_SPELLED = {
    "ndim": "{}.ndim", "numel": "{}.numel()", "size": "{}.shape[{}]",
    "finfo_eps": "torch.finfo({}.dtype).eps", "item": "{}.item()",
    "is_tensor": "isinstance({}, Tensor)", "is_complex": "torch.is_complex({})",
    "is_sparse": "{}.is_sparse",
}  # fmt: skip
OF_FILE = frozenset({"randn_like", "rand_like", "topk"})
_ATTRIBUTES = frozenset({"mT"})

Name = Callable[[ir.Ref], str]


def text(expr: ir.Expr, name: Name, least: int = 0) -> str:
    """The expression, in brackets where it binds less than `least`.

    `name` spells a reference.
    """
    written, precedence = _written(expr, name)
    return written if precedence >= least else f"({written})"


def entry(written: str, ref: ir.Ref, name: Name) -> str:
    """The one of a list of states that a reference is about, where it is one."""
    return written if ref.index is None else f"{written}[{text(ref.index, name)}]"


def _written(expr: ir.Expr, name: Name) -> tuple[str, int]:
    call = PRECEDENCE["call"]
    match expr:
        case ir.Const():
            return expr.text.replace("\\", "\\\\"), call
        case ir.Ref():
            return name(expr), call
        case ir.Unary(operator="not"):
            return f"not {text(expr.operand, name, PRECEDENCE['not'])}", PRECEDENCE[
                "not"
            ]
        case ir.Unary():
            return _negative(expr.operand, name)
        case ir.Binary():
            return _infix(expr.operator, expr.left, expr.right, name)
        case ir.Choose():
            then = text(expr.then, name, PRECEDENCE["or"])
            condition = text(expr.condition, name, PRECEDENCE["or"])
            otherwise = text(expr.otherwise, name, PRECEDENCE["choose"])
            return f"{then} if {condition} else {otherwise}", PRECEDENCE["choose"]
        case ir.Pack(items=items):
            inner = ", ".join(text(each, name) for each in items)
            return f"({inner}{',' * (len(items) == 1)})", call
        case ir.Index():
            at = expr.index
            at = at if isinstance(at, int) else text(at, name)
            return f"{text(expr.value, name, call)}[{at}]", call
        case ir.Call() if expr.over:
            return _put_together(expr, name), call
        case ir.Call():
            return _host_call(expr, name), call
        case ir.Invoke():
            inner = ", ".join(text(each, name) for each in expr.arguments)
            return f"_{expr.function}({inner})", call
        case ir.Op():
            return _torch_call(expr, name)
    raise AssertionError(expr)


def _negative(operand: ir.Expr, name: Name) -> tuple[str, int]:
    return f"-{text(operand, name, PRECEDENCE['negative'])}", PRECEDENCE["negative"]


def _infix(operator: str, left: ir.Expr, right: ir.Expr, name: Name) -> tuple[str, int]:
    precedence = PRECEDENCE[operator]
    if operator == "**":
        # Binds to the right, and tighter than a minus before it.
        base = text(left, name, precedence + 1)
        exponent = text(right, name, PRECEDENCE["negative"])
        space = "" if _is_word(base) and _is_word(exponent) else " "
        return f"{base}{space}**{space}{exponent}", precedence
    if "None" in (_const(left), _const(right)):
        operator = {"==": "is", "!=": "is not"}[operator]
    # Python chains comparisons, so neither side may be one without brackets.
    least = precedence + 1 if precedence == PRECEDENCE["<"] else precedence
    first, second = text(left, name, least), text(right, name, precedence + 1)
    if operator == "or":
        first, second = (
            f"({side})" if _is_and(each) else side
            for each, side in ((left, first), (right, second))
        )
    return f"{first} {operator} {second}", precedence


def _is_and(expr: ir.Expr) -> bool:
    """Whether brackets spare the reader the question of what binds tighter."""
    return isinstance(expr, ir.Binary) and expr.operator == "and"


def _is_word(written: str) -> bool:
    return written.replace(".", "").replace("_", "").isalnum()


def _const(expr: ir.Expr) -> str:
    return expr.text if isinstance(expr, ir.Const) else ""


def _put_together(call: ir.Call, name: Name) -> str:
    """A reduction of the parts of all parameters."""
    parts = text(call.arguments[0], name)
    if call.type.on_host:
        return f"{call.function}({parts})"
    if call.function == "norm":
        return f"torch.linalg.vector_norm(_stacked({parts}))"
    return f"_stacked({parts}).{call.function}()"


def _host_call(call: ir.Call, name: Name) -> str:
    if call.function == "as_tensor":
        return _as_tensor(call.arguments[0], name)
    if call.function in _SPELLED:
        axis = call.dim[0] if call.dim else ""
        if len(call.arguments) > 1:
            axis = text(call.arguments[1], name)
        operand = text(call.arguments[0], name, PRECEDENCE["call"])
        return _SPELLED[call.function].format(operand, axis)
    inner = ", ".join(text(each, name) for each in call.arguments)
    return f"{vocabulary.FUNCTIONS[call.function].host}({inner})"


def _as_tensor(number: ir.Expr, name: Name) -> str:
    """A number as a 0-d tensor: the one that it is kept in, where there is one."""
    if isinstance(number, ir.Ref) and number.role in (ir.Role.COUNT, ir.Role.STATE):
        return name(dataclasses.replace(number, type=ir.SCALAR))
    return f"torch.as_tensor({text(number, name)}, dtype=_get_scalar_dtype())"


def _torch_call(op: ir.Op, name: Name) -> tuple[str, int]:
    if op.name in INFIX and not op.in_place and not op.keywords:
        return _infix(INFIX[op.name], *op.arguments, name)
    if op.name == "neg" and not op.in_place:
        return _negative(op.arguments[0], name)
    arguments = list(op.arguments)
    keywords = [f"{key}={text(value, name)}" for key, value in op.keywords]
    if op.name == "eye":
        witness, size = (text(each, name) for each in arguments)
        of = f"dtype={witness}.dtype, device={witness}.device"
        return f"torch.eye({size}, {of})", PRECEDENCE["call"]
    if op.name in vocabulary.OF_MATRICES:
        written = [text(each, name) for each in arguments]
        return f"_{op.name}({', '.join(written)})", PRECEDENCE["call"]
    if op.in_place and op.name in ("maximum", "minimum"):
        keywords.append(f"out={text(ir.written(op), name)}")
    if op.name in OF_TORCH and not (op.in_place and not keywords):
        written = [text(each, name) for each in arguments] + keywords
        return f"torch.{op.name}({', '.join(written)})", PRECEDENCE["call"]
    if op.name in OF_FILE:
        written = ", ".join(text(each, name) for each in arguments)
        return f"_{op.name}({written})", PRECEDENCE["call"]
    receiver = text(arguments.pop(0), name, PRECEDENCE["call"])
    if op.name in _ATTRIBUTES:
        return f"{receiver}.{op.name}", PRECEDENCE["call"]
    method = op.name + "_" * op.in_place
    if op.name == "fill" and _const(arguments[0]) in ("0", "0.0"):
        method, arguments = "zero_", []
    written = [text(each, name) for each in arguments] + keywords
    return f"{receiver}.{method}({', '.join(written)})", PRECEDENCE["call"]
