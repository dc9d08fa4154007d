"""Lists in C++: what a group has as many of as a count says, which a kernel is built for.

In: a program, and the names of its kernels. Out: fields, sums of lengths, and loops over
all entries of a list.
"""

from collections.abc import Callable, Iterable

from ... import ir
from ...ir.kernels import Program
from ..names import Names

# What g++ may lay end to end, so that a loop over elements around it is vectorized.
UNROLLED = "#pragma GCC unroll 64"


class Lists:
    """Spells the lists of a program; `counts` are the names of its counts."""

    def __init__(self, program: Program, names: Names) -> None:
        self.names = names
        self.lengths = dict(program.lists)
        self.counts = [names.own(each.name) for each in program.counts]

    def __contains__(self, name: str) -> bool:
        return name in self.lengths

    def length(self, name: str) -> str:
        return self.count(self.lengths[name])

    def count(self, expr: ir.Expr) -> str:
        """A whole number that is known when a kernel is built."""
        return expr.text if isinstance(expr, ir.Const) else self.names.own(expr.name)

    def field(self, name: str) -> str:
        """The name of a field, with its length where it is a list."""
        size = f"[{self.length(name)}]" if name in self else ""
        return self.names.own(name) + size

    def sum(self, names: Iterable[str], more: int = 0) -> str:
        """How many there are of what has these names, with some more."""
        lengths = [self.length(name) if name in self else "" for name in names]
        fixed = more + lengths.count("")
        several = [each for each in lengths if each]
        return " + ".join([*[str(fixed)] * (fixed > 0 or not several), *several])

    def each(self, name: str, line: Callable[[str], str]) -> list[str]:
        """A line for a name; of a list, for each of its entries, which it is told as an
        index.
        """
        if name not in self:
            return [line("")]
        head = f"for (int entry = 0; entry < {self.length(name)}; ++entry)"
        return [head, f"    {line('[entry]')}"]

    def each_unrolled(self, name: str, line: Callable[[str], str]) -> list[str]:
        """The same inside of a loop over elements."""
        return [*[UNROLLED] * (name in self), *self.each(name, line)]
