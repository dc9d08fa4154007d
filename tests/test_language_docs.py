"""docs/language.md: its examples compile, step and are refused as it says, it shows every
construct and every function, and its tables are those of the compiler.

A block that starts with ```opt is a spec, or a modifier, which is tried with the plainest
rule. A fragment, as the page says, has a header put
before it, and its statements become a step that ends in `p -= lr*grad`.
"""

import os
import re
import textwrap
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optdsl import OptdslError, from_string, syntax
from optdsl.codes import CODES
from optdsl.explain import explain, reference
from optdsl.explain.page import page
from optdsl.parse import grammar
from optdsl.pipeline import build, build_any
from optdsl.resources import PACKAGE
from optdsl.resources import grammar as grammar_file
from optdsl.source import Source
from optdsl.vocabulary import EXTREMES, FUNCTIONS

PATH = PACKAGE.parent / "docs" / "language.md"
PAGE = PATH.read_text(encoding="utf-8")
TABLES = {"functions": reference.functions, "codes": reference.diagnostics}

_BLOCK = re.compile(r"^```opt(?: (?P<info>[^\n]*))?\n(?P<text>.*?)^```$", re.M | re.S)
_DECLARED = re.compile(
    r"(optimizer|modifier|about|needs|use|reference|hyper|positional|named|require|state|sparse_grads|def"
    r"|pre_step|post_step|on_call|step)\b"
)


@dataclass(frozen=True)
class Block:
    line: int
    info: str
    text: str

    @property
    def spec(self) -> str:
        """The block as a whole spec."""
        return self.text if self.is_whole else _completed(self.text)

    @property
    def rule(self) -> str:
        """The block as the text of an optimizer."""
        return build_any(Source("example.opt", self.spec)).source.text

    @property
    def is_whole(self) -> bool:
        return re.search("^(optimizer|modifier) ", self.text, re.M) is not None

    def __str__(self) -> str:
        return f"line {self.line}"


def _completed(fragment: str) -> str:
    """A fragment in a spec: its declarations, and its other lines as a step."""
    declared, body, here = [], [], []
    depth = 0
    for line in fragment.splitlines():
        goes_on = line.startswith((" ", ")")) or depth or not line
        if not goes_on:
            here = declared if _DECLARED.match(line) else body
        here.append(line)
        depth += len(re.findall(r"[(\[]", line)) - len(re.findall(r"[)\]]", line))
    head = ["optimizer Example"]
    if not re.search("^hyper lr ", fragment, re.M):
        head += ["hyper lr = 0.1"]
    if not re.search("^step:", fragment, re.M):
        declared += ["step:", *(f"    {each}" for each in (*body, "p -= lr*grad"))]
    return "\n".join([*head, *declared, ""])


BLOCKS = [
    Block(PAGE[: each.start()].count("\n") + 1, each["info"] or "", each["text"])
    for each in _BLOCK.finditer(PAGE)
]
GOOD = [each for each in BLOCKS if not each.info.startswith("error")]
BAD = [each for each in BLOCKS if each.info.startswith("error")]


def test_every_block_is_a_spec_a_fragment_or_a_mistake() -> None:
    for each in BLOCKS:
        words = each.info.split()
        if words[:1] == ["error"]:
            assert len(words) == 2 and words[1] in CODES, each
        else:
            assert words == ([] if each.is_whole else ["fragment"]), each


# ---- what compiles


@pytest.mark.parametrize("block", GOOD, ids=str)
def test_an_example_compiles_without_a_doubt(block: Block) -> None:
    assert build_any(Source("example.opt", block.spec)).warnings == ()


@pytest.mark.parametrize("block", GOOD, ids=str)
def test_an_example_steps_in_the_loop_as_in_foreach(block: Block) -> None:
    loop, many = (_stepped(block, foreach) for foreach in (False, True))
    for before, one, other in zip(_start(), loop, many, strict=True):
        assert torch.isfinite(one).all()
        assert not torch.equal(one, before)
        torch.testing.assert_close(one, other)


def _start() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = ((4, 3), (3, 3), (3,))
    return [torch.randn(each, generator=generator) for each in shapes]


