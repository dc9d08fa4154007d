"""Steps of DTensors in two processes, each of which holds a part of every parameter.

In: what the tests ask of a process. Out: what went wrong with each, in words. A process of
the two imports no more than this.
"""

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from optdsl import load_optimizer
from optdsl.runtime.kernel import Kernel
from optdsl.runtime.launch import Launch
from tests.parity import same_bits

Setting = dict[str, Any]


@dataclass
class Taken:
    """What kernels took: the rows of each launch, and of each step whether its tables were
    those of the step before.
    """

    rows: list[int] = field(default_factory=list)
    again: list[bool] = field(default_factory=list)


@contextmanager
def watched(of: Optimizer, by_default: str = "1") -> Iterator[Taken]:
    found = Taken()
    one, repeat = Launch.step, Kernel.repeat

    def counted(self: Launch, batch: Any) -> bool:
        took = one(self, batch)
        if self.optimizer is of:
            found.rows.append(len(batch.sizes) if took else 0)
        return took

    def noted(self: Kernel, optimizer: Any) -> list:
        left = repeat(self, optimizer)
        if optimizer is of:
            found.again.append(not left)
        return left

    with (
        patch.object(Launch, "step", counted),
        patch.object(Kernel, "repeat", noted),
        patch.dict(os.environ, OPTDSL_FUSED=by_default),
    ):
        yield found


# ---- parameters


def cuts() -> list[tuple[tuple[int, ...], Any, Sequence[Any]]]:
    """Shapes with the ways to cut them: over both processes where a mesh has one axis, as
    halves or as a copy for each, and over a mesh of one by two. Some processes get less
    than others, or nothing.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard

    line, plane = init_device_mesh("cpu", (2,)), init_device_mesh("cpu", (1, 2))
    return [
        ((5, 3), line, [Shard(0)]),
        ((1, 4), line, [Shard(0)]),
        ((1031,), line, [Shard(0)]),
        ((4, 6), line, [Shard(1)]),
        ((3, 2), line, [Replicate()]),
        ((), line, [Replicate()]),
        ((5, 3), plane, [Replicate(), Shard(0)]),
        ((5, 4), plane, [Shard(0), Shard(1)]),
        ((5, 2), plane, [Shard(0), Shard(0)]),
        ((4,), plane, [Shard(0), Replicate()]),
    ]


def copies(shards: bool) -> list[tuple[tuple[int, ...], Any, Sequence[Any]]]:
    """Shapes that each process has as a whole: as a copy, or as the only one of `shards`."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard

    line, plane = init_device_mesh("cpu", (2,)), init_device_mesh("cpu", (1, 2))
    copied = [(shape, line, [Replicate()]) for shape in ((5, 3), (2, 2), ())]
    return [*copied, *[((3, 4), plane, [Shard(1), Replicate()])] * shards]


