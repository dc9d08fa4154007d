"""Lowering: ir to ir, towards what one call of torch can do.

In: the checked rule. Out: the same rule in which tensor arithmetic is `Op`, writes are
`Effect`, and the host work of a group is the prologue. Every pass keeps the meaning;
those marked bit-exact keep every bit of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .. import ir
from .branch import branch
from .defer import defer
from .detach import detach
from .flatten import flatten
from .hoist import hoist
from .instances import distinct
from .reuse import reuse
from .select import select

__all__ = ["PASSES", "Pass", "defer", "distinct", "flatten", "lower"]


@dataclass(frozen=True, slots=True)
class Pass:
    run: Callable[[ir.Rule], ir.Rule]
    bit_exact: bool
    reason: str
    in_place: bool = False


PASSES = (
    Pass(
        branch,
        True,
        "a chosen value becomes a branch, so that each side can be in place",
    ),
    Pass(
        hoist, True, "what a group knows is computed once a group, not once a parameter"
    ),
    Pass(
        select,
        False,
        "addcmul, addcdiv and alpha= round once where `*` and `+` round twice",
    ),
    Pass(detach, True, "a name that must outlive a write gets a copy of its own", True),
    Pass(
        reuse,
        True,
        "a value that no one reads again lends its memory to the next",
        True,
    ),
)


def lower(rule: ir.Rule, in_place: bool = True) -> ir.Rule:
    """The rule after all passes, in order; after those that keep its values apart, where
    nothing may be in place.
    """
    for each in PASSES:
        if in_place or not each.in_place:
            rule = each.run(rule)
    return rule
