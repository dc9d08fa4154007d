"""From what a person types to a class: names, paths, messages, and source that shows."""

import inspect
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from built import of_library
from torch.nn import Parameter
from torch.optim import Optimizer

import optdsl.optim
from optdsl import OptdslError, compile_source, from_string, load_optimizer, resources
from tests.parity import assert_same, side

MINE = "optimizer Mine\nhyper lr = 0.5\nstep: p -= lr*grad\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one and home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


# ---- what is found


@pytest.mark.parametrize("name", ["adamw", "AdamW", "ADAMW", "Adamw"])
def test_a_rule_has_its_name_in_any_case(name: str) -> None:
    assert load_optimizer(name) is load_optimizer("adamw")
    assert load_optimizer(name).__name__ == "AdamW"


@pytest.mark.parametrize(
    "name", ["gradient_descent", "GradientDescent", "gradientdescent"]
)
def test_a_rule_has_the_name_of_its_class(name: str) -> None:
    assert load_optimizer(name).__name__ == "GradientDescent"


@pytest.mark.parametrize("name", resources.library())
def test_every_rule_loads(name: str) -> None:
    cls = load_optimizer(name)
    assert issubclass(cls, Optimizer)
    assert cls is getattr(optdsl.optim, cls.__name__)
    assert cls.__module__ == f"optdsl.optim.{name}"


@pytest.mark.parametrize(
    "written", ["mine.opt", "./mine.opt", "~/mine.opt", "rules/mine.opt"]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_found(
    folder: Path, written: str, kind: Callable[[str], Any]
) -> None:
    (folder / "rules").mkdir()
    for path in ("mine.opt", "rules/mine.opt"):
        (folder / path).write_text(MINE)
    assert load_optimizer(kind(written)).__name__ == "Mine"


def test_a_file_wins_over_the_library_where_a_path_is_meant(folder: Path) -> None:
    (folder / "adam.opt").write_text(MINE)
    assert load_optimizer("adam.opt").__name__ == "Mine"
    assert load_optimizer("adam").__name__ == "Adam"


@pytest.mark.parametrize(
    "text", ["\ufeff" + MINE, MINE.replace("\n", "\r\n"), MINE.rstrip()]
)
def test_a_file_of_another_editor_is_read(folder: Path, text: str) -> None:
    (folder / "mine.opt").write_bytes(text.encode())
    assert load_optimizer("mine.opt").__name__ == "Mine"


def test_the_same_text_is_the_same_class(folder: Path) -> None:
    (folder / "mine.opt").write_text(MINE)
    assert load_optimizer("mine.opt") is load_optimizer(folder / "mine.opt")
    assert from_string(MINE) is from_string(MINE)
    assert from_string(MINE) is not from_string(MINE.replace("0.5", "0.25"))


def test_an_edited_file_is_another_class(folder: Path) -> None:
    (folder / "mine.opt").write_text(MINE)
    before = load_optimizer("mine.opt")
    (folder / "mine.opt").write_text(MINE.replace("0.5", "0.25"))
    assert load_optimizer("mine.opt") is not before
    assert load_optimizer("mine.opt")([Parameter(torch.ones(1))]).defaults["lr"] == 0.25


# ---- what is not


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("adma", ["no rule `adma`", "did you mean `adam`?"]),
        ("zzzzzz", ["no rule `zzzzzz`", "adamw", "momentum"]),
        ("missing.opt", ["cannot read `missing.opt`", "no such file", "mine.opt"]),
        ("mien.opt", ["did you mean `mine.opt`?"]),
        ("nowhere/mine.opt", ["there is no folder `nowhere`"]),
        ("mine", ["there is a file of this name", "`mine.opt`"]),
        ("./", ["is a folder", "mine.opt"]),
        (Path(), ["is a folder", "mine.opt"]),
        (Path("empty"), ["is a folder", "no `.opt` file"]),
        (MINE, ["text of a spec", "from_string"]),
        ("", ["no rule"]),
        ("a\0b.opt", ["cannot read"]),
    ],
)
def test_what_is_not_there_is_said(
    folder: Path, spec: str | Path, said: list[str]
) -> None:
    (folder / "mine.opt").write_text(MINE)
    (folder / "empty").mkdir()
    with pytest.raises(OptdslError) as error:
        load_optimizer(spec)
    assert [each.code for each in error.value.diagnostics] == ["E0100"]
    for each in said:
        assert each in str(error.value)


