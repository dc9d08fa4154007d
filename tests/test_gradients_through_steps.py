"""Autograd sees through the steps of a class what it sees through the interpreter: the
same gradients of the parameters after some steps, by the parameters before and by every
gradient that came in.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from once_wrong import ONCE_WRONG
from oracle import Scenario, checked, every, scenario
from test_passes import LIBRARY
from test_targets_against_interpreter import doubles, loaded
from torch import Tensor

from optdsl import interpret, ir
from optdsl.check import DIFFERENTIABLE
from optdsl.find import read
from optdsl.verify.run import loss_of

RULES = {name: read(path).text for name, path in LIBRARY} | ONCE_WRONG
Moved = Callable[[list[Tensor], Sequence[Sequence[Tensor | None]]], list[Tensor]]


def is_followed(rule: ir.Rule) -> bool:
    """Whether autograd can follow a rule: not where parameters step together, nor where
    entries of sparse gradients are written or a hook writes in place; bfloat16 rounds too
    much to tell.
    """
    if rule.in_phases or (rule.sparse is not None and rule.sparse.only):
        return False
    if any(ir.assigned(each.body) for each in (*rule.pre_steps, *rule.post_steps)):
        return False
    return not any(
        isinstance(node, ir.Call) and node.function == "bfloat16"
        for block in ir.blocks(rule)
        for statement in block
        for node in ir.walk(statement)
    )


def slopes(given: Scenario, moved: Moved) -> list[Tensor]:
    """The gradients of all that came in; zeros where nothing depends on it."""
    params = [each.clone().requires_grad_() for each in given.parameters]
    grads = [
        [None if each is None else each.clone().requires_grad_() for each in step]
        for step in given.gradients
    ]
    results = moved([each.clone() for each in params], grads)
    leaves = [*params, *(each for step in grads for each in step if each is not None)]
    total = sum((each * each + each).sum() for each in [*results, *leaves])
    return list(torch.autograd.grad(total, leaves))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    "name", [name for name, text in RULES.items() if is_followed(checked(text))]
)
def test_autograd_sees_through_a_step_what_it_sees_through_the_interpreter(name: str):
    rule = checked(RULES[name], DIFFERENTIABLE)

    def interpreted(params, grads):
        memories = [
            interpret.Memory(
                p,
                given.of_group(at) | {"differentiable": True},
                seed=given.seed(at),
                place=given.place(at),
            )
            for at, p in enumerate(params)
        ]
        for step in grads:
            for memory, grad in zip(memories, step, strict=True):
                memory.grad = grad
            interpret.step(rule, memories, loss_of(0))
        return [each.p for each in memories]

    def trained(params, grads):
        last = len(params) - 1
        groups = [
            {"params": params[:-1], **given.of_group(0), **given.seeds(rule, 0)},
            {"params": params[-1:], **given.of_group(last), **given.seeds(rule, last)},
        ]
        optimizer = cls(groups, differentiable=True)
        for step in grads:
            for param, grad in zip(params, step, strict=True):
                param.grad = grad
            optimizer.step(lambda: loss_of(0))
        return params

    for seed in every(3, range(3)):
        given = scenario(rule, seed)
        expected = slopes(given, interpreted)
        with loaded(RULES[name]) as cls, doubles():
            found = slopes(given, trained)
        for left, right in zip(expected, found, strict=True):
            torch.testing.assert_close(right, left, rtol=1e-7, atol=1e-7)


def test_most_rules_of_the_library_are_followed():
    followed = [name for name, _ in LIBRARY if is_followed(checked(RULES[name]))]
    assert len(followed) >= 0.8 * len(LIBRARY)
