"""Every pass keeps the meaning of every rule: the interpreter gets the same before and
after it, and no gradient changes on the way.
"""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from once_wrong import ONCE_WRONG
from oracle import (
    assert_close,
    assert_same_bits,
    checked,
    examples,
    interpreted,
    round_off,
    scenario,
)
from random_specs import specs

from optdsl import ir, passes, resources
from optdsl.find import read
from optdsl.invariants import verify

LIBRARY = sorted(resources.library().items())


def assert_passes_keep_the_meaning(rule: ir.Rule, seed: int) -> None:
    start = scenario(rule, seed)
    stages = list(
        accumulate(passes.PASSES, lambda rule, each: each.run(rule), initial=rule)
    )
    before = interpreted(rule, start)
    for each, earlier, later in zip(passes.PASSES, stages, stages[1:], strict=False):
        verify(later, each.run.__name__)
        after = interpreted(later, start)
        try:
            if each.bit_exact:
                assert_same_bits(before, after)
            else:
                assert_close(before, after, round_off(earlier, start, before))
        except AssertionError as error:
            raise AssertionError(
                f"{each.run.__name__} changes the meaning: {error}"
            ) from None
        before = after


@examples(60)
@given(text=specs(), seed=st.integers(0, 999))
def test_every_pass_keeps_the_meaning_of_a_random_rule(text, seed):
    assert_passes_keep_the_meaning(checked(text), seed)


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_every_pass_keeps_the_meaning_of_a_rule_that_went_wrong(name):
    rule = checked(ONCE_WRONG[name])
    assert len({each.name for each in rule.functions}) == len(rule.functions)
    for seed in range(4):
        assert_passes_keep_the_meaning(rule, seed)


@pytest.mark.parametrize(
    "path", [path for _, path in LIBRARY], ids=[name for name, _ in LIBRARY]
)
def test_every_pass_keeps_the_meaning_of_a_library_rule(path):
    rule = checked(read(path).text)
    for seed in range(6):
        assert_passes_keep_the_meaning(rule, seed)
