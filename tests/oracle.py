"""The interpreter over several steps, and how far round-off may carry its results.

A rule runs on three parameters in two groups; one has no gradient in the first step, one
none in the last. Round-off is measured, not guessed: the same rule runs again with every
result of a calculation wrong in its 40th binary digit, and another order of the same
calculations, wrong in its 52nd, has to stay within what that does.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import torch
from hypothesis import HealthCheck, Phase, settings
from torch import Tensor

from optdsl import interpret, ir
from optdsl.check import LOOP, Mode, check
from optdsl.evaluate import evaluate
from optdsl.parse import parse
from optdsl.source import Source
from optdsl.use import used
from optdsl.verify.roundoff import measured
from optdsl.verify.run import loss_of

SHAPES = ((3, 4), (4,), (2, 1, 3))
MATRICES = ((3, 4), (4, 2), (3, 3))  # for a rule that takes nothing else
STEPS = 4
LATE, EARLY = 1, 2  # whose gradients start late, and whose end early
LONG = "OPTDSL_EXAMPLES" in os.environ
Results = list[dict[str, Tensor]]
Case = TypeVar("Case")


def examples(count: int) -> settings:
    """That many examples, the same ones every time; OPTDSL_EXAMPLES multiplies them.
    Only then is a failing example made smaller: that may take minutes.
    """
    return settings(
        max_examples=count * int(os.environ.get("OPTDSL_EXAMPLES", "1")),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
        phases=[each for each in Phase if each is not Phase.shrink or LONG],
    )


def every(nth: int, cases: Iterable[Case]) -> list[Case]:
    """Every second case or every third, from the first on; all under OPTDSL_EXAMPLES."""
    return [*cases] if LONG else [*cases][::nth]


@lru_cache(maxsize=256)
def checked(text: str, mode: Mode = LOOP) -> ir.Rule:
    written = Source("random.opt", text)
    source = used(parse(written), written)
    return check(parse(source), source, mode)[0]


@dataclass(frozen=True)
class Scenario:
    """Parameters, gradients and hypers, all made from a seed."""

    hypers: tuple[dict, dict]
    parameters: tuple[Tensor, ...]
    gradients: tuple[tuple[Tensor | None, ...], ...]

    def group(self, at: int) -> int:
        """The group of a parameter: the last one has its own."""
        return int(at == len(self.parameters) - 1)

    def of_group(self, at: int) -> dict:
        return self.hypers[self.group(at)]

    def seed(self, at: int) -> int:
        """Where the random numbers of a parameter's group start."""
        return 5 + (at == len(self.parameters) - 1)

    def seeds(self, rule: ir.Rule, at: int) -> dict[str, int]:
        """What a parameter's group is given beside the hypers."""
        return {"seed": self.seed(at)} if rule.random else {}

    def place(self, at: int) -> int:
        return at if at < len(self.parameters) - 1 else 0

    def rate(self, at: int, step: int) -> dict:
        """The learning rate of a parameter's group, which a scheduler halves once."""
        hypers = self.of_group(at)
        later = 0.5 if step >= STEPS // 2 else 1
        return {"lr": later * hypers["lr"]} if "lr" in hypers else {}

    def with_options(self, **options: bool) -> "Scenario":
        return replace(self, hypers=tuple(each | options for each in self.hypers))


def allows(hyper: ir.Hyper, value: float) -> bool:
    """Whether a number lies in the range of a hyper."""
    if hyper.range is None:
        return True
    low, high = (
        evaluate(each, lambda _: None) for each in (hyper.range.low, hyper.range.high)
    )
    above = low <= value if hyper.range.closed_low else low < value
    below = value <= high if hyper.range.closed_high else value < high
    return above and below


def scenario(rule: ir.Rule, seed: int) -> Scenario:
    random = torch.Generator().manual_seed(seed)

    def tensor(shape: Sequence[int]) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    def hyper(each: ir.Hyper):
        default = evaluate(each.default, lambda name: None)
        if each.annotation == "bool":
            return bool(torch.randint(2, (), generator=random))
        if each.annotation in ("str", "int") or default is None:
            return default
        if isinstance(default, tuple):
            return tuple(item and item * factor() for item in default)
        value = default or 0.1 * bool(torch.randint(2, (), generator=random))
        scaled = (value * factor(), value / factor())
        return next(number for number in scaled if allows(each, number))

    def factor() -> float:
        return 0.5 + 0.5 * float(torch.rand((), generator=random, dtype=torch.float64))

    def fits(shape: Sequence[int], hypers: dict) -> bool:
        memory = interpret.Memory(torch.zeros(shape, dtype=torch.float64), hypers)
        run = interpret.Run(rule, memory, None)
        return all(run.value(each.condition) for each in rule.requires)

    def group(shapes: Sequence[Sequence[int]]) -> dict | None:
        drawn = ({each.name: hyper(each) for each in rule.hypers} for _ in range(50))
        return next((h for h in drawn if all(fits(each, h) for each in shapes)), None)

    shapes = next(each for each in (SHAPES, MATRICES) if group(each) is not None)
    hypers = (group(shapes), group(shapes))
    hypers[1].update({name: hypers[0][name] for name in rule.of_model})
    gradients = tuple(
        tuple(
            None
            if (at == LATE and step == 0) or (at == EARLY and step == STEPS - 1)
            else tensor(shape)
            for at, shape in enumerate(shapes)
        )
        for step in range(STEPS)
    )
    return Scenario(hypers, tuple(map(tensor, shapes)), gradients)


