"""The spec's defs, as functions of tensors and numbers that change nothing.

In: the lowered rules. Out: the lines of a module-level function for each def, or for
each form of it that a target calls.
"""

from .. import ir
from ..source import Source
from .body import INDENT, lines, one_at_a_time
from .expr import Name
from .layout import fit
from .names import Names


def functions(targets: ir.Targets) -> list[str]:
    """The lines of all defs."""
    result: list[str] = []
    source = targets.loop.source
    every = (each for rule in targets.all for each in rule.functions)
    for function in {each.name: each for each in every}.values():
        names = Names()

        def name(ref: ir.Ref, names: Names = names) -> str:
            return names.own(ref.name)

        parameters = ", ".join(
            f"{name(each)}: {_annotated(each.type)}" for each in function.parameters
        )
        result += ["", ""]
        result += fit(
            f"def _{function.name}({parameters}) -> {_annotated(function.type)}:"
        )
        body = _equation(function, source, name)
        result += [
            part for line in body for part in (fit(INDENT + line) if line else [""])
        ]
    return [*result, ""] if result else []


def _equation(function: ir.Function, source: Source, name: Name) -> list[str]:
    """The body of a def; one that is a single expression is quoted with its name."""
    (*_, last) = function.body
    if source.cut(last.span).startswith("return"):
        return lines(function.body, name, source, one_at_a_time(name))
    equation = source.cut(function.span).removeprefix("def ")
    single = one_at_a_time(name)
    body = lines(function.body, name, source, single, last.span)
    return [f"# {equation}", *body]


def _annotated(type_: ir.Type) -> str:
    if not type_.on_host:
        return "Tensor"
    written = {"flag": "bool", "text": "str", "tuple": "tuple[float, ...]"}
    return written.get(type_.element, "float") + (" | None" if type_.optional else "")
