"""What `optdsl explain` counts of a rule: bytes of state and bytes moved, held against
counts by hand, and the kind of work of each statement.
"""

from typing import Any

import pytest
from built import of_library

from optdsl.explain.memory import memory, summary
from optdsl.explain.traffic import Traffic, traffic
from optdsl.explain.work import works
from optdsl.ir import Rule
from optdsl.pipeline import build
from optdsl.source import Source

LAMB = """
state m = 0
state v = 0
step:
    m = 0.9*m + 0.1*grad
    v = 0.99*v + 0.01*grad*grad
    update = m/(sqrt(v) + 1e-6) + 0.01*p
    ratio = norm(p)/norm(update) if norm(update) > 0 else 1
    p -= lr*ratio*update
"""


def rule(spec: str) -> Rule:
    return of_library(spec).checked


def ruled(body: str) -> Rule:
    text = f"optimizer Mine\nhyper lr = 1e-2 in [0, inf)\n{body}\n"
    return build(Source("mine.opt", text)).checked


# ---- state


def kept(made: Rule, **hypers: Any) -> dict[str, tuple[int, str, str, bool | None]]:
    return {
        each.name: (each.amount, each.per, each.when, each.now)
        for each in memory(made, hypers)
    }


def test_adam_keeps_eight_bytes_and_four_more_with_amsgrad() -> None:
    element, whole = (4, "element", "", True), (4, "whole parameter", "", True)
    other = {"exp_avg": element, "exp_avg_sq": element, "step": whole}
    adam = rule("adam")
    assert kept(adam) == other | {"max_exp_avg_sq": (4, "element", "amsgrad", False)}
    with_it = kept(adam, amsgrad=True)["max_exp_avg_sq"]
    assert with_it == (4, "element", "amsgrad", True)
    assert summary(memory(adam, {})) == "8"
    assert summary(memory(adam, {"amsgrad": True})) == "12"


def test_adafactor_keeps_rows_and_columns_of_matrices() -> None:
    made = kept(rule("adafactor"))
    assert made["row_var"] == (4, "row", "ndim(p) > 1", None)
    assert made["col_var"] == (4, "column", "ndim(p) > 1", None)
    assert made["variance"] == (4, "element", "ndim(p) <= 1", None)
    assert summary(memory(rule("adafactor"), {})) == (
        "4 a row + 4 a column where ndim(p) > 1; 4 where ndim(p) <= 1"
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("step: p -= lr*grad", "0"),
        ("state m: scalar = 1\nstep:\n    m *= 0.9\n    p -= m*lr*grad", "0"),
        ("state s = sum(grad)\nstep:\n    s += sum(grad)\n    p -= lr*s", "0"),
        ("state h = zeros_like(bfloat16(p))\nstep:\n    h = h + grad\n    p -= lr*h", "2"),
        ("state a = 0\nstate b = mean(p, dim=(-2, -1), keepdim=true)\n"
         "step:\n    a = a + grad\n    b = 0.5*b\n    p -= lr*a*b", "4 + 4 a matrix"),
        ("state a = mean(p, dim=0, keepdim=true)\nstep:\n    a = 0.5*a\n    p -= lr*a",
         "4 an element without axes 0"),
        ("state a = p @ transpose(p)\nstate b = zeros_like(transpose(p) @ p)\nstep:\n"
         "    a = a + grad @ transpose(grad)\n    b = b + transpose(grad) @ grad\n"
         "    p -= lr*(a @ grad @ b)",
         "4 an entry of rows × rows + 4 an entry of columns × columns"),
    ],
)  # fmt: skip
def test_state_is_counted_from_shapes(body: str, said: str) -> None:
    assert summary(memory(ruled(body), {})) == said


# ---- traffic


def only(made: Rule, **hypers: Any) -> Traffic:
    (counted,) = traffic(made, hypers)
    return counted


@pytest.mark.parametrize(
    ("spec", "hypers", "bytes_"),
    [
        ("adamw", {}, 28),  # p 8, grad 4, two states 16
        ("adamw", {"amsgrad": True}, 36),
        ("lion", {}, 20),  # p 8, grad 4, a state 8
        ("gradient_descent", {}, 12),
        ("l2decay", {}, 12),  # the hook needs no pass of its own
        ("sgd", {}, 12),
        ("sgd", {"weight_decay": 0.1}, 12),  # p is read anyway
        ("sgd", {"momentum": 0.9}, 20),
        ("rmsprop", {"momentum": 0.9, "centered": True}, 36),
    ],
)
def test_bytes_moved_in_one_pass(
    spec: str, hypers: dict[str, Any], bytes_: int
) -> None:
    counted = only(rule(spec), **hypers)
    assert counted.bytes == bytes_
    assert len(counted.passes) == 1 and not counted.matrices


def parts(counted: Traffic) -> dict[str, tuple[int, int]]:
    return {each.name: (each.read, each.written) for each in counted.moved}


def test_a_state_may_be_only_written() -> None:
    """Where the average starts anew it is not read: `ax = p`."""
    made = ruled("state ax = 0\nstep:\n    p -= lr*(grad + ax)\n    ax = p")
    assert parts(only(made)) == {"p": (4, 4), "grad": (4, 0), "ax": (4, 4)}
    made = ruled(
        "state ax = 0\nstep:\n    p -= lr*grad\n    if first: ax = p + ax\n    else: ax = p"
    )
    assert parts(only(made)) == {"p": (4, 4), "grad": (4, 0), "ax": (0, 4)}


