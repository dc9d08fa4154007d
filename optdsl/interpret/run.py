"""One block of a rule on one parameter, on float64 tensors: statements and expressions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import ir, matrices, vocabulary
from ..evaluate import BINARY, evaluate


@dataclass
class Memory:
    """What a step reads and writes of one parameter: `p`, its states by name, and how
    many updates it has had. Parameters of one group have `shared` in common, the states of
    the group; those of the model are the same in all. `calls` is how often each hook has
    run, for all parameters. `first_hypers` are those that its
    group was added with; random numbers start from the `seed` of the group and from the
    parameter's `place` in it. All tensors are float64, also where what they stand for has
    another `dtype`, whose epsilon a rule may ask for.
    """

    p: Tensor
    hypers: Mapping[str, Any]
    grad: Tensor | None = None
    states: dict[str, Any] = field(default_factory=dict)
    updates: int = 0
    shared: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    place: int = 0
    dtype: torch.dtype = torch.float64
    first_hypers: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.first_hypers = dict(self.hypers)


_ACROSS = {"norm": torch.linalg.vector_norm, "max": torch.amax, "min": torch.amin}
_OF_NUMBERS = {"sum": sum, "max": max, "min": min, "any": any, "all": all}


_SPELLED_OUT = ("dot", "lerp")
# Sums whose order, and so whose last bit, would depend on the layout in memory.
_ORDERED = frozenset({"sum", "mean", "linalg.vector_norm", "norm", "matmul", "addmm"})


DRAWN = {"randn_like": torch.randn, "rand_like": torch.rand}


def _drawn(name: str, like: Tensor, update: tuple[int, ...], draw: int) -> Tensor:
    """Random numbers in the shape of a tensor. The seed of an update mixes the seed of its
    group, the place of its parameter and its number; that of a draw mixes this seed and the
    number of the draw. To mix means: from 1 on, for each number, the exclusive or with it,
    times an odd constant, and the upper bits folded into the lower ones.
    """

    def mixed(numbers: Sequence[int]) -> int:
        seed = 1
        for number in numbers:
            seed = ((seed ^ number) * 11400714819323198485) & (2**63 - 1)
            seed = seed ^ (seed >> 32)
        return seed

    generator = torch.Generator().manual_seed(mixed((mixed(update), draw)))
    return DRAWN[name](like.shape, generator=generator, dtype=torch.float32).double()


def _largest(x: Tensor, count: int) -> Tensor:
    """Where the largest entries are; of equal ones, those that torch takes."""
    flags = torch.full((x.numel(),), False)
    if count >= x.numel():
        return torch.full_like(x, True, dtype=torch.bool)
    flags[torch.topk(x.reshape(-1), count).indices] = True
    return flags.reshape(x.shape)


class _Returned(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class Skipped(Exception):
    """The step ends here."""


class Run:
    """One block on one parameter: `values` holds every name's value."""

    def __init__(
        self,
        rule: ir.Rule,
        memory: Memory,
        grad: Tensor | None,
        gradient: Callable[[list[Tensor]], Sequence[Tensor]] | None = None,
    ) -> None:
        self.gradient = gradient
        self.functions = {each.name: each for each in rule.functions}
        # Every option that the optimizer has is off, unless it is among the hypers.
        self.values: dict[str, Any] = dict.fromkeys(vocabulary.FLAGS, False)
        self.values |= memory.hypers
        for each in rule.remembered:
            self.values[each.name] = float(memory.first_hypers[each.hyper.name])
        self.values |= {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in memory.states.items()
        }
        self.values |= {name: each.clone() for name, each in memory.shared.items()}
        self.values |= {"p": memory.p.clone(), "grad": grad, "t": float(memory.updates)}
        self.memory = memory
        self.beside: Sequence[Run] = (self,)
        for state in rule.states:
            if state.index is not None:
                self.values[state.name] = self._entries(state.name)

    def _entries(self, name: str) -> dict[int, Tensor]:
        """Those of a list of states that there are, by their numbers."""
        numbers = {
            int(key.rpartition("_")[2]): value
            for key, value in self.values.items()
            if key.rpartition("_")[0] == name and key.rpartition("_")[2].isdigit()
        }
        return dict(sorted(numbers.items()))

    def make_entries(self, state: ir.State, memory: Memory) -> None:
        """Make those of a list of states that there are not yet."""
        entries = self.values[state.name]
        for at in range(int(self.value(state.count))):
            self.values[state.index.name] = at
            if at in entries or not (state.when is None or self.value(state.when)):
                continue
            entries[at] = memory.states[f"{state.name}_{at}"] = self.initial(state)
        self.values.pop(state.index.name, None)

    def initial(self, state: ir.State) -> Any:
        value = self.value(state.initial)
        if state.scalar or state.shared:
            return (
                float(value)
                if state.host
                else torch.tensor(float(value), dtype=torch.float64)
            )
        if not isinstance(value, Tensor):
            return torch.full_like(self.values["p"], value)
        return value.clone()

    # ---- statements

    def block(self, block: ir.Block) -> None:
        for statement in block:
            match statement:
                case ir.Assign(_, ir.Call(arguments=(place,)) as call) if (
                    ir.is_evaluation(call)
                ):
                    self._take_gradients(place)
                case ir.Assign(target, value):
                    self.assign(target, self.value(value))
                case ir.Unpack(targets, value):
                    for target, item in zip(targets, self.value(value), strict=True):
                        self.assign(target, item)
                case ir.If():
                    chosen = self.value(statement.condition)
                    self.block(statement.then if chosen else statement.otherwise)
                case ir.Repeat(count=count, body=body, target=target):
                    for at in range(int(self.value(count))):
                        if target is not None:
                            self.values[target.name] = at
                        self.block(body)
                case ir.Effect(value):
                    self.value(value)
                case ir.Forget(names):
                    for name in names:
                        del self.values[name]
                case ir.Return(value):
                    raise _Returned(self.value(value))
                case ir.Skip():
                    raise Skipped

    def _take_gradients(self, place: ir.Expr) -> None:
        """Give every parameter its gradient with all of them in their places."""
        places = [run.value(place).expand_as(run.values["p"]) for run in self.beside]
        for run, grad in zip(self.beside, self.gradient(places), strict=True):
            run.values["grad"] = grad

    def assign(self, target: ir.Ref, value: Any) -> None:
        fresh = target.role in (ir.Role.LOCAL, ir.Role.SHARED)
        if not fresh and not target.type.on_host:
            old = self.stored(target)
            if not isinstance(value, Tensor) or value.shape != old.shape:
                value = torch.zeros_like(old) + value
        if target.index is not None:
            self.values[target.name][int(self.value(target.index))] = value
        else:
            self.values[target.name] = value

    def stored(self, ref: ir.Ref) -> Any:
        value = self.values[ref.name]
        return value if ref.index is None else value[int(self.value(ref.index))]

    # ---- expressions

    def _across(self, call: ir.Call) -> Any:
        """A reduction of the parts that all parameters have."""
        (part,) = call.arguments
        if call.type.on_host:
            return _OF_NUMBERS[call.function](run.value(part) for run in self.beside)
        parts = torch.stack([run.value(part) for run in self.beside])
        return _ACROSS.get(call.function, getattr(torch, call.function))(parts)

    def value(self, expr: ir.Expr) -> Any:
        if expr.type.on_host:
            return evaluate(expr, self._host)
        match expr:
            case ir.Ref(role=ir.Role.SEED):
                return self.values[expr.name]
            case ir.Ref():
                value = self.stored(expr)
                if expr.type.element not in ("number", "flag"):
                    return value
                number = torch.bool if expr.type.element == "flag" else torch.float64
                return torch.as_tensor(value, dtype=number)
            case ir.Unary():
                operand = self.value(expr.operand)
                return ~operand if expr.operator == "not" else -operand
            case ir.Binary():
                left, right = self.value(expr.left), self.value(expr.right)
                both = {
                    "and": torch.logical_and,
                    "or": torch.logical_or,
                    "@": torch.matmul,
                }
                return (both | BINARY)[expr.operator](left, right)
            case ir.Choose():
                return self.value(
                    expr.then if self.value(expr.condition) else expr.otherwise
                )
            case ir.Invoke():
                return self._invoke(expr)
            case ir.Op():
                return self._op(expr)
            case ir.Call() if expr.over:
                return self._across(expr)
            case ir.Call():
                return self._call(expr)
        raise AssertionError(expr)

    def _host(self, expr: ir.Expr) -> Any:
        match expr:
            case ir.Ref():
                return self.values[expr.name]
            case ir.Invoke():
                return self._invoke(expr)
            case ir.Call("ndim", (x,)):
                return self.value(x).ndim
            case ir.Call("numel", (x,)):
                return self.value(x).numel()
            case ir.Call("size", (x,)):
                return self.value(x).shape[expr.dim[0]]
            case ir.Call("size", (x, axis)):
                return self.value(x).shape[int(self.value(axis))]
            case ir.Call("finfo_eps"):
                return torch.finfo(self.memory.dtype).eps
            case ir.Call("item", (x,)):
                return self.value(x).item()
            case ir.Call() if expr.over:
                return self._across(expr)
            case ir.Call("is_tensor" | "is_complex" | "is_sparse"):
                return False
        raise AssertionError(expr)

    def _invoke(self, call: ir.Invoke) -> Any:
        function = self.functions[call.function]
        arguments = [self.value(each) for each in call.arguments]
        names = [each.name for each in function.parameters]
        outer, self.values = self.values, dict(zip(names, arguments, strict=True))
        try:
            self.block(function.body)
        except _Returned as returned:
            return returned.value
        finally:
            self.values = outer
        raise AssertionError(function.name)

    def _op(self, op: ir.Op) -> Any:
        arguments = [self.value(each) for each in op.arguments]
        if op.name in DRAWN:
            return _drawn(op.name, *arguments)
        if op.name == "topk":
            return _largest(*arguments)
        if op.name in _ORDERED:
            arguments = [each.contiguous() for each in arguments]
        keywords = {name: self.value(value) for name, value in op.keywords}
        if op.in_place and hasattr(Tensor, op.name + "_"):
            return getattr(arguments[0], op.name + "_")(*arguments[1:], **keywords)
        if op.in_place:
            return getattr(torch, op.name)(*arguments, **keywords, out=arguments[0])
        if op.name in ("eye", "new_zeros"):
            return matrices.FUNCTIONS[op.name.removeprefix("new_")](*arguments[1:])
        if op.name == "argsort":
            return matrices.FUNCTIONS["argsort"](*arguments, keywords["descending"])
        if op.name in matrices.FUNCTIONS:
            return matrices.FUNCTIONS[op.name](*arguments)
        if op.name == "expand_as":
            return arguments[0].expand_as(arguments[1])
        if op.name == "mT":
            return arguments[0].mT
        if op.name == "bfloat16":
            return arguments[0].bfloat16().double()
        if op.name == "linalg.vector_norm":
            return torch.linalg.vector_norm(*arguments, **keywords)
        if op.name == "new_full":
            return arguments[0].new_full(*arguments[1:])
        return getattr(torch, op.name)(*arguments, **keywords)

    def _in_steps(self, call: ir.Call, arguments: list[Any]) -> Any:
        """A function that torch and the passes take apart in ways of their own: each
        result on the way is a value of this run.
        """

        def binary(operator: str, left: ir.Expr, right: ir.Expr) -> ir.Expr:
            return ir.Binary(operator, left, right, ir.TENSOR, call.span)

        names = [f"_{at}" for at in range(len(arguments))]
        held = dict(zip(names, arguments, strict=True))
        refs = [
            ir.Ref(name, ir.Role.LOCAL, each.type, call.span)
            for name, each in zip(names, call.arguments, strict=True)
        ]
        self.values |= held
        match call.function, refs:
            case "dot", (x, y):
                result = self.value(binary("*", x, y)).sum()
            case "lerp", (start, end, weight):
                way = binary("*", weight, binary("-", end, start))
                result = self.value(binary("+", start, way))
        for name in held:
            del self.values[name]
        return result

    def _call(self, call: ir.Call) -> Any:
        name, arguments = call.function, [self.value(each) for each in call.arguments]
        if name in DRAWN:
            return _drawn(name, *arguments)
        if name == "topk":
            return _largest(*arguments)
        if name in _SPELLED_OUT:
            return self._in_steps(call, arguments)
        if name in matrices.FUNCTIONS:
            return matrices.FUNCTIONS[name](*arguments)
        if name == "as_tensor":
            return torch.tensor(arguments[0], dtype=torch.float64)
        if name == "transpose":
            return arguments[0].mT
        if name == "bfloat16":
            return arguments[0].bfloat16().double()
        reduced = {} if call.dim is None else {"dim": call.dim, "keepdim": call.keepdim}
        if len(arguments) == 1 and name in (
            "sum",
            "mean",
            "norm",
            "max",
            "min",
            "any",
            "all",
        ):
            called = {
                "norm": torch.linalg.vector_norm,
                "max": torch.amax,
                "min": torch.amin,
            }
            return called.get(name, getattr(torch, name))(arguments[0], **reduced)
        if name == "full_like":
            return torch.full_like(*arguments)
        if name in ("zeros_like", "ones_like"):
            return getattr(torch, name)(arguments[0])
        if name == "clamp":
            return arguments[0].clamp(arguments[1], arguments[2])
        tensors = [
            each
            if isinstance(each, Tensor)
            else torch.tensor(each, dtype=torch.float64)
            for each in arguments
        ]
        called = {"max": torch.maximum, "min": torch.minimum}.get(name) or getattr(
            torch, name
        )
        return called(*tensors)
