"""What the README shows is what happens."""

import re

import pytest
import torch
from built import of_library

from optdsl import OptdslError, from_string
from optdsl.resources import PACKAGE

README = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
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
