"""One row of what verify reports, without the work for the others."""

from typing import Any
from unittest.mock import patch

from optdsl.verify import Row, judge, verify
from optdsl.verify.checks import AGAINST, CHECKS


def row(check: str, subject: Any, **given: Any) -> Row:
    checks = tuple(each for each in CHECKS if each.name == check)
    names = {flag: name for flag, name in AGAINST.items() if name == check}
    with patch.object(judge, "CHECKS", checks), patch.object(judge, "AGAINST", names):
        return verify(subject, **given)[check]
