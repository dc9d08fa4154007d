"""What a rule and a modifier say together: whose names are whose, where lines come to stand,
which file is meant, what does not go together, and how it is named from Python and from the
command line.
"""

import os
import pickle
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from oracle import examples
from torch.nn import Parameter

from optdsl import OptdslError, compile_source, from_string, load_optimizer, resources
from optdsl.cli import main
from optdsl.diagnostics import Diagnostic
from optdsl.find import find
from optdsl.pipeline import build, build_any
from optdsl.source import Source

PLAIN = "optimizer Plain\nhyper lr = 0.1\nstep: p -= lr*grad\n"
HALF = "modifier half\nupdate: update *= 0.5\n"


def rule(body: str, *declared: str) -> str:
    lines = ["optimizer Mine", "hyper lr = 0.1", *declared, "step:"]
    return "\n".join([*lines, *(f"    {each}" for each in body.split("\n")), ""])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, with a modifier."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half.opt").write_text(HALF)
    return tmp_path


def woven(folder: Path, text: str, *use: str) -> str:
    """The spec in a folder with the modifiers, as one text."""
    path = folder / "mine.opt"
    path.write_text(text)
    return build(find(path), use).source.text


def step_of(text: str) -> str:
    return text[text.index("step:") :]


def wrong(
    folder: Path, text: str, modifier: str, name: str = "bad"
) -> list[Diagnostic]:
    """What is wrong with a rule that uses a modifier, both in one folder."""
    (folder / f"{name}.opt").write_text(modifier)
    with pytest.raises(OptdslError) as error:
        woven(folder, text, name)
    return [*error.value.diagnostics]


def moved(cls: type, **hypers: Any) -> torch.Tensor:
    """Where three steps take a parameter."""
    p = Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))
    optimizer = cls([p], **hypers)
    for step in range(3):
        p.grad = torch.tensor([0.3, 0.5, -0.7 * step], dtype=torch.float64)
        optimizer.step()
    return p.detach()


# ---- where lines come to stand

