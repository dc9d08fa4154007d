"""optdsl: write an optimizer's update rule as the paper has it, get a torch Optimizer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "Diagnostic": "diagnostics",
    "OptdslError": "diagnostics",
    "compile_source": "pipeline",
    "from_string": "load",
    "load_optimizer": "load",
}


def __getattr__(name: str) -> Any:
    """The public names, when they are asked for: who only steps a compiled optimizer does
    not load the compiler.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
