"""The part of a file that is about a step in which kernels and torch take turns.

In: the turns. Out: lines of Python: a function for each turn of torch, the kernels of the
others, and the function that has them take turns.
"""

from dataclasses import replace

from .. import ir
from ..ir.kernels import Program, Turns
from . import foreach
from .body import INDENT
from .cpu.table import columns_of
from .fused import (
    KERNELS,
    kernel,
    looked_up,
    numbers_function,
    spelled_by,
)
from .layout import fit
from .names import Names, plural
from .signature import option
from .update import Column, Update, call, update_of

KIND = "between"


def kernels(turns: Turns) -> list[str]:
    """The lines of the kernels and of what they are called by."""
    texts: list[str] = []
    made = [f"{KERNELS} = _Kernel and _Turns("]
    for number, program in enumerate(turns.programs, 1):
        own, lines = kernel(program, f"_{number}")
        texts += own
        made += [INDENT + line for line in [*lines[:-1], f"{lines[-1]},"]]
    made += [f"{INDENT}handed={len(turns.handed)},"] * bool(turns.handed) + [")"]
    return [*texts, *(part for line in made for part in fit(line)), ""]


def function(turns: Turns, update: Update) -> list[str]:
    """The lines of the functions of torch's turns, and of the one that has all turns."""
    result: list[str] = []
    for number, program in enumerate(turns.programs, 1):
        result += numbers_function(program, f"_{number}")
    names = Names((*update.lists.split(", "), *_TAKEN))
    handed = {name: names.claim(plural(name)) for name in turns.handed}
    between = [each for each in turns.parts if isinstance(each, ir.Rule)]
    body: list[str] = []
    number = 0
    for part in turns.parts:
        if isinstance(part, Program):
            number += 1
            body.append(f"run_{number}()")
            continue
        suffix = f"_{between.index(part) + 1}" if len(between) > 1 else ""
        goes_up = part is between[0]
        own = _update(part, goes_up)
        result += ["", ""]
        result += foreach.emit(part, own, suffix, kind=KIND, goes_up=goes_up)
        body += _called(own, own.function(KIND) + suffix, update, handed, part)
    result += ["", "", *_in_turns(turns, update, handed, body)]
    return [part for line in result for part in (fit(line) if line else [""])]


_TAKEN = "optimizer groups left taken group columns runs".split()


def _update(rule: ir.Rule, goes_up: bool) -> Update:
    """What a turn of torch takes: what it reads. By the first the step count goes up."""
    update = update_of(ir.Targets(rule, rule, rule))
    refs = [ref for each in rule.step for ref in ir.mentions(each)]
    names, roles = {ref.name for ref in refs}, {ref.role for ref in refs}
    p, grad, *others = update.columns
    unread = [each for each, name in ((p, "p"), (grad, "grad")) if name not in names]
    if update.step is not None and not goes_up and ir.Role.COUNT not in roles:
        unread.append(update.step)
    if p in unread and not _is_tensors(others[0]):
        unread.remove(p)  # it says which are of one device and type
    return replace(update, unread=tuple(unread))


def _is_tensors(column: Column) -> bool:
    return column.annotation == "list[Tensor]"


def _called(
    own: Update, function: str, update: Update, handed: dict[str, str], rule: ir.Rule
) -> list[str]:
    """The lines of a call of a turn of torch."""
    spelled = spelled_by(update) | handed
    roles = {each.role: each.items for each in update.columns if each.role}
    given = [
        spelled[each.state.name] if each.state else roles.get(each.role, each.items)
        for each in own.given
    ]
    named = [line for line in call(own, option(rule, "maximize")) if "=" in line]
    return [f"{function}(", *(f"    {each}," for each in given), *named, ")"]


def _in_turns(
    turns: Turns, update: Update, handed: dict[str, str], body: list[str]
) -> list[str]:
    runs = [f"run_{number}" for number in range(1, len(turns.programs) + 1)]
    listed = _listed([*handed.values()])
    spelled = spelled_by(update) | handed
    counts = f"[step.item() + 1 for step in {spelled.get('step')}]"
    counts = counts if update.counted == "tensor" else ""
    elements = [
        ", ".join(spelled[name] for name in columns_of(each).tensors)
        for each in turns.programs
    ]
    asked = [", ".join(looked_up(each, update, counts)) for each in turns.programs]
    return [
        "def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:",
        '    """Update by kernels and torch in turns the groups that ask for it; return those',
        "    that are left.",
        '    """',
        f"    taken, left = {KERNELS}.apart(optimizer, groups)",
        "    for group, columns in taken:",
        f"        {update.taken_apart} = columns",
        *[f"        {listed} = {KERNELS}.handed(params)"] * bool(handed),
        f"        runs = {KERNELS}.runs(",
        "            optimizer,",
        "            group,",
        f"            elements=[{', '.join(f'[{each}]' for each in elements)}],",
        *[f"            asked=[{', '.join(f'[{each}]' for each in asked)}],"]
        * any(asked),
        "        )",
        "        if runs is None:",
        "            left.append((group, columns))",
        "            continue",
        f"        {_listed(runs)} = runs",
        *(INDENT * 2 + line for line in body),
        "    return left",
    ]


def _listed(names: list[str]) -> str:
    """Names, to be assigned the items of a list."""
    return ", ".join(names) if len(names) != 1 else f"({names[0]},)"