LAYOUTS = {
    "a block behind its colon": (
        "optimizer Mine\nhyper lr = 0.1\nstep: p -= lr*grad  # down\n",
        "step:\n    update = lr*grad  # down\n    update *= 0.5\n    p -= update\n",
    ),
    "statements on one line": (
        rule("x = lr*grad; p -= x; m = 0.9*m + x", "state m = 0"),
        "step:\n    x = lr*grad; update = x\n    update *= 0.5\n    p -= update\n"
        "    m = 0.9*m + x\n",
    ),
    "the sum of several": (
        rule("p -= lr*grad\np += lr*(grad - 1)\np *= 0.9"),
        "step:\n    update = lr*grad\n    update -= lr*(grad - 1)\n    update *= 0.5\n"
        "    p -= update\n    p *= 0.9\n",
    ),
    "added, not taken away": (
        rule("p += grad - lr*p"),
        "step:\n    update = -(grad - lr*p)\n    update *= 0.5\n    p -= update\n",
    ),
    "each branch ends in one": (
        rule("if t > 1:\n    m = grad\n    p -= lr*m\nelif t > 0: p -= lr*grad\n"
             "else:\n    p += lr*grad  # up"),
        "step:\n    if t > 1:\n        m = grad\n        update = lr*m\n"
        "    elif t > 0: update = lr*grad\n    else:\n        update = -lr*grad  # up\n"
        "    update *= 0.5\n    p -= update\n",
    ),
    "one branch has one": (
        rule("if t > 1: p -= lr*grad + m\nm = p", "state m = 0"),
        "step:\n    if t > 1:\n        update = lr*grad + m\n        update *= 0.5\n"
        "        p -= update\n    m = p\n",
    ),
    "one of several branches": (
        rule("if t == 1: m = grad\nelif t > 2: p -= lr*m\nelse: p -= grad", "state m = 0"),
        "step:\n    if t == 1: m = grad\n    elif t > 2:\n        update = lr*m\n"
        "        update *= 0.5\n        p -= update\n    else:\n        update = grad\n"
        "        update *= 0.5\n        p -= update\n",
    ),
    "numbers of complex parameters": (
        rule("complex:\n    g = 2*grad\n    p -= lr*g"),
        "step:\n    complex:\n        g = 2*grad\n        update = lr*g\n"
        "    update *= 0.5\n    p -= update\n",
    ),
    "decay is no part of it": (
        rule("p *= 1 - lr\np -= lr*grad\np -= 0.1*lr*p\np /= 1 + lr"),
        "step:\n    p *= 1 - lr\n    update = lr*grad\n    update *= 0.5\n    p -= update\n"
        "    p -= 0.1*lr*p\n    p /= 1 + lr\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_update_stands_where_the_rule_proposes_it(
    folder: Path, layout: str
) -> None:
    text, expected = LAYOUTS[layout]
    assert step_of(woven(folder, text, "half")) == expected


def test_every_point_stands_in_its_place(folder: Path) -> None:
    (folder / "all.opt").write_text(
        "modifier all\n"
        "before:\n    # first of all\n    grad *= 2\n\n    if t > 1:\n        grad += 1\n"
        "update: update *= 3\n"
        "after: p *= 4; p += 5\n"
    )
    text = woven(folder, PLAIN, "all", "half")
    assert step_of(text) == (
        "step:\n    # first of all\n    grad *= 2\n    if t > 1:\n        grad += 1\n"
        "    update = lr*grad\n    update *= 3\n    update *= 0.5\n    p -= update\n"
        "    p *= 4; p += 5\n"
    )


def test_what_is_declared_stands_where_it_is_used(folder: Path) -> None:
    spec = (
        '"""Mine."""\noptimizer Mine\nhyper lr = 0.1\n'
        "use clip_value(max_value=inf)  # all of it\nhyper b = 0.9\nstep: p -= lr*b*grad\n"
    )
    path = folder / "mine.opt"
    path.write_text(spec)
    assert [*signature(load_optimizer(path)).parameters][1:4] == [
        "lr",
        "max_value",
        "b",
    ]
    cls = load_optimizer(path, use=["decay(weight_decay=0.5)"])
    parameters = signature(cls).parameters
    assert [*parameters][1:5] == ["lr", "max_value", "b", "weight_decay"]
    assert parameters["max_value"].default == float("inf")
    assert parameters["weight_decay"].default == 0.5
    text = woven(folder, spec)
    assert "# all of it" not in text.split("hyper b")[1]
    assert text.startswith('"""Mine.\n\nclip_value: Gradients whose')
    added = woven(folder, spec, "decay")
    assert added.startswith('"""Mine.\nWith decay.\n\nclip_value: Gradients whose')


def test_what_no_longer_holds_is_left_out(folder: Path) -> None:
    spec = (
        "optimizer Mine\nreference torch.optim.SGD\nsparse_grads\nhyper lr = 0.1\n"
        "step: p -= lr*grad\n"
    )
    assert "sparse_grads" in woven(folder, spec, "clip_value")
    assert "reference" not in woven(folder, spec, "clip_value")
    assert "sparse_grads" not in woven(folder, spec, "cautious")
    with_use = spec.replace("step", "use clip_value\nstep")
    assert "reference" in woven(folder, with_use)


# ---- whose a name is


def test_names_are_not_taken_for_anothers(folder: Path) -> None:
    """The rule and two modifiers call things of their own by the same names; what each
    computes is what it would alone.
    """
    (folder / "one.opt").write_text(
        "modifier one\nhyper scale = 0.5\ndef f(x) = 3*x\n"
        "before:\n    size = f(grad)\n    grad = scale*size\n"
    )
    (folder / "two.opt").write_text(
        "modifier two\ndef f(x) = x/7\n"
        "update:\n    size = f(update)\n    m = size\n    update = m\n"
    )
    spec = rule(
        "scale = 2*grad\nsize = scale + m\nm = size\nupdate = lr*f(size)\np -= update",
        "state m = 0",
        "def f(x) = x*x",
    )
    text = woven(folder, spec, "one", "two")
    alone = rule(
        "g = 1.5*grad\na = 2*g + m\nm = a\nu = lr*a*a\np -= u/7", "state m = 0"
    )
    torch.testing.assert_close(moved(from_string(text)), moved(from_string(alone)))


def test_a_modifier_sees_the_gradient_that_the_rule_was_given(folder: Path) -> None:
    (folder / "along.opt").write_text("modifier along\nupdate: update += grad\n")
    spec = rule("grad = 5*grad + 1\np -= lr*grad")
    text = woven(folder, spec, "clip_value(max_value=0.25)", "along")
    alone = rule("g = clamp(grad, -0.25, 0.25)\np -= lr*(5*g + 1) + g")
    torch.testing.assert_close(moved(from_string(text)), moved(from_string(alone)))


def test_a_modifier_keeps_states_and_counts(folder: Path) -> None:
    (folder / "slow.opt").write_text(
        "modifier slow\nhyper keep = 0.5 in [0, 1)\nstate mean_update = 0\n"
        "update:\n    mean_update = lerp(mean_update, update, 1 - keep)\n"
        "    update = mean_update/(1 - keep**t)\n"
    )
    text = woven(folder, PLAIN, "slow(keep=0.25)")
    alone = rule("m = lerp(m, lr*grad, 0.75)\np -= m/(1 - 0.25**t)", "state m = 0")
    torch.testing.assert_close(moved(from_string(text)), moved(from_string(alone)))


# ---- which file is meant


def test_a_file_beside_the_spec_comes_before_the_library(folder: Path) -> None:
    assert "update *= 0.5" in woven(folder, PLAIN, "half")
    (folder / "cautious.opt").write_text(HALF.replace("half", "cautious"))
    assert "update *= 0.5" in woven(folder, PLAIN, "cautious")
    spec = PLAIN.replace("step", "use half\nstep")
    assert "update *= 0.5" in woven(folder, spec)
    # A text is in no folder, whatever it is called.
    with pytest.raises(OptdslError, match="E0210.*no modifier `half` in the library"):
        from_string(spec, str(folder / "mine.opt"))


def test_a_folder_is_no_modifier(folder: Path) -> None:
    (folder / "odd.opt").mkdir()
    with pytest.raises(OptdslError, match="E0210"):
        woven(folder, PLAIN, "odd")


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\xff\xfe", "E0102"), (b"#" * 500_000, "E0101"), (b"", "E0110")],
)
def test_a_modifier_that_is_no_text_is_said_so(
    folder: Path, data: bytes, code: str
) -> None:
    (folder / "odd.opt").write_bytes(data)
    with pytest.raises(OptdslError, match=code):
        woven(folder, PLAIN, "odd")


