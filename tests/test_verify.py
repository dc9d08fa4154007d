"""How verify tries, compares and reports: on small optimizers made for the purpose."""

import json
from dataclasses import replace

import pytest
import torch
from one_row import row
from torch import Tensor
from torch.nn import Parameter

from optdsl import OptdslError
from optdsl.verify import NoSubject, verify
from optdsl.verify.checks.differentiable import differentiable
from optdsl.verify.compare import difference
from optdsl.verify.run import ITSELF, Trace, play
from optdsl.verify.scene import SHAPES, Part, Scene
from optdsl.verify.study import _precision, study
from optdsl.verify.subject import of_class, of_spec, of_text
from tests.broken.options import CrashesWithOption, EpsInsideRoot
from tests.broken.sound import Adam, Anchored, Loop, Momentum

STEPS = "a parameter of some kind steps"
AS_REFERENCE = "it steps as its reference"


# ---- what is judged


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no.such.module:Adam", "cannot import `no.such.module`"),
        ("torch.optim:Adamm", "`torch.optim` has no `Adamm`"),
        ("torch.nn:Linear", "no subclass of torch.optim.Optimizer"),
        ("torch.optim:Optimizer", "needs defaults"),
    ],
)
def test_what_is_no_optimizer_is_said(text: str, said: str) -> None:
    with pytest.raises(NoSubject, match=said):
        of_text(text)


def test_a_spec_that_is_not_there_is_a_diagnostic() -> None:
    with pytest.raises(OptdslError, match="no rule `addam`"):
        verify("addam")


def test_options_of_a_class_are_those_of_its_signature() -> None:
    class Told(Momentum):
        def __init__(
            self, params, lr=0.1, momentum=0, scale: float | None = None, mode="fast",
            hook=None, foreach=None,
        ):  # fmt: skip
            super().__init__(params, lr, momentum)

    hypers = {each.name: each.others for each in of_class(Told).hypers}
    assert [*hypers] == ["lr", "momentum", "scale", "mode", "hook"]
    assert {type(value) for _, value in hypers["momentum"]} == {int, float}
    assert hypers["scale"] and not hypers["mode"], "a text cannot be guessed"
    assert of_class(Told).flags == {"foreach"}


def test_options_of_a_spec_keep_to_its_choices() -> None:
    hypers = {each.name: each for each in of_spec("muon").hypers}
    assert {value for _, value in hypers["adjust_lr_fn"].others} == {
        "original",
        "match_rms_adamw",
    }
    assert hypers["ns_steps"].bad == (-1, 101)


# ---- what it takes


class Asking(Momentum):
    """Steps with a closure alone."""

    def step(self, closure=None):
        return super().step(lambda: closure())


def test_what_a_subject_takes_is_found_by_trying() -> None:
    muon, sparse = study(of_spec("muon")), study(of_text("torch.optim:SparseAdam"))
    assert muon.shape == "matrix" and muon.shapes["vector"].refused
    assert sparse.layout == "sparse" and sparse.layouts["dense"].refused
    assert study(of_class(Asking)).needs_closure


def test_an_option_is_tried_beside_another_where_it_needs_one() -> None:
    options = {each.name: each for each in study(of_spec("sgd")).options}
    assert options["nesterov"].needs.keys() == {"momentum"}
    assert options["dampening"].needs.keys() == {"momentum"}
    assert not options["momentum"].needs


class Refusing(Momentum):
    """Refuses matrices on purpose, and stumbles over 0-d parameters by accident."""

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        if p.ndim == 2:
            raise RuntimeError("no matrices here")
        if p.ndim == 0:
            len(p)
        super().update(p, grad, state, group)


def test_a_refusal_is_no_accident() -> None:
    shapes = study(of_class(Refusing)).shapes
    assert shapes["matrix"].refused and not shapes["scalar"].refused
    found = row("shapes: empty, 0-d, 4-d, non-contiguous", Refusing)
    assert found.outcome == "fail" and found.detail.startswith("scalar: TypeError")
    assert "matrices" not in found.detail


def test_what_never_steps_is_told_in_one_row() -> None:
    report = verify(Loop)
    assert [(row.check, row.outcome) for row in report.rows] == [(STEPS, "fail")]
    assert "lr" in report[STEPS].detail


class Noisy(Momentum):
    """Draws random numbers."""

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        super().update(p, grad + 0.1 * torch.randn_like(p), state, group)


