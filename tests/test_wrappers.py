"""Modifiers that wrap a rule, against what they replace: slow weights, an average of the
parameters and schedule-free averaging around rules of the library.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from twins import give

from optdsl import OptdslError, load_optimizer

WAYS = [{"foreach": False}, {"foreach": True}, {"fused": True}]
BASES = ["sgd", "momentum", "adamw", "lion", "lamb", "prodigy", "adafactor"]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def values(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def assert_same(mine: list[Tensor], theirs: list[Tensor], when: str) -> None:
    for ours, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(
            ours, other, rtol=1e-6, atol=1e-8, msg=lambda said: f"{when}: {said}"
        )


def steps(optimizer: Any, module: nn.Module, number: int) -> None:
    give([*module.parameters()], number)
    optimizer.step()


@pytest.mark.parametrize("way", WAYS, ids=lambda each: str(each))
@pytest.mark.parametrize("base", BASES)
def test_lookahead_is_the_rule_with_a_loop_around_it(base: str, way: dict) -> None:
    mine, theirs = model(), model()
    use = ["lookahead(lookahead_steps=3, lookahead_alpha=0.4)"]
    ours = load_optimizer(base, use=use)(mine.parameters(), **way)
    plain = load_optimizer(base)(theirs.parameters(), **way)
    slow = values(theirs)
    for number in range(8):
        steps(ours, mine, number)
        steps(plain, theirs, number)
        if number % 3 == 2:
            with torch.no_grad():
                for p, anchor in zip(theirs.parameters(), slow, strict=True):
                    anchor.lerp_(p, 0.4)
                    p.copy_(anchor)
        assert_same(values(mine), values(theirs), f"{base}, step {number}")


@pytest.mark.parametrize("way", WAYS, ids=lambda each: str(each))
@pytest.mark.parametrize("base", BASES)
def test_ema_is_torch_s_averaged_model(base: str, way: dict) -> None:
    mine, theirs = model(), model()
    ours: Any = load_optimizer(base, use=["ema(ema_decay=0.8)"])(
        mine.parameters(), **way
    )
    plain = load_optimizer(base)(theirs.parameters(), **way)
    averaged = AveragedModel(theirs, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    for number in range(6):
        steps(ours, mine, number)
        steps(plain, theirs, number)
        averaged.update_parameters(theirs)
        assert_same(values(mine), values(theirs), f"{base}, step {number}")
        in_training = values(mine)
        ours.eval()
        assert_same(values(mine), values(averaged.module), f"{base}, evaluated")
        ours.train()
        assert all(map(torch.equal, values(mine), in_training)), "not the same bits"


@pytest.mark.parametrize("way", WAYS, ids=lambda each: str(each))
@pytest.mark.parametrize(
    ("rule", "base", "options"),
    [
        ("schedule_free_sgd", "gradient_descent", {"lr": 0.2}),
        ("schedule_free_adamw", "rmsprop_like", {"lr": 0.05}),
    ],
)
def test_schedule_free_over_a_base_is_the_rule_of_its_own(
    rule: str, base: str, options: dict, way: dict, tmp_path: Any
) -> None:
    (tmp_path / "rmsprop_like.opt").write_text(ADAM_WITHOUT_MOMENTUM)
    written = str(tmp_path / "rmsprop_like.opt")
    mine, theirs = model(), model()
    use = ["schedule_free(schedule_free_beta=0.9)"]
    cls = load_optimizer(written if base == "rmsprop_like" else base, use=use)
    ours: Any = cls(mine.parameters(), **options, **way)
    whole: Any = load_optimizer(rule)(theirs.parameters(), **options, **way)
    for number in range(7):
        steps(ours, mine, number)
        steps(whole, theirs, number)
        assert_same(values(mine), values(theirs), f"{rule}, step {number}")
        if number in (2, 6):
            for each in (ours, whole):
                each.eval()
            assert_same(values(mine), values(theirs), f"{rule}, evaluated")
            for each in (ours, whole):
                each.train()


ADAM_WITHOUT_MOMENTUM = """
optimizer SecondMoment
hyper lr = 0.05 in [0, inf)
hyper beta2 = 0.999 in [0, 1)
state exp_avg_sq = 0
step:
    exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
    p -= lr*grad/(sqrt(exp_avg_sq/(1 - beta2**t)) + 1e-8)
"""


def test_two_averages_do_not_go_together() -> None:
    with pytest.raises(OptdslError, match="E0212|average of the parameters"):
        load_optimizer("sgd", use=["ema", "schedule_free"])
