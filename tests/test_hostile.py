"""A spec is untrusted text. Whatever it says, the answer is OptdslError, or a file that
holds nothing but what the compiler writes and whose class works.
"""

import ast
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import examples
from torch.nn import Parameter

from optdsl import OptdslError, compile_source, from_string, load, resources
from optdsl.emit import is_untouched
from optdsl.find import read
from optdsl.parse import parse
from optdsl.source import Source

LIBRARY = {name: read(path).text for name, path in resources.library().items()}

NAMES = (
    "sum max min zip map float len all any round abs print super complex dict list getattr "
    "RuntimeError ValueError property object type id input eval exec open __import__ "
    "__init__ __class__ _private _check_hypers check_hypers get_scalar_dtype init_group "
    "single_tensor_x a i as is lambda None True class async match case exp_avg exp_avgs bufs "
    "buf params param grads grad p t first step steps group groups state states self closure "
    "loss held each held_ max_ sum_ torch math Tensor Optimizer Any Callable ParamsT inf pi "
    "maximize foreach lr betas name defaults x x_ x_state x_2 f f_2 if_ prefix out key keys "
    "norm mean sqrt lerp dot clamp size train zero_grad state_dict profile_hook_step saved"
).split()
TEXTS = (
    '"', "'", "\\", "\\\\", "\\n", "\\x41", "\\N{DASH}", "\\u", "{", "}", "{{ lr }}",
    "{% if x %}", "{# x #}", "#}", "%s", "%(x)s", "{0}", "{lr!r}", "f'", '""', "'''",
    "# type: ignore", "import os", "000000000000", "math.pi", "_get_scalar_dtype",
    "# Compiled by optdsl from x, content 0123456789ab.",
    "\n    def step(self): pass\n", "\n", "\n\n\n\n\n", "    ", "\t", "é", "\u202e",
    "\x00", "\udc80",
    "\x0c", "\u2028",
    "\nArgs:\n", "long " * 40, "x" * 120, "raise SystemExit", "eval('1')", ")", "]", ",", ";",
)  # fmt: skip
CALLED = set(
    "closure super len isinstance all any zip map abs round max min float complex any dict sum "
    "ValueError RuntimeError TypeError type int bool tuple".split()
)


def words(text: str) -> str:
    return " ".join(text.split())


def assert_nothing_but_the_compilers_code(page: str, text: str) -> None:
    spec = parse(Source("spec.opt", text))
    module = ast.parse(page)
    doc, *body = module.body
    assert words(spec.doc) in words(ast.literal_eval(doc.value))
    kinds = [type(each).__name__ for each in body]
    imports = [each for each in kinds if each.startswith("Import")]
    rest = kinds[len(imports) :]
    assert kinds[: len(imports)] == imports
    assert rest == ["Assign", "ClassDef", *["FunctionDef"] * (len(rest) - 2)], rest
    assert {each.module for each in body if isinstance(each, ast.ImportFrom)} <= {
        "collections.abc", "numbers", "typing", "torch", "torch.optim.optimizer",
    }  # fmt: skip
    functions = [each.name for each in body if isinstance(each, ast.FunctionDef)]
    assert len(set(functions)) == len(functions)
    assert all(each.startswith("_") for each in functions)
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            known = node.func.id in CALLED or node.func.id in functions
            assert known or node.func.id == "_get_scalar_dtype", node.func.id
    class_doc = words(
        ast.get_docstring(next(each for each in body if isinstance(each, ast.ClassDef)))
    )
    for declared in spec.declarations:
        if getattr(declared, "doc", None):
            assert words(declared.doc.value) in class_doc


def stepped(text: str) -> list[torch.Tensor]:
    """Two parameters after two steps of the class."""
    cls = from_string(text)
    try:
        params = [Parameter(torch.arange(6.0).reshape(2, 3)), Parameter(torch.ones(3))]
        optimizer = cls(params)
        for _ in range(2):
            for param in params:
                param.grad = torch.full_like(param, 0.25)
            optimizer.step()
        return [each.detach() for each in params]
    finally:
        load._MODULES.clear()
        sys.modules.pop(cls.__module__)


def harmless(text: str) -> bool:
    """Whether the text is a spec; if so, its file is checked and its class has worked."""
    try:
        page = compile_source(text)
    except OptdslError:
        return False
    assert is_untouched(page)
    assert_nothing_but_the_compilers_code(page, text)
    stepped(text)
    return True


# ---- texts that are no specs, or hardly

PIECES = re.compile(r'"""|\w+|\s+|.', re.DOTALL)
alphabet = st.sampled_from(
    [*'abp_019 .,:;=+-*/%<>!()[]|?"#@\\\n\t{}^', "    ", '"""', "grad", "lr"]
)


@examples(240)
@given(st.lists(alphabet, max_size=60).map("".join) | st.text(max_size=40))
def test_random_text_is_refused_in_words(text):
    assert not harmless(text)


@pytest.mark.parametrize(
    "piece",
    ["1 < ", "not ", "-", "(", "p + ", "2**", "sqrt(", "1 if true else ", "true and "],
)
def test_a_chain_without_end_is_refused_in_words(piece):
    assert not harmless(f"optimizer Chain\nstep: p -= grad if {piece * 3000}")
    assert not harmless(f"optimizer Chain\nstep: p -= grad if {piece * 3000}2 else p")


