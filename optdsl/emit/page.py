"""The file: the class around the loop, laid out as torch.optim's own files are.

In: a lowered rule. Out: the text of a Python module that needs torch alone, the same
bytes every time.
"""

import hashlib
import re
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .. import ir, resources
from . import loop as loops
from .body import INDENT
from .checks import checks
from .collect import init_group, load_state_dict
from .docs import class_doc, docstring, whole
from .expr import text
from .hooks import hook_methods
from .layout import fit
from .names import safe_file_name

IS_NUMBER = '''

def _is_number(value: Any) -> bool:
    """Whether a value is a number, or a tensor of one element."""
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)
'''
TEMPLATE = "optimizer.py.jinja"
_TEXTS = re.compile(r'''""".*?"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*''', re.DOTALL)
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
        "module_doc": docstring(whole(rule), ""),
        "file_name": safe_file_name(rule.source.name),
        "digest": _UNSIGNED,
        "class_name": rule.name,
        "class_doc": docstring(class_doc(rule), INDENT),
        "parameters": _lines(_parameters(rule), 2),
        "defaults": _lines([f'"{each.name}": {each.name},' for each in rule.hypers], 3),
        "setdefaults": _lines(_setdefaults(rule), 3),
        "load_state_dict": load_state_dict(rule),
        "init_group": _joined(init_group(rule, loop), 1),
        "step": _joined(_step(rule, loop), 2),
        "hooks": _joined(hook_methods(rule), 1),
        "checks": _joined(checks(rule), 1),
        "is_number": IS_NUMBER if any(map(_is_numeric, rule.hypers)) else "",
        "functions": _joined(loops.functions(rule), 0),
        "loop": _joined(loops.emit(rule), 0),
    }
    return found | {"imports": _imports(found)}


def emit(rule: ir.Rule) -> str:
    """The Python source of a rule's class."""
    page = environment().get_template(TEMPLATE).render(parts(rule))
    page = re.sub(r"\n{4,}", "\n\n\n", re.sub(r" +\n", "\n", page)).rstrip() + "\n"
    page = re.sub(r"\n\n+(?=\n    (?:def|@))", "\n", page)
    return _signed(page)


def _signed(page: str) -> str:
    """The page with twelve hex digits of everything but themselves in its signature."""
    start, end = _signature(page).span(2)
    page = page[:start] + _UNSIGNED + page[end:]
    return page[:start] + hashlib.sha256(page.encode()).hexdigest()[:12] + page[end:]


def _signature(page: str) -> re.Match | None:
    """The line that names the compiler: the last one that looks like it, since a
    docstring before it may hold anything.
    """
    return next(iter(list(_SIGNATURE.finditer(page))[::-1]), None)


def is_untouched(page: str) -> bool:
    """Whether a file is a compiler's output that no one has edited since."""
    return _signature(page) is not None and _signed(page) == page


def _joined(lines: list[str], depth: int) -> str:
    indented = (INDENT * depth + line if line else "" for line in lines)
    return "\n".join(
        part for line in indented for part in (fit(line) if line else [""])
    )


def _lines(lines: list[str], depth: int) -> str:
    """The same with the end of the last line, or nothing at all."""
    return _joined(lines, depth) + "\n" * bool(lines)


def _imports(parts: dict[str, str]) -> str:
    """What the code uses, texts and comments aside."""
    spoken = ("module_doc", "class_doc", "file_name")
    code = "\n".join(part for hole, part in parts.items() if hole not in spoken)
    body = _TEXTS.sub("", code)
    scalar = ", _get_scalar_dtype" if "_get_scalar_dtype" in body else ""
    lines = ["from collections.abc import Callable", "from typing import Any", ""]
    if "math." in body:
        lines.insert(0, "import math")
    if "Real)" in body:
        lines.insert(-2, "from numbers import Real")
    lines += ["import torch", "from torch import Tensor"]
    lines.append(f"from torch.optim.optimizer import Optimizer, ParamsT{scalar}")
    return "\n".join(lines)


# ---- constructor


def _is_numeric(hyper: ir.Hyper) -> bool:
    return hyper.annotation in ("float", "tuple")


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
    if before:
        update = [*before, "", *update]
    if any("grad" in ir.assigned(each.body) for each in rule.pre_steps):
        update = _with_held_gradients(update)
    return [*update, "", *after] if after else update


def _with_held_gradients(lines: list[str]) -> list[str]:
    return [
        "# The hooks hand new gradients to the update; the model keeps its own.",
        'held = [(p, p.grad) for group in self.param_groups for p in group["params"]]',
        "try:",
        *(INDENT + line if line else "" for line in lines),
        "finally:",
        f"{INDENT}for p, grad in held:",
        f"{INDENT * 2}p.grad = grad",
    ]
