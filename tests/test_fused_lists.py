"""Kernels with lists that are as long as the hypers of a group say, and with loops: what
they compute, what they are built anew for, and what they leave to another target.
"""

import io
from typing import Any

import pytest
import torch
from built import built
from oracle import checked, scenario
from test_fused import assert_kernels_compute, has_kernels, kernels_alone
from test_fused_steps import watched
from test_targets_against_interpreter import doubles
from torch.nn import Parameter
from torch.optim import Optimizer
from twins import CLOSE, Twins, give, parameters

from optdsl import from_string, load_optimizer

HEAD = """optimizer Mine
hyper lr = 0.1
hyper rounds: int = 3 in [0, 100)
hyper betas: tuple = (0.5, 0.9, 0.25) in [0, 1)
hyper pair = (0.3, 0.4)
"""
RULES = {
    "numbers of each round": """
        state m[i in range(len(betas))] = 0
        step:
            for i in range(len(betas)):
                share = lr/(i + 1)
                m[i] = lerp(m[i], grad, 1 - betas[i])
                p -= share*m[i]/(1 - betas[i]**t)""",
    "a branch in a round": """
        state m[i in range(len(betas))] = 0
        step:
            for i in range(len(betas)):
                if betas[i] > 0.4 and i < 2: m[i] = betas[i]*m[i] + grad
                elif rounds > 2: m[i] += grad*grad
                else: m[i] = p
                p -= lr*m[i]""",
    "one round goes on from the one before": """
        state m[i in range(rounds)] = 0
        step:
            x = grad
            for i in range(rounds):
                old = m[i]
                m[i] = 0.5*(old + x)
                x = old
            repeat rounds: x = 0.5*x + p
            p -= lr*x""",
    "a second pass reads what rounds made": """
        state m[i in range(len(betas))] = 0
        step:
            x = grad
            for i in range(len(betas)): x = betas[i]*x + grad
            p -= lr*x/(1 + norm(x))
            for i in range(len(betas)): m[i] += x
            p -= lr*m[1]/(1 + norm(m[2]))""",
    "a second pass reads what rounds made of a state": """
        state m[i in range(2)] = 0
        step:
            x = grad
            for i in range(2):
                x = x + pair[i]*m[i]
                m[i] = x
            p -= lr*x/(1 + norm(x))""",
    "some entries alone": """
        state m[i in range(len(betas))] = p
        step:
            m[0] = 0.5*m[2]
            m[2] = grad
            p -= lr*m[0] + lr*m[1]
            m[1] += p""",
    "only some are there": """
        state m[i in range(len(betas))] = 0 when betas[i] > 0.3
        step:
            for i in range(len(betas)):
                if betas[i] > 0.3:
                    m[i] = betas[i]*m[i] + grad
                    p -= lr*m[i]""",
    "beside what is of the model": """
        state d: model = lr
        state m[i in range(len(betas))] = 0
        step:
            d = 1/(1 + norm(grad, over=model))
            for i in range(len(betas)):
                m[i] = betas[i]*m[i] + d*grad
                p -= lr*m[i]""",
    "some of them beside what is of the model": """
        state d: model = lr
        state m[i in range(len(betas))] = 0 when betas[i] > 0.3
        step:
            d = 1/(1 + norm(grad, over=model))
            p -= d*lr*grad
            for i in range(len(betas)):
                if betas[i] > 0.3:
                    m[i] = betas[i]*m[i] + d*grad
                    p -= lr*m[i]""",
    "no round at all": """
        hyper none_of_them: int = 0 in [0, 9)
        state m[i in range(none_of_them)] = 0
        step:
            for i in range(none_of_them):
                m[i] = betas[0]*m[i] + grad/(i + 1)
                p -= m[i]*lr/none_of_them
            p -= lr*grad""",
    "names of the kernel's own": """
        hyper entry: tuple = (0.5, 0.9) in [0, 1)
        hyper turn: int = 2 in [0, 9)
        state entry_length[at in range(len(entry))] = 0
        state row[n in range(turn)] = 0
        step:
            for entry_2 in range(len(entry)):
                entry_length[entry_2] = entry[entry_2]*entry_length[entry_2] + grad
                p -= lr*entry_length[entry_2]
            for i in range(turn):
                row[i] += i*grad
                p -= lr*row[i]
            repeat turn: p *= 0.99""",
}


def text_of(rule: str) -> str:
    lines = [line.removeprefix("        ") for line in rule.strip("\n").split("\n")]
    body = "\n".join(lines) + "\n"
    unread = [name for name in ("rounds", "betas", "pair") if name not in body]
    kept = (
        line for line in HEAD.split("\n") if not any(f" {x}" in line for x in unread)
    )
    return "\n".join(kept) + body


@pytest.mark.parametrize("rule", RULES)
def test_kernels_compute_a_rule_with_lists(rule: str) -> None:
    text = text_of(RULES[rule])
    for seed in range(3):
        with doubles():
            start = scenario(checked(text), seed)
            launches = assert_kernels_compute(
                text, start, torch.float64, 2.0**-40, seed
            )
        assert 0 not in launches


