"""What torch tries its own optimizers with, for the classes that we have too."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.testing._internal.common_optimizers import (
    ErrorOptimizerInput,
    OptimizerInfo,
    optim_db,
)

from optdsl import load_optimizer
from tests.oracle import LONG
from tests.parity import ONLY_SPARSE, TORCH, options
from tests.small_model import small_model

OURS = {spec: load_optimizer(spec) for spec in TORCH}
INFO: dict[str, OptimizerInfo] = {
    spec: next(info for info in optim_db if info.optim_cls is cls)
    for spec, cls in TORCH.items()
}
every_class = pytest.mark.parametrize("spec", TORCH)
on_each_side = pytest.mark.parametrize("classes", [TORCH, OURS], ids=["torch", "ours"])
NO_COMPLEX = [spec for spec in TORCH if not INFO[spec].supports_complex]
CAPTURABLE = [spec for spec in TORCH if "capturable" in options(TORCH[spec])]
DIFFERENTIABLE = [spec for spec in TORCH if "differentiable" in options(TORCH[spec])]
FOREACH = [spec for spec in TORCH if "foreach" in options(TORCH[spec])]
FUSED = [spec for spec in TORCH if "fused" in options(TORCH[spec])]
DENSE = [spec for spec in TORCH if TORCH[spec].__name__ not in ONLY_SPARSE]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.complex64]


def inputs(*specs: str) -> list[Any]:
    """Each class with each of torch's own configurations, those for CUDA included."""
    return [
        pytest.param(spec, each.kwargs, id=f"{spec}, {each.desc}, {at}")
        for spec in specs or TORCH
        for at, each in enumerate(INFO[spec].optim_inputs_func("cuda"))
    ]


def typed(cases: Sequence[Any]) -> list[Any]:
    """Each case in float32 and, by turns, in one of the other types; in all of them
    under OPTDSL_EXAMPLES.
    """
    first, *others = DTYPES
    return [
        pytest.param(*case.values, dtype, id=f"{case.id}-{dtype}")
        for at, case in enumerate(cases)
        for dtype in (DTYPES if LONG else (first, others[at % len(others)]))
    ]


def each_typed(specs: Iterable[str] = TORCH) -> list[Any]:
    return typed([pytest.param(spec, id=spec) for spec in specs])


def error_inputs(spec: str) -> list[ErrorOptimizerInput]:
    return INFO[spec].optim_error_inputs_func("cpu", torch.float32)


@contextmanager
def captures_on_the_cpu() -> Iterator[None]:
    """Lets a capturable step run on the CPU, in torch's modules and in ours."""
    name = "_get_capturable_supported_devices"
    modules = {sys.modules[cls.__module__] for cls in (*TORCH.values(), *OURS.values())}
    patches = [
        patch.object(module, name, lambda supports_xla=True: ["cpu"])
        for module in modules
        if hasattr(module, name)
    ]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def both_classes(spec: str) -> tuple[type[Optimizer], type[Optimizer]]:
    return TORCH[spec], OURS[spec]


def twins(spec: str, **hypers: Any) -> list[tuple[torch.nn.Module, Optimizer]]:
    """The same small model twice, with torch's loop and with our class."""
    made = []
    for cls in both_classes(spec):
        model = small_model()
        if cls is TORCH[spec] and "foreach" in options(cls):
            hypers = {"foreach": False, **hypers}
        made.append((model, cls(model.parameters(), **deepcopy(hypers))))
    return made


def a_parameter(spec: str, dtype: torch.dtype = torch.float32) -> Parameter:
    """A parameter that the class takes, with a gradient that it takes."""
    p = Parameter(torch.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3))
    grad = torch.linspace(0.5, -0.7, 6, dtype=dtype).reshape(2, 3)
    p.grad = grad.to_sparse() if TORCH[spec].__name__ in ONLY_SPARSE else grad
    return p
