"""Lark's tree to syntax nodes. In: a Tree and its Source; out: a syntax.Spec."""

from lark import Token, Tree

from .. import syntax
from ..source import Source, Span

DEEPEST = 60
DEEPEST_BLOCKS = 12


class TooDeep(Exception):
    """An expression, or a block, nested deeper than anyone would read."""

    def __init__(self, span: Span, is_block: bool = False) -> None:
        self.span = span
        self.is_block = is_block


def build(tree: Tree, source: Source) -> syntax.Spec:
    _limit_depth(tree)
    doc, declarations = "", []
    for child in tree.children:
        if child is None:
            continue
        if child.data == "docstring":
            doc = _unquoted(child.children[0])
        else:
            declarations.append(_declaration(child))
    return syntax.Spec(doc, tuple(declarations), Span(0, len(source.text)))


def _limit_depth(tree: Tree) -> None:
    pending = [(tree, 0, 0)]
    while pending:
        node, depth, blocks = pending.pop()
        if depth > DEEPEST:
            raise TooDeep(_span(node))
        # A chain of comparisons is flat here, and nested in what it means.
        deeper = len(node.children) // 2 if node.data == "compare" else 1
        below = [each for each in node.children if isinstance(each, Tree)]
        blocks += any(each.data == "block" for each in below)
        if blocks > DEEPEST_BLOCKS:
            start = node.meta.start_pos
            raise TooDeep(Span(start, start + len(node.data)), is_block=True)
        pending += [(each, depth + deeper, blocks) for each in below]


def _span(node: Tree | Token) -> Span:
    if isinstance(node, Token):
        return Span(node.start_pos, node.end_pos)
    return Span(node.meta.start_pos, node.meta.end_pos)


def _unquoted(token: Token) -> str:
    quotes = 3 if token.type == "DOCSTRING" else 1
    return str(token)[quotes:-quotes]


def _identifier(token: Token) -> syntax.Identifier:
    return syntax.Identifier(str(token), _span(token))


def _text(token: Token | None) -> syntax.Text | None:
    return None if token is None else syntax.Text(_unquoted(token), _span(token))


def _declaration(tree: Tree) -> syntax.Declaration:
    span, parts = _span(tree), tree.children
    match tree.data:
        case "optimizer":
            return syntax.Header(_identifier(parts[0]), span)
        case "modifier":
            return syntax.Modifier(_identifier(parts[0]), span)
        case "about":
            return syntax.About(_text(parts[0]), span)
        case "needs":
            return syntax.Needs(tuple(map(_identifier, parts[0].children)), span)
        case "use":
            name, *settings = parts
            keywords = (_keyword(each) for each in settings if each is not None)
            return syntax.Use(_identifier(name), tuple(keywords), span)
        case "reference":
            return syntax.Reference(".".join(map(str, parts)), span)
        case "hyper":
            name, kind, default, limits, doc = parts
            return syntax.Hyper(
                _identifier(name),
                kind and _type(kind),
                _expression(default),
                limits and _range(limits),
                _text(doc),
                span,
            )
        case "require":
            return syntax.Require(_expression(parts[0]), _text(parts[1]), span)
        case "state":
            name, listed, place, initial, when, doc = parts
            index, count = listed.children if listed else (None, None)
            return syntax.State(
                _identifier(name),
                place and _identifier(place),
                _expression(initial),
                when and _expression(when),
                _text(doc),
                span,
                index and _identifier(index),
                count and _expression(count),
            )
        case "counter":
            name, kind = parts
            return syntax.Counter(_identifier(name), kind and _identifier(kind), span)
        case "positional":
            names = tuple(map(_identifier, parts[0].children))
            return syntax.Positional(names, span)
        case "named":
            return syntax.Named(tuple(map(_identifier, parts[0].children)), span)
        case "sparse":
            only = isinstance(parts[0], Token)
            when = None if only or parts[0] is None else _expression(parts[0])
            return syntax.Sparse(only, when, span)
        case "function":
            name, names, body = parts
            parameters = tuple(map(_identifier, names.children)) if names else ()
            statements = (
                _block(body)
                if body.data == "block"
                else (syntax.Return(_expression(body), _span(body)),)
            )
            return syntax.Function(_identifier(name), parameters, statements, span)
        case "hook":
            return syntax.Hook(
                str(parts[0]), _identifier(parts[1]), _block(parts[2]), span
            )
        case "point":
            return syntax.Point(_identifier(parts[0]), _block(parts[1]), span)
        case "step":
            return syntax.Step(_block(parts[0]), span)
        case "route":
            return syntax.Route(tuple(map(_case, parts)), span)
    raise AssertionError(tree.data)


