"""What small specs show: states of every kind, conditions, checks of hypers."""

import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optdsl import from_string
from tests.parity import assert_same, pair, same_bits, side, spec

# ---- states

PRODUCT = spec("step: x *= 0.999; p -= lr*x*grad", "state x: scalar = 1")


def test_a_scalar_state_keeps_its_precision() -> None:
    one = side(from_string(PRODUCT), torch.bfloat16).steps(0, 1, 2)
    assert one.memory("matrix")["x"].shape == ()
    assert one.memory("matrix")["x"].item() == pytest.approx(0.999**3, rel=1e-6)
    assert one.memory("late") == {}


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str
)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PRODUCT, id="scalar"),
        pytest.param(
            spec(
                "step: scale += norm(grad); p -= lr*grad/scale",
                "state scale = norm(grad)",
            ),
            id="tensor scalar",
        ),
        pytest.param(
            spec("step: z = z - lr*grad; p = lerp(p, z, 0.5)", "state z = p"),
            id="copy of p",
        ),
        pytest.param(
            spec("step: m = m + p*t; p -= lr*m", "state m = grad"), id="copy of grad"
        ),
        pytest.param(
            spec(
                "step:\n    if ndim(p) > 1: row += mean(grad*grad, dim=-1, keepdim=true)\n"
                "    if ndim(p) > 1: p -= lr*grad/(sqrt(row) + 1e-3)\n    else: p -= lr*grad",
                "state row = mean(grad*grad, dim=-1, keepdim=true) when ndim(p) > 1",
            ),
            id="row",
        ),
    ],
)
def test_a_checkpoint_goes_on_with_the_same_bits(text: str, dtype: torch.dtype) -> None:
    cls, file = from_string(text), io.BytesIO()
    ours, new = side(cls, dtype).steps(0, 1, 2, 3), side(cls, dtype)
    torch.save(ours.optimizer.state_dict(), file)
    file.seek(0)
    new.optimizer.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        for name, p in new.parameters.items():
            p.copy_(ours.parameters[name])
    copied = pickle.loads(pickle.dumps(ours))
    for each in (ours, new, copied):
        each.steps(4, 5, 6)
    assert_same(ours, new, "loaded")
    assert_same(ours, copied, "pickled")


def test_a_state_that_starts_as_p_is_a_copy() -> None:
    one, _ = pair()
    optimizer = from_string(
        spec("step: p -= lr*grad; z = lerp(z, p, 0.5)", "state z = p")
    )([one])
    optimizer.step()
    assert one.tolist() == [-0.5, 0]
    assert optimizer.state[one]["z"].tolist() == [0.25, 1]


def test_a_state_has_the_shape_of_its_value() -> None:
    text = spec(
        "step: row = 0.5*row + mean(grad*grad, dim=-1, keepdim=true); p -= lr*grad/sqrt(row)",
        "state row = mean(grad*grad, dim=-1, keepdim=true)",
    )
    p = Parameter(torch.zeros(3, 4))
    p.grad = torch.tensor([[1.0], [2.0], [4.0]]).expand(3, 4).clone()
    optimizer = from_string(text)([p])
    optimizer.step()
    assert optimizer.state[p]["row"].tolist() == [[1.5], [6], [24]]
    torch.testing.assert_close(p.detach(), torch.full((3, 4), -0.5 / 1.5**0.5))


def test_first_is_the_first_update_of_each_parameter() -> None:
    text = spec(
        "step:\n    if first: buf = grad\n    else: buf = 0.5*buf + grad\n    p -= lr*buf",
        "state buf = 0",
    )
    one, two = pair()
    kept, two.grad = two.grad, None
    optimizer = from_string(text)([one, two])
    optimizer.step()
    two.grad = kept
    optimizer.step()
    assert optimizer.state[one]["buf"].tolist() == [4.5, 6]
    assert same_bits(optimizer.state[two]["buf"], kept)
    new = from_string(text)([one, two])
    new.load_state_dict(optimizer.state_dict())
    new.step()
    assert new.state[one]["buf"].tolist() == [5.25, 7]


@pytest.mark.parametrize("counted", ["", "state t"])
def test_a_condition_can_be_turned_on_later(counted: str) -> None:
    text = spec(
        "step:\n    if momentum > 0: buf = momentum*buf + grad; p -= lr*buf\n"
        "    else: p -= lr*grad",
        "hyper momentum = 0.0 in [0, 1)",
        "state buf = 0 when momentum > 0",
        *([counted] if counted else []),
    )
    one, _ = pair()
    optimizer = from_string(text)([one])
    optimizer.step()
    assert "buf" not in optimizer.state.get(one, {})
    optimizer.param_groups[0]["momentum"] = 0.5
    optimizer.step()
    optimizer.step()
    assert optimizer.state[one]["buf"].tolist() == [4.5, 6]
    assert one.tolist() == [1 - 0.5 * (3 + 3 + 4.5), 2 - 0.5 * (4 + 4 + 6)]
    optimizer.param_groups[0]["momentum"] = 0.0
    optimizer.step()
    assert optimizer.state[one]["buf"].tolist() == [4.5, 6]


