"""A rule's step as passes over memory, with calls of torch between them where it takes some.
In: a checked rule, whose host knows no tensor. Out: the program of its kernels or the turns
that kernels and torch take, or the Refusal that says what no kernel carries.
"""

from .program import program
from .refusal import Refusal
from .turns import turns

__all__ = ["Refusal", "program", "turns"]