def elsewhere(grad: Tensor, way: Tensor) -> Tensor:
    """The gradient some way from where it is `grad`: the loss is a parabola."""
    return grad + 0.5 * way


def interpreted(rule: ir.Rule, given: Scenario) -> Results:
    """The parameters and their states after every step; the gradients stay as they are."""
    shared: list[dict] = [{}, {}]
    memories = [
        interpret.Memory(
            p.clone(),
            given.of_group(at),
            shared=shared[given.group(at)],
            seed=given.seed(at),
            place=given.place(at),
        )
        for at, p in enumerate(given.parameters)
    ]
    results: Results = []
    for number, gradients in enumerate(given.gradients):
        for at, (memory, grad) in enumerate(zip(memories, gradients, strict=True)):
            memory.hypers = given.of_group(at) | given.rate(at, number)
            memory.grad = None if grad is None else grad.clone()
        moving = [each for each in memories if each.grad is not None]
        starts = [each.p for each in moving]

        def anew(places: Sequence[Tensor], moving=moving, starts=starts):
            rows = zip(moving, places, starts, strict=True)
            return [elsewhere(each.grad, place - p) for each, place, p in rows]

        interpret.step(rule, memories, loss_of(number), anew)
        for hook in rule.on_calls:
            interpret.call(rule, hook.name, memories)
        for at, (memory, grad) in enumerate(zip(memories, gradients, strict=True)):
            assert grad is None or torch.equal(memory.grad, grad), (
                f"gradient {at} was changed"
            )
            states = {
                name: torch.as_tensor(value, dtype=torch.float64)
                for name, value in memory.states.items()
            }
            results.append(
                {"p": memory.p.clone(), **{k: v.clone() for k, v in states.items()}}
            )
    return results


def is_calculable(text: str, seed: int) -> bool:
    """Whether no number of the host becomes too large, where Python raises, no matrix
    that is taken apart, and none that the rule has in bfloat16 leaves its range, which the
    interpreter does not know.
    """
    rule = checked(text)
    try:
        found = interpreted(rule, scenario(rule, seed))
    except (ArithmeticError, torch.linalg.LinAlgError):
        return False
    largest = torch.finfo(torch.bfloat16 if _is_short(rule) else torch.float64).max
    return not any(
        (value.abs() > largest).any() for each in found for value in each.values()
    )


def round_off(
    rule: ir.Rule, given: Scenario, exact: Results, size: float = 2.0**-40
) -> Results:
    """How far each number may be off, where its calculations are. Those in bfloat16 are
    wrong by as much as the draws are, not a thousandth of it, so that three draws bound no
    number alone: all of a tensor may be off as far as the worst of it.
    """
    spread = _from_chaos_on(measured(lambda: interpreted(rule, given), exact, size))
    if not _is_short(rule):
        return spread
    return [
        {name: far.max().expand_as(far) for name, far in each.items()}
        for each in spread
    ]


def _from_chaos_on(spread: Results) -> Results:
    """Where round-off decides a number, it may decide all that come from it."""
    chaotic: set[int] = set()
    result = []
    for at, each in enumerate(spread):
        parameter = at % len(SHAPES)
        if any(far.isinf().any() for far in each.values()):
            chaotic.add(parameter)
        if parameter in chaotic:
            each = {name: torch.full_like(far, torch.inf) for name, far in each.items()}
        result.append(each)
    return result


def _is_short(rule: ir.Rule) -> bool:
    """Whether a part of the rule runs in bfloat16."""
    return any(
        "bfloat16" in (getattr(node, "function", ""), getattr(node, "name", ""))
        for block in ir.blocks(rule)
        for statement in block
        for node in ir.walk(statement)
    )


def assert_same_bits(before: Results, after: Results) -> None:
    """Equal to the sign of a zero; any NaN equals any other."""
    for here, there in zip(before, after, strict=True):
        assert here.keys() == there.keys()
        for name in here:
            torch.testing.assert_close(
                there[name], here[name], rtol=0, atol=0, equal_nan=True
            )
            finite = ~here[name].isnan()
            assert torch.equal(
                here[name].signbit()[finite], there[name].signbit()[finite]
            ), name


def assert_close(before: Results, after: Results, allowed: Results) -> None:
    for at, (here, there) in enumerate(zip(before, after, strict=True)):
        assert here.keys() == there.keys()
        for name in here:
            off = (here[name] - there[name].to(here[name].dtype)).abs()
            # Not finite in both, or inexact enough to be anything, where `off` is NaN.
            wrong = (off > allowed[at][name]) | (
                off.isnan() & allowed[at][name].isfinite()
            )
            step, parameter = divmod(at, len(SHAPES))
            assert not wrong.any(), (
                f"`{name}` of parameter {parameter} after step {step + 1}: "
                f"{there[name][wrong].tolist()} instead of {here[name][wrong].tolist()}"
            )
