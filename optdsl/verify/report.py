"""What verify found about one optimizer: a row a check."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .outcome import FAIL


@dataclass(frozen=True, slots=True)
class Row:
    """`outcome` is pass, fail or not applicable; `detail` the smallest failing case, the
    reason, or what was compared.
    """

    check: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    subject: str
    rows: tuple[Row, ...]

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows that failed; none where all is well."""
        return tuple(each for each in self.rows if each.outcome == FAIL)

    def __getitem__(self, check: str) -> Row:
        return next(each for each in self.rows if each.check == check)

    def as_json(self) -> Mapping[str, Any]:
        """Plain dicts, lists and texts."""
        rows = [asdict(each) for each in self.rows]
        return {"subject": self.subject, "failed": len(self.failed), "rows": rows}
