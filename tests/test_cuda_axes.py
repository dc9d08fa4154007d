"""Triton's kernels of rules that reduce along axes: every kind of shape, what groups and
types they take together, and what they leave. Each is held against the same optimizer
without kernels, or against the interpreter of the language.
"""

from typing import Any

import pytest
import torch
from built import built
from oracle import checked, every, is_calculable, scenario
from random_axes import spec
from test_cuda_kernels import assert_kernels_compute, parameters
from test_fused_axes import EXACT, LINES, RULES, options
from test_targets_against_interpreter import doubles
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Parameter
from triton_on_cpu import DEVICE, triton_kernels
from twins import CLOSE, Twins, give

from optdsl import OptdslError, from_string, load_optimizer

# Here tiles are of 8 lines and 8 columns, and 8 lines, or 8 columns, are a block.
BLOCK = 64
SHAPES = (
    (), (0,), (65,), (1, 1), (9, 1), (1, 17), (8, 8), (17, 9), (4, 3, 5), (2, 1, 2, 3),
    (0, 4), (4, 0), (2, 0, 3), (0, 2, 3),
)  # fmt: skip
CASES = [(name, at) for at in (1, 0) for name in RULES]


@pytest.mark.parametrize(("name", "at"), every(2, CASES))
def test_shapes_of_all_kinds_in_one_step(name: str, at: int) -> None:
    """Those that have other states, as vectors under Adafactor, are launches of their own."""
    chosen = options(name)[at]
    make = lambda: parameters(*SHAPES, dtype=torch.float64)  # noqa: E731
    twins = Twins(name, make, **chosen)
    with triton_kernels(block=BLOCK) as rows:
        for step in range(2):
            twins.step(step)
    assert len(rows) in (2, 4)
    assert sum(rows) == 2 * len(SHAPES)
    twins.assert_close(**EXACT, equal_nan=True)


_ROWS = "dim=-1, keepdim=true"
RULES_OF_LINES = {
    "what is gathered is worked on": f"""
    m = mean(grad, {_ROWS})
    m = 2*m
    p -= lr*m*grad/(1 + norm(m*p))""",
    "elements of which each line is one": f"""
    m = mean(grad, {_ROWS})
    p = lr*m + 0*p""",
    "flags of lines, and one of all of them": f"""
    m = mean(grad, {_ROWS}) > 0
    p -= lr*where(m, grad, p)
    p -= lr*where(any(m), grad, p)""",
    "the largest, and what is of a group": f"""
    m = max(grad, {_ROWS})
    total = sum(min(p, {_ROWS})*m)
    of_group = sum(total, over=group)
    p -= lr*m*of_group*grad/(1 + of_group*of_group)""",
    "a state that is compared with a number": f"""
    p -= lr*where(v > lr, grad, p)
    v = 0.5*v + mean(grad*grad, {_ROWS})""",
    "a gradient that is changed between passes": f"""
    grad -= mean(grad, {_ROWS})
    p -= lr*grad
    grad /= 1 + norm(grad, {_ROWS})
    p -= lr*grad""",
}


@pytest.mark.parametrize("rule", RULES_OF_LINES)
def test_kernels_compute_a_rule(rule: str) -> None:
    body = RULES_OF_LINES[rule]
    state = f"state v = mean(zeros_like(grad), {_ROWS})\n" * ("v =" in body)
    text = f"optimizer Mine\nhyper lr = 0.1\n{state}step:{body}\n"
    with doubles():
        start = scenario(checked(text), 1)
        assert_kernels_compute(text, start, torch.float64, 2.0**-40, 1)


@pytest.mark.parametrize("seed", every(18, range(90)))
def test_kernels_compute_a_random_rule(seed: int) -> None:
    """In tiles of 2 lines and 4 columns."""
    text = spec(seed)
    try:
        carried = "_CUDA" in built(text).python
    except OptdslError:
        carried = False
    if not carried or not is_calculable(text, seed):
        pytest.skip("no kernels, or nothing to compare with")
    with doubles():
        start = scenario(checked(text), seed)
        assert_kernels_compute(text, start, torch.float64, 2.0**-40, seed, True)