@pytest.mark.parametrize(
    "name",
    ["../half", "/etc/passwd", "half.opt", "half\nuse decay", "half\nstep: p = 0", "", " ",
     "half, decay", "half(", "half(x)", "half(x=1", '"half"',
     "mine", "lion", "Ünter", "half\x00", "h" * 5000, "half(a=" + "(" * 300 + ")"],
)  # fmt: skip
def test_only_a_name_names_a_modifier(folder: Path, name: str) -> None:
    with pytest.raises(OptdslError):
        woven(folder, PLAIN, name)


# ---- what is wrong is shown where it is

MISTAKES = {
    "modifier bad\nupdate: grad *= 2": ("E0315", 2, 9),
    "modifier bad\nbefore: update = 2*grad": ("E0315", 2, 9),
    "modifier bad\nafter:\n    p *= 2\n    grad = p": ("E0315", 4, 5),
    "modifier bad\nbefore: grad += update": ("E0306", 2, 17),
    "modifier bad\nupdate: x = 2*update": ("E0309", 2, 1),
    "modifier bad\nhyper a = 1": ("E0309", 1, 10),
    "modifier bad\nneeds lr\nbefore: grad *= 2": ("E0206", 2, 7),
    "modifier bad\nhyper a = 1\nbefore: grad *= 2": ("E0206", 2, 7),
    "modifier bad\nbefore: grad *= lr": ("E0213", 2, 17),
    "modifier bad\nbefore: grad *= gard": ("E0201", 2, 17),
    "modifier bad\nbefore: grad *= 2\nbefore: grad *= 3": ("E0112", 3, 1),
    "modifier bad\nbefore: grad *= 2\nstep: p -= grad": ("E0114", 3, 1),
    "modifier bad\nuse half\nbefore: grad *= 2": ("E0114", 2, 1),
    "modifier bad\nuse bad\nbefore: grad *= 2": ("E0114", 2, 1),
    "modifier bad\nhyper update = 2\nbefore: grad *= update": ("E0203", 2, 7),
    "modifier bad\nstate s = 0\nbefore:\n    s = s + 1\n    grad *= s[0]": ("E0404", 5, 13),
    "modifier bad\nbefore: grad = mean(grad, dim=-1)": ("E0403", 2, 16),
    "modifier bad\nbefore:\n    if ndim(p) > 0:\n        grad *= norm(p, over=model)": (
        "E0313", 4, 17,
    ),
    "modifier bad\nbefore: grad *= 2^3": ("E0103", 2, 18),
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_shown_in_the_modifiers_file(folder: Path, text: str) -> None:
    code, line, column = MISTAKES[text]
    found = wrong(folder, PLAIN, text + "\n")
    places = [
        (each.code, Path(each.file).name, each.line, each.column) for each in found
    ]
    assert (code, "bad.opt", line, column) in places
    shown = next(str(each) for each in found if each.code == code)
    assert f"bad.opt:{line}:{column}\n" in shown
    assert text.split("\n")[line - 1] in shown


def test_two_files_are_shown_where_they_clash(folder: Path) -> None:
    (found,) = wrong(
        folder, rule("p -= m", "state m = 0").replace("p -= m", "m = grad; p -= lr*m"),
        "modifier bad\nstate m = 1\nupdate:\n    m *= 2\n    update *= m\n",
    )  # fmt: skip
    shown = str(found)
    assert found.code == "E0211" and found.file == "use"
    assert "mine.opt:3:7" in shown and "bad.opt:2:7" in shown and "use bad" in shown


def test_a_modifier_is_tried_with_the_plainest_rule() -> None:
    for path in resources.modifiers().values():
        assert build_any(find(path)).warnings == ()


@examples(60)
@given(data=st.data())
def test_any_modifier_is_woven_or_refused_in_words(data: st.DataObject) -> None:
    """The library's own, with something cut out, doubled, or put in."""
    path = data.draw(st.sampled_from([*resources.modifiers().values()]))
    text = path.read_text()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 30)))
        put = data.draw(
            st.sampled_from(
                ["", "\n", "update", "before:", "use x", '"', '"""', "(", "    ", "#",
                 "p -= 1", "grad", "\n\n    ", "if t > 1:", ";", text[start:end] * 2]
            )
        )  # fmt: skip
        text = text[:start] + put + text[end:]
    try:
        python = build_any(Source("any.opt", text)).python
    except OptdslError as error:
        assert all(str(each) for each in error.diagnostics)
    else:
        compile(python, "any.py", "exec")


