"""The gradient taken anew within a step: sam and asam do what their papers' loops do, over
any rule and on every target, and leave behind nothing but the update.

The loops by hand are written from the formulas; in float64 they and the rule round apart by
some units in the last place of numbers around one.
"""

import copy
import io
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optdsl import OptdslError, from_string, load_optimizer
from optdsl.pipeline import compile_source
from optdsl.verify import verify

TARGETS = ({"foreach": False}, {"foreach": True}, {"fused": True})
PLAIN = "optimizer Plain\nhyper lr = 0.1 in [0, inf)\nstep: p -= lr*grad\n"
on_targets = pytest.mark.parametrize("options", TARGETS, ids=str)


class Task:
    """A network of two layers, what it is to learn, and how often its loss was asked for."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(3)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=dtype)

        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
        with torch.no_grad():
            for p in self.net.parameters():
                p.copy_(drawn(*p.shape))
        self.inputs, self.targets = drawn(16, 4), drawn(16, 2)
        self.calls = 0
        self.seen: list[float] = []

    @property
    def params(self) -> list[nn.Parameter]:
        return [*self.net.parameters()]

    def loss(self) -> Tensor:
        self.calls += 1
        loss = (self.net(self.inputs) - self.targets).square().mean()
        self.seen.append(loss.item())
        return loss

    def backward(self) -> Tensor:
        for p in self.params:
            p.grad = None
        loss = self.loss()
        loss.backward()
        return loss


def split(params: list[nn.Parameter], **second: float) -> list[dict]:
    """Two groups, of which the second one says something of its own."""
    return [{"params": params[:1]}, {"params": params[1:], **second}]


def along_the_gradient(p: Tensor) -> Tensor:
    return torch.ones_like(p)


def as_large_as_p(p: Tensor) -> Tensor:
    return p.abs()


def by_hand(
    task: Task, optimizer: Optimizer, rho: float, size: Callable[[Tensor], Tensor]
) -> Tensor:
    """A step of SAM: up to `p + rho*s**2*g/||s*g||`, for the gradient there, and back."""
    loss = task.backward()
    with torch.no_grad():
        having = [p for p in task.params if p.grad is not None]
        scaled = [(size(p) * p.grad).norm() for p in having]
        total = torch.stack(scaled).norm() + 1e-12
        kept = [p.clone() for p in having]
        for p in having:
            p += size(p) ** 2 * p.grad * (rho / total)
    task.backward()
    with torch.no_grad():
        for p, value in zip(having, kept, strict=True):
            p.copy_(value)
    optimizer.step()
    return loss


CASES = [
    ("sgd", "sam", 0.05, along_the_gradient, torch.optim.SGD, {"lr": 0.1}),
    (
        "sgd",
        "sam(rho=0.2)",
        0.2,
        along_the_gradient,
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    ),
    ("adamw", "sam", 0.05, along_the_gradient, torch.optim.AdamW, {"lr": 0.05}),
    ("adamw", "asam", 0.5, as_large_as_p, torch.optim.AdamW, {"lr": 0.05}),
    ("sgd", "asam", 0.5, as_large_as_p, torch.optim.SGD, {"lr": 0.1}),
]


@on_targets
@pytest.mark.parametrize(("spec", "use", "rho", "size", "theirs", "hypers"), CASES)
def test_a_loop_by_hand_steps_the_same(
    spec, use, rho, size, theirs, hypers, options
) -> None:
    """In two groups, since the norm is of all parameters; a frozen one has no gradient."""
    ours, other = Task(), Task()
    for task in (ours, other):
        task.params[1].requires_grad_(False)
    cls = load_optimizer(spec, use=[use])
    optimizer = cls(split(ours.params, lr=0.03), **hypers, **options)
    beside = theirs(split(other.params, lr=0.03), **hypers, foreach=False)
    for _ in range(8):
        loss = optimizer.step(ours.backward)
        expected = by_hand(other, beside, rho, size)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-13)
        for p, q in zip(ours.params, other.params, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)
    assert ours.calls == other.calls == 16
    assert ours.seen[1] > ours.seen[0], "the loss is larger up there"


@on_targets
@pytest.mark.parametrize("use", ["sam", "asam"])
def test_the_parameters_keep_their_bits(use: str, options: dict) -> None:
    """With lr 0 nothing moves, which adding and taking away would not hold; one parameter
    lies across its memory.
    """
    task = Task(torch.float32)
    across = nn.Parameter(task.params[0].detach().T.contiguous().T)
    task.net[0].weight = across
    before = [p.detach().clone() for p in task.params]
    places = [p.data_ptr() for p in task.params]
    optimizer = from_string(PLAIN, use=[use])(task.params, lr=0.0, **options)
    for _ in range(3):
        optimizer.step(task.backward)
    assert len({*task.seen[::2]}) == 1 and task.seen[1] != task.seen[0]
    for p, old, place in zip(task.params, before, places, strict=True):
        assert torch.equal(p.view(torch.int32), old.view(torch.int32))
        assert p.data_ptr() == place


def test_the_closure_is_called_twice_and_its_first_loss_returned() -> None:
    task = Task()
    optimizer = load_optimizer("lion", use=["sam"])(task.params)
    returned = optimizer.step(task.backward)
    assert task.calls == 2
    assert returned.item() == task.seen[0] != task.seen[1]


def test_the_model_keeps_its_first_gradient() -> None:
    """Also where the closure fills the same memory with zeros and adds to it."""
    task = Task()
    optimizer = from_string(PLAIN, use=["sam"])(task.params, lr=0.1)
    task.backward()
    given = [p.grad for p in task.params]
    first = [each.clone() for each in given]
    filled = Task()
    by_zeros = from_string(PLAIN, use=["sam"])(filled.params, lr=0.1)
    filled.backward()

    def closure() -> Tensor:
        by_zeros.zero_grad(set_to_none=False)
        loss = filled.loss()
        loss.backward()
        return loss

    optimizer.step(task.backward)
    by_zeros.step(closure)
    for p, q, grad in zip(task.params, filled.params, first, strict=True):
        assert torch.equal(p.grad, grad)
        assert torch.equal(q.grad, grad)
        assert torch.equal(p, q)


def everything(task: Task, optimizer: Optimizer) -> Iterator[Tensor]:
    yield from (p.detach().clone() for p in task.params)
    yield from (p.grad.clone() for p in task.params if p.grad is not None)
    for state in optimizer.state.values():
        yield from (each.clone() for each in state.values() if torch.is_tensor(each))


def assert_nothing_changed(
    task: Task, optimizer: Optimizer, before: list[Tensor]
) -> None:
    after = [*everything(task, optimizer)]
    assert len(after) == len(before)
    assert all(map(torch.equal, after, before))


@on_targets
def test_without_a_closure_the_step_says_what_is_missing(options: dict) -> None:
    task = Task()
    optimizer = load_optimizer("adamw", use=["sam"])(task.params, **options)
    for _ in range(2):
        optimizer.step(task.backward)
        before = [*everything(task, optimizer)]
        with pytest.raises(RuntimeError, match=r"AdamW takes .* step\(closure\)"):
            optimizer.step()
        assert_nothing_changed(task, optimizer, before)


def test_a_closure_that_finds_no_gradient_is_refused() -> None:
    task = Task()
    optimizer = load_optimizer("adamw", use=["sam"])(task.params)
    task.backward()
    before = [*everything(task, optimizer)]
    with pytest.raises(RuntimeError, match="has to call backward"):
        optimizer.step(lambda: 1.0)
    assert_nothing_changed(task, optimizer, before)


def test_a_closure_that_fails_leaves_everything_as_it_was() -> None:
    task = Task()
    optimizer = load_optimizer("adamw", use=["sam"])(task.params)
    optimizer.step(task.backward)
    for p in task.params:
        p.grad = None
    before = [*everything(task, optimizer)]
    first: dict[Tensor, Tensor] = {}

    def closure() -> Tensor:
        if first:
            raise KeyError("the second time")
        loss = task.backward()
        first.update({p: p.grad.clone() for p in task.params})
        return loss

    with pytest.raises(KeyError):
        optimizer.step(closure)
    for p in task.params:
        assert torch.equal(p.grad, first[p])
        p.grad = None
    assert_nothing_changed(task, optimizer, before)


def test_a_parameter_without_one_of_the_gradients_stays() -> None:
    """One is left out of the second loss, another one of the first."""
    first, second, both = (nn.Parameter(torch.ones(3)) for _ in range(3))
    calls: list[int] = []

    def closure() -> Tensor:
        used = second if calls else first
        calls.append(1)
        loss = (used * both).sum()
        loss.backward()
        return loss

    optimizer = from_string(PLAIN, use=["sam"])([first, second, both], lr=0.1)
    optimizer.step(closure)
    assert torch.equal(first, torch.ones(3))
    assert torch.equal(second, torch.ones(3))
    assert torch.equal(both, torch.full((3,), 0.9))
    assert second.grad is None and torch.equal(first.grad, torch.ones(3))


def test_a_step_without_any_gradient_does_nothing() -> None:
    p, calls = nn.Parameter(torch.ones(3)), []
    optimizer = from_string(PLAIN, use=["sam"])([p])
    optimizer.step(lambda: calls.append(1))
    assert calls == [1] and torch.equal(p, torch.ones(3)) and not optimizer.state


@on_targets
@pytest.mark.parametrize("use", ["sam", "asam"])
def test_a_resumed_run_goes_on_with_the_same_bits(use: str, options: dict) -> None:
    cls, task = load_optimizer("adamw", use=[use]), Task(torch.float32)
    optimizer = cls(split(task.params, rho=0.3), **options)
    for _ in range(4):
        optimizer.step(task.backward)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(task)
    again = cls(split(other.params), **options)
    again.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(4):
        optimizer.step(task.backward)
        again.step(other.backward)
    assert task.seen == other.seen
    assert all(map(torch.equal, task.params, other.params))


def test_a_group_has_its_own_rho() -> None:
    """Where it is 0, only the others move: their gradient is then that of a part of p."""
    task = Task()
    optimizer = from_string(PLAIN, use=["sam"])(split(task.params, rho=0.0))
    where: list[list[Tensor]] = []

    def closure() -> Tensor:
        where.append([p.detach().clone() for p in task.params])
        return task.backward()

    optimizer.step(closure)
    (p, *others), (moved, *kept) = where
    assert not torch.equal(p, moved)
    assert all(map(torch.equal, others, kept))


def test_maximizing_is_minimizing_the_negative() -> None:
    up, down = Task(), Task()
    cls = load_optimizer("adamw", use=["asam"])
    one, two = cls(up.params, maximize=True), cls(down.params)

    def negative() -> Tensor:
        loss = -up.loss()
        for p in up.params:
            p.grad = None
        loss.backward()
        return loss

    for _ in range(4):
        one.step(negative)
        two.step(down.backward)
    assert all(map(torch.equal, up.params, down.params))


def test_a_hook_by_hand_is_given_the_closure() -> None:
    task, other = Task(), Task()
    optimizer = from_string(PLAIN, use=["sam"])(task.params)
    task.backward()
    optimizer.climb(task.backward)
    climbed = [p.grad for p in task.params]
    beside = torch.optim.SGD(other.params, lr=0.0)
    by_hand(other, beside, 0.05, along_the_gradient)
    for grad, p in zip(climbed, other.params, strict=True):
        torch.testing.assert_close(grad, p.grad, rtol=1e-12, atol=1e-13)
    with pytest.raises(TypeError, match="closure"):
        optimizer.climb()


def test_several_gradients_are_taken_one_after_the_other() -> None:
    """Two steps up before the one down, each from where the parameters are."""
    text = PLAIN + (
        "hyper rounds = true\n"
        "pre_step climb:\n"
        "    grad = gradient(p + 0.1*grad)\n"
        "    if rounds: grad = gradient(p + 0.2*grad)\n"
        "    grad *= 0.5\n"
    )
    for rounds in (True, False):
        p = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))

        def closure(p=p) -> Tensor:
            p.grad = None
            loss = (p**3).sum() / 3
            loss.backward()
            return loss

        from_string(text)([p], lr=0.1, rounds=rounds).step(closure)
        start = torch.tensor([1.0, 2.0], dtype=torch.float64)
        grad = (start + 0.1 * start**2) ** 2
        if rounds:
            grad = (start + 0.2 * grad) ** 2
        torch.testing.assert_close(p.detach(), start - 0.1 * 0.5 * grad)


def test_what_stands_behind_stays_behind() -> None:
    """The place is where p was before it was changed, and p keeps the change."""
    text = PLAIN + "pre_step climb:\n    grad = gradient(p)\n    p *= 0.5\n"
    p = nn.Parameter(torch.tensor([3.0]))

    def closure() -> Tensor:
        p.grad = None
        loss = (p**2).sum()
        loss.backward()
        return loss

    from_string(text)([p], lr=0.1).step(closure)
    torch.testing.assert_close(p.detach(), torch.tensor([1.5 - 0.1 * 6]))


def test_complex_parameters_climb_as_pairs_of_reals() -> None:
    start = torch.tensor([1 + 2j, -1j, 0.5], dtype=torch.complex128)
    p, pair = nn.Parameter(start.clone()), nn.Parameter(torch.view_as_real(start))
    weights = torch.arange(1.0, 7.0, dtype=torch.float64).reshape(3, 2)

    def closures(p: nn.Parameter) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            p.grad = None
            reals = torch.view_as_real(p) if p.is_complex() else p
            loss = (weights * reals**4).sum()
            loss.backward()
            return loss

        return closure

    cls = load_optimizer("adamw", use=["asam"])
    one, two = cls([p]), cls([pair])
    for _ in range(3):
        one.step(closures(p))
        two.step(closures(pair))
    torch.testing.assert_close(torch.view_as_real(p.detach()), pair.detach())


@pytest.mark.parametrize(
    ("option", "said"),
    [("capturable", "cannot be captured"), ("differentiable", "not differentiable")],
)
def test_options_that_it_cannot_have_are_refused(option: str, said: str) -> None:
    with pytest.raises(RuntimeError, match=f"{said}: its step takes the gradient anew"):
        load_optimizer("adamw", use=["sam"])(Task().params, **{option: True})


def test_a_scaler_is_refused_and_nothing_moves() -> None:
    """It steps without a closure, also where kernels take the step."""
    task = Task(torch.float32)
    cls = load_optimizer("adamw", use=["sam"])
    optimizer = cls(task.params, fused=True)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(task.loss()).backward()
    before = [p.detach().clone() for p in task.params]
    with pytest.raises(RuntimeError, match="closure"):
        scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="[Cc]losure"):
        scaler.step(optimizer, closure=task.backward)
    assert all(map(torch.equal, task.params, before))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of dynamo
def test_a_compiled_step_is_run_as_it_stands() -> None:
    """`torch.compile` leaves it alone."""
    task, other = Task(), Task()
    cls = load_optimizer("sgd", use=["sam"])
    one, two = cls(task.params, lr=0.1), cls(other.params, lr=0.1)
    compiled = torch.compile(one.step, backend="eager")
    for _ in range(2):
        compiled(task.backward)
        two.step(other.backward)
    assert all(map(torch.equal, task.params, other.params))


def test_a_trial_step_makes_the_state_without_a_closure() -> None:
    """As torch.distributed.checkpoint asks for it: zero gradients and no learning rate."""
    task = Task()
    optimizer = load_optimizer("adamw", use=["sam"])(task.params, lr=0.0)
    for p in task.params:
        p.grad = torch.zeros_like(p)
    before = [p.detach().clone() for p in task.params]
    optimizer.step()
    assert len(optimizer.state) == len(task.params) and task.calls == 0
    assert all(map(torch.equal, task.params, before))


@on_targets
def test_it_goes_with_other_modifiers(options: dict) -> None:
    """The gradient that is clipped is the one from up there."""
    uses = ["lookahead(lookahead_steps=2)", "sam", "clip_global_norm(max_norm=0.1)"]
    task, other = Task(), Task()
    optimizer = from_string(PLAIN, use=uses)(task.params, lr=0.5, **options)
    slow = [p.detach().clone() for p in other.params]
    for step in range(1, 5):
        optimizer.step(task.backward)
        before = [p.detach().clone() for p in other.params]
        by_hand(other, torch.optim.SGD(other.params, 0.0), 0.05, along_the_gradient)
        nn.utils.clip_grad_norm_(other.params, 0.1)
        with torch.no_grad():
            for p, old, one in zip(other.params, before, slow, strict=True):
                p.copy_(old - 0.5 * p.grad)
                if step % 2 == 0:
                    one.lerp_(p, 0.5)
                    p.copy_(one)
        for p, q in zip(task.params, other.params, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


def test_two_that_are_about_sharpness_clash() -> None:
    with pytest.raises(OptdslError) as raised:
        compile_source(PLAIN, use=("sam", "asam"))
    assert "E0212" in {each.code for each in raised.value.diagnostics}


@pytest.mark.parametrize(
    ("spec", "use"), [("sgd", "asam"), ("lamb", "sam"), ("prodigy", "sam")]
)
def test_verify_finds_nothing(spec: str, use: str) -> None:
    found = verify(spec, use=(use,)).failed
    assert [(row.check, row.detail) for row in found] == []


def test_a_gradient_that_was_copied_before_is_taken_anew() -> None:
    """Where `grad` stands for `p`, which a later line changes, it is a copy; what the
    closure finds is none.
    """
    rule = from_string(
        "optimizer Copied\nhyper lr = 0.1\nhyper flag = true\n"
        "pre_step climb:\n"
        "    if flag: grad = p\n"
        "    p = 0.5*p + 0.1*grad\n"
        "    grad = gradient(p + grad)\n"
        "step: p -= lr*grad\n"
    )
    p = nn.Parameter(torch.tensor([1.0, 2.0]))

    def closure() -> Tensor:
        p.grad = None
        loss = p.square().sum()
        loss.backward()
        return loss

    rule([p]).step(closure)
    # p is 0.6 of what it was when the gradient is taken at 1.6 of it.
    torch.testing.assert_close(p.detach(), torch.tensor([1.0, 2.0]) * (0.6 - 0.1 * 3.2))
