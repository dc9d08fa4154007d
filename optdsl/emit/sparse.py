"""Sparse gradients: the step runs on the entries that the gradient holds.

In: a lowered rule. Out: the lines before and behind the equations, and those that refuse
a gradient of the other layout.
"""

from .. import ir
from .body import INDENT
from .checks import raising
from .expr import Name, text


def gathered(rule: ir.Rule, tensors: list[str]) -> list[str]:
    """`p` and its states at the entries of a sparse gradient, in memory of their own."""
    if rule.sparse is None:
        return []
    joined = ", ".join(tensors) + "," * (len(tensors) == 1)
    parts = joined if len(tensors) > 1 else f"({joined})"
    body = [
        "# Only the entries that the gradient holds take part.",
        "grad = grad.coalesce()",
        f"entries, whole = tuple(grad.indices()), ({joined})",
        "grad = grad.values()",
        "part = [each if each is None else each[entries].view_as(grad) for each in whole]",
        f"{parts} = part",
    ]
    if rule.sparse.only:
        return body
    return [
        "is_sparse = grad.is_sparse",
        "if is_sparse:",
        *(INDENT + each for each in body),
    ]


def scattered(rule: ir.Rule) -> list[str]:
    """The entries back in their places."""
    if rule.sparse is None:
        return []
    body = [
        "for each, values in zip(whole, part, strict=True):",
        "    if each is not None:",
        "        each[entries] = values",
    ]
    return (
        ["", *body]
        if rule.sparse.only
        else ["", "if is_sparse:", *(INDENT + each for each in body)]
    )


def gathered_lists(rule: ir.Rule, lists: list[str]) -> list[str]:
    """The same for lists, where every gradient is sparse."""
    if rule.sparse is None or not rule.sparse.only:
        return []
    joined = ", ".join(lists)
    columns = joined if len(lists) > 1 else f"({joined},)"
    return [
        "# Only the entries that the gradients hold take part.",
        "grads = [grad.coalesce() for grad in grads]",
        "entries = [tuple(grad.indices()) for grad in grads]",
        "grads = [grad.values() for grad in grads]",
        f"whole = list(zip({joined}, strict=True))",
        "parts = [",
        "    [each if each is None else each[at].view_as(grad) for each in tensors]",
        "    for tensors, at, grad in zip(whole, entries, grads, strict=True)",
        "]",
        f"{columns} = map(list, zip(*parts, strict=True))",
    ]


def scattered_lists(rule: ir.Rule) -> list[str]:
    """The entries of all parameters back in their places."""
    if rule.sparse is None or not rule.sparse.only:
        return []
    return [
        "",
        "for tensors, at, part in zip(whole, entries, parts, strict=True):",
        "    for each, values in zip(tensors, part, strict=True):",
        "        if each is not None:",
        "            each[at] = values",
    ]


def refusal(rule: ir.Rule, grad: str, indent: str = "") -> list[str]:
    """The lines that refuse every sparse gradient."""
    said = f'"{rule.name} does not support sparse gradients'
    raised = raising(said, error="RuntimeError", depth=3)
    return [f"{indent}if {grad}.is_sparse:", *(indent + each for each in raised)]


def refusals(rule: ir.Rule, name: Name) -> list[str]:
    """What `_init_group` says to a gradient that the rule cannot use."""
    sparse = rule.sparse
    if sparse is None:
        return refusal(rule, "grad", "    ")
    if sparse.only:
        said = {"not grad.is_sparse": "does not support dense gradients"}
    else:
        differentiable = 'grad.is_sparse and group.get("differentiable", False)'
        said = {differentiable: "is not differentiable where a gradient is sparse"}
        if sparse.when is not None:
            when = rule.source.cut(sparse.when.span)
            when = when.replace("\\", "\\\\").replace('"', "'")
            dense = ir.Unary("not", sparse.when, ir.FLAG, sparse.when.span)
            asked = f"grad.is_sparse and {text(dense, name)}"
            said[asked] = f"supports sparse gradients only where {when}"
    result = []
    for asked, reason in said.items():
        raised = raising(f'"{rule.name} {reason}', error="RuntimeError", depth=3)
        result += [f"    if {asked}:", *(INDENT + line for line in raised)]
    return result
