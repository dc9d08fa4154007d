"""What kernels do not carry."""

from ..source import Span


class Refusal(Exception):
    """A rule needs what no kernel does."""

    def __init__(self, reason: str, span: Span) -> None:
        super().__init__(reason)
        self.reason = reason
        self.span = span
