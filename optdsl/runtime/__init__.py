"""What runs while training: kernels, built when they are first needed."""

from .kernel import Kernel

__all__ = ["Kernel"]