def cut(x: Tensor, mesh: Any, placements: Sequence[Any]) -> Tensor:
    """What is whole in each process as a DTensor, without a word between them."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x, mesh, placements, src_data_rank=None)


def wholes(shapes: Sequence[tuple[int, ...]], seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random) for shape in shapes]


class Pair:
    """An optimizer of DTensors, and of tensors that all processes have as a whole. The last
    parameter is plain for both.
    """

    def __init__(
        self,
        name: str,
        of: Sequence[tuple[tuple[int, ...], Any, Sequence[Any]]],
        dtype: torch.dtype = torch.float32,
        groups: int = 2,
        **setting: Any,
    ) -> None:
        self.ways = [each[1:] for each in of]
        self.shapes = [*(each[0] for each in of), (4, 2)]
        self.dtype = dtype
        whole = self.given(0)
        self.whole = [Parameter(x.clone()) for x in whole]
        self.parts = [Parameter(x) for x in self.cut(whole)]
        cls = load_optimizer(name)
        self.mine, self.other = (
            cls([{"params": each[at::groups], **setting} for at in range(groups)])
            for each in (self.parts, self.whole)
        )

    def given(self, seed: int) -> list[Tensor]:
        return [x.to(self.dtype) for x in wholes(self.shapes, seed)]

    def cut(self, whole: Sequence[Tensor]) -> list[Tensor]:
        parts = [cut(x, *way) for x, way in zip(whole, self.ways, strict=False)]
        return [*parts, *(x.clone() for x in whole[len(parts) :])]

    def give(self, step: int) -> None:
        grads = self.given(100 + step)
        for params, of in ((self.parts, self.cut(grads)), (self.whole, grads)):
            for p, grad in zip(params, of, strict=True):
                p.grad = grad

    def step(self, *steps: int) -> None:
        for each in steps:
            self.give(each)
            self.mine.step()
            self.other.step()

    def assert_same(self, compare: Callable[[Tensor, Tensor], bool]) -> None:
        """Whether parameters and states are those of the other one, as far as they are
        here, and states are cut as their parameters.
        """
        for at, (p, whole) in enumerate(zip(self.parts, self.whole, strict=True)):
            way = self.ways[at] if at < len(self.ways) else None
            here, there = self.mine.state[p], self.other.state[whole]
            assert here.keys() == there.keys()
            kept = [(key, here[key], there[key]) for key in here]
            for key, x, y in [("p", p.detach(), whole.detach()), *kept]:
                if way and isinstance(x, Tensor) and x.shape == p.shape and x.ndim:
                    assert x.placements == p.placements
                    x, y = x._local_tensor, cut(y, *way)._local_tensor
                x = getattr(x, "_local_tensor", x)
                assert compare(x, y), f"{key} at {at}: {x} is not {y}"


def is_close(x: Any, y: Any) -> bool:
    if not isinstance(x, Tensor):
        return x == y
    return torch.allclose(x, y, rtol=1e-4, atol=1e-6)


# ---- rules


def takes_all(
    name: str,
    setting: Setting,
    compare: Callable[[Tensor, Tensor], bool] = same_bits,
    **given: Any,
) -> None:
    """Kernels take all rows of all steps, the later ones by the tables of the one before."""
    pair = Pair(name, cuts(), **given, **setting, fused=True)
    with watched(pair.mine) as taken:
        pair.step(1, 2, 3, 4)
    assert sum(taken.rows) == 4 * len(pair.parts), taken
    assert taken.again[-1], taken
    pair.assert_same(compare)


def takes_none(name: str, setting: Setting, whole: bool = False) -> None:
    """What reduces runs as it does without kernels, or says what it says then."""
    ways = copies(False) if whole else cuts()[:1]
    outcomes = []
    for by_default in "10":
        pair = Pair(name, ways, groups=1, **setting)
        with watched(pair.mine, by_default) as taken:
            try:
                pair.give(1)
                pair.mine.step()
                pair.give(2)
                pair.mine.step()
                outcomes.append([p.detach() for p in pair.parts])
            except Exception as error:
                outcomes.append([type(error), str(error)])
        assert not any(taken.rows), taken
    for x, y in zip(*outcomes, strict=True):
        x, y = (getattr(each, "_local_tensor", each) for each in (x, y))
        assert same_bits(x, y), (x, y)


def takes_what_is_whole(name: str, setting: Setting, shards: bool) -> None:
    """A process that holds all of a tensor may also reduce it."""
    pair = Pair(name, copies(shards), **setting, fused=True)
    with watched(pair.mine) as taken:
        pair.step(1, 2, 3)
    assert sum(taken.rows) == 3 * len(pair.parts), taken
    pair.assert_same(same_bits)


# ---- what a process does

Asked = dict[str, Callable[[], None]]


def in_two(rank: int, port: int, alone: Asked, together: Asked, folder: str) -> None:
    """Run what is asked, by the names of tests, and save what went wrong. Where no process
    waits for the other, each begins elsewhere: a kernel is built by one of them.
    """
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group(
        "gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    names = [*alone]
    half = rank * len(names) // 2
    found = {}
    for name in [*names[half:], *names[:half], *together]:
        try:
            (alone | together)[name]()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
