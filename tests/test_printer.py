"""What the printer writes, Python reads as the same tree; a line that is broken to fit
means what it meant.
"""

import ast
import keyword
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import every, examples

from optdsl import ir
from optdsl.emit.expr import INFIX, text
from optdsl.emit.layout import WIDTH, fit
from optdsl.source import Span

AT = Span(0, 0)
A = ir.Ref("a", ir.Role.LOCAL, ir.TENSOR, AT)
LEAVES = (A, ir.Const("5.", ir.NUMBER, AT))
LEVELS = ("or", "and", "<", "-", "/", "**")  # one operator of each binding strength
BINARY = (
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "@",
    "**",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "and",
    "or",
)


def op(name: str, arity: int, in_place: bool = False, **keywords: ir.Expr):
    def make(*arguments: ir.Expr) -> ir.Op:
        return ir.Op(name, arguments, tuple(keywords.items()), ir.TENSOR, AT, in_place)

    return arity, make


def binary(operator: str):
    return 2, lambda left, right: ir.Binary(operator, left, right, ir.NUMBER, AT)


OTHERS = (
    (1, lambda x: ir.Unary("-", x, ir.NUMBER, AT)),
    (1, lambda x: ir.Unary("not", x, ir.FLAG, AT)),
    (3, lambda x, y, z: ir.Choose(x, y, z, ir.NUMBER, AT)),
    (2, lambda x, y: ir.Pack((x, y), ir.Type(element="tuple", length=2), AT)),
    (1, lambda x: ir.Pack((x,), ir.Type(element="tuple", length=1), AT)),
    (1, lambda x: ir.Index(x, 1, ir.NUMBER, AT)),
    (2, lambda x, y: ir.Call("max", (x, y), ir.NUMBER, AT)),
    (1, lambda x: ir.Call("ndim", (x,), ir.NUMBER, AT)),
    (1, lambda x: ir.Call("size", (x,), ir.NUMBER, AT, (-1,))),
    (1, lambda x: ir.Invoke("f", (x, A), ir.NUMBER, AT)),
    op("sub", 2),
    op("div", 2),
    (2, lambda x, y: ir.Op("add", (x, y), (("alpha", y),), ir.TENSOR, AT)),
    op("neg", 1),
    op("sqrt", 1),
    op("where", 3),
    op("sum", 1, dim=ir.Const("(-2, -1)", ir.NUMBER, AT)),
    op("mul", 2, in_place=True),
    op("neg", 1, in_place=True),
)  # fmt: skip
ALIKE = (  # these bind like one of the others
    (1, lambda x: ir.Call("numel", (x,), ir.NUMBER, AT)),
    (1, lambda x: ir.Call("item", (x,), ir.NUMBER, AT)),
    (1, lambda x: ir.Call("finfo_eps", (x,), ir.NUMBER, AT)),
    (1, lambda x: ir.Call("is_tensor", (x,), ir.FLAG, AT)),
    (1, lambda x: ir.Call("is_complex", (x,), ir.FLAG, AT)),
    (1, lambda x: ir.Call("is_sparse", (x,), ir.FLAG, AT)),
    op("bfloat16", 1),
    op("mT", 1),
    op("linalg.vector_norm", 1),
    op("addmm", 3),
)
SHAPES = (*map(binary, BINARY), *(op(each, 2) for each in INFIX), *OTHERS, *ALIKE)
_PYTHON = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.MatMult: "@", ast.Pow: "**", ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<",
    ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.And: "and",
    ast.Or: "or", ast.USub: "-", ast.Not: "not",
}  # fmt: skip


