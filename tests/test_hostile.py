"""A spec is untrusted text. Whatever it says, the answer is OptdslError, or a file that
holds nothing but what the compiler writes and whose class works.
"""

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from built import of_library
from hypothesis import given
from hypothesis import strategies as st
from oracle import every, examples
from torch.nn import Parameter
from torch.optim import optimizer as torch_optimizer

from optdsl import (
    OptdslError,
    compile_source,
    from_string,
    load,
    resources,
    vocabulary,
)
from optdsl.check import check
from optdsl.emit import is_untouched
from optdsl.emit.cpu.lists import UNROLLED
from optdsl.find import read
from optdsl.parse import parse
from optdsl.resources import PACKAGE
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
    "norm mean sqrt lerp dot clamp size train zero_grad state_dict profile_hook_step saved "
    "update each entries whole part values value kept scalars device devices fill hook hooks "
    "loaded note keep pairs param_group is_sparse is_complex range tuple isinstance param _ "
    "zero_dim as_scalar to_scalar check_params check_capturable capturable_x multi_tensor_x "
    "use_grad_for_differentiable get_capturable_supported_devices capturable differentiable "
    "positional sparse_grads only repeat complex_ matmul transpose item as_tensor bfloat16 "
    "next turn turns turn_1 batch taken left optimizer between"
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
    "closure super len isinstance hasattr all any zip map abs round max min float complex "
    "dict sum type int bool tuple list set sorted enumerate range repeat update next "
    "function ValueError RuntimeError TypeError AssertionError".split()
)  # `function` is what `_batched` is handed
# What a file may take from torch.optim.optimizer, and call; no spec has names like these.
BORROWED = {"Optimizer", "ParamsT"} | {
    each for each in dir(torch_optimizer) if re.match(r"_[a-z]", each)
}


RUNTIME = """\
try:
    from optdsl.runtime.kernel import Kernel as _Kernel{}
except ImportError:
    _Kernel = None"""
RUNTIMES = (
    RUNTIME.format(""),
    RUNTIME.format("\n    from optdsl.runtime.turns import Turns as _Turns"),
)
# What a GradScaler leaves on an optimizer whose step is fused.
OF_SCALER = {
    "getattr(self, 'found_inf', None)",
    "getattr(self, 'grad_scale', None)",
}
# What kernels call beside the functions of the language, each with an underscore.
OF_KERNELS = set(
    "for if while load store real double square_ size columns std vector numbers rows parts "
    "sums across gathered each_chunk chunks chunks_of are_finite modulo floor_divide "
    "epsilon_of kept pow sqrt before zeros tiles_of each_tensor join_lines join_columns larger "
    "smaller ask end_of_block each_row all_finite".split()
)


def assert_nothing_but_kernels(text: ast.Assign) -> None:
    """Whether C++ has no strings, no directives but two, and calls what kernels call."""
    assert isinstance(text.value, ast.Constant)
    code = re.sub(r"//[^\n]*", "", text.value.value)
    # A directive may need several lines; nothing else goes on behind the end of one.
    directive = r"(?m)^( *#pragma omp simd reduction[^\n\\]*) \\\n *(?=[\w(])"
    while re.search(directive, code):
        code = re.sub(directive, r"\1 ", code)
    lines = {line.strip().split(" reduction")[0] for line in code.splitlines()}
    assert {x for x in lines if "#" in x} <= {"#pragma omp simd", UNROLLED}
    code = code.replace('extern "C" int step_', "int step_")
    assert not {*code} & {*"\"'\\@$`"}
    functions = {f"{each}_" for each in vocabulary.FUNCTIONS}
    for name in re.findall(r"(\w+)(?:<\w+>)?\s*\(", code):
        known = name in OF_KERNELS | functions
        assert known or re.fullmatch(
            r"(numbers|pass|along|sums|parts)_\d+|step_\w+|reduction|\w+_(t|parts)",
            name,
        ), name


