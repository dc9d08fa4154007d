"""Where the grammar and the library of specs lie: inside the installed package, or
beside it in a checkout and an editable install.
"""

from pathlib import Path

PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `grammars` or `specs`, wherever this copy of optdsl keeps it."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def grammar() -> Path:
    return folder("grammars") / "optdsl.lark"


def library() -> dict[str, Path]:
    """Every spec of the library by its name, in alphabetical order."""
    return {path.stem: path for path in sorted(folder("specs").glob("*.opt"))}
