"""Lark's exceptions as diagnostics: what was found, what could stand there instead.

Three places where Lark points elsewhere than a reader would: the end of a line is a
token that starts before its comment, the end of the file has the place of the last
token, and a word is reported without the kind of name it stands for.
"""

from lark import Token
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from ..diagnostics import Diagnostic, Label, did_you_mean
from ..source import Source, Span
from .blocks import Misindented
from .build import DEEPEST, DEEPEST_BLOCKS, TooDeep

_PLANNED = {
    "store": "storage declarations",
}
_DECLARATIONS = (
    "optimizer", "reference", "hyper", "positional", "named", "require", "state",
    "sparse_grads", "def", "pre_step", "post_step", "on_call", "mode", "step",
    "use", "modifier", "about", "needs", "before", "update", "after", "route",
)  # fmt: skip
_WORDS = (
    "and",
    "complex",
    "elif",
    "else",
    "for",
    "if",
    "in",
    "not",
    "or",
    "repeat",
    "return",
    "skip",
    "when",
)
_OPENERS = ("if", "elif", "for", "repeat", "complex")
_EXPRESSION = {"NAME", "NUMBER"}
_SPELLED = {
    "COLON": "`:`", "EQUAL": "`=`", "COMMA": "`,`", "RPAR": "`)`", "RSQB": "`]`",
    "LPAR": "`(`", "LSQB": "`[`", "STRING": "a text in quotes", "NAME": "a name",
    "_INDENT": "an indented block", "IN": "`in`", "IF": "`if`", "ELSE": "`else`",
    "_NL": "the end of the line", "PHASE": "`pre_step`", "STEP": "`step`",
    "RANGE": "`range`",
}  # fmt: skip


def blame(error: Exception, source: Source) -> Diagnostic:
    match error:
        case Misindented(span=span):
            label = Label(span, "no open block starts at this column")
            return Diagnostic(
                "E0107", "the indentation matches no block", source, label
            )
        case TooDeep(span=span, is_block=True):
            title = f"blocks are nested more than {DEEPEST_BLOCKS} levels deep"
            help = "what the inner ones do can be a def"
            return Diagnostic("E0109", title, source, Label(span), help=help)
        case TooDeep(span=span):
            label = Label(span, "")
            title = f"the expression is nested more than {DEEPEST} levels deep"
            help = "name a part of it in a statement of its own"
            return Diagnostic("E0109", title, source, label, help=help)
        case UnexpectedToken(token=token):
            return _token(token, error.accepts or error.expected, source)
        case UnexpectedCharacters(pos_in_stream=at):
            return _character(at, source)
        case _:
            raise AssertionError(error)


_INSTEAD = {
    "'": 'texts stand in double quotes `"`',
    "!": "write `not`, or `!=`",
    ".": "names have no attributes: `sqrt(x)`, not `x.sqrt()`",
}


def _character(at: int, source: Source) -> Diagnostic:
    character = source.text[at] if at < len(source.text) else ""
    label = Label(Span(at, at + 1))
    if character in _PLANNED:
        return _planned(character, label.span, source)
    title = f"`{character}` does not belong here"
    hint = _INSTEAD.get(character, "")
    return Diagnostic("E0108", title, source, Label(label.span, hint))


def _no_block(at: int, source: Source) -> Diagnostic:
    """A line that ends in a colon, and the next one is not indented."""
    colon = source.text.rindex(":", 0, at)
    label = Label(Span(colon, colon + 1), "indent the lines that belong to it")
    return Diagnostic("E0108", "the block is missing", source, label)


def _planned(word: str, span: Span, source: Source) -> Diagnostic:
    title = f"{_PLANNED[word]} (`{word}`) are not in this version of the language"
    return Diagnostic("E0601", title, source, Label(span))


def _token(token: Token, accepted: set[str], source: Source) -> Diagnostic:
    at = token.start_pos if token.start_pos is not None else len(source.text)
    ends = token.type in ("_NL", "_DEDENT", "$END")
    if ends:
        at = min(at, len(source.text))
        span, found = Span(at, at + 1), "the line ends"
    elif token.type == "_INDENT":
        title = "this line is indented, but no block is open"
        label = Label(Span(token.end_pos, token.end_pos + 1))
        help = "blocks follow a line that ends in `:`"
        return Diagnostic("E0107", title, source, label, help=help)
    else:
        span, found = Span(token.start_pos, token.end_pos), f"`{token.value}`"
    if "_INDENT" in accepted and token.type != "_NL":
        return _no_block(span.start, source)
    if token.value in _PLANNED and ("HYPER" in accepted or "IF" in accepted):
        return _planned(token.value, span, source)
    before = source.text[: span.start].rpartition("\n")[2].split()
    if before == ["use"]:
        label = Label(
            span, "a plain name: of the library, or of a file beside this one"
        )
        wrong = "the line ends too early" if ends else f"{found} names no modifier"
        return Diagnostic("E0108", wrong, source, label)
    if before[:1] == ["for"] and accepted & {"IN", "RANGE"}:
        label = Label(span, "a loop is written `for i in range(5):`, or `repeat 5:`")
        return Diagnostic("E0108", f"{found} does not belong here", source, label)
    if before[:1] == ["while"] and "AUGMENT" in accepted:
        label = Label(span, "a loop is written `repeat 5:`")
        return Diagnostic("E0108", f"{found} does not belong here", source, label)
    if len(before) > 1 and before[-1] in _OPENERS and "AUGMENT" in accepted:
        label = Label(span, f"`{before[-1]}` starts a line of its own")
        return Diagnostic("E0108", f"{found} does not belong here", source, label)
    if before and before[0] in _PLANNED and "AUGMENT" in accepted:
        start = source.text.rfind("\n", 0, span.start) + 1
        start = source.text.index(before[0], start)
        return _planned(before[0], Span(start, start + len(before[0])), source)
    hint = _expected(token, accepted)
    if not before and token.type == "NAME" and "TIMES" in accepted:
        hint = "a bracket of a line above is still open"
    if ends:
        return Diagnostic("E0108", "the line ends too early", source, Label(span, hint))
    return Diagnostic(
        "E0108", f"{found} does not belong here", source, Label(span, hint)
    )


def _expected(token: Token, accepted: set[str]) -> str:
    if "HYPER" in accepted and "IF" not in accepted:
        near = did_you_mean(token.value, _DECLARATIONS)
        return near or "a declaration starts here: " + ", ".join(_DECLARATIONS)
    words = [each for each in _WORDS if each.upper() in accepted]
    if token.type == "NAME" and (near := did_you_mean(token.value, words)):
        return near
    if token.value in _INSTEAD:
        return _INSTEAD[token.value]
    if token.type == "EQUAL" and "COMPARE" in accepted:
        return "comparison is written `==`"
    if token.type == "NAME" and "TIMES" in accepted:
        return "write `*` for a product"
    if _EXPRESSION <= accepted:
        return "expected an expression"
    named = [_SPELLED[each] for each in _SPELLED if each in accepted]
    if "AUGMENT" in accepted:
        return "a statement assigns: expected `=` or `+=`"
    if not named or len(named) > 4:
        return ""
    return "expected " + (
        " or ".join([", ".join(named[:-1]), named[-1]]) if named[1:] else named[0]
    )