SHARED = {
    each.name
    for name in ("arithmetic", "entries", "tiles")
    for each in ast.parse((PACKAGE / "runtime" / f"{name}.py").read_text()).body
    if isinstance(each, ast.FunctionDef)
}
OF_TRITON = set(
    "abs arange cdiv ceil erf floor full load program_id rsqrt sqrt static_range store where "
    "multiple_of zeros".split()
)
LAUNCHES = {f"each_{x}" for x in "row chunk group line column matrix".split()} | {
    "once"
}
KERNEL = r"(numbers|pass|across|lines|columns|matrices)_\d+"


def assert_nothing_but_triton(text: ast.Assign) -> None:
    """Whether Triton's kernels import, say and call what such kernels do."""
    assert isinstance(text.value, ast.Constant)
    *body, launch = ast.parse(text.value.value).body
    assert launch.name == "launch"
    kernels = [each for each in body if isinstance(each, ast.FunctionDef)]
    *imports, types, options = (each for each in body if each not in kernels)
    for each, name in ((types, "TYPES"), (options, "OPTIONS")):
        assert ast.unparse(each.targets[0]) == name
        assert all(re.fullmatch(r"\w+", x) for x in ast.literal_eval(each.value))
    for each in imports:
        written = ast.unparse(each)
        assert written in (
            "import triton",
            "import triton.language as tl",
            "from triton.language.extra import libdevice",
        ) or re.match("from optdsl.runtime.(arithmetic|entries|tiles) import ", written)
    assert all(re.fullmatch(KERNEL, x.name) for x in kernels)
    for node in ast.walk(ast.Module([*kernels, launch], [])):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert re.fullmatch(r"-inf|\w+", node.value)
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name("float"):
                assert isinstance(node.args[0], ast.Constant)
            case ast.Name(name):
                assert name in SHARED
            case ast.Attribute(ast.Name("tl"), name):
                assert name in OF_TRITON
            case ast.Attribute(ast.Name("libdevice"), name):
                assert name in vocabulary.FUNCTIONS or name == "rint"
            case ast.Attribute(ast.Name("x"), name) if name in LAUNCHES:
                assert node.args[0].id in {each.name for each in kernels}
            case _:
                called = ast.unparse(node.func)
                known = called in ("triton.jit", "x.new", "x.make")
                assert known or node.func.attr == "to"


def words(text: str) -> str:
    return " ".join(text.split())


def assert_nothing_but_the_compilers_code(page: str, text: str) -> None:
    spec = parse(Source("spec.opt", text))
    module = ast.parse(page)
    doc, *body = module.body
    assert words(spec.doc) in words(ast.literal_eval(doc.value))
    kinds = [type(each).__name__ for each in body]
    imports = [each for each in kinds if each.startswith("Import")]
    if "Try" in kinds:
        assert ast.unparse(body.pop(len(imports))) in RUNTIMES
        called = body.pop()
        assert ast.unparse(called.targets[0]) == "_KERNELS"
        assert isinstance(called.value, ast.BoolOp)
        while isinstance(body[-1], ast.Assign):
            written = body.pop()
            name = ast.unparse(written.targets[0])
            on_device = re.fullmatch(r"_(CPU|CUDA)(_\d+)?", name)[1] == "CUDA"
            check = (
                assert_nothing_but_triton if on_device else assert_nothing_but_kernels
            )
            check(written)
        kinds = [type(each).__name__ for each in body]
    rest = kinds[len(imports) :]
    assert kinds[: len(imports)] == imports
    assert rest == ["Assign", "ClassDef", *["FunctionDef"] * (len(rest) - 2)], rest
    assert {each.module for each in body if isinstance(each, ast.ImportFrom)} <= {
        "collections.abc", "itertools", "numbers", "typing", "torch",
        "torch.optim.optimizer",
    }  # fmt: skip
    for each in body:
        if isinstance(each, ast.ImportFrom) and each.module == "torch.optim.optimizer":
            assert {name.name for name in each.names} <= BORROWED
    functions = [each.name for each in body if isinstance(each, ast.FunctionDef)]
    assert len(set(functions)) == len(functions)
    assert all(each.startswith("_") for each in functions)
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if ast.unparse(node) in OF_SCALER:
                continue
            name = node.func.id
            known = {*CALLED, *BORROWED, *functions, "_Kernel", "_Turns"}
            assert name in known or re.fullmatch(r"turn_\d+", name), name
    class_doc = words(
        ast.get_docstring(next(each for each in body if isinstance(each, ast.ClassDef)))
    )
    for declared in spec.declarations:
        if getattr(declared, "doc", None):
            assert words(declared.doc.value) in class_doc


