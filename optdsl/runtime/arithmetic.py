"""What all Triton kernels share: numbers in memory, arithmetic as torch means it, and what
is gathered over many elements or rows. Numbers in tables are float64, a column a number.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

# ---- numbers in memory


@triton.jit
def column(columns, rows, row, place, kind: tl.constexpr, aligned: tl.constexpr):
    """Where a tensor of a row begins; `aligned` ones do so at a multiple of 16 bytes."""
    at = tl.load(columns + place * rows + row).to(tl.pointer_type(kind))
    if aligned:
        at = tl.multiple_of(at, 16)
    return at


@triton.jit
def if_there(columns, rows, row, place, left):
    """How many elements are left of a tensor that may be missing: none, where it is."""
    return tl.where(tl.load(columns + place * rows + row) != 0, left, 0)


@triton.jit
def elements(at, i, left, real: tl.constexpr):
    """A block of a tensor; zeros behind its end. A whole block needs no mask, so that
    several elements are loaded at once.
    """
    if left >= i.shape[0]:
        x = tl.load(at + i)
    else:
        x = tl.load(at + i, mask=i < left, other=0)
    return x.to(real)


@triton.jit
def gradient(at, i, left, maximize, grad_scale, real: tl.constexpr):
    """A block of a gradient, without the scale of a GradScaler, of what is minimized."""
    x = elements(at, i, left, real)
    if grad_scale is not None:
        x = x / tl.load(grad_scale).to(real)
    return tl.where(maximize, -x, x)


@triton.jit
def keep(at, i, left, x):
    """Store a block of a tensor, as far as it goes."""
    if left >= i.shape[0]:
        tl.store(at + i, rounded(x, at.dtype.element_ty))
    else:
        tl.store(at + i, rounded(x, at.dtype.element_ty), mask=i < left)


@triton.jit
def number(columns, rows, row, place, kind: tl.constexpr):
    """A 0-d tensor of a row; 0 where it is missing."""
    at = tl.load(columns + place * rows + row)
    x = tl.load(at.to(tl.pointer_type(kind)), mask=at != 0, other=0)
    return x.to(tl.float64)


@triton.jit
def keep_number(columns, rows, row, place, kind: tl.constexpr, x):
    """Store a 0-d tensor of a row, where it is there."""
    at = tl.load(columns + place * rows + row)
    tl.store(at.to(tl.pointer_type(kind)), rounded(x, kind), mask=at != 0)


@triton.jit
def rounded(x, kind: tl.constexpr):
    """Numbers in another precision: short ones are rounded from float32."""
    if kind == tl.float64:
        y = x
    else:
        y = x.to(tl.float32).to(kind)
    return y


@triton.jit
def kept(x, kind: tl.constexpr):
    """Numbers as they would be in memory."""
    return rounded(x, kind).to(x.dtype)


@triton.jit
def overflowed(found_inf):
    """Whether a GradScaler found a gradient that is not finite: there is no step then."""
    if found_inf is None:
        found = tl.full([], False, tl.int1)
    else:
        found = tl.load(found_inf) != 0
    return found


@triton.jit
def epsilon_of(kind: tl.constexpr):
    if kind == tl.float64:
        epsilon = tl.full([], 2.220446049250313e-16, tl.float64)
    elif kind == tl.float32:
        epsilon = tl.full([], 1.1920928955078125e-07, tl.float64)
    elif kind == tl.float16:
        epsilon = tl.full([], 0.0009765625, tl.float64)
    else:
        epsilon = tl.full([], 0.0078125, tl.float64)
    return epsilon


# ---- arithmetic


@triton.jit
def double(x):
    """A number that the text says."""
    return tl.full([], x, tl.float64)


@triton.jit
def square(x):
    return x * x


@triton.jit
def reciprocal(x):
    return 1 / x


@triton.jit
def sigmoid(x):
    return 1 / (1 + libdevice.exp(-x))


@triton.jit
def sign(x):
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


@triton.jit
def larger(x, y):
    """The larger of two; what is no number is larger than any."""
    return tl.where((x > y) | (x != x), x, y)


@triton.jit
def smaller(x, y):
    """The smaller of two; what is no number is smaller than any."""
    return tl.where((x < y) | (x != x), x, y)


@triton.jit
def clamp(x, low, high):
    return smaller(larger(x, low), high)


@triton.jit
def lerp(start, end, weight):
    """From the nearer end, so that the last weight gives the end itself."""
    near = start + weight * (end - start)
    far = end - (end - start) * (1 - weight)
    return tl.where(tl.abs(weight) < 0.5, near, far)


@triton.jit
def isnan(x):
    return x != x


@triton.jit
def isfinite(x):
    return tl.abs(x) < float("inf")


@triton.jit
def modulo(x, y):
    """As Python: the rest has the sign of what is divided by."""
    rest = libdevice.fmod(x, y)
    return tl.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


@triton.jit
def floor_divide(x, y):
    return libdevice.rint((x - modulo(x, y)) / y)


# ---- what is gathered over the elements of a block


@triton.jit
def total(x, i, left):
    return tl.sum(tl.where(i < left, x.to(tl.float64), 0.0), axis=0)


@triton.jit
def largest(x, i, left):
    """The largest element; none of them is larger than what is no number."""
    nans = total(x != x, i, left)
    lowest = float("-inf")
    found = tl.max(tl.where((i < left) & (x == x), x.to(tl.float64), lowest), axis=0)
    return tl.where(nans > 0, float("nan"), found)


@triton.jit
def smallest(x, i, left):
    return -largest(-x, i, left)


# ---- what is gathered over a column of numbers, block after block


@triton.jit
def sum_of(numbers, first, last):
    found = double(0.0)
    begin = first + tl.zeros([], tl.int64)
    while begin < last:
        at = begin + tl.arange(0, 1024)
        found += tl.sum(tl.load(numbers + at, mask=at < last, other=0.0), axis=0)
        begin += 1024
    return found


@triton.jit
def squares_of(numbers, first, last):
    found = double(0.0)
    begin = first + tl.zeros([], tl.int64)
    while begin < last:
        at = begin + tl.arange(0, 1024)
        x = tl.load(numbers + at, mask=at < last, other=0.0)
        found += tl.sum(x * x, axis=0)
        begin += 1024
    return found


@triton.jit
def count_of(numbers, first, last):
    """How many of them are not 0."""
    found = double(0.0)
    begin = first + tl.zeros([], tl.int64)
    while begin < last:
        at = begin + tl.arange(0, 1024)
        x = tl.load(numbers + at, mask=at < last, other=0.0)
        found += tl.sum((x != 0).to(tl.float64), axis=0)
        begin += 1024
    return found


@triton.jit
def largest_of(numbers, first, last):
    found = double(float("-inf"))
    begin = first + tl.zeros([], tl.int64)
    while begin < last:
        at = begin + tl.arange(0, 1024)
        x = tl.load(numbers + at, mask=at < last, other=0.0)
        found = larger(found, largest(x, at, last))
        begin += 1024
    return found


@triton.jit
def smallest_of(numbers, first, last):
    found = double(float("inf"))
    begin = first + tl.zeros([], tl.int64)
    while begin < last:
        at = begin + tl.arange(0, 1024)
        x = tl.load(numbers + at, mask=at < last, other=0.0)
        found = smaller(found, smallest(x, at, last))
        begin += 1024
    return found


@triton.jit
def spread(numbers, first, last, x):
    """Store one number for all of some rows."""
    begin = first + tl.zeros([], tl.int64)
    while begin < last:
        at = begin + tl.arange(0, 1024)
        tl.store(numbers + at, tl.zeros([1024], tl.float64) + x, mask=at < last)
        begin += 1024
