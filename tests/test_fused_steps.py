"""Steps by kernels as part of an optimizer's life: what they carry, what they leave to
another target without a word, and what an optimizer with kernels does like any other.

Each is held against the same optimizer without kernels.
"""

import copy
import io
from typing import Any

import pytest
import torch
from built import of_library
from oracle import every
from test_fused import CARRIED, kernels_alone
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten_with_path
from twins import CLOSE, Twins, give, parameters

from optdsl import load_optimizer
from optdsl.runtime.launch import Launch

CHUNK = 16384
BORDERS = (0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each launch has."""
    rows: list[int] = []
    run = Launch.step

    def counted(self: Launch, batch: Any) -> bool:
        rows.append(len(batch.numel))
        return run(self, batch)

    monkeypatch.setattr(Launch, "step", counted)
    return rows


# ---- sizes and threads


@pytest.mark.parametrize("name", ["adamw", "lamb", "prodigy", "mars", "tiger"])
def test_every_size_around_the_borders_of_vectors_and_chunks(name: str) -> None:
    twins = Twins(name, lambda: parameters(*BORDERS, (3, 5), ()))
    with kernels_alone():
        for step in range(3):
            twins.step(step)
    twins.assert_close(rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["adamw", "lamb", "prodigy", "novograd", "gravity"])
def test_one_thread_and_two_get_the_same_bits(name: str) -> None:
    def trained(threads: int) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            torch.manual_seed(0)  # of states that start at random
            params = parameters(5 * CHUNK + 3, (100, 40), 1, 3 * CHUNK)
            optimizer = load_optimizer(name)(params, fused=True)
            with kernels_alone():
                for step in range(3):
                    give(params, step)
                    optimizer.step()
        finally:
            torch.set_num_threads(before)
        return [
            *(p.detach() for p in params),
            *(x for state in optimizer.state.values() for x in state.values()),
        ]

    for one, two in zip(trained(1), trained(2), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("adamw", torch.bfloat16),
        ("adamw", torch.float16),
        ("lion", torch.bfloat16),
        ("lion", torch.float16),
        ("lamb", torch.bfloat16),
    ],
)
def test_short_floats_are_rounded_once_a_step(name: str, dtype: torch.dtype) -> None:
    """The kernel calculates in float32; what it stores is the nearest short float. A
    second pass starts from what the first one stored, which moves its step by as much.
    """
    shapes = ((64, 33), 17)
    short = parameters(*shapes, dtype=dtype)
    wide = [Parameter(p.detach().double()) for p in short]
    give(short, 0)
    for p, other in zip(short, wide, strict=True):
        other.grad = p.grad.double()
    starts = [p.detach().clone() for p in wide]
    cls = load_optimizer(name)
    with kernels_alone():
        cls(short, fused=True).step()
    cls(wide, foreach=False).step()
    eps = torch.finfo(dtype).eps
    for p, other, start in zip(short, wide, starts, strict=True):
        exact = other.detach()
        second = 2 * eps * (exact - start).abs().max() * (name == "lamb")
        allowed = eps / 2 * exact.abs() + 1e-6 * exact.abs() + 1e-7 + second
        assert ((p.detach().double() - exact).abs() <= allowed).all()


def test_a_step_is_as_long_as_its_rate_says_where_half_precision_loses_a_moment() -> (
    None
):
    """The second moment of small gradients is 0 in float16, and their update huge; the
    norm that LAMB divides by has to be of the same update.
    """
    random = torch.Generator().manual_seed(3)
    p = Parameter(torch.randn(4096, generator=random).half())
    p.grad = (1e-2 * torch.randn(4096, generator=random)).half()
    start = p.detach().double()
    with kernels_alone():
        load_optimizer("lamb")([p], lr=0.1, weight_decay=0, fused=True).step()
    moved = (p.detach().double() - start).norm() / start.norm()
    torch.testing.assert_close(moved.item(), 0.1, rtol=1e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_is_equal_to_the_hyper_that_it_started_from(dtype: torch.dtype) -> None:
    """Of 1e-6 float32 holds another number. Prodigy's first estimate may grow further."""

    def estimates(**target: bool) -> list[float]:
        params = parameters(50, dtype=dtype)
        optimizer = load_optimizer("prodigy")(params, growth_rate=1.02, **target)
        found = []
        for _ in range(4):
            params[0].grad = params[0].detach().clone()
            optimizer.step()
            found.append(optimizer.param_groups[0]["d"].item())
        return found

    with kernels_alone():
        by_kernels = estimates(fused=True)
    plain = estimates(foreach=False)
    assert plain[1] > 1.02 * plain[0]
    assert by_kernels == pytest.approx(plain, rel=1e-5)


# ---- many groups, many kinds


def test_many_groups_with_their_own_numbers_are_one_launch(monkeypatch) -> None:
    rows = watched(monkeypatch)

    def groups(params: list[Parameter]) -> list[dict[str, Any]]:
        return [{"params": [p], "lr": 1e-3 * (k + 1)} for k, p in enumerate(params)]

    params, others = parameters(*[7] * 40), parameters(*[7] * 40)
    cls = load_optimizer("adamw")
    fused, plain = cls(groups(params), fused=True), cls(groups(others), foreach=False)
    for step in range(3):
        for optimizer, each in ((fused, params), (plain, others)):
            give(each, step)
            optimizer.step()
    assert rows == [40] * 3
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


def test_options_and_types_that_differ_are_launches_of_their_own(monkeypatch) -> None:
    rows = watched(monkeypatch)

    def make() -> list[Parameter]:
        return [*parameters(5, 6), *parameters(7, dtype=torch.float64)]

    twins = Twins("adamw", make)
    for optimizer, _ in twins.sides:
        late = parameters(8)[0]
        optimizer.add_param_group({"params": [late], "weight_decay": 0.0})
    twins.params.append(twins.fused.param_groups[1]["params"][0])
    twins.others.append(twins.plain.param_groups[1]["params"][0])
    for step in range(3):
        twins.step(step)
    assert sorted(rows) == [1, 1, 1, 1, 1, 1, 2, 2, 2]
    twins.assert_close()


def test_groups_that_step_together_may_differ_in_their_options(monkeypatch) -> None:
    rows = watched(monkeypatch)
    params, others = parameters(5, 6), parameters(5, 6)
    cls = load_optimizer("prodigy")

    def groups(each: list[Parameter]) -> list[dict[str, Any]]:
        return [
            {"params": each[:1], "weight_decay": 0.1},
            {"params": each[1:], "decouple": False, "weight_decay": 0.2},
        ]

    fused, plain = cls(groups(params), fused=True), cls(groups(others), foreach=False)
    for step in range(4):
        for optimizer, each in ((fused, params), (plain, others)):
            give(each, step)
            optimizer.step()
    assert rows == [2] * 4
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


@pytest.mark.parametrize("asked", [True, None], ids=["asked for", "by default"])
def test_groups_that_step_together_are_left_together(asked: Any, monkeypatch) -> None:
    """A group that kernels leave is part of what the others sum up."""
    monkeypatch.setenv("OPTDSL_FUSED", "1")
    rows = watched(monkeypatch)
    params, others = parameters((5, 3), (6, 4)), parameters((5, 3), (6, 4))
    cls = load_optimizer("prodigy")
    mine, plain = (
        cls([{"params": [p]} for p in each], **options)
        for each, options in ((params, {"fused": asked}), (others, {"foreach": False}))
    )
    for step in range(3):
        for optimizer, each in ((mine, params), (plain, others)):
            give(each, step)
            each[1].grad = each[1].grad.t().contiguous().t()
            optimizer.step()
    assert not rows
    for p, other in zip(params, others, strict=True):
        torch.testing.assert_close(p.data, other.data, **CLOSE)


# ---- memory in another order


def permuted(dtype: torch.dtype = torch.float32) -> list[Parameter]:
    """Dense memory in the orders that there are, beside one as it is counted."""
    random = torch.Generator().manual_seed(3)

    def made(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).to(dtype)

    return [
        Parameter(made(4, 3, 5, 5).to(memory_format=torch.channels_last)),
        Parameter(made(2, 3, 4, 3, 2).to(memory_format=torch.channels_last_3d)),
        Parameter(made(6, 7).t()),
        Parameter(made(3, 1, 5).permute(2, 0, 1)),
        Parameter(made(3, 5)),
    ]


@pytest.mark.parametrize("name", every(5, CARRIED))
def test_dense_memory_in_any_order_is_carried(name: str) -> None:
    """Where all tensors of a parameter have the same order. What a rule reduces along axes
    may be left; nothing may be misread.
    """
    cls = load_optimizer(name)
    params, others = permuted(torch.float64), permuted(torch.float64)
    torch.manual_seed(0)  # of a group whose numbers are drawn
    fused = cls(params, fused=True)
    torch.manual_seed(0)
    plain = cls(others, foreach=False)
    rule = of_library(name)
    along_axes = getattr(rule.lowered.kernels, "view", None) is not None
    for step in range(3):
        for optimizer, each in ((fused, params), (plain, others)):
            give(each, step)
            # What is drawn at random lies as it is counted.
            leave = along_axes or rule.checked.random or optimizer is plain
            with kernels_alone(leave) as launches:
                optimizer.step()
            assert leave or 0 not in launches
    for mine, other in zip(params, others, strict=True):
        assert mine.stride() == other.stride()
        torch.testing.assert_close(mine.data, other.data, rtol=1e-6, atol=1e-9)


def test_a_gradient_in_another_order_is_left() -> None:
    """From one step to the next, and back."""
    twins = Twins("adamw", permuted)
    for step in range(6):
        for optimizer, params in twins.sides:
            give(params, step)
            if step in (2, 3):
                for p in params:
                    p.grad = p.grad.contiguous()
            optimizer.step()
    twins.assert_close()


def test_memory_with_gaps_or_twice_is_left() -> None:
    """A slice, and gradients one number of which stands for a whole row."""
    wide = torch.arange(12.0).reshape(3, 4)
    sliced, row = wide[:, :2].t(), torch.ones(1, 4).expand(3, 4).t()
    for data, grad in ((sliced, sliced.clone()), (sliced, sliced), (wide.t(), row)):
        p = Parameter(data.detach())
        p.grad, expected = grad.detach(), data - 0.5 * grad
        with kernels_alone(leave=True) as launches:
            load_optimizer("gradient_descent")([p], lr=0.5, fused=True).step()
        assert launches == [0]
        assert torch.equal(p.data, expected)


# ---- what is left to another target


def crossed(params: list[Parameter]) -> None:
    params[0].data = params[0].data.t()


def of_another_memory(params: list[Parameter]) -> None:
    params[0].data = params[0].data.clone()


def strided(params: list[Parameter]) -> None:
    params[0].grad = torch.stack([params[0].grad] * 2, -1)[..., 0]


def negated_view(params: list[Parameter]) -> None:
    params[1].grad = torch._neg_view(-params[1].grad)


LEFT = {"crossed": crossed, "strided": strided, "negated": negated_view}


@pytest.mark.parametrize("change", [*LEFT, "of_another_memory"])
def test_what_lies_otherwise_in_memory_is_never_misread(change: str) -> None:
    """After a step whose tables could be used again."""
    made = LEFT.get(change, of_another_memory)
    twins = Twins("adamw", lambda: parameters((6, 6), 1, 9))
    for step in range(5):
        for optimizer, params in twins.sides:
            give(params, step)
            if step == 2 or (step > 2 and made is strided):
                made(params)
            optimizer.step()
    twins.assert_close()


def test_a_parameter_that_is_there_twice_is_left_to_foreach(monkeypatch) -> None:
    """No two threads write into the same memory."""
    rows = watched(monkeypatch)
    params, others = parameters(6, 7), parameters(6, 7)
    cls = load_optimizer("momentum")
    with pytest.warns(UserWarning, match="duplicate"):
        fused = cls([*params, params[0]], fused=True)
        plain = cls([*others, others[0]], foreach=True)
    for step in range(3):
        for optimizer, each in ((fused, params), (plain, others)):
            give(each, step)
            optimizer.step()
    assert not rows
    assert torch.equal(params[0], others[0])


def test_tensors_without_memory_are_left_alone() -> None:
    params = [Parameter(torch.empty(3, device="meta"))]
    params[0].grad = torch.empty(3, device="meta")
    optimizer = load_optimizer("momentum")(params, fused=True)
    optimizer.step()
    assert optimizer.state[params[0]]["buf"].device.type == "meta"


class Marked(Tensor):
    """A tensor that is more than its numbers."""


def test_subclasses_of_tensors_are_left_to_their_own_arithmetic(monkeypatch) -> None:
    rows = watched(monkeypatch)
    params = [Parameter(torch.ones(3).as_subclass(Marked))]
    params[0].grad = torch.ones(3).as_subclass(Marked)
    load_optimizer("momentum")(params, lr=0.5, fused=True).step()
    assert not rows
    assert params[0].tolist() == [0.5] * 3


def test_a_real_state_of_a_complex_parameter_is_left() -> None:
    """It has half of the memory that its pairs would have."""
    params = [Parameter(torch.ones(8, dtype=torch.complex64))]
    optimizer = load_optimizer("momentum")(params, lr=0.5, momentum=0.5, fused=True)
    optimizer.state[params[0]]["buf"] = torch.ones(8)
    params[0].grad = torch.ones_like(params[0])
    with kernels_alone(leave=True) as launches, pytest.raises(RuntimeError):
        optimizer.step()
    assert launches == [0]


def test_memory_that_was_given_up_is_not_written_to(monkeypatch) -> None:
    rows = watched(monkeypatch)
    params = parameters(4, 5)
    optimizer = load_optimizer("signsgd")(params, lr=0.1, momentum=0, fused=True)
    give(params, 0)
    optimizer.step()
    give(params, 1)
    params[1].grad.untyped_storage().resize_(0)
    left: list[Any] = []
    run = Launch.run
    # No other target could take it either.
    monkeypatch.setattr(Launch, "run", lambda self: left.extend(run(self)) or [])
    optimizer.step()
    assert rows == [2] and len(left) == 1


def test_groups_that_are_left_keep_their_order(monkeypatch) -> None:
    """The first of them decides for all whose parameters step together."""
    given: list[list[Any]] = []
    run = Launch.run

    def seen(self: Launch) -> list[Any]:
        left = run(self)
        given.append([group["lr"] for group, _ in left])
        return left

    monkeypatch.setattr(Launch, "run", seen)
    params = parameters(3, 4)
    groups = [
        {"params": params[:1], "lr": 1.0, "fused": False},
        {"params": params[1:], "lr": 0.5},
    ]
    optimizer = load_optimizer("prodigy")(groups, fused=True)
    give(params, 0)
    optimizer.step()
    assert given == [[1.0, 0.5]]


def test_a_tuple_that_became_too_short_is_no_number_of_another_group() -> None:
    params = parameters(3, 4)
    groups = [{"params": params[:1]}, {"params": params[1:]}]
    optimizer = load_optimizer("adamw")(groups, fused=True)
    optimizer.param_groups[0]["betas"] = (0.9,)
    give(params, 0)
    with pytest.raises(IndexError):
        optimizer.step()


def test_sparse_gradients_are_left() -> None:
    params, others = parameters((5, 2)), parameters((5, 2))
    cls = load_optimizer("sgd")
    for each, options in ((params, {"fused": True}), (others, {"foreach": False})):
        each[0].grad = torch.eye(5)[:, :2].to_sparse()
        cls(each, lr=0.1, **options).step()
    assert torch.equal(params[0], others[0])


def test_complex_parameters_are_pairs() -> None:
    def make() -> list[Parameter]:
        return [Parameter(torch.view_as_complex(parameters((9, 2))[0].data.clone()))]

    def grads(params: list[Parameter], step: int) -> None:
        pairs = torch.randn(9, 2, generator=torch.Generator().manual_seed(step))
        params[0].grad = torch.view_as_complex(pairs)

    twins = Twins("adamw", make)
    with kernels_alone():
        for step in range(3):
            grads(twins.params, step)
            twins.fused.step()
    for step in range(3):
        grads(twins.others, step)
        twins.plain.step()
    twins.assert_close()


def test_a_number_that_python_raises_for_is_left_to_python() -> None:
    """Kernels change nothing then: no count goes up, and no infinity gets into a state."""
    params = parameters(4)
    optimizer = load_optimizer("adam")(params, fused=True)
    give(params, 0)
    optimizer.step()
    optimizer.param_groups[0]["betas"] = (1.0, 0.99)
    give(params, 1)
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    assert all(x.isfinite().all() for x in optimizer.state[params[0]].values())
    assert optimizer.state[params[0]]["step"] == 2  # of foreach, up to where it raised


# ---- the life of an optimizer


def test_a_late_parameter_and_a_missing_gradient() -> None:
    twins = Twins("adamw", lambda: parameters(4, 5, 6))
    for step in range(5):
        for optimizer, params in twins.sides:
            give(params, step)
            if step < 2:
                params[1].grad = None
            if step == 3:
                params[0].grad = None
            optimizer.step()
    twins.assert_close()
    assert twins.fused.state[twins.params[1]]["step"] == 3


def test_saved_and_loaded_it_goes_on_with_the_same_bits() -> None:
    def run(stop: int | None) -> list[Parameter]:
        params = parameters((4, 3), 5)
        optimizer = load_optimizer("nadam")(params, fused=True)
        for step in range(6):
            if step == stop:
                file = io.BytesIO()
                torch.save(optimizer.state_dict(), file)
                file.seek(0)
                saved = torch.load(file, weights_only=True)
                optimizer = load_optimizer("nadam")(params, fused=True)
                optimizer.load_state_dict(saved)
            give(params, step)
            optimizer.step()
        return params

    for one, other in zip(run(None), run(3), strict=True):
        assert torch.equal(one, other)


def test_state_that_is_loaded_into_a_stepping_optimizer_is_what_counts() -> None:
    """Tables of the step before point into memory that is no one's now."""
    params = parameters((4, 3), 5)
    optimizer = load_optimizer("adamw")(params, fused=True)
    give(params, 0)
    optimizer.step()
    saved, start = (
        copy.deepcopy(optimizer.state_dict()),
        [p.detach().clone() for p in params],
    )

    def go_on() -> list[Tensor]:
        for step in (1, 2):
            give(params, step)
            optimizer.step()
        return [p.detach().clone() for p in params]

    first = go_on()
    with torch.no_grad():
        for p, value in zip(params, start, strict=True):
            p.copy_(value)
    optimizer.load_state_dict(saved)
    for one, other in zip(first, go_on(), strict=True):
        assert torch.equal(one, other)


def test_a_learning_rate_that_is_a_tensor_may_change_in_place() -> None:
    params, others = parameters(6), parameters(6)
    rate = torch.tensor(1e-2)
    cls = load_optimizer("adamw")
    fused, plain = cls(params, lr=rate, fused=True), cls(others, foreach=False)
    for step in range(4):
        rate.fill_(1e-2 / (step + 1))
        plain.param_groups[0]["lr"] = 1e-2 / (step + 1)
        for optimizer, each in ((fused, params), (plain, others)):
            give(each, step)
            optimizer.step()
    torch.testing.assert_close(params[0].data, others[0].data, **CLOSE)


def bits(optimizer: Optimizer, params: list[Parameter]) -> list[Any]:
    """All that an optimizer holds and has moved, each state and number with its place."""
    saved = copy.deepcopy(optimizer.state_dict())
    saved["params"] = [p.detach().clone() for p in params]
    return tree_flatten_with_path(saved)[0]


@pytest.mark.parametrize("unscaled", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("adamw", {}),  # counts in tensors
        ("sgd", {"momentum": 0.9}),  # knows its first step
        ("l2decay", {"weight_decay": 0.1}),  # moves p in a hook, before the kernels
        ("lamb", {}),  # in two passes
        ("nadam", {}),  # keeps a number of each parameter
        ("prodigy", {}),  # has states of the model
        ("gravity", {}),  # starts at random
    ],
)
def test_gradient_scaler(name: str, options: dict, unscaled: bool) -> None:
    """A step that overflowed leaves no trace: no state is made, none is changed, no count
    goes up. The steps between are those that a loop without a scale makes.
    """
    params, others = parameters(4, 5), parameters(4, 5)
    cls = load_optimizer(name)
    torch.manual_seed(0)  # of states that start at random
    fused = cls(params, fused=True, **options)
    torch.manual_seed(0)
    plain = cls(others, foreach=False, **options)
    assert fused._step_supports_amp_scaling
    scaler = GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(torch.ones(()))
    for step in range(5):
        scale = scaler.get_scale()
        give(params, step)
        give(others, step)
        for p in params:
            p.grad *= scale
        if step in (0, 3):
            params[1].grad[2] = float("inf")
        before = bits(fused, params)
        if unscaled:
            scaler.unscale_(fused)
        scaler.step(fused)
        scaler.update()
        if step in (0, 3):
            for old, new in zip(before, bits(fused, params), strict=True):
                assert old[0] == new[0]
                is_tensor = isinstance(old[1], Tensor)
                same = torch.equal(old[1], new[1]) if is_tensor else old[1] == new[1]
                assert same, old[0]
        else:
            plain.step()
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


def test_whoever_asks_for_nothing_gets_kernels_unless_they_are_off(monkeypatch) -> None:
    rows = watched(monkeypatch)
    for value, options, launches in (
        ("1", {}, 1),
        ("0", {}, 0),
        ("1", {"foreach": False}, 0),
        ("1", {"foreach": True}, 0),
        ("1", {"fused": False}, 0),
        ("0", {"fused": True}, 1),
        ("1", {"differentiable": True}, 0),
    ):
        monkeypatch.setenv("OPTDSL_FUSED", value)
        rows.clear()
        params = [p.detach() for p in parameters(3)]
        give(params, 0)
        load_optimizer("adamw")(params, **options).step()
        assert len(rows) == launches, (value, options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_is_not_disturbed(monkeypatch) -> None:
    monkeypatch.setenv("OPTDSL_FUSED", "1")
    params, others = parameters(4), parameters(4)
    compiled = load_optimizer("adamw")(params)
    plain = load_optimizer("adamw")(others, foreach=False)
    run = torch.compile(compiled.step, backend="eager")
    for step in range(3):
        give(params, step)
        give(others, step)
        run()
        plain.step()
    torch.testing.assert_close(params[0].data, others[0].data, **CLOSE)
