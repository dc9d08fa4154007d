"""How long a step takes, one way or another, and how near that is to the memory's speed."""

from .measure import Measured, Row, measure
from .shapes import NAMED, NoShapes, Shapes, of_model

__all__ = ["NAMED", "Measured", "NoShapes", "Row", "Shapes", "measure", "of_model"]