def meant(expr: ir.Expr):
    """The tree that the text of an expression has to have."""
    below = [meant(each) for each in ir.children(expr)]
    match expr:
        case ir.Const():
            return read(ast.parse(expr.text, mode="eval").body)
        case ir.Ref():
            return expr.name
        case ir.Unary() | ir.Binary():
            return (expr.operator, *below)
        case ir.Choose():
            return ("if", *below)
        case ir.Pack():
            return ("tuple", *below)
        case ir.Index():
            return ("index", *below, expr.index)
        case ir.Call("ndim" | "is_sparse"):
            return ("attribute", *below, expr.function)
        case ir.Call("numel" | "item"):
            return ("call", ("attribute", *below, expr.function), ())
        case ir.Call("is_complex"):
            return ("call", ("attribute", "torch", "is_complex"), (), *below)
        case ir.Call("is_tensor"):
            return ("call", "isinstance", (), *below, "Tensor")
        case ir.Call("finfo_eps"):
            dtype = ("attribute", *below, "dtype")
            info = ("call", ("attribute", "torch", "finfo"), (), dtype)
            return ("attribute", info, "eps")
        case ir.Call("size"):
            return ("index", ("attribute", *below, "shape"), *expr.dim)
        case ir.Call() | ir.Invoke():
            return ("call", {"f": "_f"}.get(expr.function, expr.function), (), *below)
    if expr.name == "neg" and not expr.in_place:
        return ("-", *below)
    if expr.name in INFIX and not expr.in_place and not expr.keywords:
        return (INFIX[expr.name], *below)
    keywords = tuple((name, meant(value)) for name, value in expr.keywords)
    arguments = below[: len(expr.arguments)]
    if expr.name == "mT":
        return ("attribute", *arguments, "mT")
    if expr.name in ("where", "linalg.vector_norm", "addmm"):
        function = read(ast.parse(f"torch.{expr.name}", mode="eval").body)
        return ("call", function, keywords, *arguments)
    method = ("attribute", arguments[0], expr.name + "_" * expr.in_place)
    return ("call", method, keywords, *arguments[1:])


def read(node: ast.expr):
    """Python's tree in the same form; `a and b and c` is `(a and b) and c`."""
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name):
            return name
        case ast.UnaryOp(ast.USub(), ast.Constant(value)):
            return -value
        case ast.UnaryOp(operator, operand):
            return (_PYTHON[type(operator)], read(operand))
        case ast.BinOp(left, operator, right):
            return (_PYTHON[type(operator)], read(left), read(right))
        case ast.Compare(left, [operator], [right]):
            return (_PYTHON[type(operator)], read(left), read(right))
        case ast.BoolOp(operator, [first, *rest]):
            result = read(first)
            for each in rest:
                result = (_PYTHON[type(operator)], result, read(each))
            return result
        case ast.IfExp(condition, then, otherwise):
            return ("if", read(condition), read(then), read(otherwise))
        case ast.Tuple(items):
            return ("tuple", *map(read, items))
        case ast.Subscript(value, index):
            return ("index", read(value), read(index))
        case ast.Attribute(value, name):
            return ("attribute", read(value), name)
        case ast.Call(function, arguments, keywords):
            named = tuple((each.arg, read(each.value)) for each in keywords)
            return ("call", read(function), named, *map(read, arguments))
    raise AssertionError(ast.dump(node))


def folded(tree):
    """A minus before a number is a negative number."""
    if not isinstance(tree, tuple):
        return tree
    tree = tuple(map(folded, tree))
    if len(tree) == 2 and tree[0] == "-" and isinstance(tree[1], (int, float)):
        return -tree[1]
    return tree


def assert_read_as_meant(expr: ir.Expr) -> None:
    written = text(expr, lambda ref: ref.name)
    assert folded(read(ast.parse(written, mode="eval").body)) == folded(meant(expr)), (
        written
    )


def written_behind(expr: ir.Expr) -> bool:
    """Whether it is written behind its first operand, which is then a tensor."""
    behind = ("ndim", "size", "numel", "item", "finfo_eps", "is_sparse")
    return isinstance(expr, (ir.Index, ir.Op)) or (
        isinstance(expr, ir.Call) and expr.function in behind
    )


def spines(depth: int):
    """Every tree with one branch of that depth, and leaves beside it."""
    if depth == 0:
        yield from LEAVES
        return
    for below, (arity, make) in product(
        list(spines(depth - 1)), (*map(binary, LEVELS), *OTHERS)
    ):
        for at in range(arity):
            made = make(*(below if at == each else A for each in range(arity)))
            on_a_number = at == 0 and below == LEAVES[1] and written_behind(made)
            if not on_a_number:
                yield made


