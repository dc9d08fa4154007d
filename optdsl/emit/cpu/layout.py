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
    if len(line) <= WIDTH:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    plain = line.strip()
    more, end = "    ", ""
    if plain.startswith("//"):
        more = "//     "
    elif plain.startswith("#"):
        end = " \\"
    lines = textwrap.wrap(
        plain,
        WIDTH - len(end),
        initial_indent=indent,
        subsequent_indent=indent + more,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [*(each + end for each in lines[:-1]), lines[-1]]
