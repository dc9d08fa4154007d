"""Comments of a kernel in Python that stay comments."""

import textwrap

from ..layout import WIDTH


def comment(text: str, indent: str = "") -> list[str]:
    """A text of the spec as comment lines: nothing in it ends the line or the kernel."""
    plain = "".join(each if each.isprintable() else "?" for each in text)
    plain = plain.replace("\\", "/").replace('"""', "'''")
    return textwrap.wrap(
        plain,
        WIDTH - 12,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}#     ",
    )
