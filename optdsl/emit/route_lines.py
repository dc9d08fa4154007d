"""The lines of a route as a function that says which of them is for a parameter, and the
statements of `_split` that ask it.
"""

from .. import ir
from .expr import text
from .page import joined

MATCHES = '''def _matches(name: str, pattern: str) -> bool:
    """Whether a regular expression is found in a name."""
    return re.search(pattern, name) is not None


'''


def chosen(route: ir.Route) -> str:
    """The function that says which line is for a parameter."""
    arguments = "p: Tensor, name: str" if route.asks_names else "p: Tensor"
    lines = [
        f"def _line(p: {arguments[3:]}) -> int:",
        '    """Which line of the route is for a parameter."""',
    ]
    for at, each in enumerate(route.lines):
        lines += [""] * (at > 0)
        lines.append(f"    # {route.source.cut(each.span)}")
        if each.condition is None:
            lines.append(f"    return {at}")
        else:
            lines.append(f"    if {text(each.condition, _name)}:")
            lines.append(f"        return {at}")
    return MATCHES * route.asks_names + joined(lines, 0)


def _name(ref: ir.Ref) -> str:
    if ref.role is ir.Role.PARAM:
        return "p"
    pattern = ir.pattern_of(ref.name)
    raw = "r" * ("\\" in pattern)
    return f'_matches(name, {raw}"{pattern}")'


def choose(route: ir.Route) -> list[str]:
    if not route.asks_names:
        return ["chosen = [_line(p) for p in params]"]
    return [
        "if names is None:",
        "    raise ValueError(",
        f'        "{route.name} asks for the names of parameters: "',
        '        "give it model.named_parameters(), or param groups of such pairs"',
        "    )",
        "chosen = [_line(*pair) for pair in zip(params, names, strict=True)]",
    ]
