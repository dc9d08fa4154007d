"""What is built, built once: all stages of a spec depend on its text alone."""

from functools import cache, lru_cache

from optdsl.find import find
from optdsl.pipeline import Artifacts, build
from optdsl.source import Source


@lru_cache(maxsize=256)
def built(text: str) -> Artifacts:
    """All stages of a text without a file."""
    return build(Source("random.opt", text))


@cache
def of_library(spec: str) -> Artifacts:
    """All stages of a rule of the library."""
    return build(find(spec))
