"""What can be said of a text before its grammar: characters, quotes and brackets.

In: a Source. Out: the diagnostics of everything that would only confuse the grammar.
"""

import re

from ..diagnostics import Diagnostic, Label
from ..source import LARGEST, Source, Span

_PIECES = re.compile(
    r'(?P<doc>"""(?:.|\n)*?(?P<doc_end>"""|\Z))'
    r'|(?P<text>"[^"\n]*(?P<text_end>"|(?=\n)|\Z))'
    r"|(?P<comment>#[^\n]*)"
    r"|(?P<open>[(\[])|(?P<close>[)\]])"
    r"|(?P<declaration>^(?:optimizer|modifier|about|needs|use|reference|hyper|positional|named|require|state|sparse_grads|def|pre_step|post_step|on_call|mode|step|route)\b"
    r"|^(?:before|update|after)(?= *:))",
    re.MULTILINE,
)
_FOREIGN = re.compile(r"[^A-Za-z0-9_ \n#\"'.,:;=+\-*/%<>!()\[\]|?@]")


def scan(source: Source) -> list[Diagnostic]:
    if len(source.text) > LARGEST:
        size = f"{len(source.text):,} characters, at most {LARGEST:,} are read"
        return [Diagnostic("E0101", "the spec is too large", source, notes=(size,))]
    if not source.text.strip():
        return [_empty(source)]
    found = _characters(source)
    lines = [each.line for each in found]
    return found + [
        each for each in _quotes_and_brackets(source) if each.line not in lines
    ]


def _empty(source: Source) -> Diagnostic:
    return Diagnostic(
        "E0110",
        "the spec is empty",
        source,
        help="start with `optimizer NAME`, a `hyper lr = 1e-3` and a `step:`",
    )


def _characters(source: Source) -> list[Diagnostic]:
    """Characters that no one can see, or that the language has no use for."""
    outside = list(source.text)
    for piece in _PIECES.finditer(source.text):
        if piece.lastgroup and (piece["doc"] or piece["text"] or piece["comment"]):
            outside[piece.start() : piece.end()] = " " * (piece.end() - piece.start())
    found = [
        (at, each)
        for at, each in enumerate(source.text)
        if not each.isprintable() and each not in "\n\t"
    ]
    found += [(each.start(), each[0]) for each in _FOREIGN.finditer("".join(outside))]
    diagnostics, done = [], -1
    for at, character in sorted(set(found)):
        if at < done:
            continue
        done = (source.text + "\n").index("\n", at)
        shown = (
            f"`{character}`" if character.isprintable() else f"U+{ord(character):04X}"
        )
        hint = {
            "^": "powers are written `**`",
            "\t": "indent with spaces",
            "\r": "end lines with a newline alone",
            "{": "conditions and blocks need no braces",
        }.get(character, "")
        label = Label(Span(at, at + 1), hint)
        title = f"{shown} is no character of the language"
        diagnostics.append(Diagnostic("E0103", title, source, label))
        if len(diagnostics) == 5:
            break
    return diagnostics


def _quotes_and_brackets(source: Source) -> list[Diagnostic]:
    diagnostics: list[Diagnostic] = []
    opened: list[re.Match] = []

    def never_closed() -> None:
        first = opened[0]
        label = Label(Span(*first.span()), "opened here")
        diagnostics.append(
            Diagnostic("E0105", f"`{first[0]}` is never closed", source, label)
        )
        opened.clear()

    for piece in _PIECES.finditer(source.text):
        if piece["doc"] is not None and not piece["doc_end"]:
            label = Label(Span(piece.start(), piece.start() + 3), "opened here")
            title = "the docstring is never closed"
            diagnostics.append(Diagnostic("E0104", title, source, label))
        elif piece["text"] is not None and not piece["text_end"]:
            label = Label(
                Span(*piece.span()), 'expected `"` before the end of the line'
            )
            title = "the text is never closed"
            diagnostics.append(Diagnostic("E0104", title, source, label))
        elif piece["open"]:
            opened.append(piece)
        elif piece["close"] and opened:
            opened.pop()
        elif piece["close"]:
            label = Label(Span(*piece.span()), "no bracket is open here")
            title = f"`{piece[0]}` closes nothing"
            diagnostics.append(Diagnostic("E0106", title, source, label))
        elif piece["declaration"] and opened:
            never_closed()
    if opened:
        never_closed()
    return diagnostics
