"""Triton's kernels with lists that are as long as the hypers of a group say, and with loops:
what they compute, what they are built anew for, and what they leave to another target.
"""

from typing import Any

import pytest
import torch
from oracle import checked, scenario
from test_cuda_kernels import assert_kernels_compute, parameters
from test_fused_lists import RULES, text_of
from test_targets_against_interpreter import doubles
from torch.nn import Parameter
from triton_on_cpu import BLOCK, DEVICE, triton_kernels
from twins import CLOSE, Twins, give

from optdsl import from_string, load_optimizer


@pytest.mark.parametrize("rule", RULES)
def test_kernels_compute_a_rule_with_lists(rule: str) -> None:
    text = text_of(RULES[rule])
    for seed in range(2):
        with doubles():
            start = scenario(checked(text), seed)
            assert_kernels_compute(text, start, torch.float64, 2.0**-40, seed)


@pytest.mark.parametrize(
    ("dtype", "close"),
    [
        (torch.float32, CLOSE),
        (torch.bfloat16, {"rtol": 2.0**-5, "atol": 2.0**-6}),
        (torch.float16, {"rtol": 2.0**-8, "atol": 2.0**-9}),
    ],
)
def test_every_size_around_the_borders_of_blocks(dtype, close) -> None:
    """Short floats are rounded once a step here, and after each call there: to some units
    in the last place after three steps.
    """
    sizes = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, (3, 5), ())
    twins = Twins("aggmo", lambda: parameters(*sizes, dtype=dtype), weight_decay=0.1)
    with triton_kernels() as rows:
        for step in range(3):
            twins.step(step)
    assert rows == [len(sizes)] * 3
    twins.assert_close(**close)


def test_groups_with_lists_of_other_lengths_are_launches_of_their_own() -> None:
    params, others = parameters(5, (6, 3), 17, 4), parameters(5, (6, 3), 17, 4)

    def groups(each: list[Parameter]) -> list[dict[str, Any]]:
        return [
            {"params": [p], "betas": tuple(0.9 * k / n for k in range(n))}
            for p, n in zip(each, (1, 3, 3, 20), strict=True)
        ]

    cls = load_optimizer("aggmo")
    fused, plain = cls(groups(params), fused=True), cls(groups(others), foreach=False)
    with triton_kernels() as rows:
        for step in range(3):
            for optimizer, each in ((fused, params), (plain, others)):
                give(each, step)
                optimizer.step()
    assert sorted(rows) == [1] * 6 + [2] * 3
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


def test_a_list_may_grow_between_two_steps() -> None:
    """The state has one more, and other values of as many hypers are read anew."""
    twins = Twins("aggmo", lambda: parameters(40, (3, 5)))
    values = {2: (0.5, 0.6, 0.7), 4: [0.5, 0.6, 0.7, 0.8]}
    with triton_kernels() as rows:
        for step in range(6):
            for optimizer, _ in twins.sides:
                (group,) = optimizer.param_groups
                group["betas"] = values.get(step, group["betas"])
            twins.step(step)
    assert rows == [2] * 6
    twins.assert_close()
    assert "momentum_buffer_3" in twins.fused.state[twins.params[0]]


def test_a_step_that_may_be_captured() -> None:
    twins = Twins("aggmo", lambda: parameters(5, 20), capturable=True)
    twins.plain.param_groups[0]["capturable"] = DEVICE.type == "cuda"
    with triton_kernels() as rows:
        for step in range(2):
            twins.step(step)
    assert rows == [2] * 2
    twins.assert_close()


def test_an_entry_that_is_not_there_is_left_to_python() -> None:
    """Nothing behind a list is read."""
    text = (
        "optimizer Mine\nhyper betas: tuple = (0.5, 0.9)\nhyper rates: tuple = (0.1, 1)\n"
        "state m[i in range(len(betas))] = 0\nstep:\n    for i in range(len(betas)):\n"
        "        m[i] = betas[i]*m[i] + grad\n        p -= rates[i]*m[i]"
    )
    cls = from_string(text)
    params = parameters(4)
    give(params, 0)
    with triton_kernels(leave=True) as rows:
        cls(params, fused=True).step()
        assert rows == [1]
        with pytest.raises(IndexError):
            cls(params, fused=True, rates=(0.1,)).step()


def test_entries_of_several_types_are_left() -> None:
    twins = Twins("aggmo", lambda: parameters(20))
    for step in range(3):
        for optimizer, params in twins.sides:
            give(params, step)
            if step == 2:
                state = optimizer.state[params[0]]
                state["momentum_buffer_1"] = state["momentum_buffer_1"].double()
            with triton_kernels(leave=True):
                optimizer.step()
    twins.assert_close()
