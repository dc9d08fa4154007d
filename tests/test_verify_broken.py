"""verify can fail: it finds each of the optimizers that are broken by one mistake, names
the property, and has nothing to say against their sound twins.

A broken class is asked for one property alone; what else is found of it, of some.
"""

from functools import cache
from unittest.mock import patch

import pytest
from oracle import every

from optdsl.verify import Report, Row, judge, verify
from optdsl.verify.checks import AGAINST, CHECKS
from tests.broken import BROKEN, Broken
from tests.broken.sound import SOUND


@cache
def report_of(cls: type, against: type | None = None) -> Report:
    return verify(cls, against=against)


@cache
def row_of(cls: type, against: type | None, check: str) -> Row:
    """One row of a report, without the work for the others."""
    checks = tuple(each for each in CHECKS if each.name == check)
    names = {flag: name for flag, name in AGAINST.items() if name == check}
    with patch.object(judge, "CHECKS", checks), patch.object(judge, "AGAINST", names):
        return verify(cls, against=against)[check]


@pytest.mark.parametrize("cls", SOUND, ids=lambda cls: cls.__name__)
def test_a_sound_optimizer_fails_nothing(cls: type) -> None:
    assert report_of(cls).failed == ()


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.cls.__name__)
def test_a_broken_optimizer_is_found(broken: Broken) -> None:
    twin = broken.twin if broken.against_twin else None
    row = row_of(broken.cls, twin, broken.check)
    assert row.outcome == "fail", row
    assert row.detail
    assert row_of(broken.twin, twin, broken.check).outcome != "fail"


@pytest.mark.parametrize(
    "broken", every(6, BROKEN), ids=lambda broken: broken.cls.__name__
)
def test_what_is_found_is_the_mistake_and_what_follows_from_it(broken: Broken) -> None:
    """A mistake in one place does not turn the whole table red."""
    twin = broken.twin if broken.against_twin else None
    report = report_of(broken.cls, twin)
    assert report[broken.check].outcome == "fail"
    assert len(report.failed) <= 7


def test_the_kinds_of_mistakes_are_many() -> None:
    assert len(BROKEN) >= 18
    assert len({broken.check for broken in BROKEN}) >= 18
    assert all(broken.cls.__doc__ for broken in BROKEN), "each says what is wrong"
