"""Measurements as a table for people, or as a chart."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .measure import Measured

WIDTH = 100  # of a table that no terminal shows


def show(measured: Sequence[Measured]) -> None:
    """Print a table for each rule and set of shapes."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for each in measured:
        console.print(
            f"{each.rule}, {each.shapes}: {each.numbers / 1e6:.1f}M {each.dtype} on "
            f"{each.device}, {each.threads} threads, {each.bytes:g} bytes a number",
            highlight=False,
        )
        console.print(table(each))


def table(measured: Measured) -> Table:
    """A row a way."""
    made = Table()
    made.add_column("way")
    for name in ("ms", "ratio", "GB/s", "of the memory's", "first step s"):
        made.add_column(name, justify="right")
    for row in measured.rows:
        made.add_row(
            row.way,
            f"{row.milliseconds:.2f}",
            f"{row.ratio:.3f}",
            f"{row.gigabytes:.1f}",
            "" if row.share is None else f"{100 * row.share:.0f}%",
            "" if row.first is None else f"{row.first:.2f}",
        )
    return made


def chart_formats() -> set[str]:
    """The endings of files that a chart can be written to.

    Raises:
        ImportError: there is no matplotlib.
    """
    from matplotlib.figure import Figure

    return {*Figure().canvas.get_supported_filetypes()}


def plot(measured: Sequence[Measured], path: Path) -> None:
    """Write a bar chart of the times.

    Raises:
        ImportError: there is no matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.6 + 0.35 * sum(len(x.rows) for x in measured)))
    axes = figure.subplots(len(measured), squeeze=False)[:, 0]
    for each, here in zip(measured, axes, strict=True):
        rows = each.rows[::-1]
        here.barh([row.way for row in rows], [row.milliseconds for row in rows])
        here.set_title(f"{each.rule}, {each.shapes}")
        here.set_xlabel("milliseconds a step")
    figure.tight_layout()
    figure.savefig(path)
