"""The rules of the library against plain versions of them that a person wrote: how far each
parameter moved and every state, after every step, with a learning rate that falls on the
way.

In float64, where a rounding is 1e-16 of a value. The versions order their calculations
otherwise, over forty steps of some dozens of operations; no rule makes these errors larger
than a millionfold.
"""

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from optdsl import load_optimizer, resources
from tests.handwritten.reference import FOLDER, Reference, references
from tests.parity import Side, make_parameters

STEPS = 40
SLOWER = 20  # the step before which a schedule lowers the learning rate
CLOSE = 1e-10  # of the largest value of a tensor
REFERENCES = references()
CASES = [
    pytest.param(name, setting, id=f"{name}-{setting}")
    for name, each in REFERENCES.items()
    for setting in each.settings
]


def sides(name: str, reference: Reference, setting: dict) -> tuple[Side, Side]:
    return tuple(
        _side(make, reference, setting)
        for make in (load_optimizer(name), reference.cls)
    )


def _side(make: type[Optimizer], reference: Reference, setting: dict) -> Side:
    parameters = make_parameters(make, torch.float64)
    taken = {key: parameters[key] for key in reference.shapes or parameters}
    dealt, half = [*taken.values()], {} if "lr" in setting else {"lr": 0.003}
    groups = [{"params": dealt[::2]}, {"params": dealt[1::2], **half}]
    if reference.random:
        groups = [{**group, "seed": 7 * at} for at, group in enumerate(groups)]
    if reference.one_group:
        groups = dealt
    return Side(taken, make(groups, **setting), torch.float64)


def _slow_down(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= 0.3


def largest(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0


def assert_close(ours: Tensor, theirs: Tensor, what: str, floor: float = 1e-22) -> None:
    apart, size = largest(ours - theirs), largest(theirs)
    allowed = CLOSE * size + floor
    assert apart <= allowed, f"{what}: {apart:.3g} apart, of {size:.3g}"


@pytest.mark.parametrize("name, setting", CASES)
def test_a_rule_is_what_a_person_wrote(name: str, setting: dict) -> None:
    reference = REFERENCES[name]
    ours, theirs = both = sides(name, reference, setting)
    before = {key: p.detach().clone() for key, p in ours.parameters.items()}
    for step in range(STEPS):
        for each in both:
            if step == SLOWER:
                _slow_down(each.optimizer)
            each.step(step)
            for method in reference.by_hand if step % 3 == 0 else ():
                getattr(each.optimizer, method)()
        for key in ours.parameters:
            way, its = (each.parameters[key].detach() - before[key] for each in both)
            # A parameter is rounded at each step, however short its way.
            floor = 1e-15 * (step + 1) * largest(before[key])
            assert_close(way, its, f"step {step}, {key}", floor)
            kept = theirs.memory(key)
            for state, value in ours.memory(key).items():
                called = reference.states.get(state, state)
                if called is not None:
                    assert_close(
                        torch.as_tensor(value, dtype=torch.float64),
                        torch.as_tensor(kept[called], dtype=torch.float64),
                        f"step {step}, {key}: {state}",
                    )
    moved = [
        key for key, p in ours.parameters.items() if not torch.equal(p, before[key])
    ]
    assert len(moved) >= min(4, len(ours.parameters) - 2)


@pytest.mark.parametrize("name", resources.library())
def test_no_rule_is_without_a_reference(name: str) -> None:
    spec = resources.library()[name].read_text(encoding="utf-8")
    by_hand = (FOLDER / f"{name}.py").is_file()
    assert by_hand or "\nreference torch.optim." in spec
