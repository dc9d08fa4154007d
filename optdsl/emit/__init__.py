"""Lowered ir to Python text. The only package that knows Jinja."""

from .fused import kernel_text
from .page import emit, is_untouched
from .updates import WAYS, update_text

__all__ = ["WAYS", "emit", "is_untouched", "kernel_text", "update_text"]