@pytest.mark.parametrize(
    ("name", "dtype"), [("adafactor", torch.bfloat16), ("amos", torch.float16)]
)
def test_short_floats_are_near_the_step_in_float64(
    name: str, dtype: torch.dtype
) -> None:
    """What is stored is rounded to the short float: states of lines and columns before a
    pass reads them, parameters at the end. What is read of a state is wrong by at most half
    an eps, and no rule magnifies this by more than 4. Triton's interpreter cuts bfloat16
    off, which is twice as far.
    """
    short = parameters((17, 9), (3, 2, 5), (9,), dtype=dtype)
    wide = [Parameter(p.detach().double()) for p in short]
    starts = [p.detach().clone() for p in wide]
    give(short, 0)
    for p, other in zip(short, wide, strict=True):
        other.grad = p.grad.double()
    eps = torch.finfo(dtype).eps
    more = {"eps": (eps, 1e-3)} if name == "adafactor" else {}
    cls = load_optimizer(name)
    with triton_kernels(block=BLOCK):
        cls(short, lr=1e-2, fused=True, **more).step()
    cls(wide, lr=1e-2, foreach=False, **more).step()
    if DEVICE.type == "cpu" and dtype == torch.bfloat16:
        eps *= 2
    for p, other, start in zip(short, wide, starts, strict=True):
        exact = other.detach()
        allowed = eps / 2 * exact.abs() + 2 * eps * (exact - start).abs().max() + 1e-7
        assert ((p.detach().double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("width", [32, 33])
def test_lines_that_are_even_and_others(width: int) -> None:
    """Where all are multiples of 16 elements several are loaded at once."""
    twins = Twins("adafactor", lambda: parameters((4, 32), (2, 3, width), (48,)))
    with triton_kernels(block=1024):
        for step in range(2):
            twins.step(step)
    twins.assert_close()


def test_groups_with_their_own_numbers_are_one_launch() -> None:
    params, others = parameters((9, 5), (4, 20)), parameters((9, 5), (4, 20))

    def groups(each: list[Parameter]) -> list[dict[str, Any]]:
        return [{"params": each[:1], "lr": 1e-2}, {"params": each[1:], "beta": 0.9}]

    cls = load_optimizer("amos")
    fused, plain = cls(groups(params), fused=True), cls(groups(others), foreach=False)
    with triton_kernels(block=BLOCK) as rows:
        for step in range(3):
            for optimizer, each in ((fused, params), (plain, others)):
                give(each, step)
                optimizer.step()
    assert rows == [2] * 3
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


def test_a_tensor_gets_the_same_bits_beside_others() -> None:
    """What is gathered is added in an order that its own shape decides."""

    def trained(*shapes: tuple[int, ...]) -> Tensor:
        params = parameters(*shapes)
        params[-1].data = torch.linspace(-1, 2, 15 * 19, device=DEVICE).view(15, 19)
        optimizer = load_optimizer("came")(params, fused=True)
        for step in range(2):
            give(params, step)
            params[-1].grad = (params[-1].detach() + step).sin()
            optimizer.step()
        return params[-1].detach()

    with triton_kernels(block=BLOCK):
        assert torch.equal(trained((15, 19)), trained((9, 9), (3, 5, 4), (15, 19)))


def test_a_step_that_overflowed_changes_nothing() -> None:
    """The gradients keep their scale, and the host asks the kernels nothing."""
    twins = Twins("adamp", lambda: parameters((9, 5), (7,)))
    scaler = GradScaler(DEVICE.type, init_scale=2.0**10)
    scaler.scale(torch.ones((), device=DEVICE))
    with triton_kernels(block=BLOCK) as rows:
        for step in range(3):
            give(twins.params, step, scaler.get_scale())
            give(twins.others, step)
            if step == 1:
                twins.params[1].grad[2] = float("inf")
            scaler.step(twins.fused)
            scaler.update()
            if step != 1:
                twins.plain.step()
    assert rows == [2] * 3
    twins.assert_close()


@pytest.mark.parametrize("name", ["amos", "adamp"])
def test_a_step_that_may_be_captured(name: str) -> None:
    twins = Twins(name, lambda: parameters((9, 5), (7,)), capturable=True)
    twins.plain.param_groups[0]["capturable"] = DEVICE.type == "cuda"
    with triton_kernels(block=BLOCK) as rows:
        for step in range(2):
            twins.step(step)
    assert rows == [2] * 2
    twins.assert_close()


def test_a_parameter_may_change_its_shape_between_steps() -> None:
    """The memory is the same and so is the size: the lines are others."""

    def trained(fused: bool) -> Tensor:
        (p,) = parameters((4, 6), dtype=torch.float64)
        optimizer = from_string(LINES)([p], fused=fused, foreach=False)
        for shape in ((4, 6), (4, 6), (6, 4), (24,)):
            p.data = p.data.view(shape)
            p.grad = torch.ones(shape, dtype=torch.float64, device=DEVICE)
            optimizer.step()
        return p.detach()

    with triton_kernels():
        mine = trained(True)
    torch.testing.assert_close(mine, trained(False), **EXACT)


def test_parameters_that_lie_across_their_memory_are_left() -> None:
    def make() -> list[Parameter]:
        return [Parameter(parameters((5, 4))[0].detach().t()), *parameters((3, 2))]

    twins = Twins("amos", make)
    with triton_kernels(leave=True):
        twins.step(0)
    twins.assert_close()


def test_the_largest_of_nothing_is_left_to_torch() -> None:
    cls = from_string(LINES.replace("norm(p", "max(p"))
    (p,) = parameters((3, 0))
    give([p], 0)
    with triton_kernels(leave=True), pytest.raises((IndexError, RuntimeError)):
        cls([p], fused=True).step()
