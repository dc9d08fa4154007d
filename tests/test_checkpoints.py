"""An optimizer that was saved, copied or sent elsewhere goes on with the same bits."""

import copy
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from optdsl import from_string, load_optimizer
from tests.library import both, every_spec, others
from tests.parity import Side, assert_same, side

ROOT = Path(__file__).parent.parent


def started(spec: str, changed: bool = False) -> Side:
    """An optimizer with two groups after five steps, which every gradient was in but one."""
    hypers = others(spec) if changed else {}
    groups = ({}, {"lr": 0.05})
    return side(load_optimizer(spec), groups=groups, **hypers).steps(0, 1, 2, 3, 4)


def fresh(make: Any, like: Side, saved: Any) -> Side:
    """A new optimizer with the parameters of another, and its saved state."""
    new = side(make, groups=({}, {}))
    with torch.no_grad():
        for name, p in new.parameters.items():
            p.copy_(like.parameters[name])
    new.optimizer.load_state_dict(saved)
    return new


def assert_goes_on(ours: Side, theirs: Side) -> None:
    assert_same(ours, theirs, "before")
    for step in range(5, 10):
        assert_same(ours.steps(step), theirs.steps(step), f"step {step}")


@every_spec
@both
def test_a_checkpoint_goes_on_with_the_same_bits(spec: str, changed: bool) -> None:
    ours, file = started(spec, changed), io.BytesIO()
    torch.save(ours.optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert_goes_on(fresh(load_optimizer(spec), ours, saved), ours)


@every_spec
@both
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_goes_on_with_the_same_bits(
    spec: str, changed: bool, copied: Any
) -> None:
    ours = started(spec, changed)
    assert_goes_on(copied(ours), ours)


USERS = (
    "optimizer Users\nhyper lr = 0.1\nstate buf = 0\nstep: buf += grad; p -= lr*buf\n"
)


def test_a_pickle_loads_in_a_fresh_process(tmp_path: Path) -> None:
    """A class of a text, and then one of the library."""
    ours = [
        side(cls, groups=({}, {"lr": 0.05})).steps(0, 1, 2, 3, 4)
        for cls in (from_string(USERS), load_optimizer("adam"))
    ]
    (tmp_path / "ours").write_bytes(pickle.dumps(ours))
    code = (
        "import pickle; ours = pickle.load(open('ours', 'rb')); "
        "theirs = [each.steps(5, 6, 7) for each in ours]; "
        "pickle.dump(theirs, open('theirs', 'wb'))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    theirs = pickle.loads((tmp_path / "theirs").read_bytes())
    for mine, its in zip(ours, theirs, strict=True):
        assert_same(mine.steps(5, 6, 7), its)
        assert type(its.optimizer) is type(mine.optimizer)
