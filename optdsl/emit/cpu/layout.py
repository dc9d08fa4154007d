"""Lines of C++ that fit, and comments that stay comments."""

import textwrap

WIDTH = 88


def comment(text: str) -> list[str]:
    """A text of the spec as comment lines: nothing in it ends the line or the kernel."""
    plain = "".join(each if each.isprintable() else "?" for each in text)
    plain = plain.replace("\\", "/").replace('"""', "'''")
    return textwrap.wrap(
        plain, WIDTH - 12, initial_indent="// ", subsequent_indent="//     "
    )


def fit(line: str) -> list[str]:
    """A line in as many lines as it needs, broken at its spaces."""
    if len(line) <= WIDTH or line.lstrip().startswith(("//", "#")):
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.strip(),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
