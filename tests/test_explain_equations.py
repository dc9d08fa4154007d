"""The equations that `optdsl explain` prints mean what the rule does: they are run as
they are printed, and the LaTeX of every small expression is read back.
"""

import copy
import dataclasses
import math
import re
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from built import of_library
from printed_equations import FUNCTIONS, program, run, value

from optdsl import interpret, ir, resources
from optdsl.evaluate import evaluate
from optdsl.explain.equations import equations, scope_letters, starts
from optdsl.explain.formula import Letter
from optdsl.explain.known import defaults
from optdsl.explain.latex import latex
from optdsl.explain.options import choices
from optdsl.explain.plain import plain
from optdsl.explain.reading import Reading, whenever
from optdsl.explain.symbols import letters
from optdsl.pipeline import build
from optdsl.source import Source, Span

LIBRARY = [*resources.library()]
AT = Span(0, 0)
LEAF = ir.Ref("_", ir.Role.HYPER, ir.NUMBER, AT)
NAMES = "abcdehkmnuvw"
VALUES = dict(zip(NAMES, (1.7, 2.3, 0.6, 1.1, 2.9, 0.8, 1.3, 1.9, 0.7, 2.1, 1.2, 3.1),
                  strict=True))  # fmt: skip
READING = Reading({each: Letter(each, each) for each in NAMES}, whenever, {})


def rule(spec: str) -> ir.Rule:
    return of_library(spec).checked


def ruled(body: str) -> ir.Rule:
    text = f"optimizer Mine\nhyper lr = 1e-2\n{body}\n"
    return build(Source("mine.opt", text)).checked


# ---- expressions

NUMBERS = [
    *(
        (2, lambda x, y, sign=sign: ir.Binary(sign, x, y, ir.NUMBER, AT))
        for sign in ("+", "-", "*", "/", "**", "//", "%")
    ),
    (1, lambda x: ir.Unary("-", x, ir.NUMBER, AT)),
    (1, lambda x: ir.Call("sqrt", (x,), ir.NUMBER, AT)),
    (1, lambda x: ir.Call("abs", (x,), ir.NUMBER, AT)),
    (2, lambda x, y: ir.Call("max", (x, y), ir.NUMBER, AT)),
    (1, lambda x: ir.Binary("**", x, ir.Const("2", ir.NUMBER, AT), ir.NUMBER, AT)),
    (1, lambda x: ir.Binary("**", x, ir.Const("0.5", ir.NUMBER, AT), ir.NUMBER, AT)),
    (1, lambda x: ir.Binary("*", ir.Const("2e-1", ir.NUMBER, AT), x, ir.NUMBER, AT)),
    (1, lambda x: ir.Binary("-", x, ir.Const("1e-1", ir.NUMBER, AT), ir.NUMBER, AT)),
]
FLAGS = [
    *(
        (2, lambda x, y, sign=sign: ir.Binary(sign, x, y, ir.FLAG, AT))
        for sign in ("<", "!=", ">=")
    ),
]
LOGIC = [
    (2, lambda x, y: ir.Binary("and", x, y, ir.FLAG, AT)),
    (2, lambda x, y: ir.Binary("or", x, y, ir.FLAG, AT)),
    (1, lambda x: ir.Unary("not", x, ir.FLAG, AT)),
]


def named(expr: ir.Expr) -> ir.Expr:
    """The tree with another name at each leaf, so that none can change its place."""
    names = iter(NAMES)

    def leaf(each: ir.Expr) -> ir.Expr:
        if each == LEAF:
            return ir.Ref(next(names), ir.Role.HYPER, ir.NUMBER, AT)
        return ir.mapped(each, leaf)

    return leaf(expr)


def made(shapes: list, below: list[ir.Expr]) -> Iterator[ir.Expr]:
    for arity, make in shapes:
        yield from (make(*each) for each in product(below, repeat=arity))


def numbers() -> Iterator[ir.Expr]:
    """Every tree of depth two, and those of depth three with one branch."""
    flat = list(made(NUMBERS, [LEAF]))
    two = list(made(NUMBERS, [LEAF, *flat]))
    yield from two
    for arity, make in NUMBERS:
        for deep in made(NUMBERS, flat[:8]):
            for at in range(arity):
                yield make(*(deep if at == each else LEAF for each in range(arity)))


def conditions() -> Iterator[ir.Expr]:
    sums = [LEAF, ir.Binary("+", LEAF, LEAF, ir.NUMBER, AT)]
    compared = list(made(FLAGS, sums))
    some = compared[::5]
    once = list(made(LOGIC, some))
    yield from made(LOGIC, [some[0], some[1], *once[::3]])
    for asked, x, y in product(once[::7], sums, sums):
        choice = ir.Choose(asked, x, y, ir.NUMBER, AT)
        yield choice
        yield ir.Binary("*", choice, LEAF, ir.NUMBER, AT)
        yield ir.Choose(asked, choice, choice, ir.NUMBER, AT)