# ---- named from Python and from the command line


def test_a_class_with_modifiers_is_one_of_its_own() -> None:
    plain, ours = load_optimizer("lion"), load_optimizer("lion", use=["cautious"])
    assert ours is not plain
    assert ours is load_optimizer("Lion", use=("cautious",))
    assert ours is load_optimizer("lion", use="cautious")
    assert ours is not load_optimizer("lion", use=["cautious", "clip_value"])
    first = load_optimizer("lion", use=["clip_value(max_value=0.5)"])
    assert first is not load_optimizer("lion", use=["clip_value"])
    assert ours.__name__ == plain.__name__ == "Lion"
    assert "With cautious" in ours.__doc__ and "With cautious" not in plain.__doc__
    assert plain is load_optimizer("lion") is load_optimizer("lion", use=[])


@pytest.mark.parametrize("use", [[1], [None], [["cautious"]], 5])
def test_a_modifier_is_named_by_a_text(use: Any) -> None:
    with pytest.raises(TypeError):
        load_optimizer("lion", use=use)


def test_a_pickle_needs_no_modifier(folder: Path) -> None:
    (folder / "mine.opt").write_text(PLAIN)
    cls = load_optimizer("mine.opt", use=["half", "clip_value(max_value=0.25)"])
    p = Parameter(torch.ones(2))
    optimizer = cls([p])
    p.grad = torch.ones(2)
    optimizer.step()
    data = pickle.dumps((p, optimizer))
    (folder / "half.opt").unlink()
    code = (
        "import pickle, sys, torch; p, opt = pickle.loads(sys.stdin.buffer.read()); "
        "p.grad = torch.ones(2); opt.step(); print(p.tolist(), type(opt).__name__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, check=True,
        env={**os.environ, "PYTHONPATH": str(resources.PACKAGE.parent)},
    )  # fmt: skip
    optimizer.step()
    assert ran.stdout.decode().strip() == f"{p.tolist()} Plain"


