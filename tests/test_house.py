"""The layout of the project: who imports whom, what each spec has, what is shipped."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from built import of_library
from lark import Lark

from optdsl import meanings, syntax, vocabulary
from optdsl.find import read
from optdsl.parse import parse
from optdsl.parse.blocks import Blocks
from optdsl.resources import PACKAGE, grammar, library, modifiers, routes

ROOT = PACKAGE.parent

# Lower rows may be imported by higher ones, never the other way round nor by a neighbour.
LAYERS = [
    {"resources", "source", "meanings"},
    {"diagnostics", "codes"},
    {"syntax", "vocabulary", "types"},
    {"ir"},
    {"evaluate", "invariants", "matrices", "stages"},
    {"parse", "check", "interpret", "passes", "kernels", "emit", "find", "dump"},
    {"use"},
    {"route"},
    {"pipeline", "write"},
    {"load", "explain"},
    {"verify", "runtime"},
    {"bench"},
    {"cli", "optim", "__init__"},
    {"__main__"},
]
ONLY_IN = {
    "lark": {"parse"},
    "jinja2": {"emit"},
    "torch": {"bench", "interpret", "matrices", "load", "runtime", "verify"},
    "triton": {"runtime"},
    "click": {"cli"},
    "matplotlib": {"bench"},
    "rich": {"bench", "verify", "explain"},
}
# Imported where Triton is installed and tensors lie on a GPU, and not before.
FOR_A_GPU = {"arithmetic", "entries", "handed", "tiles"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imports(path: Path) -> Iterator[str]:
    """The dotted names a module imports, those of the package starting with a dot."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            depth = len(path.relative_to(PACKAGE).parts) - node.level
            if depth == 0:
                names = (
                    [node.module] if node.module else [each.name for each in node.names]
                )
                yield from (f".{name}" for name in names)


@pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_go_down(path: Path) -> None:
    rank = {name: at for at, names in enumerate(LAYERS) for name in names}
    for name in _imports(path):
        if name.startswith("."):
            imported = name[1:].split(".")[0]
            if imported != _part(path):
                assert rank[imported] < rank[_part(path)], f"{path} imports {name}"
        elif name.split(".")[0] in ONLY_IN:
            assert _part(path) in ONLY_IN[name.split(".")[0]], f"{path} imports {name}"


def test_what_runs_while_training_needs_only_torch() -> None:
    """So a compiled optimizer needs no compiler, and what it does is quick to read."""
    names = {
        name.split(".")[0]
        for path in (PACKAGE / "runtime").glob("*.py")
        for name in _imports(path)
        if not name.startswith(".runtime") and path.stem not in FOR_A_GPU
    }
    assert names <= sys.stdlib_module_names | {"torch"}


def test_no_module_asks_for_a_torch_that_is_distributed() -> None:
    """There are builds without it, and it takes its time."""
    assert not [
        (path, name)
        for path in MODULES
        for name in _imports(path)
        if name.startswith("torch.distributed")
    ]


def test_what_is_printed_is_made_apart() -> None:
    """Whoever calls `verify` or `explain` from Python needs no terminal."""
    users = {path for path in MODULES if "rich.table" in _imports(path)}
    printers = {
        PACKAGE / "bench" / "table.py",
        PACKAGE / "explain" / "page.py",
        PACKAGE / "verify" / "table.py",
    }
    assert users == printers


def test_no_module_is_a_bag() -> None:
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "common", "helpers", "base", "manager", "misc"}


@pytest.mark.parametrize("name", library() | routes())
def test_a_spec_is_short_and_says_where_its_rule_is_from(name: str) -> None:
    text = (library() | routes())[name].read_text()
    assert len(text.splitlines()) <= 40
    doc = of_library(name).tree.doc
    assert re.search(r"\(\d{4}\)", doc), "the docstring names a paper and its year"


@pytest.mark.parametrize("name", modifiers())
def test_a_modifier_is_short_and_says_what_it_is_from(name: str) -> None:
    source = read(modifiers()[name])
    assert len(source.lines) <= 30
    tree = parse(source)
    assert [each.name.text for each in tree.of(syntax.Modifier)] == [name]
    assert re.search(r"\(\d{4}\)", tree.doc), "the docstring names a paper and its year"
    assert "https://" in tree.doc, "and where it is"
    assert tree.doc.split("\n")[0].endswith(".")


def test_the_grammar_is_one_page_without_ambiguity() -> None:
    """Lark's strict mode refuses every conflict that it would otherwise decide itself."""
    text = grammar().read_text()
    assert len(text.splitlines()) <= 110
    Lark(text, parser="lalr", postlex=Blocks(), strict=True)


def test_hooks_cannot_hide_what_torch_has() -> None:
    public = {each for each in dir(torch.optim.Optimizer) if not each.startswith("_")}
    assert public <= set(vocabulary.METHODS)


def test_reading_a_spec_needs_no_torch() -> None:
    code = "import sys, optdsl.cli; from optdsl.pipeline import build; "
    code += "from optdsl.find import find; build(find('adam')); "
    code += "sys.exit('torch' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_wheel_works_from_another_folder(tmp_path: Path) -> None:
    for part in ("optdsl", "grammars", "specs"):
        shutil.copytree(ROOT / part, tmp_path / "source" / part)
    for part in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / part, tmp_path / "source" / part)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = [
        *pip,
        "wheel",
        "--no-deps",
        "-w",
        str(tmp_path / "wheel"),
        str(tmp_path / "source"),
    ]
    subprocess.run(wheel, check=True, capture_output=True)
    (built,) = (tmp_path / "wheel").glob("*.whl")
    target = [
        *pip,
        "install",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
        str(built),
    ]
    subprocess.run(target, check=True, capture_output=True)
    code = "import optdsl; from optdsl.optim import AdamW; "
    code += "optdsl.load_optimizer('adamw', use=['cautious']); "
    code += "optdsl.load_optimizer('muon_adamw'); "
    code += "print(optdsl.__file__, AdamW.__name__)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) in ran.stdout and ran.stdout.strip().endswith("AdamW")


def test_every_built_in_function_is_described() -> None:
    every = [*vocabulary.FUNCTIONS.values(), *vocabulary.EXTREMES.values()]
    for each in every:
        assert each.meaning and each.shapes and each.source
    named = {f"{each} of one" for each in vocabulary.EXTREMES} | {*vocabulary.FUNCTIONS}
    assert meanings.MEANINGS.keys() == named
