"""verify has nothing to say against any optimizer of the library, on any target: against
the few that say all that the library says, and under OPTDSL_EXAMPLES against each.
"""

import pytest
from oracle import LONG

from optdsl.verify import verify
from tests.library import LIBRARY, eloquent


@pytest.mark.parametrize("spec", LIBRARY if LONG else eloquent())
def test_a_rule_of_the_library_fails_nothing(spec: str) -> None:
    assert [(row.check, row.detail) for row in verify(spec).failed] == []