def test_random_numbers_are_the_same_in_each_run() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    report = verify(Noisy)
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers go on"
    assert report["save, load, continue gives the same bits"].outcome == "pass"
    order = report["the order of groups and parameters does not matter"]
    assert order.detail == "its steps draw random numbers"


def test_a_differentiable_step_draws_the_numbers_of_the_loop() -> None:
    """The sign of what is drawn tells them apart."""
    studied = study(of_spec("tiger", ["noise"]))
    assert differentiable(studied).verdict == "pass"


class Clipped(Momentum):
    """The gradients of the model are made as long as one; parameters are coupled."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        params = [p for group in self.param_groups for p in group["params"]]
        grads = [p.grad for p in params if p.grad is not None]
        self.length = sum(grad.abs().square().sum() for grad in grads) ** 0.5
        super().step()
        return loss

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        super().update(p, grad / (self.length + 1e-6), state, group)


def test_parameters_that_are_coupled_by_their_values_are_no_mistake() -> None:
    report = verify(Clipped)
    assert report.failed == ()
    row = report["a parameter whose first gradient is late steps as if it were fresh"]
    assert row.outcome == "not applicable" and "depend on each other" in row.detail


def test_the_precision_that_a_class_calculates_in_is_seen() -> None:
    muon, plain = study(of_text("torch.optim:Muon")), study(of_class(Momentum))
    assert muon.remembered("precision", {}, _precision) is torch.bfloat16
    assert plain.remembered("precision", {}, _precision) is torch.float32


class NoNumbers(Momentum):
    """Matrices become no numbers."""

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        super().update(p, grad / (0.0 if p.ndim == 2 else 1.0), state, group)


@pytest.mark.parametrize("cls", [CrashesWithOption, NoNumbers])
def test_what_is_wrong_with_every_step_is_told_once(cls: type) -> None:
    (row,) = [
        row
        for row in verify(cls).failed
        if row.check != "shapes: empty, 0-d, 4-d, non-contiguous"
    ]
    assert row.check == "each option steps with each shape and dtype"


# ---- what is told


def test_the_first_case_that_fails_is_the_smallest() -> None:
    detail = row(AS_REFERENCE, EpsInsideRoot, against=Adam).detail
    assert detail.startswith(
        "defaults, float64, one of shape (3,), 1 step: step 1, one: "
    )
    assert "p moved by" in detail and "in the reference" in detail


def test_a_report_is_plain_data() -> None:
    report = verify(EpsInsideRoot, against=Adam)
    told = json.loads(json.dumps(report.as_json()))
    assert told["failed"] == len(report.failed) == 1
    assert told["rows"][0].keys() == {"check", "outcome", "detail"}
    outcomes = {row["outcome"] for row in told["rows"]}
    assert outcomes == {"pass", "fail", "not applicable"}


def test_progress_is_told_before_each_check() -> None:
    told: list[tuple[str, int, int]] = []
    report = verify(Momentum, progress=lambda *each: told.append(each))
    assert [name for name, _, _ in told] == [row.check for row in report.rows]
    assert [(at, count) for _, at, count in told] == [
        (at, len(report.rows)) for at in range(len(report.rows))
    ]


# ---- references


class Renamed(Momentum):
    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        own = {"buf": state["velocity"]} if state else {}
        super().update(p, grad, own, group)
        state["velocity"] = own["buf"]


def test_states_are_compared_by_the_names_that_they_share() -> None:
    found = row(AS_REFERENCE, Renamed, against=Momentum)
    assert "not compared: velocity (ours), buf (theirs)" in found.detail
    renamed = {"buf": "velocity"}
    found = row(AS_REFERENCE, Renamed, against=Momentum, renamed=renamed)
    assert found.outcome == "pass" and "not compared" not in found.detail
    renamed = {"bof": "velocity"}
    found = row(AS_REFERENCE, Renamed, against=Momentum, renamed=renamed)
    assert found.outcome == "fail" and "bof" in found.detail


def test_a_reference_that_is_not_there_is_no_fault(tmp_path) -> None:
    spec = tmp_path / "mine.opt"
    head = (
        "optimizer Mine\nreference no.such.package.Mine\nhyper lr = 0.1 in [0, inf)\n"
    )
    spec.write_text(head + "step: p -= lr*grad\n")
    report = verify(str(spec))
    assert report.failed == ()
    assert report[AS_REFERENCE].detail.startswith("cannot import `no.such.package`")
    with pytest.raises(NoSubject, match="cannot import"):
        verify(str(spec), against="no.such.package:Mine")


def test_options_that_the_reference_lacks_are_named() -> None:
    detail = row(AS_REFERENCE, Adam, against=Momentum).detail
    assert detail.startswith("defaults"), "another rule is another rule"

    class Less(Momentum):
        def __init__(self, params, lr=1e-2, momentum=0.9):
            super().__init__(params, lr, momentum)

    detail = row(AS_REFERENCE, Momentum, against=Less).detail
    assert "its options have no weight_decay" in detail
    assert "the same bits in float64, float32, bfloat16, complex64" in detail


class OtherOrder(Momentum):
    """The same rule; products and sums in another order."""

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        grad = -grad if group["maximize"] else grad
        grad = grad.add(p, alpha=group["weight_decay"])
        buf = state.setdefault("buf", torch.zeros_like(p))
        state["buf"] = grad + group["momentum"] * buf
        p.sub_((state["buf"] * 3) * (group["lr"] / 3))


def test_round_off_is_no_difference_and_is_told() -> None:
    found = row(AS_REFERENCE, OtherOrder, against=Momentum)
    assert found.outcome == "pass", found
    assert "apart" in found.detail and "within round-off" in found.detail


class Late(Momentum):
    """A step count of its own, that begins one too late: a difference of a thousandth."""

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        super().update(p, grad, state, group)
        p.mul_(1 - 1e-9)


def test_a_difference_beyond_round_off_is_found() -> None:
    assert row(AS_REFERENCE, Late, against=Momentum).outcome == "fail"


def test_what_the_reference_does_as_well_is_no_fault_of_a_rule() -> None:
    found = row("a group with lr 0 does not move", "rprop")
    assert found.outcome == "not applicable"
    assert found.detail.startswith("torch.optim.Rprop does the same: ")


# ---- scenes and traces


def scene(**changes) -> Scene:
    parts = Part("one", SHAPES["vector"]), Part("sometimes", (3,), "sometimes")
    return replace(Scene(parts, 4), **changes)


def test_values_depend_on_the_name_and_the_step_alone() -> None:
    (one, _), whole = scene().parts, scene()
    alone = whole.with_(parts=(one,), dtype=torch.float32)
    assert torch.equal(whole.gradient(one, 2).float(), alone.gradient(one, 2))
    assert not torch.equal(whole.gradient(one, 2), whole.gradient(one, 3))
    assert torch.equal(whole.parameter(one), whole.parameter(one))


def test_a_sparse_gradient_has_some_rows_and_one_of_them_in_two_parts() -> None:
    part = Part("matrix", SHAPES["matrix"])
    grad = scene(layout="sparse").gradient(part, 0)
    assert grad.is_sparse and not grad.is_coalesced()
    rows = grad._indices()[0].tolist()
    assert len(rows) > len({*rows}) and len({*rows}) < part.shape[0]
    whole = scene(layout="whole").gradient(part, 0)
    assert torch.equal(whole.to_dense(), scene().gradient(part, 0))


def traced(values: list[float]) -> Trace:
    start = {("one", ITSELF): torch.tensor([1.0], dtype=torch.float64)}
    steps = tuple(
        {("one", ITSELF): torch.tensor([each], dtype=torch.float64)} for each in values
    )
    return Trace(start, steps)


def test_a_difference_is_told_as_a_displacement() -> None:
    found = difference(traced([1.0, 1.25]), traced([1.0, 1.5]))
    assert found is not None and found.step == 1
    assert str(found) == "step 2, one: p moved by 0.25 instead of 0.5"
    assert difference(traced([1.0]), traced([1.0])) is None
    nan = float("nan")
    assert difference(traced([nan]), traced([nan])) is None
    assert difference(traced([nan]), traced([1.0])) is not None


def test_states_in_tuples_and_dicts_are_seen() -> None:
    class Nested(Momentum):
        def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
            own = state.setdefault("of", [{}, "a text", 3])[0]
            super().update(p, grad, own, group)

    studied = study(of_class(Nested))
    trace = play(studied.start(studied.scene(steps=1)))
    assert {key for _, key in trace.steps[0]} == {ITSELF, "of[0].buf", "of[2]"}


def test_a_handwritten_hook_is_part_of_the_step() -> None:
    p = Parameter(torch.ones(2))
    optimizer = Anchored([p])
    p.grad = torch.zeros(2)
    optimizer.step()
    assert p[0] < 1 and torch.equal(
        optimizer.state[p]["anchor"], torch.full((2,), 0.999)
    )
