"""verify can fail: it finds each of the optimizers that are broken by one mistake, names
the property, and has nothing to say against their sound twins.
"""

from functools import cache

import pytest

from optdsl.verify import Report, verify
from tests.broken import BROKEN, Broken
from tests.broken.sound import SOUND


@cache
def report_of(cls: type, against: type | None = None) -> Report:
    return verify(cls, against=against)


@pytest.mark.parametrize("cls", SOUND, ids=lambda cls: cls.__name__)
def test_a_sound_optimizer_fails_nothing(cls: type) -> None:
    assert report_of(cls).failed == ()


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.cls.__name__)
def test_a_broken_optimizer_is_found(broken: Broken) -> None:
    twin = broken.twin if broken.against_twin else None
    row = report_of(broken.cls, twin)[broken.check]
    assert row.outcome == "fail", row
    assert row.detail
    assert report_of(broken.twin, twin)[broken.check].outcome != "fail"


def test_what_is_found_is_the_mistake_and_what_follows_from_it() -> None:
    """A mistake in one place does not turn the whole table red."""
    for broken in BROKEN:
        twin = broken.twin if broken.against_twin else None
        assert len(report_of(broken.cls, twin).failed) <= 7, broken.cls.__name__


def test_the_kinds_of_mistakes_are_many() -> None:
    assert len(BROKEN) >= 18
    assert len({broken.check for broken in BROKEN}) >= 18
    assert all(broken.cls.__doc__ for broken in BROKEN), "each says what is wrong"
