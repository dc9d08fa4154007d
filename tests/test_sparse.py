"""A sparse gradient moves the entries that it holds, and their states, as the rule would
move a parameter made of them alone; all others stay as they are.
"""

from functools import partial
from textwrap import dedent

import pytest
import torch
from oracle import Results, Scenario, assert_close, checked, scenario
from test_targets_against_interpreter import TARGETS, doubles, loaded, targets_of
from torch import Tensor
from torch.nn import Parameter

from optdsl import interpret, ir, resources
from optdsl.evaluate import evaluate
from optdsl.find import read
from optdsl.verify.roundoff import measured

SMALL = {
    "stateless": """
        sparse_grads
        step: p -= 0.1*grad""",
    "stateless only": """
        sparse_grads only
        step: p -= 0.1*grad""",
    "decay": """
        sparse_grads
        state m = 0
        state slow = p
        step:
            m = 0.9*m + grad
            slow = lerp(slow, p, 0.1)
            p -= 0.1*m + 0.01*(p - slow)""",
    "optional": """
        hyper heavy = true
        sparse_grads when heavy
        state m = 0.5 when heavy
        state k: scalar = 1
        step:
            if heavy:
                m += grad*t
                grad = m
            k *= 0.9
            p -= 0.1*k*grad/(1 + norm(grad))""",
    "first": """
        sparse_grads only
        state m = 0
        step:
            if first: m = grad
            else: m = lerp(m, grad, 0.5)
            repeat 2: p -= 0.1*m""",
    "chosen": """
        hyper rows = false
        sparse_grads when not rows
        step:
            if rows: grad = mean(grad, dim=-1, keepdim=true)*grad
            p -= 0.1*where(grad > 0, grad, p)""",
}  # fmt: skip
RULES = {
    **{name: f"optimizer Sparse\n{dedent(body)}\n" for name, body in SMALL.items()},
    **{
        name: text
        for name, path in resources.library().items()
        if "sparse_grads" in (text := read(path).text)
    },
}
Held = list[list[tuple[Tensor, ...] | None]]


def held_entries(given: Scenario, rows: bool) -> Held:
    """Where each gradient holds something: about half of the entries, or of the rows."""
    random = torch.Generator().manual_seed(0)

    def entries(grad: Tensor | None) -> tuple[Tensor, ...] | None:
        if grad is None:
            return None
        shape = grad.shape[:1] if rows else grad.shape
        return (torch.rand(shape, generator=random) > 0.5).nonzero(as_tuple=True)

    return [[entries(grad) for grad in gradients] for gradients in given.gradients]


def moved(rule: ir.Rule, given: Scenario, held: Held) -> Results:
    """What the interpreter makes of the entries, in the tensors that they are from."""
    memories = [
        interpret.Memory(p.clone(), given.of_group(at))
        for at, p in enumerate(given.parameters)
    ]
    results: Results = []
    for gradients, step in zip(given.gradients, held, strict=True):
        for memory, grad, entries in zip(memories, gradients, step, strict=True):
            if grad is not None:
                _move_entries(rule, memory, grad, entries)
            states = {k: torch.as_tensor(v).clone() for k, v in memory.states.items()}
            results.append({"p": memory.p.clone(), **states})
    return results


def _move_entries(
    rule: ir.Rule, memory: interpret.Memory, grad: Tensor, entries: tuple[Tensor, ...]
) -> None:
    scalars = {each.name for each in rule.states if each.scalar}
    whole = {
        each.name: interpret.Run(rule, memory, grad).initial(each)
        for each in rule.states
    }
    whole |= memory.states
    part = interpret.Memory(
        memory.p[entries],
        memory.hypers,
        grad[entries],
        {k: v if k in scalars else v[entries] for k, v in memory.states.items()},
        memory.updates,
    )
    interpret.step(rule, [part])
    memory.p[entries], memory.updates = part.p, part.updates
    for name, value in part.states.items():
        memory.states[name] = whole[name]
        if name in scalars:
            memory.states[name] = value
        else:
            memory.states[name][entries] = value


