"""The value that a closure returned, in the step."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optdsl import from_string
from tests.parity import spec

POLYAK = from_string(
    spec(
        "step: rate = min((loss - lowest)/sum(grad*grad), lr); p -= rate*grad",
        "hyper lowest = 0.0",
    )
)


def half_square(*params: Parameter) -> Callable[[], Tensor]:
    """A closure: the model is half the square of its distance from one, plus a quarter."""

    def closure() -> Tensor:
        for p in params:
            p.grad = None
        loss = sum(0.5 * ((p - 1) ** 2).sum() for p in params) + 0.25
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"foreach": False}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_rate_from_the_loss(options: dict[str, Any], dtype: torch.dtype) -> None:
    p = Parameter(torch.tensor([3.0, 1.0], dtype=dtype))
    optimizer = POLYAK([p], lr=10.0, lowest=0.25, **options)
    loss = optimizer.step(half_square(p))
    assert loss.item() == 2.25 and loss.requires_grad
    assert p.tolist() == [3 - 0.5 * 2, 1]


def test_the_loss_is_a_number_without_a_graph() -> None:
    p = Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = from_string(spec("step: m = loss + 0*m; p -= lr*m*grad", "state m = 0"))
    optimizer = optimizer([p])
    for loss in (torch.tensor([0.5], requires_grad=True), 0.5, torch.tensor(0.5)):
        optimizer.step(lambda loss=loss: loss)
        assert optimizer.state[p]["m"].tolist() == [0.5, 0.5]
        assert not p.grad.requires_grad and not optimizer.state[p]["m"].requires_grad
    assert p.tolist() == [0.25, 0.25]


def test_a_loss_is_as_precise_as_the_parameter() -> None:
    p = Parameter(torch.zeros(2, dtype=torch.float64))
    p.grad = torch.ones_like(p)
    cls = from_string(spec("step: p -= (loss + 1e-12)*grad + 0*lr"))
    cls([p]).step(lambda: 1.0)
    assert p.tolist() == [-(1 + 1e-12)] * 2


@pytest.mark.parametrize("returned", [None, torch.ones(2), (1.0, 2.0), "1"])
def test_a_step_without_a_loss_is_refused_before_anything_changes(
    returned: Any,
) -> None:
    text = spec(
        "step: m += grad; p -= lr*loss*m", "state m = 0", "pre_step before: p *= 2"
    )
    p = Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = from_string(text)([p])
    said = "a closure that returns the loss" if returned is None else "of one number"
    for give in [lambda: returned] if returned is not None else [None, lambda: None]:
        with pytest.raises(RuntimeError, match=f"Small needs.*{said}"):
            optimizer.step(give)
        assert p.tolist() == [1, 1] and not optimizer.state


def test_the_loss_of_maximizing_is_the_negative() -> None:
    def moved(maximize: bool) -> list[float]:
        p, sign = Parameter(torch.zeros(2)), -1 if maximize else 1
        p.grad = sign * torch.ones(2)
        optimizer = from_string(spec("step: p -= lr*loss*grad"))([p], maximize=maximize)
        optimizer.step(lambda: sign * torch.tensor(3.0))
        return p.tolist()

    assert moved(True) == moved(False) == [-1.5, -1.5]


def test_the_trial_step_of_a_checkpoint_needs_no_closure() -> None:
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    text = spec("step: m += grad; p -= lr*loss*m", "state m = 0")
    model = torch.nn.Linear(2, 1)
    optimizer = from_string(text)(model.parameters())
    saved = get_optimizer_state_dict(model, optimizer)
    assert set(saved["state"]["weight"]) == {"m"}


def test_a_step_that_reads_the_loss_is_not_captured() -> None:
    with pytest.raises(RuntimeError, match=re.escape("its step reads the loss")):
        POLYAK([Parameter(torch.ones(2))], capturable=True)


def test_what_a_differentiable_step_does_with_the_loss_is_a_number() -> None:
    p = torch.ones(2, requires_grad=True)
    q = p.clone()
    q.grad = torch.ones(2)
    optimizer = from_string(spec("step: p -= lr*loss*grad"))([q], differentiable=True)
    optimizer.step(lambda: (q**2).sum())
    assert q.tolist() == [0, 0]
    q.sum().backward()
    assert p.grad.tolist() == [1, 1]


def test_the_docstring_says_that_the_step_needs_a_closure() -> None:
    assert "RuntimeError: a step gets no closure" in POLYAK.__doc__
    assert "closure (Callable):" in POLYAK.step.__doc__
