"""What docs/language.md says of the vocabulary and of the diagnostics, as Markdown."""

from collections.abc import Iterator

from ..codes import CODES
from ..vocabulary import EXTREMES, FUNCTIONS, Function

GROUPS = {
    "Element by element": ("elementwise", "compared"),
    "Reductions": ("reduction",),
    "Tensors like another": ("created", "drawn"),
    "Another layout or precision, and the largest entries": ("viewed", "largest"),
    "Shapes, known to the host": ("shape", "length"),
    "Between host and device": ("item", "as_tensor", "remembered"),
    "By the closure, in `pre_step` alone": ("evaluated",),
    "Asked in `require` and `sparse_grads when` alone": ("asked",),
    "Layouts and matrices": ("layout", "made", "parts"),
}
"""What the kinds of functions are called, and the groups that each has."""

_HEAD = ("function", "meaning", "shape of its value", "source")


def functions() -> str:
    """A table of the built-in functions, a row for each below a row for its kind."""
    rows = [_row(_HEAD), _row(("---",) * len(_HEAD))]
    for title, groups in GROUPS.items():
        rows.append(_row((f"**{title}**", "", "", "")))
        rows += [_row(_cells(each)) for each in _of_groups(groups)]
    return "".join(rows)


def diagnostics() -> str:
    """Every code with its title."""
    rows = [_row(("code", "title")), _row(("---", "---"))]
    rows += [_row((each.code, each.title)) for each in CODES.values()]
    return "".join(rows)


def spelled(function: Function) -> str:
    """How a function is called: arguments, and options in square brackets."""
    needed = len(function.arguments) - function.optional
    parts = [*function.arguments[:needed]]
    parts += [f"[{each}]" for each in function.arguments[needed:]]
    options = [*function.keywords, *["over"] * (function.group == "reduction")]
    parts += [f"[{each}=]" for each in options]
    return f"{function.name}({', '.join(parts)})"


def _cells(function: Function) -> tuple[str, ...]:
    call = f"`{spelled(function)}`"
    return call, function.meaning, function.shapes, function.source


def _of_groups(groups: tuple[str, ...]) -> Iterator[Function]:
    for each in (*FUNCTIONS.values(), *EXTREMES.values()):
        if each.group in groups:
            yield each


def _row(cells: tuple[str, ...]) -> str:
    escaped = (each.replace("|", r"\|") for each in cells)
    return f"| {' | '.join(escaped)} |\n"
