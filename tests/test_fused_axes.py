"""Kernels of rules that reduce along axes: every kind of shape, however many threads, and
what they leave to another target. Each is held against the same optimizer without kernels.
"""

from typing import Any

import pytest
import torch
from built import built
from oracle import checked, every, is_calculable, scenario
from random_axes import spec
from test_fused import assert_kernels_compute, has_kernels, kernels_alone
from test_targets_against_interpreter import doubles
from torch import Tensor
from torch.nn import Parameter
from twins import Twins, give, parameters

from optdsl import OptdslError, from_string, load_optimizer

LINES = """optimizer Lines
hyper lr = 0.1
step: p -= lr*grad/(1 + norm(p, dim=-1, keepdim=true))
"""
RULES = ("adafactor", "came", "amos", "adamp", "sgdp")
SHAPES = (
    (3,), (), (0,), (1, 1), (5, 1), (1, 7), (17, 33), (4, 3, 5), (2, 3, 4, 5), (0, 4),
    (4, 0), (2, 0, 3), (0, 2, 3), (1000, 3), (3, 20000), (1, 70000), (300, 1100),
    (70000,), (2, 65, 1030), (70, 3, 3), (9000, 3, 3),
)  # fmt: skip
EXACT = {"rtol": 1e-9, "atol": 1e-11}
"""What another order of the same sums in float64 differs by, after three steps."""


def options(name: str) -> list[dict[str, Any]]:
    """The options of a rule, and those under which most of it is at work."""
    return {
        "adafactor": [{}, {"weight_decay": 0.1, "maximize": True, "eps": (1e-3, 1e-2)}],
        "came": [{}, {"weight_decay": 0.1}],
        "amos": [{}, {"momentum": 0.9, "eta": 0.3}],
        "adamp": [{}, {"weight_decay": 0.1, "delta": 100.0, "nesterov": True}],
        "sgdp": [{"momentum": 0.9}, {"weight_decay": 0.1, "delta": 100.0}],
    }[name]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_each_shape_by_itself(name: str, shape: tuple[int, ...]) -> None:
    for chosen in options(name):
        make = lambda: parameters(shape, dtype=torch.float64)  # noqa: E731
        twins = Twins(name, make, **chosen)
        with kernels_alone():
            for step in range(3):
                twins.step(step)
        twins.assert_close(**EXACT, equal_nan=True)


