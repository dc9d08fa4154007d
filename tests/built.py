"""What a text is built to, built once: it depends on the text alone."""

from functools import lru_cache

from optdsl.pipeline import Artifacts, build
from optdsl.source import Source


@lru_cache(maxsize=256)
def built(text: str) -> Artifacts:
    return build(Source("random.opt", text))
