"""Triton's kernels compute the rule: what the interpreter of the language gets in float64,
to round-off of the precision that they calculate in, for every rule that has kernels. They
run on a GPU where there is one, and else in Triton's own interpreter.
"""

import copy
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from built import built, of_library
from hypothesis import given
from hypothesis import strategies as st
from once_wrong import ONCE_WRONG
from oracle import (
    Results,
    Scenario,
    assert_close,
    checked,
    every,
    examples,
    interpreted,
    is_calculable,
    round_off,
    scenario,
)
from random_specs import specs
from test_targets_against_interpreter import doubles, loaded, single, trained
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Parameter
from triton_on_cpu import BLOCK, DEVICE, triton_kernels
from twins import CLOSE, Twins, give
from twins import parameters as twins_of

from optdsl import load_optimizer
from optdsl.resources import library
from optdsl.runtime import device_tables
from optdsl.runtime.triton_text import module

FUSED = {"fused": True}
ON_GPU = pytest.mark.skipif(DEVICE.type != "cuda", reason="there is no GPU")
BORDERS = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK)
WITH_KERNELS = [each for each in library() if "_CUDA" in of_library(each).python]


# ---- the rule


def placed(start: Scenario) -> Scenario:
    """The scenario on the device."""

    def moved(tensors: tuple) -> tuple:
        return tuple(None if each is None else each.to(DEVICE) for each in tensors)

    return Scenario(
        start.hypers, moved(start.parameters), tuple(map(moved, start.gradients))
    )


def brought_back(results: Results) -> Results:
    return [{name: x.cpu() for name, x in each.items()} for each in results]


def assert_kernels_compute(
    text: str,
    start: Scenario,
    dtype: torch.dtype,
    size: float,
    turn: int,
    leave: bool = False,
) -> list[int]:
    """Whether kernels get what the interpreter gets, each of whose results may be wrong in
    a relative `size`; how many rows each launch had.
    """
    rule = checked(text)
    expected = interpreted(rule, start)
    allowed = round_off(rule, start, expected, size=size)
    with loaded(text) as cls, triton_kernels(block=8, leave=leave) as rows:
        got = trained(cls, rule, placed(start), dtype, **FUSED, maximize=turn % 2 == 1)
    assert rows or leave, "no kernel was launched"
    assert_close(expected, brought_back(got), allowed)
    return rows


# Every rule in one precision or the other; under OPTDSL_EXAMPLES each in both.
ALTERNATING = [
    (name, (at + half) % 2 == 0)
    for half in (0, 1)
    for at, name in enumerate(WITH_KERNELS)
]


@pytest.mark.parametrize(("name", "precise"), every(2, ALTERNATING))
def test_kernels_compute_a_rule_of_the_library(name: str, precise: bool) -> None:
    """In float64 results may be wrong in the 40th binary digit. In float32 each is rounded
    to 24 digits, and errors in the 20th bound a few of them in a row; a GPU divides and
    takes roots to two units in the last place.
    """
    text = library()[name].read_text()
    if not precise:
        start = single(scenario(checked(text), 1))
        assert_kernels_compute(text, start, torch.float32, 2.0**-20, 1)
        return
    with doubles():
        start = scenario(checked(text), 2)
        assert_kernels_compute(text, start, torch.float64, 2.0**-40, 2)


@examples(20)
@given(text=specs(), seed=st.integers(0, 999))
def test_kernels_compute_a_random_rule(text: str, seed: int) -> None:
    """One in five has kernels. Its hooks may make gradients that lie across their memory,
    which kernels leave.
    """
    if "_CUDA" not in built(text).python or not is_calculable(text, seed):
        return
    with doubles():
        start = scenario(checked(text), seed)
        assert_kernels_compute(text, start, torch.float64, 2.0**-40, seed, True)


@pytest.mark.parametrize("name", every(6, ONCE_WRONG))
def test_kernels_compute_a_rule_that_once_went_wrong(name: str) -> None:
    text = ONCE_WRONG[name]
    if "_CUDA" not in built(text).python:
        pytest.skip(built(text).lowered.no_kernels)
    with doubles():
        start = scenario(checked(text), 1)
        assert_kernels_compute(text, start, torch.float64, 2.0**-40, 1, True)


# Every function that a spec may call of numbers and of elements.
FUNCTIONS = (
    "exp expm1 log log1p log2 log10 sin cos tan asin acos atan sinh cosh tanh erf floor "
    "ceil trunc abs round sqrt rsqrt square reciprocal sigmoid sign"
).split()


