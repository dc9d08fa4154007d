"""The file of an optimizer that chooses among rules: a class that shares parameters out,
and behind it a class for each rule, which has what the class of the rule alone has.

In: a route and its lowered rules. Out: the text of one Python module.
"""

from collections.abc import Callable, Mapping

from .. import ir
from . import fused
from .body import INDENT
from .collect import scalars
from .docs import docstring, hanging, options
from .hooks import TRAIN
from .link import definitions, linked
from .names import Names, keys, safe_file_name
from .page import (
    TEMPLATE,
    UNSIGNED,
    holes,
    imports,
    indented,
    joined,
    rendered,
    signed,
)
from .route_lines import choose, chosen
from .route_rule import rule_class
from .signature import FLAGS, default
from .trial import RATE

ROUTE = "route.py.jinja"
IN_MODE = f"""        if not all(group.get("{TRAIN}", True) for group in self.param_groups):
            raise RuntimeError("a step is for train mode: call train() before it")
"""
IS_TRIAL = f'''
    def _is_trial(self) -> bool:
        """Whether a step is to make the state of a new optimizer and change nothing."""
        if torch.compiler.is_compiling() or self.state:
            return False
        return all(
            group.get("{RATE}", 0) == 0
            and not any(p.grad is None or p.grad.any() for p in group["params"])
            for group in self.param_groups
        )
'''

Rules = Mapping[str, ir.Targets]


def emit_route(route: ir.Route, rules: Rules) -> str:
    """The Python source of the class that chooses among rules."""
    files = {name: rendered(TEMPLATE, holes(each)) for name, each in rules.items()}
    own = rendered(ROUTE, _holes(route, rules, dict.fromkeys(rules, "_"), "pass", ""))
    functions = linked(files, definitions(own))
    own_names = (name for renames in functions.names.values() for name in renames)
    names = Names((*definitions(functions.code), *own_names))
    classes = {name: names.claim(f"_{each.loop.name}") for name, each in rules.items()}
    written = "\n\n\n".join(
        rule_class(route, name, each, classes[name], functions)
        for name, each in rules.items()
    )
    found = _holes(route, rules, classes, written, functions.code)
    return signed(rendered(ROUTE, found))


def _holes(
    route: ir.Route, rules: Rules, classes: Mapping[str, str], written: str, code: str
) -> dict[str, str]:
    every = [each.loop for each in rules.values()]
    reads_loss = any(each.reads_loss for each in every)
    lines = [f'("{each.rule}", {_settings(each)}),' for each in route.lines]
    scaled = _with(rules, lambda each: bool(scalars(each.loop)))
    trial = any(hyper.name == RATE for each in every for hyper in each.hypers)
    found = {
        "module_doc": docstring(route.doc.strip() or f"{route.name}.", ""),
        "file_name": safe_file_name(route.source.name),
        "digest": UNSIGNED,
        "class_name": route.name,
        "class_doc": docstring(_class_doc(route, rules), INDENT),
        "parameters": indented(parameters(rules), 2),
        "defaults": indented(_defaults(rules), 2),
        "on_fused": indented(_on_fused(rules), 2),
        "matched": indented(_matched(bool(scaled)), 3),
        "keep": _keep(scaled),
        "trial": IS_TRIAL if trial else "",
        "unscale": fused.unscale(),
        "in_mode": IN_MODE if any(each.modes for each in every) else "",
        "optional": "" if reads_loss else ", optional",
        "closure_doc": "reevaluates the model and returns the loss"
        + (", which the step\n                reads." if reads_loss else "."),
        "step": joined(_step(rules, trial), 2),
        "hooks": joined(_hooks(rules), 1),
        "lines": indented(lines, 1),
        "chosen": chosen(route),
        "choose": indented(choose(route), 2),
        "rules": written,
        "table": indented([f'"{name}": {each},' for name, each in classes.items()], 1),
        "functions": code,
        "runtime": fused.imported(rules.values()),
    }
    spoken = ("module_doc", "class_doc", "file_name")
    said = [part for hole, part in found.items() if hole not in spoken]
    # What the template itself uses.
    said += ["_use_grad_for_differentiable", "torch"]
    return found | {"imports": imports("\n".join(said))}


# ---- the class that shares parameters out


def parameters(rules: Rules) -> list[str]:
    """The arguments of the constructor behind `params`."""
    of_rules = [f"{name}: dict[str, Any] | None = None," for name in rules]
    options = [f"{name}: {kind} = {value}," for name, (kind, value) in FLAGS.items()]
    return [*of_rules, "*,", *options]


def _defaults(rules: Rules) -> list[str]:
    of_rules = ", ".join(f'"{name}": {{**({name} or {{}})}}' for name in rules)
    options = [f'    "{name}": {name},' for name in FLAGS]
    given = f'    "rules": {{{of_rules}}},'
    return ["defaults: dict[str, Any] = {", given, *options, "}"]


