"""Wrong routes are answered with what is wrong, and where."""

import random
import re
from pathlib import Path

import pytest
import torch
from routed_block import SPLIT, block
from torch import nn

from optdsl import OptdslError, from_string, load_optimizer
from optdsl.pipeline import build
from optdsl.source import Source


def codes(text: str) -> list[str]:
    with pytest.raises(OptdslError) as caught:
        build(Source("route.opt", text))
    return [each.code for each in caught.value.diagnostics]


LINES = {
    "ndim(p) >= 2 -> muon": ["E0115"],
    "else -> adamw\nndim(p) >= 2 -> muon": ["E0116"],
    "else -> adamw\nelse -> muon": ["E0116"],
    "ndim(p) > 1 -> sgd\nndim(p) > 1 -> muon\nelse -> adamw": ["E0116"],
    "1 < 2 -> muon\nelse -> adamw": ["E0116"],
    "true -> muon\nelse -> adamw": ["E0116"],
    "else -> moun": ["E0214"],
    "else -> cautious": ["E0113"],
    "else -> muon_adamw": ["E0215"],
    "else -> adamw(lrr=1)": ["E0507"],
    "else -> adamw(lr=1, lr=2)": ["E0202"],
    "else -> adamw(lr=-1)": ["E0501"],
    "else -> adamw(lr=grad)": ["E0306"],
    "else -> adamw(lr=foo)": ["E0201"],
    "else -> adamw(lr=1/0)": ["E0506"],
    "ndim(p) -> muon\nelse -> adamw": ["E0404"],
    "ndim(grad) > 1 -> muon\nelse -> adamw": ["E0306"],
    "foreach -> muon\nelse -> adamw": ["E0306"],
    "lr > 1 -> muon\nelse -> adamw": ["E0201"],
    "name -> muon\nelse -> adamw": ["E0404"],
    'matches(name, "(") -> muon\nelse -> adamw': ["E0508"],
    'matches(name, "a{99999999999}") -> muon\nelse -> adamw': ["E0508"],
    'matches(p, "a") -> muon\nelse -> adamw': ["E0402"],
    "matches(name) -> muon\nelse -> adamw": ["E0402"],
    "norm(p) > 1 -> muon\nelse -> adamw": ["E0401"],
    "else -> params": ["E0203"],
    "else -> rule": ["E0203"],
    "else -> _hidden": ["E0203"],
    "p -= lr*grad": ["E0108"],
    "else -> adamw(": ["E0105"],
    "else ->": ["E0108"],
    "-> adamw": ["E0108"],
}


@pytest.mark.parametrize("lines", LINES)
def test_a_wrong_line_is_answered(lines: str) -> None:
    inside = "\n".join(f"    {each}" for each in lines.split("\n"))
    assert codes(f"optimizer Wrong\nroute:\n{inside}\n") == LINES[lines]


WHOLE = {
    "route: else -> adamw": ["E0110"],
    "optimizer A\nroute: else -> adamw\nroute: else -> sgd": ["E0112"],
    "optimizer A\noptimizer B\nroute: else -> adamw": ["E0112"],
    "optimizer A\nroute: else -> adamw\nstep: p -= grad": ["E0114"],
    "optimizer A\nhyper lr = 1\nroute: else -> adamw": ["E0114"],
    "optimizer A\nuse decay\nroute: else -> adamw": ["E0114"],
    "optimizer A\nmode eval: p = p\nroute: else -> adamw": ["E0114"],
    "modifier a\nroute: else -> adamw": ["E0110", "E0114"],
    "optimizer int\nroute: else -> adamw": ["E0203"],
    "optimizer A\nroute:": ["E0108"],
}


@pytest.mark.parametrize("text", WHOLE)
def test_a_wrong_spec_is_answered(text: str) -> None:
    assert codes(text + "\n") == WHOLE[text]


def test_a_mistake_in_a_rule_is_shown_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "own.opt").write_text(
        "optimizer Own\nhyper lr = 1\nstep: p -= lrr*grad\n"
    )
    spec = tmp_path / "mine.opt"
    spec.write_text(SPLIT.format("own", "sgd(lr=-2)"))
    with pytest.raises(OptdslError) as caught:
        load_optimizer(spec)
    found = [
        (Path(each.file).name, each.code, each.line)
        for each in caught.value.diagnostics
    ]
    assert ("own.opt", "E0201", 3) in found and ("mine.opt", "E0501", 5) in found


def test_a_setting_over_several_lines_is_one() -> None:
    text = SPLIT.format("sgd(\n        lr=0.1\n        * 2,  # twice\n    )", "lion")
    optimizer = from_string(text)(block().parameters())
    assert optimizer.param_groups[0]["lr"] == 0.2


def test_a_hyper_that_a_group_has_no_room_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.opt").write_text(
        "optimizer Own\nhyper rule = 0.5\nstep: p -= rule*grad\n"
    )
    spec = tmp_path / "mine.opt"
    spec.write_text(SPLIT.format("own", "sgd"))
    with pytest.raises(OptdslError, match="has a hyper `rule`"):
        load_optimizer(spec)


def test_a_rule_s_name_is_a_name_and_no_path(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (tmp_path / "own.opt").write_text("optimizer Own\nstep: p -= grad\n")
    spec = folder / "mine.opt"
    spec.write_text("optimizer A\nroute: else -> ../own\n")
    with pytest.raises(OptdslError, match="E0108"):
        load_optimizer(spec)


WORDS = """ndim(p) numel(p) size(p,-1) size(p,9) is_complex(p) is_sparse(p) finfo_eps(p) p name
matches(name,"a") matches(name,"(") matches(name,a) matches "a{2}" >= < == + - * / ** // % @
not and or if else -> ( ) , 1 -2 1e999 0 true none inf t grad lr sgd lion sgd(lr=1) :
lion(betas=(0.5,0.5)) sgd(lr=grad) ; = # [ ] route step""".split()


@pytest.mark.parametrize("seed", range(120))
def test_any_words_are_a_route_or_a_mistake(seed: int) -> None:
    """What compiles routes a parameter of any shape, or says what it cannot look up."""
    chosen = random.Random(seed)
    lines = [
        " ".join(chosen.choices(WORDS, k=chosen.randint(0, 7)))
        + chosen.choice([" -> sgd", " -> lion(lr=0.1)", " -> nobody", ""])
        for _ in range(chosen.randint(0, 3))
    ]
    inside = "\n".join(f"    {each}" for each in [*lines, "else -> sgd"])
    try:
        cls = from_string(f"optimizer Any\nroute:\n{inside}\n")
    except OptdslError as error:
        assert all(each.line <= len(lines) + 3 for each in error.diagnostics)
        return
    for shape in ((), (3,), (2, 3)):
        try:
            cls([("a", nn.Parameter(torch.ones(shape)))])
        except (IndexError, ArithmeticError):
            assert re.search(r"size|/|%|\*\*", inside)


def test_a_rule_that_takes_the_gradient_anew_is_not_for_a_route(tmp_path: Path) -> None:
    """The closure is of the whole model."""
    (tmp_path / "sharp.opt").write_text(
        "optimizer Sharp\nhyper lr = 0.1\nuse sam\nstep: p -= lr*grad\n"
    )
    routed = tmp_path / "routed.opt"
    routed.write_text(
        "optimizer Routed\nroute:\n    ndim(p) > 1 -> sharp\n    else -> sgd\n"
    )
    with pytest.raises(OptdslError) as caught:
        load_optimizer(str(routed))
    assert [each.code for each in caught.value.diagnostics] == ["E0215"]
