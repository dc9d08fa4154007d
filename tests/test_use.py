"""Modifiers do what is done by hand, with torch's own functions where it has them; with any
rule they mean the same on every target; and what they add is saved with the rest.
"""

import io
import random
from collections.abc import Callable
from functools import cache
from inspect import signature
from itertools import count

import pytest
import torch
from built import once
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import LONG, checked, every, examples, is_calculable, scenario
from random_specs import specs
from test_fused import assert_kernels_compute
from test_targets_against_interpreter import (
    assert_class_computes_the_rule,
    doubles,
    loaded,
)
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from optdsl import OptdslError, from_string, load_optimizer
from optdsl.find import find
from optdsl.resources import library, modifiers
from optdsl.source import Source
from optdsl.verify import verify
from tests.parity import SCENARIOS, Scenario, Side, assert_same, run, side

ADAM = """optimizer Adam
hyper lr    = 1e-3         in [0, inf)
hyper betas = (0.9, 0.999) in [0, 1)
hyper eps   = 1e-8         in [0, inf)
state exp_avg = 0
state exp_avg_sq = 0
step:
    beta1, beta2 = betas
    exp_avg = lerp(exp_avg, grad, 1 - beta1)
    exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
    denom = sqrt(exp_avg_sq)/(1 - beta2**t)**0.5 + eps
    p -= lr/(1 - beta1**t)*exp_avg/denom
"""
PLAIN = "optimizer Plain\nhyper lr = 0.1 in [0, inf)\nstep: p -= lr*grad\n"
scenarios = pytest.mark.parametrize("played", SCENARIOS, ids=lambda it: it.name)


# ---- torch's own


@scenarios
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adam_with_l2_decay_is_torchs(played: Scenario, dtype: torch.dtype) -> None:
    ours = from_string(ADAM, use=["l2_decay(weight_decay=0.1)"])
    theirs = torch.optim.Adam
    options = {"weight_decay": 0.1, "foreach": False}
    run(side(ours, dtype, foreach=False), side(theirs, dtype, **options), played, 6)


@scenarios
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adam_with_decay_is_torchs_adamw(played: Scenario, dtype: torch.dtype) -> None:
    ours = from_string(ADAM, use=["decay(weight_decay=0.1)"])
    theirs = torch.optim.AdamW
    options = {"weight_decay": 0.1, "foreach": False}
    run(side(ours, dtype, foreach=False), side(theirs, dtype, **options), played, 6)


def test_momentum_with_l2_decay_is_torchs_sgd() -> None:
    ours = load_optimizer("momentum", use=["l2_decay"])
    theirs = side(
        torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.2, foreach=False
    )
    mine = side(ours, lr=0.1, momentum=0.9, weight_decay=0.2, foreach=False)
    run(mine, theirs, SCENARIOS[0], 6, {"buf": "momentum_buffer"})


CLIPPED = {
    "clip_global_norm(max_norm=2.5)": lambda params: clip_grad_norm_(
        params, 2.5, foreach=False
    ),
    "clip_tensor_norm(max_tensor_norm=1.5)": lambda params: [
        clip_grad_norm_([p], 1.5, foreach=False) for p in params
    ],
    "clip_value(max_value=0.5)": lambda params: clip_grad_value_(params, 0.5),
}


@pytest.mark.parametrize("use", CLIPPED)
@pytest.mark.parametrize("spec", ["momentum", "sgd", "adam", "lion", "lamb"])
def test_clipping_is_what_torch_clips_before_the_step(spec: str, use: str) -> None:
    """In two groups, since a norm may be of all of them."""
    groups = ({}, {"lr": 0.01})
    ours = side(load_optimizer(spec, use=[use]), groups=groups, foreach=False)
    theirs = side(load_optimizer(spec), groups=groups, foreach=False)
    for step in range(6):
        theirs.give(step)
        every = [p for group in theirs.optimizer.param_groups for p in group["params"]]
        CLIPPED[use]([p for p in every if p.grad is not None])
        theirs.optimizer.step()
        ours.step(step)
        assert_same(ours, theirs, f"step {step}")


def test_a_hook_of_a_modifier_is_a_method() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.full((3,), 4.0)
    optimizer = load_optimizer("lion", use=["clip_global_norm(max_norm=0.5)"])([p])
    optimizer.clip_global_norm()
    torch.testing.assert_close(p.grad.norm(), torch.tensor(0.5))


# ---- every rule


def cautious(update: Tensor, grad: Tensor, lr: float) -> Tensor:
    mask = (update * grad > 0).to(update.dtype)
    return update * mask / mask.mean().clamp(min=1e-3)


def bounded(update: Tensor, grad: Tensor, lr: float) -> Tensor:
    return update / (update.pow(2).mean().sqrt() / (0.1 * lr)).clamp(min=1)


