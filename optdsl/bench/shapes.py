"""The tensors that a step is measured on.

In: the name of a set, or a module of the user's. Out: the shapes of its parameters, in how
many param groups they are.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass

import torch


class NoShapes(Exception):
    """There are no such parameters; says why."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """`dtypes` are those of a model; none where it does not matter."""

    label: str
    sizes: tuple[tuple[int, ...], ...]
    groups: int = 1
    dtypes: tuple[torch.dtype, ...] = ()

    def dtypes_or(self, dtype: torch.dtype | None) -> tuple[torch.dtype, ...]:
        """The dtype of each parameter: one for all, else its own, else float32."""
        if dtype is None and self.dtypes:
            return self.dtypes
        return (dtype or torch.float32,) * len(self.sizes)


def _gpt2_small() -> Iterator[tuple[int, ...]]:
    """Token and position embeddings, twelve layers, the last normalization; the output
    shares its weight with the tokens.
    """
    width = 768
    yield from ((50257, width), (1024, width))
    for _ in range(12):
        yield from ((width,), (width,), (width, 3 * width), (3 * width,))
        yield from ((width, width), (width,), (width,), (width,))
        yield from ((width, 4 * width), (4 * width,), (4 * width, width), (width,))
    yield from ((width,), (width,))


def _resnet50() -> Iterator[tuple[int, ...]]:
    """Each convolution with a normalization; bottlenecks in four stages; a classifier."""

    def convolution(out: int, into: int, size: int) -> Iterator[tuple[int, ...]]:
        yield from ((out, into, size, size), (out,), (out,))

    yield from convolution(64, 3, 7)
    into = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            yield from convolution(width, into, 1)
            yield from convolution(width, width, 3)
            yield from convolution(4 * width, width, 1)
            if block == 0:
                yield from convolution(4 * width, into, 1)
            into = 4 * width
    yield from ((1000, into), (1000,))


MANY = ((64, 64),) * 1000
NAMED = {
    "gpt2": Shapes("GPT-2 small", tuple(_gpt2_small())),
    "many": Shapes("1000 x 64x64", MANY),
    "large": Shapes("one 8192x8192", ((8192, 8192),)),
    "resnet50": Shapes("ResNet-50", tuple(_resnet50())),
    "groups": Shapes("1000 x 64x64 in 400 groups", MANY, 400),
}


def of_model(factory: str) -> Shapes:
    """The trained parameters of the module that `package.module:factory` makes. What
    it prints goes to standard error.

    Raises:
        NoShapes: there is no such factory, or it makes no module with parameters.
    """
    module, _, name = factory.partition(":")
    try:
        with redirect_stdout(sys.stderr):
            made = getattr(importlib.import_module(module), name)()
        trained = [each for each in made.parameters() if each.requires_grad]
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise NoShapes(f"`{factory}` makes no module: {said}") from None
    if not any(each.numel() for each in trained):
        raise NoShapes(f"what `{factory}` makes has no parameters to train")
    return Shapes(
        factory,
        tuple(tuple(each.shape) for each in trained),
        dtypes=tuple(each.dtype for each in trained),
    )
