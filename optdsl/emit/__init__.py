"""Lowered ir to Python text. The only package that knows Jinja."""

from .page import emit, is_untouched

__all__ = ["emit", "is_untouched"]
