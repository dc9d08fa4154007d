"""torch's own configurations of its optimizers: the same bits in ours.

torch runs most of those with a capturable step on accelerators alone; here its check of
the device is told that the CPU is one.
"""

from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optdsl import load_optimizer
from tests.parity import TORCH, assert_same, options, plain, side
from tests.torch_inputs import (
    DIFFERENTIABLE,
    FOREACH,
    INFO,
    NO_COMPLEX,
    OURS,
    captures_on_the_cpu,
    every_class,
    inputs,
    typed,
)

STEPS = 8


def allowed(hypers: dict[str, Any]) -> Any:
    return captures_on_the_cpu() if hypers.get("capturable") else nullcontext()


def assert_same_bits(spec: str, dtype: torch.dtype, **hypers: Any) -> None:
    with allowed(hypers):
        ours = side(load_optimizer(spec), dtype, **deepcopy(hypers))
        theirs = side(plain(spec), dtype, **deepcopy(hypers))
        for step in range(STEPS):
            assert_same(ours.steps(step), theirs.steps(step), f"step {step}")


def differs_on_purpose(hypers: dict[str, Any], dtype: torch.dtype) -> bool:
    betas = hypers.get("betas", (0.9,))
    return dtype is torch.bfloat16 and isinstance(betas[0], Tensor)


@pytest.mark.parametrize(("spec", "hypers", "dtype"), typed(inputs()))
def test_same_bits_in_torch_s_configurations(
    spec: str, hypers: dict[str, Any], dtype: torch.dtype
) -> None:
    if dtype.is_complex and spec in NO_COMPLEX:
        pytest.skip("refused, as in torch")
    if differs_on_purpose(hypers, dtype):
        pytest.skip("torch rounds betas in tensors; the test below is about these")
    assert_same_bits(spec, dtype, **hypers)


@pytest.mark.parametrize("spec", ["adam", "adamw"])
def test_betas_in_tensors_keep_their_precision(spec: str) -> None:
    """The first moment of a bfloat16 parameter is a tenth of the gradient to its rounding;
    torch's, with 0.9 in a tensor rounded to 0.8984, is not.
    """
    betas = (torch.tensor(0.9), torch.tensor(0.999))
    moments = []
    for make in (OURS[spec], plain(spec)):
        with captures_on_the_cpu():
            one = side(make, torch.bfloat16, betas=betas, capturable=True).steps(0)
        grad = one.parameters["matrix"].grad.double()
        moments.append(one.memory("matrix")["exp_avg"].double() / grad - 0.1)
    ours, theirs = (each.abs().max() for each in moments)
    assert ours <= 0.1 * 2**-8 < theirs


@pytest.mark.parametrize(("spec", "hypers", "dtype"), typed(inputs(*DIFFERENTIABLE)))
def test_same_bits_when_differentiable(
    spec: str, hypers: dict[str, Any], dtype: torch.dtype
) -> None:
    """torch skips its own tests of this with complex parameters where p.grad.real fails
    on its side; a leaf without gradients is stepped alike on both. In bfloat16 a value
    without axes takes its type from a count, and only in calls that are not in place.
    """
    if differs_on_purpose(hypers, dtype):
        pytest.skip("torch rounds betas in tensors")
    with allowed(hypers):
        made = []
        for make in (load_optimizer(spec), plain(spec)):
            one = side(make, dtype, **deepcopy(hypers), differentiable=True)
            for p in one.parameters.values():
                p.requires_grad_(False)
            names = [name for name, p in one.parameters.items() if p.ndim]
            made.append(one.only(names) if dtype is torch.bfloat16 else one)
        for step in range(STEPS):
            assert_same(made[0].steps(step), made[1].steps(step), f"step {step}")


@pytest.mark.parametrize(("spec", "hypers"), inputs(*FOREACH))
def test_can_be_made_with_foreach(spec: str, hypers: dict[str, Any]) -> None:
    """torch's configurations include none that its foreach refuses with capturable."""
    if isinstance(hypers.get("lr"), Tensor) and not hypers.get("capturable"):
        pytest.skip("a tensor lr is for capturable, or for the loop")
    optimizer = load_optimizer(spec)(
        [Parameter(torch.ones(2, 2))], foreach=True, **hypers
    )
    assert optimizer.param_groups[0]["foreach"] is True


@every_class
def test_a_capturable_step_refuses_the_cpu_as_torch_does(spec: str) -> None:
    if "capturable" not in options(TORCH[spec]):
        pytest.skip("torch's has no such option")
    for make in (load_optimizer(spec), plain(spec)):
        one = side(make, capturable=True)
        with pytest.raises(AssertionError, match="capturable"):
            one.step(0)


@every_class
def test_zero_gradients_move_nothing(spec: str) -> None:
    """As torch tests it: with no weight decay; ASGD decays by itself."""
    hypers = {"weight_decay": 0} if "weight_decay" in options(TORCH[spec]) else {}
    one = side(
        load_optimizer(spec), **hypers, **({"lambd": 0} if spec == "asgd" else {})
    )
    before = {name: p.detach().clone() for name, p in one.parameters.items()}
    for step in range(3):
        one.step(step, torch.zeros_like)
    for name, p in one.parameters.items():
        assert torch.equal(p, before[name]), name


@every_class
def test_without_gradients_nothing_happens(spec: str) -> None:
    """As torch tests it; state stays empty, and no step is counted."""
    one = side(load_optimizer(spec))
    before = {name: p.detach().clone() for name, p in one.parameters.items()}
    one.optimizer.step()
    one.optimizer.zero_grad()
    one.optimizer.step()
    assert not one.optimizer.state
    assert all(torch.equal(p, before[name]) for name, p in one.parameters.items())


@every_class
def test_refuses_complex_parameters_where_torch_does(spec: str) -> None:
    assert INFO[spec].supports_complex == (spec not in NO_COMPLEX)
    errors = []
    for make in (load_optimizer(spec), plain(spec)):
        try:
            side(make, torch.complex64).steps(0, 1)
            errors.append(None)
        except Exception as error:
            errors.append(type(error))
    assert errors[0] is errors[1]
