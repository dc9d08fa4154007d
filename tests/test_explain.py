"""What `optdsl explain` says of a rule and how it is printed: options, targets, papers."""

import json
import os
import re
from pathlib import Path

import pytest
from built import explained, of_library, once
from click.testing import CliRunner, Result

from optdsl import cli, resources
from optdsl.cli import main
from optdsl.explain.options import Option, options
from optdsl.explain.page import WIDTH
from optdsl.explain.papers import paper
from optdsl.ir import Rule
from optdsl.pipeline import build
from optdsl.source import Source

LIBRARY = [*resources.library()]
EXPLAINED = Path(__file__).parent / "explained"
CLIPPED = "step:\n    if c != none: grad *= c\n    p -= lr*grad"


@pytest.fixture(autouse=True)
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "build", once)


def rule(spec: str) -> Rule:
    return of_library(spec).checked


def ruled(body: str) -> Rule:
    text = f"optimizer Mine\nhyper lr = 1e-2 in [0, inf)\n{body}\n"
    return build(Source("mine.opt", text)).checked


def optdsl(*arguments: str, exits: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == exits, result.output
    return result


# ---- the page


@pytest.mark.parametrize("spec", LIBRARY)
def test_every_rule_of_the_library_is_explained(spec: str) -> None:
    shown = optdsl("explain", spec).stdout
    for title in (
        "Names",
        "Equations",
        "State",
        "Bytes moved",
        "Statements",
        "Targets",
    ):
        assert re.search(rf"^{title}", shown, re.MULTILINE), title
    for line in shown.splitlines():
        assert len(line) <= WIDTH and line == line.rstrip(), line
    assert "\x1b" not in shown, "no colours where no terminal reads"


@pytest.mark.parametrize("spec", ["lion", "adam", "muon", "prodigy"])
def test_what_is_printed(spec: str) -> None:
    shown = (
        optdsl("explain", spec).stdout
        + "\n"
        + optdsl("explain", spec, "--latex").stdout
    )
    path = EXPLAINED / f"{spec}.txt"
    if os.environ.get("OPTDSL_BLESS"):
        path.write_text(shown, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == shown


@pytest.mark.parametrize("spec", LIBRARY)
def test_latex_names_its_letters(spec: str) -> None:
    comments, _, body = optdsl("explain", spec, "--latex").stdout.partition(r"\begin")
    assert all(line.startswith("% ") for line in comments.splitlines())
    assert body.startswith("{align*}") and body.endswith("\\end{align*}\n")
    assert r"\theta: p, the parameter" in comments and r"\theta" in body


@pytest.mark.parametrize("spec", LIBRARY)
def test_json_holds_the_same(spec: str) -> None:
    made = json.loads(optdsl("explain", spec, "--json").stdout)
    known = explained(spec)
    assert [each["text"] for each in made["works"]] == [
        each.text for each in known.works
    ]
    assert [each["bytes"] for each in made["traffic"]] == [
        each.bytes for each in known.traffic
    ]


def test_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "mine.opt").write_text(
        "optimizer Mine\nhyper lr = 0.5\nstep: p -= lr*grad\n"
    )
    assert "θₜ = θₜ₋₁ - γ·gₜ" in optdsl("explain", str(tmp_path / "mine.opt")).stdout
    (tmp_path / "mine.opt").write_text(
        "optimizer Mine\nhyper lr = 0.5\nstep: p -= lr*gard\n"
    )
    wrong = optdsl("explain", str(tmp_path / "mine.opt"), exits=1)
    assert wrong.stdout == "" and "E0201" in wrong.stderr


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("adm", "did you mean `adam`?"),
        ("E02O1", "did you mean `E0201`?"),
        ("E0299", "did you mean `E0209`?"),
        ("nothing_like_it", "the library has "),
    ],
)
def test_what_is_no_name_is_answered_with_the_nearest(name: str, hint: str) -> None:
    assert hint in optdsl("explain", name, exits=2).stderr


def test_a_terminal_without_greek_letters_prints_all() -> None:
    runner = CliRunner(charset="ascii")
    shown = runner.invoke(main, ["explain", "lion"])
    assert shown.exit_code == 0, shown.output
    assert "\\u03b8" in shown.output


# ---- barriers, options


def test_hooks_and_reductions_across_parameters_are_barriers() -> None:
    made = explained("l2decay")
    assert made.barriers == ("apply_weight_decay, before the first update",)
    assert explained("adam").barriers == ()
    assert explained("adagrad_norm").barriers == ("norm(grad, over=model)",)


def switched(made: Rule) -> dict[str, Option]:
    return {each.words: each for each in options(made)}


