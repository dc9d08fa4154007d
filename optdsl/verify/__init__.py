"""A judge for optimizers, compiled or written by hand.

    from optdsl.verify import verify
    report = verify("adam")              # or a class, or "package.module:Class"
    assert not report.failed

It needs torch; nothing that reads or compiles specs imports it.
"""

from .judge import verify
from .report import Report, Row
from .subject import NoSubject, Subject

__all__ = ["NoSubject", "Report", "Row", "Subject", "verify"]
