"""`topk`: flags at the largest entries."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from optdsl import from_string
from tests.parity import spec


def flags(k: str, x: Tensor, **options: Any) -> Tensor:
    """Where `topk(grad, k)` is, with the gradient x."""
    text = spec(
        f"step: p -= where(topk(grad, {k}), 1, 0) + 0*lr*rounds*grad",
        "hyper rounds: int = 2",
    )
    p = Parameter(torch.zeros_like(x))
    p.grad = x
    from_string(text)([p], **options).step()
    return p.detach() == -1


@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_largest_entries_are_flagged(
    dtype: torch.dtype, options: dict[str, Any]
) -> None:
    x = torch.tensor([[3.0, -7.0, 5.0], [0.5, 4.0, -1.0]], dtype=dtype)
    assert flags("2", x, **options).tolist() == [
        [False, False, True],
        [False, True, False],
    ]
    assert flags("rounds + 1", x, **options).sum() == 3
    assert flags("floor(0.5*numel(p))", x.mT, **options).sum() == 3
    assert flags("floor(0.5*numel(p))", x.mT, **options).mT.tolist() == [
        [True, False, True],
        [False, True, False],
    ]


def test_more_than_there_are_means_all() -> None:
    for x in (torch.ones(2, 3), torch.ones(()), torch.ones(0, 3)):
        assert flags("7", x).all()
        assert not flags("0", x).any()
        assert flags("max(1, numel(p))", x).all()


def test_of_equal_entries_torch_takes_its_own() -> None:
    x = torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0, 1.0])
    expected = torch.zeros(6, dtype=torch.bool)
    expected[torch.topk(x, 4).indices] = True
    assert torch.equal(flags("4", x), expected)


def test_a_whole_number_goes_through_a_def() -> None:
    text = spec(
        "step: p -= lr*kept(grad, floor(0.5*numel(p)))",
        "def kept(x, k) = where(topk(abs(x), k), x, 0)",
    )
    p = Parameter(torch.zeros(4))
    p.grad = torch.tensor([1.0, -4.0, 2.0, -3.0])
    from_string(text)([p]).step()
    assert p.tolist() == [0, 2, 0, 1.5]


def test_a_number_below_zero_is_refused() -> None:
    with pytest.raises(RuntimeError, match="out of range"):
        flags("rounds - 3", torch.ones(3))
