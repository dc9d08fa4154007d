"""Random numbers of a rule: whose they are, when they are the same, what they look like."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from optdsl import OptdslError, from_string
from tests.parity import assert_same, side, spec

NOISE = from_string(spec("step: p = randn_like(p) + 0*lr*grad"))
TWO = spec(
    "step: a = randn_like(p); m = lerp(m, a, 0.5); p -= lr*m*rand_like(p) + 0*grad",
    "state m = rand_like(p)",
)


def parameters(*shapes: tuple[int, ...], **options: Any) -> list[Parameter]:
    made = [Parameter(torch.zeros(shape, **options)) for shape in shapes]
    for p in made:
        p.grad = torch.ones_like(p)
    return made


def noise(optimizer: Optimizer) -> list[Tensor]:
    """What each parameter is after a step, which is noise alone."""
    optimizer.step()
    return [
        p.detach().clone() for group in optimizer.param_groups for p in group["params"]
    ]


# ---- the seed


def test_the_default_generator_decides_the_seed() -> None:
    def drawn() -> list[Tensor]:
        groups = [{"params": parameters((5,))}, {"params": parameters((5,))}]
        return noise(NOISE(groups))

    torch.manual_seed(3)
    one, again = drawn(), drawn()
    torch.manual_seed(3)
    same = drawn()
    assert torch.equal(one[0], same[0]) and torch.equal(one[1], same[1])
    assert not torch.equal(one[0], one[1]), "two groups differ"
    assert not torch.equal(one[0], again[0]), "two optimizers differ"


def test_a_group_may_bring_its_seed() -> None:
    one, two = parameters((5,), (5,))
    state = torch.get_rng_state()
    optimizer = NOISE([{"params": [one], "seed": 5}, {"params": [two], "seed": 5}])
    assert torch.equal(torch.get_rng_state(), state)
    first, second = noise(optimizer)
    assert torch.equal(first, second)
    with pytest.raises(TypeError, match="Invalid seed: 0.5"):
        NOISE([{"params": parameters((2,)), "seed": 0.5}])
    with pytest.raises(TypeError):
        NOISE([one], seed=5)


def test_a_step_leaves_the_default_generator_alone() -> None:
    optimizer = NOISE(parameters((5,)))
    state = torch.get_rng_state()
    one = noise(optimizer)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    assert not torch.equal(one[0], noise(optimizer)[0]), "each step has its own"


def test_a_checkpoint_without_a_seed_gets_one() -> None:
    optimizer = NOISE(parameters((5,)))
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["seed"]
    optimizer.load_state_dict(saved)
    assert isinstance(optimizer.param_groups[0]["seed"], int)


# ---- the same numbers again


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", [{"foreach": True}, {"differentiable": True}])
def test_however_it_runs_the_numbers_are_the_same(
    options: dict[str, Any], dtype: torch.dtype
) -> None:
    found = []
    for chosen in ({"foreach": False}, options):
        torch.manual_seed(0)
        params = parameters((3, 2), (4,), (), (0, 2), (3, 2), dtype=dtype)
        if "differentiable" in chosen:
            for p in params:
                p.requires_grad_(False)
        groups = [{"params": params[:3]}, {"params": params[3:]}]
        optimizer = NOISE(groups, **chosen)
        optimizer.step()
        found.append(noise(optimizer))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_the_numbers_of_one_precision_are_those_of_another_rounded() -> None:
    def drawn(dtype: torch.dtype) -> Tensor:
        p = parameters((50,), dtype=dtype)
        return noise(NOISE([{"params": p, "seed": 1}]))[0]

    wide = drawn(torch.float64)
    assert torch.equal(drawn(torch.float32).double(), wide)
    assert torch.equal(drawn(torch.bfloat16), wide.bfloat16())


@pytest.mark.parametrize("copied", ["saved", "pickled", "copied"])
def test_a_run_that_goes_on_elsewhere_draws_what_it_would_have(copied: str) -> None:
    cls = from_string(TWO)
    ours = side(cls, torch.float32, ({}, {"lr": 0.1})).steps(0, 1, 2, 3)
    if copied == "saved":
        theirs, file = side(cls, torch.float32, ({}, {"lr": 0.1})), io.BytesIO()
        for group in theirs.optimizer.param_groups:
            group["seed"] += 1
        torch.save(ours.optimizer.state_dict(), file)
        file.seek(0)
        theirs.optimizer.load_state_dict(torch.load(file, weights_only=True))
        with torch.no_grad():
            for name, p in theirs.parameters.items():
                p.copy_(ours.parameters[name])
    else:
        again: Callable[[Any], Any] = copy.deepcopy
        if copied == "pickled":
            again = lambda each: pickle.loads(pickle.dumps(each))  # noqa: E731
        theirs = again(ours)
    for each in (ours, theirs):
        torch.manual_seed(len(copied) if each is ours else 0)
        each.steps(4, 5, 6)
    assert_same(ours, theirs, copied)


def test_what_other_parameters_do_changes_no_number() -> None:
    found = []
    for missing in (False, True):
        one, two = parameters((5,), (5,))
        optimizer = NOISE([{"params": [one, two], "seed": 1}])
        if missing:
            one.grad = None
        optimizer.step()
        found.append(two.detach().clone())
    assert torch.equal(*found)


# ---- what they look like


def test_they_are_normal_and_uniform_and_differ_from_draw_to_draw() -> None:
    text = spec(
        "step: a = randn_like(p); b = rand_like(p); c = randn_like(p); p = a; q = b; r = c\n"
        "    p += 0*grad",
        "state q = 0",
        "state r = 0",
    )
    text = text.replace("step: ", "step:\n    ").replace(
        "q = b; r = c", "q += b; r += c"
    )
    text = text.replace("p += 0*grad", "p += 0*lr*(q + r)*grad")
    (p,) = parameters((100_000,))
    optimizer = from_string(text)([{"params": [p], "seed": 2}])
    optimizer.step()
    state = optimizer.state[p]
    normal, uniform, other = p.detach(), state["q"], state["r"]
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert abs((normal**4).mean() - 3) < 0.2
    assert uniform.min() >= 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.var() - 1 / 12) < 0.01
    for one, two in ((normal, other), (normal, uniform), (uniform, other)):
        assert abs(torch.corrcoef(torch.stack([one, two]))[0, 1]) < 0.02


def test_steps_and_places_have_numbers_of_their_own() -> None:
    shapes = [(2000,)] * 6
    optimizer = NOISE([{"params": parameters(*shapes), "seed": 0}])
    rows = [each for _ in range(20) for each in noise(optimizer)]
    apart = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows))
    assert apart.abs().max() < 0.13  # six deviations of 1/sqrt(2000), of 7140 pairs


def test_a_state_that_starts_at_random_is_kept() -> None:
    text = spec("step: p -= lr*m + 0*grad; m += 0*grad", "state m = randn_like(p)")
    (p,) = parameters((5,))
    optimizer = from_string(text)([{"params": [p], "seed": 1}])
    optimizer.step()
    first = optimizer.state[p]["m"].clone()
    optimizer.step()
    assert torch.equal(optimizer.state[p]["m"], first) and first.std() > 0
    torch.testing.assert_close(p.detach(), -first)


def test_an_int_count_starts_random_numbers_as_a_tensor_does() -> None:
    found = []
    for count in ("state t", "state t: int"):
        torch.manual_seed(0)
        optimizer = from_string(
            spec(
                "step: p -= lr*m*randn_like(p) + 0*grad; m *= 2",
                "state m = randn_like(p)",
                count,
            )
        )(parameters((5,)))
        optimizer.step()
        found.append(noise(optimizer)[0])
    assert torch.equal(*found)


def test_a_step_with_random_numbers_is_refused_where_it_is_captured() -> None:
    with pytest.raises(RuntimeError, match="cannot be captured: it draws random num"):
        NOISE(parameters((2,)), capturable=True)
    with pytest.raises(OptdslError, match="E0306"):
        from_string(spec("step:\n    repeat 2: p -= lr*grad*rand_like(p)"))
