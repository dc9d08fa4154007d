"""The library as a table in Markdown: what each rule takes, keeps and can do."""

from collections.abc import Mapping

from . import Explained
from .papers import Paper

_HEAD = ("rule", "lines", "bytes of state", "paper", "beside the loop")
_ALIGNED = ("---", "---:", "---", "---", "---")


def table(library: Mapping[str, Explained]) -> str:
    """A row for each spec, by the name of its file without `.opt`."""
    rows = [_row(_HEAD), _row(_ALIGNED)]
    rows += [_row(_cells(name, each)) for name, each in library.items()]
    return "".join(rows)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cells(name: str, explained: Explained) -> tuple[str, ...]:
    able = [
        target.split()[0]
        for target, words in explained.targets.items()
        if words.startswith("yes") and target != "loop"
    ]
    return (
        f"[{explained.name}](specs/{name}.opt)",
        str(explained.lines),
        explained.state,
        _linked(explained.paper),
        ", ".join(able),
    )


def _linked(paper: Paper | None) -> str:
    if paper is None:
        return ""
    named = str(paper).replace("|", r"\|")
    return f"[{named}]({paper.url})" if paper.url else named
