"""`_check_hypers`: which values of the hypers are refused, and with what words."""

import re

from .. import ir
from .expr import text
from .layout import WIDTH
from .names import Names


def checks(rule: ir.Rule) -> list[str]:
    """The lines of `_check_hypers`, which gets a param group."""
    names = Names(("group",))
    item = names.claim("each")
    refused = {each.name: _conditions(each, names, item) for each in rule.hypers}
    required = {ref.name for each in rule.requires for ref in ir.reads(each.condition)}
    result = [
        f'{names.own(each.name)} = group["{each.name}"]'
        for each in rule.hypers
        if refused[each.name] or each.name in required
    ]
    for hyper in rule.hypers:
        for condition, allowed in refused[hyper.name]:
            value = f"{{{names.own(hyper.name)}!r}}"
            result.append(f"if {condition}:")
            result += _raise(
                f'f"Invalid {hyper.name}: {value}, ', f'f"expected {allowed}'
            )
    for require in rule.requires:
        broken = _negated(require.condition)
        result.append(f"if {text(broken, lambda ref: names.own(ref.name))}:")
        read = dict.fromkeys(ref.name for ref in ir.reads(require.condition))
        values = ", ".join(f"{name}={{{names.own(name)}!r}}" for name in read)
        message = require.message.replace("\\", "\\\\")
        result += _raise(f'"{message} ', f'f"(got {values})')
    return result or ["pass"]


def _negated(condition: ir.Expr) -> ir.Expr:
    """When a requirement is broken; comparisons stay as they are, for the sake of nan."""
    match condition:
        case ir.Unary(operator="not"):
            return condition.operand
        case ir.Binary("or", left, right):
            both = _negated(left), _negated(right)
            return ir.Binary("and", *both, ir.FLAG, condition.span)
    return ir.Unary("not", condition, ir.FLAG, condition.span)


def _raise(*pieces: str) -> list[str]:
    """`raise ValueError` with a message of several texts, each without its last quote."""
    joined = "".join(each if at == 0 else each[2:] for at, each in enumerate(pieces))
    if pieces[0].startswith("f") and len(joined) + 27 <= WIDTH:
        return [f'    raise ValueError({joined}")']
    if len(joined) + 13 <= WIDTH and pieces[0].startswith("f"):
        pieces = (joined,)
    lines = []
    for piece in pieces:
        prefix = piece[: piece.index('"') + 1]
        room = WIDTH - 13 - len(prefix)
        words = re.findall(r"\S+ *|^ +", piece.removeprefix(prefix))
        line = ""
        for word in words:
            if line and len(line + word) > room:
                lines.append(f'{prefix}{line}"')
                line = ""
            line += word
        lines.append(f'{prefix}{line}"')
    return ["    raise ValueError(", *(f"        {line}" for line in lines), "    )"]


def _conditions(hyper: ir.Hyper, names: Names, item: str) -> list[tuple[str, str]]:
    """Each condition under which a hyper is refused, with what is allowed."""
    own = names.own(hyper.name)
    guard = f"{own} is not None and " if hyper.type.optional else ""
    or_none = " or None" if hyper.type.optional else ""
    found = []
    if hyper.choices:
        allowed = ", ".join(f'"{each}"' for each in hyper.choices).replace("\\", "\\\\")
        comma = "," if len(hyper.choices) == 1 else ""
        said = allowed.replace('"', "'").replace("{", "{{").replace("}", "}}")
        return [(f"{own} not in ({allowed}{comma})", f"one of {said}")]
    if hyper.annotation == "bool":
        return [(f"{guard}{own} not in (False, True)", f"True or False{or_none}")]
    if hyper.annotation == "int":
        found.append((f"{guard}not isinstance({own}, int)", f"an int{or_none}"))
    if hyper.annotation == "tuple":
        found.append(
            (f"len({own}) != {hyper.type.length}", f"{hyper.type.length} numbers")
        )
    if hyper.range is not None:
        low = text(hyper.range.low, lambda ref: ref.name)
        high = text(hyper.range.high, lambda ref: ref.name)
        left = "<=" if hyper.range.closed_low else "<"
        right = "<=" if hyper.range.closed_high else "<"
        if hyper.annotation == "tuple":
            within = f"{low} {left} {item} {right} {high}"
            found.append(
                (f"not all({within} for {item} in {own})", f"all in {hyper.range}")
            )
        else:
            within = f"{guard}not {low} {left} {own} {right} {high}"
            found.append((within, f"a value in {hyper.range}{or_none}"))
    return found
