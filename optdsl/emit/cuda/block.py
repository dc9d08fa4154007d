"""Statements of a kernel as lines of Python, each under the equation that it implements.

In: blocks. Out: lines. A branch that is taken or not when a kernel runs may only assign
names that there are: those that are read behind it are there before it begins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ... import ir
from ...ir.kernels import Level, gathers, level
from ...source import Source
from ...stages import read_first, surely
from .expr import Printer, is_element
from .layout import comment

INDENT = "    "
Line = Callable[[ir.Assign], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Block:
    """Prints blocks of one kind: `line` prints an assignment, `start` one that makes a name
    known, and `whole` a whole number that is known when a kernel is built.
    """

    printer: Printer
    source: Source
    line: Line
    start: Callable[[ir.Ref], str]
    whole: Callable[[ir.Expr], str]

    def lines(self, block: ir.Block, known: set[str], later: set[str]) -> list[str]:
        """The lines of a block, before which some names are `known`, and behind which
        some are read `later`.
        """
        result: list[str] = []
        quoted = ""
        known = {*known}
        for at, statement in enumerate(block):
            if isinstance(statement, ir.If):
                read = later | _mentioned(block[at + 1 :])
                for ref in _to_start(statement, known, read):
                    result.append(self.start(ref))
                    known.add(ref.name)
                result += self._branches(statement, known, read)
                known |= surely((statement,))
                continue
            if isinstance(statement, ir.Repeat):
                read = later | _mentioned(block[at + 1 :])
                read |= {*read_first(statement.body, set())}
                for ref in _to_start(statement, known, read):
                    result.append(self.start(ref))
                    known.add(ref.name)
                result += self._rounds(statement, known, read)
                continue
            equation = self.source.cut(statement.span)
            if equation != quoted:
                result += comment(equation)
                quoted = equation
            result += self.line(statement)
            known |= ir.assigned((statement,))
        return result

    def _rounds(self, loop: ir.Repeat, known: set[str], later: set[str]) -> list[str]:
        """A loop whose rounds stand one behind the other when the kernel is built."""
        at = "_" if loop.target is None else self.whole(loop.target)
        body = [INDENT + line for line in self.lines(loop.body, known, later)]
        return [f"for {at} in tl.static_range({self.whole(loop.count)}):", *body]

    def _branches(
        self, branch: ir.If, known: set[str], later: set[str], word: str = "if"
    ) -> list[str]:
        condition = self.printer.number(branch.condition)
        then, otherwise = branch.then, branch.otherwise
        if not then:
            then, otherwise = otherwise, ()
            condition = f"not {self.printer.number(branch.condition, 4)}"
        result = [f"{word} {condition}:"]
        result += [INDENT + line for line in self.lines(then, known, later)]
        match otherwise:
            case ():
                return result
            case (ir.If() as below,) if below.then and not _to_start(
                below, known, later
            ):
                return [*result, *self._branches(below, known, later, "elif")]
        inner = [INDENT + line for line in self.lines(otherwise, known, later)]
        return [*result, "else:", *inner]


def _to_start(
    branch: ir.If | ir.Repeat, known: set[str], later: set[str]
) -> list[ir.Ref]:
    """What a branch, or a round, assigns for the first time, on some ways, and is read
    behind it; what a branch gathers, which starts from nothing; and lists.
    """
    sure = surely((branch,))
    in_rounds = isinstance(branch, ir.Repeat)
    found = {
        each.target.name: each.target
        for each in ir.statements((branch,))
        if isinstance(each, ir.Assign)
        and each.target.name not in known
        and (
            each.target.name in later - sure
            or gathers(each)
            or (in_rounds and each.target.index is not None)
        )
    }
    return [*found.values()]


def _mentioned(block: ir.Block) -> set[str]:
    return {ref.name for each in block for ref in ir.mentions(each)}


# ---- reductions


@dataclass(frozen=True, slots=True)
class Gathering:
    """How a reduction gathers what it is of: the value that it starts from, what becomes
    of a block, how two blocks are joined, what gathers the blocks of a row, what gathers
    the rows of a group, and what becomes of it in the end.
    """

    empty: str
    block: str
    join: str
    chunks: str
    rows: str
    end: str


GATHERINGS = {
    "sum": Gathering("0.0", "total({}, i, left)", "{} + {}", "sum_of", "sum_of", "{0}"),
    "mean": Gathering(
        "0.0", "total({}, i, left)", "{} + {}", "sum_of", "sum_of", "{0} / {1}"
    ),
    "norm": Gathering(
        "0.0",
        "total(square({}), i, left)",
        "{} + {}",
        "sum_of",
        "squares_of",
        "tl.sqrt({0})",
    ),
    "any": Gathering(
        "0.0", "total({} != 0, i, left)", "{} + {}", "sum_of", "count_of", "{0} > 0"
    ),
    "all": Gathering(
        "0.0", "total({} == 0, i, left)", "{} + {}", "sum_of", "count_of", "{0} == 0"
    ),
    "max": Gathering(
        'float("-inf")',
        "largest({}, i, left)",
        "larger({}, {})",
        "largest_of",
        "largest_of",
        "{0}",
    ),
    "min": Gathering(
        'float("inf")',
        "smallest({}, i, left)",
        "smaller({}, {})",
        "smallest_of",
        "smallest_of",
        "{0}",
    ),
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


def takes(name: str, statement: ir.Assign, printer: Printer, goes_on: bool) -> str:
    """The line that gathers a block, beside what was gathered before where it `goes_on`."""
    call = statement.value
    (of,) = call.arguments
    how = GATHERINGS[call.function]
    written = printer.element(of, 11)
    if of.type.element == "flag":
        written = f"({printer.element(of)}).to(real)"
    elif call.function in ("norm", "max", "min", "sum", "mean"):
        written = printer.element(of)
    if call.function == "norm":
        written = f"{printer.element(of, 11)}.to(tl.float64)"
    block = how.block.format(written)
    return f"{name} = {how.join.format(name, block) if goes_on else block}"


def is_flag(ref: ir.Ref) -> bool:
    return ref.type.element == "flag"


def is_number(ref: ir.Ref) -> bool:
    return not is_element(ref)