def meant(expr: ir.Expr) -> Any:
    try:
        return evaluate(expr, lambda ref: VALUES[ref.name])
    except (ArithmeticError, ValueError):
        return None


def same(left: Any, right: Any) -> bool:
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)


def test_plain_expressions_have_the_brackets_that_their_value_needs() -> None:
    tried = 0
    for expr in map(named, (*numbers(), *conditions())):
        result = meant(expr)
        if result is not None:
            text = plain(READING.formula(expr))
            assert same(value(text, VALUES), result), text
            tried += 1
    assert tried > 5000


class Read:
    """The value of LaTeX as a reader of mathematics finds it."""

    TOKEN = re.compile(
        r"\\left\\[a-z]+|\\right\\[a-z]+|\\left.|\\right.|\\[a-z]+|\\,|\d+(?:\.\d+)?|[a-z]|[{}^+\-,]"
    )

    def __init__(self, text: str) -> None:
        self.tokens = self.TOKEN.findall(text)
        assert "".join(self.tokens) == text.replace(" ", ""), text

    def take(self, token: str) -> bool:
        if self.tokens[:1] == [token]:
            self.tokens.pop(0)
            return True
        return False

    def expect(self, token: str) -> None:
        assert self.take(token), (token, self.tokens)

    def sum(self) -> float:
        result = -self.term() if self.take("-") else self.term()
        while self.tokens[:1] in (["+"], ["-"]):
            sign = 1 if self.tokens.pop(0) == "+" else -1
            result += sign * self.term()
        return result

    def term(self) -> float:
        result = self.factor()
        while self.take(r"\,") or self.take(r"\cdot"):
            result *= self.factor()
        return result

    def factor(self) -> float:
        base = self.atom()
        if self.take("^"):
            exponent = self.braced()
            assert self.tokens[:1] != ["^"], "two exponents"
            return base**exponent
        return base

    def braced(self) -> float:
        self.expect("{")
        result = self.sum()
        self.expect("}")
        return result

    def fenced(self, left: str, right: str) -> list[float]:
        self.expect(rf"\left{left}")
        items = [self.sum()]
        while self.take(","):
            items.append(self.sum())
        self.expect(rf"\right{right}")
        return items

    def atom(self) -> float:
        match self.tokens[0]:
            case r"\frac":
                self.tokens.pop(0)
                top = self.braced()
                return top / self.braced()
            case r"\sqrt":
                self.tokens.pop(0)
                return math.sqrt(self.braced())
            case r"\left(":
                (inner,) = self.fenced("(", ")")
                return inner
            case r"\left|":
                (inner,) = self.fenced("|", "|")
                return abs(inner)
            case r"\left\lfloor":
                (inner,) = self.fenced(r"\lfloor", r"\rfloor")
                return math.floor(inner)
            case r"\max":
                self.tokens.pop(0)
                return max(self.fenced("(", ")"))
            case r"\operatorname":
                del self.tokens[:6]  # {mod}
                x, y = self.fenced("(", ")")
                return x % y
        token = self.tokens.pop(0)
        return VALUES[token] if token in VALUES else float(token)


def test_latex_has_the_brackets_that_its_value_needs() -> None:
    tried = 0
    for expr in map(named, numbers()):
        result = meant(expr)
        if result is not None:
            text = latex(READING.formula(expr))
            reader = Read(text)
            assert same(reader.sum(), result) and not reader.tokens, text
            tried += 1
    assert tried > 5000


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("lerp(m, grad, 1 - beta1)", "β1·m + (1 - β1)·g"),
        ("lerp(m, grad, beta1)", "(1 - β1)·m + β1·g"),
        ("m/(a*b)/b*m", "m/(a·b²)·m"),
        ("rsqrt(m)", "1/√m"),
        ("(a*m) @ (b*grad) @ m", "a·b·(m @ g @ m)"),
        ("(m + grad) @ transpose(m @ m)", "(m + g) @ (m @ m)ᵀ"),
        ("-(a - b)*m", "-(a - b)·m"),
        ("m - (a - b)", "m - (a - b)"),
        ("-m/-a*-b*grad", "-m/a·b·g"),
        ("m - -a", "m + a"),
        ("(m*m)**2*a", "(m²)²·a"),
        ("abs(m - abs(grad))", "abs(m - |g|)"),
        ("norm(m, dim=-1, keepdim=true)", "norm(m, axis -1)"),
        ("where(m > 0, m, 0)*a", "(m if m > 0 else 0)·a"),
        ("min(m, inf)", "min(m, ∞)"),
    ],
)  # fmt: skip
def test_expressions_are_read_as_a_paper_has_them(written: str, shown: str) -> None:
    made = ruled(
        "hyper beta1 = 0.9\nhyper a = 2.0\nhyper b = 3.0\nstate m = 0\n"
        f"step:\n    p -= lr*a*b*beta1*m\n    m = {written}"
        + ("\n    m += grad" if "grad" not in written else "")
    )
    value = made.step[1].value
    reading = Reading(scope_letters(made), whenever, {})
    assert plain(reading.formula(value)) == shown


