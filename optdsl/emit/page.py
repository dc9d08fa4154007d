"""The file: the class around the loop, laid out as torch.optim's own files are.

In: a lowered rule. Out: the text of a Python module that needs torch alone, the same
bytes every time.
"""

import hashlib
import re
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .. import ir, resources
from ..ir.kernels import Program, Turns
from ..stages import reduced
from . import again, foreach, fused, group, phases, randoms, turns
from .batches import BATCHED
from .body import INDENT
from .checks import checks, flag_checks, kinds, param_checks
from .collect import init_group, load_state_dict, old_pickles, zero_dim
from .defs import functions
from .docs import class_doc, docstring, whole
from .hooks import IN_MODE, hook_methods
from .layout import WIDTH, fit
from .matrices import decompositions
from .names import keys, safe_file_name
from .shared import init_shared, same_in_all
from .signature import defaults, left_out, parameters, setdefaults
from .step import AS_LOSS, CHECK_CAPTURABLE, decorators, step
from .trial import trial
from .update import Update, update_of
from .updates import updates

_OF_TORCH = (
    "_default_to_fused_or_foreach", "_get_capturable_supported_devices",
    "_get_scalar_dtype", "_to_scalar", "_use_grad_for_differentiable",
)  # fmt: skip
AS_SCALAR = '''

def _as_scalar(value: Any) -> Any:
    """A tensor of one element without its axes; anything else as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_as_scalar, value))
    return _to_scalar(value)
'''
TOPK = '''

def _topk(x: Tensor, k: int) -> Tensor:
    """Flags like x, true at its k largest entries; at all, where it has no more."""
    at = x.flatten().topk(min(k, x.numel())).indices
    flags = torch.zeros(x.numel(), dtype=torch.bool, device=x.device)
    return flags.index_fill(0, at, True).view(x.shape)
'''
TEMPLATE = "optimizer.py.jinja"
_TEXTS = re.compile(r'''""".*?"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*''', re.DOTALL)
UNSIGNED = "0" * 12
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


def holes(targets: ir.Targets) -> dict[str, str]:
    """What stands in each hole of the template."""
    rule = targets.loop
    update = update_of(targets)
    found = {
        "module_doc": docstring(whole(rule), ""),
        "file_name": safe_file_name(rule.source.name),
        "digest": UNSIGNED,
        "class_name": rule.name,
        "class_doc": docstring(class_doc(targets), INDENT),
        "parameters": indented(parameters(rule), 2),
        "defaults": indented(defaults(rule), 2),
        "setdefaults": indented([*setdefaults(rule), *group.completed(rule)], 3),
        "old_pickles": indented(old_pickles(rule), 3),
        "scalars": indented(completed_scalars(rule), 2),
        "same_in_all": indented(same_in_all(rule), 2),
        "init_shared": joined(init_shared(rule), 1),
        "stacked": phases.STACKED if _reduces(targets) else "",
        "param_checks": indented(_checked_params(rule), 2),
        "check_params": _function_of_params(rule),
        "trial": joined(trial(rule, update), 1),
        "trial_flag": "\n    _trial = False\n" if trial(rule, update) else "",
        "trial_reset": "        self._trial = False\n" if trial(rule, update) else "",
        "decorators": indented(decorators(rule), 1),
        "load_state_dict": load_state_dict(rule),
        "init_group": joined(init_group(rule, update), 1),
        "step": joined(step(targets, update), 2),
        "again": again.method(rule),
        "hooks": joined(hook_methods(rule), 1),
        "in_mode": IN_MODE if rule.modes else "",
        "checks": joined([*checks(rule), *flag_checks(rule, targets.why_not)], 1),
        "group": group.functions(rule),
        "seeded": indented(group.seeded(rule), 2),
        "zero_dim": zero_dim(rule, isinstance(targets.kernels, Program)),
        "as_loss": AS_LOSS.format(rule.name) if rule.reads_loss else "",
        "closure_doc": "reevaluates the model and returns the loss"
        + (", which the step\n                reads." if rule.reads_loss else ".")
        + " It is called\n                again within the step." * rule.evaluates,
        "optional": "" if rule.reads_loss or rule.evaluates else ", optional",
        "no_kernels": indented(fused.without(targets), 2),
        "unscale": fused.unscale(targets),
        "runtime": fused.imported([targets]),
        **_by_kernels(targets, update),
        "check_capturable": CHECK_CAPTURABLE if targets.captured else "",
        "kinds": kinds(rule),
        "as_scalar": AS_SCALAR if any(map(_is_numeric, rule.hypers)) else "",
        "functions": joined(functions(targets), 0),
        "alike": foreach.ALIKE,
        "updates": joined(sum(updates(targets, update).values(), []), 0),
    }
    code = "\n".join(found.values())
    found |= {"draws": randoms.functions(rule, code)}
    found |= {"topk": TOPK if "_topk(" in code else ""}
    found["matrices"] = decompositions(code) + BATCHED * ("_batched(" in code)
    spoken = ("module_doc", "class_doc", "file_name")
    said = (part for hole, part in found.items() if hole not in spoken)
    return found | {"imports": imports("\n".join(said))}


