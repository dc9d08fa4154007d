"""Newlines and indentation between Lark's lexer and its parser.

In: the tokens of the text. Out: the same without newlines inside brackets, after a comma
and before the first word, and with _INDENT and _DEDENT where blocks begin and end.
"""

from collections.abc import Iterator

from lark import Token

from ..source import Span


class Misindented(Exception):
    """A line that starts at a column where no open block does."""

    def __init__(self, span: Span) -> None:
        self.span = span


class Blocks:
    """Lark's postlex interface."""

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        columns, brackets, before = [0], 0, "COMMA"
        for token in stream:
            if token.type == "_NL":
                if brackets or before == "COMMA":
                    continue
                yield token
                yield from self._change(columns, token)
                continue
            brackets += token.type in ("LPAR", "LSQB")
            brackets -= token.type in ("RPAR", "RSQB")
            before = token.type
            yield token
        while len(columns) > 1:
            columns.pop()
            yield Token("_DEDENT", "")

    @staticmethod
    def _change(columns: list[int], newline: Token) -> Iterator[Token]:
        column = len(newline) - newline.rfind("\n") - 1
        ends = newline.end_pos
        if column > columns[-1]:
            columns.append(column)
            yield Token.new_borrow_pos("_INDENT", "", newline)
        while column < columns[-1]:
            columns.pop()
            yield Token.new_borrow_pos("_DEDENT", "", newline)
        if column != columns[-1]:
            raise Misindented(Span(ends - column, ends))
