"""torch.compile of a step: no graph break per parameter, no recompilation as lr moves.

torch's own step breaks the graph where its body starts, on purpose; its counts are what
ours are held to. Most tests run the captured graphs by eager operations, so that bits can
be compared: what is tested is what dynamo makes of a step.
"""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters
from torch.optim import Optimizer, lr_scheduler

from tests.oracle import LONG, every
from tests.parity import options, same_bits
from tests.small_model import backward, small_model
from tests.torch_inputs import (
    DENSE,
    OURS,
    TORCH,
    both_classes,
    captures_on_the_cpu,
    inputs,
)

# torch's compiler uses what torch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
every_second_class = pytest.mark.parametrize("spec", every(2, DENSE))
some_classes = pytest.mark.parametrize(
    "spec", DENSE if LONG else ["adamw", "sgd", "asgd"]
)
STEPS = 5

# Adafactor of torch asks a tensor for its number and so is not compiled at all.
COMPILED = [spec for spec in DENSE if spec != "adafactor"]
# A compiled step is captured whether or not it is said to be; some of them, and few of
# those that say so.
UNSAID = [each for each in inputs(*COMPILED) if not each.values[1].get("capturable")]
SAID = [each for each in inputs(*COMPILED) if each.values[1].get("capturable")]


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """dynamo also measures how fast its guards are, with the processor's caches flushed:
    a sixth of the time of these tests, which none of them asks for.
    """
    torch._dynamo.reset()
    counters.clear()
    name = "profile_guard_manager"
    with patch.object(torch._dynamo.guards, name, lambda *_: 0.0, create=True):
        yield
    torch._dynamo.reset()


class Compiled:
    """A step of a small model's optimizer, compiled and counted."""

    def __init__(
        self, cls: type[Optimizer], backend: Any = None, **hypers: Any
    ) -> None:
        torch._dynamo.reset()
        counters.clear()
        if cls in TORCH.values() and "foreach" in options(cls):
            hypers = {"foreach": False, **hypers}
        self.model = small_model()
        self.optimizer = cls(self.model.parameters(), **copy.deepcopy(hypers))
        self.counter = backend or CompileCounter()
        self.step = torch.compile(lambda: self.optimizer.step(), backend=self.counter)
        self.number = 0

    def steps(self, count: int) -> "Compiled":
        for _ in range(count):
            self.optimizer.zero_grad()
            backward(self.model, self.number, self.optimizer)
            self.step()
            self.number += 1
        return self

    @property
    def parameters(self) -> list[Tensor]:
        return [p.detach() for p in self.model.parameters()]

    @property
    def graph_breaks(self) -> int:
        return sum(counters["graph_break"].values())


def counted(cls: type[Optimizer], **hypers: Any) -> tuple[int, int, int]:
    one = Compiled(cls, **hypers).steps(STEPS)
    return one.counter.frame_count, one.counter.op_count, one.graph_breaks


@cache
def breaks_of_adam() -> int:
    return counted(torch.optim.Adam)[2]


@every_second_class
def test_one_graph_holds_the_whole_step(spec: str) -> None:
    """No more breaks than torch's Adam has, and no operations beyond torch's."""
    graphs, operations, breaks = counted(OURS[spec], lr=torch.tensor(0.01))
    assert graphs == 1
    assert breaks <= breaks_of_adam()
    if spec in COMPILED:
        theirs = counted(TORCH[spec], lr=torch.tensor(0.01))
        assert operations <= theirs[1], f"torch: {theirs}"


@pytest.mark.parametrize(("spec", "hypers"), every(5, UNSAID) + every(12, SAID))
def test_steps_as_torch_s_with_no_more_graphs(
    spec: str, hypers: dict[str, Any]
) -> None:
    """To 1e-6 of parameters below one: a rate in a tensor meets the other terms of a
    product in another order.
    """
    with captures_on_the_cpu() if hypers.get("capturable") else nullcontext():
        theirs, ours = (
            Compiled(cls, **hypers).steps(STEPS) for cls in both_classes(spec)
        )
    assert ours.counter.frame_count <= theirs.counter.frame_count
    for mine, its in zip(ours.parameters, theirs.parameters, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-6)


