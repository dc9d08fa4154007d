"""`_check_hypers`: which values of the hypers are refused, and with what words."""

import re

from .. import ir
from .body import INDENT
from .expr import text
from .layout import WIDTH
from .names import Names
from .signature import FLAGS, option


def checks(rule: ir.Rule) -> list[str]:
    """The lines of `_check_hypers`, which gets a param group."""
    names = Names(("group",))
    item = names.claim("each")
    asked = [each for each in rule.requires if not of_params(each)]
    flags = dict.fromkeys(
        ref.name
        for each in asked
        for ref in ir.reads(each.condition)
        if ref.role is ir.Role.FLAG
    )
    read = (*(each.name for each in rule.hypers), *flags)
    result = [f"{names.own(each)} = {_asked(rule, each)}" for each in read]
    for hyper in rule.hypers:
        result += _hyper_checks(hyper, names.own(hyper.name), item)
    for require in asked:
        broken = _negated(require.condition)
        result.append(f"if {text(broken, lambda ref: names.own(ref.name))}:")
        read = dict.fromkeys(ref.name for ref in ir.reads(require.condition))
        values = ", ".join(f"{name}={{{names.own(name)}!r}}" for name in read)
        message = require.message.replace("\\", "\\\\")
        result += raising(f'"{message} ', f'f"(got {values})')
    return result


def of_params(require: ir.Require) -> bool:
    """Whether a requirement is about each parameter."""
    return any(ref.role is ir.Role.PARAM for ref in ir.reads(require.condition))


def param_checks(rule: ir.Rule) -> list[str]:
    """The lines of `_check_params`, which gets the parameters and their group."""
    result = []
    for require in filter(of_params, rule.requires):
        broken = text(_negated(require.condition), lambda ref: _of_group(rule, ref))
        message = require.message.replace("\\", "\\\\")
        result += [f"    if {broken}:"]
        lines = raising(
            f'"{message} ', 'f"(got a {p.dtype} of shape {tuple(p.shape)})', depth=2
        )
        result += [INDENT + line for line in lines]
    return ["for p in params:", *result] if result else []


def _of_group(rule: ir.Rule, ref: ir.Ref) -> str:
    return "p" if ref.role is ir.Role.PARAM else _asked(rule, ref.name)


def _asked(rule: ir.Rule, name: str) -> str:
    """How a group is asked for a hyper or an option."""
    return option(rule, name) if name in FLAGS else f'group["{name}"]'


def flag_checks(rule: ir.Rule, why_not_capturable: str) -> list[str]:
    """The lines that refuse options that this rule, or this version, cannot have."""
    result = []
    for other, said in (
        ("foreach", "`fused` and `foreach` cannot be `True` together"),
        ("differentiable", "`fused` does not support `differentiable`"),
    ):
        result.append(f"if {option(rule, 'fused')} and {option(rule, other)}:")
        result += raising(f'"{said}', error="RuntimeError")
    if rule.sparse is not None and rule.sparse.only:
        message = f'"{rule.name} is not differentiable: its gradients are sparse'
        asked = option(rule, "differentiable")
        result += [f"if {asked}:", *raising(message, error="RuntimeError")]
    if rule.in_phases:
        message = f'"{rule.name} is not differentiable: its parameters step together'
        asked = option(rule, "differentiable")
        result += [f"if {asked}:", *raising(message, error="RuntimeError")]
    if rule.evaluates:
        message = (
            f'"{rule.name} is not differentiable: its step takes the gradient anew'
        )
        asked = option(rule, "differentiable")
        result += [f"if {asked}:", *raising(message, error="RuntimeError")]
    if why_not_capturable:
        message = f'"{rule.name} cannot be captured: {why_not_capturable}'
        asked = option(rule, "capturable")
        result += [f"if {asked}:", *raising(message, error="RuntimeError")]
    return result


def _not(accepted: str) -> str:
    if " and " in accepted or " or " in accepted:
        return f"not ({accepted})"
    if " in (" in accepted:
        return accepted.replace(" in (", " not in (", 1)
    return f"not {accepted}"


def _negated(condition: ir.Expr) -> ir.Expr:
    """When a requirement is broken; comparisons stay as they are, for the sake of nan."""
    match condition:
        case ir.Unary(operator="not"):
            return condition.operand
        case ir.Binary("or", left, right):
            both = _negated(left), _negated(right)
            return ir.Binary("and", *both, ir.FLAG, condition.span)
    return ir.Unary("not", condition, ir.FLAG, condition.span)


def raising(*pieces: str, error: str = "ValueError", depth: int = 1) -> list[str]:
    """`raise` with a message of several texts, each given without its last quote."""
    first = pieces[0]
    if len(pieces) > 1 and not first.startswith("f"):
        first = "f" + first.replace("{", "{{").replace("}", "}}")
    joined = first + "".join(each[2:] for each in pieces[1:])
    whole, room = f'    raise {error}({joined}")', WIDTH - depth * len(INDENT)
    if len(whole) <= room:
        return [whole]
    if len(joined) + 9 <= room:
        pieces = (joined,)
    lines = [f'{line}"' for piece in pieces for line in _words(piece, room - 9)]
    return [f"    raise {error}(", *(INDENT * 2 + line for line in lines), "    )"]