def _class_doc(route: ir.Route, rules: Rules) -> str:
    first = (route.doc.strip() or f"{route.name}.").split("\n\n")[0]
    entries = ["params (iterable): parameters, named parameters, or dicts of groups."]
    for name, each in rules.items():
        hypers = ", ".join(_said(route, name, hyper) for hyper in each.loop.hypers)
        said = f", in place of {hypers}" if hypers else ""
        entries.append(f"{name} (dict, optional): hypers of {each.loop.name}{said}.")
    entries += options(any(each.kernels for each in rules.values()))
    routed = [route.source.cut(each.span) for each in route.lines]
    whole = [first, "", "Which rule is for a parameter:", *hanging(routed), ""]
    whole += ["Args:", *hanging(entries), "", "Raises:"]
    whole += hanging(
        [
            "TypeError: a hyperparameter, of any group, is no number, or of no rule.",
            "ValueError: it is not allowed"
            + (", or the parameters have no names." if route.asks_names else "."),
        ]
    )
    return "\n".join(whole)


def _said(route: ir.Route, rule: str, hyper: ir.Hyper) -> str:
    """A hyper with its default, or with those of the lines of the route."""
    lines = [each for each in route.lines if each.rule == rule]
    values = [
        next((each for each in line.settings if each.name == hyper.name), hyper)
        for line in lines
    ]
    said = dict.fromkeys(map(default, values))
    return f"{hyper.name}={' or '.join(said)}"


def _settings(line: ir.Line) -> str:
    pairs = (f'"{each.name}": {default(each)}' for each in line.settings)
    return f"{{{', '.join(pairs)}}}"


def _on_fused(rules: Rules) -> list[str]:
    warned = '"no fused kernels here: foreach in their place", stacklevel=2'
    lines = ["if fused:", "    self._step_supports_amp_scaling = True"]
    if not any(each.kernels for each in rules.values()):
        return [*lines, f"    warnings.warn({warned})"]
    return [*lines, "    if _Kernel is None:", f"        warnings.warn({warned})"]


def _matched(has_scalars: bool) -> list[str]:
    groups = "groups = _matched(state_dict, self.param_groups)"
    if not has_scalars:
        return [groups, 'return {**state_dict, "param_groups": groups}']
    return [groups, "loaded.update(state_dict, param_groups=groups)", "return loaded"]


def _keep(scaled: list[str]) -> str:
    """The lines that give back to scalar states the precision that torch takes."""
    if not scaled:
        return ""
    lines = [
        "loaded: dict[str, Any] = {}",
        "",
        "def keep(_: Optimizer) -> None:",
        f"    for rule in self._with_groups({keys(scaled).removesuffix(',')}):",
        '        pairs = zip(loaded["param_groups"], self.param_groups, strict=True)',
        "        for saved, group in pairs:",
        "            if any(group is each for each in rule.param_groups):",
        "                rule.load_scalars(loaded, saved, group)",
        "",
        "hooks.append(self.register_load_state_dict_post_hook(keep, prepend=True))",
    ]
    return indented(lines, 2)


def _with(rules: Rules, holds: Callable[[ir.Targets], bool]) -> list[str]:
    """The names of the rules of which something holds."""
    return [name for name, each in rules.items() if holds(each)]


def _step(rules: Rules, trial: bool) -> list[str]:
    unscaled = ["if not self._unscale():", "    return loss"]
    if not trial:
        return unscaled
    shared = _with(rules, lambda each: bool(each.loop.shared))
    forgets = []
    if shared:
        names = keys(shared).removesuffix(",")
        forgets = [f"    for rule in self._with_groups({names}):"]
        forgets += ["        rule.forget()"]
    return [
        "if self._trial:",
        "    self._trial = False",
        "    self.state.clear()",
        *forgets,
        "if self._is_trial():",
        "    # torch.distributed.checkpoint asks for the state; the first step is to come.",
        "    self._trial = True",
        "    for rule in self._with_groups():",
        "        rule.make_state()",
        "    return loss",
        "",
        *unscaled,
    ]


def hook_names(rules: Rules) -> dict[str, list[str]]:
    """The hooks of all rules, with the names of those that have each."""
    having: dict[str, list[str]] = {}
    for name, each in rules.items():
        for hook in each.loop.hooks:
            having.setdefault(hook.name, []).append(name)
    return having


def _hooks(rules: Rules) -> list[str]:
    """A method for each hook of the rules: it runs that of all that have it."""
    result: list[str] = []
    for hook, names in hook_names(rules).items():
        result += [
            "",
            f"def {hook}(self) -> None:",
            f'    """What {" and ".join(names)} does by this name."""',
            f"    for rule in self._with_groups({keys(names).removesuffix(',')}):",
            f"        rule.{hook}()",
        ]
    return result
