"""Where the grammar and the library of specs lie: inside the installed package, or
beside it in a checkout and an editable install.
"""

import re
from pathlib import Path

PACKAGE = Path(__file__).parent
_HEADER = re.compile(r"^optimizer +(\w+)", re.MULTILINE)


def folder(name: str) -> Path:
    """The folder `grammars` or `specs`, wherever this copy of optdsl keeps it."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def grammar() -> Path:
    return folder("grammars") / "optdsl.lark"


def library() -> dict[str, Path]:
    """Every spec of the library by its name, in alphabetical order."""
    return {path.stem: path for path in sorted(folder("specs").glob("*.opt"))}


def modifiers() -> dict[str, Path]:
    """Every modifier of the library by its name, in alphabetical order."""
    found = sorted((folder("specs") / "modifiers").glob("*.opt"))
    return {path.stem: path for path in found}


def routes() -> dict[str, Path]:
    """Every spec of the library that chooses among others, in alphabetical order."""
    found = sorted((folder("specs") / "routes").glob("*.opt"))
    return {path.stem: path for path in found}


def library_classes() -> dict[str, str]:
    """Every class of the library with the name of its spec."""
    return {
        _HEADER.search(path.read_text(encoding="utf-8"))[1]: stem
        for stem, path in (library() | routes()).items()
    }
