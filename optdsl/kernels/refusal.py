"""What kernels do not carry."""


class Refusal(Exception):
    """A rule needs what no kernel does; the message says what that is."""
