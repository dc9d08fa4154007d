"""Two optimizers side by side: equal parameters, scripted gradients, every bit compared.

A side is an optimizer with its named parameters. The gradients of a step depend on the
parameter and the step alone, so any number of sides, and a side that was saved and
loaded, see the same ones. A class that refuses a shape gets a matrix in its place; one that
refuses dense gradients gets sparse ones.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from optdsl.emit.again import METHOD

Hypers = Mapping[str, Any]

SHAPES = {
    "matrix": (4, 3),
    "late": (3,),  # no gradient in the first three steps
    "scalar": (),
    "transposed": (3, 4),  # not contiguous
    "empty": (0, 3),
    "never": (2,),  # no gradient in any step
    "kernel": (2, 3, 2, 2),
    "sometimes": (3,),  # no gradient in every fourth step
}
LATE = 3
MATRICES = {  # the same for a rule that takes matrices alone
    "matrix": (4, 3),
    "late": (3, 2),
    "scalar": (1, 1),
    "transposed": (3, 4),
    "empty": (0, 3),
    "never": (2, 2),
    "kernel": (6, 2),
    "sometimes": (3, 3),
}

TORCH = {
    "adadelta": torch.optim.Adadelta,
    "adafactor": torch.optim.Adafactor,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "asgd": torch.optim.ASGD,
    "muon": torch.optim.Muon,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "sgd": torch.optim.SGD,
    "sparse_adam": torch.optim.SparseAdam,
}
ONLY_MATRICES = ("Muon",)
ONLY_SPARSE = ("SparseAdam",)
NEVER_EMPTY = ("Adafactor",)  # torch's divides by the size of a parameter


def options(cls: type) -> list[str]:
    """The names that a constructor takes beside the parameters."""
    return [*inspect.signature(cls).parameters][1:]


def plain(spec: str) -> Callable[..., Optimizer]:
    """torch's class for a spec with its loop, which is the one that computes as we do."""
    cls = TORCH[spec]
    return partial(cls, foreach=False) if "foreach" in options(cls) else cls


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens around the steps: `split` gives each group of hypers its share of the
    parameters; with a closure the gradients are there only once it has run.
    """

    name: str
    split: bool = False
    closure: bool = False
    scheduler: str = ""


SCENARIOS = (
    Scenario("one group"),
    Scenario("several groups", split=True),
    Scenario("closure", closure=True),
    Scenario("LambdaLR", split=True, scheduler="LambdaLR"),
    Scenario("OneCycleLR", scheduler="OneCycleLR"),
)


@dataclass(frozen=True, slots=True)
class Side:
    """An optimizer with its parameters by name."""

    parameters: dict[str, Parameter]
    optimizer: Optimizer
    dtype: torch.dtype

    def give(
        self, step: int, change: Callable[[Tensor], Tensor] = Tensor.clone
    ) -> None:
        """Set the gradients of a step, each changed in some way."""
        for name, p in self.parameters.items():
            grad = gradient(name, step, self.dtype, tuple(p.shape))
            kind = type(self.optimizer).__name__
            if grad is not None and kind in ONLY_SPARSE:
                grad = thinned(name, grad)
            if name == "empty" and kind in NEVER_EMPTY:
                grad = None
            p.grad = None if grad is None else change(grad)

    def step(
        self, step: int, change: Callable[[Tensor], Tensor] = Tensor.clone
    ) -> None:
        self.give(step, change)
        if hasattr(self.optimizer, METHOD):
            self.optimizer.step(self._closure(step, change))
        else:
            self.optimizer.step()

    def _closure(
        self, step: int, change: Callable[[Tensor], Tensor]
    ) -> Callable[[], None]:
        """A closure for rules that evaluate it again: the loss is a parabola around where
        the parameters are now.
        """
        has = [name for name, p in self.parameters.items() if p.grad is not None]
        starts = {name: self.parameters[name].detach().clone() for name in has}

        def closure() -> None:
            for name in has:
                p = self.parameters[name]
                if p.grad is None:
                    grad = gradient(name, step, self.dtype, tuple(p.shape))
                    p.grad = change(grad + 0.5 * (p.detach() - starts[name]))

        return closure

    def steps(self, *steps: int) -> "Side":
        for step in steps:
            self.step(step)
        return self

    def only(self, names: Iterable[str]) -> "Side":
        """The same optimizer, looked at in these parameters."""
        return replace(self, parameters={name: self.parameters[name] for name in names})

    def memory(self, name: str) -> dict[str, Any]:
        """The state of a parameter; asking makes none."""
        return dict(self.optimizer.state.get(self.parameters[name], {}))


def side(
    make: Callable[..., Optimizer],
    dtype: torch.dtype = torch.float32,
    groups: tuple[Hypers, ...] = ({},),
    **hypers: Any,
) -> Side:
    """A new optimizer over new parameters, one dealt to each group in turn."""
    parameters = make_parameters(make, dtype)
    dealt = list(parameters.values())
    given = [
        {"params": dealt[index :: len(groups)], **group}
        for index, group in enumerate(groups)
    ]
    torch.manual_seed(0)  # groups may draw a seed of their own
    return Side(parameters, make(given, **hypers), dtype)


def make_parameters(
    make: Callable[..., Optimizer], dtype: torch.dtype
) -> dict[str, Parameter]:
    """The same values each time, in each shape."""
    cls = make.func if isinstance(make, partial) else make
    kind = getattr(cls, "__name__", "")
    shapes = MATRICES if kind in ONLY_MATRICES else SHAPES
    if kind in ONLY_SPARSE:
        shapes = {**SHAPES, "scalar": (1,)}
    return {
        name: Parameter(_values(name, 0, dtype, shape).clone())
        for name, shape in shapes.items()
    }


@cache
def _values(
    name: str, number: int, dtype: torch.dtype, shape: tuple[int, ...]
) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * number + [*SHAPES].index(name))
    if name == "transposed":
        return torch.randn(shape[::-1], generator=generator, dtype=dtype).t()
    return torch.randn(shape, generator=generator, dtype=dtype)


def gradient(
    name: str, step: int, dtype: torch.dtype, shape: tuple[int, ...]
) -> Tensor | None:
    """The gradient of a parameter in a step, counted from 0."""
    missing = {"late": step < LATE, "never": True, "sometimes": step % 4 == 3}
    return None if missing.get(name, False) else _values(name, step + 1, dtype, shape)


def thinned(name: str, grad: Tensor) -> Tensor:
    """A sparse gradient that holds some of the entries: whole rows of the kernel, and in
    the matrix each entry in two parts, as an index that occurs twice leaves it.
    """
    if name == "kernel":
        kept = grad * (grad[:, :1, :1, :1] > 0) if grad.ndim == 4 else grad
        return kept.to_sparse(1)
    kept = (grad * (grad.real.abs() > 0.5)).to_sparse()
    if name != "matrix":
        return kept
    indices, values = kept.indices(), kept.values()
    return torch.sparse_coo_tensor(
        torch.cat([indices, indices], 1),
        torch.cat([values, 0.25 * values]),
        grad.shape,
        check_invariants=False,
    )


def same_bits(ours: Any, theirs: Any) -> bool:
    """Whether two tensors have one dtype, one shape and the same bits, NaN and -0 too."""
    if not isinstance(ours, Tensor) or not isinstance(theirs, Tensor):
        return type(ours) is type(theirs) and ours == theirs
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    if ours.is_sparse or theirs.is_sparse:
        return ours.layout == theirs.layout and all(
            same_bits(one, other)
            for one, other in zip(_parts(ours), _parts(theirs), strict=True)
        )
    return torch.equal(_bits(ours), _bits(theirs))


def _bits(tensor: Tensor) -> Tensor:
    dense = tensor.detach().to_dense()
    return dense.contiguous().flatten().view(torch.uint8)


def _parts(sparse: Tensor) -> tuple[Tensor, Tensor]:
    return sparse._indices(), sparse._values()


def difference(
    ours: Side, theirs: Side, renamed: Mapping[str, str] | None = None
) -> str:
    """The first tensor that differs, in words, or ''; `renamed` maps our states to theirs.

    A parameter that has had no gradient has no state on our side; theirs may have made it.
    """
    for name, p in ours.parameters.items():
        found = _apart(p, theirs.parameters[name])
        if found:
            return f"parameter {name}: {found}"
        mine = {
            (renamed or {}).get(key, key): value
            for key, value in ours.memory(name).items()
        }
        its = theirs.memory(name)
        if not mine and (p.grad is None or not its):
            continue
        if mine.keys() != its.keys():
            return f"state of {name}: {sorted(mine)} is not {sorted(its)}"
        for key, value in mine.items():
            found = _apart(value, its[key])
            if found:
                return f"{key} of {name}: {found}"
    return ""


def _apart(ours: Any, theirs: Any) -> str:
    if same_bits(ours, theirs):
        return ""
    if not (isinstance(ours, Tensor) and isinstance(theirs, Tensor)):
        return f"{ours!r} is not {theirs!r}"
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return f"{ours.dtype} {tuple(ours.shape)} is not {theirs.dtype} {tuple(theirs.shape)}"
    apart = (ours - theirs).abs()
    return f"{int((apart != 0).sum())} of {apart.numel()} differ, by at most {apart.max():.3g}"


def assert_same(ours: Side, theirs: Side, when: str = "") -> None:
    found = difference(ours, theirs)
    assert not found, f"{when}{': ' if when else ''}{found}"


def run(
    ours: Side,
    theirs: Side,
    scenario: Scenario,
    steps: int,
    renamed: Mapping[str, str] | None = None,
    before_step: Callable[[Optimizer], None] = lambda optimizer: None,
) -> None:
    """Step both and compare after each step; `before_step` is what the training loop of
    theirs does between backward and step.
    """
    playing = [play(ours, scenario, steps, lambda optimizer: None)]
    playing.append(play(theirs, scenario, steps, before_step))
    for step, results in enumerate(zip(*playing, strict=True)):
        assert results[0] == results[1], f"step {step}: losses {results}"
        found = difference(ours, theirs, renamed)
        assert not found, f"step {step}: {found}"


def play(
    each: Side, scenario: Scenario, steps: int, before_step: Callable[[Optimizer], None]
) -> Iterator[Any]:
    """One side through a scenario; yields what each step returns."""
    scheduler = _scheduler(scenario.scheduler, each.optimizer, steps)
    for step in range(steps):
        if scenario.closure:
            each.give(step)
            before_step(each.optimizer)
            each.optimizer.zero_grad()
            yield each.optimizer.step(_closure(each, step))
        else:
            each.give(step)
            before_step(each.optimizer)
            yield each.optimizer.step()
        if scheduler is not None:
            scheduler.step()


def _closure(each: Side, step: int) -> Callable[[], float]:
    def closure() -> float:
        assert torch.is_grad_enabled()
        each.give(step)
        return float(step)

    return closure


def _scheduler(kind: str, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    if kind == "LambdaLR":
        return LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    if kind == "OneCycleLR":
        cycled = bool({"momentum", "betas"} & optimizer.defaults.keys())
        return OneCycleLR(optimizer, 0.1, total_steps=steps + 1, cycle_momentum=cycled)
    return None


def spec(body: str, *declarations: str) -> str:
    """The text of a small spec."""
    return "\n".join(["optimizer Small", "hyper lr = 0.5", *declarations, body, ""])


def pair() -> tuple[Parameter, Parameter]:
    """Two parameters with gradients of norm 5 and 0.5."""
    one, two = Parameter(torch.tensor([1.0, 2.0])), Parameter(torch.tensor([3.0, -1.0]))
    one.grad, two.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
    return one, two