def _words(piece: str, width: int) -> list[str]:
    """A text in several of at most a width, each with the prefix and the quote."""
    prefix = piece[: piece.index('"') + 1]
    lines = [prefix]
    for word in re.findall(r"\S+ *|^ +", piece.removeprefix(prefix)):
        if lines[-1] != prefix and len(lines[-1] + word) > width:
            lines.append(prefix)
        lines[-1] += word
    return lines


def _hyper_checks(hyper: ir.Hyper, own: str, item: str) -> list[str]:
    """A TypeError for what is no number, a ValueError for one that is not allowed."""
    result = []
    if kind := _kind_check(hyper, own):
        asked = [f"if {own} is not None:"] if hyper.type.optional else []
        result += [*asked, INDENT * len(asked) + kind]
    accepted, said = _condition(hyper, own, item)
    if accepted:
        if hyper.type.optional:
            accepted, said = f"{own} is None or {_both(accepted)}", f"{said}, or None"
        result.append(f"if {_not(accepted)}:")
        result += raising(
            f'f"Invalid {hyper.name}: {{{own}!r}}, ', f'f"expected {said}'
        )
    return result


def _both(accepted: str) -> str:
    return f"({accepted})" if " and " in accepted else accepted


def _kind_check(hyper: ir.Hyper, own: str) -> str:
    """A call that refuses a value of another type than the hyper's."""
    match hyper.annotation:
        case "float" | "int":
            kind = {"float": "number", "int": "int"}[hyper.annotation]
            return f'_check_{kind}("{hyper.name}", {own})'
        case "tuple" if not hyper.type.length:
            return f'_check_tuple("{hyper.name}", {own})'
        case "tuple":
            given = [f'"{hyper.name}"', own, str(hyper.type.length)]
            if hyper.type.nones:
                comma = "," * (len(hyper.type.nones) == 1)
                nones = ", ".join(map(str, hyper.type.nones))
                given.append(f"nones=({nones}{comma})")
            return f"_check_numbers({', '.join(given)})"
    return ""


def _condition(hyper: ir.Hyper, own: str, item: str) -> tuple[str, str]:
    """When a hyper of the right type is accepted, '' for always, and what to call that."""
    if hyper.choices:
        choices = ", ".join(f'"{each}"' for each in hyper.choices).replace("\\", "\\\\")
        comma = "," * (len(hyper.choices) == 1)
        said = choices.replace('"', "'").replace("{", "{{").replace("}", "}}")
        return f"{own} in ({choices}{comma})", f"one of {said}"
    if hyper.annotation == "bool":
        return f"{own} in (False, True)", "True or False"
    if hyper.range is None:
        return "", ""
    inside, size = f"in {hyper.range}", hyper.type.length
    if hyper.annotation == "tuple" and hyper.type.nones:
        items = []
        for at in range(size):
            good = _within(hyper.range, f"{own}[{at}]")
            none = f"{own}[{at}] is None"
            items.append(f"({none} or {good})" if at in hyper.type.nones else good)
        return " and ".join(items), f"{size} numbers {inside}, or None"
    if hyper.annotation == "tuple":
        each = _within(hyper.range, item)
        said = f"{size} numbers" if size else "numbers"
        return f"all({each} for {item} in {own})", f"{said} {inside}"
    kind = "an int" if hyper.annotation == "int" else "a number"
    return _within(hyper.range, own), f"{kind} {inside}"


def _within(limits: ir.Range, value: str) -> str:
    low, high = (text(end, lambda ref: ref.name) for end in (limits.low, limits.high))
    left = "<=" if limits.closed_low else "<"
    right = "<=" if limits.closed_high else "<"
    return f"{low} {left} {value} {right} {high}"


CHECK_NUMBER = '''

def _check_number(name: str, value: Any) -> None:
    """Raise where a value is no number, nor a tensor of one element."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"Invalid {name}: {value!r}, expected one number")
    if not isinstance(value, (Real, Tensor)):
        raise TypeError(f"Invalid {name}: {value!r}, expected a number")
'''
CHECK_NUMBERS = '''

def _check_numbers(name: str, values: Any, size: int, nones: Any = ()) -> None:
    """Raise where a value is no tuple of numbers; those at `nones` may be None."""
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"Invalid {name}: {values!r}, expected {size} numbers")
    if len(values) != size:
        raise ValueError(f"Invalid {name}: {values!r}, expected {size} numbers")
    for at, value in enumerate(values):
        if not (value is None and at in nones):
            _check_number(name, value)
'''
CHECK_TUPLE = '''

def _check_tuple(name: str, values: Any) -> None:
    """Raise where a value is no tuple of one number or more."""
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"Invalid {name}: {values!r}, expected numbers")
    if not values:
        raise ValueError(f"Invalid {name}: {values!r}, expected numbers")
    for value in values:
        _check_number(name, value)
'''
CHECK_INT = '''

def _check_int(name: str, value: Any) -> None:
    """Raise where a value is no whole number."""
    if not isinstance(value, int):
        raise TypeError(f"Invalid {name}: {value!r}, expected an int")
'''


def kinds(rule: ir.Rule) -> str:
    """The functions that the checks of a rule call."""
    found = {each.annotation for each in rule.hypers}
    lengths = {each.type.length for each in rule.hypers if each.annotation == "tuple"}
    written = CHECK_NUMBER * bool(found & {"float", "tuple"})
    written += CHECK_NUMBERS * any(lengths) + CHECK_TUPLE * (0 in lengths)
    return written + CHECK_INT * ("int" in found or rule.random)
