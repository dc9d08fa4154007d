"""The file: the class around the loop, laid out as torch.optim's own files are.

In: a lowered rule. Out: the text of a Python module that needs torch alone, the same
bytes every time.
"""

import hashlib
import re
import textwrap
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .. import ir, resources
from . import loop as loops
from .body import INDENT
from .collect import init_group, load_state_dict
from .expr import text
from .hooks import hook_methods
from .layout import WIDTH, fit
from .names import Names, safe_file_name

TEMPLATE = "optimizer.py.jinja"
_UNSIGNED = "0" * 12
_SIGNATURE = re.compile(
    r"^# Compiled by optdsl from (.*), content ([0-9a-f]{12})\.$", re.M
)


@cache
def environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(resources.PACKAGE / "emit" / "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def parts(rule: ir.Rule) -> dict[str, str]:
    """What stands in each hole of the template."""
    loop = loops.shape_of(rule)
    found = {
        "module_doc": _docstring(_whole(rule), ""),
        "file_name": safe_file_name(rule.source.name),
        "digest": _UNSIGNED,
        "class_name": rule.name,
        "class_doc": _docstring(_class_doc(rule), INDENT),
        "parameters": _joined(_parameters(rule), 2),
        "defaults": _joined(
            [f'"{each.name}": {each.name},' for each in rule.hypers], 3
        ),
        "setdefaults": _joined(_setdefaults(rule), 3),
        "load_state_dict": load_state_dict(rule),
        "init_group": _joined(init_group(rule, loop), 1),
        "step": _joined(_step(rule, loop), 2),
        "hooks": _joined(hook_methods(rule), 1),
        "checks": _joined(_checks(rule), 1),
        "functions": _joined(loops.functions(rule), 0),
        "loop": _joined(loops.emit(rule), 0),
    }
    return found | {"imports": _imports("\n".join(found.values()))}


def emit(rule: ir.Rule) -> str:
    """The Python source of a rule's class."""
    page = environment().get_template(TEMPLATE).render(parts(rule))
    page = re.sub(r"\n{4,}", "\n\n\n", re.sub(r" +\n", "\n", page)).rstrip() + "\n"
    page = re.sub(r"\n\n+(?=\n    (?:def|@))", "\n", page)
    return page.replace(_UNSIGNED, digest(page), 1)


def digest(page: str) -> str:
    """Twelve hex digits of everything but themselves."""
    return hashlib.sha256(_without_digest(page).encode()).hexdigest()[:12]


def _without_digest(page: str) -> str:
    return _SIGNATURE.sub(
        lambda found: found[0].replace(found[2], _UNSIGNED), page, count=1
    )


def is_untouched(page: str) -> bool:
    """Whether a file is a compiler's output that no one has edited since."""
    found = _SIGNATURE.search(page)
    return bool(found) and found[2] == digest(page)


def _joined(lines: list[str], depth: int) -> str:
    indented = (INDENT * depth + line if line else "" for line in lines)
    return "\n".join(
        part for line in indented for part in (fit(line) if line else [""])
    )


def _imports(body: str) -> str:
    scalar = ", _get_scalar_dtype" if "_get_scalar_dtype" in body else ""
    lines = ["from collections.abc import Callable", "from typing import Any", ""]
    if "math." in body:
        lines.insert(0, "import math")
    lines += ["import torch", "from torch import Tensor"]
    lines.append(f"from torch.optim.optimizer import Optimizer, ParamsT{scalar}")
    return "\n".join(lines)


# ---- docstrings


def _whole(rule: ir.Rule) -> str:
    doc = rule.doc.strip() or f"{rule.name}."
    reference = f"\n\nReference: {rule.reference}" if rule.reference else ""
    return doc + reference


def _docstring(content: str, indent: str) -> str:
    """A docstring that says just this, whatever it holds."""
    safe = content.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    safe = safe[:-1] + '\\"' if safe.endswith('"') else safe
    safe = "\n".join(line.rstrip() for line in safe.split("\n"))
    if "\n" not in safe and len(indent + safe) + 6 <= WIDTH:
        return f'{indent}"""{safe}"""'
    return textwrap.indent(f'"""{safe}\n"""', indent)


def _class_doc(rule: ir.Rule) -> str:
    first = (rule.doc.strip() or f"{rule.name}.").split("\n\n")[0]
    lines = [first, "", "Args:"]
    entries = ["params (iterable): parameters, named parameters, or dicts of groups."]
    entries += [_argument(each) for each in rule.hypers]
    entries.append(
        "maximize (bool, optional): maximize the objective (default: False)."
    )
    entries.append(
        "foreach, capturable, differentiable, fused: have to stay off; this file holds "
        "the plain loop over parameters."
    )
    lines += _hanging(entries)
    states = [_state(each) for each in rule.states]
    if rule.counted:
        states.insert(0, "step: number of updates (0-d tensor).")
    if states:
        lines += ["", "State of a parameter, made at its first step with a gradient:"]
        lines += _hanging(states)
    lines += ["", "Raises:"]
    lines += _hanging(["ValueError: a hyperparameter, of any group, is not allowed."])
    return "\n".join(lines)


def _hanging(entries: list[str]) -> list[str]:
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
    kind = loops.annotation(hyper)
    return f"{hyper.name} ({kind}, optional): {doc + ' ' if doc else ''}(default: {default})."


def _state(state: ir.State) -> str:
    shape = (
        "0-d tensor"
        if state.host or state.type.kind is ir.Kind.SCALAR
        else str(state.type.shape)
    )
    doc = f"{state.doc} ({shape})" if state.doc else shape
    return f"{state.name}: {doc}."


# ---- constructor


def _parameters(rule: ir.Rule) -> list[str]:
    return [
        f"{each.name}: {loops.annotation(each)} = {text(each.default, lambda ref: ref.name)},"
        for each in rule.hypers
    ]


def _setdefaults(rule: ir.Rule) -> list[str]:
    return [
        f'group.setdefault("{each.name}", {text(each.default, lambda ref: ref.name)})'
        for each in rule.hypers
    ]


def _checks(rule: ir.Rule) -> list[str]:
    names = Names(("group",))
    checked = [each for each in rule.hypers if _conditions(each, names)]
    required = {ref.name for each in rule.requires for ref in ir.reads(each.condition)}
    result = [
        f'{names.own(each.name)} = group["{each.name}"]'
        for each in rule.hypers
        if each in checked or each.name in required
    ]
    for hyper in checked:
        for condition, allowed in _conditions(hyper, names):
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


def _conditions(hyper: ir.Hyper, names: Names) -> list[tuple[str, str]]:
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
            item = names.claim("each")
            within = f"{low} {left} {item} {right} {high}"
            found.append(
                (f"not all({within} for {item} in {own})", f"all in {hyper.range}")
            )
        else:
            within = f"{guard}not {low} {left} {own} {right} {high}"
            found.append((within, f"a value in {hyper.range}{or_none}"))
    return found


# ---- step


def _step(rule: ir.Rule, loop: loops.Loop) -> list[str]:
    lists = [f"{each.items}: {each.annotation} = []" for each in loop.columns]
    names = ", ".join(each.items for each in loop.columns)
    update = ["for group in self.param_groups:"]
    update += [INDENT + line for line in lists]
    update.append(f"{INDENT}self._init_group(group, {names})")
    update.append(f"{INDENT}{loop.name}(")
    update += [f"{INDENT * 2}{each.items}," for each in loop.columns]
    update += [
        f'{INDENT * 2}{loops.keyword(each, loop)}=group["{each.name}"],'
        for each in loop.hypers
    ]
    update += [f'{INDENT * 2}maximize=group["maximize"],', f"{INDENT})"]
    before = [f"self.{each.name}()" for each in rule.pre_steps]
    after = [f"self.{each.name}()" for each in rule.post_steps]
    inner = [
        *before,
        *([""] if before else []),
        *update,
        *([""] if after else []),
        *after,
    ]
    if not any(_assigns_grad(each) for each in rule.pre_steps):
        return inner
    return [
        "# The hooks hand new gradients to the update; the model keeps its own.",
        'held = [(p, p.grad) for group in self.param_groups for p in group["params"]]',
        "try:",
        *(INDENT + line if line else "" for line in inner),
        "finally:",
        f"{INDENT}for p, grad in held:",
        f"{INDENT * 2}p.grad = grad",
    ]


def _assigns_grad(hook: ir.Hook) -> bool:
    return any(
        isinstance(each, ir.Assign) and each.target.role is ir.Role.GRAD
        for each in ir.statements(hook.body)
    )
