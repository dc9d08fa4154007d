"""What is asked of a thousand objects in each step, in one call.

In: lists of tensors, or of dicts. Out: where the tensors begin; whether they are the same;
what was replaced in the dicts. Where C++ cannot ask, Python asks them one by one.
"""

from array import array
from collections.abc import Sequence
from itertools import accumulate, chain, compress
from itertools import count as count_from
from operator import is_, is_not
from typing import Any

from torch import Tensor

from . import by_cpp
from .by_cpp import empty, start

Replaced = tuple[int, Any, Any, Any]
"""The place of a dict, a key in it, the value that was there and the one that is."""


def addresses(tensors: Sequence[Any]) -> array:
    """Where tensors begin; 0 where one is missing.

    Raises:
        RuntimeError: one of them begins nowhere.
    """
    if (asked := by_cpp.asked()) is not None:
        listed = tensors if type(tensors) is list else [*tensors]
        found = empty(len(listed))
        if asked.addresses(len(listed), listed, start(found)):
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
        if (asked := by_cpp.asked()) is not None:
            found = empty(len(self._items))
            ends, to = start(self._ends), start(found)
            count = asked.replaced(len(self.dicts), self.dicts, ends, self._items, to)
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


def are(new: list[Any], old: list[Any]) -> bool:
    """Whether objects are the very same ones."""
    if len(new) != len(old):
        return False
    if (asked := by_cpp.asked()) is not None:
        return bool(asked.same(len(new), new, old))
    return all(map(is_, new, old))


def _items(of: dict[Any, Any]) -> chain:
    return chain.from_iterable(of.items())
