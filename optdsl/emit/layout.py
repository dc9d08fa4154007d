"""Lines of Python that fit: a long one is broken at its brackets, as a formatter would.

In: one logical line with its indentation. Out: the same in lines of at most `WIDTH`
characters, wherever there is a bracket to break at.
"""

import re
import textwrap

WIDTH = 88
_INDENT = "    "
_NAMED = re.compile(r"\w+=(?!=)")
_TARGETS = re.compile(r"(\s*(?:for )?)((?:\w+, )+\w+)( in | = )(.*)$")
_TARGET = r"\w+(?:\[(?:f?\"[^\"]*\"|\w+)\])? = "
_LAMBDA = re.compile(r"\blambda [\w, ]+:")
_LOOSEST_FIRST = [
    re.compile(f" (?:{words}) ")
    for words in (
        "if|else",
        "or",
        "and",
        "==|!=|<=|>=|<|>|in|not in|is|is not",
        r"\+|-",
        r"\*|//?|%|@",
    )
]


def fit(line: str) -> list[str]:
    """The line, in as many lines as it needs."""
    if len(line) <= WIDTH or line.lstrip().startswith("#"):
        return [line] if len(line) <= WIDTH else _comment(line)
    indent = line[: len(line) - len(line.lstrip())]
    if (found := _TARGETS.match(line)) and found.end(3) >= WIDTH:
        head, names, sign, value = found.groups()
        targets = [f"{indent}{_INDENT}{name}," for name in names.split(", ")]
        return [head + "(", *targets, *fit(f"{indent}){sign}{value}")]
    if re.match(rf"\s*{_TARGET}", line) and _chooses(line):
        return _in_brackets(line, indent)
    if found := re.match(
        rf"(\s*(?:{_TARGET}|return |if |elif )?)(.*?)(?:(?<=\S):)?$", line
    ):
        head, value = found.groups()
        if links := _links(value):
            inner = indent + _INDENT
            fits = len(inner + value) <= WIDTH
            lines = [inner + value] if fits else _chained(value, links, inner)
            return [head + "(", *lines, indent + ")"]
        of_item = "[" in head and _has_operators(value)
        if head.strip() and (of_item or _joins_several(value)):
            return _in_brackets(line, indent)
    broken = _last_bracket(line, WIDTH - len(indent))
    if broken is None:
        return _in_brackets(line, indent)
    head, inside, tail = broken
    inner = indent + _INDENT
    parts = split_arguments(inside)
    rounds = _outside(inside, " for ")
    is_call = re.search(r"[\w)\]][(\[]$", head) or len(parts) == 1
    if is_call and len(inner + inside) <= WIDTH and not inside.endswith(","):
        middle = [inner + inside]
    elif rounds:
        value, loop = inside[: rounds[0]], inside[rounds[0] + 1 :]
        middle = [*_argument(value, inner), *fit(inner + loop)]
    elif len(parts) == 1 and not _NAMED.match(inside):
        middle = _argument(inside, inner)
    else:
        middle = [each for part in parts for each in _argument(f"{part},", inner)]
    return [head, *middle, *fit(indent + tail)]


def _argument(part: str, indent: str) -> list[str]:
    """An argument of a call, with its comma: cut at its operators, or its calls."""
    if len(indent + part) <= WIDTH:
        return [indent + part]
    found = _LAMBDA.match(part)
    if found and _has_operators(part[found.end() :]):
        comma = "," * part.endswith(",")
        body = fit_operators(
            part[found.end() :].removesuffix(",").strip(), indent + _INDENT
        )
        return [f"{indent}{found[0]} (", *body, f"{indent}){comma}"]
    name = _NAMED.match(part)
    name, value = (name[0], part[name.end() :]) if name else ("", part)
    if links := _links(value):
        lines = _chained(value, links, indent)
    elif _has_operators(value):
        lines = fit_operators(value, indent, len(name))
    else:
        return fit(indent + part)
    return [indent + name + lines[0].lstrip(), *lines[1:]]


def _joins_several(value: str) -> bool:
    """Whether more than two operands meet at the loosest operators of a value."""
    plain = _without_texts(value)
    cuts = (_cuts(plain, operators) for operators in _LOOSEST_FIRST)
    return len(next(filter(None, cuts), [])) > 1


