"""Steps in which kernels and torch take turns: what they compute, whose turn it is, what
torch is called for once, and what is left to another target before anything is changed.
"""

import io
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
from built import built, of_library
from oracle import checked, scenario
from test_fused import CARRIED, assert_kernels_compute, kernels_alone
from test_targets_against_interpreter import doubles
from torch import Tensor
from torch.nn import Parameter
from twins import CLOSE, Twins, give, parameters

from optdsl import from_string, ir, load_optimizer
from optdsl.ir.kernels import Turns
from optdsl.runtime import turns as runtime
from optdsl.runtime.launch import Launch

IN_TURNS = [
    name for name in CARRIED if isinstance(of_library(name).lowered.kernels, Turns)
]
HEAD = "optimizer Mine\nhyper lr = 0.1\nhyper beta = 0.5 in [0, 1)\n"
MATRIX = 'require ndim(p) == 2, "matrices"\n'
# Each with whose turns it is: kernels' and torch's.
RULES = {
    "a product in the middle of arithmetic": (
        MATRIX + "state m = 0\nstep:\n    m = beta*m + grad\n"
        "    p -= lr*(0.1*(m @ transpose(m) @ m) + m)",
        "kt k",
    ),
    "a parameter that waits for its product": (
        MATRIX + "step:\n    p *= 1 - lr\n    p -= lr*(grad @ transpose(grad) @ grad)",
        "t k",
    ),
    "two products, one of the other": (
        MATRIX + "state m = 0\nstep:\n    x = grad @ transpose(grad) @ grad\n"
        "    m = lerp(m, x, beta)\n    y = m @ transpose(m) @ m/(1 + norm(m))\n"
        "    p -= lr*sign(y)*m",
        "t k t k",
    ),
    "a state that both change": (
        MATRIX + "state m = 1\nstep:\n    m = beta*m + grad\n"
        "    m = 0.1*(m @ transpose(m) @ m)\n    m = m - p\n    p -= lr*m",
        "k t k",
    ),
    "a product for some tensors alone": (
        "state m = 0\nstep:\n    if ndim(p) == 2: m = grad @ transpose(grad) @ grad\n"
        "    else: m = grad\n    p -= lr*m",
        "t k",
    ),
    "a product of some hypers alone": (
        MATRIX + "hyper far = true\nstep:\n    x = beta*grad\n"
        "    if far: x = x @ transpose(x) @ x\n    p -= lr*(x + grad)",
        "k t k",
    ),
    "torch or kernels, as a hyper says": (
        MATRIX + "hyper far = false\nstep:\n    if far: x = p @ transpose(p) @ p\n"
        "    else: x = p\n    p -= lr*(grad + x)",
        "t k",
    ),
    "one of two products": (
        MATRIX + "hyper far = true\nstep:\n"
        "    x = grad @ transpose(grad) @ grad if far else p @ transpose(p) @ p\n"
        "    p -= lr*sign(x)",
        "t k",
    ),
    "a gradient that is changed before": (
        MATRIX + "hyper weight_decay = 0.1\nstep:\n"
        "    if weight_decay != 0: grad += weight_decay*p\n"
        "    p -= lr*(grad @ transpose(grad) @ grad) + lr*grad",
        "k t k",
    ),
    "norms before and behind": (
        MATRIX + "state m = 0\nstep:\n    size_of = norm(grad)\n"
        "    m = beta*m + grad/(1 + size_of)\n    x = reshape_as(m @ transpose(m) @ m, p)\n"
        "    p -= lr*x/(1 + size_of + norm(x))",
        "k t k",
    ),
    "rows of a product": (
        MATRIX + "step:\n    x = grad @ transpose(grad) @ grad\n"
        "    p -= lr*x/(1 + norm(reshape_as(x, p), dim=-1, keepdim=true))",
        "t k",
    ),
    "the host's numbers, on both sides": (
        MATRIX + "state m = 0\nstep:\n    share = (1 - beta**t)/size(p, 0)\n"
        "    m = share*grad\n    x = share*m @ transpose(m) @ m\n    p -= lr*share*x",
        "k t k",
    ),
    "the first time": (
        MATRIX + "state m = 0\nstep:\n    if not first:\n"
        "        x = m @ transpose(m) @ m\n        p -= lr*x\n    m = lerp(m, grad, beta)",
        "t k",
    ),
    "another name for what kernels go on with": (
        MATRIX + "hyper far = false\nstate m = 0\nstep:\n    x = beta*grad\n"
        "    y = x @ transpose(x) @ x if far else x\n    x = x + p\n"
        "    m = lerp(m, x @ transpose(x) @ x, beta)\n    p -= lr*(y + sign(m)*x)",
        "k t k t k",
    ),
    "noise": ("step: p -= lr*(grad + beta*randn_like(p))", "t k"),
    "a list of states for each axis": (
        "state sums[a in range(ndim(p))] = zeros((size(p, a), size(p, a)))\n"
        "state m = 0\nstep:\n    m = beta*m + grad\n    for a in range(ndim(p)):\n"
        "        x = reshape(movedim(m, a, 0), (size(p, a), numel(p)//max(1, size(p, a))))\n"
        "        sums[a] += x @ transpose(x)\n    p -= lr*m",
        "k t",
    ),
    "a shape that is broadcast": (
        MATRIX + "step:\n    x = reshape(sum(grad, dim=1), (size(p, 0), 1))\n"
        "    p -= lr*x",
        "t k",
    ),
}