def test_every_tree_of_depth_two_is_read_as_meant():
    flat = [make(*(A,) * arity) for arity, make in SHAPES]
    for arity, make in SHAPES:
        for operands in every(4, product([A, *flat], repeat=min(arity, 2))):
            assert_read_as_meant(make(*operands, *(A,) * (arity - len(operands))))


def test_every_branch_of_depth_three_is_read_as_meant():
    for expr in every(8, spines(3)):
        assert_read_as_meant(expr)


@pytest.mark.parametrize("operator, spelled", [("==", "is"), ("!=", "is not")])
def test_none_is_compared_by_identity(operator, spelled):
    none = ir.Const("None", ir.NOTHING, AT)
    assert (
        text(ir.Binary(operator, A, none, ir.FLAG, AT), lambda ref: ref.name)
        == f"a {spelled} None"
    )


# ---- lines that fit

names = st.from_regex(r"[a-z][a-z_]{0,11}", fullmatch=True).filter(
    lambda each: not keyword.iskeyword(each)
)
texts = st.text("abc ()[]{},=+-'\"#\\", max_size=20).map(
    lambda each: '"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"'
)


def call(name: str, arguments: list[str], keywords: dict[str, str]) -> str:
    return (
        f"{name}({', '.join([*arguments, *(f'{k}={v}' for k, v in keywords.items())])})"
    )


def larger(inner):
    several = st.lists(inner, min_size=1, max_size=5)
    return st.one_of(
        st.builds(
            call,
            names,
            st.lists(inner, max_size=4),
            st.dictionaries(names, inner, max_size=2),
        ),
        st.builds("({}).{}({})".format, inner, names, inner),
        several.map(lambda each: f"({' + '.join(each)})"),
        several.map(lambda each: f"({' and '.join(each)})"),
        several.map(lambda each: f"(not ({' and '.join(each)}))"),
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from("+ - * / // % @ or == != < <= >=".split()),
            inner,
        ),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("({} and 0 <= {} < {})".format, inner, inner, inner),
        inner.map("({},)".format),
        st.builds("{}[{}]".format, names, inner),
    )


values = st.recursive(
    names | texts | st.sampled_from(["1", "1e-3"]), larger, max_leaves=30
)
chains = st.lists(values, min_size=1, max_size=4).map(" + ".join)
starts = st.sampled_from(
    ["x = {}", "return {}", 'group["lr"] = {}', "if {}:", "if not ({}):", "x.mul_({})"]
)


MANY = ", ".join(f"a_state_of_the_parameter_{number}" for number in range(5))
TARGETS = (f"{MANY} = {{}}", f"for {MANY} in {{}}:")


def tree_of(lines: list[str]) -> str:
    body = [*lines, "        pass"] if lines[-1].endswith(":") else lines
    return ast.dump(ast.parse("\n".join(["def f():", *body])))


@examples(200)
@given(start=starts | st.sampled_from(TARGETS), value=chains)
def test_a_line_broken_to_fit_means_the_same(start, value):
    line = "    " + start.format(value)
    assert tree_of(fit(line)) == tree_of([line]), fit(line)


@examples(200)
@given(start=starts, value=chains)
def test_no_line_is_too_long_that_has_a_bracket_to_break_at(start, value):
    line = "    " + start.format(value)
    for each in fit(line):
        assert len(each) <= WIDTH, "\n".join(fit(line))


@pytest.mark.parametrize("start", TARGETS)
@pytest.mark.parametrize(
    "value", ["(a if a else b.clone() for a in kept)", f"zip({MANY})"]
)
def test_names_that_do_not_fit_stand_in_brackets(start, value):
    line = "    " + start.format(value)
    broken = fit(line)
    assert tree_of(broken) == tree_of([line])
    assert max(map(len, broken)) <= WIDTH, broken