def stepped(text: str) -> list[torch.Tensor]:
    """Parameters after steps of the class, with dense and with sparse gradients; those
    that the class says it does not take are left out. Its file is checked before.
    """
    cls = from_string(text)
    try:
        page = inspect.getsource(sys.modules[cls.__module__])
        assert is_untouched(page)
        assert_nothing_but_the_compilers_code(page, text)
        params = [Parameter(torch.arange(6.0).reshape(2, 3)), Parameter(torch.ones(3))]
        params = [each for each in params if not refuses(lambda p: cls([p]), each)]
        optimizer = cls(params) if params else None
        for dense in (True, True, *[False] * 2 * ("sparse_grads" in text)):
            for param in params:
                grad = torch.full_like(param, 0.25)
                param.grad = grad if dense else grad.to_sparse()
            if params:
                refuses(lambda optimizer: optimizer.step(), optimizer)
        return [each.detach() for each in params]
    finally:
        load._MODULES.clear()
        sys.modules.pop(cls.__module__)


# The last is what a `require` says; one that is damaged may refuse the defaults.
REFUSALS = re.compile(r"supports? (dense|sparse) gradients|\(got \w+")


def refuses(tried: Callable[[Any], Any], given: Any) -> bool:
    """Whether something is answered with words about parameters, gradients or options."""
    try:
        tried(given)
    except (ValueError, RuntimeError) as error:
        if not REFUSALS.search(str(error)):
            raise
        return True
    return False


@cache
def moves(text: str) -> list[torch.Tensor]:
    return stepped(text)


def harmless(text: str) -> list[torch.Tensor] | None:
    """What the steps of a spec come to; None for a text that is none."""
    try:
        return stepped(text)
    except OptdslError:
        return None


@pytest.mark.parametrize("name", LIBRARY)
def test_a_rule_of_the_library_is_the_compilers_code(name):
    page = of_library(name).python
    assert is_untouched(page)
    assert_nothing_but_the_compilers_code(page, LIBRARY[name])


# ---- texts that are no specs, or hardly

PIECES = re.compile(r'"""|\w+|\s+|.', re.DOTALL)
alphabet = st.sampled_from(
    [*'abp_019 .,:;=+-*/%<>!()[]|?"#@\\\n\t{}^', "    ", '"""', "grad", "lr"]
)


@examples(120)
@given(st.lists(alphabet, max_size=60).map("".join) | st.text(max_size=40))
def test_random_text_is_refused_in_words(text):
    assert harmless(text) is None


@pytest.mark.parametrize(
    "piece",
    ["1 < ", "not ", "-", "(", "p + ", "2**", "sqrt(", "1 if true else ", "true and "],
)
def test_a_chain_without_end_is_refused_in_words(piece):
    for chain in (piece * 3000, piece * 3000 + "2 else p"):
        assert harmless(f"optimizer Chain\nstep: p -= grad if {chain}") is None


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


@examples(90)
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
require ndim(p) < 9, "few axes"
def {function}({argument}) = max({argument}, 0.125)*2
pre_step {hook}:
    grad += {hyper}*p
step:
    {one}, {two} = {pair}
    {local} = {hyper}*grad + t
    repeat 2: {local} *= 0.5
    {state} = {one}*{state} + {function}({local})
    if {flag}:
        {kept} *= {two}
        p -= {kept}*{state}
    p -= max({hyper}, {two})*{function}({state}) if first else {local}
