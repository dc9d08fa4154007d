"""The oracle: runs an ir rule as it stands, on float64 tensors.

In: a rule, before or after any pass, and the parameters with their memory. Out: the
memory after one step. Nothing here is fast, and nothing is shared with the emitters:
what every target computes is judged against this.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from .. import ir, vocabulary
from .run import DRAWN, Memory, Run, Skipped

Gradient = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""What a closure does: the gradients with the parameters that have one at other places."""

__all__ = ["DRAWN", "Gradient", "Memory", "Run", "call", "step", "switch"]


def step(
    rule: ir.Rule,
    parameters: Sequence[Memory],
    loss: Tensor | None = None,
    gradient: Gradient | None = None,
) -> None:
    """One step over all parameters, in order, after a closure that returned the `loss`; a
    parameter without gradient is skipped. A rule that takes gradients at other places has
    them from `gradient`.
    """
    moving = [each for each in parameters if each.grad is not None]
    if moving:
        _make_shared(rule, parameters)
    grads = {id(each): each.grad for each in moving}
    for hook in rule.pre_steps:
        if not _hooked(rule, hook, parameters, grads, gradient):
            return
    if not moving:
        return
    runs = [_started(rule, each, grads[id(each)], loss) for each in moving]
    _together((*rule.prologue, *rule.step), runs)
    for each, run in zip(moving, runs, strict=True):
        _keep(rule, run, each)
    for state in rule.shared:
        last = runs[-1].values[state.name]
        for each in parameters if state.place == "model" else ():
            each.shared[state.name] = last
    for hook in rule.post_steps:
        runs = [Run(rule, each, each.grad) for each in moving]
        _together(hook.body, runs)
        for each, run in zip(moving, runs, strict=True):
            _keep(rule, run, each)


def _hooked(
    rule: ir.Rule,
    hook: ir.Hook,
    parameters: Sequence[Memory],
    grads: dict[int, Tensor],
    gradient: Gradient | None,
) -> bool:
    """Runs a hook before the step, and says whether the step goes on."""
    calls = 1 + max((each.calls.get(hook.name, 0) for each in parameters), default=0)
    for each in parameters:
        each.calls[hook.name] = calls
    moving = [each for each in parameters if each.grad is not None]
    runs = []
    for each in moving:
        run = Run(rule, each, grads[id(each)], gradient)
        run.values[vocabulary.CALLS] = calls
        for state in ir.early(rule):
            if state.name not in each.states and _mentions(hook, state):
                each.states[state.name] = run.values[state.name] = run.initial(state)
        runs.append(run)
    goes_on = True
    try:
        _together(hook.body, runs)
    except Skipped:
        goes_on = False
    for each, run in zip(moving, runs, strict=True):
        grads[id(each)] = run.values["grad"]
        _keep(rule, run, each)
    return goes_on


def _mentions(hook: ir.Hook, state: ir.State) -> bool:
    refs = (ref for each in hook.body for ref in ir.mentions(each))
    return any(ref.name == state.name for ref in refs)


def _make_shared(rule: ir.Rule, parameters: Sequence[Memory]) -> None:
    """The states of groups and of the model, where they are not there yet."""
    for state in rule.shared:
        for each in parameters:
            origin = parameters[0] if state.place == "model" else each
            if state.name not in each.shared:
                each.shared[state.name] = Run(rule, origin, None).initial(state)


def call(rule: ir.Rule, name: str, parameters: Sequence[Memory]) -> None:
    """A hook that runs by hand alone, over all parameters that have a gradient and the
    states that it reads or writes.
    """
    (hook,) = (each for each in rule.on_calls if each.name == name)
    moving = [
        each
        for each in parameters
        if each.grad is not None and _has_states(rule, hook, each)
    ]
    if not moving:
        return
    runs = [Run(rule, each, each.grad) for each in moving]
    _together(hook.body, runs)
    for each, run in zip(moving, runs, strict=True):
        _keep(rule, run, each)


