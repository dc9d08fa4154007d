"""An optimizer at work on a scene, and what it leaves behind after each step.

In: something that makes an optimizer, a scene, the hypers of each group. Out: a Trace,
the value of each parameter and of each of its states after each step. Random numbers
start anew in each step and before the constructor, so that the same steps give the same
bits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from .scene import Part, Scene

Hypers = Mapping[str, Any]
Make = Callable[..., Optimizer]
Change = Callable[[Tensor], Tensor]
FALL = 0.95  # the share of the learning rate that is left in the next step
ITSELF = ""  # what no state is called
Key = tuple[str, str]  # a parameter, and ITSELF or the name of a state
Snapshot = dict[Key, Tensor]
ONE_GROUP: tuple[Hypers, ...] = ({},)


@dataclass(frozen=True, slots=True)
class Trace:
    """What every tensor was before the first step (parameters alone) and after each."""

    start: Snapshot
    steps: tuple[Snapshot, ...]

    def of(self, names: Sequence[str], since: int = 0) -> "Trace":
        """The same, of these parameters alone and from a later step on."""
        return self._kept(lambda key: key[0] in names, since)

    def without_states(self) -> "Trace":
        return self._kept(lambda key: key[1] == ITSELF)

    def _kept(self, wanted: Callable[[Key], bool], since: int = 0) -> "Trace":
        def kept(snapshot: Snapshot) -> Snapshot:
            return {key: value for key, value in snapshot.items() if wanted(key)}

        return Trace(kept(self.start), tuple(map(kept, self.steps[since:])))


@dataclass(slots=True)
class Run:
    """An optimizer with its parameters by name. `needs_closure` where `step` has to be
    given one; the methods `by_hand` are called after each step.
    """

    scene: Scene
    parameters: dict[str, Parameter]
    optimizer: Optimizer
    needs_closure: bool = False
    by_hand: Sequence[str] = ()
    parts: dict[str, Part] = field(init=False)

    def __post_init__(self) -> None:
        self.parts = {each.name: each for each in self.scene.parts}

    def give(self, step: int, change: Change | None = None) -> None:
        """Set the gradients of a step."""
        for name, p in self.parameters.items():
            grad = self.scene.gradient(self.parts[name], step)
            p.grad = change(grad) if change and grad is not None else grad

    def step(self, step: int, change: Change | None = None) -> None:
        self.give(step, change)
        self.move(step, change)

    def move(self, step: int, change: Change | None = None) -> None:
        """One step with the gradients that are there, and a loss that is changed as they
        are.
        """
        for group in self.optimizer.param_groups if self.scene.falling else ():
            if "lr" in group:
                group["lr"] = group["lr"] * FALL
        torch.default_generator.manual_seed(step + 1000 * self.scene.seed)
        if self.needs_closure:
            self.optimizer.step(self._closure(step, change))
        else:
            self.optimizer.step()
        self.call_by_hand()

    def _closure(self, step: int, change: Change | None) -> Callable[[], Tensor]:
        """A closure: where an optimizer has cleared gradients that were given, it finds
        those of where the parameters are now.
        """
        loss = loss_of(step)
        given = [name for name, p in self.parameters.items() if p.grad is not None]
        starts = {name: self.parameters[name].detach().clone() for name in given}

        def closure() -> Tensor:
            for name in given:
                p = self.parameters[name]
                if p.grad is None:
                    part = self.parts[name]
                    way = self.scene.way(part, step, starts[name], p.detach())
                    grad = self.scene.gradient_at(part, step, way)
                    p.grad = change(grad) if change else grad
            return change(loss) if change else loss

        return closure

    def call_by_hand(self) -> None:
        """What a training loop calls beside `step`."""
        for name in self.by_hand:
            getattr(self.optimizer, name)()

    def memory(self, name: str) -> dict[str, Tensor]:
        """The states of a parameter, those in tuples and dicts with a path for a name;
        what holds no number is left out. Asking makes none.
        """
        return dict(_numbers("", self.optimizer.state.get(self.parameters[name], {})))

    def snapshot(self) -> Snapshot:
        seen = self.start()
        for name in self.parameters:
            for key, value in self.memory(name).items():
                seen[name, key] = value.detach().clone()
        return seen

    def start(self) -> Snapshot:
        return {
            (name, ITSELF): p.detach().clone() for name, p in self.parameters.items()
        }


def loss_of(step: int) -> Tensor:
    """What a closure returns."""
    return torch.tensor(1 / (1 + step), dtype=torch.float32)


def _numbers(path: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value.to_dense() if value.layout != torch.strided else value
    elif isinstance(value, (int, float)):
        yield path, torch.tensor(float(value), dtype=torch.float64)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(f"{path}.{key}".removeprefix("."), item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for at, item in enumerate(value):
            yield from _numbers(f"{path}[{at}]", item)


def start(
    make: Make, scene: Scene, hypers: Hypers | None = None,
    groups: Sequence[Hypers] = ONE_GROUP, needs_closure: bool = False,
    backwards: bool = False, by_hand: Sequence[str] = (),
) -> Run:  # fmt: skip
    """A new optimizer; the parameters are dealt to the groups in turn. `backwards` puts
    groups and parameters in the opposite order.
    """
    parameters = {each.name: scene.parameter(each) for each in scene.parts}
    dealt = [*parameters.values()]
    given = [
        {"params": dealt[at :: len(groups)], **group} for at, group in enumerate(groups)
    ]
    if backwards:
        given = [{**each, "params": each["params"][::-1]} for each in given[::-1]]
    seed_constructor(scene)
    optimizer = make(given, **(hypers or {}))
    return Run(scene, parameters, optimizer, needs_closure, by_hand)


def seed_constructor(scene: Scene) -> None:
    """Let an optimizer that is made now draw the numbers that each of the scene draws."""
    torch.default_generator.manual_seed(1000 * scene.seed - 1)


def play(run: Run, change: Change | None = None) -> Trace:
    """All steps of a scene."""
    before, steps = run.start(), []
    for number in run.scene.numbers:
        run.step(number, change)
        steps.append(run.snapshot())
    return Trace(before, tuple(steps))
