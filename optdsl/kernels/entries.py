"""Lists that are as long as the hypers of a group say, of states and of hypers, and loops
over them.

In: counts and indices of the spec. Out: counts that a kernel is built for, and what has to
hold for every entry that is asked for to be there. Raises Refusal for all other lists.
"""

from dataclasses import replace

from .. import ir
from ..ir.kernels import Count
from .names import free
from .refusal import Refusal

OF_SHAPES = frozenset({"ndim", "size", "numel"})


class Entries:
    """Collects counts; `lengths` are those of lists, `rounds` those of loops by the names
    of their indices, `fits` what has to hold.
    """

    def __init__(self, rule: ir.Rule, taken: set[str]) -> None:
        self.taken = taken
        self.counts: dict[ir.Expr, Count] = {}
        self.lengths: dict[str, ir.Expr] = {}
        self.fits: dict[ir.Expr, None] = {}
        self.rounds: dict[str, ir.Expr] = {}
        for state in rule.own:
            if state.count is None:
                continue
            self.lengths[state.name] = self.count(state.count, "a list of states")
            if state.type != ir.TENSOR:
                raise Refusal("a list of states of other shapes")

    def count(self, expr: ir.Expr, of: str = "a loop") -> ir.Expr:
        """A whole number that is known when a kernel is built: a literal, or a name."""
        if isinstance(expr, ir.Const):
            return expr
        nodes = [*ir.walk(expr)]
        called = {each.function for each in nodes if isinstance(each, ir.Call)}
        if called & OF_SHAPES:
            raise Refusal(f"{of} that is as long as shapes say")
        of_group = all(ref.role is ir.Role.HYPER for ref in ir.reads(expr))
        if not of_group or called - {"len"}:
            raise Refusal(f"{of} that is as long as a computed number")
        if expr not in self.counts:
            self.counts[expr] = Count(free(_named(expr), self.taken), expr)
        return ir.Ref(self.counts[expr].name, ir.Role.OPTION, ir.NUMBER, expr.span)

    def check(self, name: str, index: ir.Expr) -> None:
        """See to it that an entry of a list is there.

        Raises:
            Refusal: which entry it is, is computed.
        """
        self._check(self.lengths[name], index)

    def _check(self, length: ir.Expr, index: ir.Expr) -> None:
        match index:
            case ir.Ref(role=ir.Role.INDEX):
                times = self.rounds[index.name]
            case ir.Const():
                text = str(int(index.text) + 1)
                times = replace(index, text=text)
            case _:
                raise Refusal("an entry of a list whose place is computed")
        if times == length:
            return
        if isinstance(times, ir.Const) and isinstance(length, ir.Const):
            if int(times.text) > int(length.text):
                raise Refusal("an entry of a list that is not there")
            return
        self.fits[ir.Binary("<=", times, length, ir.FLAG, index.span)] = None

    def check_item(self, of: ir.Ref, index: int | ir.Expr) -> None:
        """The same for an item of a tuple."""
        if of.type.length and isinstance(index, int):
            return
        if of.type.length:
            length: ir.Expr = _whole(of.type.length, of)
        else:
            length = self.count(ir.Call("len", (of,), ir.NUMBER, of.span))
            self.lengths[of.name] = length
        self._check(length, _whole(index, of) if isinstance(index, int) else index)


def _whole(value: int, at: ir.Ref) -> ir.Const:
    return ir.Const(str(value), ir.NUMBER, at.span)


def _named(expr: ir.Expr) -> str:
    match expr:
        case ir.Call("len", (ir.Ref(name),)):
            return f"{name}_length"
        case ir.Ref(name):
            return f"{name}_rounds"
    return "rounds"
