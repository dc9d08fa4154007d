"""Statements over lists of tensors, as lines of Python.

In: statements that `flatten` has been through. Out: a call of a `_foreach` function for
each, or the same for one tensor after the other where torch has none.
"""

import dataclasses
from collections.abc import Iterator

from .. import ir
from .batches import batched
from .body import INDENT
from .expr import entry, text
from .names import plural
from .update import Update

GIVEN = "given"
"""The list of gradients that are the model's own."""


class Lists:
    """The names of a function over lists, and its statements. What is `outer` is no list:
    a group, or the model, has one of it.
    """

    def __init__(self, update: Update, outer: frozenset[str] = frozenset()) -> None:
        self.update = update
        self.outer = outer
        self.names = update.names.copy()
        self.columns = {"p": update.columns[0], "grad": update.columns[1]}
        self.columns |= {each.state.name: each for each in update.columns if each.state}
        self.locals: dict[str, str] = {}

    def one(self, ref: ir.Ref) -> str:
        """A tensor of a list, or what the host knows."""
        if ref.type.on_host or ref.name in self.outer:
            return self.host(ref)
        if ref.role in (ir.Role.COUNT, ir.Role.SEED, ir.Role.LOSS):
            return self.update.one(ref)
        return entry(self.names.own(ref.name), ref, self.host)

    def many(self, name: str) -> str:
        """The list of what a name stands for."""
        if name in self.columns:
            return self.columns[name].items
        if name not in self.locals:
            self.locals[name] = self.names.claim(plural(name))
        return self.locals[name]

    def listed(self, ref: ir.Ref) -> str:
        if ref.name in self.outer:
            return self.names.own(ref.name)
        if ref.role is ir.Role.COUNT:
            return self.update.step.items
        if ref.role in (ir.Role.SEED, ir.Role.LOSS):
            return self.update.of(ref.role).items
        if ref.index is not None:
            each = entry("each", ref, self.host)
            return f"[{each} for each in {self.many(ref.name)}]"
        return self.many(ref.name)

    def host(self, ref: ir.Ref) -> str:
        """A name as the host reads it: of the first parameter, which speaks for all."""
        if ref.name in self.outer:
            return self.names.own(ref.name)
        if not ref.type.on_host:
            listed = self.listed(dataclasses.replace(ref, index=None))
            return entry(f"{listed}[0]", ref, self.host)
        if ref.role is ir.Role.STATE:
            return f"{self.columns[ref.name].items}[0].item()"
        return self.names.own(ref.name)

    def single(self, statement: ir.Statement) -> Iterator[str]:
        match statement:
            case ir.Assign(target, value) if target.type.on_host:
                if target.role is ir.Role.STATE:
                    yield from self._filled(target, value)
                else:
                    yield f"{self.host(target)} = {text(value, self.host)}"
            case ir.Assign(target, ir.Op(may_consume=True, listed=True) as value):
                yield from self._consuming(target, value)
            case ir.Assign(target, value, batched=True):
                yield f"{self.many(target.name)} = {self._batched(value)}"
            case ir.Assign(target, value):
                yield f"{self.many(target.name)} = {self.values(value)}"
            case ir.Unpack(targets, value, batched=True):
                several = ", ".join(self.many(each.name) for each in targets)
                rows = f"zip(*{self._batched(value)}, strict=True)"
                yield f"{several} = map(list, {rows})"
            case ir.Unpack(targets, value):
                yield f"{', '.join(map(self.host, targets))} = {text(value, self.host)}"
            case ir.Forget(names):
                yield f"del {', '.join(map(self.many, names))}"
            case ir.Effect(ir.Op("copy", (target, source))) if target == source:
                return
            case ir.Effect(value) if value.listed:
                yield self._call(value)
            case ir.Effect(ir.Op("fill", (target, value))) if _is_zero(value):
                yield f"torch._foreach_zero_({self.listed(target)})"
            case ir.Effect(value):
                items, lists = self._rows(value)
                yield f"for {items} in {lists}:"
                yield INDENT + text(value, self.one)

    def _filled(self, state: ir.Ref, value: ir.Expr) -> Iterator[str]:
        """A number for a state that is read as one, in every tensor that keeps it."""
        column = self.columns[state.name]
        new = self.names.own(f"new_{state.name}")
        yield f"{new} = {text(value, self.host)}"
        yield f"for {column.item} in {column.items}:"
        yield f"    {column.item}.fill_({new})"

    def _consuming(self, target: ir.Ref, value: ir.Op) -> Iterator[str]:
        """A call on gradients that is in place where they are copies."""
        name = self.many(target.name)
        yield f"if grads is {GIVEN}:"
        yield f"    {name} = {self._call(value)}"
        yield "else:"
        yield f"    {self._call(dataclasses.replace(value, in_place=True))}"
        if name != "grads":
            yield f"    {name} = grads"

    def values(self, value: ir.Expr) -> str:
        match value:
            case ir.Ref(name=name) if name in self.outer:
                return f"[{self.listed(value)}] * len(params)"
            case ir.Ref():
                return self.listed(value)
            case ir.Choose(condition, ir.Ref() as then, ir.Ref() as otherwise) if (
                not {then.name, otherwise.name} & self.outer
            ):
                chosen = f"{self.listed(then)} if {text(condition, self.host)}"
                return f"{chosen} else {self.listed(otherwise)}"
        if isinstance(value, ir.Op) and value.listed:
            return self._call(value)
        items, lists = self._rows(value)
        return f"[{text(value, self.one)} for {items} in {lists}]"

    def _batched(self, value: ir.Expr) -> str:
        """The call of `_batched` for a value; its arguments have the names of the spec,
        the second of one list another.
        """
        names, used = self.names.copy(), set()

        def claim(name: str) -> str:
            own = names.own(name)
            if own in used:
                own = names.claim(f"{own}_{len(used) + 1}")
            used.add(own)
            return own

        return batched(value, self.host, self.listed, claim)

    def _rows(self, value: ir.Expr) -> tuple[str, str]:
        """The lists that a value is made from, and names for one row of them."""
        read = (
            each
            for each in ir.reads(value)
            if not each.type.on_host and each.name not in self.outer
        )
        whole = (dataclasses.replace(each, index=None) for each in read)
        refs = {self.one(each): each for each in whole}
        if not refs:
            return "_", "params"
        lists = ", ".join(map(self.listed, refs.values()))
        return ", ".join(refs), lists if len(
            refs
        ) == 1 else f"zip({lists}, strict=True)"

    def _call(self, op: ir.Op) -> str:
        """A call of a function for lists."""
        written = [
            text(each, self.host) if each.type.on_host else self.listed(each)
            for each in op.arguments
        ]
        written += [f"{key}={text(each, self.host)}" for key, each in op.keywords]
        return f"torch._foreach_{op.name}{'_' * op.in_place}({', '.join(written)})"


def _is_zero(value: ir.Expr) -> bool:
    return isinstance(value, ir.Const) and value.text in ("0", "0.0")