def _stepped(block: Block, foreach: bool) -> list[Tensor]:
    """The parameters after three steps; hooks by hand run after each."""
    params = [Parameter(each) for each in _start()]
    torch.manual_seed(1)
    named = [(f"layer{at}.weight", p) for at, p in enumerate(params)]
    optimizer = from_string(block.rule)(named, foreach=foreach)
    tree = build(Source("example.opt", block.rule)).tree
    by_hand = [each for each in tree.of(syntax.Hook) if each.phase == "on_call"]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = sum(torch.cosh(p).sum() for p in params)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
        for hook in by_hand:
            getattr(optimizer, hook.name.text)()
    return [p.detach() for p in params]


def test_examples_show_every_construct_of_the_grammar() -> None:
    text = grammar_file().read_text(encoding="utf-8")
    rules = {*re.findall(r"^([a-z]\w*):", text, re.M)}
    shown = {
        tree.data
        for block in GOOD
        for tree in grammar().parse(block.spec + "\n").iter_subtrees()
    }
    assert len(rules) > 40 and rules - shown == set()


def test_examples_show_every_operator() -> None:
    text = grammar_file().read_text(encoding="utf-8")
    lines = re.findall(r"^(?:AUGMENT|COMPARE|SIGN|POWER|OPTIONAL):(.*)$", text, re.M)
    operators = {each for line in lines for each in re.findall('"(.+?)"', line)}
    shown = {
        str(token)
        for block in GOOD
        for token in grammar().parse(block.spec + "\n").scan_values(lambda _: True)
        if token is not None
    }
    assert {"+=", "**", "?"} <= operators
    assert {*operators, "*", "/", "//", "%", "@"} - shown == set()


def test_examples_show_every_function_and_every_reduction_across_parameters() -> None:
    calls = [
        each
        for block in GOOD
        for each in syntax.walk(build(Source("example.opt", block.rule)).tree)
        if isinstance(each, syntax.Call)
    ]
    shown = {each.function.text for each in calls}
    assert FUNCTIONS.keys() - shown == set()
    reduced = {each.function.text for each in calls if len(each.arguments) == 1}
    assert EXTREMES.keys() - reduced == set()
    over = {
        each.function.text
        for each in calls
        if any(option.name.text == "over" for option in each.keywords)
    }
    reductions = {each.name for each in FUNCTIONS.values() if each.group == "reduction"}
    assert {*reductions, *EXTREMES} - over == set()


# ---- what does not


@pytest.mark.parametrize("block", BAD, ids=str)
def test_a_mistake_has_the_code_that_the_page_says(block: Block) -> None:
    _, code = block.info.split()
    source = Source("example.opt", block.spec)
    try:
        found = build_any(source).warnings
    except OptdslError as error:
        found = error.diagnostics
    assert {each.code for each in found} == {code}


# ---- what is written into the page


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_the_page_is_up_to_date(name: str) -> None:
    written = re.compile(
        f"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL
    )
    table = TABLES[name]()
    if os.environ.get("OPTDSL_BLESS"):
        now = PATH.read_text(encoding="utf-8")
        PATH.write_text(written.sub(lambda _: table, now), encoding="utf-8")
    (shown,) = written.findall(PATH.read_text(encoding="utf-8"))
    assert shown == table, "`make bless` writes it"


def test_every_function_has_a_table() -> None:
    groups = [each for groups in reference.GROUPS.values() for each in groups]
    assert sorted(groups) == sorted({each.group for each in FUNCTIONS.values()})


def test_what_the_page_shows_of_an_explanation_is_printed() -> None:
    (shown,) = re.findall(r"^    \$ optdsl explain row.*?\n(.*?)^\S", PAGE, re.M | re.S)
    (spec,) = [each for each in GOOD if "\noptimizer RowTrust\n" in each.text]
    printed = page(explain(build(Source("rowtrust.opt", spec.spec))))
    parts = [each for each in re.split(r"^ *\.\.\.\n", shown, flags=re.M)]
    assert [each for each in parts if each.strip()]
    for each in parts:
        assert textwrap.dedent(each).strip("\n") in printed
