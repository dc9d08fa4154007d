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


def _dtensor() -> type | None:
    """The class of DTensors, where there can be one."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def held(column: Sequence[Any]) -> list[Any]:
    """What this process holds of each tensor, or None where one is missing."""
    cls = _dtensor()
    return [x._local_tensor if type(x) is cls else x for x in column]


def layouts(column: Sequence[Any]) -> list[Layout | None]:
    """How each tensor is cut; None for one that is here as a whole."""
    cls = _dtensor()
    return [x._spec if type(x) is cls else None for x in column]


def are_alike(some: Sequence[Layout | None], others: Sequence[Layout | None]) -> bool:
    """Whether tensors are cut at the same places, over the same processes. A gradient often
    shares the layout of the one before.
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
    it: all processes have the same numbers, and its tensors are cut alike; or, unless the
    rule is `elementwise`, are not cut at all.
    """
    cls = _dtensor()
    if not any(type(p) is cls for p in elements[0]):
        return False
    fits = _is_cut_like if elementwise else _is_whole_like
    return all(
        x is None or fits(x, p)
        for column in elements
        for x, p in zip(column, elements[0], strict=True)
    ) and all(
        type(x) is not cls or _is_whole_like(x, p)
        for column in numbers
        for x, p in zip(column, elements[0], strict=True)
    )


def _is_cut_like(x: Any, p: Any) -> bool:
    """Whether a tensor has its elements where the parameter has them, and all of each: what
    is still to be added up has not.
    """
    (own, of), (here, ours) = layouts([x, p]), held([x, p])
    if own is None or of is None:
        return own is of
    summed = any(each.is_partial() for each in own.placements)
    return not summed and are_alike([own], [of]) and here.shape == ours.shape


def _is_whole_like(x: Any, p: Any) -> bool:
    """Whether each process that has the parameter holds all of a tensor."""
    own, of = layouts([x, p])
    if own is None or of is None:
        return own is of
    return (
        own.mesh == of.mesh
        and x._local_tensor.shape == own.shape
        and all(
            each.is_replicate() or (each.is_shard() and own.mesh.size(axis) == 1)
            for axis, each in enumerate(own.placements)
        )
    )
