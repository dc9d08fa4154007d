"""Kernels update what a process holds of DTensors: with the bits that a step of the whole
tensors has, for every rule whose elements go each by itself. What reduces is left as it was.
"""

from functools import partial

import pytest
import torch
import torch.multiprocessing as mp
from built import of_library
from kernel_settings import Setting, defaults, of_each_kernel
from oracle import LONG

from optdsl import ir, vocabulary
from optdsl.resources import library
from tests import sharded_cases as cases
from tests.sharded_steps import (
    Asked,
    in_two,
    is_close,
    takes_all,
    takes_none,
    takes_what_is_whole,
)
from tests.test_torch_checkpoint import free_port

KERNELS = {name: of_library(name).lowered.kernels for name in library()}
PROGRAMS = {k: x for k, x in KERNELS.items() if isinstance(x, ir.kernels.Program)}
ELEMENTWISE = [name for name, each in PROGRAMS.items() if each.elementwise]
REDUCING = [name for name in PROGRAMS if name not in ELEMENTWISE]
ALONE = [name for name in REDUCING if not PROGRAMS[name].rule.in_phases]


def called_at_first(name: str) -> set[str]:
    """The functions that states begin with."""
    states = of_library(name).checked.own
    calls = (each for state in states for each in ir.walk(state.initial))
    return {each.function for each in calls if isinstance(each, ir.Call)}


def reduces_at_first(name: str) -> bool:
    """Whether a state begins with a sum, which parts of a tensor add in another order."""
    return bool(called_at_first(name) & ir.kernels.REDUCTIONS)


def draws_at_first(name: str) -> bool:
    """Whether a state begins at random, in each process by itself."""
    called = called_at_first(name)
    return any(vocabulary.FUNCTIONS[each].group == "drawn" for each in called)


def settings(name: str) -> list[Setting]:
    """That of the last kernel which moves anything: most is switched on there."""
    moving = [each for each in of_each_kernel(name) if each.get("lr") != 0]
    return moving if LONG else moving[-1:]


def alone() -> Asked:
    found: Asked = {}
    for name in ELEMENTWISE:
        if not reduces_at_first(name):
            for at, setting in enumerate(settings(name)):
                found[f"{name} {at}"] = partial(takes_all, name, setting)
    for dtype in (torch.bfloat16, torch.complex64):
        each = partial(takes_all, "adamw", defaults("adamw"), dtype=dtype)
        found[f"adamw {dtype}"] = each
    for name in ALONE:
        if not draws_at_first(name):
            shards = PROGRAMS[name].view is None
            whole = partial(takes_what_is_whole, name, defaults(name), shards)
            found[f"{name} of what is whole"] = whole
    return found


def together() -> Asked:
    found: Asked = {
        f"{name} begins with a sum": partial(takes_all, name, defaults(name), is_close)
        for name in ELEMENTWISE
        if reduces_at_first(name)
    }
    for name in (k for k, x in KERNELS.items() if x and k not in ELEMENTWISE):
        found[f"{name} is left"] = partial(takes_none, name, defaults(name))
    for name in REDUCING:
        if PROGRAMS[name].rule.in_phases:
            left = partial(takes_none, name, defaults(name), whole=True)
            found[f"{name} of what is whole is left"] = left
    for each in cases.HAPPENINGS:
        found[f"sees {each}"] = partial(cases.sees, each)
    for function in (
        cases.goes_on_from_a_checkpoint,
        cases.checkpoint_is_that_of_the_loop,
        cases.are_not_held,
        cases.leaves_a_state_cut_otherwise,
        cases.leaves_what_lies_otherwise,
    ):
        found[function.__name__] = function
    for function in (
        cases.fsdp_by_default,
        cases.scaled,
        cases.leaves_a_gradient_cut_otherwise,
        cases.leaves_a_part_of_a_sum,
    ):
        for way in (False, True):
            found[f"{function.__name__} {way}"] = partial(function, way)
    return found


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What went wrong in each of two processes, by the name of what was asked."""
    folder = tmp_path_factory.mktemp("two")
    asked = free_port(), alone(), together(), str(folder)
    mp.spawn(in_two, asked, nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", [*alone(), *together()])
def test_two_processes(name: str, wrong: list[dict[str, str]]) -> None:
    assert [each[name] for each in wrong] == ["", ""]
