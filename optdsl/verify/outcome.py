"""What a check finds: pass, fail or not applicable, and why."""

import re
from dataclasses import dataclass

PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "not applicable"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`detail` is the smallest failing case, or the reason, or what was compared."""

    verdict: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.verdict == FAIL


def passed(detail: str = "") -> Outcome:
    return Outcome(PASS, detail)


def failed(detail: str) -> Outcome:
    return Outcome(FAIL, detail)


def not_applicable(reason: str) -> Outcome:
    return Outcome(NOT_APPLICABLE, reason)


def words(error: BaseException) -> str:
    """An exception in one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))  # torch prints some in bold
    first = (plain.strip().splitlines() or [""])[0]
    said = f"{type(error).__name__}: {first}".removesuffix(": ")
    return said if len(said) <= 160 else said[:157] + "..."
