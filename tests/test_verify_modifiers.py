"""What verify says of a rule with modifiers: what a modifier means to do, or the rule does
without it, is no fault, and what goes wrong in it is one.
"""

from pathlib import Path

import pytest
from one_row import row

from optdsl.verify.outcome import FAIL, NOT_APPLICABLE, PASS

AT_REST = "a group with lr 0 does not move"
MODES = "train() and eval() are each other's way back"


@pytest.mark.parametrize("spec", ["momentum", "rprop"])
def test_a_modifier_that_does_not_know_lr_may_move_parameters(spec: str) -> None:
    found = row(AT_REST, spec, use=["fixed_decay"])
    said = "fixed_decay changes parameters, and does not know lr"
    assert (found.outcome, found.detail) == (NOT_APPLICABLE, said)


def test_so_may_one_that_the_spec_uses_itself(tmp_path: Path) -> None:
    text = "optimizer Mine\nhyper lr = 0.1\nuse fixed_decay\nstep: p -= lr*grad\n"
    (tmp_path / "mine.opt").write_text(text)
    found = row(AT_REST, str(tmp_path / "mine.opt"))
    assert found.outcome == NOT_APPLICABLE


@pytest.mark.parametrize("use", ["lookahead", "decay", "clip_value"])
def test_others_leave_parameters_where_they_are(use: str) -> None:
    assert row(AT_REST, "momentum", use=[use]).outcome == PASS


def test_one_that_knows_lr_has_to_ask_for_it(tmp_path: Path) -> None:
    text = "modifier shrink\nneeds lr\nbefore:\n    grad *= 1 + lr\n    p *= 0.9\n"
    (tmp_path / "shrink.opt").write_text(text)
    rule = "optimizer Mine\nhyper lr = 0.1\nuse shrink\nstep: p -= lr*grad\n"
    (tmp_path / "mine.opt").write_text(rule)
    assert row(AT_REST, str(tmp_path / "mine.opt")).outcome == FAIL


def test_what_the_reference_of_the_rule_does_is_no_fault_of_a_modifier() -> None:
    found = row(AT_REST, "rprop", use=["noise"])
    assert found.outcome == NOT_APPLICABLE
    assert found.detail.startswith("torch.optim.Rprop does the same: ")


@pytest.mark.parametrize(
    ("check", "spec", "use"),
    [
        # It calculates in bfloat16, and not before its fourth step.
        ("foreach and the loop agree", "muon", "accumulate"),
        # A place at which the gradient is taken is rounded to bfloat16.
        ("bfloat16 stays near float32", "lion", "looksam"),
    ],
)
def test_what_rounding_decides_is_no_fault(check: str, spec: str, use: str) -> None:
    assert row(check, spec, use=[use]).outcome == PASS


@pytest.mark.parametrize(
    ("spec", "use"),
    [
        ("sparse_adam", "ema"),  # its gradients are sparse
        ("sgld", "ema"),  # it draws random numbers
        ("schedule_free_adamw", "noise"),
    ],
)
def test_parameters_are_those_of_the_interpreter_in_eval_mode(
    spec: str, use: str
) -> None:
    assert row(MODES, spec, use=[use]).outcome == PASS
