"""Any tree as text: one node a line, what is below it indented.

In: frozen dataclasses of syntax or ir. Out: the lines that `optdsl show` prints.
"""

import dataclasses
from collections.abc import Iterator
from enum import Enum

from . import ir
from .source import Source, Span


def dump(node) -> str:
    return "\n".join(_lines(node, "", ""))


def _lines(node, label: str, indent: str) -> Iterator[str]:
    plain, below = [], []
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        if isinstance(value, (Span, Source)) or value in ((), None, "", False):
            continue
        if isinstance(value, (ir.Type, ir.Shape, Enum)):
            if isinstance(value, ir.Type):
                plain.append(f": {value}")
            continue
        if dataclasses.is_dataclass(value):
            below.append((each.name, value))
        elif isinstance(value, tuple) and any(map(_has_node, value)):
            below += [(each.name, item) for item in value]
        elif isinstance(value, tuple):
            plain.append(f"{each.name}={value!r}")
        else:
            plain.append(str(value) if isinstance(value, bool) is False else each.name)
    first = (value for value in plain)
    head = " ".join(dict.fromkeys(first))
    yield f"{indent}{label + ': ' if label else ''}{type(node).__name__} {head}".rstrip()
    for name, value in below:
        if isinstance(value, tuple):
            yield f"{indent}  {name}: {value[0]}"
            yield from _lines(value[1], "", indent + "    ")
        else:
            yield from _lines(value, name, indent + "  ")


def _has_node(value) -> bool:
    if isinstance(value, tuple):
        return any(map(_has_node, value))
    return dataclasses.is_dataclass(value) and not isinstance(value, ir.Type)
