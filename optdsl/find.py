"""What a person calls a spec, to its Source: a path, or a name of the library."""

import os
from pathlib import Path

from . import resources
from .diagnostics import Diagnostic, Label, OptdslError, did_you_mean
from .source import LARGEST, Source, Span


def library_name(spec: str | os.PathLike[str]) -> str | None:
    """The name in the library that is meant: of the file or of the class, in capitals or
    not; None where a file is meant.

    Raises:
        OptdslError: a name is meant, and the library does not have it.
    """
    if (
        isinstance(spec, os.PathLike)
        or spec.endswith(".opt")
        or set(spec) & {"/", os.sep}
    ):
        return None
    if "\n" in spec:
        message = "this is the text of a spec, not its name"
        raise _missing(spec.split("\n")[0], message, "`from_string` takes text")
    library = resources.library() | resources.routes()
    stems = {stem.replace("_", ""): stem for stem in library}
    stem = stems.get(spec.lower().replace("_", ""))
    if stem is None:
        raise _not_in_library(spec)
    return stem


def _not_in_library(name: str) -> OptdslError:
    library = resources.library() | resources.routes()
    file = Path(name + ".opt")
    if name in resources.modifiers():
        help = f"it is a modifier: a rule has it by `use {name}`, or `--use {name}`"
    elif file.is_file():
        help = f"there is a file of this name: say `{file}`"
    else:
        help = did_you_mean(name.lower(), library) or "the library has " + ", ".join(
            library
        )
    return _missing(name, f"no rule `{name}` in the library", help)


def find(spec: str | os.PathLike[str]) -> Source:
    """The source of a spec.

    A Path, or text that ends in `.opt` or has a separator in it, is a file; any other
    text is a name of the library.

    Raises:
        OptdslError: E0100 where there is no such spec, saying what was looked for and
            what is there; E0101 and E0102 where the file is no text to be read.
    """
    stem = library_name(spec)
    if stem is None:
        return read(Path(spec).expanduser())
    return read((resources.library() | resources.routes())[stem])


def find_modifier(name: str, folder: Path | None, by: Source, span: Span) -> Source:
    """The modifier that a `use` in the source `by` names: a file in the folder of the
    spec, or one of the library.

    Raises:
        OptdslError: E0210 where there is none, E0101 and E0102 where it cannot be read.
    """
    library = resources.modifiers()
    beside = folder / f"{name}.opt" if folder is not None else None
    if beside is not None and _is_file(beside):
        return read(beside)
    if name in (rules := resources.library()) and name not in library:
        return read(rules[name])  # Who names a rule is told so.
    if name in library:
        source = read(library[name])
        return Source(f"modifiers/{name}.opt", source.text)
    files = [] if folder is None else [each.stem for each in folder.glob("*.opt")]
    near = did_you_mean(name, [*library, *files])
    has = "the library has " + ", ".join(library)
    title = f"no modifier `{name}`, here or in the library"
    if folder is None:
        title = f"no modifier `{name}` in the library"
    raise OptdslError([Diagnostic("E0210", title, by, Label(span, near), help=has)])


def find_rule(name: str, folder: Path | None, by: Source, span: Span) -> Source:
    """The rule that a route in the source `by` names: a file in the folder of the spec, or
    one of the library.

    Raises:
        OptdslError: E0214 where there is none, E0101 and E0102 where it cannot be read.
    """
    library = resources.library() | resources.routes()
    beside = folder / f"{name}.opt" if folder is not None else None
    if beside is not None and _is_file(beside):
        return read(beside)
    modifiers = resources.modifiers()
    if name in (known := library if name in library else modifiers):
        source = read(known[name])
        return Source(known[name].name, source.text)
    files = [] if folder is None else [each.stem for each in folder.glob("*.opt")]
    near = did_you_mean(name, [*library, *files])
    title = f"no rule `{name}`, here or in the library"
    if folder is None:
        title = f"no rule `{name}` in the library"
    help = "`optdsl list` prints the rules of the library"
    raise OptdslError([Diagnostic("E0214", title, by, Label(span, near), help=help)])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # No file has a name like this.
        return False


def read(path: Path) -> Source:
    """The text of a file."""
    try:
        size = path.stat().st_size
        data = b"" if size > 4 * LARGEST else path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    source = Source(str(path), "")
    if size > 4 * LARGEST:
        notes = (f"{size:,} bytes, at most {LARGEST:,} characters are read",)
        raise OptdslError(
            [Diagnostic("E0101", "the spec is too large", source, notes=notes)]
        )
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        notes = (f"byte {error.start:,} is 0x{data[error.start]:02x}",)
        title = "the spec is no UTF-8 text"
        raise OptdslError([Diagnostic("E0102", title, source, notes=notes)]) from None
    return Source(str(path), text, path.parent)


def _unreadable(path: Path, error: Exception) -> OptdslError:
    if path.is_dir():
        specs = ", ".join(each.name for each in sorted(path.glob("*.opt"))[:8])
        help = f"it holds {specs}" if specs else "it holds no `.opt` file"
        return _missing(str(path), f"`{path}` is a folder", help)
    try:
        beside = [each.name for each in sorted(path.parent.glob("*.opt"))]
    except (OSError, ValueError):
        beside = []
    near = did_you_mean(path.name, beside)
    reason = getattr(error, "strerror", None) or "the name is no path"
    folder = f"`{path.parent}`" if path.parent != Path() else "this folder"
    if not path.parent.is_dir():
        help = f"there is no folder {folder}"
    else:
        help = near or f"{folder} holds " + (", ".join(beside[:8]) or "no `.opt` file")
    return _missing(str(path), f"cannot read `{path}`: {reason.lower()}", help)


def _missing(name: str, message: str, help: str) -> OptdslError:
    return OptdslError([Diagnostic("E0100", message, Source(name, ""), help=help)])