@pytest.mark.parametrize("name", RULES)
def test_one_thread_and_two_get_the_same_bits(name: str) -> None:
    def trained(threads: int) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            params = parameters((300, 1100), (70000,), (9000, 3, 3), (3, 20000), ())
            optimizer = load_optimizer(name)(params, fused=True, **options(name)[1])
            with kernels_alone():
                for step in range(3):
                    give(params, step)
                    optimizer.step()
        finally:
            torch.set_num_threads(before)
        states = [optimizer.state[p].values() for p in params]
        return [*(p.detach() for p in params), *(x for each in states for x in each)]

    for one, two in zip(trained(1), trained(2), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("adafactor", torch.bfloat16),
        ("adafactor", torch.float16),
        ("amos", torch.bfloat16),
        ("amos", torch.float16),
        # Its second moments are below what float16 has all digits for.
        ("adamp", torch.bfloat16),
    ],
)
def test_short_floats_are_near_the_step_in_float64(
    name: str, dtype: torch.dtype
) -> None:
    """What is stored is rounded to the short float: states of lines and columns before a
    pass reads them, parameters at the end. What is read of a state is wrong by at most half
    an eps, and no rule magnifies this by more than 4.
    """
    short = parameters((64, 33), (5, 4, 7), (17,), dtype=dtype)
    wide = [Parameter(p.detach().double()) for p in short]
    starts = [p.detach().clone() for p in wide]
    give(short, 0)
    for p, other in zip(short, wide, strict=True):
        other.grad = p.grad.double()
    eps = torch.finfo(dtype).eps
    more = {"eps": (eps, 1e-3)} if name == "adafactor" else {}
    cls = load_optimizer(name)
    with kernels_alone():
        cls(short, lr=1e-2, fused=True, **more).step()
    cls(wide, lr=1e-2, foreach=False, **more).step()
    for p, other, start in zip(short, wide, starts, strict=True):
        exact = other.detach()
        allowed = eps / 2 * exact.abs() + 2 * eps * (exact - start).abs().max() + 1e-7
        assert ((p.detach().double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("name", RULES)
def test_an_optimizer_goes_on_from_a_checkpoint_of_another_target(name: str) -> None:
    twins = Twins(name, lambda: parameters((4, 3, 5), (7,), dtype=torch.float64))
    twins.step(0)
    kept = twins.plain.state_dict()
    twins.plain.load_state_dict(twins.fused.state_dict())
    twins.fused.load_state_dict(kept)
    with kernels_alone():
        for step in (1, 2):
            twins.step(step)
    twins.assert_close(**EXACT)


def test_a_state_of_another_size_is_left() -> None:
    """The loop says what is wrong with it; no kernel writes behind its end."""
    params = parameters((6, 5))
    optimizer = load_optimizer("adafactor")(params, fused=True)
    give(params, 0)
    optimizer.step()
    optimizer.state[params[0]]["row_var"] = torch.zeros(2, 1)
    with pytest.raises(RuntimeError):
        optimizer.step()


def test_parameters_that_lie_across_their_memory_are_left() -> None:
    def make() -> list[Parameter]:
        return [Parameter(parameters((5, 4))[0].detach().t()), *parameters((3, 2))]

    twins = Twins("adafactor", make)
    with kernels_alone(leave=True):
        for step in range(2):
            twins.step(step)
    twins.assert_close()


def test_a_parameter_may_change_its_shape_between_steps() -> None:
    """The memory is the same and so is the size: the lines are others."""

    def trained(fused: bool) -> Tensor:
        (p,) = parameters((4, 6), dtype=torch.float64)
        optimizer = from_string(LINES)([p], fused=fused, foreach=False)
        for shape in ((4, 6), (4, 6), (6, 4), (24,)):
            p.data = p.data.view(shape)
            p.grad = torch.ones(shape, dtype=torch.float64)
            optimizer.step()
        return p.detach()

    torch.testing.assert_close(trained(True), trained(False), **EXACT)


def test_complex_parameters_are_left_where_a_pair_has_one_more_axis() -> None:
    cls = from_string(LINES)
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        p = Parameter(torch.randn(3, 4, dtype=torch.complex128))
        p.grad = torch.randn(3, 4, dtype=torch.complex128)
        try:
            cls([p], fused=fused, foreach=False if not fused else None).step()
            results.append(p.detach())
        except RuntimeError as error:
            results.append(str(error))
    assert type(results[0]) is type(results[1])
    if isinstance(results[0], Tensor):
        torch.testing.assert_close(*results)


# ---- what has no kernels, and why

REFUSED = {
    "an axis that a vector lacks": (
        "p -= lr*mean(grad, dim=-2, keepdim=true)",
        "a reduction along axes that are neither lines nor columns",
    ),
    "an axis in the middle": (
        "if ndim(p) == 4: p -= mean(grad, dim=1, keepdim=true)\n    p -= lr*grad",
        "a reduction along axes that are neither lines nor columns",
    ),
    "the size of an axis that a vector lacks": (
        "p -= lr*grad/size(p, 1)*mean(p, dim=-1, keepdim=true)",
        "the size of an axis that a tensor may lack",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_kernels_says_why(case: str) -> None:
    body, why = REFUSED[case]
    lowered = built(f"optimizer Mine\nhyper lr = 0.1\nstep:\n    {body}\n").lowered
    assert lowered.kernels is None
    assert lowered.no_kernels == why


@pytest.mark.parametrize("seed", every(3, range(30)))
def test_kernels_compute_a_random_rule_with_axes(seed: int) -> None:
    text = spec(seed)
    try:
        carried = has_kernels(text)
    except OptdslError:
        carried = False
    if not carried or not is_calculable(text, seed):
        pytest.skip("no kernels, or nothing to compare with")
    with doubles():
        start = scenario(checked(text), seed)
        assert_kernels_compute(text, start, torch.float64, 2.0**-40, seed, True)
