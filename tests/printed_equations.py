"""Runs equations as `optdsl explain` prints them: the plain text is made Python by its
signs alone, so that it has the meaning that a reader gives it.
"""

import ast
import math
import re
from typing import Any

import torch
from torch import Tensor

_SIGNS = {
    "·": "*", "^": "**", "≠": "!=", "≤": "<=", "≥": ">=", "∞": "inf",
    "ᵀ": ".mT", "⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")", "⟨": "dot(", "⟩": ")",
    "else if ": "elif ", " ← ": " = ", "ₜ₋₁": "", "ₜ": "", "₀": "", "₁": "",
}  # fmt: skip
_ABOVE = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def expression(text: str) -> str:
    """One expression as Python."""
    for sign, spelled in _SIGNS.items():
        text = text.replace(sign, spelled)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda it: "**" + it[0].translate(_ABOVE), text)
    text = re.sub(r"√(\w+(?:\.\w+)?)", r"sqrt(\1)", text).replace("√", "sqrt")
    text = re.sub(r"‖([^‖]*)‖", r"norm(\1)", text)
    text = re.sub(r"\|([^|]*)\|", r"abs(\1)", text)
    text = re.sub(r"(ax[ei]s) ((?:-?\d+(?:, )?)+)\)", r"dim=(\2,))", text)
    text = re.sub(r"(\w+)\((\w+), over the \w+\)", r"\1_over(\2)", text)
    text = re.sub(r" = ", " == ", text)
    words = {"none": "None", "true": "True", "false": "False"}
    return re.sub(r"\b(none|true|false)\b", lambda it: words[it[0]], text)


def program(lines: list[str]) -> str:
    """Lines of equations as Python; defs that stand last come first."""
    step, defs, into = [], [], []
    for line in lines:
        text = line.lstrip()
        indent = line.removesuffix(text)
        if match := re.fullmatch(r"repeat (.*) times:", text):
            made = f"for _ in range({expression(match[1])}):"
        elif match := re.fullmatch(r"for (.*) from 0, (.*) times:", text):
            made = f"for {expression(match[1])} in range({expression(match[2])}):"
        elif match := re.fullmatch(r"(\w+)\(([^()]*)\)( = .*|:)", text):
            into = defs
            made = f"def {match[1]}({expression(match[2])}):"
            if match[3] != ":":
                made += f" return {expression(match[3].removeprefix(' = '))}"
        elif match := re.fullmatch(r"(return|if|else if|else)\b(.*?)(:?)", text):
            made = (
                f"{match[1].replace('else if', 'elif')}{expression(match[2])}{match[3]}"
            )
        elif text.endswith(":"):
            made = "if True:"
        else:
            target, value = re.split(" [=←] ", text, maxsplit=1)
            made = f"{expression(target)} = {expression(value)}"
        into = step if into is not defs else defs
        into.append(indent + made)
    return "\n".join([*defs, *step])


class _Chosen(ast.NodeTransformer):
    """`a if c else b` by tensors is a choice element by element."""

    def visit_IfExp(self, node: ast.IfExp) -> ast.Call:
        self.generic_visit(node)
        nothing = ast.arguments([], [], None, [], [], None, [])
        sides = [ast.Lambda(nothing, each) for each in (node.body, node.orelse)]
        return ast.Call(ast.Name("choose", ast.Load()), [node.test, *sides], [])


def choose(condition: Any, then: Any, otherwise: Any) -> Any:
    if not isinstance(condition, Tensor):
        return then() if condition else otherwise()
    sides = (torch.as_tensor(each(), dtype=torch.float64) for each in (then, otherwise))
    return torch.where(condition, *sides)


def _either(name: str, of_tensor: Any, of_number: Any) -> Any:
    def function(*arguments: Any, **keywords: Any) -> Any:
        if any(isinstance(each, Tensor) for each in arguments):
            return of_tensor(*arguments, **keywords)
        return of_number(*arguments)

    return function


def _extreme(name: str) -> Any:
    between = {"max": torch.maximum, "min": torch.minimum}[name]
    reduced = {"max": torch.amax, "min": torch.amin}[name]

    def of_tensors(*arguments: Any, **keywords: Any) -> Tensor:
        if len(arguments) == 1:
            return reduced(*arguments, **_kept(keywords))
        return between(
            *(torch.as_tensor(each, dtype=torch.float64) for each in arguments)
        )

    return _either(name, of_tensors, {"max": max, "min": min}[name])


def _kept(keywords: dict[str, Any]) -> dict[str, Any]:
    """What is reduced keeps its axes, as it does in the library."""
    return {**keywords, "keepdim": True} if keywords else {}


FUNCTIONS: dict[str, Any] = {
    "choose": choose,
    "inf": math.inf,
    "sqrt": _either("sqrt", torch.sqrt, math.sqrt),
    "abs": abs,
    "max": _extreme("max"),
    "min": _extreme("min"),
    "norm": lambda x, **axes: torch.linalg.vector_norm(x, **_kept(axes)),
    "mean": lambda x, **axes: torch.mean(x, **_kept(axes)),
    "sum": lambda x, **axes: torch.sum(x, **_kept(axes)),
    # Over one parameter.
    **dict.fromkeys(("sum_over", "max_over", "min_over"), lambda x: x),
    "norm_over": abs,
    "dot": lambda x, y: (x * y).sum(),
    "sign": torch.sign,
    "exp": _either("exp", torch.exp, math.exp),
    "log": _either("log", torch.log, math.log),
    "floor": _either("floor", torch.floor, math.floor),
    "mod": lambda x, y: x % y,
    "clamp": torch.clamp,
    "bfloat16": lambda x: x.bfloat16().double(),
    "size": lambda x, axis: x.shape[axis],
    "ndim": lambda x: x.ndim,
    "numel": lambda x: x.numel(),
    "finfo_eps": lambda x: torch.finfo(x.dtype).eps,
}


def run(source: str, values: dict[str, Any]) -> None:
    """Run Python on values, which it changes."""
    tree = ast.fix_missing_locations(_Chosen().visit(ast.parse(source)))
    scope = {**FUNCTIONS, **values}
    exec(compile(tree, "equations", "exec"), scope)
    values |= scope


def value(text: str, values: dict[str, Any]) -> Any:
    """The value of an expression."""
    values = dict(values)
    run(f"result_ = {expression(text)}", values)
    return values["result_"]
