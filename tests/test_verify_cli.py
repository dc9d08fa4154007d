"""`optdsl verify`: what it judges, what it prints, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from optdsl import resources
from optdsl.cli import main
from optdsl.verify import Report, Row, table

MINE = "optimizer Mine\nhyper lr = 0.5 in [0, inf)\nstep: p -= lr*grad\n"
ROOT = Path(__file__).parent.parent


def optdsl(*arguments: str, exits: int = 0) -> Result:
    result = CliRunner().invoke(main, ["verify", *arguments])
    assert result.exit_code == exits, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.opt").write_text(MINE)
    return tmp_path


def test_a_file_is_judged(folder: Path) -> None:
    result = optdsl("mine.opt")
    assert result.stdout.startswith("mine.opt: ")
    assert "a group can be added later" in result.stdout
    assert "fail" not in result.stdout


def test_a_failure_exits_one_and_is_in_the_table() -> None:
    result = optdsl("tests.broken.gradients:DecayTooLate", exits=1)
    words = " ".join(result.stdout.replace("│", " ").split())
    assert "weight decay matters fail defaults" in words


def test_json_is_for_machines() -> None:
    name = "tests.broken.gradients:DecayTooLate"
    (report,) = json.loads(optdsl(name, "--json", exits=1).stdout)
    assert report["subject"] == name and report["failed"] == 2
    failed = [each["check"] for each in report["rows"] if each["outcome"] == "fail"]
    assert failed == ["options have an effect", "weight decay matters"]


def test_a_class_of_the_current_folder_is_found(folder: Path) -> None:
    (folder / "written.py").write_text(
        "from torch.optim import SGD\nprint('hello')\nclass Own(SGD):\n"
        "    def step(self): raise NotImplementedError('to come')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "optdsl", "verify", "written:Own", "--json"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, "it never steps"
    assert "Traceback" not in ran.stderr
    assert json.loads(ran.stdout)[0]["subject"] == "written:Own"


def test_another_reference_and_other_names(folder: Path) -> None:
    twin = "tests.broken.sound:Momentum"
    mine = MINE.replace(
        "step:", "hyper momentum = 0.9\nstate v = 0\nstep: v = momentum*v + grad;"
    )
    (folder / "mine.opt").write_text(mine.replace("lr*grad", "lr*v"))
    arguments = ("mine.opt", "--against", twin, "--map", "buf=v", "--json")
    (report,) = json.loads(optdsl(*arguments).stdout)
    (row,) = [e for e in report["rows"] if e["check"] == "it steps as its reference"]
    assert row["outcome"] == "pass" and "not compared" not in row["detail"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name what to verify, or say --all"),
        (["--all", "adam"], "name what to verify, or say --all"),
        (["adam", "lion", "--against", "torch.optim:Adam"], "--against is for one"),
        (["adam", "--map", "exp_avg"], "--map takes THEIRS=OURS"),
        (["nowhere:Adam"], "cannot import `nowhere`"),
        (["torch.optim:Adamm"], "`torch.optim` has no `Adamm`"),
        (["adam", "--against", "torch.optim:Adamm"], "has no `Adamm`"),
    ],
)
def test_wrong_usage_exits_two(arguments: list[str], said: str) -> None:
    assert said in " ".join(optdsl(*arguments, exits=2).stderr.split())


def test_a_wrong_spec_is_a_diagnostic(folder: Path) -> None:
    (folder / "mine.opt").write_text(MINE.replace("lr*grad", "lr*gard"))
    assert "did you mean `grad`?" in optdsl("mine.opt", exits=1).stderr
    assert "no rule `addam`" in optdsl("addam", exits=1).stderr


def test_all_is_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def verify(subject: str, *_) -> Report:
        asked.append(subject)
        return Report(subject, (Row("it exists", "pass", ""),))

    monkeypatch.setattr(table.judge, "verify", verify)
    result = optdsl("--all")
    assert asked == [*resources.library(), *resources.routes()]
    assert result.stdout.count("it exists") == len(asked)
