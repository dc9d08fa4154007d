"""`mode train` and `mode eval`: schedule-free rules against their authors' classes, and what
an optimizer does that has two modes.
"""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optdsl import load_optimizer

schedulefree = pytest.importorskip("schedulefree")
AUTHORS = {
    "schedule_free_sgd": schedulefree.SGDScheduleFree,
    "schedule_free_adamw": schedulefree.AdamWScheduleFree,
    "schedule_free_radam": schedulefree.RAdamScheduleFree,
}
SHAPES = ((4, 3), (5,), ())


def parameters() -> list[Parameter]:
    random = torch.Generator().manual_seed(1)
    return [
        Parameter(torch.randn(shape, generator=random, dtype=torch.float64))
        for shape in SHAPES
    ]


def give(params: list[Parameter], step: int) -> None:
    random = torch.Generator().manual_seed(100 + step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=random, dtype=p.dtype)


def assert_close(mine: list[Any], theirs: list[Any], when: str) -> None:
    """Sums of weights are kept in float32, as torch keeps numbers of a state."""
    for ours, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(
            ours.data,
            other.data,
            rtol=1e-6,
            atol=1e-7,
            msg=lambda said: f"{when}: {said}",
        )


@pytest.mark.parametrize("way", ["loop", "foreach", "fused", "capturable"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("schedule_free_sgd", {"lr": 0.3}),
        (
            "schedule_free_sgd",
            {"lr": 0.3, "momentum": 0.7, "weight_decay": 0.1, "warmup_steps": 4},
        ),
        ("schedule_free_adamw", {}),
        (
            "schedule_free_adamw",
            {"weight_decay": 0.1, "warmup_steps": 5, "r": 1.0, "weight_lr_power": 1.0},
        ),
        ("schedule_free_radam", {}),
        ("schedule_free_radam", {"silent_sgd_phase": False, "weight_decay": 0.1}),
    ],
)
def test_it_steps_as_the_authors_class(
    name: str, options: dict[str, Any], way: str
) -> None:
    if way == "capturable" and not torch.cuda.is_available():
        pytest.skip("capturable asks for a device that captures")
    ways = {"foreach": way == "foreach", **({way: True} if way != "loop" else {})}
    mine, theirs = parameters(), parameters()
    ours = load_optimizer(name)(mine, **options, **ways)
    other = AUTHORS[name](theirs, **options)
    other.train()
    for step in range(12):
        for optimizer, params in ((ours, mine), (other, theirs)):
            give(params, step)
            optimizer.step()
        assert_close(mine, theirs, f"step {step}")
        if step in (3, 4, 8):
            for optimizer in (ours, other):
                optimizer.eval()
            assert_close(mine, theirs, f"evaluated after step {step}")
            for optimizer in (ours, other):
                optimizer.train()


class Trained:
    """An optimizer in the midst of its training."""

    def __init__(self, **options: Any) -> None:
        self.params = parameters()
        cls = load_optimizer("schedule_free_adamw")
        self.optimizer: Any = cls(self.params, lr=0.1, **options)
        self.go(range(4))

    def go(self, steps: range) -> list[Tensor]:
        for step in steps:
            give(self.params, step)
            self.optimizer.step()
        return self.values()

    def values(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.params]


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(map(torch.equal, some, others))


def test_a_mode_is_set_once() -> None:
    trained = Trained()
    before = trained.values()
    trained.optimizer.train()
    assert same(trained.values(), before)
    trained.optimizer.eval()
    evaluated = trained.values()
    assert not same(evaluated, before)
    trained.optimizer.eval()
    assert same(trained.values(), evaluated)


@pytest.mark.parametrize("closure", [True, False])
def test_no_step_in_eval_mode(closure: bool) -> None:
    trained = Trained()
    trained.optimizer.eval()
    before, state = trained.values(), copy.deepcopy(trained.optimizer.state_dict())
    called: list[int] = []

    def loss() -> float:
        called.append(1)
        return 1.0

    with pytest.raises(RuntimeError, match=r"call train\(\)"):
        trained.optimizer.step(loss if closure else None)
    assert same(trained.values(), before) and not called
    assert str(trained.optimizer.state_dict()) == str(state)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_mode_is_saved(mode: str) -> None:
    trained, other = Trained(), Trained()
    getattr(trained.optimizer, mode)()
    file = io.BytesIO()
    torch.save([trained.optimizer.state_dict(), trained.values()], file)
    file.seek(0)
    state, values = torch.load(file, weights_only=True)
    with torch.no_grad():
        for p, value in zip(other.params, values, strict=True):
            p.copy_(value)
    other.optimizer.load_state_dict(state)
    for each in (trained, other):
        each.optimizer.train()
    assert same(trained.go(range(4, 8)), other.go(range(4, 8)))


def test_a_group_that_is_added_has_the_mode_of_the_others() -> None:
    trained = Trained()
    trained.optimizer.eval()
    late = Parameter(torch.ones(2, dtype=torch.float64))
    trained.optimizer.add_param_group({"params": [late]})
    with pytest.raises(RuntimeError, match=r"call train\(\)"):
        trained.optimizer.step()
    trained.optimizer.train()
    trained.params.append(late)
    trained.go(range(4, 6))
    assert trained.optimizer.param_groups[1]["train_mode"]


def test_a_checkpoint_of_before_there_were_modes_is_of_training() -> None:
    trained = Trained()
    state = trained.optimizer.state_dict()
    for group in state["param_groups"]:
        del group["train_mode"]
    trained.optimizer.load_state_dict(state)
    trained.go(range(4, 6))


def test_parameters_that_never_stepped_stay() -> None:
    trained = Trained()
    rest = Parameter(torch.ones(3, dtype=torch.float64))
    trained.optimizer.add_param_group({"params": [rest]})
    trained.optimizer.eval()
    assert torch.equal(rest, torch.ones(3, dtype=torch.float64))


def test_the_average_is_better_than_the_iterate() -> None:
    """On a noisy quadratic, eval mode has the smaller loss: what the modes are for."""
    random = torch.Generator().manual_seed(0)
    p = Parameter(torch.ones(200, dtype=torch.float64))
    optimizer: Any = load_optimizer("schedule_free_sgd")([p], lr=0.5)
    for _ in range(300):
        p.grad = p.detach() + torch.randn(200, generator=random, dtype=torch.float64)
        optimizer.step()
    in_training = p.detach().square().mean()
    optimizer.eval()
    assert p.detach().square().mean() < 0.5 * in_training
