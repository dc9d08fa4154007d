"""Bad specs: what is found in each, where, and how it is shown.

`errors/NAME.opt` holds a mistake, marked by hand where it stands: `#~ E0201` at the end
of its line, or, where no comment can stand there, `#~ line 7: E0104` or `#~ file: E0111`
in a line of its own. `errors/NAME.err` is the rendering. OPTDSL_BLESS=1 rewrites the
renderings; it cannot move a marker.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import optdsl
from optdsl import codes
from optdsl.diagnostics import Diagnostic, OptdslError
from optdsl.find import read
from optdsl.pipeline import build
from optdsl.source import Source

FOLDER = Path(__file__).parent / "errors"
SPECS = sorted(FOLDER.glob("*.opt"))
BLESS = os.environ.get("OPTDSL_BLESS") == "1"

_MARKER = re.compile(
    r"#~ (?:(?:line (?P<line>\d+)|(?P<file>file)): )?(?P<codes>[EW]\d{4}.*)$"
)
_CODE = re.compile(r"[EW]0\d{3}")

# Where a finding stands: its line, or None for the whole file; and its code.
Place = tuple[int | None, str]


def found(source: Source) -> tuple[Diagnostic, ...]:
    """Every diagnostic of a text, errors and warnings alike, on any target."""
    try:
        return build(source).warnings
    except OptdslError as error:
        return error.diagnostics


def places(source: Source) -> set[Place]:
    return {(each.line if each.label else None, each.code) for each in found(source)}


def marked(source: Source) -> Iterator[Place]:
    for number, line in enumerate(source.lines, 1):
        marker = _MARKER.search(line)
        if marker is None:
            continue
        assert set(marker["codes"]) <= set("EW0123456789 "), f"line {number}: no marker"
        at = None if marker["file"] else int(marker["line"] or number)
        for code in marker["codes"].split():
            yield at, code


def corpus_codes() -> set[str]:
    return {code for path in SPECS for _, code in marked(read(path))}


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_bad_spec(path: Path) -> None:
    source = replace(read(path), name=path.name)
    expected = set(marked(source))
    assert expected, "the file has no marker"
    assert places(source) == expected
    rendered = "\n\n".join(map(str, found(source))) + "\n"
    golden = path.with_suffix(".err")
    if BLESS:
        golden.write_text(rendered, encoding="utf-8")
    assert golden.exists(), f"{golden.name} is missing: write it with OPTDSL_BLESS=1"
    assert rendered == golden.read_text(encoding="utf-8")


def test_every_rendering_has_its_spec() -> None:
    renderings = {path.stem for path in FOLDER.glob("*.err")}
    assert sorted(renderings - {path.stem for path in SPECS}) == []


def test_the_corpus_covers_every_code() -> None:
    assert len(SPECS) >= 60
    shown = {code.code for code in codes.CODES.values() if code.bad}
    assert sorted(shown - corpus_codes()) == []


def test_the_codes_are_those_of_the_source() -> None:
    package = Path(optdsl.__file__).parent
    used = {
        code
        for path in sorted(package.rglob("*.py"))
        if path.name != "codes.py"
        for code in re.findall(r'"([EW]0\d{3})"', path.read_text(encoding="utf-8"))
    }
    assert sorted(used - set(codes.CODES)) == []
    assert sorted(set(codes.CODES) - used) == []


def test_the_codes_are_in_order() -> None:
    assert list(codes.CODES) == sorted(codes.CODES)
    assert all(
        name == each.code and _CODE.fullmatch(name)
        for name, each in codes.CODES.items()
    )


@pytest.mark.parametrize("code", codes.CODES.values(), ids=lambda code: code.code)
def test_the_examples_of_a_code(code: codes.Code) -> None:
    assert code.title[:1] == code.title[:1].lower() and not code.title.endswith(".")
    assert code.why.endswith(".")
    assert bool(code.bad) == bool(code.good)
    if code.bad:
        assert {each.code for each in found(Source("bad.opt", code.bad))} == {code.code}
        assert [str(each) for each in found(Source("good.opt", code.good))] == []


def test_explain_says_all_of_it() -> None:
    text = codes.explain("E0201")
    code = codes.CODES["E0201"]
    assert text.startswith(f"E0201: {code.title}\n")
    for part in ("Bad:", "Good:", *code.bad.split(), *code.good.split()):
        assert part in text
    assert "Bad:" not in codes.explain("E0100")
    with pytest.raises(KeyError):
        codes.explain("E9999")