def _has_operators(value: str) -> bool:
    return any(_cuts(_without_texts(value), each) for each in _LOOSEST_FIRST)


def _links(value: str) -> list[int]:
    """Where the methods of a chain start that are called on the result of a call; none,
    where there are less than two, or the value is more than a chain.
    """
    plain, depth, links = _without_texts(value), 0, []
    if _has_operators(value) or not re.match(r"[\w(]+[.(\[]", value):
        return []
    for at, character in enumerate(plain):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character in ",=" and at < len(plain) - 1:
            return []
        if depth == 0 and plain.startswith(").", at):
            links.append(at + 1)
    return links if len(links) >= 2 else []


def _chained(value: str, links: list[int], indent: str) -> list[str]:
    """A chain of calls, a method a line."""
    ends = [0, *links, len(value)]
    pieces = [value[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    return [line for piece in pieces for line in fit(indent + piece)]


def _chooses(line: str) -> bool:
    """Whether the line is a choice of two values, outside all brackets."""
    return bool(_outside(line, " if "))


def _outside(line: str, word: str) -> list[int]:
    """Where a word stands outside all brackets."""
    found, depth, plain = [], 0, _without_texts(line)
    for at, character in enumerate(plain):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and plain.startswith(word, at):
            found.append(at)
    return found


def _comment(line: str) -> list[str]:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.strip()[2:],
        WIDTH,
        initial_indent=indent + "# ",
        subsequent_indent=indent + "#     ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _last_bracket(line: str, room: int) -> tuple[str, str, str] | None:
    """Head with the opening bracket, inside, and tail with the closing one, of the last
    bracket that is not empty and not inside another, and whose head fits; its tail as
    well, where there is such a one. A bracket that the line only closes does not count.
    """
    found, depth, start = [], 0, 0
    for at, character in enumerate(_without_texts(line)):
        if character in "([{":
            depth += 1
            start = at if depth == 1 else start
        elif character in ")]}" and depth:
            depth -= 1
            if depth == 0 and start < WIDTH and line[start + 1 : at].strip():
                found.append((line[: start + 1], line[start + 1 : at], line[at:]))
    fitting = [each for each in found if len(each[2]) <= room]
    return next(reversed(fitting or found), None)


def _without_texts(line: str) -> str:
    """The line with the inside of every quoted text blanked."""
    return re.sub(
        r'"(?:[^"\\]|\\.)*"', lambda found: '"' + "x" * (len(found[0]) - 2) + '"', line
    )


def split_arguments(inside: str) -> list[str]:
    """The parts of a text between commas that stand outside all brackets, and not between
    the arguments of a lambda.
    """
    parts, depth, start = [], 0, 0
    plain = _LAMBDA.sub(lambda found: "x" * len(found[0]), _without_texts(inside))
    for at, character in enumerate(plain):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(inside[start:at].strip())
            start = at + 1
    last = inside[start:].strip()
    return [*parts, last] if last else parts


def _in_brackets(line: str, indent: str) -> list[str]:
    """An assignment or a return with its value in brackets of its own."""
    found = re.match(r"(\s*(?:[\w.\[\]{}\", ]+ = |return |if |elif ))(.*?)(:?)$", line)
    if not found:
        return [line]
    head, value, colon = found.groups()
    return [head + "(", *fit_operators(value, indent + _INDENT), indent + ")" + colon]


def fit_operators(value: str, indent: str, before: int = 0) -> list[str]:
    """A value over several lines, cut at its loosest operators; each line after the
    first starts with one. Of the first line, some characters are taken `before` it.
    """
    if before + len(indent + value) <= WIDTH:
        return [indent + value]
    plain = _without_texts(value)
    for operators in _LOOSEST_FIRST:
        cuts = [0, *_cuts(plain, operators)]
        if len(cuts) > 1:
            ends = [*cuts[1:], len(value)]
            pieces = [value[a:b].strip() for a, b in zip(cuts, ends, strict=True)]
            return [line for piece in pieces for line in fit(indent + piece)]
    return fit(indent + value)


def _cuts(plain: str, operators: re.Pattern[str]) -> list[int]:
    """Where operators stand outside all brackets."""
    cuts, depth = [], 0
    for at, character in enumerate(plain):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and (found := operators.match(plain, at)):
            cuts.append(found.start() + 1)
    return cuts