"""
SPARSE_RULE = """optimizer {optimizer}
hyper {hyper} = 0.5
hyper {flag} = true
sparse_grads when {flag}
state {state} = 0
state {kept} = 0 when {flag}
step:
    {local} = {hyper}*grad
    {state} += {local}*t
    if {flag}:
        {kept} = {state} + 0.5*{kept}
        p -= {kept}
    p -= {hyper}*{state} if first else {local}
"""


def roles(rule: str) -> list[str]:
    return sorted(set(re.findall(r"\{(\w+)\}", rule)))


def named(rule: str, **names: str) -> str:
    """The rule with these names, and innocent ones for all else."""
    return rule.format(**{**{each: f"{each}_name" for each in roles(rule)}, **names})


SOME = st.sampled_from([each for each in NAMES if each not in ("p", "grad")])
RULES = {"rule": RULE, "sparse rule": SPARSE_RULE}


def all_differ(names: dict[str, str]) -> bool:
    return len(set(names.values())) == len(names)


def assert_same_moves(
    text: str, innocent: list[torch.Tensor], said: object, accepted: bool = True
) -> None:
    moved = harmless(text)
    assert moved is not None or not accepted, said
    for mine, expected in zip(moved or innocent, innocent, strict=True):
        assert torch.equal(mine, expected), said


@pytest.mark.parametrize("rule", RULES)
@examples(60)
@given(st.data())
def test_no_name_changes_what_a_rule_does(rule, data):
    some = st.dictionaries(
        st.sampled_from(roles(RULES[rule])), SOME, min_size=1, max_size=5
    )
    names = data.draw(some.filter(all_differ))
    innocent = moves(named(RULES[rule]))
    assert_same_moves(named(RULES[rule], **names), innocent, names, accepted=False)


def accepts(rule: str, role: str, name: str) -> bool:
    """Whether a role may have the name, where all others have innocent ones."""
    if role == "local" and name in ("p", "grad"):
        return False
    source = Source("spec.opt", named(rule, **{role: name}))
    try:
        check(parse(source), source)
    except OptdslError:
        return False
    return True


@pytest.mark.parametrize("rule", RULES)
def test_no_name_breaks_a_role(rule):
    """Every name is given to roles that may have it, and under OPTDSL_EXAMPLES to all of
    them: in each turn all roles have another name.
    """
    text = RULES[rule]
    innocent = moves(named(text))
    for turn in every(6, range(len(NAMES))):
        names = {
            role: NAMES[(turn + 7 * at) % len(NAMES)]
            for at, role in enumerate(roles(text))
        }
        names = {
            role: name for role, name in names.items() if accepts(text, role, name)
        }
        assert_same_moves(named(text, **names), innocent, names)


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


@examples(100)
@given(st.dictionaries(st.sampled_from(sorted(PLAIN)), texts, min_size=1))
def test_no_text_becomes_code(said):
    text = DOCUMENTED.format(**{**PLAIN, **said})
    plain = moves(DOCUMENTED.format(**PLAIN))
    assert_same_moves(text, plain, said, accepted=False)


@pytest.mark.parametrize("said", TEXTS)
def test_a_text_is_refused_or_said(said):
    for place in PLAIN:
        harmless(DOCUMENTED.format(**{**PLAIN, place: said}))
    with pytest.raises((ValueError, OptdslError)):
        from_string(DOCUMENTED.format(**{**PLAIN, "message": said, "choice": said}))(
            [Parameter(torch.ones(1))], lr=0.0, kind="other"
        )


# ---- file names, and the same bytes every time


MOMENTUM = ast.dump(ast.parse(compile_source(LIBRARY["momentum"])))


@examples(40)
@given(st.lists(st.sampled_from(TEXTS) | st.text(max_size=4), min_size=1).map("".join))
def test_no_file_name_becomes_code(filename):
    page = compile_source(LIBRARY["momentum"], filename)
    assert ast.dump(ast.parse(page)) == MOMENTUM
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
        for seed in every(2, ("0", "1"))
    ]
    here = "".join(of_library(name).python + "\n" for name in LIBRARY)
    assert {*pages} == {here.encode()}
