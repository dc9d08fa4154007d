"""Reports as a table for people, and a progress bar while they are made."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from . import judge
from .outcome import FAIL, NOT_APPLICABLE, PASS
from .report import Report

STYLES = {PASS: "green", FAIL: "bold red", NOT_APPLICABLE: "dim"}
WIDTH = 120  # of a table that no terminal shows


def report(
    subjects: Sequence[str],
    against: str | None,
    renamed: Mapping[str, str],
    use: Sequence[str] = (),
) -> list[Report]:
    """A report of each subject, with modifiers. What the optimizers print goes to
    standard error.

    Raises:
        OptdslError, NoSubject: as `verify` does.
    """
    with redirect_stdout(sys.stderr), _progress(len(subjects)) as tell:
        return [judge.verify(each, against, renamed, tell, use) for each in subjects]


def show(reports: Sequence[Report]) -> None:
    """Print a table for each report."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for report in reports:
        console.print(table(report))


def table(report: Report) -> Table:
    """A row a check."""
    made = Table(title=f"{report.subject}: {_summary(report)}", title_justify="left")
    made.add_column("check", ratio=2)
    made.add_column("outcome", no_wrap=True)
    made.add_column("detail", ratio=3)
    for row in report.rows:
        style = STYLES[row.outcome]
        cells = (row.check, row.outcome, row.detail)
        made.add_row(*(Text(each, style) for each in cells))
    return made


def _summary(report: Report) -> str:
    counts = {each: 0 for each in STYLES}
    for row in report.rows:
        counts[row.outcome] += 1
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)


@contextmanager
def _progress(subjects: int) -> Iterator[judge.Progress]:
    """A bar on standard error, where that is a terminal; what it yields moves it on."""
    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        done = -1

        def tell(check: str, at: int, count: int) -> None:
            nonlocal done
            done += at == 0
            bar.update(
                task,
                total=subjects * count,
                completed=done * count + at,
                description=check,
            )

        yield tell
