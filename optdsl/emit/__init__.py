"""Lowered ir to Python text. The only package that knows Jinja."""

from .fused import DEVICES, kernel_text
from .page import emit, is_untouched
from .route import emit_route
from .updates import WAYS, update_text

__all__ = [
    "DEVICES",
    "WAYS",
    "emit",
    "emit_route",
    "is_untouched",
    "kernel_text",
    "update_text",
]