UPDATED = {"cautious": cautious, "bound_update(max_update=0.1)": bounded}
# Decay is no part of the update; nor is what else scales the parameter.
NO_DECAY = {
    "weight_decay": 0.0,
    "weight_decay_1d": 0.0,
    "lambd": 0.0,
    "unconstrained": True,
}
SCALING = ("fromage",)
NONE_PROPOSED = {
    *("accsgd", "aggmo", "dadapt_sgd", "ftrl", "madgrad"),
    *("schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd"),
}


@cache
def pairs() -> dict[str, list[str]]:
    """For each rule the modifiers of the library that go together with it."""
    found: dict[str, list[str]] = {}
    for spec in library():
        found[spec] = [each for each in modifiers() if goes(spec, each)]
    return found


def goes(spec: str, *use: str) -> bool:
    try:
        once(find(spec), use)
    except OptdslError as error:
        codes = {each.code for each in error.diagnostics}
        assert codes <= {"E0211", "E0212", "E0213", "E0311", "E0314"}, (
            spec,
            use,
            codes,
        )
        return False
    return True


def test_rules_that_propose_no_update_are_these() -> None:
    assert {each for each in library() if not goes(each, "cautious")} == {
        *NONE_PROPOSED,
        "cautious_adamw",  # is about it itself
    }


@pytest.mark.parametrize("use", UPDATED)
@pytest.mark.parametrize("spec", sorted({*library()} - NONE_PROPOSED - {*SCALING}))
def test_an_update_is_changed_as_it_is_by_hand(spec: str, use: str) -> None:
    """Beside it the rule steps alone, and what it did is undone, changed and done again.
    Muon's update is in bfloat16, and so is what is made of it.
    """
    if spec == "sparse_adam" or not goes(spec, use):
        pytest.skip("its gradients are sparse, or it is about this itself")
    alone, ours = load_optimizer(spec), load_optimizer(spec, use=[use])
    off = {
        name: value
        for name, value in NO_DECAY.items()
        if name in signature(alone).parameters
    }
    theirs = side(alone, torch.float64, foreach=False, **off)
    mine = side(ours, torch.float64, foreach=False, **off)
    starts = {name: p.detach().clone() for name, p in mine.parameters.items()}
    for step in range(5):
        step_by_hand(theirs, step, UPDATED[use])
        mine.step(step)
        for name, p in mine.parameters.items():
            other = theirs.parameters[name]
            size = (p.detach() - starts[name]).abs().max() if p.numel() else 0.0
            far = float(size) * 2**-7 if spec == "muon" else 1e-10
            torch.testing.assert_close(p, other, rtol=1e-6, atol=far)


def step_by_hand(side: Side, step: int, change: Callable[..., Tensor]) -> None:
    side.give(step)
    before = {name: p.detach().clone() for name, p in side.parameters.items()}
    side.optimizer.step()
    lr = side.optimizer.param_groups[0]["lr"]
    with torch.no_grad():
        for name, p in side.parameters.items():
            if p.grad is not None and p.numel():
                update = before[name] - p
                p.copy_(before[name] - change(update, p.grad, lr))


def test_gradients_are_centralized_over_all_axes_but_the_first() -> None:
    def centered(grad: Tensor) -> Tensor:
        axes = tuple(range(1, grad.ndim))
        return grad - grad.mean(axes, keepdim=True) if axes else grad.clone()

    ours = side(load_optimizer("lion", use=["centralize"]), torch.float64)
    theirs = side(load_optimizer("lion"), torch.float64)
    for step in range(5):
        theirs.step(step, centered)
        ours.step(step)
        for name, p in ours.parameters.items():
            torch.testing.assert_close(p, theirs.parameters[name])


def test_decay_apart_from_lr_does_not_ask_for_it() -> None:
    p = torch.nn.Parameter(torch.full((4,), 2.0))
    p.grad = torch.ones(4)
    cls = load_optimizer("momentum", use=["fixed_decay(weight_decay=0.25)"])
    cls([p], lr=0.0).step()
    assert torch.equal(p.detach(), torch.full((4,), 1.5))


def test_noise_falls_as_the_paper_says() -> None:
    """By its variance over a hundred thousand entries, to four of its own deviations."""
    entries = 100_000
    p = torch.nn.Parameter(torch.zeros(entries, dtype=torch.float64))
    cls = from_string(PLAIN, use=["noise(noise_eta=0.3)"])
    torch.manual_seed(4)
    optimizer = cls([p], lr=1.0, foreach=False)
    for t in range(1, 5):
        p.grad = torch.full_like(p, 5.0)
        before = p.detach().clone()
        optimizer.step()
        noise = before - p.detach() - 5.0
        variance = 0.3 / t**0.55
        assert noise.mean().abs() < 4 * (variance / entries) ** 0.5
        assert (noise.var() / variance - 1).abs() < 4 * (2 / entries) ** 0.5


# ---- random rules and modifiers


def chosen(seed: int) -> tuple[str, ...]:
    """Some modifiers, in some order, that do not clash with each other."""
    dealt = random.Random(seed)
    found: list[str] = []
    for each in dealt.sample([*modifiers()], dealt.randint(1, 4)):
        if goes_alone(*found, each):
            found.append(each)
    return tuple(found)


