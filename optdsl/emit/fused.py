"""The part of a file that is about kernels: their text, and the function that hands them
what a step has collected.

In: the program of a rule's kernels. Out: lines of Python. Without the package that builds
kernels a file has its other targets.
"""

from .. import ir
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
IMPORT = """
try:
    from optdsl.runtime.kernel import Kernel as _Kernel
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None
"""


UNSCALE = '''
    def _unscale(self) -> bool:
        """Take the scale of a GradScaler out of the gradients; false where one of them
        has overflowed, so that there is no step.
        """
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            if _KERNELS and _KERNELS.reads_scale(self):
                return True  # kernels do so, and do not wait for the device
            if found_inf.item():
                return False
        scale = getattr(self, "grad_scale", None)
        if scale is not None:
            groups = self.param_groups
            grads = [p.grad for group in groups for p in group["params"]]
            torch._foreach_div_([x for x in grads if x is not None], scale.item())
        return True
'''


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


def repeated() -> list[str]:
    """The lines that have kernels take the step, where all but gradients is known."""
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


def kernel_text(targets: ir.Targets, device: str) -> str:
    """The kernels for a device as they stand in the file."""
    if targets.kernels is None:
        comment = {"cpu": "//", "cuda": "#"}[device]
        return f"{comment} There are none: the rule has {targets.no_kernels}.\n"
    if device == "cuda" and (reason := targets.kernels.why_not_on_device):
        return f"# There are none: the rule has {reason}.\n"
    return DEVICES[device](targets.kernels)


def kernels(targets: ir.Targets) -> list[str]:
    """The lines of the kernels and of what they are called by."""
    if targets.kernels is None:
        return []
    printed = kernels_of(targets.kernels)
    own, columns = printed.names.own, printed.columns
    arguments = [
        f'"{printed.function}"',
        "_CPU",
        "_kernel_numbers",
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
    if targets.kernels.rule.in_phases:
        arguments.append("together=True")
    if targets.kernels.elementwise:
        arguments.append("elementwise=True")
    if (view := targets.kernels.view) is not None:
        arguments.append(f'view="{view.value}"')
        if targets.kernels.least:
            arguments.append(f"least={targets.kernels.least}")
        reduced = [
            f'"{own(name)}": "{level.value}"'
            for name, level in targets.kernels.reduced
            if name in columns.tensors
        ]
        if reduced:
            arguments.append(f"reduced={{{', '.join(reduced)}}}")
    on_device = not targets.kernels.why_not_on_device
    if on_device:
        arguments.append("cuda=_CUDA")
        if _may_scale(targets.kernels.rule):
            arguments.append("scaled=True")
    body = [f"{INDENT}{each}," for each in arguments]
    lines = [f"{KERNELS} = _Kernel and _Kernel(", *body, ")"]
    fitted = [part for line in lines for part in fit(line)]
    texts = ["", "", f'_CPU = r"""{printed.text()}"""', ""]
    if on_device:
        texts += [f'_CUDA = r"""{emit_cuda(targets.kernels)}"""', ""]
    return [*texts, *fitted, ""]


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
    rule = program.rule
    columns = columns_of(program)
    spelled = {each.state.name: each.items for each in update.columns if each.state}
    spelled |= {"p": "params", "grad": "grads"}
    if update.step is not None:
        spelled["step"] = update.step.items
    group_of = {each.name for each in rule.shared}
    lists = dict(program.lists)
    elements = [
        f"*zip(*{spelled[name]}, strict=True)" if name in lists else spelled[name]
        for name in columns.tensors
    ]
    numbers = [
        f'[group["{name}"]] * len(params)' if name in group_of else spelled[name]
        for name in columns.numbers
    ]
    hypers = [part for each in columns.hypers for part in _items(each)]
    options = [option(rule, "maximize")]
    options += [_of_group(each.condition) for each in program.options]
    options += [_of_group(each.value) for each in program.counts]
    asked = []
    for name in columns.asked:
        expr = dict(program.asked).get(name)
        if expr is not None:
            asked.append(f"[{_looked_up(expr, program.view)} for p in params]")
        elif name == "first":
            asked.append(update.first.items)
        else:
            asked.append(update.step.items)
    result = [
        "",
        "",
        "def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:",
        '    """What kernels read of a group, and what they are built for."""',
        f"    hypers = [{', '.join(hypers)}]",
        f"    options = [{', '.join(options)}]",
        "    return hypers, options",
        "",
        "",
        "def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:",
        '    """Update by kernels the groups that ask for it; return those that are left."""',
        f"    launch = {KERNELS}.launch(optimizer)",
        "    for group, columns in groups:",
        f"        {update.lists}{',' * (len(update.columns) == 1)} = columns",
        "        launch.add(",
        "            group,",
        "            columns,",
        f"            elements=[{', '.join(elements)}],",
        f"            numbers=[{', '.join(numbers)}],",
    ]
    if asked:
        result.append(f"            asked=[{', '.join(asked)}],")
    result += ["        )", "    return launch.run()"]
    return [part for line in result for part in (fit(line) if line else [""])]


def _looked_up(expr: ir.Expr, view: ir.kernels.View | None) -> str:
    """What the host knows of `p`; the size of an axis is asked for where there is one,
    since a rule with a view asks for no other.
    """
    looked = text(expr, lambda ref: "p")
    if view is None or expr.function != "size":
        return looked
    (axis,) = expr.dim
    least = axis + 1 if axis >= 0 else -axis
    return f"{looked} if p.ndim >= {least} else 1"


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
