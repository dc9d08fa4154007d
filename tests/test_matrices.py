"""Matrices and lists of states: one call for tensors of one shape, a key of its own for
each entry, and what decompositions do with matrices that have no inverse.
"""

import copy
import io

import pytest
import torch
from torch import Tensor

from optdsl import from_string, load_optimizer

SHAPES = ((3, 4), (3, 4), (2, 5), (3, 4), (4,), ())
MATRICES = ("galore", "muon", "shampoo", "soap")


def parameters(shapes=SHAPES, dtype=torch.float64) -> list[torch.nn.Parameter]:
    random = torch.Generator().manual_seed(1)
    return [
        torch.nn.Parameter(torch.randn(each, generator=random, dtype=dtype))
        for each in shapes
    ]


def stepped(make, step=None, steps: int = 4, **hypers) -> tuple[list, object]:
    """The parameters after some steps of an optimizer, and the optimizer."""
    only_matrices = make is load_optimizer("muon")
    given = parameters(
        tuple(each for each in SHAPES if len(each) == 2 or not only_matrices)
    )
    optimizer = make(given, **hypers)
    run = step(optimizer) if step else optimizer.step
    for number in range(steps):
        random = torch.Generator().manual_seed(number)
        for p in given:
            p.grad = torch.randn(p.shape, generator=random, dtype=p.dtype)
        run()
    return given, optimizer


@pytest.mark.parametrize("name", MATRICES)
def test_matrices_of_one_shape_share_a_call(name, monkeypatch):
    batches = []
    vmap = torch.vmap

    def counted(function):
        def call(*stacked: Tensor):
            batches.append(len(stacked[0]))
            return vmap(function)(*stacked)

        return call

    monkeypatch.setattr(torch, "vmap", counted)
    make = load_optimizer(name)
    hypers = {"rank": 2} if name == "galore" else {}
    many, _ = stepped(make, foreach=True, **hypers)
    assert set(batches) == {3}
    one, _ = stepped(make, foreach=False, **hypers)
    tolerance = 2e-2 if name == "muon" else 1e-9  # Muon rounds to bfloat16
    for here, there in zip(one, many, strict=True):
        torch.testing.assert_close(there, here, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("foreach", [False, True])
def test_steps_on_matrices_compile(name, foreach):
    torch._dynamo.reset()
    make = load_optimizer(name)
    hypers = {"rank": 2} if name == "galore" else {}

    def compiled(optimizer):
        return torch.compile(lambda: optimizer.step(), backend="eager")

    plain, _ = stepped(make, foreach=foreach, **hypers)
    other, _ = stepped(make, compiled, foreach=foreach, **hypers)
    tolerance = 2e-2 if name == "muon" else 1e-9
    for here, there in zip(plain, other, strict=True):
        torch.testing.assert_close(there, here, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["galore", "shampoo", "soap"])
def test_a_decomposition_cannot_be_captured(name):
    with pytest.raises(RuntimeError, match="waits for what the device computes"):
        load_optimizer(name)(parameters(), capturable=True)


def test_entries_of_a_list_are_tensors_with_keys_of_their_own():
    given, optimizer = stepped(load_optimizer("shampoo"))
    keys = {"factor_0", "factor_1", "root_0", "root_1", "step"}
    assert optimizer.state[given[0]].keys() == keys
    assert optimizer.state[given[-1]].keys() == {"step"}
    saved = io.BytesIO()
    torch.save(optimizer.state_dict(), saved)
    saved.seek(0)
    loaded = torch.load(saved, weights_only=True)
    for state in loaded["state"].values():
        assert all(isinstance(each, Tensor) for each in state.values())
    others = [torch.nn.Parameter(p.detach().clone()) for p in given]
    again = load_optimizer("shampoo")(others)
    again.load_state_dict(loaded)
    for p, other in zip(given, others, strict=True):
        p.grad = other.grad = torch.ones_like(p)
    optimizer.step()
    again.step()
    for p, other in zip(given, others, strict=True):
        assert torch.equal(p, other)


def test_a_list_may_grow():
    given, optimizer = stepped(load_optimizer("aggmo"), betas=(0.9,))
    kept = copy.deepcopy(optimizer.state[given[0]])
    optimizer.param_groups[0]["betas"] = (0.9, 0.5)
    optimizer.step()
    state = optimizer.state[given[0]]
    assert torch.equal(state["momentum_buffer_1"], given[0].grad)
    first = 0.9 * kept["momentum_buffer_0"] + given[0].grad
    torch.testing.assert_close(state["momentum_buffer_0"], first)


ROOT = """
optimizer Root
hyper k = 2.0 in (0, inf)
state root = inverse_root(grad, 1)
step:
    root = inverse_root(grad, k)
    p -= root
"""


def root_of(matrix: Tensor, k: float = 2.0) -> Tensor:
    p = torch.nn.Parameter(torch.zeros_like(matrix))
    p.grad = matrix
    from_string(ROOT)([p], k=k).step()
    return -p.detach()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_an_inverse_root_is_one(dtype):
    exact = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    root = root_of(exact.to(dtype), k=4.0).double()
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        torch.linalg.matrix_power(root, 4) @ exact,
        torch.eye(2, dtype=torch.float64),
        rtol=tolerance,
        atol=tolerance,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_an_inverse_root_stays_finite(dtype):
    assert torch.equal(
        root_of(torch.zeros(3, 3, dtype=dtype)), torch.zeros(3, 3, dtype=dtype)
    )
    of_rank_one = root_of(torch.ones(3, 3, dtype=dtype))
    assert of_rank_one.isfinite().all()
    least = 3 * torch.finfo(dtype).eps
    assert float(torch.linalg.eigvalsh(of_rank_one.double()).max()) <= 1.1 * least**-0.5