def switch(rule: ir.Rule, name: str, parameters: Sequence[Memory]) -> None:
    """A mode that is set, over all parameters that have the states that it reads. Whether
    it was another one before is for the caller to know.
    """
    (mode,) = (each for each in rule.modes if each.name == name)
    for each in parameters:
        if _has_states(rule, mode, each):
            run = Run(rule, each, None)
            _together(mode.body, [run])
            _keep(rule, run, each)


def _has_states(rule: ir.Rule, hook: ir.Hook, memory: Memory) -> bool:
    refs = [ref for each in hook.body for ref in ir.reads(each)]
    names = {each.name for each in refs} | ir.assigned(hook.body)
    used = [each for each in rule.own if each.name in names and each.index is None]
    early = ir.early(rule)
    updated = (each for each in rule.own if each not in early)
    stepped = rule.counted or any(each.when is None for each in updated)
    if stepped and (used or "t" in names) and not memory.updates:
        return False
    run = Run(rule, memory, memory.grad)
    wanted = (each for each in used if each.when is None or run.value(each.when))
    return all(each.name in memory.states for each in wanted)


def _started(rule: ir.Rule, memory: Memory, grad: Tensor, loss: Tensor | None) -> "Run":
    """An update whose states are there."""
    run = Run(rule, memory, grad)
    run.values["loss"] = loss
    wanted = [
        state
        for state in rule.own
        if state.index or state.when is None or run.value(state.when)
    ]
    early = {each.name for each in ir.early(rule)}
    made = memory.states.keys() - early
    run.values["first"] = not (made or (rule.counted and memory.updates))
    run.values["_seed"] = (memory.seed, memory.place, memory.updates + 1)
    for state in wanted:
        if state.index is not None:
            run.make_entries(state, memory)
        elif state.name not in memory.states:
            memory.states[state.name] = run.values[state.name] = run.initial(state)
    memory.updates += 1
    run.values["t"] = float(memory.updates)
    return run


def _keep(rule: ir.Rule, run: "Run", memory: Memory) -> None:
    memory.p = run.values["p"]
    for state in rule.own:
        if state.name in memory.states:
            memory.states[state.name] = run.values[state.name]
        if state.index is not None:
            for at, value in run.values[state.name].items():
                memory.states[f"{state.name}_{at}"] = value
    for state in rule.shared:
        memory.shared[state.name] = run.values[state.name]


def _together(block: ir.Block, runs: Sequence["Run"]) -> None:
    """A block on all parameters that it is about: what stands outside of phases happens
    once, and all of them know of it.
    """
    if not any(isinstance(each, ir.Each) for each in block):
        for run in runs:
            run.block(block)
        return
    for statement in block:
        match statement:
            case ir.Each("group", body):
                for group in _groups(runs):
                    _phase(body, group)
            case _:
                _phase((statement,), runs)


def _groups(runs: Sequence["Run"]) -> list[list["Run"]]:
    groups: dict[int, list[Run]] = {}
    for run in runs:
        groups.setdefault(id(run.memory.shared), []).append(run)
    return list(groups.values())


def _phase(block: ir.Block, runs: Sequence["Run"]) -> None:
    """Statements of a group, or of the model, and of its parameters."""
    first, *others = runs
    for statement in block:
        match statement:
            case ir.Each("param", body):
                for run in runs:
                    run.block(body)
            case _:
                first.beside = runs
                first.block((statement,))
                for name in _written(statement):
                    if name in first.values:
                        for run in others:
                            run.values[name] = first.values[name]


def _written(statement: ir.Statement) -> set[str]:
    """The names whose values a statement changes for all; a gradient is of one."""
    effects = {
        ir.written(each.value).name
        for each in ir.statements((statement,))
        if isinstance(each, ir.Effect)
    }
    return (ir.assigned((statement,)) | effects) - {"grad"}
