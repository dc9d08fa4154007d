"""The functions that update a group, each for one way to run it.

In: the lowered rules. Out: their lines, under the names of the options that ask for them.
"""

from .. import ir
from . import at_once, differentiable, foreach, loop, one_by_one
from .step import CAPTURABLE
from .update import Update, update_of

WAYS = ("loop", "foreach", "differentiable", "capturable")


def updates(targets: ir.Targets, update: Update) -> dict[str, list[str]]:
    """The lines of all functions; none where a step runs by those of another way."""
    single, multi = targets.apart
    one, many = loop.emit, foreach.emit
    if targets.loop.in_phases:
        one, many = one_by_one.emit, at_once.emit
    captured = []
    if single is not None:
        captured.append(one(single, update, CAPTURABLE))
    if multi is not None:
        captured.append(many(multi, update, CAPTURABLE, captured=True))
    pure = []
    if differentiable.possible(targets.loop):
        pure.append(differentiable.emit(targets.differentiable, update))
        if differentiable.is_apart(targets, update):
            apart = targets.captured_differentiable
            captured.append(differentiable.emit(apart, update, CAPTURABLE))
    scaled = differentiable.scaled_functions([*pure, *captured])
    written = {
        "loop": [one(targets.loop, update)],
        "foreach": [many(targets.foreach, update)],
        "differentiable": [*scaled, *pure],
        "capturable": captured,
    }
    return {
        way: [line for each in functions for line in (*each, "", "")]
        for way, functions in written.items()
    }


def update_text(targets: ir.Targets, way: str) -> str:
    """The functions of one way, as they stand in the file."""
    written = updates(targets, update_of(targets))[way]
    if not written:
        return f"# {targets.why_not or 'A step runs by the functions of the other ways.'}\n"
    return "\n".join(written).rstrip("\n") + "\n"
