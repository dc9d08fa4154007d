"""torch.amp.GradScaler with our classes, as with torch's."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from tests.parity import Side, assert_same, plain, side
from tests.torch_inputs import DENSE, FUSED, OURS, a_parameter, both_classes

OVERFLOW = (2, 5)
every_dense_class = pytest.mark.parametrize("spec", DENSE)


def scaled(one: Side, scaler: GradScaler, step: int) -> None:
    """One step on scaled gradients; in some steps one of them has overflowed."""
    scaler.scale(torch.ones(()))  # makes the scale, as a loss does
    factor = scaler.get_scale()

    def change(grad: Tensor) -> Tensor:
        grad = grad * factor
        if step in OVERFLOW and grad.numel() > 3:
            grad[(0,) * grad.ndim] = float("inf")
        return grad

    one.give(step, change)
    scaler.step(one.optimizer)
    scaler.update()


def scaler() -> GradScaler:
    return GradScaler("cpu", init_scale=2.0**10, growth_interval=2)


@every_dense_class
def test_same_bits_and_scales_as_torch(spec: str) -> None:
    ours, theirs = side(OURS[spec]), side(plain(spec))
    mine, its = scaler(), scaler()
    scales = []
    for step in range(8):
        scaled(ours, mine, step)
        scaled(theirs, its, step)
        assert_same(ours, theirs, f"step {step}")
        assert mine.get_scale() == its.get_scale()
        scales.append(mine.get_scale())
    assert len({*scales}) > 1, "some steps were skipped"


@every_dense_class
def test_a_skipped_step_changes_and_counts_nothing(spec: str) -> None:
    """Scales are powers of two, so that unscaled gradients have the bits of plain ones."""
    ours, whole, mine = side(OURS[spec]), side(OURS[spec]), scaler()
    for step in range(8):
        before = {name: p.detach().clone() for name, p in ours.parameters.items()}
        scaled(ours, mine, step)
        if step in OVERFLOW:
            assert all(
                torch.equal(p, before[name]) for name, p in ours.parameters.items()
            )
        else:
            whole.step(step)
        assert_same(ours, whole, f"step {step}")


@every_dense_class
def test_the_first_step_may_be_skipped(spec: str) -> None:
    ours, mine = side(OURS[spec]), scaler()
    scaled(ours, mine, OVERFLOW[0])
    assert not ours.optimizer.state
    scaled(ours, mine, 0)
    assert_same(ours, side(OURS[spec]).steps(0))


@every_dense_class
def test_gradients_may_be_unscaled_and_clipped_before(spec: str) -> None:
    def trained(cls: Callable[..., Optimizer]) -> list[Any]:
        p, mine = a_parameter(spec), scaler()
        optimizer, norms = cls([p], lr=0.1), []
        for _ in range(3):
            p.grad = None
            mine.scale(p.square().sum()).backward()
            mine.unscale_(optimizer)
            norms.append(torch.nn.utils.clip_grad_norm_([p], 0.5))
            mine.step(optimizer)
            mine.update()
        return [p.detach(), *norms]

    for ours, theirs in zip(trained(OURS[spec]), trained(plain(spec)), strict=True):
        assert torch.equal(ours, theirs)


@every_dense_class
def test_a_closure_is_refused_by_the_scaler_as_with_torch(spec: str) -> None:
    for cls in both_classes(spec):
        p, mine = a_parameter(spec), scaler()
        mine.scale(p.sum()).backward()
        with pytest.raises(RuntimeError, match="[Cc]losure"):
            mine.step(cls([p]), closure=lambda: 1.0)


@every_dense_class
def test_only_fused_steps_unscale_by_themselves(spec: str) -> None:
    """GradScaler asks for this attribute, and leaves unscaling to who has it."""
    for cls in both_classes(spec):
        optimizer = cls([a_parameter(spec)])
        assert not getattr(optimizer, "_step_supports_amp_scaling", False)


@pytest.mark.parametrize("spec", FUSED)
def test_fused_steps_and_the_scaler_go_together_as_in_torch(spec: str) -> None:
    """To 1e-6: ours may unscale before the step where torch's kernel does it within."""
    results = []
    for make in (OURS[spec], plain(spec)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that foreach stands in for our kernels
            one, mine = side(make, fused=True), scaler()
        for step in range(8):
            scaled(one, mine, step)
        results.append((one, mine.get_scale()))
    (ours, scale), (theirs, their_scale) = results
    assert scale == their_scale
    for name, p in ours.parameters.items():
        torch.testing.assert_close(p, theirs.parameters[name], rtol=1e-6, atol=1e-6)
        count = ours.memory(name).get("step")
        assert count is None or count == theirs.memory(name)["step"]
