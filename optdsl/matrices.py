"""Layouts and decompositions as the oracle computes them, on float64 tensors.

In: the arguments of a call, tensors and numbers of the host. Out: its value, several for
a decomposition. `inverse_root` is what the vocabulary says it is, whoever computes it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def _sizes(sizes: Sequence[float]) -> list[int]:
    return [int(each) for each in sizes]


def _narrow(x: Tensor, dim: float, start: float, length: float) -> Tensor:
    return x.narrow(int(dim), int(start), int(length))


def _argsort(x: Tensor, descending: bool) -> Tensor:
    return torch.argsort(x, descending=descending, stable=True)


def _eye(n: float) -> Tensor:
    return torch.eye(int(n), dtype=torch.float64)


def _zeros(sizes: Sequence[float]) -> Tensor:
    return torch.zeros(_sizes(sizes), dtype=torch.float64)


def _inverse_root(x: Tensor, k: float) -> Tensor:
    """x**(-1/k) by the eigenvalues, none less than machine epsilon times the largest;
    zeros, where none is above zero.
    """
    values, vectors = torch.linalg.eigh(x)
    roots = torch.zeros_like(values)
    largest = values.amax(-1, keepdim=True) if values.shape[-1] else values
    bounded = torch.maximum(values, largest * torch.finfo(x.dtype).eps)
    roots = torch.where(largest > 0, bounded ** (-1 / k), roots)
    return vectors @ torch.diag_embed(roots) @ vectors.mT


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "reshape": lambda x, sizes: x.reshape(_sizes(sizes)),
    "reshape_as": lambda x, y: x.reshape(y.shape),
    "flatten": lambda x, start=0: x.flatten(int(start)),
    "movedim": lambda x, source, destination: x.movedim(int(source), int(destination)),
    "narrow": _narrow,
    "index_select": lambda x, dim, order: x.index_select(int(dim), order),
    "diag": torch.diag,
    "argsort": _argsort,
    "inverse_root": _inverse_root,
    "eye": _eye,
    "zeros": _zeros,
    "qr": torch.linalg.qr,
    "eigh": torch.linalg.eigh,
    "svd": lambda x: torch.linalg.svd(x, full_matrices=False),
}
"""By the names that they have before and after the passes."""
