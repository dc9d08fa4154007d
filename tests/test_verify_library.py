"""verify has nothing to say against any optimizer of the library, on any target."""

import pytest

from optdsl.verify import verify
from tests.library import LIBRARY

DIFFERENTIABLE_HOOKS = pytest.mark.xfail(
    reason="a pre-step hook runs without gradients, differentiable or not"
)
MARKS = {"l2decay": DIFFERENTIABLE_HOOKS}


@pytest.mark.parametrize(
    "spec", [pytest.param(each, marks=MARKS.get(each, ())) for each in LIBRARY]
)
def test_a_rule_of_the_library_fails_nothing(spec: str) -> None:
    assert [(row.check, row.detail) for row in verify(spec).failed] == []
