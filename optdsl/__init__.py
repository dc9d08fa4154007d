"""optdsl: write an optimizer's update rule as the paper has it, get a torch Optimizer."""

from .diagnostics import Diagnostic, OptdslError
from .load import from_string, load_optimizer
from .pipeline import compile_source

__all__ = [
    "Diagnostic",
    "OptdslError",
    "compile_source",
    "from_string",
    "load_optimizer",
]
