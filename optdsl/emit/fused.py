"""The part of a file that is about kernels: their text, and the function that hands them
what a step has collected.

In: the program of a rule's kernels. Out: lines of Python. Without the package that builds
kernels a file has its other targets.
"""

from collections.abc import Iterable

from .. import ir
from ..ir.kernels import Program, Turns
from .body import INDENT
from .cpu import emit as emit_cpu
from .cpu import kernels_of
from .cpu.lists import Lists
from .cpu.table import columns_of
from .cuda import emit as emit_cuda
from .expr import text
from .layout import fit
from .names import keys
from .signature import option
from .update import Update

DEVICES = {"cpu": emit_cpu, "cuda": emit_cuda}
KERNELS = "_KERNELS"
_IMPORT = """
try:
    from optdsl.runtime.kernel import Kernel as _Kernel{}
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None
"""
_IMPORT_TURNS = """
    from optdsl.runtime.turns import Turns as _Turns"""


_UNSCALE = '''
    def _unscale(self) -> bool:
        """Take the scale of a GradScaler out of the gradients; false where one of them
        has overflowed, so that there is no step.
        """
        found_inf = getattr(self, "found_inf", None)
{}        scale = getattr(self, "grad_scale", None)
        if scale is not None:
            groups = self.param_groups
            grads = [p.grad for group in groups for p in group["params"]]
            torch._foreach_div_([x for x in grads if x is not None], scale.item())
        return True
'''
_BY_KERNELS = """        if found_inf is not None:
            if _KERNELS and _KERNELS.reads_scale(self):
                return True  # kernels do so, and do not wait for the device
            if found_inf.item():
                return False
"""
_BY_HOST = """        if found_inf is not None and found_inf.item():
            return False
"""


def unscale(targets: ir.Targets | None = None) -> str:
    """The method that keeps a GradScaler's contract, of a rule or of a route."""
    if targets is not None and (targets.kernels is None or targets.loop.evaluates):
        return ""
    by_kernels = targets is not None and isinstance(targets.kernels, Program)
    return _UNSCALE.format(_BY_KERNELS if by_kernels else _BY_HOST)


def without(targets: ir.Targets) -> list[str]:
    """What the constructor does with `fused`."""
    warned = (
        'warnings.warn("no fused kernels here: foreach in their place", stacklevel=2)'
    )
    if targets.kernels is None:
        return ["if fused:", f"    {warned}"]
    return [
        "if fused:",
        *["    self._step_supports_amp_scaling = True"] * (not targets.loop.evaluates),
        f"    if {KERNELS} is None:",
        f"        {warned}",
    ]


WAITING = "waiting"


def repeated(targets: ir.Targets) -> list[str]:
    """The lines that have kernels take the step, where all but gradients is known."""
    if not isinstance(targets.kernels, Program):
        return []
    return [
        f"{WAITING} = self.param_groups",
        f"if not torch.compiler.is_compiling() and {KERNELS}:",
        f"    {WAITING} = {KERNELS}.repeat(self)",
    ]


def call(groups: str) -> list[str]:
    """The lines that take out of the groups what kernels carry."""
    return [
        f"if not torch.compiler.is_compiling() and {KERNELS}:",
        f"    {groups} = _by_kernels(self, {groups})",
    ]


def imported(rules: Iterable[ir.Targets]) -> str:
    """The lines that import what the kernels of rules need."""
    kinds = {type(each.kernels) for each in rules if each.kernels is not None}
    return _IMPORT.format(_IMPORT_TURNS * (Turns in kinds)) if kinds else ""


def kernel_text(targets: ir.Targets, device: str) -> str:
    """The kernels for a device as they stand in the file."""
    comment = {"cpu": "//", "cuda": "#"}[device]
    if targets.kernels is None:
        return f"{comment} There are none: the rule has {targets.no_kernels}.\n"
    if isinstance(targets.kernels, Program):
        return DEVICES[device](targets.kernels)
    between = f"\n{comment} ---- Here torch goes on.\n\n"
    return between.join(map(DEVICES[device], targets.kernels.programs))


def kernels(program: Program | None) -> list[str]:
    """The lines of the kernels and of what they are called by."""
    if program is None:
        return []
    texts, made = kernel(program)
    made[0] = f"{KERNELS} = _Kernel and {made[0]}"
    return [*texts, *(part for line in made for part in fit(line)), ""]


