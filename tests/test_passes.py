"""Every pass keeps the meaning of every rule: the interpreter gets the same before and
after it, and no gradient changes on the way. What a rule is for one target it is for all.
"""

from itertools import accumulate

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from once_wrong import ONCE_WRONG
from oracle import (
    assert_close,
    assert_same_bits,
    checked,
    examples,
    interpreted,
    is_calculable,
    round_off,
    scenario,
)
from random_specs import specs

from optdsl import ir, passes, resources
from optdsl.check import CAPTURABLE, FOREACH, LOOP
from optdsl.find import read
from optdsl.invariants import verify
from optdsl.pipeline import build
from optdsl.source import Source

LIBRARY = sorted(resources.library().items())
every_rule = pytest.mark.parametrize(
    "path", [path for _, path in LIBRARY], ids=[name for name, _ in LIBRARY]
)


def checked_for(text: str) -> dict[str, ir.Rule]:
    """The rule for each target that it can run on, where that is another one."""
    rules = {"loop": checked(text, LOOP), "foreach": checked(text, FOREACH)}
    if build(Source("random.opt", text)).lowered.captured is not None:
        rules["captured"] = checked(text, CAPTURABLE)
    if rules["foreach"] == rules["loop"]:
        del rules["foreach"]
    return rules


def assert_passes_keep_the_meaning(rule: ir.Rule, seed: int, captured: bool) -> None:
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
    flat = interpreted(passes.flatten(stages[-1], captured), start)
    try:
        assert_close(before, flat, round_off(rule, start, before))
    except AssertionError as error:
        raise AssertionError(f"flatten changes the meaning: {error}") from None


def assert_targets_agree(rules: dict[str, ir.Rule], seed: int) -> None:
    start = scenario(rules["loop"], seed)
    expected = interpreted(rules["loop"], start)
    allowed = round_off(rules["loop"], start, expected)
    for rule in rules.values():
        assert_close(expected, interpreted(rule, start), allowed)
    differentiable = start.with_options(differentiable=True)
    assert_close(expected, interpreted(rules["loop"], differentiable), allowed)


def assert_every_target_keeps_the_meaning(text: str, seed: int) -> None:
    rules = checked_for(text)
    assert_targets_agree(rules, seed)
    for target, rule in rules.items():
        assert_passes_keep_the_meaning(rule, seed, captured=target == "captured")


@examples(60)
@given(text=specs(), seed=st.integers(0, 999))
def test_every_pass_keeps_the_meaning_of_a_random_rule(text, seed):
    assume(is_calculable(text, seed))
    assert_every_target_keeps_the_meaning(text, seed)


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_every_pass_keeps_the_meaning_of_a_rule_that_went_wrong(name):
    functions = checked(ONCE_WRONG[name]).functions
    assert len({each.name for each in functions}) == len(functions)
    for seed in range(3):
        assert_every_target_keeps_the_meaning(ONCE_WRONG[name], seed)


@every_rule
def test_every_pass_keeps_the_meaning_of_a_library_rule(path):
    for seed in range(4):
        assert_every_target_keeps_the_meaning(read(path).text, seed)


def test_most_rules_run_on_every_target():
    captured = [
        path for _, path in LIBRARY if "captured" in checked_for(read(path).text)
    ]
    assert len(captured) >= len(LIBRARY) - 2
