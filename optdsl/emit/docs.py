"""Docstrings of the generated file: what the spec says of the rule, its arguments and
states.
"""

import textwrap

from .. import ir
from .body import INDENT
from .expr import text
from .group import said
from .layout import WIDTH
from .update import annotation

_OPTIONS = (
    "maximize (bool, optional): maximize the objective (default: False).",
    "foreach (bool, optional): update all tensors of a kind by one call; None does so "
    "where torch.optim does, on CUDA (default: None).",
    "capturable (bool, optional): a step can be captured in a CUDA graph (default: False).",
    "differentiable (bool, optional): autograd sees through a step (default: False).",
)
_FUSED = (
    "fused (bool, optional): update by kernels that pass over memory as few times as can "
    "be; None does so where they carry all tensors of a group (default: None)."
)
_NOT_FUSED = (
    "fused (bool, optional): there are no fused kernels in this file; foreach stands in "
    "for them (default: None)."
)


def whole(rule: ir.Rule) -> str:
    doc = rule.doc.strip() or f"{rule.name}."
    reference = f"\n\nReference: {rule.reference}" if rule.reference else ""
    return doc + reference


def docstring(content: str, indent: str) -> str:
    """A docstring that says just this, whatever it holds."""
    safe = content.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    safe = safe[:-1] + '\\"' if safe.endswith('"') else safe
    safe = "\n".join(line.rstrip() for line in safe.split("\n"))
    if "\n" not in safe and len(indent + safe) + 6 <= WIDTH:
        return f'{indent}"""{safe}"""'
    return textwrap.indent(f'"""{safe}\n"""', indent)


def class_doc(targets: ir.Targets) -> str:
    rule = targets.loop
    first = (rule.doc.strip() or f"{rule.name}.").split("\n\n")[0]
    lines = [first, "", "Args:"]
    entries = ["params (iterable): parameters, named parameters, or dicts of groups."]
    entries += [_argument(each) for each in rule.hypers]
    entries += options(targets.kernels is not None)
    lines += hanging(entries)
    states = [_state(each) for each in rule.states]
    if rule.counted:
        kept = "int" if rule.counted == "int" else "0-d tensor"
        states.insert(0, f"step: number of updates ({kept}).")
    if states:
        lines += ["", "State of a parameter, made at its first step with a gradient:"]
        lines += hanging(states)
    if kept := said(rule):
        lines += ["", "A group keeps as well, and `state_dict` with it:"]
        lines += hanging(kept)
    lines += ["", "Raises:"]
    lines += hanging(
        [
            "TypeError: a hyperparameter, of any group, is no number.",
            "ValueError: it is not allowed.",
            *["RuntimeError: a step gets no closure."]
            * (rule.reads_loss or rule.evaluates),
        ]
    )
    return "\n".join(lines)


def options(has_kernels: bool) -> list[str]:
    """What is said of the options of every optimizer."""
    return [*_OPTIONS, _FUSED if has_kernels else _NOT_FUSED]


def hanging(entries: list[str]) -> list[str]:
    """A paragraph of each entry, its later lines indented."""
    width = WIDTH - len(INDENT)
    return [
        line
        for entry in entries
        for line in textwrap.wrap(
            entry,
            width,
            initial_indent=INDENT,
            subsequent_indent=INDENT * 2,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def _argument(hyper: ir.Hyper) -> str:
    allowed = f", in {hyper.range}" if hyper.range else ""
    if hyper.choices:
        allowed = ", one of " + ", ".join(f'"{each}"' for each in hyper.choices)
    doc = f"{hyper.doc}{allowed}" if hyper.doc else allowed.removeprefix(", ")
    default = text(hyper.default, lambda ref: ref.name)
    kind = annotation(hyper)
    return f"{hyper.name} ({kind}, optional): {doc + ' ' if doc else ''}(default: {default})."


def _state(state: ir.State) -> str:
    shape = (
        "0-d tensor"
        if state.scalar or state.type.kind is ir.Kind.SCALAR
        else str(state.type.shape)
    )
    doc = f"{state.doc} ({shape})" if state.doc else shape
    if state.index is None:
        return f"{state.name}: {doc}."
    index = state.index.name
    count = text(state.count, lambda ref: ref.name)
    return f"{state.name}_{{{index}}}, for {index} in range({count}): {doc}."