REFUSED = {
    "a list for each axis": (
        "state m[i in range(ndim(p))] = 0\nstep:\n    for i in range(ndim(p)):\n"
        "        m[i] += grad\n        p -= lr*m[i]",
        "a list of states that is as long as shapes say",
    ),
    "a count of updates": (
        "step:\n    repeat floor(t): p -= lr*grad",
        "a loop that is as long as a computed number",
    ),
    "a norm in each round": (
        "step:\n    repeat 2: p -= lr*grad/norm(p)",
        "a reduction in a loop",
    ),
    "a loop in a loop": (
        "step:\n    repeat 2:\n        repeat 3: p -= lr*grad",
        "a loop in a loop",
    ),
    "a number that grows": (
        "step:\n    rate = lr\n    repeat 3:\n        rate = 0.5*rate\n"
        "        p -= rate*grad",
        "a number that one round of a loop hands on",
    ),
    "the entry behind": (
        "state m[i in range(3)] = 0\nstep:\n    for i in range(2): m[i] = m[i + 1]\n"
        "    m[2] = grad\n    p -= lr*m[0]",
        "an entry of a list whose place is computed",
    ),
    "rows": (
        "state m[i in range(2)] = 0\nstep:\n    for i in range(2): m[i] += grad\n"
        "    p -= lr*(m[0] + m[1])*mean(grad, dim=-1, keepdim=true)",
        "a list of states beside a reduction along axes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_kernels_says_why(case: str) -> None:
    body, why = REFUSED[case]
    lowered = built(f"optimizer Mine\nhyper lr = 0.1\n{body}\n").lowered
    assert lowered.kernels is None
    assert lowered.no_kernels == why


# ---- lengths


def groups(params: list[Parameter]) -> list[dict[str, Any]]:
    lengths = (1, 3, 3, 70)  # more than g++ lays end to end
    return [
        {"params": [p], "betas": tuple(0.9 * k / n for k in range(n))}
        for p, n in zip(params, lengths, strict=True)
    ]


def test_groups_with_lists_of_other_lengths_are_launches_of_their_own(
    monkeypatch,
) -> None:
    rows = watched(monkeypatch)
    params, others = (
        parameters(5, (6, 3), 17, 20_000),
        parameters(5, (6, 3), 17, 20_000),
    )
    cls = load_optimizer("aggmo")
    fused, plain = cls(groups(params), fused=True), cls(groups(others), foreach=False)
    for step in range(4):
        for optimizer, each in ((fused, params), (plain, others)):
            give(each, step)
            optimizer.step()
    assert sorted(rows) == [1] * 8 + [2] * 4
    for mine, other in zip(params, others, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


def test_a_list_may_grow_between_two_steps() -> None:
    """The state has one more, and other values of as many hypers are read anew."""
    twins = Twins("aggmo", lambda: parameters(40, (3, 5)))
    values = {2: (0.5, 0.6, 0.7), 4: [0.5, 0.6, 0.7, 0.8]}
    with kernels_alone() as launches:
        for step in range(6):
            for optimizer, _ in twins.sides:
                (group,) = optimizer.param_groups
                group["betas"] = values.get(step, group["betas"])
            twins.step(step)
    assert launches == [1, 0] * 6
    twins.assert_close()
    assert "momentum_buffer_3" in twins.fused.state[twins.params[0]]


def test_groups_of_other_lengths_that_step_together_are_left() -> None:
    cls = from_string(text_of(RULES["beside what is of the model"]))
    found = []
    for options in ({"fused": True}, {"foreach": False}):
        params = parameters(5, 6)
        several = [{"params": params[:1]}, {"params": params[1:], "betas": (0.5,)}]
        optimizer = cls(several, **options)
        with kernels_alone(leave=True) as launches:
            for step in range(3):
                give(params, step)
                optimizer.step()
        assert sum(launches) == 0
        found.append(params)
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine.data, other.data, **CLOSE)


def test_an_entry_that_is_not_there_is_left_to_python() -> None:
    """Nothing behind a list is read."""
    text = (
        "optimizer Mine\nhyper betas: tuple = (0.5, 0.9)\nhyper rates: tuple = (0.1, 1)\n"
        "state m[i in range(len(betas))] = 0\nstep:\n    for i in range(len(betas)):\n"
        "        m[i] = betas[i]*m[i] + grad\n        p -= rates[i]*m[i]"
    )
    assert has_kernels(text)
    cls = from_string(text)
    params = parameters(4)
    give(params, 0)
    with kernels_alone():
        cls(params, fused=True).step()
    with pytest.raises(IndexError):
        cls(params, fused=True, rates=(0.1,)).step()


# ---- the life of an optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("target", [{"fused": True}, {"foreach": True}])
def test_a_checkpoint_of_one_target_goes_on_in_another(target, dtype) -> None:
    """With the same bits where the target is the same."""

    def run(stop: int | None) -> list[Parameter]:
        params = parameters((4, 3), 50, dtype=dtype)
        cls = load_optimizer("aggmo")
        optimizer: Optimizer = cls(params, fused=True)
        for step in range(6):
            if step == stop:
                file = io.BytesIO()
                torch.save(optimizer.state_dict(), file)
                file.seek(0)
                optimizer = cls(params, **target)
                optimizer.load_state_dict(torch.load(file, weights_only=True))
                optimizer.param_groups[0] |= {"fused": None, "foreach": None, **target}
            give(params, step)
            optimizer.step()
        return params

    eps = torch.finfo(dtype).eps
    for one, other in zip(run(None), run(3), strict=True):
        if "fused" in target:
            assert torch.equal(one, other)
        else:
            # foreach rounds what it adds to a state or a parameter each time.
            torch.testing.assert_close(one, other, rtol=8 * eps, atol=eps / 4)


def test_entries_of_several_types_are_left() -> None:
    twins = Twins("aggmo", lambda: parameters(20))
    for step in range(4):
        for optimizer, params in twins.sides:
            give(params, step)
            if step == 2:
                state = optimizer.state[params[0]]
                state["momentum_buffer_1"] = state["momentum_buffer_1"].double()
            with kernels_alone(leave=True) as launches:
                optimizer.step()
            if optimizer is twins.fused and step < 2:
                assert launches == [1]
    twins.assert_close()
