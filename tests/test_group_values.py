"""What a group keeps beside its hypers: the numbers that hypers were when it was added."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from optdsl import from_string
from tests.parity import pair, side, spec

RATIO = from_string(spec("step: p -= lr/initial(lr)*grad"))


def test_the_first_rate_stays_when_a_scheduler_changes_the_rate() -> None:
    one, _ = pair()
    optimizer = RATIO([one], lr=0.5)
    assert optimizer.param_groups[0]["base_lr"] == 0.5
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    scheduler.step()
    optimizer.step()
    assert optimizer.param_groups[0]["base_lr"] == 0.5
    assert one.tolist() == [1 - 3 - 1.5, 2 - 4 - 2]


def test_each_group_has_its_own_and_a_later_one_too() -> None:
    one, two = pair()
    optimizer = RATIO([{"params": [one], "lr": 0.25}], lr=0.5)
    optimizer.param_groups[0]["lr"] = 0.125
    optimizer.add_param_group({"params": [two], "base_lr": 7.0})
    kept = [group["base_lr"] for group in optimizer.param_groups]
    assert kept == [0.25, 0.5]
    assert "base_lr" not in optimizer.defaults
    with pytest.raises(TypeError):
        RATIO([one], base_lr=0.5)


@pytest.mark.parametrize("rate", [torch.tensor(0.5), torch.tensor([0.5])], ids=str)
def test_a_rate_in_a_tensor_is_kept_as_a_number(rate: torch.Tensor) -> None:
    """Whoever changes the tensor does not change what it was."""
    one, _ = pair()
    optimizer = RATIO([one], lr=rate, foreach=False)
    group = optimizer.param_groups[0]
    assert type(group["base_lr"]) is float
    group["lr"].mul_(0.5)
    optimizer.step()
    assert group["base_lr"] == 0.5
    assert one.tolist() == [1 - 1.5, 2 - 2]


@pytest.mark.filterwarnings("error")
def test_a_rate_that_autograd_watches_is_kept_as_a_number() -> None:
    rate = torch.tensor(0.5, requires_grad=True)
    group = RATIO(pair(), lr=rate, differentiable=True).param_groups[0]
    assert group["base_lr"] == 0.5


def test_it_is_saved_and_loaded() -> None:
    optimizer = RATIO([pair()[0]], lr=0.5)
    optimizer.param_groups[0]["lr"] = 0.25
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    loaded = RATIO([pair()[0]], lr=0.125)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copies = [loaded, copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    assert [each.param_groups[0]["base_lr"] for each in copies] == [0.5] * 3


def test_a_checkpoint_without_it_takes_the_rate_that_it_has() -> None:
    optimizer = RATIO([pair()[0]], lr=0.5)
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["base_lr"]
    saved["param_groups"][0]["lr"] = torch.tensor(0.25)
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["base_lr"] == 0.25


@pytest.mark.parametrize("options", [{"foreach": True}, {"differentiable": True}])
def test_every_way_to_run_reads_it(options: dict[str, Any]) -> None:
    text = spec(
        "step: m = lerp(m, grad, initial(k)); p -= lr*m",
        "hyper k = 0.5",
        "state m = initial(lr)",
        "pre_step before: grad *= initial(lr)",
        "post_step after: p *= initial(k)",
    )
    plain = side(from_string(text), torch.float64, k=0.25, foreach=False)
    other = side(from_string(text), torch.float64, k=0.25, **options)
    for each in (plain, other):
        each.optimizer.param_groups[0]["k"] = 0.9
        each.optimizer.param_groups[0]["lr"] = 0.01
        if "differentiable" in options:
            for p in each.parameters.values():
                p.requires_grad_(False)
        each.steps(0, 1, 2, 3)
    for name, p in plain.parameters.items():
        torch.testing.assert_close(p.detach(), other.parameters[name].detach())


def test_a_parameter_moves_by_what_was_remembered() -> None:
    p = Parameter(torch.zeros(2, dtype=torch.float64))
    text = spec("step: p -= (lr + initial(lr))*grad")
    optimizer = from_string(text)([p], lr=0.25)
    for rate in (0.25, 0.125):
        optimizer.param_groups[0]["lr"] = rate
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert p.tolist() == [-0.875, -0.875]
