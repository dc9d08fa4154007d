"""The class that a text compiles to does what the interpreter does with the checked rule,
on every target that the rule can run on: the same parameters and states after every step,
in float64 to round-off as it is measured in `oracle`, in float32 to round-off of float32.
Gradients keep their bits.

A captured step runs here as any other does, on the CPU, where torch says that capturing is
for accelerators: what it computes is the same there.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from built import NAME
from hypothesis import assume, given
from hypothesis import strategies as st
from once_wrong import ONCE_WRONG
from oracle import (
    Results,
    Scenario,
    assert_close,
    checked,
    elsewhere,
    every,
    examples,
    interpreted,
    is_calculable,
    round_off,
    scenario,
)
from random_specs import specs
from test_passes import LIBRARY, every_rule, waits_for_the_host
from torch import Tensor

import optdsl
from optdsl import ir, load
from optdsl.find import read
from optdsl.verify.run import loss_of

TARGETS = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "captured": {"foreach": False, "capturable": True},
    "captured foreach": {"foreach": True, "capturable": True},
    "differentiable": {"foreach": False, "differentiable": True},
}


def targets_of(cls: type) -> list[str]:
    """The targets that a class does not say it cannot have."""
    return [target for target in TARGETS if not refuses(cls, TARGETS[target])]


def refuses(cls: type, options: dict) -> bool:
    try:
        cls([torch.nn.Parameter(torch.zeros(2, 2))], **options)
    except RuntimeError as error:
        if not re.search("cannot be captured|is not differentiable", str(error)):
            raise
        return True
    return False


def trained(
    cls: type, rule: ir.Rule, given: Scenario, dtype: torch.dtype, **options: bool
) -> Results:
    """What the class makes of a scenario: like `interpreted`, with its own states. Where
    the dtype is complex, the last axis of the scenario has pairs.
    """

    def own(tensor: Tensor) -> Tensor:
        tensor = torch.view_as_complex(tensor) if dtype.is_complex else tensor
        return tensor.to(dtype, copy=True)

    params = [own(each) for each in given.parameters]
    if not options.get("differentiable"):  # autograd sees no change of its own leaves
        params = [torch.nn.Parameter(each) for each in params]
    groups = [
        {"params": params[:-1], **given.of_group(0)},
        {"params": params[-1:], **given.of_group(len(params) - 1)},
    ]
    for group, at in zip(groups, (0, len(params) - 1), strict=True):
        group |= given.seeds(rule, at)
    optimizer = cls(groups, **options)
    sparse = rule.sparse is not None and rule.sparse.only
    results: Results = []
    for number, gradients in enumerate(given.gradients):
        for group, at in zip(optimizer.param_groups, (0, len(params) - 1), strict=True):
            group |= given.rate(at, number)
        before = [
            None if each is None else own(-each if options["maximize"] else each)
            for each in gradients
        ]
        held = [None if each is None else each.clone() for each in before]
        held = [
            each.to_sparse() if sparse and each is not None else each for each in held
        ]
        for param, grad in zip(params, held, strict=True):
            param.grad = grad
        loss = -loss_of(number) if options["maximize"] else loss_of(number)
        starts = [each.detach().clone() for each in params]
        sign = -1 if options["maximize"] else 1

        def closure(loss=loss, given=before, starts=starts, sign=sign) -> Tensor:
            for param, grad, start in zip(params, given, starts, strict=True):
                if param.grad is None and grad is not None:
                    way = param.detach() - start
                    param.grad = sign * elsewhere(sign * grad, way)
            return loss

        optimizer.step(closure)
        for hook in rule.on_calls:
            getattr(optimizer, hook.name)()
        for at, (param, grad) in enumerate(zip(params, held, strict=True)):
            assert param.grad is grad, f"the model's gradient {at} was replaced"
            assert grad is None or torch.equal(grad.to_dense(), before[at]), (
                f"gradient {at} was changed"
            )
            state = optimizer.state.get(param, {})
            kept = {
                name: value
                for name, value in state.items()
                if name not in ("step", "first")
            }
            seen = {"p": param.detach(), **kept}
            results.append({name: _as_reals(each) for name, each in seen.items()})
    return results


def _as_reals(tensor: Tensor) -> Tensor:
    reals = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return reals.clone()


@contextmanager
def loaded(text: str) -> Iterator[type]:
    """The class of a text for a while, allowed to be captured on the CPU."""
    cls = optdsl.from_string(text, NAME)
    module, name = sys.modules[cls.__module__], "_get_capturable_supported_devices"
    try:
        with patch.object(module, name, lambda: ["cpu"], create=True):
            yield cls
    finally:
        load._MODULES.clear()
        del sys.modules[cls.__module__]


@contextmanager
def doubles() -> Iterator[None]:
    """Counts and scalar states in float64: torch keeps them in its default dtype."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def assert_every_target(
    cls: type,
    rule: ir.Rule,
    start: Scenario,
    expected: Results,
    allowed: Results,
    dtype: torch.dtype,
    turn: int,
    unsigned: str = "",
) -> None:
    """Whether the class gets what is expected, whichever way it runs; some minimize and
    some maximize the negative. Of the list of states that is `unsigned`, magnitudes count.
    """
    expected = magnitudes(expected, unsigned)
    for at, target in enumerate(targets_of(cls)):
        options = {**TARGETS[target], "maximize": (turn + at) % 2 == 1}
        try:
            got = trained(cls, rule, start, dtype, **options)
            assert_close(expected, magnitudes(got, unsigned), allowed)
        except Exception as error:
            error.add_note(f"target: {target}")
            raise


