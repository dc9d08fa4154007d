"""DTensors: what this process holds of them, and whether kernels may update that alone.

In: the columns of a param group. Out: the same with what is here of each tensor. A tensor
that is no DTensor is here as a whole. torch.distributed is not imported: where no one has
done so, there are no DTensors.
"""

import sys
from collections.abc import Sequence
from typing import Any

Layout = Any
"""How a DTensor is cut, and over which processes: its spec, which is torch's own."""


def dtensor() -> type | None:
    """The class of DTensors, where there can be one."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def held(column: Sequence[Any]) -> list[Any]:
    """What this process holds of each tensor, or None where one is missing."""
    cls = dtensor()
    return [x._local_tensor if type(x) is cls else x for x in column]


def layouts(column: Sequence[Any]) -> list[Layout | None]:
    """How each tensor is cut; None for one that is here as a whole."""
    cls = dtensor()
    return [x._spec if type(x) is cls else None for x in column]


def are_alike(some: Sequence[Layout | None], others: Sequence[Layout | None]) -> bool:
    """Whether tensors are cut at the same places, over the same processes. Those of one
    parameter seldom share a layout, but a gradient often has that of the one before.
    """
    pairs = zip(some, others, strict=True)
    return all(one is other or _cut(one) == _cut(other) for one, other in pairs)


def _cut(layout: Layout | None) -> tuple[Any, ...]:
    """What decides which elements are where. Older versions of torch know no order."""
    if layout is None:
        return ()
    ordered = getattr(layout, "shard_order", None)
    strided = getattr(layout, "use_strided_shard_as_shard_order", None)
    return layout.mesh, layout.placements, layout.shape, ordered, strided


def are_held(
    elements: Sequence[Sequence[Any]],
    numbers: Sequence[Sequence[Any]],
    elementwise: bool,
) -> bool:
    """Whether some rows are DTensors, and each of these may be updated by what is here of
    it: its tensors are cut alike, none is a part of a sum, and its numbers are the same in
    all processes. Unless the rule is `elementwise`, all of it has to be here.
    """
    cut, shapes = layouts(elements[0]), [x.shape for x in held(elements[0])]
    if all(layout is None for layout in cut):
        return False
    pairs = [*zip(cut, shapes, strict=True)]
    return (
        all(layout is None or not _is_part_of_sum(layout) for layout in cut)
        and (elementwise or all(_is_whole(*each) for each in pairs))
        and all(_lies_like(column, cut, shapes) for column in elements[1:])
        and all(_is_everywhere(column, cut) for column in numbers)
    )


def _is_part_of_sum(layout: Layout) -> bool:
    return any(each.is_partial() for each in layout.placements)


def _is_whole(layout: Layout | None, shape: Sequence[int]) -> bool:
    """Whether this process, as all others, holds all of a tensor."""
    return layout is None or (shape == layout.shape and _is_copied(layout))


def _is_copied(layout: Layout) -> bool:
    """Whether each process of the mesh holds all; one alone may hold a shard of it."""
    return all(
        each.is_replicate() or (each.is_shard() and layout.mesh.size(axis) == 1)
        for axis, each in enumerate(layout.placements)
    )


def _lies_like(
    column: Sequence[Any], cut: Sequence[Layout | None], shapes: Sequence[Sequence[int]]
) -> bool:
    """Whether the tensors that there are of a column are cut as the parameters are."""
    rows = zip(held(column), layouts(column), cut, shapes, strict=True)
    return all(
        x is None
        or (are_alike([own], [layout]) and (layout is None or x.shape == shape))
        for x, own, layout, shape in rows
    )


def _is_everywhere(column: Sequence[Any], cut: Sequence[Layout | None]) -> bool:
    """Whether each number is no DTensor, or in all processes that its parameter is in."""
    return all(
        own is None
        or (layout is not None and own.mesh == layout.mesh and _is_copied(own))
        for own, layout in zip(layouts(column), cut, strict=True)
    )
