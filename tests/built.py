"""What is built, built once: all stages of a spec depend on its text alone."""

from functools import cache, lru_cache

from optdsl.explain import Explained, explain
from optdsl.find import find
from optdsl.pipeline import Artifacts, build
from optdsl.source import Source

NAME = "random.opt"  # of a text without a file
# The library and some hundred random specs.
once = lru_cache(maxsize=512)(build)


def built(text: str) -> Artifacts:
    """All stages of a text without a file."""
    return once(Source(NAME, text))


def of_library(spec: str) -> Artifacts:
    """All stages of a rule of the library."""
    return once(find(spec))


@cache
def explained(spec: str) -> Explained:
    """What is to be said of a rule of the library."""
    return explain(of_library(spec))
