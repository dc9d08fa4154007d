"""What the compiler knows of a rule, for people: equations, memory, traffic, kinds of
work, options, targets.

In: the stages of one spec. Out: plain data, which `page` prints and `json` takes. Each
part is a module of its own and a function of the checked rule.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from .. import ir, vocabulary
from ..pipeline import Artifacts
from . import equations as equations_
from .formula import Symbol
from .latex import latex
from .memory import Kept, memory, summary
from .options import Option, options
from .papers import Paper, paper
from .targets import targets
from .traffic import Traffic, traffic
from .work import Work, works

__all__ = ["Explained", "Named", "explain", "in_latex"]

_READ = r"""% x_{t-1} is x before the step; x_t is x from the line on that sets it.
% \odot, fractions, powers and roots are element by element. Needs amsmath."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a letter of the equations stands for."""

    letter: str
    latex: str
    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Explained:
    name: str
    doc: str
    lines: int
    paper: Paper | None
    names: tuple[Named, ...]
    starts: tuple[str, ...]
    equations: tuple[str, ...]
    latex: str
    memory: tuple[Kept, ...]
    state: str
    traffic: tuple[Traffic, ...]
    works: tuple[Work, ...]
    barriers: tuple[str, ...]
    options: tuple[Option, ...]
    targets: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        made = dataclasses.asdict(self)
        for each, counted in zip(made["traffic"], self.traffic, strict=True):
            each["bytes"] = counted.bytes
        return made


def explain(artifacts: Artifacts) -> Explained:
    """Everything that is known of a rule."""
    rule = artifacts.checked
    first, lines = equations_.starts(rule), equations_.equations(rule)
    kept = memory(rule, {})
    return Explained(
        rule.name,
        rule.doc.strip(),
        len(rule.source.by_hand.text.splitlines()),
        paper(rule.doc),
        tuple(_names(rule)),
        tuple(each.plain for each in first),
        tuple(each.plain for each in lines),
        equations_.in_latex([*first, *lines]),
        kept,
        summary(kept),
        traffic(rule, {}),
        works(rule),
        _barriers(rule),
        options(rule),
        targets(artifacts),
    )


def in_latex(explained: Explained) -> str:
    """The equations for a paper, the names of their letters in comments."""
    legend = [
        f"% {each.latex}: {each.name}, {each.meaning}".replace("\n", " ")
        for each in explained.names
    ]
    return "\n".join([f"% {explained.name}", *legend, _READ, explained.latex])


def _names(rule: ir.Rule) -> list[Named]:
    """The letters of p, grad, the hypers and the states, where a line has them."""
    letters = equations_.scope_letters(rule)
    meanings = {
        vocabulary.PARAM: "the parameter",
        vocabulary.GRAD: "its gradient",
        vocabulary.COUNT: "number of its updates, from 1",
    }
    read = {
        ref.name
        for block in (*ir.blocks(rule), tuple(each.initial for each in rule.states))
        for node in block
        for ref in ir.reads(node)
    }
    if vocabulary.COUNT not in read:
        del meanings[vocabulary.COUNT]
    for hyper in rule.hypers:
        default = rule.source.cut(hyper.default.span)
        meanings[hyper.name] = ", ".join(
            filter(None, (hyper.doc, f"default {default}"))
        )
    for each in rule.remembered:
        meanings[each.name] = f"{each.hyper.name} when its group was added"
    for state in rule.states:
        meanings[state.name] = state.doc or "state"
    return [
        Named(letters[name].plain, latex(Symbol(letters[name])), name, meaning)
        for name, meaning in meanings.items()
    ]


def _barriers(rule: ir.Rule) -> tuple[str, ...]:
    """What has to be done for all parameters before any of them goes on."""
    found = {
        rule.source.cut(node.span): None
        for block in ir.blocks(rule)
        for statement in block
        for node in ir.walk(statement)
        if isinstance(node, ir.Call) and node.over
    }
    hooks = [f"{each.name}, before the first update" for each in rule.pre_steps]
    hooks += [f"{each.name}, after the last update" for each in rule.post_steps]
    return (*hooks, *found)
