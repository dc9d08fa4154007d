"""What the README shows is what happens."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
import torch
from built import explained, of_library

from optdsl import OptdslError, from_string
from optdsl.explain import coverage
from optdsl.explain.page import page
from optdsl.resources import PACKAGE, library

PATH = PACKAGE.parent / "README.md"
README = PATH.read_text(encoding="utf-8")
TABLE = re.compile(
    "(?<=<!-- optdsl list --markdown -->\n).*?(?=<!-- end -->)", re.DOTALL
)
BLOCKS = re.findall(r"^```\w*\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SPECS = [
    block for block in BLOCKS if re.search(r"^optimizer \w+$", block, re.MULTILINE)
]


@pytest.mark.parametrize("text", SPECS)
def test_a_spec_of_the_readme_trains(text: str) -> None:
    p = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = from_string(text)([p])
    for _ in range(3):
        p.grad = p.detach().clone()
        optimizer.step()
    assert torch.isfinite(p).all() and p.abs().sum() < 6


def test_the_generated_code_of_the_readme_is_the_compiler_s() -> None:
    (shown,) = [block for block in BLOCKS if block.startswith("def _single_tensor")]
    assert f"\n\n\n{shown}\n" in of_library("momentum").python


def test_the_mistake_of_the_readme_is_answered_as_it_says() -> None:
    (shown,) = [block for block in BLOCKS if block.startswith("error[")]
    text = "optimizer Adam\nhyper lr = 1e-3\nhyper beta2 = 0.999\nstate v = 0\nstep:\n"
    text += "    v = lerp(v, grad*grad, 1 - bata2)\n    p -= lr*beta2*grad/v\n"
    with pytest.raises(OptdslError) as caught:
        from_string(text, "adam.opt")
    assert str(caught.value) + "\n" == shown


def test_the_table_of_the_library_is_up_to_date() -> None:
    table = coverage.table({name: explained(name) for name in library()})
    if os.environ.get("OPTDSL_BLESS"):
        PATH.write_text(TABLE.sub(lambda _: table, README), encoding="utf-8")
    (shown,) = TABLE.findall(PATH.read_text(encoding="utf-8"))
    assert shown == table, "`make bless` writes it"


def test_what_the_readme_shows_of_an_explanation_is_printed() -> None:
    (shown,) = re.findall(r"^    \$ optdsl explain lion\n(.*?)^\S", README, re.M | re.S)
    printed = page(explained("lion"))
    blocks = [
        each for each in re.split(r"^ *\.\.\.\n", shown, flags=re.M) if each.strip()
    ]
    for block in blocks:
        assert textwrap.dedent(block).strip("\n") in printed


def test_the_demo_ends_as_the_readme_says() -> None:
    """As a user runs it: without what the tests set in the environment."""
    pytest.importorskip("sklearn")
    user = {k: v for k, v in os.environ.items() if not k.startswith("OPTDSL_")}
    command = [sys.executable, "-m", "examples.digits"]
    ran = subprocess.run(
        command, cwd=PACKAGE.parent, env=user, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    shown = re.findall(r"2\.2552 +│ 0\.\d+ +│ [\d.]+%", README)
    assert len(shown) == 2 and all(each in ran.stdout for each in shown)