@some_classes
@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_a_parameter_may_get_its_first_gradient_late(spec: str, late: bool) -> None:
    hypers = {"momentum": 0.9} if spec == "sgd" else {}
    theirs, ours = (
        Compiled(cls, lr=torch.tensor(0.01), **hypers) for cls in both_classes(spec)
    )
    for one in (theirs, ours):
        first, second = one.model.parameters()
        second.requires_grad_(not late)
        one.steps(2)
        second.requires_grad_(True)
        one.steps(3)
        counts = [one.optimizer.state[p].get("step") for p in (first, second)]
        assert counts in ([None, None], [5, 3 if late else 5])
    for mine, its in zip(ours.parameters, theirs.parameters, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-6)


@every_second_class
def test_a_rate_in_a_tensor_moves_without_a_recompilation(spec: str) -> None:
    one = Compiled(OURS[spec], lr=torch.tensor(0.01))
    scheduler = lr_scheduler.ExponentialLR(one.optimizer, gamma=0.9)
    for _ in range(STEPS):
        one.steps(1)
        scheduler.step()
    assert one.counter.frame_count == 1
    assert float(one.optimizer.param_groups[0]["lr"]) < 0.0061


@some_classes
def test_a_rate_that_is_a_number_costs_one_recompilation(spec: str) -> None:
    """As with torch: dynamo sees that it changes, and takes it as an input from then."""
    counts = []
    for cls in both_classes(spec):
        one = Compiled(cls)
        for number in range(STEPS):
            one.optimizer.param_groups[0]["lr"] = 0.01 / (1 + number)
            one.steps(1)
        counts.append(one.counter.frame_count)
    assert counts[1] <= max(2, counts[0]) or spec == "adafactor"


@some_classes
def test_a_compiled_step_counts_on_from_one_that_was_not(spec: str) -> None:
    """To 1e-6, as above."""
    theirs, ours = (Compiled(cls, lr=torch.tensor(0.01)) for cls in both_classes(spec))
    for one in (theirs, ours):
        compiled, one.step = one.step, one.optimizer.step
        one.steps(2)
        one.step = compiled
        one.steps(2)
        one.step = one.optimizer.step
        one.steps(1)
    for mine, its in zip(ours.parameters, theirs.parameters, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-6)


@some_classes
def test_a_loaded_state_needs_no_other_graph(spec: str) -> None:
    one = Compiled(OURS[spec], lr=torch.tensor(0.01)).steps(2)
    saved = copy.deepcopy(one.optimizer.state_dict())
    graphs = one.counter.frame_count
    one.optimizer.load_state_dict(saved)
    one.steps(2)
    whole = Compiled(OURS[spec], lr=torch.tensor(0.01)).steps(4)
    assert graphs == 1
    for mine, its in zip(one.parameters, whole.parameters, strict=True):
        assert same_bits(mine, its)


@pytest.mark.parametrize("spec", ["muon"])
def test_one_graph_without_any_break_where_torch_has_one(spec: str) -> None:
    """torch's Muon knows no `differentiable`, and so has no break around its body."""
    for cls in both_classes(spec):
        torch._dynamo.reset()
        model = small_model()
        optimizer = cls(model.parameters())
        backward(model, 0, optimizer)
        torch.compile(optimizer.step, backend="eager", fullgraph=True)()


@pytest.mark.parametrize("spec", DENSE if LONG else ["adamw", "adafactor"])
def test_inductor_s_kernels_step_as_eager_operations_do(spec: str) -> None:
    """To 1e-5 of a parameter of order one: fused kernels round otherwise."""
    if spec == "muon":
        pytest.skip("bfloat16 within: torch skips its own test for the same reason")
    hypers: dict[str, Any] = {"lr": torch.tensor(0.01)}
    if "weight_decay" in options(OURS[spec]):
        hypers["weight_decay"] = 0.1
    fast = Compiled(OURS[spec], "inductor", **hypers).steps(3)
    slow = Compiled(OURS[spec], "eager", **hypers).steps(3)
    for mine, its in zip(fast.parameters, slow.parameters, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)


def test_sparse_gradients_step_the_same_when_compiled() -> None:
    """torch compiles nothing of SparseAdam; ours may, with the same result."""
    theirs, ours = (
        Compiled(cls, lr=torch.tensor(0.01)).steps(3)
        for cls in both_classes("sparse_adam")
    )
    for mine, its in zip(ours.parameters, theirs.parameters, strict=True):
        assert same_bits(mine, its)