@pytest.mark.parametrize(
    ("declarations", "body"),
    [
        ([], "step:\n    if k > 0: grad = grad*2\n    q = grad + 1\n    p -= lr*q*q"),
        (
            [],
            "step:\n    if k > 0: grad += k*p\n    q = abs(grad)\n    p -= lr*q/(1 + q)",
        ),
        (
            ["def f(a, k):\n    if k > 0: a = a*2\n    return abs(a) + 1"],
            "step: p -= lr*f(grad, k)",
        ),
    ],
)
@pytest.mark.parametrize("k", [0.0, 1.0])
def test_a_name_that_a_branch_rebinds_leaves_the_gradient(
    declarations: list[str], body: str, k: float
) -> None:
    one, _ = pair()
    one.grad = -one.grad
    from_string(spec(body, "hyper k = 0.0", *declarations))([one], k=k).step()
    assert one.grad.tolist() == [-3, -4]


# ---- hypers


@pytest.mark.parametrize(
    ("declaration", "use", "good", "bad", "allowed"),
    [
        ("float? = none", "1 if x == none else x", [None, 0.5, 3], [], ""),
        (
            "float? = none in [0, 1)",
            "1 if x == none else x",
            [None, 0, 0.5],
            [1, -1],
            "[0, 1)",
        ),
        ("float? = none in [0, 1)", "1 if x == none else x", [], [2.0], "None"),
        ("float = 0.5 in (0, 1]", "x", [1, 0.1], [0, 1.1, float("nan")], "(0, 1]"),
        (
            '"l2" | "none" = "l2"',
            '1 if x == "l2" else 2',
            ["l2", "none"],
            ["L2", 1, None],
            "l2",
        ),
        ("int = 2 in [1, inf)", "x", [1, 7], [0, -3], "[1, inf)"),
        ("int = 2", "x", [0, 7], [1.5, "2", None], "int"),
        ("= false", "1 if x else 2", [True, False], ["yes", 2, None], "True or False"),
        ("= (0.9, 0.5) in [0, 1)", "x[0]*x[1]", [(0, 0.1)], [(0.1, 1), (0.1,)], ""),
    ],
)
def test_hypers_are_checked(
    declaration: str, use: str, good: list[Any], bad: list[Any], allowed: str
) -> None:
    written = declaration if declaration.startswith("=") else f": {declaration}"
    cls = from_string(spec(f"step: p -= lr*grad*({use})", f"hyper x {written}"))
    for value in good:
        one, _ = pair()
        cls([one], x=value).step()
        assert one.isfinite().all()
    for value in bad:
        with pytest.raises(TypeError if allowed == "int" else ValueError) as error:
            cls([{"params": pair(), "x": value}])
        for said in ("x", repr(value), allowed):
            assert said in str(error.value)


def test_a_requirement_holds_for_each_group() -> None:
    text = spec("step: p -= lr*grad*(a + b)", "hyper a = 0.1", "hyper b = 0.2")
    text = text.replace("step:", 'require a < b, "a has to be less than b"\nstep:')
    optimizer = from_string(text)([pair()[0]])
    for refused in (
        lambda: from_string(text)(pair(), a=0.3),
        lambda: optimizer.add_param_group({"params": [pair()[1]], "b": 0.05}),
    ):
        with pytest.raises(ValueError, match="a has to be less than b"):
            refused()


# ---- tensor scalars

LAMB = spec(
    """step:
    m = lerp(m, grad, 0.1)
    v = 0.999*v + 0.001*grad*grad
    update = (m/(1 - 0.9**t))/(sqrt(v/(1 - 0.999**t)) + 1e-6) + 0.01*p
    ratio = norm(p)/norm(update) if norm(p) > 0 and norm(update) > 0 else 1
    p -= lr*ratio*update""",
    "state m = 0",
    "state v = 0",
)


def test_a_trust_ratio_of_tensors() -> None:
    def by_hand(p: Tensor, grads: list[Tensor]) -> Tensor:
        m, v = torch.zeros_like(p), torch.zeros_like(p)
        for t, grad in enumerate(grads, 1):
            m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad * grad
            update = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-6) + 0.01 * p
            moves = p.norm() > 0 and update.norm() > 0
            p = p - 0.5 * (p.norm() / update.norm() if moves else 1) * update
        return p

    torch.manual_seed(0)
    for start in (
        torch.randn(4, 3).double(),
        torch.zeros(3).double(),
        torch.ones(()).double(),
    ):
        p, grads = Parameter(start.clone()), [torch.randn_like(start) for _ in range(5)]
        optimizer = from_string(LAMB)([p])
        for grad in grads:
            p.grad = grad
            optimizer.step()
        torch.testing.assert_close(
            p.detach(), by_hand(start, grads), rtol=1e-12, atol=1e-12
        )
