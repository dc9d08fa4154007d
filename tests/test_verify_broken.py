"""verify can fail: it finds each of the optimizers that are broken by one mistake, names
the property, and has nothing to say against their sound twins.

A broken class is asked for one property alone; what else is found of it, of some.
"""

from functools import cache

import pytest
from one_row import row
from oracle import every

from optdsl.verify import Report, Row, verify
from tests.broken import BROKEN, Broken
from tests.broken.sound import SOUND


@cache
def report_of(cls: type, against: type | None = None) -> Report:
    return verify(cls, against=against)


@cache
def row_of(cls: type, against: type | None, check: str) -> Row:
    return row(check, cls, against=against)


@pytest.mark.parametrize("cls", SOUND, ids=lambda cls: cls.__name__)
def test_a_sound_optimizer_fails_nothing(cls: type) -> None:
    assert report_of(cls).failed == ()


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.cls.__name__)
def test_a_broken_optimizer_is_found(broken: Broken) -> None:
    twin = broken.twin if broken.against_twin else None
    found = row_of(broken.cls, twin, broken.check)
    assert found.outcome == "fail", found
    assert found.detail
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
