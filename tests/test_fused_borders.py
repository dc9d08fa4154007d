"""Kernels agree with the interpreter at every border of a vector and of a chunk, for every
option, to a stated multiple of an epsilon; and any number of threads gives the same bits.

Each step is judged by itself, and each turn of a step in which kernels and torch take
turns: the interpreter starts in float64 from what is in memory before. Each of its results
may be wrong by `ULPS` epsilons of the type that kernels calculate in, and what they store
by half an epsilon of the type that it is stored in.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from built import of_library
from kernel_settings import (
    Setting,
    defaults,
    is_allowed,
    of_each_kernel,
    of_each_value,
)
from oracle import LONG
from test_fused import CARRIED, kernels_alone
from test_targets_against_interpreter import doubles
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from optdsl import interpret, ir, load_optimizer
from optdsl.emit.cpu import kernels_of
from optdsl.emit.cpu.table import columns_of
from optdsl.ir.kernels import Along, Elements
from optdsl.runtime.launch import Launch
from optdsl.verify.compare import same_bits
from optdsl.verify.roundoff import DRAWS, LUCK, SHORT_LUCK, Inexact
from optdsl.verify.run import loss_of

CHUNK = 16384
VECTORS = (0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1)
# The same numbers of elements along several axes, and along none.
ALONG_AXES = (
    (0, 3),
    (),
    (3, 5),
    (2, 2, 4),
    (17, 1),
    (129, 127),
    (128, 128),
    (145, 113),
)
# Kernels round each result by half an epsilon; functions of the C library are off by one
# or two.
ULPS = 8
# A sum in float64 is rounded at each of a chunk's elements in some lanes: errors in all
# directions, whose size grows as the root of their number.
ULPS_OF_SUMS = 32
# Where round-off may be as large a share of the largest number, it decides.
CHAOS = 2.0**-10
STEPS = 6
# The first makes the states, the second reads them; from the sixth on those that rectify
# their rates, as RAdam does, have a second moment to trust.
JUDGED = (1, 2, 6)
SEED = 5
SHORT = (torch.bfloat16, torch.float16)

DTYPES = (torch.float32, torch.float64, *SHORT)


# Each rule in one type, by turns; in all of them under OPTDSL_EXAMPLES.
def _typed() -> Iterator[tuple[str, torch.dtype]]:
    for at, name in enumerate(CARRIED):
        rule, setting = of_library(name).checked, defaults(name)
        one = torch.zeros(2, 2)
        taken = [x for x in DTYPES if is_allowed(rule, setting, one.to(x))]
        for dtype in taken if LONG else (taken[at % len(taken)],):
            yield name, dtype


TYPED = [*_typed()]

Results = list[dict[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """A rule with its hypers, on parameters of a type."""

    name: str
    setting: Setting
    dtype: torch.dtype
    maximize: bool = False

    @property
    def rule(self) -> ir.Rule:
        return of_library(self.name).checked

    @property
    def program(self) -> ir.kernels.Program | ir.kernels.Turns:
        return of_library(self.name).lowered.kernels

    @property
    def looks_at_shapes(self) -> bool:
        return isinstance(self.program, ir.kernels.Turns) or bool(self.program.asked)

    @property
    def precision(self) -> torch.dtype:
        """What kernels calculate in."""
        return torch.float32 if self.dtype in SHORT else self.dtype

    @property
    def makes_states(self) -> bool:
        """Whether torch works out first states, in the short floats that they are kept in,
        before kernels see them.
        """
        nodes = (node for each in self.rule.own for node in ir.walk(each.initial))
        return self.dtype in SHORT and any(isinstance(x, ir.Binary) for x in nodes)

    @property
    def loaded(self) -> frozenset[str]:
        """What one pass of the kernels stores less precisely than it has calculated it, and
        a later one loads.
        """
        if self.dtype not in SHORT:
            return frozenset()
        passes = (Elements, Along)
        steps = [each for each in self.program.steps if isinstance(each, passes)]
        states = {"p", *(each.name for each in self.rule.own)}
        return frozenset(
            name
            for at, each in enumerate(steps)
            for later in steps[at + 1 :]
            for name in {*each.stores} & {*later.loads} & states
        )

    @property
    def hypers(self) -> Setting:
        """What the memory of these parameters holds: a state that starts as a hyper is
        equal to it.
        """
        if self.dtype == torch.float64:
            return self.setting
        return {name: _single(value) for name, value in self.setting.items()}

    def random(self, seed: int) -> list[Tensor]:
        """A tensor for each parameter; of several axes for rules that look at shapes."""
        generator = torch.Generator().manual_seed(seed)
        shapes = (*VECTORS, *ALONG_AXES) if self.looks_at_shapes else VECTORS
        found = [torch.randn(x, generator=generator).to(self.dtype) for x in shapes]
        return [each for each in found if is_allowed(self.rule, self.setting, each)]

    def optimizer(self) -> Optimizer:
        params = [Parameter(each) for each in self.random(SEED)]
        group = {"params": params, **self.hypers}
        group |= {"seed": SEED} if self.rule.random else {}
        cls = load_optimizer(self.name)
        return cls([group], fused=True, maximize=self.maximize)


def _single(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_single, value))
    return torch.tensor(value).item() if isinstance(value, float) else value


def results(case: Case, optimizer: Optimizer) -> Results:
    """What lies in memory: of each parameter, and of all of them together."""
    group = optimizer.param_groups[0]
    each = [
        {"p": p.detach().clone()}
        | {
            name: torch.as_tensor(value).clone()
            for name, value in optimizer.state[p].items()
            if name not in ("step", "first")
        }
        for p in group["params"]
    ]
    shared = [state.name for state in case.rule.shared if state.name in group]
    return [*each, {name: group[name].clone() for name in shared}]


def judged(case: Case, start: Results, grads: list[Tensor], number: int) -> Results:
    """What the interpreter makes of it in one step."""
    *each, together = [
        {name: value.double() for name, value in tensors.items()} for tensors in start
    ]
    hosts = {state.name for state in case.rule.states if state.host}
    memories = [
        interpret.Memory(
            states.pop("p"),
            case.hypers,
            grad.double(),
            {k: v.item() if k in hosts else v for k, v in states.items()},
            updates=number - 1,
            shared={k: v.item() if k in hosts else v for k, v in together.items()},
            seed=SEED,
            place=at,
            dtype=case.dtype,
        )
        for at, (states, grad) in enumerate(zip(each, grads, strict=True))
    ]
    for one in memories[1:]:
        one.shared = memories[0].shared
    interpret.step(case.rule, memories, loss_of(number))
    found = [{"p": one.p, **one.states} for one in memories]
    return [
        {k: torch.as_tensor(v, dtype=torch.float64) for k, v in tensors.items()}
        for tensors in (*found, memories[0].shared)
    ]


class Kept(interpret.Run):
    """States start as numbers in memory; and what a later pass of the kernels loads is for
    the rest of its own pass, too, what lies in memory.
    """

    kind: torch.dtype
    loaded: frozenset[str]

    def initial(self, state: ir.State) -> Any:
        value = super().initial(state)
        if state.shared or state.scalar:
            return value
        return value.to(self.kind).double()

    def assign(self, target: ir.Ref, value: Any) -> None:
        if target.name in self.loaded:
            value = self.near(value).to(self.kind).double()
        super().assign(target, value)

    def near(self, value: Tensor) -> Tensor:
        return value


class Mixed(Kept, Inexact):
    """Kernels work out in float64 what is one number a tensor; but what they gather over a
    tensor was rounded before.
    """

    of_elements: float

    def value(self, expr: ir.Expr) -> Any:
        before, eps = self.size, torch.finfo(torch.float64).eps
        if _gathers(expr):
            self.size = max(self.of_elements, ULPS_OF_SUMS * eps)
        elif expr.type.kind is ir.Kind.TENSOR:
            self.size = self.of_elements
        else:
            self.size = ULPS * eps
        try:
            return super().value(expr)
        finally:
            self.size = before


def _gathers(expr: ir.Expr) -> bool:
    one = expr.type.kind is not ir.Kind.TENSOR
    return (
        one
        and isinstance(expr, ir.Call)
        and any(each.type.kind is ir.Kind.TENSOR for each in expr.arguments)
    )


class Passed(Kept):
    """Rounds to one of the numbers in memory that are near: each to either; and at the end
    all up, and all down, so that no number between two of them is missed.
    """

    random: torch.Generator
    size: float

    def near(self, value: Tensor) -> Tensor:
        noise = torch.rand(value.shape, generator=self.random, dtype=value.dtype)
        seed = self.random.initial_seed()
        way = 2 * noise - 1 if seed < DRAWS else (1, -1)[seed - DRAWS]
        return value * (1 + self.size * way)


def allowance(case: Case, judge: Callable[[], Results], exact: Results) -> Results:
    """How far each number may be off before it is stored: it is measured with wrong
    results, and as some may be lucky, several times as much is allowed.
    """
    size = ULPS * torch.finfo(case.precision).eps
    far = [{name: size * x.abs() for name, x in each.items()} for each in exact]
    Mixed.of_elements, Passed.size = size, torch.finfo(case.dtype).eps / 2
    runs = ((Mixed, LUCK, DRAWS), (Passed, SHORT_LUCK, DRAWS + 2))
    for run, luck, draws in runs[: 1 + bool(case.loaded)]:
        for seed in range(draws):
            run.random = torch.Generator().manual_seed(seed)
            with patch.object(interpret, "Run", run):
                wrong = judge()
            for each, here, there in zip(far, exact, wrong, strict=True):
                for name in here:
                    off = (here[name] - there[name]).abs().nan_to_num(torch.inf)
                    each[name] = torch.maximum(each[name], luck * off)
                    if not off.numel():
                        continue
                    # All draws may miss one element of thousands; none misses half of a
                    # tensor, nor what a sum does to all of it in proportion.
                    share = (off / here[name].abs()).nanmedian() * here[name].abs()
                    share = share.nan_to_num(0, posinf=torch.inf)  # of nothing but 0
                    least = torch.maximum(off.median() / 4, luck / 4 * share)
                    each[name] = torch.maximum(each[name], least)
    return far


def assert_near(case: Case, exact: Results, got: Results, allowed: Results) -> None:
    """Whether kernels got what is exact. There are few numbers that round-off decides, but
    where a hyper makes a difference of what is equal, or of a parameter with a single
    element, which is its own mean.
    """
    open_, count = Counter(), Counter()
    share = max(CHAOS, 8 * torch.finfo(case.dtype).eps)
    for at, (here, there) in enumerate(zip(exact, got, strict=True)):
        assert here.keys() == there.keys()
        for name, value in here.items():
            if case.dtype in SHORT and value.isnan().any():
                continue  # of a square that is zero in this type, a root is divided by
            kind = torch.finfo(there[name].dtype)
            # Of what the interpreter has rounded too, each may be at another side.
            stored = kind.eps * (1 if name in case.loaded else 0.5) * value.abs()
            far = allowed[at][name] + stored + kind.smallest_normal * kind.eps
            value = torch.where(value.abs() > kind.max, value.sign() * torch.inf, value)
            off = (value - there[name].double()).abs()
            off[value == there[name]] = 0
            wrong = (off > far) | (off.isnan() & far.isfinite())
            assert not wrong.any(), (
                f"`{name}` of parameter {at}, at {wrong.nonzero()[:4].tolist()}: "
                f"{there[name][wrong][:4].tolist()} instead of "
                f"{value[wrong][:4].tolist()}, {(off / far)[wrong].max():.3g} times "
                f"as far off as it may be"
            )
            if value.numel() and ("p" not in here or here["p"].numel() > 1):
                largest = value.abs().max()
                open_[name] += (allowed[at][name] > share * largest).sum().item()
                count[name] += value.numel()
    free = {name for name in count if open_[name] > count[name] / 100}
    if case.setting == defaults(case.name):
        assert not free, f"round-off decides numbers of {free}"
    assert not count or free != {*count}, "round-off decides numbers of all"


@contextmanager
def kernel_threads(count: int) -> Iterator[None]:
    """So many threads for kernels, but one for what torch does between them: of products
    of matrices any number of threads makes others.
    """
    step = Launch.step

    def stepped(self: Launch, batch: Any) -> bool:
        with threads(count):
            return step(self, batch)

    with threads(1), patch.object(Launch, "step", stepped):
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def assert_judged(
    case: Case, start: Results, grads: list[Tensor], number: int, got: Results
) -> None:
    def judge() -> Results:
        return judged(case, start, grads, number)

    Kept.kind, Kept.loaded = case.dtype, case.loaded
    with patch.object(interpret, "Run", Kept):
        exact = judge()
    assert_near(case, exact, got, allowance(case, judge, exact))


@dataclass(frozen=True)
class OfTurn(Case):
    """What kernels do in one of the turns that they and torch take, the `first` time or
    later.
    """

    at: int = 0
    first: bool = False

    @property
    def program(self) -> ir.kernels.Program:
        return super().program.programs[self.at]

    @property
    def rule(self) -> ir.Rule:
        rule = self.program.rule
        moved = columns_of(self.program).tensors
        states = tuple(x for x in rule.states if x.name in moved)
        return replace(rule, states=states, step=tuple(map(self._told, rule.step)))

    def _told(self, node: ir.Node) -> ir.Node:
        """The same that knows whether it is the first time."""
        if isinstance(node, ir.Ref) and node.role is ir.Role.FIRST:
            return ir.Const(str(self.first), ir.FLAG, node.span)
        return ir.mapped(node, self._told)


@contextmanager
def judged_turns(case: Case, number: int) -> Iterator[None]:
    """Where each turn of kernels is judged, from what is in memory before it."""
    step = Launch.step
    texts = [each.text() for each in map(kernels_of, case.program.programs)]

    def watched(self: Launch, batch: Any) -> bool:
        of = case.name, case.setting, case.dtype, case.maximize
        turn = OfTurn(*of, texts.index(self.kernel.text), number == 1)
        names = columns_of(turn.program).tensors
        start = [_cloned(names, row) for row in zip(*batch.columns, strict=True)]
        taken = step(self, batch)
        got = [_cloned(names, row) for row in zip(*batch.columns, strict=True)]
        grads = [row.pop("grad", torch.zeros_like(row["p"])) for row in start]
        for row in got:
            row.pop("grad", None)
        grads = [-grad if case.maximize else grad for grad in grads]
        assert_judged(turn, [*start, {}], grads, number, [*got, {}])
        return taken

    with patch.object(Launch, "step", watched):
        yield


def _cloned(names: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Tensor]:
    pairs = zip(names, row, strict=True)
    return {name: x.detach().clone() for name, x in pairs if x is not None}


def assert_steps(case: Case) -> None:
    one, two = case.optimizer(), case.optimizer()
    in_turns = isinstance(case.program, ir.kernels.Turns)
    of_threads = kernel_threads if in_turns else threads
    for number in range(1, STEPS + 1):
        grads = case.random(100 + number)
        start = results(case, one)
        for count, optimizer in ((1, one), (2, two)):
            for p, grad in zip(optimizer.param_groups[0]["params"], grads, strict=True):
                p.grad = -grad if case.maximize else grad.clone()
            loss = -loss_of(number) if case.maximize else loss_of(number)
            is_judged = in_turns and number in JUDGED and optimizer is one
            judging = judged_turns(case, number) if is_judged else nullcontext()
            with of_threads(count), judging:
                optimizer.step(lambda loss=loss: loss)
        got = results(case, one)
        for here, there in zip(got, results(case, two), strict=True):
            for name in here:
                assert same_bits(here[name], there[name]), f"2 threads, `{name}`"
        if number in JUDGED and not (in_turns or (number == 1 and case.makes_states)):
            assert_judged(case, start, grads, number, got)
        for hook in case.rule.on_calls:
            for optimizer in (one, two):
                getattr(optimizer, hook.name)()


def assert_case(case: Case) -> None:
    precise = doubles() if case.dtype == torch.float64 else nullcontext()
    with precise, kernels_alone():
        try:
            assert_steps(case)
        except Exception as error:
            error.add_note(f"{case}")
            raise


@pytest.mark.parametrize(("name", "dtype"), TYPED)
def test_kernels_agree_with_the_interpreter_at_every_border(name, dtype) -> None:
    """The defaults; under OPTDSL_EXAMPLES every kernel that the rule can ask for, in
    float32 and float64 every value of every hyper too.
    """
    found = (defaults(name),)
    if LONG:
        found = of_each_kernel(name) if dtype in SHORT else of_each_value(name)
    for setting in found:
        assert_case(Case(name, setting, dtype))
    if LONG:
        assert_case(Case(name, defaults(name), dtype, maximize=True))