def _case(tree: Tree) -> syntax.Case:
    parts = tree.children
    has_condition = isinstance(parts[0], Tree)
    asked = _expression(parts[0]) if has_condition else None
    name, *settings = parts[has_condition:]
    keywords = tuple(_keyword(each) for each in settings if each is not None)
    return syntax.Case(asked, _identifier(name), keywords, _span(tree))


def _type(tree: Tree) -> syntax.Type:
    if tree.data == "choice_type":
        *choices, none = tree.children
        return syntax.Type(
            "choice", none is not None, tuple(map(_text, choices)), _span(tree)
        )
    name, optional = tree.children
    return syntax.Type(str(name), optional is not None, (), _span(tree))


def _range(tree: Tree) -> syntax.Range:
    left, low, high, right = tree.children
    return syntax.Range(
        _expression(low), _expression(high), left == "[", right == "]", _span(tree)
    )


def _block(tree: Tree) -> tuple[syntax.Statement, ...]:
    return tuple(_statement(each) for each in tree.children)


def _statement(tree: Tree | Token) -> syntax.Statement:
    if isinstance(tree, Token):
        return syntax.Skip(_span(tree))
    span, parts = _span(tree), tree.children
    match tree.data:
        case "assign":
            return _assign(parts[0], "", parts[1], span)
        case "augment":
            target, operator, value = parts
            return _assign(target, str(operator)[:-1], value, span)
        case "unpack":
            targets = tuple(map(_identifier, parts[0].children))
            return syntax.Unpack(targets, _expression(parts[1]), span)
        case "return":
            return syntax.Return(_expression(parts[0]), span)
        case "if":
            return _branches([each for each in parts if each is not None], span)
        case "repeat":
            return syntax.Repeat(_expression(parts[0]), _block(parts[1]), span)
        case "for":
            index, count, body = parts
            return syntax.Repeat(
                _expression(count), _block(body), span, _identifier(index)
            )
        case "complex":
            return syntax.Complex(_block(parts[0]), span)
    raise AssertionError(tree.data)


def _assign(target: Tree, operator: str, value: Tree, span: Span) -> syntax.Assign:
    name, index = target.children
    index = index and _expression(index)
    return syntax.Assign(_identifier(name), operator, _expression(value), span, index)


def _branches(parts: list[Tree], span: Span) -> syntax.If:
    condition, then, *rest = parts
    if len(rest) > DEEPEST:
        raise TooDeep(_span(rest[0]))
    otherwise: tuple[syntax.Statement, ...] = ()
    if rest and rest[0].data == "elif":
        below = rest[0].children + rest[1:]
        otherwise = (_branches(below, _span(rest[0])),)
    elif rest:
        otherwise = _block(rest[0].children[0])
    return syntax.If(_expression(condition), _block(then), otherwise, span)


def _expression(tree: Tree) -> syntax.Expression:
    span, parts = _span(tree), tree.children
    match tree.data:
        case "number":
            return syntax.Number(str(parts[0]), span)
        case "string":
            return syntax.Text(_unquoted(parts[0]), span)
        case "constant":
            return syntax.Constant(str(parts[0]), span)
        case "name":
            return syntax.Name(str(parts[0]), span)
        case "group":
            return _expression(parts[0])
        case "tuple":
            return syntax.Tuple(tuple(map(_expression, parts)), span)
        case "index":
            return syntax.Index(_expression(parts[0]), _expression(parts[1]), span)
        case "call":
            return _call(parts, span)
        case "sum" | "product" | "power":
            left, operator, right = parts
            return syntax.Binary(
                str(operator), _expression(left), _expression(right), span
            )
        case "or" | "and":
            return syntax.Binary(tree.data, *map(_expression, parts), span)
        case "negative":
            sign, operand = parts
            value = _expression(operand)
            return value if sign == "+" else syntax.Unary("-", value, span)
        case "not":
            return syntax.Unary("not", _expression(parts[0]), span)
        case "compare":
            operators = tuple(map(str, parts[1::2]))
            return syntax.Compare(operators, tuple(map(_expression, parts[::2])), span)
        case "choose":
            then, condition, otherwise = map(_expression, parts)
            return syntax.Choose(condition, then, otherwise, span)
    raise AssertionError(tree.data)


def _call(parts: list, span: Span) -> syntax.Call:
    name, *arguments = parts
    positional, keywords = [], []
    for each in arguments:
        if each is None:
            continue
        if each.data == "keyword":
            keywords.append(_keyword(each))
        else:
            positional.append(_expression(each))
    return syntax.Call(_identifier(name), tuple(positional), tuple(keywords), span)


def _keyword(tree: Tree) -> syntax.Keyword:
    key, value = tree.children
    return syntax.Keyword(_identifier(key), _expression(value), _span(tree))
