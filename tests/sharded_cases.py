"""What happens to optimizers of DTensors in training, in each of two processes: FSDP2,
checkpoints, scaled gradients, and steps that kernels may not take.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from optdsl import load_optimizer
from optdsl.runtime.shards import are_held
from tests.parity import same_bits
from tests.sharded_steps import Pair, cut, cuts, is_close, watched

# ---- FSDP2


def model(seed: int = 0) -> nn.Module:
    """Layers of which one process holds more than the other, and of one neither a half."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.Linear(3, 1))


def fully_sharded(seed: int = 0) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    whole = model(seed)
    fully_shard(whole, mesh=init_device_mesh("cpu", (2,)))
    return whole


def backward(of: nn.Module, step: int, scale: Callable = lambda loss: loss) -> None:
    torch.manual_seed(100 + step)
    scale(of(torch.randn(6, 4)).square().mean()).backward()


def train(of: nn.Module, optimizer: Optimizer, *steps: int, clip: bool = True) -> None:
    for step in steps:
        optimizer.zero_grad()
        backward(of, step)
        if clip:
            nn.utils.clip_grad_norm_(of.parameters(), 0.1)
        optimizer.step()


def assert_full(sharded: nn.Module, whole: nn.Module, compare: Callable) -> None:
    for mine, other in zip(sharded.parameters(), whole.parameters(), strict=True):
        assert compare(mine.full_tensor().detach(), other.detach())


def fsdp_by_default(clip: bool) -> None:
    """A group that says nothing gets kernels, and what one process gets that has it all:
    clipping adds up in another order.
    """
    cls = load_optimizer("adamw")
    mine, other = fully_sharded(), model()
    ours, theirs = cls(mine.parameters(), lr=0.05), cls(other.parameters(), lr=0.05)
    with watched(ours) as taken:
        for of, optimizer in ((mine, ours), (other, theirs)):
            train(of, optimizer, 0, clip=clip)
            before = [p._version for p in of.parameters()]
            train(of, optimizer, 1, 2, 3, clip=clip)
            assert [p._version for p in of.parameters()] == before
    assert sum(taken.rows) == 4 * 6, taken
    assert taken.again == [False, True, True, True]
    assert_full(mine, other, is_close if clip else same_bits)


def goes_on_from_a_checkpoint() -> None:
    """Of torch.distributed.checkpoint, and by `state_dict`: with the same bits."""
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    cls = load_optimizer("adamw")
    one, two, three = (fully_sharded(seed) for seed in (0, 1, 2))
    first, second, third = (
        cls(x.parameters(), amsgrad=True) for x in (one, two, three)
    )
    with watched(first):
        train(one, first, 0, 1)
        saved = copy.deepcopy(get_state_dict(one, first))
        set_state_dict(
            two, second, model_state_dict=saved[0], optim_state_dict=saved[1]
        )
        three.load_state_dict(one.state_dict())
        third.load_state_dict(copy.deepcopy(first.state_dict()))
        train(one, first, 2, 3)
    for other, optimizer in ((two, second), (three, third)):
        with watched(optimizer) as taken:
            train(other, optimizer, 2, 3)
        assert sum(taken.rows) == 2 * 6, taken
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            assert same_bits(p._local_tensor, q._local_tensor)