def kernel(program: Program, suffix: str = "") -> tuple[list[str], list[str]]:
    """The lines of the kernels' texts, and of the object that is made of them."""
    printed = kernels_of(program)
    own, columns = printed.names.own, printed.columns
    arguments = [
        f'"{printed.function}"',
        f"_CPU{suffix}",
        f"_kernel_numbers{suffix}",
        f"elements=({keys(map(own, columns.tensors))})",
    ]
    named = {
        "numbers": map(own, columns.numbers),
        "optional": map(own, sorted(columns.optional)),
        "scratch": map(own, columns.scratch),
        "options": printed.options,
        "counts": printed.lists.counts,
    }
    for name, values in named.items():
        if listed := keys(values):
            arguments.append(f"{name}=({listed})")
    listed = [
        f'"{own(name)}": {_length(printed.lists, name)}'
        for name in columns.tensors
        if name in printed.lists
    ]
    if listed:
        arguments.append(f"lists={{{', '.join(listed)}}}")
    if program.rule.in_phases:
        arguments.append("together=True")
    if program.elementwise:
        arguments.append("elementwise=True")
    if (view := program.view) is not None:
        arguments.append(f'view="{view.value}"')
        if program.least:
            arguments.append(f"least={program.least}")
        reduced = [
            f'"{own(name)}": "{level.value}"'
            for name, level in program.reduced
            if name in columns.tensors
        ]
        if reduced:
            arguments.append(f"reduced={{{', '.join(reduced)}}}")
    arguments.append(f"cuda=_CUDA{suffix}")
    if _may_scale(program.rule) and not program.turn:
        arguments.append("scaled=True")
    texts = ["", "", f'_CPU{suffix} = r"""{printed.text()}"""', ""]
    texts += [f'_CUDA{suffix} = r"""{emit_cuda(program)}"""', ""]
    return texts, ["_Kernel(", *(f"{INDENT}{each}," for each in arguments), ")"]


def _may_scale(rule: ir.Rule) -> bool:
    """Whether kernels may look by themselves whether a gradient has overflowed: the host
    does not count a step, nor call a hook, nor make a state from what may be infinite.
    """
    makes = any(
        ref.role is ir.Role.GRAD
        for state in rule.own
        for ref in ir.reads(state.initial)
    )
    firsts = any(
        ref.role is ir.Role.FIRST for each in rule.step for ref in ir.mentions(each)
    )
    hooks = rule.pre_steps or rule.post_steps
    return not (makes or firsts or hooks or rule.counted == "int")


def function(targets: ir.Targets, update: Update) -> list[str]:
    """The lines of the function that updates groups by kernels."""
    program = targets.kernels
    if program is None:
        return []
    columns = columns_of(program)
    spelled = spelled_by(update)
    group_of = {each.name for each in program.rule.shared}
    lists = dict(program.lists)
    elements = [
        f"*zip(*{spelled[name]}, strict=True)" if name in lists else spelled[name]
        for name in columns.tensors
    ]
    numbers = [
        f'[group["{name}"]] * len(params)' if name in group_of else spelled[name]
        for name in columns.numbers
    ]
    result = [
        *numbers_function(program),
        "",
        "",
        "def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:",
        '    """Update by kernels the groups that ask for it; return those that are left."""',
        f"    launch = {KERNELS}.launch(optimizer)",
        "    for group, columns in groups:",
        f"        {update.taken_apart} = columns",
        "        launch.add(",
        "            group,",
        "            columns,",
        f"            elements=[{', '.join(elements)}],",
        f"            numbers=[{', '.join(numbers)}],",
    ]
    if asked := looked_up(program, update):
        result.append(f"            asked=[{', '.join(asked)}],")
    result += ["        )", "    return launch.run()"]
    return [part for line in result for part in (fit(line) if line else [""])]


def spelled_by(update: Update) -> dict[str, str]:
    """What the lists of an update are called, by the names of the spec."""
    spelled = {each.state.name: each.items for each in update.columns if each.state}
    spelled |= {"p": "params", "grad": "grads"}
    if update.step is not None:
        spelled["step"] = update.step.items
    return spelled


def numbers_function(program: Program, suffix: str = "") -> list[str]:
    """The lines of the function that says what kernels read of a group."""
    rule = program.rule
    hypers = [part for each in columns_of(program).hypers for part in _items(each)]
    options = [option(rule, "maximize")]
    options += [_of_group(each.condition) for each in program.options]
    options += [_of_group(each.value) for each in program.counts]
    return [
        "",
        "",
        f"def _kernel_numbers{suffix}("
        "group: dict[str, Any]) -> tuple[list[Any], list[Any]]:",
        '    """What kernels read of a group, and what they are built for."""',
        f"    hypers = [{', '.join(hypers)}]",
        f"    options = [{', '.join(options)}]",
        "    return hypers, options",
    ]


def looked_up(program: Program, update: Update, count: str = "") -> list[str]:
    """The lists of what the host looks up of each parameter; `count` spells that of the
    step counts, where it is not a column of the update.
    """
    asked = []
    for name in columns_of(program).asked:
        expr = dict(program.asked).get(name)
        if expr is not None:
            asked.append(f"[{text(expr, lambda ref: 'p')} for p in params]")
        elif name == "first":
            asked.append(update.first.items)
        else:
            asked.append(count or update.step.items)
    return asked


def _items(hyper: ir.Hyper) -> list[str]:
    """A hyper of a group, a tuple item by item: as many as the kernels read."""
    value = f'group["{hyper.name}"]'
    if hyper.type.element != "tuple":
        return [value]
    if not hyper.type.length:
        return [f"*{value}"]
    return [f"{value}[{at}]" for at in range(hyper.type.length)]


def _of_group(expr: ir.Expr) -> str:
    return text(expr, lambda ref: f'group["{ref.name}"]')


def _length(lists: Lists, name: str) -> str:
    """How long a list is, as a number or as the name of a count."""
    length = lists.length(name)
    return length if length.isdigit() else f'"{length}"'
