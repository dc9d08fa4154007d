"""Every pass keeps the meaning of every rule: the interpreter gets the same before and
after it, and no gradient changes on the way. What a rule is for one target it is for all.
"""

from dataclasses import dataclass
from itertools import accumulate

import pytest
from built import built
from hypothesis import assume, given
from hypothesis import strategies as st
from once_wrong import ONCE_WRONG
from oracle import (
    Results,
    Scenario,
    assert_close,
    assert_same_bits,
    checked,
    every,
    examples,
    interpreted,
    is_calculable,
    round_off,
    scenario,
)
from random_specs import specs

from optdsl import ir, passes, resources, vocabulary
from optdsl.check import CAPTURABLE, FOREACH, LOOP
from optdsl.find import read
from optdsl.invariants import verify

LIBRARY = sorted(resources.library().items())
# Rules that take matrices apart, which waits for the device.
DECOMPOSING = [
    name
    for name, path in LIBRARY
    if any(f" {each}(" in read(path).text for each in vocabulary.OF_MATRICES)
]
every_rule = pytest.mark.parametrize(
    "path", [path for _, path in LIBRARY], ids=[name for name, _ in LIBRARY]
)


def checked_for(text: str) -> dict[str, ir.Rule]:
    """The rule for each target that it can run on, where that is another one."""
    rules = {"loop": checked(text, LOOP), "foreach": checked(text, FOREACH)}
    if built(text).lowered.captured is not None:
        rules["captured"] = checked(text, CAPTURABLE)
    if rules["foreach"] == rules["loop"]:
        del rules["foreach"]
    return rules


@dataclass(frozen=True)
class Meaning:
    """What the interpreter makes of a rule from a start, and how far round-off may go."""

    start: Scenario
    exact: Results
    allowed: Results


def meaning(rule: ir.Rule, seed: int) -> Meaning:
    start = scenario(rule, seed)
    exact = interpreted(rule, start)
    return Meaning(start, exact, round_off(rule, start, exact))


def assert_passes_keep_the_meaning(
    rule: ir.Rule, meant: Meaning, captured: bool
) -> None:
    """A pass that leaves a rule as it was is not asked what it means."""
    stages = list(
        accumulate(passes.PASSES, lambda rule, each: each.run(rule), initial=rule)
    )
    before = meant.exact
    for each, earlier, later in zip(passes.PASSES, stages, stages[1:], strict=False):
        if later == earlier:
            continue
        verify(later, each.run.__name__)
        after = interpreted(later, meant.start)
        try:
            if each.bit_exact:
                assert_same_bits(before, after)
            else:
                assert_close(before, after, meant.allowed)
        except AssertionError as error:
            raise AssertionError(
                f"{each.run.__name__} changes the meaning: {error}"
            ) from None
        before = after
    deferred = rule if captured else passes.defer(rule)
    flat = passes.flatten(passes.lower(deferred), captured)
    for name, changed in ("defer", deferred), ("flatten", flat):
        if changed == rule:
            continue
        verify(changed, name)
        try:
            assert_close(before, interpreted(changed, meant.start), meant.allowed)
        except AssertionError as error:
            raise AssertionError(f"{name} changes the meaning: {error}") from None


def assert_every_target_keeps_the_meaning(text: str, seed: int) -> None:
    rules = checked_for(text)
    loop = rules.pop("loop")
    meant = meaning(loop, seed)
    differentiable = meant.start.with_options(differentiable=True)
    for rule, start in (
        *((each, meant.start) for each in rules.values()),
        (loop, differentiable),
    ):
        assert_close(meant.exact, interpreted(rule, start), meant.allowed)
    assert_passes_keep_the_meaning(loop, meant, captured=False)
    for target, rule in rules.items():
        assert_passes_keep_the_meaning(
            rule, meaning(rule, seed), captured=target == "captured"
        )


@examples(30)
@given(text=specs(), seed=st.integers(0, 999))
def test_every_pass_keeps_the_meaning_of_a_random_rule(text, seed):
    assume(is_calculable(text, seed))
    assert_every_target_keeps_the_meaning(text, seed)


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_every_pass_keeps_the_meaning_of_a_rule_that_went_wrong(name):
    functions = checked(ONCE_WRONG[name]).functions
    assert len({each.name for each in functions}) == len(functions)
    for seed in every(2, range(3)):
        assert_every_target_keeps_the_meaning(ONCE_WRONG[name], seed)


@every_rule
def test_every_pass_keeps_the_meaning_of_a_library_rule(path):
    for seed in every(4, range(4)):
        assert_every_target_keeps_the_meaning(read(path).text, seed)


def waits_for_the_host(name: str, rule: ir.Rule) -> bool:
    """Whether a step of a rule has work that no captured step can do."""
    return (
        name in DECOMPOSING or rule.random or rule.reads_loss or rule.counted == "int"
    )


@every_rule
def test_a_rule_is_captured_unless_it_waits_for_the_host(path):
    text = read(path).text
    captured = "captured" in checked_for(text)
    assert captured or waits_for_the_host(path.stem, checked(text))


def test_numbers_wait_for_a_call_that_takes_them():
    """What a paper writes as corrected moments costs no pass over memory."""
    text = """
optimizer Paper
hyper lr = 1e-3
hyper beta = 0.9 in [0, 1)
state m = 0
step:
    m = lerp(m, grad, 1 - beta)
    m_hat = m/(1 - beta**t)
    p -= lr*m_hat/(abs(grad) + 1)
"""
    flat = built(text).lowered.foreach
    called = [
        node.name
        for each in flat.step
        for node in ir.walk(each)
        if isinstance(node, ir.Op)
    ]
    assert called == ["lerp", "abs", "add", "addcdiv"]


@pytest.mark.parametrize(
    "divisor", ["beta", "1 - 2*beta", "beta*(t - 1)", "1 - beta**(t - 1)"]
)
def test_a_number_that_may_be_zero_divides_tensors(divisor):
    """A tensor that is divided by zero is infinite; a number raises."""
    text = f"""
optimizer Zero
hyper beta = 0.5 in [0, 1)
step:
    update = grad/({divisor})
    update *= 2
    p -= update
"""
    flat = built(text).lowered.foreach
    ops = [node for each in flat.step for node in ir.walk(each)]
    assert "div" in [each.name for each in ops if isinstance(each, ir.Op)]
