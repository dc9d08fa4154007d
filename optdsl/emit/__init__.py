"""Lowered ir to Python text. The only package that knows Jinja."""

from .fused import DEVICES, kernel_text
from .page import emit, is_untouched
from .updates import WAYS, update_text

__all__ = ["DEVICES", "WAYS", "emit", "is_untouched", "kernel_text", "update_text"]
