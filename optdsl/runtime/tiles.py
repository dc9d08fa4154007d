"""What those Triton kernels share that see tensors as matrices: numbers in memory, and what
is gathered along lines and columns. What tiles gathered is put together in their order, so
that the result is always the same.
"""

import triton
import triton.language as tl

from .arithmetic import rounded

# ---- numbers in memory


@triton.jit
def there(columns, rows, row, place, inside):
    """Where there are numbers of a tensor that may be missing: nowhere, where it is."""
    return tl.where(inside, tl.load(columns + place * rows + row), 0) != 0


@triton.jit
def load(at, i, inside, real: tl.constexpr):
    """Numbers of a tensor; zeros elsewhere."""
    x = tl.load(at + i, mask=inside, other=0)
    if at.dtype.element_ty != tl.float64:
        x = x.to(tl.float32)
    return x.to(real)


@triton.jit
def load_gradient(at, i, inside, maximize, grad_scale, real: tl.constexpr):
    """The same of a gradient, without the scale of a GradScaler, of what is minimized."""
    x = load(at, i, inside, real)
    if grad_scale is not None:
        x = x / tl.load(grad_scale).to(real)
    return tl.where(maximize, -x, x)


@triton.jit
def store(at, i, inside, x):
    tl.store(at + i, rounded(x, at.dtype.element_ty), mask=inside)


# ---- what is gathered of one tile: along lines (axis 1), columns (0), or over all of it


@triton.jit
def total_in(x, inside, axis: tl.constexpr):
    found = tl.where(inside, x, 0.0)
    if axis is None:
        found = tl.sum(tl.sum(found, axis=1), axis=0)
    else:
        found = tl.sum(found, axis=axis, keep_dims=True)
    return found


@triton.jit
def largest_in(x, inside, axis: tl.constexpr):
    """The largest number; none of them is larger than what is no number."""
    nans = total_in((x != x).to(tl.float64), inside, axis)
    found = tl.where(inside & (x == x), x, float("-inf"))
    if axis is None:
        found = tl.max(tl.max(found, axis=1), axis=0)
    else:
        found = tl.max(found, axis=axis, keep_dims=True)
    return tl.where(nans > 0, float("nan"), found)


@triton.jit
def smallest_in(x, inside, axis: tl.constexpr):
    return -largest_in(-x, inside, axis)


@triton.jit
def store_columns(
    parts, x, inside, line, across, matrices, height, width, gather: tl.constexpr
):
    """Store what a tile gathers along columns, of each matrix that it has lines of. Such
    pairs of a tile and a matrix are counted, in their order, by the sum of their numbers.
    """
    first = tl.min(line)
    place = first // line.shape[0]
    matrix = first // height
    last = tl.minimum(tl.max(line) // height, matrices - 1)
    while matrix <= last:
        found = gather(x, inside & (line // height == matrix), 0)
        at = (place + matrix) * width + across
        tl.store(parts + at, found, mask=across < width)
        matrix += 1


# ---- what all tiles gathered


@triton.jit
def added(x, y):
    return x + y


@triton.jit
def join_lines(parts, line, inside, lines, tiles, empty, join: tl.constexpr):
    """What the tiles that stand side by side gathered along each line."""
    found = tl.full(line.shape, empty, tl.float64)
    tile = tl.zeros([], tl.int64)
    while tile < tiles:
        x = tl.load(parts + tile * lines + line, mask=inside, other=empty)
        found = join(found, x)
        tile += 1
    return found


@triton.jit
def join_columns(
    parts, across, inside, height, width, LINES: tl.constexpr, empty, join: tl.constexpr
):
    """What the tiles that a matrix has lines in gathered along each column."""
    found = tl.full(across.shape, empty, tl.float64)
    matrix = across // width
    tile = matrix * height // LINES
    most = tl.cdiv(height, LINES) + 1
    while most > 0:
        there = inside & (tile * LINES < (matrix + 1) * height)
        at = (tile + matrix) * width + across % width
        found = join(found, tl.load(parts + at, mask=there, other=empty))
        tile += 1
        most -= 1
    return found
