"""The checks in the order in which a person wants to know: does it step, are its options
what they say, then gradients, groups, states, numbers, and the other ways to run it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..outcome import Outcome
from ..study import Studied
from . import (
    closures,
    differentiable,
    gradients,
    groups,
    interpreter,
    modes,
    numbers,
    options,
    states,
    targets,
    travel,
)


@dataclass(frozen=True, slots=True)
class Check:
    """`of_the_rule` where a rule may be meant to lack the property, so that one whose
    reference lacks it too is not at fault.
    """

    name: str
    judge: Callable[[Studied], Outcome]
    of_the_rule: bool = False


CHECKS: tuple[Check, ...] = (
    Check("each option steps with each shape and dtype", numbers.everything_steps),
    Check("options have an effect", options.have_an_effect, True),
    Check("weight decay matters", options.weight_decay_matters, True),
    Check("an unknown option is refused", options.unknown_is_refused),
    Check("a bad value is refused in every group", options.bad_is_refused),
    Check("maximizing is minimizing the negative", gradients.maximizing),
    Check("p.grad keeps its bits and is the same object", gradients.grad_is_kept),
    Check(
        "a parameter without gradient keeps its value and state",
        gradients.without_gradient,
    ),
    Check(
        "a parameter whose first gradient is late steps as if it were fresh",
        gradients.late,
        True,
    ),
    Check("zero gradients keep everything finite", gradients.zero_gradients, True),
    Check(
        "lr 0 at the first step keeps everything finite and the next step works",
        gradients.no_learning_rate_at_first,
        True,
    ),
    Check("two equal groups are one", groups.equal_groups),
    Check("a hyper of a group is obeyed in that group alone", groups.obeyed),
    Check("a group with lr 0 does not move", groups.lr_zero_group, True),
    Check("a group can be added later", groups.added_later),
    Check("the order of groups and parameters does not matter", groups.order),
    Check("a parameter steps the same beside others", groups.beside_others),
    Check(
        "state is made lazily and only for parameters with a gradient", states.lazily
    ),
    Check("no state shares memory with p, grad or another state", states.own_memory),
    Check("save, load, continue gives the same bits", travel.saved),
    Check("a state keeps its dtype on load", travel.dtypes_are_kept),
    Check("a copy (deepcopy, pickle) goes on with the same bits", travel.copied),
    Check("shapes: empty, 0-d, 4-d, non-contiguous", numbers.shapes),
    Check("bfloat16 stays near float32", numbers.short_is_near, True),
    Check(
        "a closure is run once, with gradients on, and its loss returned",
        closures.closure,
    ),
    Check("train() and eval() are each other's way back", modes.modes),
    Check("foreach and the loop agree", targets.foreach),
    Check("capturable and the loop agree", targets.capturable),
    Check("differentiable and the loop agree", differentiable.differentiable),
    Check("the loop does what the interpreter does", interpreter.loop),
    Check("foreach does what the interpreter does", interpreter.foreach),
    Check("capturable does what the interpreter does", interpreter.capturable),
    Check("fused does what the interpreter does", interpreter.fused),
)
AGAINST = {
    "": "it steps as its reference",
    "foreach": "with foreach=True it steps as its reference",
    "capturable": "with capturable=True it steps as its reference",
}
