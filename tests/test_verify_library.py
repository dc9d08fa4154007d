"""verify has nothing to say against any optimizer of the library, on any target."""

import pytest

from optdsl.verify import verify
from tests.library import LIBRARY


@pytest.mark.parametrize("spec", LIBRARY)
def test_a_rule_of_the_library_fails_nothing(spec: str) -> None:
    assert [(row.check, row.detail) for row in verify(spec).failed] == []