# ---- letters


def test_names_have_the_letters_of_papers() -> None:
    names = ["p", "grad", "lr", "beta1", "rho_inf", "eps", "exp_avg", "d", "x0"]
    found = {name: (each.plain, each.latex) for name, each in letters(names).items()}
    assert found["p"] == ("θ", r"\theta")
    assert found["lr"] == ("γ", r"\gamma")
    assert found["beta1"] == ("β1", r"\beta")
    assert found["exp_avg"] == ("exp_avg", r"\mathrm{exp\_avg}")
    assert found["eps"] == ("ε", r"\epsilon")


@pytest.mark.parametrize(
    "names",
    [
        ["p", "grad", "g", "theta", "lr", "gamma", "eta", "weight_decay", "lambd"],
        ["beta1", "beta_1", "beta", "momentum", "mu", "eps", "epsilon"],
        ["rho", "rho_inf", "rho_1", "rho1", "lr", "gamma"],
        ["d", "d0", "p", "p0", "d_coef"],
    ],
)
def test_no_two_names_have_one_letter(names: list[str]) -> None:
    for order in (names, names[::-1]):
        found = letters(order)
        assert len({(each.latex, each.below) for each in found.values()}) == len(names)
        assert len({each.plain for each in found.values()}) == len(names)


def test_what_a_state_begins_with_is_no_other_name() -> None:
    """`d` at time 0 would be written as `d0` is."""
    found = letters(["d0", "d", "p0", "p"])
    assert (found["d0"].latex, found["p0"].latex) == (r"\mathrm{d0}", "p")


# ---- whole rules


def settings(made: ir.Rule) -> Iterator[dict[str, Any]]:
    """The default hypers, and each other choice that the rule allows."""
    for set_ in ({}, *({each.hyper: each.value} for each in choices(made))):
        known = defaults(made, set_)
        if not any(known.decides(each.condition) is False for each in made.requires):
            yield set_


# Float64 in another order of operations; a hyper may be such that there is no number.
assert_close = partial(
    torch.testing.assert_close, rtol=1e-9, atol=1e-12, equal_nan=True
)


BY_HAND = {"on_calls": ()} if "on_calls" in ir.Rule.__slots__ else {}