def checkpoint_is_that_of_the_loop() -> None:
    """The same keys, types and layouts, whoever took the steps."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    saved = []
    for by_default in "10":
        one = fully_sharded()
        optimizer = load_optimizer("adamw")(one.parameters())
        with watched(optimizer, by_default) as taken:
            train(one, optimizer, 0, 1)
        assert bool(sum(taken.rows)) == (by_default == "1")
        saved.append(get_optimizer_state_dict(one, optimizer)["state"])
    assert saved[0].keys() == saved[1].keys()
    for name, kept in saved[0].items():
        assert kept.keys() == saved[1][name].keys()
        for key, x in kept.items():
            y = saved[1][name][key]
            assert type(x) is type(y) and x.dtype == y.dtype and x.shape == y.shape
            assert getattr(x, "_spec", None) == getattr(y, "_spec", None)


def scaled(overflows: bool) -> None:
    """A GradScaler takes its scale out, and a step that overflowed is none; both processes
    know of it.
    """
    import torch.distributed as dist

    found = []
    for fused in (True, None):
        one = fully_sharded()
        optimizer = load_optimizer("adamw")(one.parameters(), fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        with watched(optimizer, "0") as taken:
            for step in range(3):
                optimizer.zero_grad()
                backward(one, step, scaler.scale)
                if overflows and step == 1 and dist.get_rank() == 0:
                    next(one.parameters()).grad._local_tensor[0] = torch.inf
                scaler.step(optimizer)
                scaler.update()
        steps = 2 if overflows else 3
        assert sum(taken.rows) == (6 * steps if fused else 0), taken
        assert scaler.get_scale() == (32.0 if overflows else 64.0)
        found.append([p.full_tensor().detach() for p in one.parameters()])
    assert all(map(is_close, *found))


# ---- what kernels leave


def _of_one(*ways: Any) -> Pair:
    return Pair("adamw", [*ways], groups=1, lr=0.1)


def _cut_otherwise(x: Tensor, placements: Any) -> Tensor:
    return x.redistribute(placements=placements)


def leaves_a_gradient_cut_otherwise(again: bool) -> None:
    """torch brings it into place; kernels have never seen such a one, or have."""
    from torch.distributed.tensor import Replicate

    pair = _of_one(cuts()[0])
    with watched(pair.mine) as taken:
        if again:
            pair.step(1, 2)
        before = sum(taken.rows)
        pair.give(3)
        pair.parts[0].grad = _cut_otherwise(pair.parts[0].grad, [Replicate()])
        pair.mine.step()
        pair.other.step()
    assert sum(taken.rows) == before == (4 if again else 0), taken
    pair.assert_same(is_close)


def leaves_a_part_of_a_sum(again: bool) -> None:
    """It looks as the gradient of the steps before did, where kernels have seen one."""
    from torch.distributed.tensor import DTensor, Partial, Replicate

    mesh = cuts()[0][1]
    pair = _of_one(((3, 2), mesh, [Replicate()]))
    with watched(pair.mine) as taken:
        if again:
            pair.step(1, 2)
        pair.give(3)
        half = pair.parts[0].grad._local_tensor / 2
        pair.parts[0].grad = DTensor.from_local(half, mesh, [Partial()])
        pair.mine.step()
        pair.other.step()
    assert sum(taken.rows) == (4 if again else 0), taken
    pair.assert_same(is_close)


def leaves_a_state_cut_otherwise() -> None:
    from torch.distributed.tensor import Replicate

    pair = _of_one(cuts()[0])
    with watched(pair.mine) as taken:
        pair.step(1, 2)
        state = pair.mine.state[pair.parts[0]]
        state["exp_avg"] = _cut_otherwise(state["exp_avg"], [Replicate()])
        pair.give(3)
        pair.mine.step()
        pair.other.step()
    assert sum(taken.rows) == 4, taken
    p, other = pair.parts[0], pair.whole[0]
    assert is_close(p.full_tensor().detach(), other.detach())


def are_not_held() -> None:
    """Rows of DTensors that look alike and do not have the same elements here, or not what
    these will be.
    """
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    def made(mesh: Any, placement: Any, *here: int) -> Tensor:
        shape = {"shape": torch.Size((4, 3)), "stride": (3, 1)}
        return DTensor.from_local(torch.ones(here), mesh, [placement], **shape)

    mesh, turned = DeviceMesh("cpu", [0, 1]), DeviceMesh("cpu", [1, 0])
    p, q = made(mesh, Shard(0), 2, 3), made(mesh, Replicate(), 4, 3)
    plain, one = torch.ones(2, 3), DTensor.from_local(torch.ones(()), mesh, [Partial()])
    assert are_held([[p], [p], [None]], [[plain]], True)
    assert are_held([[q, plain], [q, plain]], [], False)
    summed = made(mesh, Partial(), 4, 3)
    others = [made(turned, Shard(0), 2, 3), made(mesh, Shard(0), 3, 2), plain, summed]
    for x in others:
        assert not are_held([[p], [x]], [], True)
        assert not are_held([[x], [p]], [], True)
    for x in (p, plain, summed):
        assert not are_held([[q], [x]], [], False)
    assert not are_held([[summed], [summed]], [], True)
    assert not are_held([[p]], [], False)
    assert not are_held([[p]], [[one]], True)
    assert not are_held([[plain], [plain]], [], True)


def leaves_what_lies_otherwise() -> None:
    """What is here of a gradient is across its memory in one process alone."""
    import torch.distributed as dist

    pair = _of_one(cuts()[0])
    with watched(pair.mine) as taken:
        for step in (1, 2, 3):
            pair.give(step)
            if dist.get_rank() == 0:
                grad = pair.parts[0].grad
                grad._local_tensor = grad._local_tensor.t().contiguous().t()
            pair.mine.step()
            pair.other.step()
    assert sum(taken.rows) == 2 * 3 * dist.get_rank(), taken
    pair.assert_same(is_close)


# ---- what happens between two steps


def sees(happening: str) -> None:
    """Whatever happens between two steps, kernels see it."""
    pair = Pair("adamw", cuts()[:5], lr=0.1, fused=True)
    with watched(pair.mine) as taken:
        pair.step(1, 2, 3)
        assert taken.again == [False, True, True]
        HAPPENINGS[happening](pair)
        many = len(pair.parts)
        pair.step(4, 5, 6)
    assert taken.again[3:] == [False, happening != MISSING, True], taken
    assert taken.rows[3:] == [many - (happening == MISSING), many, many], taken
    pair.assert_same(same_bits)


def _another_memory(pair: Pair) -> None:
    for p, whole in zip(pair.parts, pair.whole, strict=True):
        whole.data = whole.data.clone() * 2
        if hasattr(p, "_local_tensor"):
            p._local_tensor = p._local_tensor.clone() * 2
        else:
            p.data = p.data.clone() * 2


def _another_state_inside(pair: Pair) -> None:
    state = pair.mine.state[pair.parts[0]]["exp_avg"]
    state._local_tensor = torch.full_like(state._local_tensor, 0.25)
    pair.other.state[pair.whole[0]]["exp_avg"].fill_(0.25)


def _another_state(pair: Pair) -> None:
    for optimizer in (pair.mine, pair.other):
        for state in optimizer.state.values():
            state["exp_avg_sq"] = state["exp_avg_sq"] * 4


def _one_more(pair: Pair) -> None:
    """A parameter that joins, cut over the other axis."""
    from torch.distributed.tensor import Shard

    mesh = cuts()[0][1]
    whole = torch.ones(2, 4)
    pair.ways.append((mesh, [Shard(1)]))
    pair.shapes.insert(-1, (2, 4))
    pair.parts.insert(-1, Parameter(cut(whole, *pair.ways[-1])))
    pair.whole.insert(-1, Parameter(whole))
    pair.mine.add_param_group({"params": [pair.parts[-2]]})
    pair.other.add_param_group({"params": [pair.whole[-2]]})


def _cut_anew(pair: Pair) -> None:
    """All of a row is cut otherwise; the parameter is the same object."""
    from torch.distributed.tensor import Replicate

    p, state = pair.parts[0], pair.mine.state[pair.parts[0]]
    pair.ways[0] = (pair.ways[0][0], [Replicate()])
    new = Parameter(_cut_otherwise(p.detach(), [Replicate()]))
    p.grad = None
    torch.utils.swap_tensors(p, new)
    for name in ("exp_avg", "exp_avg_sq"):
        state[name] = _cut_otherwise(state[name], [Replicate()])


def _missing(pair: Pair) -> None:
    """One gradient that is missing in both processes, for one step."""
    give = pair.give

    def given(step: int) -> None:
        give(step)
        if step == 4:
            pair.parts[0].grad = pair.whole[0].grad = None

    pair.give = given  # type: ignore[method-assign]


MISSING = "a gradient that is missing"
HAPPENINGS: dict[str, Callable[[Pair], None]] = {
    "another memory": _another_memory,
    "another state": _another_state,
    "another state inside": _another_state_inside,
    "one more parameter": _one_more,
    "cut anew": _cut_anew,
    MISSING: _missing,
}
