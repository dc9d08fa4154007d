"""Files that are no specs, and specs that no one would write: each is answered in words."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "optimizer Bad\nhyper lr = 1e-3\n"
ELIF = "    elif lr > 1: p -= grad\n"
STEP = "step: p -= lr*grad\n"
FILES = {
    "empty": b"",
    "blank": b"\n \n\n",
    "binary": bytes(range(256)) * 40,
    "nul": b"optimizer Bad\0\n",
    "ten_megabytes": b"# nothing to see here\n" * 480_000,
    "one_line_of_ten_megabytes": b"x" * 10_000_000,
    "parentheses": (HEAD + f"step: p -= {'(' * 1000}lr{')' * 1000}*grad\n").encode(),
    "open_parentheses": (HEAD + f"step: p -= {'(' * 1000}").encode(),
    "minus_signs": (HEAD + f"step: p -= {'-' * 1000}lr*grad\n").encode(),
    "elif": f"{HEAD}step:\n    if lr > 0: p -= grad\n{ELIF * 999}".encode(),
    "keyword": (HEAD + "hyper lambda = 1\n" + STEP).encode(),
    "dunder": (HEAD + "state __class__ = 0\n" + STEP).encode(),
    "params": (HEAD + "hyper params = 1\n" + STEP).encode(),
    "self": (HEAD + "hyper self = 1\n" + STEP).encode(),
    "twice": (HEAD + "state lr = 0\n" + STEP).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_answered_in_words(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.opt"
    path.write_bytes(FILES[name])
    command = [sys.executable, "-m", "optdsl", "compile", str(path), "-o", "-"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error[E0") and "Traceback" not in ran.stderr
    assert ran.stdout == "" and len(ran.stderr) < 20_000


@pytest.mark.parametrize("target", ["missing.opt", "", "folder"])
def test_what_is_no_file_is_answered_in_words(target: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    command = [sys.executable, "-m", "optdsl", "check", str(tmp_path / target)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert ran.returncode in (1, 2)
    assert "Traceback" not in ran.stderr and str(tmp_path) in ran.stderr


def test_a_docstring_stays_one(tmp_path: Path) -> None:
    doc = (
        r'quotes " and "" , \ a backslash, {{ braces }}, {% a tag %}, \N{DASH} and \x41'
    )
    path = tmp_path / "doc.opt"
    path.write_text(f'"""{doc}"""\n' + HEAD + STEP)
    command = [sys.executable, "-m", "optdsl", "compile", "doc.opt"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    code = "import doc; print(doc.__doc__); print(doc.Bad.__name__)"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout == f"{doc}\nBad\n"
