"""Kernels in C++.

In: a program of passes. Out: what prints it as one translation unit.
"""

from ...ir.kernels import Program
from .kernels import Kernels
from .matrices import OfMatrices


def kernels_of(program: Program) -> Kernels:
    return Kernels(program) if program.view is None else OfMatrices(program)


def emit(program: Program) -> str:
    """The text of the kernels of a program."""
    return kernels_of(program).text()