def _by_kernels(targets: ir.Targets, update: Update) -> dict[str, str]:
    """The kernels, and the function that updates groups by them."""
    by = turns if isinstance(targets.kernels, Turns) else fused
    return {
        "kernels": "\n".join(by.kernels(targets.kernels)),
        "fused": "\n".join(by.function(targets, update)),
    }


def _reduces(targets: ir.Targets) -> bool:
    """Whether tensors of several parameters are put together."""
    rule = targets.loop
    found = (reduced(each) for each in (rule.step, *(hook.body for hook in rule.hooks)))
    return any(not type_.on_host for each in found for type_ in each.values())


def emit(targets: ir.Targets) -> str:
    """The Python source of a rule's class."""
    return signed(rendered(TEMPLATE, holes(targets)))


def rendered(template: str, holes: dict[str, str]) -> str:
    """A template, with as many empty lines as a formatter would leave."""
    page = environment().get_template(template).render(holes)
    page = re.sub(r"\n{4,}", "\n\n\n", re.sub(r" +\n", "\n", page)).rstrip() + "\n"
    return re.sub(r"\n\n+(?=\n    (?:def|@))", "\n", page)


def signed(page: str) -> str:
    """The page with twelve hex digits of everything but themselves in its signature."""
    start, end = _signature(page).span(2)
    page = page[:start] + UNSIGNED + page[end:]
    return page[:start] + hashlib.sha256(page.encode()).hexdigest()[:12] + page[end:]


def _signature(page: str) -> re.Match | None:
    """The line that names the compiler: the last one that looks like it, since a
    docstring before it may hold anything.
    """
    return next(iter(list(_SIGNATURE.finditer(page))[::-1]), None)


def is_untouched(page: str) -> bool:
    """Whether a file is a compiler's output that no one has edited since."""
    return _signature(page) is not None and signed(page) == page


def joined(lines: list[str], depth: int) -> str:
    shifted = (INDENT * depth + line if line else "" for line in lines)
    return "\n".join(part for line in shifted for part in (fit(line) if line else [""]))


def indented(lines: list[str], depth: int) -> str:
    """The same with the end of the last line, or nothing at all."""
    return joined(lines, depth) + "\n" * bool(lines)


def imports(code: str) -> str:
    """What the code uses, texts and comments aside."""
    body = _TEXTS.sub("", code)
    borrowed = sorted(each for each in _OF_TORCH if each in body)
    lines = [
        "import warnings",
        "from collections.abc import Callable",
        "from typing import Any",
        "",
    ]
    used = [each for each in ("math", "re") if re.search(rf"\b{each}\.", body)]
    lines[:0] = [f"import {each}" for each in used]
    if "(Real," in body or ", Real)" in body:
        lines.insert(-2, "from numbers import Real")
    lines += ["import torch", "from torch import Tensor"]
    names = sorted(["Optimizer", "ParamsT", *borrowed])
    line = f"from torch.optim.optimizer import {', '.join(names)}"
    if len(line) > WIDTH:
        listed = "".join(f"    {each},\n" for each in names)
        line = f"from torch.optim.optimizer import (\n{listed})"
    lines.append(line)
    return "\n".join(lines)


# ---- constructor


def _is_numeric(hyper: ir.Hyper) -> bool:
    return hyper.annotation in ("float", "tuple")


def completed_scalars(rule: ir.Rule) -> list[str]:
    """The last lines of `add_param_group`."""
    return [*left_out(rule), *_scalars(rule), *group.added(rule)]


def _scalars(rule: ir.Rule) -> list[str]:
    """Hypers that are tensors of one element lose their axes."""
    numbers = [each.name for each in rule.hypers if _is_numeric(each)]
    if not numbers:
        return []
    return [
        f"for name in ({keys(numbers)}):",
        "    param_group[name] = _as_scalar(param_group[name])",
    ]


def _checked_params(rule: ir.Rule) -> list[str]:
    if not param_checks(rule):
        return []
    return [
        "try:",
        '    _check_params(param_group["params"], param_group)',
        "except ValueError:",
        "    self.param_groups.pop()",
        "    raise",
    ]


def _function_of_params(rule: ir.Rule) -> str:
    body = param_checks(rule)
    if not body:
        return ""
    head = [
        "",
        "",
        "def _check_params(params: list[Tensor], group: dict[str, Any]) -> None:",
    ]
    head.append('    """Raise where a parameter is none that this rule is for."""')
    return joined([*head, *(INDENT + line for line in body), ""], 0)
