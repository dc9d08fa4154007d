"""The library as classes: `from optdsl.optim import AdamW`.

Each class is compiled from its spec when it is first asked for.
"""

from .. import load, resources

load.install()
_STEMS = resources.library_classes()
__all__ = [*_STEMS]


def __getattr__(name: str):
    if name not in _STEMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load.load_optimizer(_STEMS[name])


def __dir__() -> list[str]:
    return __all__