@st.composite
def mutated(draw) -> str:
    """A spec of the library after a few accidents."""
    pieces = PIECES.findall(draw(st.sampled_from(sorted(LIBRARY.values()))))
    for _ in range(draw(st.integers(1, 3))):
        at, other = (draw(st.integers(0, len(pieces) - 1)) for _ in range(2))
        match draw(st.sampled_from(["delete", "repeat", "swap", "replace", "insert"])):
            case "delete" if len(pieces) > 2:
                del pieces[at]
            case "repeat":
                pieces.insert(at, pieces[at])
            case "swap":
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case "replace":
                pieces[at] = pieces[other]
            case _:
                pieces.insert(at, draw(alphabet))
    return "".join(pieces)


@examples(180)
@given(mutated())
def test_a_damaged_spec_is_refused_or_works(text):
    with suppress(ZeroDivisionError, OverflowError):  # the damage is in the arithmetic
        harmless(text)


# ---- names

RULE = """optimizer {optimizer}
hyper {hyper} = 0.5
hyper {pair} = (0.25, 0.5) in [0, 1)
hyper {flag} = true
state {state} = 0
state {kept}: scalar = 1 when {flag}
def {function}({argument}) = max({argument}, 0.125)*2
pre_step {hook}:
    grad += {hyper}*p
step:
    {one}, {two} = {pair}
    {local} = {hyper}*grad + t
    {state} = {one}*{state} + {function}({local})
    if {flag}:
        {kept} *= {two}
        p -= {kept}*{state}
    p -= max({hyper}, {two})*{function}({state}) if first else {local}
"""
ROLES = sorted(set(re.findall(r"\{(\w+)\}", RULE)))
INNOCENT = {each: f"{each}_name" for each in ROLES}
SOME = st.sampled_from([each for each in NAMES if each not in ("p", "grad")])


def all_differ(names: dict[str, str]) -> bool:
    return len(set(names.values())) == len(names)


@examples(180)
@given(
    st.dictionaries(st.sampled_from(ROLES), SOME, min_size=1, max_size=5).filter(
        all_differ
    )
)
def test_no_name_changes_what_a_rule_does(names):
    text = RULE.format(**{**INNOCENT, **names})
    if harmless(text):
        for mine, innocent in zip(
            stepped(text), stepped(RULE.format(**INNOCENT)), strict=True
        ):
            assert torch.equal(mine, innocent), names


@pytest.mark.parametrize("role", ROLES)
def test_no_name_breaks_a_role(role):
    innocent = stepped(RULE.format(**INNOCENT))
    for name in NAMES:
        if role == "local" and name in ("p", "grad"):
            continue
        text = RULE.format(**{**INNOCENT, role: name})
        if harmless(text):
            for mine, expected in zip(stepped(text), innocent, strict=True):
                assert torch.equal(mine, expected), name


# ---- texts

DOCUMENTED = '''"""{doc}"""
optimizer Documented
hyper lr = 0.1 in [0, 1], "{hyper}"
hyper kind: "{choice}" | "other" = "{choice}", "{choices}"
require lr > 0 or kind != "other", "{message}"
state buf = 0, "{state}"
step:
    if kind == "{choice}": buf += grad
    p -= lr*buf
'''
PLAIN = dict.fromkeys(re.findall(r"\{(\w+)\}", DOCUMENTED), "plain")
texts = st.lists(st.sampled_from(TEXTS) | st.text(max_size=4), max_size=4).map("".join)


@examples(240)
@given(st.dictionaries(st.sampled_from(sorted(PLAIN)), texts, min_size=1))
def test_no_text_becomes_code(said):
    text = DOCUMENTED.format(**{**PLAIN, **said})
    if harmless(text):
        for mine, plain in zip(
            stepped(text), stepped(DOCUMENTED.format(**PLAIN)), strict=True
        ):
            assert torch.equal(mine, plain)


@pytest.mark.parametrize("said", TEXTS)
def test_a_text_is_refused_or_said(said):
    for place in PLAIN:
        harmless(DOCUMENTED.format(**{**PLAIN, place: said}))
    with pytest.raises((ValueError, OptdslError)):
        from_string(DOCUMENTED.format(**{**PLAIN, "message": said, "choice": said}))(
            [Parameter(torch.ones(1))], lr=0.0, kind="other"
        )


# ---- file names, and the same bytes every time


@examples(150)
@given(st.lists(st.sampled_from(TEXTS) | st.text(max_size=4), min_size=1).map("".join))
def test_no_file_name_becomes_code(filename):
    page = compile_source(LIBRARY["momentum"], filename)
    assert ast.dump(ast.parse(page)) == ast.dump(
        ast.parse(compile_source(LIBRARY["momentum"]))
    )
    assert is_untouched(page)
    assert from_string(LIBRARY["momentum"], filename).__name__ == "Momentum"


COMPILE_ALL = """
from optdsl import compile_source, resources
for name, path in resources.library().items():
    print(compile_source(path.read_text(encoding="utf-8"), path.name))
"""


def test_every_process_writes_the_same_bytes():
    pages = [
        subprocess.run(
            [sys.executable, "-c", COMPILE_ALL],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    ]
    here = "".join(
        compile_source(text, f"{name}.opt") + "\n" for name, text in LIBRARY.items()
    )
    assert pages[0] == pages[1] == here.encode()