def test_a_reduction_makes_two_passes() -> None:
    """The first reads p, grad, m, v and writes m, v; the second reads p, m, v again."""
    counted = only(ruled(LAMB))
    assert counted.bytes == 40
    assert parts(counted) == {"p": (8, 4), "grad": (4, 0), "m": (8, 4), "v": (8, 4)}
    first, second = counted.passes
    assert first.writes == ("m", "v") and second.writes == ("p",)
    assert set(second.needs) == {"norm(p)", "norm(update)"}


def test_a_state_is_written_late_where_its_old_value_is_needed_again() -> None:
    made = ruled(
        "state m = 0\nstep:\n    u = sign(0.9*m + 0.1*grad)\n    m = 0.99*m + 0.01*grad\n"
        "    p -= lr*u/norm(u)"
    )
    counted = only(made)
    assert [each.writes for each in counted.passes] == [(), ("p", "m")]
    assert counted.bytes == 4 * (2 + 2 + 1 + 1 + 1)  # m, grad twice; p; m and p written


def test_clipping_reads_the_gradient_twice() -> None:
    made = ruled("pre_step clip: grad *= min(1, 1/norm(grad))\nstep: p -= lr*grad")
    assert parts(only(made)) == {"p": (4, 4), "grad": (8, 0)}


def test_adafactor_s_passes_depend_on_the_shape() -> None:
    """Vectors: the root mean squares of p and of the update come before p moves, and what
    makes the update is read again. Matrices: rows and columns first.
    """
    vector, matrix = traffic(rule("adafactor"), {})
    assert vector.axes == (1,) and matrix.axes == (2, 3, 4)
    assert parts(vector) == {"p": (8, 4), "grad": (8, 0), "variance": (8, 4)}
    assert parts(matrix) == {"p": (8, 4), "grad": (12, 0)}
    assert (len(vector.passes), len(matrix.passes)) == (2, 3)


def test_whole_matrices_have_a_least_traffic() -> None:
    counted = only(rule("muon"))
    assert counted.matrices and counted.axes == (2,) and counted.bytes == 20


def test_a_barrier_ends_a_pass() -> None:
    """Prodigy reads g, p, p0 and s and writes s; and then g, p and both moments."""
    first, second = only(rule("prodigy")).passes
    assert first.writes == ("s",) and "sum(abs(s), over=model)" in second.needs
    assert only(rule("prodigy")).bytes == 48
    assert only(rule("adagrad_norm")).bytes == 16
    assert only(rule("dadapt_adam")).bytes == 36, "the next step has the new estimate"
    assert kept(rule("prodigy"))["d"] == (4, "optimizer", "", True)


# ---- kinds of work


@pytest.mark.parametrize(
    ("statement", "kinds"),
    [
        ("x = 2*lr", ("host",)),
        ("x = grad", ("elementwise",)),
        ("x = where(grad > 0, grad, 0)*lr", ("elementwise",)),
        ("x = norm(grad)", ("reduces over the tensor",)),
        ("x = item(norm(grad))", ("the host waits for a number", "reduces over the tensor")),
        ("x = grad/mean(grad, dim=-1, keepdim=true)", ("reduces over axes",)),
        ("x = f(grad)", ("reduces over the tensor",)),
        ("x = grad @ transpose(grad) @ grad", ("whole matrices",)),
        ("x = mean(p, dim=-1, keepdim=true) @ mean(p, dim=-2, keepdim=true)",
         ("reduces over axes",)),
        ("x = grad/norm(grad @ transpose(grad))",
         ("whole matrices", "reduces over the tensor")),
        ("x = max(grad)", ("reduces over the tensor",)),
        ("x = max(grad, p)", ("elementwise",)),
    ],
)  # fmt: skip
def test_kinds_of_work(statement: str, kinds: tuple[str, ...]) -> None:
    body = f"def f(x) = x/sum(x)\nstep:\n    {statement}\n    p -= lr*x*f(grad)"
    (found,) = [each for each in works(ruled(body)) if each.text == statement]
    assert found.kinds == kinds and found.line == 5


def test_a_statement_that_a_barrier_cuts_is_one() -> None:
    (found,) = [each for each in works(rule("adagrad_norm")) if "over=" in each.text]
    assert found.kinds == ("barrier across parameters", "reduces over the tensor")


def test_scalars_are_one_number() -> None:
    body = "step:\n    n = norm(grad)\n    m = sqrt(n)\n    p -= lr*m*grad"
    found = {each.text: each.kinds for each in works(ruled(body))}
    assert found["m = sqrt(n)"] == ("one number on the device",)


def test_each_round_of_a_loop_takes_its_passes() -> None:
    made = ruled(
        "hyper n: int = 3 in [0, 9]\nstep:\n    repeat n: p /= norm(p)\n    p -= lr*grad"
    )
    assert parts(only(made)) == {"p": (16, 4), "grad": (4, 0)}
    assert parts(only(made, n=0)) == {"p": (4, 4), "grad": (4, 0)}


def test_loops_in_loops_are_counted_in_time() -> None:
    rounds = "".join(f"{'    ' * at}repeat 99:\n" for at in range(1, 5))
    made = ruled(f"step:\n{rounds}{'    ' * 5}p = p*0.5 + norm(p)\n    p -= lr*grad")
    assert only(made).bytes > 400
