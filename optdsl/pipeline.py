"""The story: text, syntax, ir, lowered ir, Python.

    text --parse--> tree --check--> checked --lower--> lowered --emit--> loop

Each stage is a function of the one before and of nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import ir, syntax
from .check import check
from .diagnostics import Diagnostic, InternalError, OptdslError
from .emit import emit
from .parse import parse
from .passes import lower
from .source import Source


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Every stage of one spec, and what is doubtful about it."""

    source: Source
    tree: syntax.Spec
    checked: ir.Rule
    lowered: ir.Rule
    loop: str
    warnings: tuple[Diagnostic, ...]


def build(source: Source) -> Artifacts:
    """All stages of a spec.

    Raises:
        OptdslError: the spec is wrong; it says everything that is.
    """
    tree = _stage(parse, source)
    checked, warnings = _stage(check, tree, source)
    lowered = _stage(lower, checked)
    return Artifacts(source, tree, checked, lowered, _stage(emit, lowered), warnings)


def _stage(run: Callable, *inputs: Any) -> Any:
    """A stage's result; what it raises beside a diagnostic is a bug of the compiler."""
    try:
        return run(*inputs)
    except (OptdslError, InternalError):
        raise
    except Exception as error:
        raise InternalError(run.__name__, repr(error)) from error


def compile_source(text: str, filename: str = "spec.opt") -> str:
    """The Python source of the optimizer that a spec describes.

    Args:
        text: the spec.
        filename: what messages and the header of the file call it.

    Raises:
        OptdslError: the spec is wrong; it says everything that is.
    """
    return build(Source(filename, text)).loop
