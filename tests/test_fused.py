"""Kernels compute the rule: what the interpreter gets in float64, to round-off of the
precision that they calculate in, for every rule that has them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from built import built, of_library
from hypothesis import assume, given
from hypothesis import strategies as st
from once_wrong import ONCE_WRONG
from oracle import (
    Scenario,
    assert_close,
    checked,
    every,
    examples,
    interpreted,
    is_calculable,
    round_off,
    scenario,
)
from random_specs import specs
from test_targets_against_interpreter import (
    doubles,
    loaded,
    single,
    trained,
)

from optdsl.resources import library
from optdsl.runtime.kernel import Kernel
from optdsl.runtime.launch import Launch, is_asked_for
from optdsl.runtime.turns import Turns

FUSED = {"fused": True}


@contextmanager
def kernels_alone(leave: bool = False) -> Iterator[list[int]]:
    """Where every group that asks for kernels has to get them, unless they may `leave`
    some; how many launches took each step.
    """
    launches: list[int] = []
    repeat, run, one = Kernel.repeat, Launch.run, Launch.step
    apart, of = Turns.apart, Turns.of

    def begun(self: Kernel, optimizer: Any) -> list:
        launches.append(0)
        return repeat(self, optimizer)

    def watched(self: Launch) -> list:
        unasked = len(self.left)
        left = run(self)
        assert leave or len(left) == unasked, "kernels left a group to another target"
        return left

    def counted(self: Launch, batch: object) -> bool:
        launches[-1] += 1
        return one(self, batch)

    def parted(self: Turns, optimizer: Any, groups: list) -> tuple[list, list]:
        launches.append(0)
        taken, left = apart(self, optimizer, groups)
        asked = [group for group, _ in left if is_asked_for(group, False)]
        assert leave or not asked, "a group was left without a turn of kernels"
        return taken, left

    def carried(self: Turns, *columns: Any) -> list | None:
        result = of(self, *columns)
        assert leave or result is not None, "kernels left their turns"
        return result

    with (
        patch.object(Turns, "apart", parted),
        patch.object(Turns, "of", carried),
        patch.object(Kernel, "repeat", begun),
        patch.object(Launch, "run", watched),
        patch.object(Launch, "step", counted),
    ):
        yield launches


def has_kernels(text: str) -> bool:
    return built(text).lowered.kernels is not None


def assert_kernels_compute(
    text: str,
    start: Scenario,
    dtype: torch.dtype,
    size: float,
    turn: int,
    leave: bool = False,
) -> list[int]:
    """Whether kernels get what the interpreter gets, each of whose results may be wrong in
    a relative `size`; how many launches took each step.
    """
    rule = checked(text)
    expected = interpreted(rule, start)
    allowed = round_off(rule, start, expected, size=size)
    with loaded(text) as cls, kernels_alone(leave) as launches:
        got = trained(cls, rule, start, dtype, **FUSED, maximize=turn % 2 == 1)
    assert_close(expected, got, allowed)
    return launches


CARRIED = [each for each in library() if of_library(each).lowered.kernels]
with_kernels = pytest.mark.parametrize("name", CARRIED)


@with_kernels
def test_kernels_compute_a_rule_of_the_library(name: str) -> None:
    text = library()[name].read_text()
    for seed in every(3, range(6)):
        with doubles():
            start = scenario(checked(text), seed)
            assert_kernels_compute(text, start, torch.float64, 2.0**-40, seed)


@with_kernels
def test_kernels_compute_a_rule_of_the_library_in_float32(name: str) -> None:
    """Each result is rounded to 24 binary digits; see the same test of the other targets."""
    text = library()[name].read_text()
    start = single(scenario(checked(text), 1))
    assert_kernels_compute(text, start, torch.float32, 2.0**-20, 1)


@examples(40)
@given(text=specs(axes=False), seed=st.integers(0, 999))
def test_kernels_compute_a_random_rule(text: str, seed: int) -> None:
    """Its hooks may make gradients that lie across their memory, which kernels leave; and
    about half of the rules need what no kernel does.
    """
    if not has_kernels(text):
        return
    assume(is_calculable(text, seed))
    with doubles():
        start = scenario(checked(text), seed)
        size = 2.0**-40
        assert_kernels_compute(text, start, torch.float64, size, seed, True)


@pytest.mark.parametrize("name", every(2, ONCE_WRONG))
def test_kernels_compute_a_rule_that_once_went_wrong(name: str) -> None:
    text = ONCE_WRONG[name]
    if not has_kernels(text):
        pytest.skip(built(text).lowered.no_kernels)
    with doubles():
        start = scenario(checked(text), 1)
        assert_kernels_compute(text, start, torch.float64, 2.0**-40, 1, True)
