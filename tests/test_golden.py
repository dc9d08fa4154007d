"""The generated files stand under tests/golden as real Python, and the stubs in the
package: `make bless` writes both after a change that is meant.
"""

import os
from functools import cache
from pathlib import Path

import pytest
from built import of_library
from jinja2.meta import find_undeclared_variables

from optdsl.emit.page import TEMPLATE, environment, holes
from optdsl.emit.stub import stub
from optdsl.resources import PACKAGE, library, routes

GOLDEN = Path(__file__).parent / "golden"
BLESS = os.environ.get("OPTDSL_BLESS")


def _same(path: Path, text: str) -> None:
    if BLESS:
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), "missing; `make bless` writes it"
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", library() | routes())
def test_the_generated_file_is_the_golden_one(name: str) -> None:
    _same(GOLDEN / f"{name}.py", of_library(name).python)


@pytest.mark.parametrize("name", library() | routes())
def test_no_line_is_longer_than_88_columns(name: str) -> None:
    assert [
        line for line in of_library(name).python.splitlines() if len(line) > 88
    ] == []


@cache
def holes_of_the_template() -> set[str]:
    source = environment().loader.get_source(environment(), TEMPLATE)[0]
    return find_undeclared_variables(environment().parse(source))


@pytest.mark.parametrize("name", library())
def test_the_template_has_a_hole_for_every_part_and_no_other(name: str) -> None:
    assert holes(of_library(name).lowered).keys() == holes_of_the_template()


def test_no_golden_file_is_an_orphan() -> None:
    assert {path.stem for path in GOLDEN.glob("*")} - {"__pycache__"} == {
        *library(),
        *routes(),
    }


def test_the_stubs_are_those_of_the_library() -> None:
    rules = [of_library(name).lowered.loop for name in library()]
    chosen = map(of_library, routes())
    among = {
        each.name: {name: rule.lowered for name, rule in each.rules.items()}
        for each in chosen
    }
    _same(PACKAGE / "optim" / "__init__.pyi", stub(rules, among))
