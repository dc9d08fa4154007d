"""Kinds, shapes and types of the language's values.

A *host scalar* is known to Python once per group or parameter and costs no tensor work;
a *tensor scalar* is 0-d and lives on the device; a *tensor* has the shape of the
parameter, or of it reduced over some axes.
"""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    HOST = "host scalar"
    SCALAR = "tensor scalar"
    TENSOR = "tensor"


@dataclass(frozen=True, slots=True)
class Shape:
    """The parameter's shape after reductions, each (axes, keepdim), in order.

    Reductions that keep their axes and follow each other are one, its axes sorted, so
    that equal shapes are equal.
    """

    reductions: tuple[tuple[tuple[int, ...], bool], ...] = ()
    known: bool = True

    def reduced(self, axes: tuple[int, ...], keepdim: bool) -> "Shape":
        if keepdim and self.reductions and self.reductions[-1][1]:
            axes = tuple(sorted({*axes, *self.reductions[-1][0]}))
            return Shape((*self.reductions[:-1], (axes, True)))
        return Shape((*self.reductions, (tuple(sorted(axes)), keepdim)))

    def with_(self, other: "Shape") -> "Shape | None":
        """The shape of both, broadcast; None where they may not fit."""
        if self == other:
            return self
        if not (self.known and other.known):
            return ANY_SHAPE
        left, right = self._kept(), other._kept()
        if left is None or right is None or _mixed_ends({*left, *right}):
            return None
        both = tuple(axis for axis in left if axis in right)
        return Shape(((both, True),)) if both else LIKE_PARAM

    def times(self, other: "Shape") -> "Shape":
        """The shape of a matrix product; not known where it takes the sizes to tell."""
        left, right = self._kept(), other._kept()
        if left is None or right is None or (-1 in left) != (-2 in right):
            return ANY_SHAPE
        if -1 not in left or _mixed_ends({*left, *right}):
            return ANY_SHAPE
        rows = {axis for axis in left if axis == -2}
        columns = {axis for axis in right if axis == -1}
        batch = {axis for axis in left if axis in right and axis < -2}
        axes = tuple(sorted(rows | columns | batch))
        return Shape(((axes, True),)) if axes else LIKE_PARAM

    @property
    def is_column(self) -> bool:
        """Whether the last axis is there and of size one."""
        return -1 in (self._kept() or ())

    def _kept(self) -> tuple[int, ...] | None:
        """The axes of size one, where no axis is missing; None where one is."""
        if not self.known:
            return None
        match self.reductions:
            case ():
                return ()
            case ((axes, True),):
                return axes
        return None

    def __str__(self) -> str:
        if not self.known:
            return "of a shape that its sizes decide"
        if not self.reductions:
            return "like p"
        return "like p" + "".join(
            f" {'with' if kept else 'without'} {'one of ' if kept else ''}axes "
            + ", ".join(map(str, axes))
            for axes, kept in self.reductions
        )


def _mixed_ends(axes: set[int]) -> bool:
    """Whether axes are counted from both ends, so that no one knows which are equal."""
    return any(axis < 0 for axis in axes) and any(axis >= 0 for axis in axes)


LIKE_PARAM = Shape()
ANY_SHAPE = Shape(known=False)


@dataclass(frozen=True, slots=True)
class Type:
    """`element` is number, flag, text, tuple or unknown; a tuple has a `length`, 0 where
    it is known to a group alone, and `nones` are the places of its items that may be none.
    Of tensors it may be order, the places of numbers when sorted, or several, as many
    tensors as the length says.
    """

    kind: Kind = Kind.HOST
    element: str = "number"
    shape: Shape = LIKE_PARAM
    length: int = 0
    optional: bool = False
    nones: tuple[int, ...] = ()

    def item(self, at: int) -> "Type":
        """The type of a tuple's item."""
        return Type(optional=at in self.nones)

    def joined(self, other: "Type") -> "Type | None":
        """The type of a value that is one of the two; None where they do not fit."""
        if self == other:
            return self
        both = (self, other)
        if not all(each.kind is Kind.TENSOR for each in both):
            return None
        one_is_any = not (self.shape.known and other.shape.known)
        same = self.element == other.element
        return (
            Type(Kind.TENSOR, self.element, ANY_SHAPE) if same and one_is_any else None
        )

    @property
    def on_host(self) -> bool:
        return self.kind is Kind.HOST

    @property
    def unknown(self) -> bool:
        return self.element == "unknown"

    def __str__(self) -> str:
        if self.element == "nothing":
            return "none"
        if self.on_host:
            size = f" of {self.length}" if self.length else ""
            return f"{self.element}{size}" + (" or none" if self.optional else "")
        of = {"flag": " of flags", "order": " of places", "several": "s"}
        text = self.kind.value + of.get(self.element, "")
        return text + (f" {self.shape}" if self.kind is Kind.TENSOR else "")


NUMBER, FLAG, TEXT = Type(), Type(element="flag"), Type(element="text")
NOTHING = Type(element="nothing", optional=True)
UNKNOWN = Type(element="unknown")
SCALAR, TENSOR = Type(Kind.SCALAR), Type(Kind.TENSOR)
