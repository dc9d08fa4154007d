"""`optdsl bench`: what it measures, not how long that takes."""

import inspect
import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from optdsl.bench import NAMED
from optdsl.cli import main
from optdsl.runtime.kernel import Kernel

TINY = """import torch

def tiny():
    return torch.nn.Linear(3, 2)

def loud():
    print("made")
    return tiny()

def half():
    return tiny().bfloat16()

def mixed():
    made = tiny()
    made.bias = torch.nn.Parameter(made.bias.double())
    return made

def frozen():
    made = tiny()
    made.bias.requires_grad_(False)
    return made

wrong = None
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "of_the_user.py").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("OPTDSL_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    return "of_the_user:tiny"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments, "--rounds", "2"])


def test_what_a_factory_prints_is_no_json(model: str) -> None:
    result = run("lion", "--model", "of_the_user:loud", "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)) == 1


def test_kernels_are_built_once_in_a_run(model: str) -> None:
    """So only the first table says how long that takes."""
    Path("mine.opt").write_text("optimizer Mine\nstep: p -= 0.5*grad\n")
    result = run("mine.opt", "mine.opt", "--model", model, "--json")
    assert result.exit_code == 0, result.output
    cold, warm = (
        next(row["first"] for row in each["rows"] if row["way"] == "fused")
        for each in json.loads(result.stdout)
    )
    assert cold is not None and warm is None


def test_what_torch_cannot_compile_is_said(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(step: object) -> None:
        raise RuntimeError("nothing compiles here")

    monkeypatch.setattr(torch, "compile", refuse)
    result = run("lion", "--model", model, "--compile")
    assert result.exit_code == 2
    assert "nothing compiles here" in result.stderr


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


def test_a_rule_without_kernels_has_no_row_for_them(model: str, tmp_path: Path) -> None:
    spec = tmp_path / "mine.opt"
    spec.write_text(
        "optimizer Mine\nhyper lr = 0.1\nstate m[i in range(ndim(p))] = 0\nstep:\n"
        "    for i in range(ndim(p)):\n        m[i] += grad\n        p -= lr*m[i]\n"
    )
    result = run(str(spec), "--model", model, "--json")
    (measured,) = json.loads(result.output)
    assert "fused" not in [row["way"] for row in measured["rows"]]


def test_torch_computes_the_same(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Momentum has a default of its own; torch's class for it has none."""
    asked = []
    start = torch.optim.SGD.__init__

    def watched(self, params, **options):
        asked.append(options)
        start(self, params, **options)

    watched.__signature__ = inspect.signature(start)
    monkeypatch.setattr(torch.optim.SGD, "__init__", watched)
    run("momentum", "--model", model, "--json")
    assert [each["momentum"] for each in asked] == [0.9] * 3


@pytest.mark.parametrize(
    ("spec", "factory", "numbers", "bytes_", "dtype"),
    [
        # A matrix keeps rows and columns; a vector a second moment for each number.
        ("adafactor", "tiny", 8, (6 * 12 + 2 * 20) / 8, "float32"),
        ("adamw", "half", 8, 14, "bfloat16"),
        ("adamw", "mixed", 8, (6 * 28 + 2 * 56) / 8, "float32 and float64"),
        ("adamw", "frozen", 6, 28, "float32"),
    ],
)
def test_bytes_are_those_of_the_parameters(
    model: str, spec: str, factory: str, numbers: int, bytes_: float, dtype: str
) -> None:
    result = run(spec, "--model", f"of_the_user:{factory}", "--json")
    (measured,) = json.loads(result.output)
    found = (measured["numbers"], measured["bytes"], measured["dtype"])
    assert found == (numbers, bytes_, dtype)


def test_no_row_is_called_fused_where_kernels_do_not_run(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kernel, "built", lambda self, types, options: None)
    (measured,) = json.loads(run("lion", "--model", model, "--json").output)
    assert "fused" not in [row["way"] for row in measured["rows"]]


def test_the_step_of_a_spec_of_the_user_is_compiled(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of what the library has under the name of the file."""
    (tmp_path / "mine.opt").write_text(
        "optimizer Mine\nhyper lr = 0.5\nstep: p -= lr*grad\n"
    )
    monkeypatch.setattr(torch, "compile", lambda step: step)
    result = run("mine.opt", "--model", model, "--compile", "--json")
    (measured,) = json.loads(result.output)
    assert "torch.compile" in [row["way"] for row in measured["rows"]]


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
        (("lion", "--device", "meta"), "meta"),
        (("lion", "--plot", "chart.xyz"), "no chart is written as chart.xyz"),
        (("lion", "--plot", "nosuch/chart.png"), "no folder nosuch"),
    ],
)
def test_what_cannot_be_measured_is_said(
    model: str, arguments: tuple[str, ...], said: str
) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert said in result.output + getattr(result, "stderr", "")
    assert "Traceback" not in result.output


def test_the_command_offers_the_shapes_that_there_are() -> None:
    shapes = next(
        each for each in main.commands["bench"].params if each.name == "shapes"
    )
    assert [*shapes.type.choices] == [*NAMED]
