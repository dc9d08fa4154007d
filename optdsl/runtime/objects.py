"""What is asked of a thousand objects in each step, in one call.

In: lists of tensors, or of dicts. Out: where the tensors begin; which of the dicts have
other items than they had. C++ has Python's and torch's own functions say so, and assumes
nothing of what objects look like in memory; where it cannot, Python asks them one by one.
"""

import ctypes
from array import array
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import accumulate, chain
from operator import is_, is_not
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import compiler
from .native import library

_TEXT = Path(__file__).with_name("objects.hpp")
_POINTER, _COUNT, _OBJECT = ctypes.c_void_p, ctypes.c_int64, ctypes.py_object
Replaced = tuple[Any, Any, Any]
"""A key, what it had and what it has."""
_Asked = tuple[Callable[..., int], Callable[..., int]]


def addresses(tensors: Sequence[Any]) -> array:
    """Where tensors begin; 0 where one is missing.

    Raises:
        RuntimeError: one of them begins nowhere.
    """
    if (asked := _by_cpp()) is not None:
        listed = tensors if type(tensors) is list else [*tensors]
        found = _empty(len(listed))
        if asked[0](len(listed), listed, found.buffer_info()[0]):
            return found
    try:
        return array("q", map(Tensor.data_ptr, tensors))
    except TypeError:
        return array("q", (0 if x is None else x.data_ptr() for x in tensors))


class Dicts:
    """Dicts with the keys and values that are in them now, which stay alive."""

    def __init__(self, dicts: Sequence[dict[Any, Any]]) -> None:
        self.dicts = [*dicts]
        self._items = [x for each in self.dicts for x in _items(each)]
        self._ends = array("q", accumulate(map(len, self.dicts), initial=0))

    def changed(self) -> list[int]:
        """The places of those that have other keys or values, or in another order."""
        if (asked := _by_cpp()) is not None:
            found = _empty(len(self.dicts))
            ends, to = self._ends.buffer_info()[0], found.buffer_info()[0]
            count = asked[1](len(found), self.dicts, ends, self._items, to)
            return found[:count].tolist()
        return [
            at
            for at, each in enumerate(self.dicts)
            if not are([*_items(each)], self._items[self._part(at)])
        ]

    def renew(self, at: int) -> list[Replaced] | None:
        """What was replaced in a dict, which is what there was from now on; None where it
        has other keys.
        """
        new, old = [*_items(self.dicts[at])], self._items[self._part(at)]
        if len(new) != len(old):
            return None
        others = [k for k, differs in enumerate(map(is_not, new, old)) if differs]
        if any(k % 2 == 0 for k in others):
            return None
        self._items[self._part(at)] = new
        return [(new[k - 1], old[k], new[k]) for k in others]

    def _part(self, at: int) -> slice:
        return slice(2 * self._ends[at], 2 * self._ends[at + 1])


def are(new: Sequence[Any], old: Sequence[Any]) -> bool:
    """Whether objects are the very same ones."""
    return len(new) == len(old) and all(map(is_, new, old))


def _items(of: dict[Any, Any]) -> chain:
    return chain.from_iterable(of.items())


def _empty(count: int) -> array:
    return array("q", bytes(8 * count))


@cache
def _by_cpp() -> _Asked | None:
    """What C++ answers for `addresses` and `changed`; None where that cannot be had."""
    try:
        from torch._C._dynamo.guards import (
            _torchinductor_pyobject_tensor_data_ptr as begin,
        )

        item, following = map(_address, ("PyList_GetItem", "PyDict_Next"))
    except (ImportError, AttributeError):  # no part of what they promise
        return None
    built = compiler.command() and library(_TEXT.read_text())
    if not built:
        return None
    asked = ctypes.PyDLL("objects", handle=built._handle)  # it keeps the lock of Python
    where, changed = asked.addresses, asked.changed
    where.argtypes = [*[_POINTER] * 3, _COUNT, _OBJECT, _POINTER]
    changed.argtypes = [*[_POINTER] * 2, _COUNT, _OBJECT, _POINTER, _OBJECT, _POINTER]
    changed.restype = _COUNT
    return partial(where, item, begin, id(None)), partial(changed, item, following)


def _address(name: str) -> int | None:
    """Where a function of Python is."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), _POINTER).value
