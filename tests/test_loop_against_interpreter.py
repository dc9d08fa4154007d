"""The class that a text compiles to does what the interpreter does with the checked rule:
the same parameters and states after every step, in float64 to round-off as it is
measured in `oracle`, in float32 to round-off of float32. Gradients keep their bits.
"""

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from once_wrong import ONCE_WRONG
from oracle import (
    Results,
    Scenario,
    assert_close,
    checked,
    examples,
    interpreted,
    round_off,
    scenario,
)
from random_specs import specs
from test_passes import LIBRARY
from torch.nn import Parameter

import optdsl
from optdsl import ir, load
from optdsl.find import read


def trained(
    cls: type, rule: ir.Rule, given: Scenario, maximize: bool, dtype: torch.dtype
) -> Results:
    """What the class makes of a scenario: like `interpreted`, with its own states."""
    params = [Parameter(each.to(dtype)) for each in given.parameters]
    groups = [
        {"params": params[:-1], **given.of_group(0)},
        {"params": params[-1:], **given.of_group(len(params) - 1)},
    ]
    optimizer = cls(groups, maximize=maximize)
    results: Results = []
    for gradients in given.gradients:
        before = [
            None if each is None else (-each if maximize else each).to(dtype)
            for each in gradients
        ]
        held = [None if each is None else each.clone() for each in before]
        for param, grad in zip(params, held, strict=True):
            param.grad = grad
        optimizer.step()
        for at, (param, grad) in enumerate(zip(params, held, strict=True)):
            assert param.grad is grad, f"the model's gradient {at} was replaced"
            assert grad is None or torch.equal(grad, before[at]), (
                f"gradient {at} was changed"
            )
            state = optimizer.state.get(param, {})
            kept = {
                each.name: state[each.name]
                for each in rule.states
                if each.name in state
            }
            results.append(
                {k: v.detach().clone() for k, v in {"p": param, **kept}.items()}
            )
    return results


def keeps_doubles(rule: ir.Rule) -> bool:
    """Whether a state is a number on the host, which torch keeps in its default dtype."""
    return any(each.host for each in rule.states)


def assert_loop_computes_the_rule(text: str, seed: int) -> None:
    rule = checked(text)
    start = scenario(rule, seed)
    expected = interpreted(rule, start)
    allowed = round_off(rule, start, expected)
    torch.set_default_dtype(torch.float64 if keeps_doubles(rule) else torch.float32)
    try:
        cls = optdsl.from_string(text)
        got = trained(cls, rule, start, maximize=seed % 2 == 1, dtype=torch.float64)
    finally:
        torch.set_default_dtype(torch.float32)
        load._MODULES.clear()
    sys.modules.pop(cls.__module__)
    assert_close(expected, got, allowed)


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_a_class_that_once_went_wrong_computes_its_rule(name):
    for seed in range(4):
        assert_loop_computes_the_rule(ONCE_WRONG[name], seed)


@examples(60)
@given(text=specs(), seed=st.integers(0, 999))
def test_a_random_class_computes_its_rule(text, seed):
    assert_loop_computes_the_rule(text, seed)


@pytest.mark.parametrize(
    "path", [path for _, path in LIBRARY], ids=[name for name, _ in LIBRARY]
)
def test_a_library_class_computes_its_rule(path):
    for seed in range(6):
        assert_loop_computes_the_rule(read(path).text, seed)


@pytest.mark.parametrize(
    "path", [path for _, path in LIBRARY], ids=[name for name, _ in LIBRARY]
)
def test_a_library_class_computes_its_rule_in_float32(path):
    """Each result is rounded to 24 binary digits; errors in the 20th, sixteen times as
    large, bound a few of them in a row even where they happen to cancel.
    """
    text = read(path).text
    rule = checked(text)
    for seed in range(6):
        start = scenario(rule, seed)
        single = Scenario(
            start.hypers,
            tuple(each.float().double() for each in start.parameters),
            tuple(
                tuple(
                    None if each is None else each.float().double()
                    for each in gradients
                )
                for gradients in start.gradients
            ),
        )
        expected = interpreted(rule, single)
        allowed = round_off(rule, single, expected, size=2.0**-20)
        cls = optdsl.from_string(text)
        assert_close(
            expected, trained(cls, rule, single, False, torch.float32), allowed
        )