def magnitudes(results: Results, unsigned: str) -> Results:
    """The results with the magnitudes of one list of states."""
    if not unsigned:
        return results
    return [
        {
            name: value.abs() if name.startswith(f"{unsigned}_") else value
            for name, value in each.items()
        }
        for each in results
    ]


# An eigenvector has no sign: each precision may take another one.
UNSIGNED = {"soap": "basis"}


def assert_class_computes_the_rule(text: str, seed: int) -> None:
    rule = checked(text)
    start = scenario(rule, seed)
    expected = interpreted(rule, start)
    allowed = round_off(rule, start, expected)
    with loaded(text) as cls, doubles():
        assert_every_target(cls, rule, start, expected, allowed, torch.float64, seed)


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_a_class_that_once_went_wrong_computes_its_rule(name):
    for seed in every(2, range(4)):
        assert_class_computes_the_rule(ONCE_WRONG[name], seed)
        assert_pairs_are_complex_numbers(ONCE_WRONG[name], seed)


@examples(30)
@given(text=specs(), seed=st.integers(0, 999))
def test_a_random_class_computes_its_rule(text, seed):
    assume(is_calculable(text, seed))
    assert_class_computes_the_rule(text, seed)


@every_rule
def test_a_library_class_computes_its_rule(path):
    for seed in every(2, range(4)):
        assert_class_computes_the_rule(read(path).text, seed)


def takes_complex(cls: type) -> bool:
    """Whether the class does not refuse complex parameters. Its hooks run before it looks,
    and may fail by themselves, so this is read and not tried.
    """
    page = inspect.getsource(sys.modules[cls.__module__])
    return "does not support complex parameters" not in page


def in_pairs(rule: ir.Rule, seed: int) -> Scenario:
    """A scenario whose tensors have one axis more, for two reals each."""
    real, imaginary = scenario(rule, seed), scenario(rule, seed + 1)

    def pair(one: Tensor | None, other: Tensor | None) -> Tensor | None:
        return None if one is None or other is None else torch.stack([one, other], -1)

    return Scenario(
        real.hypers,
        tuple(map(pair, real.parameters, imaginary.parameters)),
        tuple(
            tuple(map(pair, one, other))
            for one, other in zip(real.gradients, imaginary.gradients, strict=True)
        ),
    )


def assert_pairs_are_complex_numbers(text: str, seed: int) -> bool:
    """What the rule does to pairs of reals the class does to complex numbers; False,
    where it refuses them.
    """
    rule = checked(text)
    with loaded(text) as cls, doubles():
        if not takes_complex(cls):
            return False
        start = in_pairs(rule, seed)
        expected = interpreted(rule, start)
        allowed = _up_to_overflow(expected, round_off(rule, start, expected))
        assert_every_target(cls, rule, start, expected, allowed, torch.complex128, seed)
    return True


def _up_to_overflow(expected: Results, allowed: Results) -> Results:
    """A complex number one part of which is not finite spoils the other in any product,
    even with a real one; nothing is said of tensors with such numbers.
    """
    return [
        {
            name: far
            if here[name].isfinite().all()
            else torch.full_like(far, torch.inf)
            for name, far in each.items()
        }
        for here, each in zip(expected, allowed, strict=True)
    ]


@examples(20)
@given(text=specs(axes=False), seed=st.integers(0, 999))
def test_a_random_class_takes_complex_numbers_for_pairs(text, seed):
    assume(is_calculable(text, seed))
    assume(assert_pairs_are_complex_numbers(text, seed))


@every_rule
def test_a_library_class_takes_complex_numbers_for_pairs(path):
    for seed in every(3, range(3)):
        assert_pairs_are_complex_numbers(read(path).text, seed)


def test_most_rules_of_the_library_take_complex_numbers():
    """The others look at shapes, or keep a state of another shape than the parameter."""
    taken = 0
    for _, path in LIBRARY:
        with loaded(read(path).text) as cls:
            taken += takes_complex(cls)
    assert taken >= 2 / 3 * len(LIBRARY)


def single(given: Scenario) -> Scenario:
    """The same with values that float32 holds."""
    return Scenario(
        given.hypers,
        tuple(each.float().double() for each in given.parameters),
        tuple(
            tuple(None if each is None else each.float().double() for each in gradients)
            for gradients in given.gradients
        ),
    )


@every_rule
def test_a_library_class_computes_its_rule_in_float32(path):
    """Each result is rounded to 24 binary digits; errors in the 20th, sixteen times as
    large, bound a few of them in a row even where they happen to cancel.
    """
    text = read(path).text
    rule = checked(text)
    for seed in every(4, range(4)):
        start = single(scenario(rule, seed))
        expected = interpreted(rule, start)
        allowed = round_off(rule, start, expected, size=2.0**-20)
        with loaded(text) as cls:
            unsigned = UNSIGNED.get(path.stem, "")
            assert_every_target(
                cls, rule, start, expected, allowed, torch.float32, seed + 1, unsigned
            )


@every_rule
def test_a_rule_of_the_library_runs_on_every_target_that_it_can_have(path):
    """Loop and foreach always; captured unless it waits for the host; differentiable
    unless parameters step together or gradients are sparse.
    """
    text = read(path).text
    rule = checked(text)
    with loaded(text) as cls:
        targets = targets_of(cls)
    expected = ["loop", "foreach"]
    if not waits_for_the_host(path.stem, rule):
        expected += ["captured", "captured foreach"]
    if not (rule.in_phases or (rule.sparse is not None and rule.sparse.only)):
        expected.append("differentiable")
    assert targets == expected