def text_of(body: str) -> str:
    return (
        "\n".join(
            line for line in HEAD.split("\n") if "beta" not in line or "beta" in body
        )
        + f"{body}\n"
    )


def whose(kernels: Turns) -> str:
    return "".join("t" if isinstance(x, ir.Rule) else "k" for x in kernels.parts)


@pytest.mark.parametrize("rule", RULES)
def test_turns_compute_a_rule(rule: str) -> None:
    body, order = RULES[rule]
    text = text_of(body)
    assert whose(built(text).lowered.kernels) == order.replace(" ", "")
    for seed in range(4):
        with doubles():
            start = scenario(checked(text), seed)
            assert_kernels_compute(text, start, torch.float64, 2.0**-40, seed)


REFUSED = {
    "nothing is left to kernels": MATRIX + "state m = 0\n"
    "step:\n    m = lr*grad @ transpose(grad) @ grad\n    p = m @ transpose(m) @ p",
    "a number that is gone when torch is done": MATRIX + "state m = 0\nstep:\n"
    "    size_of = norm(m)\n    m = beta*m + grad\n"
    "    x = m @ transpose(m) @ m\n    p -= lr*x/(1 + size_of)",
    "a shape between calls of torch": MATRIX + "step:\n    x = grad @ transpose(grad)\n"
    "    y = lr*x\n    p -= y @ p",
    "another name for another shape": MATRIX + "state m = transpose(p)\nstep:\n"
    "    x = m + m\n    y = x\n    m *= lr*(m @ (grad @ transpose(p)))\n"
    "    p -= 0.1*norm(y)*grad",
    "a gradient that gets smaller": MATRIX + "step:\n    repeat 2:\n"
    "        grad = norm(reshape_as(grad @ transpose(grad) @ grad, p), dim=-1, keepdim=true)\n"
    "    p -= lr*grad",
    "one number of each parameter, 0-d": MATRIX + "state n = norm(grad)\nstep:\n"
    "    n += norm(grad)\n    p -= lr/n*(grad @ transpose(grad) @ grad)",
    "one number of each parameter": MATRIX + "state n: scalar = 0\nstep:\n"
    "    n += 1\n    p -= lr/n*(grad @ transpose(grad) @ grad)",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_turns_has_no_kernels(case: str) -> None:
    lowered = built(text_of(REFUSED[case])).lowered
    assert lowered.kernels is None
    assert lowered.no_kernels == "a matrix product"


# ---- at work


def matrices(count: int = 3, **options: torch.dtype) -> Callable[[], list[Parameter]]:
    shapes = [(8, 6), (6, 8), (8, 6), (5, 5), (0, 4)]
    return lambda: parameters(*shapes[:count], **options)


def options_of(name: str) -> dict[str, float]:
    """What a few steps of small matrices are well conditioned with."""
    return {"shampoo": {"epsilon": 1.0}, "galore": {"rank": 3}}.get(name, {})


@pytest.mark.parametrize("name", IN_TURNS)
def test_a_rule_of_the_library_goes_on_where_it_was_saved(name: str) -> None:
    """A copy that was saved and loaded steps with the same bits."""
    cls, params = load_optimizer(name), matrices(5)()
    group = {"params": params, **({"seed": 5} if name == "sgld" else {})}
    optimizer = cls([group], fused=True, **options_of(name))
    with kernels_alone():
        for number in range(2):
            give(params, number)
            optimizer.step()
        saved = io.BytesIO()
        torch.save((optimizer.state_dict(), [p.data for p in params]), saved)
        saved.seek(0)
        state, values = torch.load(saved)
        others = [Parameter(each) for each in values]
        copy = cls([{**group, "params": others}], fused=True, **options_of(name))
        copy.load_state_dict(state)
        for number in range(2, 4):
            for each, stepped in ((params, optimizer), (others, copy)):
                give(each, number)
                stepped.step()
    for mine, other in zip(params, others, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("name", ["muon", "scion", "soap"])
def test_torch_is_called_once_for_matrices_of_one_shape(name: str) -> None:
    params = parameters(*[(8, 6)] * 5)
    optimizer = load_optimizer(name)(params, fused=True)
    calls = []
    multiply = torch.Tensor.__matmul__

    def counted(x: Tensor, y: Tensor) -> Tensor:
        calls.append(x.shape)
        return multiply(x, y)

    def step() -> int:
        calls.clear()
        with patch.object(torch.Tensor, "__matmul__", counted), kernels_alone():
            give(params, 1)
            optimizer.step()
        return len(calls)

    step()
    several = step()
    for p in params[1:]:
        p.grad = None
    optimizer.param_groups[0]["params"] = params[:1]
    assert 0 < several == step()


def test_a_turn_that_cannot_be_built_leaves_all_to_others(monkeypatch) -> None:
    twins = Twins("scion", matrices())
    build = runtime.Kernel.built

    def first_alone(self: runtime.Kernel, *key: object) -> Callable | None:
        return build(self, *key) if "orthogonalized" not in self.elements else None

    monkeypatch.setattr(runtime.Kernel, "built", first_alone)
    monkeypatch.setattr(Launch, "step", None)  # no kernel may run
    twins.step(1)
    twins.assert_close()


@pytest.mark.parametrize("change", ["dtype", "order", "subclass", "gaps"])
def test_what_kernels_cannot_take_is_left_as_a_whole(change: str) -> None:
    """A group is carried with all of its tensors or not at all, so that no turn is missing
    to some of them.
    """

    class Marked(Tensor):
        pass

    def changed(params: list[Parameter]) -> list[Parameter]:
        last = params[-1].data
        params[-1].data = {
            "dtype": last.double(),
            "order": last.t().contiguous().t(),
            "subclass": last,
            "gaps": torch.empty(8, 12)[:, ::2].copy_(last),
        }[change]
        if change == "subclass":
            params[-1] = Parameter(last.as_subclass(Marked))
        return params

    twins = Twins("scion", lambda: changed(matrices()()))
    for number in range(3):
        twins.step(number)
    twins.assert_close(rtol=1e-4, atol=1e-5)


def test_groups_take_turns_by_themselves() -> None:
    """Each with its own numbers, options and ways; the order of groups does not matter."""

    def made(fused: bool | None) -> tuple[torch.optim.Optimizer, list[Parameter]]:
        params = matrices(5)()
        groups = [
            {"params": params[:2], "lr": 0.1},
            {"params": params[2:3], "momentum": 0.5, "norm": "Sign"},
            {"params": params[3:4], "fused": None, "foreach": True},
            {"params": params[4:], "unconstrained": True},
        ]
        return load_optimizer("scion")(groups, fused=fused), params

    (mine, params), (other, others) = made(True), made(None)
    for number in range(3):
        for optimizer, each in ((mine, params), (other, others)):
            give(each, number)
            optimizer.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q, **CLOSE)


def test_whoever_asks_for_nothing_gets_turns(monkeypatch) -> None:
    monkeypatch.setenv("OPTDSL_FUSED", "1")
    carried = []
    of = runtime.Turns.of

    def watched(self: runtime.Turns, *columns: object) -> list | None:
        carried.append(of(self, *columns))
        return carried[-1]

    monkeypatch.setattr(runtime.Turns, "of", watched)
    params = matrices()()
    optimizer = load_optimizer("muon")(params)
    for fused, foreach, count in ((None, None, 1), (None, False, 1), (True, None, 2)):
        optimizer.param_groups[0].update(fused=fused, foreach=foreach)
        give(params, 1)
        optimizer.step()
        assert len(carried) == count
    assert None not in carried


def test_a_step_that_overflowed_leaves_no_trace() -> None:
    params = matrices()()
    optimizer = load_optimizer("muon")(params, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = [p.detach().clone() for p in params]
    for scale in (torch.inf, 1.0):
        with kernels_alone():
            scaler.scale(sum((p * p).sum() for p in params) * scale).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        moved = [not torch.equal(p, q) for p, q in zip(params, before, strict=True)]
        assert moved == [scale == 1.0] * len(params)
        assert bool(optimizer.state) == (scale == 1.0)


def test_a_size_that_only_some_tensors_have_is_asked_for_where_it_is() -> None:
    """In a branch for others: a rule without matrices, and without turns."""
    text = "optimizer Mine\nhyper lr = 0.1\nstep:\n    if ndim(p) > 1: p -= lr*grad\n"
    text += "    else: p -= lr*grad*(size(p, 0) if ndim(p) > 0 else 2)\n"
    cls = from_string(text)
    sides = [parameters((), (3,), (2, 3)) for _ in range(2)]
    with kernels_alone():
        for params, fused in zip(sides, (True, False), strict=True):
            give(params, 1)
            cls(params, fused=fused, foreach=None if fused else False).step()
    for p, q in zip(*sides, strict=True):
        torch.testing.assert_close(p, q, **CLOSE)
