"""What a check finds: pass, fail or not applicable, and why."""

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
    first = (str(error).strip().splitlines() or [""])[0]
    said = f"{type(error).__name__}: {first}".removesuffix(": ")
    return said if len(said) <= 160 else said[:157] + "..."
