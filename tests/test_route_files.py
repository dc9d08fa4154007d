"""Routes as files: rules beside a spec, what is generated, what is told of it."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from routed_block import PAIRS, SPLIT, block, give, run

from optdsl import compile_source, load, load_optimizer
from optdsl.cli import main
from optdsl.explain.routes import explain_route
from optdsl.find import find
from optdsl.optim import MuonAdamW
from optdsl.pipeline import Routed, build
from optdsl.resources import routes
from optdsl.verify import verify
from optdsl.verify.outcome import FAIL


def test_a_rule_may_be_a_file_beside_the_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "build", build)  # and not what was built before
    own = "optimizer Own\nhyper lr = 0.5\nuse clip_value(max_value=0.1)\nstep: p -= lr*grad\n"
    (tmp_path / "own.opt").write_text(own)
    spec = tmp_path / "mine.opt"
    spec.write_text(SPLIT.format("own(lr=0.25)", "sgd"))
    cls = load_optimizer(spec)
    one = block()
    optimizer = cls(one.parameters())
    assert optimizer.param_groups[0]["lr"] == 0.25
    run(one, optimizer)
    carried = pickle.dumps((one, optimizer))
    assert cls is type(pickle.loads(carried)[1])
    (tmp_path / "carried").write_bytes(carried)
    (tmp_path / "own.opt").write_text(own.replace("0.1", "0.2"))
    assert load_optimizer(spec) is not cls
    (tmp_path / "own.opt").unlink()
    code = (
        "import pickle, torch, test_route; "
        f"_, o = pickle.loads(open({str(tmp_path / 'carried')!r}, 'rb').read()); "
        "o.step(); print(type(o).__name__, o.param_groups[0]['lr'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "Split 0.25\n"


def test_what_the_rules_have_alike_stands_there_once() -> None:
    text = build(find("muon_adamw")).python
    for name in ("_check_number", "_alike", "_check_capturable"):
        assert text.count(f"def {name}(") == 1
    for name in ("_check_hypers_muon", "_check_hypers_adamw", "_single_tensor_muon"):
        assert text.count(f"def {name}(") == 1
    assert "import optdsl" not in text


def test_names_of_two_rules_that_clash_are_told_apart(tmp_path: Path) -> None:
    """One class name, one def with two meanings, and a def called as a function here."""
    for name, factor in ("a", 2), ("b", 3):
        (tmp_path / f"{name}.opt").write_text(
            f"optimizer Same\nhyper lr = 0.1\ndef Same(x) = {factor}*x\n"
            "def line(x) = x\nstep: p -= lr*line(Same(grad))\n"
        )
    spec = tmp_path / "both.opt"
    spec.write_text(SPLIT.format("a", "b"))
    one, two = block(), block()
    run(one, load_optimizer(spec)(one.parameters()), steps=range(1))
    give(two, 0)
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        moved = q - 0.1 * (2 if q.ndim == 2 else 3) * q.grad
        assert torch.allclose(p, moved, rtol=1e-6, atol=1e-7)


def test_the_library_s_routes_are_right() -> None:
    assert [*routes()] == ["muon_adamw"]
    for name in routes():
        report = verify(name)
        assert [row for row in report.rows if row.outcome == FAIL] == []
    assert load_optimizer("MuonAdamW") is MuonAdamW


def test_the_command_line_knows_routes(tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        result = CliRunner().invoke(main, [*arguments])
        assert result.exit_code == 0, result.output
        return result.output

    assert "muon_adamw" in said("list") and "MuonAdamW" in said("list")
    said("check", "muon_adamw")
    said("compile", "muon_adamw", "-o", str(tmp_path / "it.py"))
    said("compile", "--check", "muon_adamw", "-o", str(tmp_path / "it.py"))
    assert "class MuonAdamW(Optimizer)" in said("show", "muon_adamw")
    assert "route:" in said("show", "muon_adamw", "--stage", "spec")
    assert "Case\n" in said("show", "muon_adamw", "--stage", "tree")
    foreach = said("show", "muon_adamw", "--stage", "foreach")
    assert "_multi_tensor_muon" in foreach and "_multi_tensor_adamw" in foreach
    page = said("explain", "muon_adamw")
    assert "else -> adamw(lr=3e-4" in page
    assert "- muon -" in page and "- adamw -" in page and "second moment" in page
    made = json.loads(said("explain", "muon_adamw", "--json"))
    assert [*made["rules"]] == ["muon", "adamw"] and len(made["route"]) == 2
    assert said("explain", "muon_adamw", "--latex").count(r"\begin{align") == 2
    refused = CliRunner().invoke(main, ["compile", "muon_adamw", "--use", "cautious"])
    assert refused.exit_code == 1 and "E0114" in refused.output


def test_what_is_explained_is_what_is_built() -> None:
    routed = build(find("muon_adamw"))
    assert isinstance(routed, Routed)
    explained = explain_route(routed)
    assert explained.rules.keys() == routed.rules.keys()
    assert [each.split("->")[1].split("(")[0].strip() for each in explained.lines] == [
        each.rule for each in routed.route.lines
    ]


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_no_line_is_longer_than_88_columns(pair: tuple[str, str]) -> None:
    text = compile_source(SPLIT.format(*pair))
    assert [line for line in text.splitlines() if len(line) > 88] == []
