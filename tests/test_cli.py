"""The command line: what it prints, writes and leaves alone, and its exit codes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from built import once
from click.testing import CliRunner, Result

from optdsl import cli, compile_source, resources, write
from optdsl.cli import main
from optdsl.emit import DEVICES, WAYS

ROOT = Path(__file__).parent.parent
MINE = "optimizer Mine\nhyper lr = 0.5\nstep: p -= lr*grad\n"
WRONG = MINE.replace("lr*grad", "lr*gard")


@pytest.fixture(autouse=True)
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "build", once)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a good and a wrong spec."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.opt").write_text(MINE)
    (tmp_path / "wrong.opt").write_text(WRONG)
    return tmp_path


def optdsl(*arguments: str | Path, exits: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == exits, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.suffix != ".opt")


COMPILED = compile_source(MINE, "mine.opt")


# ---- compile


def test_compile_writes_beside_nothing_else(folder: Path) -> None:
    result = optdsl("compile", "mine.opt")
    assert files(folder) == ["mine.py"]
    assert (folder / "mine.py").read_text() == COMPILED
    assert (result.stdout, result.stderr) == ("", "wrote mine.py\n")


def test_compile_knows_the_library(folder: Path) -> None:
    optdsl("compile", "AdamW", "adam", "mine.opt")
    assert files(folder) == ["adam.py", "adamw.py", "mine.py"]


@pytest.mark.parametrize(
    ("output", "written"),
    [("other.py", "other.py"), ("out/", "out/mine.py"), ("there", "there/mine.py"),
     ("new/deep/other.py", "new/deep/other.py")],
)  # fmt: skip
def test_compile_writes_where_it_is_told(
    folder: Path, output: str, written: str
) -> None:
    (folder / "there").mkdir()
    optdsl("compile", "mine.opt", "-o", output)
    assert files(folder) == [written]
    assert (folder / written).read_text() == COMPILED


def test_compile_prints(folder: Path) -> None:
    assert optdsl("compile", "mine.opt", "-o", "-").stdout == COMPILED
    assert files(folder) == []


def test_compile_again_changes_nothing(folder: Path) -> None:
    for _ in range(2):
        optdsl("compile", "mine.opt")
    (folder / "mine.opt").write_text(MINE.replace("0.5", "0.25"))
    optdsl("compile", "mine.opt")
    assert "lr: float = 0.25" in (folder / "mine.py").read_text()


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("print('mine')\n", "was not written by optdsl"),
        ("", "was not written by optdsl"),
        (COMPILED.replace("0.5", "0.7"), "was edited"),
        (COMPILED + "# a note\n", "was edited"),
    ],
)
def test_compile_leaves_the_work_of_others_alone(
    folder: Path, there: str, why: str
) -> None:
    (folder / "mine.py").write_text(there)
    result = optdsl("compile", "adam", "mine.opt", exits=1)
    assert why in result.stderr and "--force" in result.stderr
    assert files(folder) == ["mine.py"], "nothing is written where one file is refused"
    assert (folder / "mine.py").read_text() == there
    optdsl("compile", "mine.opt", "--force")
    assert (folder / "mine.py").read_text() == COMPILED


def test_compile_leaves_what_is_no_text_alone(folder: Path) -> None:
    (folder / "mine.py").write_bytes(b"\xff\xfe\0")
    optdsl("compile", "mine.opt", exits=1)
    assert (folder / "mine.py").read_bytes() == b"\xff\xfe\0"


def test_compile_keeps_the_mode_of_a_file_and_the_target_of_a_link(
    folder: Path,
) -> None:
    optdsl("compile", "mine.opt", "-o", "real.py")
    (folder / "real.py").chmod(0o640)
    (folder / "link.py").symlink_to("real.py")
    (folder / "mine.opt").write_text(MINE.replace("0.5", "0.25"))
    optdsl("compile", "mine.opt", "-o", "link.py")
    assert (folder / "link.py").is_symlink()
    assert "0.25" in (folder / "real.py").read_text()
    assert (folder / "real.py").stat().st_mode & 0o777 == 0o640


def test_compile_check_writes_nothing(folder: Path) -> None:
    assert "mine.py differs" in optdsl("compile", "mine.opt", "--check", exits=1).stderr
    assert files(folder) == []
    optdsl("compile", "mine.opt")
    optdsl("compile", "mine.opt", "--check")
    (folder / "mine.py").write_text(COMPILED + "\n")
    optdsl("compile", "mine.opt", "--check", exits=1)
    assert (folder / "mine.py").read_text() == COMPILED + "\n"


def test_compile_with_a_wrong_spec_writes_nothing(folder: Path) -> None:
    result = optdsl("compile", "mine.opt", "wrong.opt", "missing.opt", exits=1)
    assert re.findall(r"error\[(\w+)\]", result.stderr) == ["E0201", "E0100"]
    assert files(folder) == []


def test_a_write_that_fails_leaves_no_part(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "mine.py")

    (folder / "mine.py").write_text(COMPILED)
    (folder / "mine.opt").write_text(MINE.replace("0.5", "0.25"))
    monkeypatch.setattr(write.os, "replace", full)
    result = optdsl("compile", "mine.opt", exits=1)
    assert "No space left" in result.stderr
    assert files(folder) == ["mine.py"]
    assert (folder / "mine.py").read_text() == COMPILED


@pytest.mark.parametrize("output", ["mine.opt/out.py", "mine.opt/"])
def test_a_folder_that_is_a_file_is_said(folder: Path, output: str) -> None:
    result = optdsl("compile", "adam", "-o", output, exits=1)
    assert result.stderr.startswith("error: ") and "mine.opt" in result.stderr
    assert (folder / "mine.opt").read_text() == MINE


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile"],
        ["compile", "mine.opt", "adam", "-o", "one.py"],
        ["compile", "mine.opt", "-o", "-", "--check"],
        ["compile", "mine.opt", "./mine.opt"],
        ["compile", "mine.opt", "--fast"],
        ["check"],
        ["check", "empty"],
        ["show", "adam", "--stage", "nothing"],
        ["show", "adam", "adamw"],
        ["explain"],
        ["explain", "E9999"],
        ["explain", "adm"],
        ["explain", "E0201", "--json"],
        ["nothing"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(folder: Path, arguments: list[str]) -> None:
    (folder / "empty").mkdir()
    result = optdsl(*arguments, exits=2)
    assert result.stdout == "" and "Usage:" in result.stderr
    assert files(folder) == []


# ---- the other commands


def test_check_counts_what_is_good(folder: Path) -> None:
    assert optdsl("check", "mine.opt", "adam").stderr == "2 specs, no mistakes\n"
    assert optdsl("check", resources.folder("specs")).stderr.endswith(", no mistakes\n")


@pytest.mark.parametrize("spec", ["wrong.opt", "."])
def test_check_shows_what_is_wrong(folder: Path, spec: str) -> None:
    result = optdsl("check", spec, exits=1)
    assert "error[E0201]" in result.stderr and "wrong.opt:3:15" in result.stderr
    assert "\x1b" not in result.stderr, "no colours where no terminal reads"


@pytest.mark.parametrize(
    "stage", ["tree", "checked", "lowered", *WAYS, *DEVICES, "python"]
)
@pytest.mark.parametrize("spec", resources.library())
def test_show_prints_every_stage(spec: str, stage: str) -> None:
    shown = optdsl("show", spec, "--stage", stage).stdout
    assert shown.endswith("\n") and not shown.endswith("\n\n")
    assert " object at 0x" not in shown and "span" not in shown
    whole = optdsl("show", spec).stdout
    assert (shown == whole) == (stage == "python")
    assert stage not in ("loop", "foreach") or shown in whole


def test_show_of_a_wrong_spec_prints_nothing(folder: Path) -> None:
    assert optdsl("show", "wrong.opt", exits=1).stdout == ""


def test_list_has_a_line_for_each_rule() -> None:
    lines = optdsl("list").stdout.splitlines()
    names = [*resources.library(), *resources.routes(), *resources.modifiers()]
    assert [line.split()[0] for line in lines] == names
    assert all(len(line.split()) > 2 for line in lines)


@pytest.mark.parametrize("code", ["E0201", "e0201"])
def test_explain_shows_why(code: str) -> None:
    shown = optdsl("explain", code).stdout
    assert shown.startswith("E0201: ") and "Bad:" in shown and "Good:" in shown


# ---- as a process


def run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        *(["-c", code] if code else ["-m", "optdsl"]),
        *arguments,
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def test_check_does_not_import_torch(folder: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from optdsl.cli import main; "
        "main(['check', 'mine.opt', 'adam', 'wrong.opt'])"
    )
    result = run(code=code)
    assert result.returncode == 1, result.stderr
    assert "E0201" in result.stderr and "Traceback" not in result.stderr


def test_a_process_has_the_exit_codes_and_streams(folder: Path) -> None:
    good, wrong, usage = (
        run("compile", "mine.opt", "-o", "-"),
        run("check", "wrong.opt"),
        run("x"),
    )
    assert (good.returncode, good.stdout, good.stderr) == (0, COMPILED, "")
    assert (wrong.returncode, wrong.stdout) == (1, "") and "E0201" in wrong.stderr
    assert usage.returncode == 2


def test_a_closed_pipe_is_no_traceback() -> None:
    command = f"{sys.executable} -m optdsl show adam | head -n 1"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, env=env
    )
    assert result.stdout == '"""Adam.\n' and "Traceback" not in result.stderr
