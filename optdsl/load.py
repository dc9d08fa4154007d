"""Python text to a live class, in a module that debuggers, `inspect` and pickle know.

The library is served by an import finder: `optdsl.optim.adamw` is a module whose source
is compiled when it is imported. A spec of the user's becomes a module named after its
optimizer and a digest of its text: the same text is the same module.
"""

import hashlib
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING

from . import resources
from .emit.names import safe_file_name, snake
from .find import find, library_name, read
from .pipeline import Artifacts, Routed, build
from .source import Source

if TYPE_CHECKING:
    from torch.optim import Optimizer

LIBRARY = "optdsl.optim"
LOADED = "optdsl.loaded"


class SpecLoader(ExecutionLoader):
    """Executes the Python that a spec compiles to, and shows it to whoever asks."""

    def __init__(self, source: str, filename: str) -> None:
        self.source = source
        self.filename = filename

    def get_source(self, fullname: str) -> str:
        return self.source

    def get_filename(self, fullname: str) -> str:
        return self.filename


class LibraryFinder(MetaPathFinder):
    """Finds `optdsl.optim.<spec>` for every spec of the library."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        package, _, stem = fullname.rpartition(".")
        library = {}
        if package == LIBRARY:
            library = resources.library() | resources.routes()
        if stem not in library:
            return None
        text = build(read(library[stem])).python
        return _module_spec(
            fullname, text, str(resources.PACKAGE / "optim" / f"{stem}.py")
        )


def _module_spec(name: str, text: str, filename: str) -> ModuleSpec:
    spec = spec_from_file_location(name, filename, loader=SpecLoader(text, filename))
    assert spec is not None
    return spec


def install() -> None:
    """Let `import optdsl.optim.<spec>` find the library."""
    if not any(isinstance(each, LibraryFinder) for each in sys.meta_path):
        sys.meta_path.append(LibraryFinder())


def load_optimizer(
    spec: str | os.PathLike[str], use: Sequence[str] = ()
) -> "type[Optimizer]":
    """The optimizer class that a spec describes.

    Args:
        spec: a path of a `.opt` file, or the name of a rule of the library, in capitals
            or not: `load_optimizer("adamw")`, `load_optimizer("rules/mine.opt")`.
        use: modifiers beside those that the spec uses itself, as it would name them:
            `load_optimizer("lion", use=["cautious", "clip_global_norm(max_norm=0.5)"])`.

    Returns:
        A subclass of torch.optim.Optimizer. The same spec with the same modifiers gives
        the same class.

    Raises:
        OptdslError: there is no such spec, or it is wrong; it says everything that is.
    """
    use = _named(use)
    stem = library_name(spec)
    if stem is None or use:
        return _loaded(find(spec), use)
    install()
    module = importlib.import_module(f"{LIBRARY}.{stem}")
    return getattr(module, module.__all__[0])


def from_string(
    text: str, filename: str = "spec.opt", use: Sequence[str] = ()
) -> "type[Optimizer]":
    """The optimizer class that the text of a spec describes.

    Args:
        text: the spec.
        filename: what messages call it.
        use: modifiers of the library, as for `load_optimizer`.

    Raises:
        OptdslError: the spec is wrong; it says everything that is.
    """
    return _loaded(Source(filename, text), _named(use))


def _named(use: Sequence[str]) -> tuple[str, ...]:
    """The modifiers that are asked for; a text alone is one."""
    names = (use,) if isinstance(use, str) else tuple(use)
    for each in names:
        if not isinstance(each, str):
            raise TypeError(f"a modifier is named by a text, not {type(each).__name__}")
    return names


def _loaded(
    source: Source,
    use: tuple[str, ...] = (),
    rules: tuple[tuple[str, Source], ...] = (),
) -> "type[Optimizer]":
    artifacts = None
    if use or source.folder is not None or "route" in source.text:
        # What the modifiers say is a part of what the class is, and what rules do.
        artifacts = build(source, use, rules)
        source = artifacts.source
    texts = [safe_file_name(source.name), source.text]
    if isinstance(artifacts, Routed):
        texts += [each.source.text for each in artifacts.rules.values()]
    whole = "\0".join(texts).encode(errors="surrogatepass")
    digest = hashlib.sha256(whole).hexdigest()[:12]
    known = _MODULES.get(digest)
    if known is None:
        artifacts = artifacts or build(source)
        name = f"{LOADED}.{snake(artifacts.name)}_{digest}"
        filename = os.path.join(*name.split(".")) + ".py"
        spec = _module_spec(name, artifacts.python, filename)
        known = module_from_spec(spec)
        spec.loader.exec_module(known)
        sys.modules[name] = _MODULES[digest] = known
        _pickle_with_spec(getattr(known, artifacts.name), artifacts)
    return getattr(known, known.__all__[0])


_MODULES: dict[str, ModuleType] = {}


def _pickle_with_spec(cls: type, artifacts: Artifacts | Routed) -> None:
    """Let instances carry their spec, so that a process that never saw it can load them."""
    source = artifacts.source
    carried: tuple = (source.text, safe_file_name(source.name))
    if isinstance(artifacts, Routed):
        rules = tuple(
            (name, safe_file_name(each.source.name), each.source.text)
            for name, each in artifacts.rules.items()
        )
        carried = (*carried, rules)

    def reduce(self, protocol):
        if type(self) is not cls:
            return super(cls, self).__reduce_ex__(protocol)
        return _restored, carried, self.__getstate__()

    cls.__reduce_ex__ = reduce


def _restored(
    text: str, filename: str, rules: tuple[tuple[str, str, str], ...] = ()
) -> "Optimizer":
    given = tuple((name, Source(*said)) for name, *said in rules)
    cls = _loaded(Source(filename, text), rules=given)
    return cls.__new__(cls)
