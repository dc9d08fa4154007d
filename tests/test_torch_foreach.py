"""foreach=True: what the loop does, as torch's foreach does what its loop does.

The same operations over lists round as the loop's do, but for what one of them takes as a
number and the other as a tensor. Such single numbers (counts, rates, products of momenta)
are kept in float32, as in torch, also beside float64 parameters.
"""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optdsl import load_optimizer
from tests.parity import Side, options, side
from tests.torch_inputs import (
    FOREACH,
    NO_COMPLEX,
    OURS,
    TORCH,
    captures_on_the_cpu,
    inputs,
    typed,
)

STEPS = 8
# Round-off of the single numbers, over parameters of order one; bfloat16 rounds more.
CLOSE = {
    torch.float32: 2e-5,
    torch.float64: 1e-7,
    torch.bfloat16: 0.05,
    torch.complex64: 2e-5,
}


def assert_close(ours: Side, theirs: Side, tolerance: float) -> None:
    for name, p in ours.parameters.items():
        its = theirs.parameters[name]
        assert p.dtype == its.dtype
        torch.testing.assert_close(p, its, rtol=tolerance, atol=tolerance, msg=name)
        here, there = ours.memory(name), theirs.memory(name)
        assert here.keys() == there.keys()
        for key, value in here.items():
            torch.testing.assert_close(
                value,
                there[key],
                rtol=tolerance,
                atol=tolerance,
                msg=f"{key} of {name}",
            )


def usable(hypers: dict[str, Any]) -> bool:
    """torch's foreach takes a learning rate in a tensor only when captured."""
    return not isinstance(hypers.get("lr"), Tensor) or hypers.get("capturable", False)


@pytest.mark.parametrize(("spec", "hypers", "dtype"), typed(inputs(*FOREACH)))
def test_lists_step_as_the_loop_does(
    spec: str, hypers: dict[str, Any], dtype: torch.dtype
) -> None:
    if not usable(hypers) or dtype.is_complex and spec in NO_COMPLEX:
        pytest.skip("refused, as in torch")
    with captures_on_the_cpu():
        one, two = (
            side(
                load_optimizer(spec), dtype, foreach=foreach, **deepcopy(hypers)
            ).steps(*range(STEPS))
            for foreach in (True, False)
        )
    assert_close(one, two, CLOSE[dtype])


@pytest.mark.parametrize(("spec", "hypers"), inputs(*FOREACH))
def test_lists_step_as_those_of_torch_do(spec: str, hypers: dict[str, Any]) -> None:
    if not usable(hypers):
        pytest.skip("refused, as in torch")
    with captures_on_the_cpu():
        one, two = (
            side(cls, torch.float64, foreach=True, **deepcopy(hypers)).steps(
                *range(STEPS)
            )
            for cls in (OURS[spec], TORCH[spec])
        )
    for name, p in one.parameters.items():
        torch.testing.assert_close(p, two.parameters[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", FOREACH)
def test_types_may_be_mixed_in_a_group(spec: str) -> None:
    """Each parameter goes with those of its type, in any order, and is stepped once."""
    dtypes = [torch.float32, torch.bfloat16, torch.float64, torch.float32]

    def stepped(foreach: bool) -> list[Tensor]:
        ps = [Parameter(torch.linspace(-1, 1, 6, dtype=each)) for each in dtypes]
        optimizer = OURS[spec](ps, foreach=foreach)
        for step in range(4):
            for at, p in enumerate(ps):
                torch.manual_seed(10 * step + at)
                p.grad = torch.randn(6).to(p.dtype)
            optimizer.step()
        return [p.detach() for p in ps]

    for dtype, one, two in zip(dtypes, stepped(True), stepped(False), strict=True):
        torch.testing.assert_close(one, two, rtol=CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.parametrize("spec", FOREACH)
def test_late_parameters_count_their_own_steps(spec: str) -> None:
    """One misses the first three steps, one every fourth, one has never a gradient."""
    one = side(OURS[spec], foreach=True).steps(*range(STEPS))
    assert one.parameters["never"] not in one.optimizer.state
    if "step" in one.memory("matrix"):
        counts = [one.memory(name)["step"].item() for name in ("matrix", "late")]
        assert counts == [STEPS, STEPS - 3]


@pytest.mark.parametrize("spec", FOREACH)
def test_gradients_stay_as_they_were(spec: str) -> None:
    flags = {"maximize": True} if "maximize" in options(TORCH[spec]) else {}
    one = side(OURS[spec], foreach=True, **flags).steps(0)
    one.give(1)
    before = {
        name: p.grad.clone() for name, p in one.parameters.items() if p.grad is not None
    }
    one.optimizer.step()
    for name, grad in before.items():
        assert torch.equal(one.parameters[name].grad, grad), name


@pytest.mark.parametrize("spec", ["sgd", "adagrad"])
def test_sparse_gradients_go_among_dense_ones(spec: str) -> None:
    def stepped(foreach: bool) -> list[Tensor]:
        ps = [Parameter(torch.linspace(-1, 1, 6).reshape(3, 2)) for _ in range(3)]
        optimizer = OURS[spec](ps, lr=0.1, foreach=foreach)
        for step in range(3):
            for at, p in enumerate(ps):
                torch.manual_seed(10 * step + at)
                grad = torch.randn(3, 2) * (torch.rand(3, 1) > 0.5)
                p.grad = grad.to_sparse(1) if at == 1 else grad
            optimizer.step()
        return [p.detach() for p in ps]

    for one, two in zip(stepped(True), stepped(False), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", FOREACH)
def test_the_way_to_step_may_change_between_steps(spec: str) -> None:
    """As a checkpoint that was made with one, and loaded with the other."""
    one, two = (side(OURS[spec], torch.float64, foreach=False) for _ in range(2))
    for step in range(STEPS):
        one.optimizer.param_groups[0]["foreach"] = step % 2 == 0
        one.step(step)
        two.step(step)
    assert_close(one, two, CLOSE[torch.float64])
