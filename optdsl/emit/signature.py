"""The constructor's arguments: the hypers of a rule and the options that every optimizer
has, in the order that the spec gives.
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
    named = [line for name, line in written.items() if name not in rule.positional]
    return [*(written[name] for name in rule.positional), *["*,"] * bool(named), *named]


def default(hyper: ir.Hyper) -> str:
    return text(hyper.default, lambda ref: ref.name)