def test_what_is_no_text_is_said(folder: Path) -> None:
    (folder / "mine.opt").write_bytes(b"optimizer \xff")
    (folder / "large.opt").write_bytes(b"#" * 1_000_000)
    for name, code in (("mine.opt", "E0102"), ("large.opt", "E0101")):
        with pytest.raises(OptdslError) as error:
            load_optimizer(name)
        assert [each.code for each in error.value.diagnostics] == [code]


def test_an_error_is_data(folder: Path) -> None:
    (folder / "mine.opt").write_text(MINE.replace("lr*grad", "lr*gard + m"))
    with pytest.raises(OptdslError) as error:
        load_optimizer("mine.opt")
    found = [(each.code, each.line, each.column) for each in error.value.diagnostics]
    assert found == [("E0201", 3, 15), ("E0201", 3, 22)]
    assert "gard" in error.value.diagnostics[0].message
    assert error.value.diagnostics[0].source.name == "mine.opt"
    assert "mine.opt:3:15" in str(error.value)


# ---- what the class shows


@pytest.mark.parametrize("cls", [load_optimizer("adam"), from_string(MINE)])
def test_the_source_of_a_class_shows(cls: type[Optimizer]) -> None:
    assert inspect.getsource(cls).startswith(f"class {cls.__name__}(Optimizer):")
    assert "def step(self, closure" in inspect.getsource(cls.step)
    assert inspect.getsource(cls) in inspect.getsource(sys.modules[cls.__module__])


def test_the_source_is_what_the_compiler_prints() -> None:
    module = sys.modules[from_string(MINE).__module__]
    assert inspect.getsource(module) == compile_source(MINE)


@pytest.mark.parametrize("cls", [load_optimizer("adam"), from_string(MINE)])
def test_a_traceback_shows_the_generated_line(cls: type[Optimizer]) -> None:
    p = Parameter(torch.ones(2))
    p.grad = torch.ones(2).to_sparse()
    with pytest.raises(RuntimeError) as error:
        cls([p]).step()
    shown = "".join(traceback.format_exception(error.value))
    assert (
        f'raise RuntimeError("{cls.__name__} does not support sparse gradients")'
        in shown
    )


def test_the_library_is_a_module() -> None:
    from optdsl.optim.adamw import AdamW as Same

    from optdsl.optim import AdamW

    assert AdamW is Same is load_optimizer("adamw")
    there = {**resources.library(), **resources.routes()}
    assert "AdamW" in optdsl.optim.__all__ and len(optdsl.optim.__all__) == len(there)
    assert dir(optdsl.optim) == sorted(optdsl.optim.__all__)
    with pytest.raises(AttributeError, match="Nothing"):
        optdsl.optim.Nothing  # noqa: B018
    with pytest.raises(ImportError):
        from optdsl.optim import Nothing  # noqa: F401


def test_a_compiled_file_needs_no_optdsl(tmp_path: Path) -> None:
    """Every rule, written to a file, gives the same bits where optdsl is not installed."""
    is_sparse = {}
    for name in resources.library():
        (tmp_path / f"compiled_{name}.py").write_text(of_library(name).python)
        start = side(load_optimizer(name))
        torch.save([*start.parameters.values()], tmp_path / f"{name}.start")
        start.give(0)
        is_sparse[name] = start.parameters["matrix"].grad.is_sparse
    code = f"""
import importlib, sys
sys.modules["optdsl"] = None
import torch
for name, is_sparse in {is_sparse!r}.items():
    module = importlib.import_module("compiled_" + name)
    params = torch.load(name + ".start", weights_only=False)
    torch.manual_seed(0)
    optimizer = getattr(module, module.__all__[0])(params)
    for step in range(3):
        for p in params:
            grad = (p.detach() * (step + 1)).sin()
            p.grad = grad.to_sparse() if is_sparse else grad
        optimizer.step()
    torch.save([p.detach() for p in params], name + ".end")
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True
    )
    for name in resources.library():
        torch.manual_seed(0)
        ours, theirs = side(load_optimizer(name)), side(load_optimizer(name))
        for step in range(3):
            for p in ours.parameters.values():
                grad = (p.detach() * (step + 1)).sin()
                p.grad = grad.to_sparse() if is_sparse[name] else grad
            ours.optimizer.step()
        ends = torch.load(tmp_path / f"{name}.end")
        with torch.no_grad():
            for p, end in zip(theirs.parameters.values(), ends, strict=True):
                p.copy_(end)
        theirs.optimizer.load_state_dict(ours.optimizer.state_dict())
        assert_same(ours, theirs, name)
