"""Hooks of small specs: when they run, on what, and what they leave behind."""

from typing import Any

import pytest
import torch

from optdsl import from_string
from tests.parity import pair, same_bits, spec

DOUBLE = from_string(spec("step: p -= lr*grad", "pre_step double: p *= 2"))
CLIP = from_string(
    spec(
        "step: p -= lr*grad",
        "hyper max_norm = 1.0",
        "pre_step clip: grad *= min(1, max_norm/(norm(grad) + 1e-6))",
    )
)


def test_a_hook_runs_after_the_closure_over_all_groups_before_any_update() -> None:
    one, two = pair()
    seen: list[Any] = []

    class Watched(DOUBLE):
        def double(self) -> None:
            seen.append((one.tolist(), two.tolist(), one.grad is not None))
            super().double()
            seen.append((one.tolist(), two.tolist()))

    def closure() -> float:
        one.grad, two.grad = torch.tensor([2.0, 2.0]), torch.tensor([4.0, 4.0])
        return 7.0

    optimizer = Watched([{"params": [one]}, {"params": [two]}])
    optimizer.zero_grad()
    assert optimizer.step(closure) == 7.0
    assert seen == [([1, 2], [3, -1], True), ([2, 4], [6, -2])]
    assert (one.tolist(), two.tolist()) == ([1, 3], [4, -4])


def test_a_hook_by_hand_does_the_same_once_more() -> None:
    one, two = pair()
    two.grad = None
    optimizer = DOUBLE([one, two])
    optimizer.double()
    assert (one.tolist(), two.tolist()) == ([2, 4], [3, -1])
    optimizer.step()
    assert (one.tolist(), two.tolist()) == ([4 - 1.5, 8 - 2], [3, -1])


@pytest.mark.parametrize("maximize", [False, True])
def test_a_hook_gives_the_update_another_gradient(maximize: bool) -> None:
    """The model's own stays, the same object and the same bits."""
    one, two = pair()
    before = [(p.detach().clone(), p.grad, p.grad.clone()) for p in (one, two)]
    CLIP([one, two], maximize=maximize).step()
    sign = 1 if maximize else -1
    for p, (start, grad, bits), scale in zip(
        (one, two), before, (0.2, 1.0), strict=True
    ):
        torch.testing.assert_close(p.detach(), start + sign * 0.5 * scale * bits)
        assert p.grad is grad and same_bits(grad, bits)


@pytest.mark.parametrize("maximize", [False, True])
def test_a_hook_by_hand_replaces_the_gradient(maximize: bool) -> None:
    one, two = pair()
    CLIP([one, two], maximize=maximize).clip()
    torch.testing.assert_close(one.grad, torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(two.grad, torch.tensor([0.3, 0.4]))


def test_the_gradient_is_back_after_a_step_that_fails() -> None:
    one, two = pair()
    two.grad = two.grad.to_sparse()
    kept = one.grad
    with pytest.raises(RuntimeError):
        CLIP([one, two]).step()
    assert one.grad is kept and kept.tolist() == [3, 4]


def test_hooks_run_in_the_order_of_the_spec() -> None:
    hooks = ("pre_step double: grad *= 2", "pre_step add: grad += 1")
    one, two = pair()
    from_string(spec("step: p -= lr*grad", *hooks))([one, two]).step()
    assert one.tolist() == [1 - 0.5 * 7, 2 - 0.5 * 9]
    assert one.grad.tolist() == [3, 4]


def test_a_hook_after_the_step_keeps_an_average() -> None:
    averaged = from_string(
        spec(
            "step: p -= lr*grad",
            "state average = p",
            "post_step keep: average = lerp(average, p, 0.25)",
        )
    )
    one, two = pair()
    two.grad = None
    optimizer = averaged([one, two])
    optimizer.step()
    assert one.tolist() == [-0.5, 0]
    assert optimizer.state[one]["average"].tolist() == [1 - 0.375, 1.5]
    optimizer.keep()
    assert optimizer.state[one]["average"].tolist() == [0.625 - 0.28125, 1.125]
    assert two not in optimizer.state


# ---- by hand alone

COUNTING = from_string(
    spec(
        "step: p -= lr*grad/(1 + h)",
        "state h = 0",
        "on_call measure: h = 0.5*h + grad*grad",
    )
)


def test_a_hook_by_hand_alone_runs_when_it_is_called() -> None:
    one, two = pair()
    optimizer = COUNTING([{"params": [one]}, {"params": [two]}])
    optimizer.step()
    optimizer.step()
    assert one.tolist() == [1 - 3, 2 - 4]
    assert optimizer.state[one]["h"].tolist() == [0, 0]
    optimizer.measure()
    one.grad = None
    optimizer.measure()
    assert optimizer.state[one]["h"].tolist() == [9, 16]
    torch.testing.assert_close(
        optimizer.state[two]["h"], torch.tensor([1.5 * 0.09, 1.5 * 0.16])
    )
    assert two.grad.tolist() == pytest.approx([0.3, 0.4])


def test_a_hook_by_hand_alone_passes_over_what_had_no_step() -> None:
    one, two = pair()
    kept, two.grad = two.grad, None
    optimizer = COUNTING([one, two])
    optimizer.step()
    two.grad = kept
    optimizer.measure()
    assert optimizer.state[one]["h"].tolist() == [9, 16]
    assert two not in optimizer.state
    COUNTING([one]).measure()


@pytest.mark.parametrize("counted", ["", "state t"])
def test_a_hook_by_hand_alone_passes_over_a_state_that_is_not_there(
    counted: str,
) -> None:
    one, _ = pair()
    text = spec(
        "step:\n    if k > 0: p -= lr*grad*h\n    else: p -= lr*grad",
        "hyper k = 0.0",
        "state h = 1 when k > 0",
        "on_call measure:\n    if k > 0: h *= 2\n    else: p *= 2",
        *([counted] if counted else []),
    )
    optimizer = from_string(text)([one])
    optimizer.step()
    optimizer.measure()
    assert one.tolist() == [-1, 0]
    optimizer.param_groups[0]["k"] = 1.0
    optimizer.measure()
    assert one.tolist() == [-1, 0]
    optimizer.step()
    optimizer.measure()
    assert optimizer.state[one]["h"].tolist() == [2, 2]


def test_the_docstring_says_when_a_hook_runs() -> None:
    assert "when it is called" in COUNTING.measure.__doc__
    assert "before every step" in DOUBLE.double.__doc__
