"""Autograd through a step gives what it gives through torch's.

Where torch's own in-place code loses what autograd needs (Adamax, RMSprop and others over
several steps), nothing is asked of ours.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from tests.torch_inputs import (
    DIFFERENTIABLE,
    OURS,
    both_classes,
    captures_on_the_cpu,
    inputs,
)


def leaf(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    return value.requires_grad_()


def stepped(
    cls: type[Optimizer], hypers: dict[str, Any], steps: int
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Parameters and states after steps, and the gradients that a loss of them sends to
    the first parameter and to each step's gradient.
    """
    first, grads = leaf(1), [leaf(2 + at) for at in range(steps)]
    p = first.clone()
    with captures_on_the_cpu():
        optimizer = cls([p], foreach=False, differentiable=True, **hypers)
        for grad in grads:
            p.grad = grad
            optimizer.step()
    memory = {
        name: value
        for name, value in optimizer.state[p].items()
        if isinstance(value, Tensor)
    }
    loss = (p * p).sum() + sum(each.double().square().sum() for each in memory.values())
    through = torch.autograd.grad(loss, [first, *grads], materialize_grads=True)
    return {name: each.detach() for name, each in {"p": p, **memory}.items()}, through


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("spec", "hypers"), inputs(*DIFFERENTIABLE))
def test_the_gradients_through_steps_are_those_of_torch(
    spec: str, hypers: dict[str, Any], steps: int
) -> None:
    """To 1e-12 in float64: autograd adds the same terms in another order."""
    theirs, ours = both_classes(spec)
    if spec == "sgd" and "momentum" in hypers:
        pytest.skip("torch cuts the first momentum buffer off; the test below is ours")
    try:
        their_values, their_through = stepped(theirs, hypers, steps)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        pytest.skip("torch cannot")
    values, through = stepped(ours, hypers, steps)
    torch.testing.assert_close(values, their_values, rtol=0, atol=0)
    assert their_through[0].any()
    for mine, its in zip(through, their_through, strict=True):
        # Captured, RAdam of torch sends NaN through what `where` does not choose.
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_first_momentum_buffer_of_sgd_has_a_gradient(nesterov: bool) -> None:
    """torch's is a detached clone. Shown by finite differences, which ours follow."""

    def steps(p: Tensor, *grads: Tensor) -> Tensor:
        p = p.clone()
        optimizer = OURS["sgd"]([p], 0.1, 0.9, 0, 0.2, nesterov, differentiable=True)
        for grad in grads:
            p.grad = grad
            optimizer.step()
        return p

    assert torch.autograd.gradcheck(steps, (leaf(1), leaf(2), leaf(3)))


# torch tests these as hypers that are learned, alone and together.
LEARNED = [
    (spec, names)
    for spec, all_names in {
        "adam": ("lr", "weight_decay", "betas"),
        "adamw": ("lr", "weight_decay", "betas"),
        "sgd": ("lr", "weight_decay"),
    }.items()
    for names in (*((name,) for name in all_names), all_names)
]


def learning(
    cls: type[Optimizer], names: tuple[str, ...], **more: Any
) -> tuple[Tensor, list[Tensor]]:
    """The parameter after two steps, and what it sends to hypers that are tensors."""

    def hyper(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, requires_grad=True)

    given: dict[str, Any] = {
        name: (hyper(0.8), hyper(0.9)) if name == "betas" else hyper(0.1)
        for name in names
    }
    p = leaf(1).clone()
    optimizer = cls([p], differentiable=True, foreach=False, **given, **more)
    for at in (2, 3):
        p.grad = leaf(at).detach()
        optimizer.step()
    wanted = [
        each
        for value in given.values()
        for each in (value if isinstance(value, tuple) else (value,))
    ]
    return p.detach(), [*torch.autograd.grad((p * p).sum(), wanted)]


@pytest.mark.parametrize("more", [{}, {"momentum": 0.9}, {"amsgrad": True}], ids=str)
@pytest.mark.parametrize(("spec", "names"), LEARNED, ids=str)
def test_hypers_that_are_tensors_get_gradients(
    spec: str, names: tuple[str, ...], more: dict[str, Any]
) -> None:
    theirs, ours = both_classes(spec)
    if more and ("momentum" in more) != (spec == "sgd"):
        pytest.skip("not an option of this class")
    if "momentum" in more and "weight_decay" in names:
        pytest.skip("torch cuts the first momentum buffer off")
    try:
        p, sent = learning(theirs, names, **more)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        pytest.skip("torch cannot")
    ours_p, ours_sent = learning(ours, names, **more)
    torch.testing.assert_close(ours_p, p, rtol=1e-12, atol=1e-12)
    for mine, its in zip(ours_sent, sent, strict=True):
        assert its.abs() > 0
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", DIFFERENTIABLE)
def test_steps_record_nothing_unless_differentiable(spec: str) -> None:
    for cls in both_classes(spec):
        p = Parameter(leaf(0).detach())
        optimizer = cls([p])
        for at in (1, 2):
            p.grad = leaf(at)
            optimizer.step()
        kept = [p, *optimizer.state[p].values()]
        assert all(each.grad_fn is None for each in kept if isinstance(each, Tensor))