@pytest.mark.parametrize("function", every(3, FUNCTIONS))
def test_a_function_of_numbers_and_of_elements(function: str) -> None:
    """Of what lies in the domain of all of them."""
    text = f"""optimizer Called
hyper lr: float = 0.5 in [0, inf)

step:
    of_elements = 0.1 + 0.8*sigmoid(grad)
    of_numbers = 0.1 + 0.8*sigmoid(norm(grad))
    p -= lr*{function}(of_elements) + {function}(of_numbers)
"""
    with doubles():
        start = scenario(checked(text), 1)
        assert_kernels_compute(text, start, torch.float64, 2.0**-40, 0)


# ---- beside another target


def parameters(*shapes: Any, dtype: torch.dtype = torch.float32) -> list[Parameter]:
    return twins_of(*shapes, dtype=dtype, device=DEVICE)


@pytest.mark.parametrize("name", ["adamw", "lamb", "adabound"])
def test_every_size_around_the_borders_of_blocks(name: str) -> None:
    twins = Twins(name, lambda: parameters(*BORDERS, (3, 5), ()))
    with triton_kernels() as rows:
        for step in range(2):
            twins.step(step)
    assert rows == [len(BORDERS) + 2] * 2
    twins.assert_close(rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_short_floats_are_rounded_once_a_step(name: str, dtype: torch.dtype) -> None:
    """The kernel calculates in float32 and stores the nearest short float; Triton's
    interpreter cuts bfloat16 off, which is twice as far.
    """
    shapes = (33, 17)
    short = parameters(*shapes, dtype=dtype)
    wide = [Parameter(p.detach().double()) for p in short]
    give(short, 0)
    for p, other in zip(short, wide, strict=True):
        other.grad = p.grad.double()
    cls = load_optimizer(name)
    with triton_kernels() as rows:
        cls(short, fused=True).step()
    assert rows == [2]
    cls(wide, foreach=False).step()
    cut = DEVICE.type == "cpu" and dtype == torch.bfloat16
    eps = torch.finfo(dtype).eps * (1 if cut else 0.5)
    for p, other in zip(short, wide, strict=True):
        exact = other.detach()
        allowed = eps * exact.abs() + 1e-6 * exact.abs() + 1e-7
        assert ((p.detach().double() - exact).abs() <= allowed).all()


def test_groups_with_their_own_numbers_are_one_launch() -> None:
    params, others = parameters(5, 20), parameters(5, 20)

    def groups(each: list[Parameter]) -> list[dict[str, Any]]:
        return [
            {"params": each[:1], "lr": 1e-2, "betas": (0.8, 0.9)},
            {"params": each[1:], "lr": 1e-3, "eps": 1e-3},
        ]

    cls = load_optimizer("adamw")
    fused, plain = cls(groups(params), fused=True), cls(groups(others), foreach=False)
    with triton_kernels() as rows:
        for step in range(3):
            for optimizer, each in ((fused, params), (plain, others)):
                give(each, step)
                optimizer.step()
    assert rows == [2] * 3
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


def test_groups_that_step_together_may_differ_in_their_options() -> None:
    params, others = parameters(5, 20), parameters(5, 20)

    def groups(each: list[Parameter]) -> list[dict[str, Any]]:
        return [
            {"params": each[:1], "weight_decay": 0.1},
            {"params": each[1:], "decouple": False, "weight_decay": 0.2},
        ]

    cls = load_optimizer("prodigy")
    fused, plain = cls(groups(params), fused=True), cls(groups(others), foreach=False)
    with triton_kernels() as rows:
        for step in range(3):
            for optimizer, each in ((fused, params), (plain, others)):
                give(each, step)
                optimizer.step()
    assert rows == [2] * 3
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


@pytest.fixture
def one_of_two() -> Iterator[Any]:
    """A mesh over two processes, of which there is one: none of what is tested is a word
    between them.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield init_device_mesh(DEVICE.type, (2,))
    dist.destroy_process_group()


def test_what_is_here_of_a_tensor(one_of_two: Any) -> None:
    """Of DTensors it is updated alone, with the bits that it has as part of the whole."""
    from torch.distributed.tensor import Shard, distribute_tensor

    def here(x: Tensor) -> Tensor:
        return distribute_tensor(x, one_of_two, [Shard(0)], src_data_rank=None)

    wholes = parameters((5, 3), (2 * BLOCK + 1,), (1,))
    parts = [*(Parameter(here(p.detach().clone())) for p in wholes), *parameters(4)]
    cls = load_optimizer("adamw")
    ours, theirs = cls(parts, fused=True), cls(wholes, fused=True)
    with triton_kernels() as rows:
        for step in range(3):
            give(wholes, step)
            for p, whole in zip(parts, wholes, strict=False):
                p.grad = here(whole.grad)
            parts[-1].grad = torch.ones_like(parts[-1])
            ours.step()
            theirs.step()
    assert rows == [4, 3] * 3
    for p, whole in zip(parts, wholes, strict=False):
        pairs = zip(ours.state[p].values(), theirs.state[whole].values(), strict=True)
        for x, y in ((p.detach(), whole.detach()), *pairs):
            x, y = (x._local_tensor, here(y)._local_tensor) if y.ndim else (x, y)
            assert torch.equal(x, y)


def test_a_state_that_only_some_have() -> None:
    """A group without it is a launch of its own."""
    params, others = parameters(5, 20), parameters(5, 20)

    def groups(each: list[Parameter]) -> list[dict[str, Any]]:
        return [{"params": each[:1], "amsgrad": True}, {"params": each[1:]}]

    cls = load_optimizer("adamw")
    fused, plain = cls(groups(params), fused=True), cls(groups(others), foreach=False)
    with triton_kernels() as rows:
        for step in range(2):
            for optimizer, each in ((fused, params), (plain, others)):
                give(each, step)
                optimizer.step()
    assert rows == [1] * 4
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


def test_complex_parameters_are_pairs() -> None:
    def make() -> list[Parameter]:
        return [Parameter(torch.view_as_complex(parameters((9, 2))[0].data.clone()))]

    twins = Twins("adamw", make)
    with triton_kernels() as rows:
        for step in range(2):
            pairs = torch.randn(9, 2, generator=torch.Generator().manual_seed(step))
            for optimizer, (p,) in twins.sides:
                p.grad = torch.view_as_complex(pairs.to(DEVICE))
                optimizer.step()
    assert rows == [1] * 2
    twins.assert_close()


# ---- the life of an optimizer


def test_a_late_parameter_and_a_missing_gradient() -> None:
    twins = Twins("adamw", lambda: parameters(4, 5, 6))
    with triton_kernels():
        for step in range(4):
            for optimizer, params in twins.sides:
                give(params, step)
                if step < 2:
                    params[1].grad = None
                if step == 2:
                    params[0].grad = None
                optimizer.step()
    twins.assert_close()
    assert twins.fused.state[twins.params[1]]["step"] == 2


@pytest.mark.parametrize("name", ["adamw", "lamb", "prodigy", "nadam"])
@pytest.mark.parametrize("unscaled", [False, True])
def test_a_step_that_overflowed_changes_nothing(name: str, unscaled: bool) -> None:
    """Neither parameters nor counts; the gradients keep their bits, and the host asks the
    kernels nothing.
    """
    twins = Twins(name, lambda: parameters(4, 20))
    assert twins.fused._step_supports_amp_scaling
    scaler = GradScaler(DEVICE.type, init_scale=2.0**10)
    scaler.scale(torch.ones((), device=DEVICE))
    with triton_kernels() as rows:
        for step in range(4):
            give(twins.params, step, scaler.get_scale())
            give(twins.others, step)
            overflows = step == 2
            if overflows:
                twins.params[1].grad[2] = float("inf")
            before = seen(twins)
            grads = [p.grad.clone() for p in twins.params]
            if unscaled:
                scaler.unscale_(twins.fused)
            scaler.step(twins.fused)
            scaler.update()
            if overflows:
                for here, there in zip(before, seen(twins), strict=True):
                    assert torch.equal(here, there)
            else:
                twins.plain.step()
            if not unscaled:
                for p, grad in zip(twins.params, grads, strict=True):
                    assert torch.equal(p.grad, grad)
    assert rows == [2] * 4
    twins.assert_close()


def seen(twins: Twins) -> list[Tensor]:
    """All numbers of parameters, states and groups."""
    found = [p.detach().clone() for p in twins.params]
    states = (twins.fused.state[p] for p in twins.params)
    found += [x.clone() for state in states for x in state.values()]
    groups = (group.values() for group in twins.fused.param_groups)
    return found + [
        x.clone() for group in groups for x in group if isinstance(x, Tensor)
    ]


def test_a_first_step_that_overflowed_is_made_up_for() -> None:
    """A rule that asks whether a step is the first one has to wait for the answer."""
    name = "sgd"
    twins = Twins(name, lambda: parameters(4), momentum=0.9)
    scaler = GradScaler(DEVICE.type, init_scale=2.0**10)
    scaler.scale(torch.ones((), device=DEVICE))
    with triton_kernels():
        for step in range(3):
            give(twins.params, step, scaler.get_scale())
            give(twins.others, step)
            if step == 0:
                twins.params[0].grad[2] = float("inf")
            scaler.step(twins.fused)
            scaler.update()
            if step:
                twins.plain.step()
    twins.assert_close()


def test_a_learning_rate_that_is_a_tensor_may_change_in_place() -> None:
    params, others = parameters(6), parameters(6)
    rate = torch.tensor(1e-2, device=DEVICE)
    cls = load_optimizer("adamw")
    fused, plain = cls(params, lr=rate, fused=True), cls(others, foreach=False)
    with triton_kernels():
        for step in range(3):
            rate.fill_(1e-2 / (step + 1))
            plain.param_groups[0]["lr"] = 1e-2 / (step + 1)
            for optimizer, each in ((fused, params), (plain, others)):
                give(each, step)
                optimizer.step()
    torch.testing.assert_close(params[0].data, others[0].data, **CLOSE)


def test_saved_and_loaded_it_goes_on_with_the_same_bits() -> None:
    def run(stop: int | None) -> list[Parameter]:
        params = parameters((4, 3), 5)
        optimizer = load_optimizer("nadam")(params, fused=True)
        for step in range(4):
            if step == stop:
                saved = copy.deepcopy(optimizer.state_dict())
                optimizer = load_optimizer("nadam")(params, fused=True)
                optimizer.load_state_dict(saved)
            give(params, step)
            optimizer.step()
        return params

    with triton_kernels():
        for one, other in zip(run(None), run(2), strict=True):
            assert torch.equal(one, other)


def test_what_is_where_it_was_is_not_copied_again(monkeypatch) -> None:
    """Gradients that stay are at their places; a new learning rate is a new table."""
    copies: list[int] = []
    carry = device_tables.Copies.__call__

    def counted(self: device_tables.Copies, words: bytearray) -> Tensor:
        copies.append(len(words))
        return carry(self, words)

    monkeypatch.setattr(device_tables.Copies, "__call__", counted)
    params = parameters(4, 20)
    optimizer = load_optimizer("adamw")(params, fused=True)
    give(params, 0)
    with triton_kernels():
        for expected in (2, 2, 2):
            optimizer.step()
            assert len(copies) == expected
        optimizer.param_groups[0]["lr"] = 1e-4
        optimizer.step()
        assert len(copies) == 3
        give(params, 1)
        optimizer.step()
        assert len(copies) == 4
        params[0].data = torch.randn(7, device=DEVICE)
        optimizer.state.clear()
        give(params, 1)
        optimizer.step()
        assert len(copies) == 6


# ---- the text


def test_the_source_of_a_kernel_can_be_seen() -> None:
    """Triton reads it, and so do people; what it compiles it keeps under its digest."""
    from optdsl.optim import adamw

    text = adamw._KERNELS.device.text
    made = module(text)
    assert made is module(text)
    assert inspect.getsource(inspect.unwrap(made.launch)).startswith("def launch(x)")
    source = inspect.getsource(made.pass_1.fn)
    assert "# p *= 1 - lr*weight_decay" in source


# ---- what only a GPU shows


@ON_GPU
@pytest.mark.parametrize("name", ["adamw", "lamb", "prodigy", "aggmo", "amos"])
def test_a_captured_step_is_the_same_step(name: str) -> None:
    options = {"capturable": True}
    cls = load_optimizer(name)
    params, others = parameters(5, 5000), parameters(5, 5000)
    captured, eager = cls(params, **options), cls(others, fused=True, **options)
    with triton_kernels(block=2048) as rows:
        for each in (params, others):
            give(each, 0)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                captured.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured.step()
        for _ in range(3):
            graph.replay()
        for _ in range(6):
            eager.step()
    assert len(rows) == 4 + 6
    for mine, other in zip(params, others, strict=True):
        assert torch.equal(mine, other)


@ON_GPU
@pytest.mark.parametrize("name", ["adamw", "lamb", "prodigy", "aggmo", "amos"])
def test_a_step_does_not_wait_for_the_device(name: str) -> None:
    params = parameters(5, 5000)
    optimizer = load_optimizer(name)(params, fused=True)
    with triton_kernels(block=2048):
        give(params, 0)
        optimizer.step()
        give(params, 1)
        torch.cuda.set_sync_debug_mode("error")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@ON_GPU
def test_counts_that_a_checkpoint_brought_to_the_cpu_move() -> None:
    twins = Twins("adamw", lambda: parameters(4, 5))
    with triton_kernels():
        twins.step(0)
        for state in twins.fused.state.values():
            state["step"] = state["step"].cpu()
        twins.step(1)
    assert all(x["step"].is_cuda for x in twins.fused.state.values())
    twins.assert_close()
