"""Names of the generated file: the spec's own, unless Python's meaning would be lost."""

import builtins
import re
from collections.abc import Iterable
from keyword import kwlist
from pathlib import PurePath


class Names:
    """Hands out each name once; what is taken gets an underscore."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {*taken, *vars(builtins), *kwlist, "torch", "math"}
        self._of: dict[str, str] = {}

    def copy(self) -> "Names":
        """The same names, for a scope inside this one."""
        inner = Names()
        inner._taken, inner._of = {*self._taken}, {**self._of}
        return inner

    def claim(self, preferred: str) -> str:
        """A name that nothing else in this scope has."""
        name = preferred
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def own(self, name: str) -> str:
        """The name that a name of the spec has in this scope."""
        if name not in self._of:
            self._of[name] = self.claim(name)
        return self._of[name]


def snake(name: str) -> str:
    """`GradientDescent` as `gradient_descent`, `AdamW` as `adamw`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()


def plural(name: str) -> str:
    return name + ("es" if name.endswith(("s", "x")) else "s")


def keys(names: Iterable[str]) -> str:
    """The names as the inside of a tuple of texts."""
    quoted = [f'"{each}"' for each in names]
    return ", ".join(quoted) + "," * (len(quoted) == 1)


def safe_file_name(name: str) -> str:
    """A file's name, without its folders, as a comment may carry it: nothing that ends a
    line or hides.
    """
    plain = re.sub(r"[^\w.+-]", "_", PurePath(name).name)
    return plain or "a spec"
