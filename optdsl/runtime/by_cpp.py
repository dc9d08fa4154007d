"""The functions in C++ that ask many objects of Python in one call.

In: functions of Python and of torch. Out: those of `objects.hpp`, which call them, or None
where one of them is missing or is not what it was: little of this is part of what torch
promises, so it is tried out on some tensors first.
"""

import ctypes
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import compiler
from .native import library

_TEXT = Path(__file__).with_name("objects.hpp")
_POINTER, _COUNT, _OBJECT = ctypes.c_void_p, ctypes.c_int64, ctypes.py_object
_OF_PYTHON = (
    "PyList_GetItem",
    "PyDict_Next",
    "PyObject_GetAttr",
    "PyObject_Type",
    "Py_DecRef",
)
_OF_TORCH = (
    "dtype",
    "layout",
    "device_type",
    "device_index",
    "dim",
    "numel",
    "sizes",
    "strides",
)
NUMBERS = 6
"""How many say what a tensor without axes looks like; each axis has two more."""
TOUCHED = 5
"""How many numbers a step keeps of each tensor."""


class Columns(ctypes.Structure):
    """As in `objects.hpp`."""

    _fields_ = [
        ("rows", _COUNT),
        ("columns", _COUNT),
        ("grad", _COUNT),
        ("objects", _POINTER),
        ("looks", _POINTER),
        ("begins", _POINTER),
        ("touched", _POINTER),
    ]


@dataclass(frozen=True, slots=True)
class Asked:
    """As in `objects.hpp`; what they are handed lies in arrays and lists."""

    addresses: Callable[..., int]
    looks: Callable[..., int]
    unchanged: Callable[..., int]
    same: Callable[..., int]
    replaced: Callable[..., int]

    @classmethod
    def of(cls, built: ctypes.PyDLL) -> "Asked":
        arguments = {
            "addresses": (_COUNT, _OBJECT, _POINTER),
            "looks": (_COUNT, _OBJECT, _POINTER, _COUNT),
            "unchanged": (ctypes.POINTER(Columns),),
            "same": (_COUNT, _OBJECT, _OBJECT),
            "replaced": (_COUNT, _OBJECT, _POINTER, _OBJECT, _POINTER),
        }
        found = {name: built[name] for name in arguments}
        for name, types in arguments.items():
            found[name].argtypes = types
        found["looks"].restype = found["replaced"].restype = _COUNT
        return cls(**found)


def empty(count: int) -> array:
    """Room for numbers."""
    return array("q", bytes(8 * count))


def start(of: array) -> int:
    """Where the numbers lie."""
    return of.buffer_info()[0]


def looks(of: Asked, column: list[Tensor | None]) -> array | None:
    """What tensors look like, in numbers."""
    axes = sum(x.dim() for x in column if x is not None)
    found = empty(NUMBERS * len(column) + 2 * axes)
    count = of.looks(len(column), column, start(found), len(found))
    return None if count < 0 else found[:count]


@cache
def asked() -> Asked | None:
    """The functions, where they can be had."""
    tried = [torch.ones(3, 2)[1:], torch.nn.Parameter(torch.ones(()))]
    try:
        known = _known(tried)
    except Exception:  # no part of what torch promises
        return None
    built = known and compiler.command() and library(_TEXT.read_text())
    if not built:
        return None
    # Unlike what `library` gives, it keeps the lock of Python while it runs.
    asking = ctypes.PyDLL("objects", handle=built._handle)
    asking.know((_POINTER * len(known))(*known))
    result = Asked.of(asking)
    return result if _are_right(result, tried) else None


def _known(tried: list[Tensor]) -> list[int | None] | None:
    """As `Known` in `objects.hpp`; None where handles are not what they seem."""
    from torch._C._dynamo.guards import _torchinductor_pyobject_tensor_data_ptr

    words = range(0, Tensor.__basicsize__, ctypes.sizeof(_POINTER))
    places = [at for at in words if all(_word(id(x) + at) == x._cdata for x in tried)]
    if len(places) != 1 or not all(map(_has_handle, tried)):
        return None
    torchs = ctypes.CDLL(torch._C.__file__)
    return [
        *(_address(ctypes.pythonapi[name]) for name in _OF_PYTHON),
        _address(_torchinductor_pyobject_tensor_data_ptr),
        *(_address(torchs[f"aoti_torch_get_{name}"]) for name in _OF_TORCH),
        id(None),
        id(sys.intern("grad")),
        *places,
    ]


def _has_handle(tensor: Tensor) -> bool:
    """Whether torch hands out, as the handle of a tensor, where its `_cdata` stands."""
    made = torch._C._aoti.unsafe_alloc_void_ptr_from_tensor(tensor)
    types = ctypes.PYFUNCTYPE(_POINTER, _OBJECT, ctypes.c_char_p)
    pointer = types(("PyCapsule_GetPointer", ctypes.pythonapi))(made, None)
    found = _word(pointer)
    torch._C._aoti.alloc_tensor_by_stealing_from_void_ptr(made)
    return found == tensor._cdata


def _are_right(of: Asked, tried: list[Tensor]) -> bool:
    """Whether tensors look like themselves, and unlike others."""
    first, *_ = tried
    others = [first.double(), first.t(), first[:1], torch.nn.Parameter(first)]
    seen = [looks(of, [x]) for x in (*tried, *others, first.to("meta"))]
    where = empty(len(tried))
    return (
        None not in seen
        and len({*map(bytes, seen)}) == len(seen)
        and seen[0] == looks(of, [first.clone()])
        and [*seen[0][NUMBERS - 1 :]] == [first.dim(), *first.shape, *first.stride()]
        and of.addresses(len(tried), tried, start(where)) == 1
        and [*where] == [x.data_ptr() for x in tried]
    )


def _address(function: Any) -> int | None:
    return ctypes.cast(function, _POINTER).value


def _word(at: int) -> int | None:
    return _POINTER.from_address(at).value
