"""What is asked of a thousand objects in each step, in one call.

In: lists of tensors, or of dicts. Out: where the tensors begin; what was replaced in the
dicts. C++ has Python's and torch's own functions say so, and assumes nothing of what objects
look like in memory; where it cannot, Python asks them one by one.
"""

import ctypes
from array import array
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import accumulate, chain, compress
from itertools import count as count_from
from operator import is_, is_not
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import compiler
from .native import library

_TEXT = Path(__file__).with_name("objects.hpp")
_POINTER, _COUNT, _OBJECT = ctypes.c_void_p, ctypes.c_int64, ctypes.py_object
Replaced = tuple[int, Any, Any, Any]
"""The place of a dict, a key in it, the value that was there and the one that is."""
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

    def replaced(self) -> list[Replaced] | None:
        """The values that are others, which count as known from now on; None where there
        are other keys, or in another order.
        """
        places = self._places()
        if places is None:
            return None
        result = []
        for at, place in zip(places[::2], places[1::2], strict=True):
            key, old = self._items[place - 1], self._items[place]
            new = self._items[place] = self.dicts[at][key]
            result.append((at, key, old, new))
        return result

    def _places(self) -> array | list[int] | None:
        """Of each of those values the place of its dict, and its own."""
        if (asked := _by_cpp()) is not None:
            found = _empty(len(self._items))
            ends, to = self._ends.buffer_info()[0], found.buffer_info()[0]
            count = asked[1](len(self.dicts), self.dicts, ends, self._items, to)
            return None if count < 0 else found[: 2 * count]
        result = []
        for at, each in enumerate(self.dicts):
            begin, new = 2 * self._ends[at], [*_items(each)]
            old = self._items[begin : 2 * self._ends[at + 1]]
            if not are(new[::2], old[::2]):
                return None
            differ = map(is_not, new, old)
            result += [x for k in compress(count_from(begin), differ) for x in (at, k)]
        return result


def are(new: Sequence[Any], old: Sequence[Any]) -> bool:
    """Whether objects are the very same ones."""
    return len(new) == len(old) and all(map(is_, new, old))


def _items(of: dict[Any, Any]) -> chain:
    return chain.from_iterable(of.items())


def _empty(count: int) -> array:
    return array("q", bytes(8 * count))


@cache
def _by_cpp() -> _Asked | None:
    """What C++ answers for `addresses` and `Dicts`; None where that cannot be had."""
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
    where, replaced = asked.addresses, asked.replaced
    where.argtypes = [*[_POINTER] * 3, _COUNT, _OBJECT, _POINTER]
    replaced.argtypes = [*[_POINTER] * 2, _COUNT, _OBJECT, _POINTER, _OBJECT, _POINTER]
    replaced.restype = _COUNT
    found, tried = _empty(2), torch.empty(2)[1:]
    where = partial(where, item, begin, id(None))
    where(2, [tried, None], found.buffer_info()[0])
    if [*found] != [tried.data_ptr(), 0]:
        return None
    return where, partial(replaced, item, following)


def _address(name: str) -> int | None:
    """Where a function of Python is."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), _POINTER).value
