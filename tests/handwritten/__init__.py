"""Optimizers as a person writes them for torch: what the compiled classes are held against."""

from .gradient_descent import GradientDescent
from .l2decay import L2Decay
from .lion import Lion
from .momentum import Momentum

__all__ = ["GradientDescent", "L2Decay", "Lion", "Momentum"]
