"""Several generated files in one: what they define alike stands there once, and what they
define otherwise under one name gets a name of its own for each.

In: the texts of files by the names of their rules. Out: their functions and constants, and
which of them are called otherwise than in the file of the rule alone.
"""

import ast
import io
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .layout import WIDTH, fit


@dataclass(frozen=True, slots=True)
class Linked:
    """`code` is all functions and constants; `names` has the new names of each file."""

    code: str
    names: dict[str, dict[str, str]]


def linked(files: Mapping[str, str], taken: Iterable[str] = ()) -> Linked:
    """What files define beside their class; no definition has a name that is taken."""
    defined = {name: definitions(text) for name, text in files.items()}
    apart = _apart(defined, {*taken})
    used = {*taken}.union(*defined.values())
    names: dict[str, dict[str, str]] = {}
    for file, own in defined.items():
        names[file] = {}
        for each in own:
            if each in apart:
                fresh = f"{each}_{file.upper() if each.isupper() else file}"
                while fresh in used:
                    fresh += "_"
                used.add(fresh)
                names[file][each] = fresh
    code: dict[str, str] = {}
    for file, own in defined.items():
        for each, text in own.items():
            code.setdefault(names[file].get(each, each), renamed(text, names[file]))
    return Linked("\n\n\n".join(code.values()), names)


def definitions(text: str) -> dict[str, str]:
    """The functions and constants of a file by their names, in its order."""
    lines, found = text.split("\n"), {}
    for node in ast.parse(text).body:
        start = node.lineno
        if isinstance(node, ast.FunctionDef):
            name = node.name
            start = min([start, *(each.lineno for each in node.decorator_list)])
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        else:
            continue
        if name != "__all__":
            found[name] = "\n".join(lines[start - 1 : node.end_lineno])
    return found


def _apart(defined: Mapping[str, dict[str, str]], taken: set[str]) -> set[str]:
    """The names that do not mean the same in all files: their own text differs, or that of
    something that it names.
    """
    every = {each for own in defined.values() for each in own}
    apart = every & taken
    for each in every:
        if len({own[each] for own in defined.values() if each in own}) > 1:
            apart.add(each)
    several = {
        each: next(own[each] for own in defined.values() if each in own)
        for each in every
        if sum(each in own for own in defined.values()) > 1
    }
    read = {each: _read(text) for each, text in several.items()}
    grown = True
    while grown:
        more = {each for each in read if each not in apart and read[each] & apart}
        apart |= more
        grown = bool(more)
    return apart


def _read(text: str) -> set[str]:
    return {token.string for token in _names(text)}


def _names(text: str) -> Iterable[tokenize.TokenInfo]:
    """The names in a text of Python, but for attributes."""
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and before != ".":
            yield token
        before = token.string


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Python with other names; a line that gets too long by it is broken."""
    lines = text.split("\n")
    found = [token for token in _names(text) if token.string in names]
    for token in reversed(found):
        (row, start), end = token.start, token.end[1]
        line = lines[row - 1]
        lines[row - 1] = line[:start] + names[token.string] + line[end:]
    for row in {token.start[0] - 1 for token in found}:
        if len(lines[row]) > WIDTH:
            lines[row] = "\n".join(fit(lines[row]))
    return "\n".join(lines)