def runs(made: ir.Rule, set_: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Three steps of the interpreter, and of the equations as printed."""
    torch.manual_seed(0)
    hypers = dict(defaults(made, set_).values)
    memory = interpret.Memory(torch.randn(shape, dtype=torch.float64), hypers)
    letter = {name: each.plain for name, each in scope_letters(made).items()}
    lines = [each.plain for each in equations(dataclasses.replace(made, **BY_HAND))]
    source = program(lines)
    for at in range(1, 4):
        memory.grad = torch.randn(shape, dtype=torch.float64)
        values = _values(made, copy.deepcopy(memory))
        values = {letter.get(name, name): held for name, held in values.items()}
        values |= {letter["t"]: float(at), "first": at == 1}
        run(source, values)
        interpret.step(made, [memory])
        assert_close(values[letter["p"]], memory.p)
        for name, held in (memory.states | memory.shared).items():
            both = (values[letter[name]], held)
            found, kept = (torch.as_tensor(each, dtype=torch.float64) for each in both)
            assert_close(found.expand_as(kept), kept)


def _values(made: ir.Rule, memory: interpret.Memory) -> dict[str, Any]:
    """What a step starts with: hypers, p, grad, states that are there or begin."""
    held = interpret.Run(made, memory, memory.grad)
    for each in made.states:
        there = memory.shared if each.shared else memory.states
        if each.name not in there and (each.when is None or held.value(each.when)):
            held.values[each.name] = held.initial(each)
        elif each.shared:
            held.values[each.name] = there[each.name]
    return held.values


@pytest.mark.parametrize("spec", LIBRARY)
def test_the_equations_of_the_library_are_its_steps(spec: str) -> None:
    made = rule(spec)
    text = "\n".join(each.plain for each in (*starts(made), *equations(made)))
    called = {each for each in re.findall(r"([a-z_]\w*)\(", text)}
    called -= {each.name for each in made.functions} | {*FUNCTIONS}
    if called:
        pytest.skip(f"only printed, not run: {', '.join(sorted(called))}")
    ran = 0
    for set_ in settings(made):
        for shape in ((3, 4), (5,)):
            known = defaults(made, set_, len(shape))
            if any(known.decides(each.condition) is False for each in made.requires):
                continue
            runs(made, set_, shape)
            ran += 1
    assert ran


@pytest.mark.parametrize(
    "body",
    [
        "step:\n    u = grad/(norm(grad) + 1)\n    repeat 3: u = u*u - p\n    p -= lr*u",
        "def f(x) = sqrt(mean(x*x))\nstep: p -= lr*grad/f(grad)*f(p)",
        "hyper a = 2.0\npre_step one: grad = grad/a\npost_step two: p *= 0.5\n"
        "step: p -= lr*grad",
        "state m = p\nstate n = m*2\nstep:\n    m = 0.5*m + grad\n    p -= lr*m/(n*n + 1)\n"
        "    n = n + m",
        "step:\n    p -= lr*(grad if ndim(p) > 1 else 2*grad)*-(1 - lr)**2",
    ],
)
def test_the_equations_of_a_rule_are_its_step(body: str) -> None:
    runs(ruled(body), {}, (3, 4))


@pytest.mark.parametrize("spec", LIBRARY)
def test_latex_is_well_formed(spec: str) -> None:
    """Braces, fences and environments close; matplotlib reads the mathematics."""
    mathtext = pytest.importorskip("matplotlib.mathtext")
    parser = mathtext.MathTextParser("agg")
    made = rule(spec)
    for line in (*starts(made), *equations(made)):
        text = line.latex
        bare = re.sub(r"\\[{}]", "", text)
        assert bare.count("{") == bare.count("}"), text
        assert len(re.findall(r"\\left\b", text)) == len(re.findall(r"\\right\b", text))
        assert len(re.findall(r"\\begin", text)) == len(re.findall(r"\\end", text))
        for part in _without_cases(text):
            parser.parse(f"${part}$")


def _without_cases(text: str) -> Iterator[str]:
    """The pieces of a line beside and inside its cases, which matplotlib does not know."""
    while match := re.search(
        r"\\begin\{cases\}((?:(?!\\begin).)*?)\\end\{cases\}", text
    ):
        for row in match[1].split(r"\\"):
            yield from row.split("&")
        text = text[: match.start()] + "x" + text[match.end() :]
    yield text


def shown(made: ir.Rule) -> list[str]:
    return [each.plain for each in equations(made)]


def test_a_value_has_the_time_of_the_line_before_it() -> None:
    """A state that one branch sets may be the new one behind it, and so in a loop."""
    made = ruled(
        "hyper k = 0.0\nstate m = 0\nstate n = 0\npre_step one: p *= 0.5\nstep:\n"
        "    x = m + n\n    if k != 0: m = m + grad\n    n = n + m\n"
        "    repeat 2: n = 0.5*n\n    p -= lr*(x + n)"
    )
    assert shown(made) == [
        "before the step, one:",
        "    θₜ = θₜ₋₁·0.5",
        "step:",
        "    x = mₜ₋₁ + nₜ₋₁",
        "    if k ≠ 0:",
        "        mₜ = mₜ₋₁ + gₜ",
        "    nₜ = nₜ₋₁ + mₜ",
        "    repeat 2 times:",
        "        nₜ ← 0.5·nₜ",
        "    θₜ ← θₜ - γ·(x + nₜ)",
    ]


def test_an_else_does_not_see_what_the_other_branch_has_set() -> None:
    made = ruled(
        "hyper k = 0.0\nstate m = 0\nstep:\n    if k > 1: m = m + grad\n"
        "    elif k > 0: m = m - grad\n    else: m = 0.5*m\n    p -= lr*m*grad"
    )
    assert shown(made) == [
        "if k > 1:",
        "    mₜ = mₜ₋₁ + gₜ",
        "else if k > 0:",
        "    mₜ = mₜ₋₁ - gₜ",
        "else:",
        "    mₜ = 0.5·mₜ₋₁",
        "θₜ = θₜ₋₁ - γ·mₜ·gₜ",
    ]


def test_instances_of_a_def_are_shown_once_by_its_name() -> None:
    made = ruled(
        "def f(x) = sqrt(mean(x*x))\nstep: p -= lr*f(grad)*f(mean(p, dim=-1))*grad"
    )
    assert len(made.functions) == 2
    assert shown(made) == [
        "θₜ = θₜ₋₁ - γ·f(gₜ)·f(mean(θₜ₋₁, axis -1))·gₜ",
        "f(x) = √(mean(x²))",
    ]