def test_a_compiled_file_needs_nothing_and_quotes_each_equation(folder: Path) -> None:
    python = compile_source(PLAIN, use=["decay", "cautious"])
    assert "optdsl.use" not in python
    for equation in ("p *= 1 - lr*weight_decay", "mask = where(update*grad > 0, 1, 0)"):
        assert f"# {equation}\n" in python


def optdsl(*arguments: str, exits: int = 0) -> str:
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == exits, ran.output
    return ran.output


def test_the_command_line_uses_modifiers(folder: Path) -> None:
    (folder / "mine.opt").write_text(PLAIN)
    optdsl("compile", "mine.opt", "--use", "half", "--use", "clip_value(max_value=0.5)")
    text = (folder / "mine.py").read_text()
    assert "max_value: float = 0.5" in text and "# update *= 0.5" in text
    use = ("half", "clip_value(max_value=0.5)")
    assert text == build(find("mine.opt"), use).python
    assert "update *= 0.5" in optdsl(
        "show", "mine.opt", "--use", "half", "--stage", "spec"
    )
    assert "mask" in optdsl("explain", "lion", "--use", "cautious")
    assert "no mistakes" in optdsl("check", "lion", "--use", "cautious")
    assert "2 specs, no mistakes" in optdsl("check", str(folder))
    assert "E0210" in optdsl("compile", "lion", "--use", "cautous", exits=1)
    assert "E0113" in optdsl("compile", "half.opt", exits=1)
    assert "it is a modifier" in optdsl("compile", "cautious", exits=1)
    optdsl("explain", "E0201", "--use", "cautious", exits=2)
    assert "update *= 0.5" not in optdsl("show", "mine.opt", "--stage", "spec")


def test_what_keeps_a_step_from_being_captured_says_in_which_file(folder: Path) -> None:
    (folder / "late.opt").write_text(
        "modifier late\nbefore:\n    if t > 10: grad *= 0.5\n"
    )
    (folder / "mine.opt").write_text(PLAIN)
    path = folder / "mine.opt"
    assert "(line 3 of late.opt)" in build(find(path), ("late",)).lowered.why_not
