"""Lists in Triton kernels: tuples that are as long as a count says, which a kernel is built
for. A tuple is never changed; with another entry it is another tuple.
"""

import triton
import triton.language as tl

from .arithmetic import column, elements, if_there, keep


@triton.jit
def each_number(at, stride, count: tl.constexpr):
    """Numbers of a table, one a stride."""
    found = ()
    for k in tl.static_range(count):
        found = found + (tl.load(at + k * stride),)
    return found


@triton.jit
def each_flag(at, stride, count: tl.constexpr):
    found = ()
    for k in tl.static_range(count):
        found = found + (tl.load(at + k * stride) != 0,)
    return found


@triton.jit
def keep_each_number(at, stride, xs):
    for k in tl.static_range(len(xs)):
        tl.store(at + k * stride, xs[k].to(tl.float64))


@triton.jit
def filled(x, count: tl.constexpr):
    """A list of one value."""
    found = ()
    for _ in tl.static_range(count):
        found = found + (x,)
    return found


@triton.jit
def put(xs, place: tl.constexpr, x):
    """The list with another entry in a place."""
    found = ()
    for k in tl.static_range(len(xs)):
        if k == place:
            found = found + (x,)
        else:
            found = found + (xs[k],)
    return found


@triton.jit
def each_column(
    columns, rows, row, place, kind: tl.constexpr, aligned: tl.constexpr, begin,
    count: tl.constexpr,
):  # fmt: skip
    """Where a block of each tensor of a list begins."""
    found = ()
    for k in tl.static_range(count):
        at = column(columns, rows, row, place + k, kind, aligned) + begin
        found = found + (at,)
    return found


@triton.jit
def each_left(columns, rows, row, place, left, count: tl.constexpr):
    """How many elements are left of each, none where it is missing."""
    found = ()
    for k in tl.static_range(count):
        found = found + (if_there(columns, rows, row, place + k, left),)
    return found


@triton.jit
def each_element(ats, i, lefts, real: tl.constexpr):
    found = ()
    for k in tl.static_range(len(ats)):
        found = found + (elements(ats[k], i, lefts[k], real),)
    return found


@triton.jit
def keep_each(ats, i, lefts, xs):
    for k in tl.static_range(len(ats)):
        keep(ats[k], i, lefts[k], xs[k])
