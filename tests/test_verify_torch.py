"""verify over torch's own classes: it judges all of them, and what it finds is there."""

from functools import cache

import pytest
import torch
from oracle import every
from torch.nn import Parameter

from optdsl.verify import Report, verify

CLASSES = (
    "Adadelta Adafactor Adagrad Adam Adamax AdamW ASGD LBFGS Muon NAdam RAdam RMSprop Rprop "
    "SGD SparseAdam"
).split()
# Beside values that torch checks in the constructor alone.
FOUND = {
    "Adafactor": {"shapes: empty, 0-d, 4-d, non-contiguous"},
    "Adagrad": {
        "a hyper of a group is obeyed in that group alone",
        "state is made lazily and only for parameters with a gradient",
    },
    "ASGD": {
        "save, load, continue gives the same bits",
        "a state keeps its dtype on load",
    },
    "LBFGS": {
        "options have an effect",
        "a parameter without gradient keeps its value and state",
        "a copy (deepcopy, pickle) goes on with the same bits",
        "shapes: empty, 0-d, 4-d, non-contiguous",
    },
    "Muon": {"bfloat16 stays near float32"},
    "NAdam": {
        "save, load, continue gives the same bits",
        "a state keeps its dtype on load",
    },
    "Rprop": {"a group with lr 0 does not move"},
    "SGD": {"differentiable and the loop agree"},
}


@cache
def report_of(name: str) -> Report:
    return verify(f"torch.optim:{name}")


# The last three are judged for the tests below anyway.
@pytest.mark.parametrize("name", sorted({*every(3, CLASSES), "Muon", "NAdam", "SGD"}))
def test_a_class_of_torch_is_judged(name: str) -> None:
    failed = {row.check for row in report_of(name).failed}
    assert failed == {"a bad value is refused in every group"} | FOUND.get(name, set())


def test_the_momentum_that_muon_overwrites_is_found() -> None:
    """Without nesterov, the update that is normalized in place is the momentum."""
    detail = report_of("Muon")["bfloat16 stays near float32"].detail
    assert "nesterov=False" in detail and "momentum_buffer" in detail
    p = Parameter(torch.ones(4, 3, dtype=torch.bfloat16))
    optimizer = torch.optim.Muon([p], nesterov=False, momentum=0.5)
    p.grad = torch.ones_like(p)
    optimizer.step()
    buffer = optimizer.state[p]["momentum_buffer"]
    assert not torch.equal(buffer, torch.full_like(p, 0.5)), "torch has mended it"


def test_the_product_that_nadam_casts_is_found() -> None:
    detail = report_of("NAdam")["a state keeps its dtype on load"].detail
    assert "mu_product" in detail


def test_the_first_gradient_that_sgd_detaches_is_found() -> None:
    detail = report_of("SGD")["differentiable and the loop agree"].detail
    assert "momentum" in detail and "input 1" in detail
