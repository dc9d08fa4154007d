"""`optdsl bench`: what it measures, not how long that takes."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from optdsl.bench import NAMED
from optdsl.cli import main

TINY = "import torch\n\ndef tiny():\n    return torch.nn.Linear(3, 2)\n\nwrong = None\n"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "of_the_user.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OPTDSL_CACHE_DIR", str(tmp_path))
    return "of_the_user:tiny"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments, "--rounds", "2"])


def test_sizes_are_those_of_the_models() -> None:
    counts = {
        name: (len(each.sizes), sum(map(math.prod, each.sizes)))
        for name, each in NAMED.items()
    }
    assert counts["gpt2"] == (148, 124_439_808)
    assert counts["resnet50"] == (161, 25_557_032)
    assert counts["many"] == counts["groups"] == (1000, 4_096_000)


@pytest.mark.parametrize(
    ("spec", "settings", "bytes_", "theirs"),
    [
        ("adamw", (), 28, ["torch loop", "torch foreach", "torch fused"]),
        (
            "sgd",
            ("--set", "momentum=0.9"),
            20,
            ["torch loop", "torch foreach", "torch fused"],
        ),
        ("sgd", (), 12, ["torch loop", "torch foreach", "torch fused"]),
        ("rmsprop", (), 20, ["torch loop", "torch foreach"]),
        ("lion", (), 20, []),
    ],
)
def test_every_way_is_a_row(
    model: str, spec: str, settings: tuple[str, ...], bytes_: int, theirs: list[str]
) -> None:
    result = run(spec, "--model", model, "--json", *settings)
    assert result.exit_code == 0, result.output
    (measured,) = json.loads(result.output)
    assert measured["numbers"] == 8
    assert measured["bytes"] == bytes_
    ways = [row["way"] for row in measured["rows"]]
    assert ways == ["loop", "foreach", "fused", *theirs, "stream"]
    for row in measured["rows"]:
        assert row["milliseconds"] > 0 and row["gigabytes"] > 0 and row["share"] > 0


def test_a_rule_without_kernels_has_no_row_for_them(model: str) -> None:
    result = run("adafactor", "--model", model, "--json")
    (measured,) = json.loads(result.output)
    assert "fused" not in [row["way"] for row in measured["rows"]]


def test_a_table_and_a_chart(model: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run("lion", "--model", model, "--plot", "chart.png")
    assert result.exit_code == 0, result.output
    assert "Lion, of_the_user:tiny" in result.output
    assert "fused" in result.output
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nosuch",), "nosuch"),
        (("lion", "--shapes", "huge"), "huge"),
        (("lion", "--model", "nosuch:model"), "makes no module"),
        (("lion", "--model", "of_the_user:wrong"), "makes no module"),
        (("lion", "--model", "of_the_user:tiny", "--set", "lr"), "HYPER=JSON"),
        (("lion", "--model", "of_the_user:tiny", "--set", "lr=-1"), "Invalid lr"),
        (("lion", "--model", "of_the_user:tiny", "--set", "speed=1"), "speed"),
        (("lion", "--device", "moon"), "moon"),
    ],
)
def test_what_cannot_be_measured_is_said(
    model: str, arguments: tuple[str, ...], said: str
) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert said in result.output + getattr(result, "stderr", "")
    assert "Traceback" not in result.output
