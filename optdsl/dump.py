"""Any tree as text: one node a line, what is below it indented.

In: frozen dataclasses of syntax or ir. Out: the lines that `optdsl show` prints.
"""

import dataclasses
from collections.abc import Iterator
from enum import Enum
from typing import Any

from . import ir
from .source import Source, Span


def dump(node: Any) -> str:
    return "\n".join(_lines(node, "", ""))


def _lines(node: Any, label: str, indent: str) -> Iterator[str]:
    words, below = [f"{label}{type(node).__name__}"], []
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        if isinstance(value, ir.Type):
            words.append(f": {value}")
        elif isinstance(value, (Span, Source, Enum)) or value in ((), None, "", False):
            continue
        elif value is True:
            words.append(each.name)
        elif isinstance(value, (str, int)):
            words.append(_one_line(str(value)))
        else:
            below += [(each.name, child) for child in _nodes(value)]
            words += [_one_line(item) for item in value] if _is_texts(value) else []
    yield indent + " ".join(words)
    for name, child in below:
        yield from _lines(child, f"{name}: ", indent + "  ")


def _nodes(value: Any) -> Iterator[Any]:
    """The nodes in a field: itself, or those in a tuple and in the pairs of one."""
    if isinstance(value, tuple):
        for item in value:
            yield from _nodes(item)
    elif dataclasses.is_dataclass(value):
        yield value


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _one_line(text: str) -> str:
    return text.strip().split("\n")[0]