def test_amsgrad_adds_a_state_and_two_lines() -> None:
    option = switched(rule("adam"))["amsgrad = true"]
    assert option.adds_states == ("max_exp_avg_sq (4 bytes an element)",)
    assert option.adds == (
        "max_exp_avg_sq ← max(max_exp_avg_sq, exp_avg_sq)",
        "second = max_exp_avg_sq",
    )
    assert option.drops == ("second = exp_avg_sq",)
    assert (option.moved, option.moved_without) == ((36,), (28,))


def test_an_option_is_found_beside_the_one_that_it_needs() -> None:
    found = switched(rule("adam"))
    assert found["weight_decay != 0"].adds == ("g ← g + λ·θ",)
    decoupled = found["decoupled_weight_decay = true"]
    assert decoupled.beside == "weight_decay != 0"
    assert (decoupled.adds, decoupled.drops) == (("θ ← θ·(1 - γ·λ)",), ("g ← g + λ·θ",))
    nesterov = switched(rule("sgd"))["nesterov = true"]
    assert nesterov.beside == "momentum != 0", "without one the rule refuses it"


def test_options_that_are_on_are_switched_off() -> None:
    off = switched(rule("adamw"))["weight_decay = 0"]
    assert off.drops == ("θ ← θ·(1 - γ·λ)",) and off.adds == ()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('hyper way: "a" | "b" | "c" = "a"\nstep:\n    if way == "b": p -= lr\n'
         "    else: p -= lr*grad", ['way = "b"']),
        (f"hyper c: float? = none\n{CLIPPED}", ["c = a number"]),
        (f"hyper c: float? = 1.0\n{CLIPPED}", ["c = none"]),
        ("hyper w = (0.0, 2.0) in [0, 3]\nstep:\n    a, b = w\n    if a > 0: grad *= a\n"
         "    if b >= 2: grad /= b\n    p -= lr*grad", ["a > 0", "b < 2"]),
        ("hyper k: int = 3 in [0, 9]\nstep:\n    if 0 < k: grad *= k\n    p -= lr*grad",
         ["0 >= k"]),
        ("hyper k = 0.5 in [0, 1)\nstep: p -= lr*k*grad", []),
    ],
)  # fmt: skip
def test_which_options_there_are(body: str, words: list[str]) -> None:
    assert [*switched(ruled(body))] == words


# ---- targets, papers


def test_targets_say_why_not() -> None:
    made = explained("sparse_adam").targets
    assert made["capturable"] == "no: its step count is a plain number"
    assert made["differentiable"].startswith("no: ")
    assert made["sparse gradients"] == "yes, and no others"
    assert made["complex parameters"] == "no"
    sgd = explained("sgd").targets
    assert sgd["sparse gradients"] == "yes, where momentum == 0 and weight_decay == 0"
    assert sgd["complex parameters"].startswith("yes, as complex numbers")
    assert explained("muon").targets["foreach"].endswith("1 def for each by itself")


@pytest.mark.parametrize(
    ("doc", "named", "url"),
    [
        ("A.\n\nKingma and Ba (2015), Adam: A Method,\nhttps://arxiv.org/abs/1412.6980\n"
         "AMSGrad: Reddi et al. (2018), On it, https://openreview.net/x",
         "Kingma and Ba (2015)", "https://arxiv.org/abs/1412.6980"),
        ("A.\n\nRobbins and Monro (1951), A method. Sutskever et al. (2013), On\nit, "
         "http://x.org/a.pdf", "Robbins and Monro (1951)", ""),
        ("A rule.\n\nDuchi, Hazan and\nSinger (2011), Adaptive. (https://x.org/v12).",
         "Duchi, Hazan and Singer (2011)", "https://x.org/v12"),
        ("A rule of Liu et al.: it\nwarms up.\n\nLiu et al. (2020), On, https://x.org/a.",
         "Liu et al. (2020)", "https://x.org/a"),
    ],
)  # fmt: skip
def test_the_first_paper_has_its_own_link(doc: str, named: str, url: str) -> None:
    found = paper(doc)
    assert (str(found), found.url) == (named, url)


def test_a_docstring_without_a_paper_has_none() -> None:
    assert paper("Gradient descent, as in (2.1).") is None


@pytest.mark.parametrize("spec", LIBRARY)
def test_every_rule_of_the_library_has_a_paper(spec: str) -> None:
    assert explained(spec).paper is not None


def test_the_table_has_a_row_for_each_rule() -> None:
    head, _, *rows = optdsl("list", "--markdown").stdout.splitlines()
    assert len(rows) == len(LIBRARY)
    assert {row.count(" | ") for row in (head, *rows)} == {4}
    (lion,) = [row for row in rows if row.startswith("| [Lion](specs/lion.opt) ")]
    assert "| 4 | [Chen et al. (2023)](https://arxiv.org/abs/2302.06675) |" in lion
    for spec, file in resources.library().items():  # of the file, whatever it uses
        lines = len(file.read_text().splitlines())
        assert any(f"(specs/{spec}.opt) | {lines} |" in row for row in rows)
