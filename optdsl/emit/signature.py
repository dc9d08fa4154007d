"""The constructor's arguments: the hypers of a rule and the options that every optimizer
has, in the order that the spec gives; and how a group is asked for an option.
"""

from .. import ir, vocabulary
from .expr import text
from .update import annotation

FLAGS = {
    "maximize": ("bool", "False"),
    "foreach": ("bool | None", "None"),
    "capturable": ("bool", "False"),
    "differentiable": ("bool", "False"),
    "fused": ("bool | None", "None"),
}
assert tuple(FLAGS) == vocabulary.FLAGS


def parameters(rule: ir.Rule) -> list[str]:
    """A line for each argument behind `params`, and the star before those with names."""
    written = {
        each.name: f"{each.name}: {annotation(each)} = {default(each)},"
        for each in rule.hypers
    }
    written |= {
        name: f"{name}: {kind} = {value}," for name, (kind, value) in FLAGS.items()
    }
    positional = [written[name] for name in rule.arguments.positional]
    named = [written[name] for name in rule.arguments.named]
    return [*positional, *["*,"] * bool(named), *named]


def default(hyper: ir.Hyper) -> str:
    return text(hyper.default, lambda ref: ref.name)


def defaults(rule: ir.Rule) -> list[str]:
    """What the constructor hands on to every group."""
    given = {*rule.arguments.positional, *rule.arguments.named}
    result = ["defaults = {"]
    for each in rule.hypers:
        value = each.name if each.name in given else default(each)
        result.append(f'    "{each.name}": {value},')
    result += [f'    "{name}": {name},' for name in FLAGS]
    return [*result, "}"]


def left_out(rule: ir.Rule) -> list[str]:
    """The lines that keep options which are off out of a new group."""
    if not rule.arguments.apart:
        return []
    pairs = ", ".join(f'"{name}": {FLAGS[name][1]}' for name in rule.arguments.apart)
    return [
        "# What torch's class does not have is in a group only where it is on.",
        f"for name, off in {{{pairs}}}.items():",
        "    if param_group[name] is off:",
        "        del param_group[name]",
    ]


def kept(rule: ir.Rule) -> list[str]:
    """The options that are in every group."""
    return [name for name in FLAGS if name not in rule.arguments.apart]


def option(rule: ir.Rule, name: str) -> str:
    """How a group is asked for an option."""
    if name not in rule.arguments.apart:
        return f'group["{name}"]'
    default = FLAGS[name][1]
    return f'group.get("{name}"{f", {default}" if default != "None" else ""})'


def setdefaults(rule: ir.Rule) -> list[str]:
    """The lines that complete a group of an older pickle or checkpoint."""
    values = {each.name: default(each) for each in rule.hypers}
    values |= {name: FLAGS[name][1] for name in kept(rule)}
    return [f'group.setdefault("{name}", {value})' for name, value in values.items()]