def trained(
    cls: type, rule: ir.Rule, given: Scenario, held: Held, **options
) -> Results:
    """What the class makes of the same gradients; where an entry occurs twice in one, its
    value is the sum.
    """
    params = [Parameter(each.clone()) for each in given.parameters]
    groups = [
        {"params": params[:-1], **given.of_group(0)},
        {"params": params[-1:], **given.of_group(len(params) - 1)},
    ]
    optimizer = cls(groups, **options)
    results: Results = []
    for gradients, step in zip(given.gradients, held, strict=True):
        for param, grad, entries in zip(params, gradients, step, strict=True):
            param.grad = None if grad is None else _sparse(grad, entries)
        optimizer.step()
        for param in params:
            state = optimizer.state.get(param, {})
            kept = {
                each.name: state[each.name]
                for each in rule.states
                if each.name in state
            }
            seen = {"p": param.detach(), **kept}
            results.append({name: each.clone() for name, each in seen.items()})
    return results


def _sparse(grad: Tensor, entries: tuple[Tensor, ...]) -> Tensor:
    indices, values = torch.stack(entries), grad[entries]
    return torch.sparse_coo_tensor(
        torch.cat([indices, indices], 1),
        torch.cat([0.75 * values, 0.25 * values]),
        grad.shape,
        check_invariants=False,
    )


def takes(rule: ir.Rule, given: Scenario) -> bool:
    """Whether the rule takes sparse gradients with these hypers, and the hypers at all."""
    conditions = [each.condition for each in rule.requires]
    if rule.sparse.when is not None:
        conditions.append(rule.sparse.when)
    return all(
        interpret.Run(rule, interpret.Memory(p, hypers), None).value(condition)
        for p in given.parameters
        for hypers in given.hypers
        for condition in conditions
    )


def with_defaults(rule: ir.Rule, given: Scenario) -> Scenario:
    """The same with the hypers that decide whether sparse gradients are taken as they
    are by default.
    """
    asked = {ref.name for ref in ir.reads(rule.sparse.when)} if rule.sparse.when else ()
    plain = {
        each.name: evaluate(each.default, lambda _: None)
        for each in rule.hypers
        if each.name in asked
    }
    return given.with_options(**plain)


@pytest.mark.parametrize("rows", [False, True], ids=["entries", "rows"])
@pytest.mark.parametrize("name", RULES)
def test_the_entries_of_a_gradient_move_alone(name: str, rows: bool) -> None:
    text = RULES[name]
    rule = checked(text)
    given = [with_defaults(rule, scenario(rule, seed)) for seed in range(8)]
    given = [each for each in given if takes(rule, each)]
    assert len(given) >= 3
    for each in given:
        held = held_entries(each, rows)
        expected = moved(rule, each, held)
        allowed = measured(partial(moved, rule, each, held), expected)
        with loaded(text) as cls, doubles():
            for target in targets_of(cls):
                if target == "differentiable":
                    continue
                try:
                    got = trained(cls, rule, each, held, **TARGETS[target])
                    assert_close(expected, got, allowed)
                except Exception as error:
                    error.add_note(f"target: {target}")
                    raise


@pytest.mark.parametrize(
    "name", [name for name in RULES if "sparse_grads when" in RULES[name]]
)
def test_where_the_condition_does_not_hold_it_is_refused(name: str) -> None:
    text = RULES[name]
    rule = checked(text)
    scenarios = (scenario(rule, seed) for seed in range(60))
    given = next(each for each in scenarios if not takes(rule, each))
    with (
        loaded(text) as cls,
        pytest.raises(RuntimeError, match="sparse gradients only"),
    ):
        trained(cls, rule, given, held_entries(given, rows=False))


@pytest.mark.parametrize("name", RULES)
def test_a_differentiable_step_refuses_sparse_gradients(name: str) -> None:
    rule = checked(RULES[name])
    given = with_defaults(rule, scenario(rule, 0))
    options = TARGETS["differentiable"]
    with (
        loaded(RULES[name]) as cls,
        torch.no_grad(),
        pytest.raises(RuntimeError, match="differentiable"),
    ):
        trained(cls, rule, given, held_entries(given, rows=False), **options)