def goes_alone(*use: str) -> bool:
    try:
        once(Source("plain.opt", PLAIN), use)
    except OptdslError:
        return False
    return True


def combination(seed: int) -> tuple[str, tuple[str, ...]]:
    """A rule of the library and modifiers that it goes together with."""
    spec = random.Random(seed).choice([*library()])
    use = chosen(seed)
    while use and not goes(spec, *use):
        use = use[1:]
    return spec, use


COMBINATIONS = range(400 if LONG else 14)


@pytest.mark.parametrize("seed", COMBINATIONS)
def test_a_rule_with_modifiers_is_the_same_on_every_target(seed: int) -> None:
    spec, use = combination(1000 + seed)
    built = once(find(spec), use)
    text = built.source.text
    seed = next(each for each in count(seed) if is_calculable(text, each))
    assert_class_computes_the_rule(text, seed)
    if built.lowered.kernels is not None:
        with doubles():
            start = scenario(checked(text), seed)
            assert_kernels_compute(text, start, torch.float64, 2.0**-40, seed)


@examples(8)
@given(text=specs(), seed=st.integers(0, 999))
def test_a_random_rule_with_modifiers_computes_what_it_says(
    text: str, seed: int
) -> None:
    try:
        whole = once(Source("random.opt", text), chosen(seed)).source.text
    except OptdslError as error:
        assert {each.code for each in error.diagnostics} <= {
            "E0211", "E0212", "E0213", "E0311", "E0314",
            "E0313",  # an update in a branch that not all parameters take
            "E0209",  # a gradient taken anew, or a decay, for a rule that reads none
            "E0404",  # a way for captured steps in a rule that has none
        }  # fmt: skip
        return
    assume(is_calculable(whole, seed))
    assert_class_computes_the_rule(whole, seed)


@pytest.mark.parametrize("seed", COMBINATIONS)
def test_a_resumed_run_goes_on_with_the_same_bits(seed: int) -> None:
    spec, use = combination(2000 + seed)
    cls = load_optimizer(spec, use=use)
    groups = ({}, {"lr": 0.05})
    ours = side(cls, groups=groups).steps(0, 1, 2, 3, 4)
    file = io.BytesIO()
    torch.save(ours.optimizer.state_dict(), file)
    file.seek(0)
    other = side(cls, groups=groups)
    with torch.no_grad():
        for name, p in other.parameters.items():
            p.copy_(ours.parameters[name])
    other.optimizer.load_state_dict(torch.load(file, weights_only=True))
    for step in range(5, 9):
        assert_same(ours.steps(step), other.steps(step), f"step {step}")


JUDGED = [("lion", ("cautious",)), ("momentum", ("decay", "clip_value"))]


def every_pair() -> list[tuple[str, tuple[str, ...]]]:
    return [(spec, (use,)) for spec, several in pairs().items() for use in several]


@pytest.mark.parametrize(("spec", "use"), every_pair() if LONG else JUDGED)
def test_verify_finds_nothing(spec: str, use: tuple[str, ...]) -> None:
    found = verify(spec, use=use).failed
    assert [(row.check, row.detail) for row in found] == []


@pytest.mark.parametrize("name", every(1, modifiers()))
def test_a_woven_spec_says_all_of_it_itself(name: str) -> None:
    """Compiled as a text, it gives the same file; and it has each equation."""
    whole = once(Source("plain.opt", PLAIN), (name,))
    again = once(Source("plain.opt", whole.source.text))
    assert again.source.text == whole.source.text
    assert again.python == whole.python
    with loaded(whole.source.text) as cls:
        assert name in cls.__doc__


NEVER_CAPTURED = [
    ("adam", ("noise", "lookahead")),
    ("momentum", ("sam", "lookahead")),
    ("sparse_adam", ("lookahead",)),
]


@pytest.mark.parametrize(("spec", "use"), NEVER_CAPTURED)
def test_a_way_for_captured_steps_is_left_out_where_there_are_none(
    spec: str, use: tuple[str, ...]
) -> None:
    whole = once(find(spec), use)
    assert whole.lowered.why_not and whole.warnings == ()
    again = once(Source(whole.source.name, whole.source.text))
    assert again.python == whole.python
    assert {each.code for each in again.warnings} == {"W0703"}


@pytest.mark.parametrize("foreach", [False, True])
def test_a_norm_of_parameters_of_several_types_keeps_the_type_of_each(
    foreach: bool,
) -> None:
    params = [
        torch.nn.Parameter(torch.ones(shape, dtype=dtype))
        for dtype in (torch.bfloat16, torch.float32, torch.float64)
        for shape in ((), (3,))
    ]
    for p in params:
        p.grad = torch.full_like(p, 2.0)
    cls = load_optimizer("lion", use=["clip_global_norm"])
    cls(params, lr=0.1, foreach=foreach).step()
    assert all((p.detach() < 1).all() for p in params)
