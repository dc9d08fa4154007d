"""Statements of a kernel as lines of C++, each under the equation that it implements."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ... import ir
from ...ir.kernels import Level, gathers, level
from ...source import Source
from .expr import Printer, is_element
from .layout import comment
from .lists import UNROLLED

INDENT = "    "
Line = Callable[[ir.Assign], Iterator[str]]
IsOne = Callable[[ir.Ref], bool]


@dataclass(frozen=True, slots=True)
class Block:
    """Prints blocks of one kind: `line` prints an assignment."""

    printer: Printer
    source: Source
    line: Line

    def lines(self, block: ir.Block, quoted: str = "") -> list[str]:
        result: list[str] = []
        for statement in block:
            equation = self.source.cut(statement.span)
            if isinstance(statement, ir.If):
                result += self._branches(statement)
                continue
            if isinstance(statement, ir.Repeat):
                result += self._rounds(statement)
                continue
            if equation != quoted:
                result += comment(equation)
                quoted = equation
            result += self.line(statement)
        return result

    def _rounds(self, loop: ir.Repeat) -> list[str]:
        count = self.printer.whole(loop.count)
        at = self.printer.name(loop.target)
        head = f"for (int {at} = 0; {at} < {count}; ++{at}) {{"
        body = [INDENT + line for line in self.lines(loop.body)]
        return [UNROLLED, head, *body, "}"]

    def _branches(self, branch: ir.If, word: str = "if") -> list[str]:
        condition = self.printer.number(branch.condition)
        then, otherwise = branch.then, branch.otherwise
        if not then:
            then, otherwise = otherwise, ()
            condition = "!" + self.printer.number(branch.condition, 8)
        result = [f"{word} ({condition}) {{"]
        result += [INDENT + line for line in self.lines(then)]
        match otherwise:
            case ():
                return [*result, "}"]
            case (ir.If() as below,) if below.then:
                first, *rest = self._branches(below, "} else if")
                return [*result, first, *rest]
        inner = [INDENT + line for line in self.lines(otherwise)]
        return [*result, "} else {", *inner, "}"]


# ---- reductions


@dataclass(frozen=True, slots=True)
class Gathering:
    """How a reduction gathers what it is of: the value that it starts from, how it takes
    one more element, how it is reduced over lanes and joined over chunks, and what becomes
    of it in the end.
    """

    empty: str
    takes: str
    lanes: str
    join: str
    end: str


GATHERINGS = {
    "sum": Gathering("0", "{0} += {1};", "+", "added", "{0}"),
    "mean": Gathering("0", "{0} += {1};", "+", "added", "{0} / {1}"),
    "norm": Gathering("0", "{0} += square_({1});", "+", "added", "std::sqrt({0})"),
    "any": Gathering("0", "{0} += ({1}) != 0;", "+", "added", "{0} > 0"),
    "all": Gathering("0", "{0} += ({1}) == 0;", "+", "added", "{0} == 0"),
    "max": Gathering("-infinity", "", "max", "larger", "{0}"),
    "min": Gathering("infinity", "", "min", "smaller", "{0}"),
}


def gathered(block: ir.Block, *to: Level) -> list[ir.Assign]:
    """The reductions of a pass, in order, one a name: those to a number, or those to what
    there is at other levels.
    """
    found: dict[str, ir.Assign] = {}
    for each in ir.statements(block):
        if not isinstance(each, ir.Assign) or not gathers(each):
            continue
        if level(each.target.type) in (to or (Level.NUMBER,)):
            found.setdefault(each.target.name, each)
    return [*found.values()]


def takes(target: str, statement: ir.Assign, printer: Printer) -> Iterator[str]:
    """One more element for a reduction, in double."""
    call = statement.value
    (of,) = call.arguments
    written = f"double({printer.element(of)})"
    if of.type.element == "flag":
        written = printer.element(of)
    if call.function in ("max", "min"):
        sign = ">" if call.function == "max" else "<"
        yield f"const double {target}_next = {written};"
        yield f"{target} = {target}_next {sign} {target} ? {target}_next : {target};"
        yield f"{target}_nans += {target}_next != {target}_next;"
    else:
        yield GATHERINGS[call.function].takes.format(target, written)


def declared(
    block: ir.Block, fields: frozenset[str], is_one: IsOne = is_element
) -> tuple[set[str], set[str]]:
    """The locals of a pass that are constant, and those that a branch, or a round, assigns
    first.
    """
    counts: dict[str, int] = {}
    above: set[str] = set()
    for each in ir.targets(block):
        counts[each.name] = counts.get(each.name, 0) + 1
    below: set[str] = set()
    for statement in block:
        for each in ir.targets((statement,)):
            if each.name in above or each.name in fields or not is_one(each):
                continue
            if isinstance(statement, (ir.If, ir.Repeat)):
                below.add(each.name)
            elif each.name not in below:
                above.add(each.name)
    return {name for name in above if counts[name] == 1}, below
