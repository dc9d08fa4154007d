"""The part of a file that is about a step in which kernels and torch take turns.

In: the turns of a rule. Out: lines of Python: a function for each turn of torch, the
kernels of the others, and the function that has them take turns.
"""

from dataclasses import replace

from .. import ir
from ..ir.kernels import Program, Turns
from ..stages import surely
from .body import INDENT, lines
from .cpu.table import columns_of
from .foreach import GIVEN, as_numbers, consumes, count, keys_of
from .fused import KERNELS, kernel, looked_up, numbers_function, spelled_by
from .layout import fit
from .lists import Lists
from .names import Names, plural
from .signature import option
from .update import MAXIMIZE, Column, Update, asks_count, call, head, update_of

KIND = "between"
_TAKEN = "optimizer groups taken left group columns turns keys batch".split()


def kernels(turns: Turns) -> list[str]:
    """The lines of the kernels and of what they are called by."""
    texts: list[str] = []
    made = [f"{KERNELS} = _Kernel and _Turns("]
    for number, program in enumerate(turns.programs, 1):
        own, made_of = kernel(program, f"_{number}")
        texts += own
        made += [INDENT + line for line in [*made_of[:-1], f"{made_of[-1]},"]]
    made.append(")")
    return [*texts, *(part for line in made for part in fit(line)), ""]


def function(targets: ir.Targets, update: Update) -> list[str]:
    """The lines of the functions of torch's turns, and of the one that has all turns."""
    turns: Turns = targets.kernels
    result: list[str] = []
    for number, program in enumerate(turns.programs, 1):
        result += numbers_function(program, f"_{number}")
    names = Names((*update.lists.split(", "), *_TAKEN))
    spelled = spelled_by(update)
    spelled |= {name: names.claim(plural(name)) for name in turns.handed}
    body: list[str] = []
    kernels_had, torch_had = 0, 0  # turns so far
    made: set[str] = set()
    for at, part in enumerate(turns.parts):
        if isinstance(part, Program):
            kernels_had += 1
            counted = torch_had > 0
            body += _kernels_turn(part, kernels_had, update, spelled, made, counted)
            made |= {x for each in part.steps for x in getattr(each, "stores", ())}
            continue
        goes_up, results = torch_had == 0, turns.returned[torch_had]
        torch_had += 1
        own = _update(part, goes_up)
        suffix = f"_{torch_had}" * (len(turns.returned) > 1)
        name = own.function(KIND) + suffix
        result += ["", "", *_between(part, own, name, goes_up)]
        body += _torchs_turn(part, own, name, update, spelled, results)
        later = {x for each in turns.parts[at + 1 :] for x in _mentioned(each)}
        others = [spelled[x] for x in turns.handed if x in (made - {*results}) & later]
        body += _handed(", ".join(spelled[x] for x in results), others)
        made |= {*results}
    result += ["", "", *_in_turns(targets, update, body)]
    return [part for line in result for part in (fit(line) if line else [""])]


# ---- a turn of torch


def _update(rule: ir.Rule, goes_up: bool) -> Update:
    """What a turn of torch takes: what it reads. By the first the step count goes up."""
    update = update_of(ir.Targets(rule, rule, rule))
    refs = [ref for each in rule.step for ref in ir.mentions(each)]
    names, roles = {ref.name for ref in refs}, {ref.role for ref in refs}
    p, grad, *_ = update.columns
    unread = [each for each, name in ((p, "p"), (grad, "grad")) if name not in names]
    if update.step is not None and not goes_up and ir.Role.COUNT not in roles:
        unread.append(update.step)
    return replace(update, unread=tuple(unread))


def _results(rule: ir.Rule) -> tuple[ir.Ref, ...]:
    """What a turn of torch returns."""
    (*_, last) = rule.step
    if not isinstance(last, ir.Return):
        return ()
    return last.value.items if isinstance(last.value, ir.Pack) else (last.value,)


def _between(rule: ir.Rule, update: Update, name: str, goes_up: bool) -> list[str]:
    """The lines of its function, for parameters that are alike."""
    names = Lists(update)
    results = _results(rule)
    body = as_numbers(update)
    body += lines(rule.prologue, names.host, rule.source, names.single)
    body += [""] * bool(body)
    body += [f"{GIVEN} = grads"] * consumes(rule.step)
    if update.reads_grad:
        body += [f"if {MAXIMIZE}:", "    grads = torch._foreach_neg(grads)"]
    if update.step is not None and update.step in update.given:
        body += count(rule, update, False, goes_up, asks_count(rule))
    elif update.first is not None:
        body.append(f"{update.first.item} = {update.first.items}[0]")
    step = rule.step[:-1] if results else rule.step
    sure = surely(step)
    body += [f"{names.many(x.name)} = None" for x in results if x.name not in sure]
    written = lines(step, names.host, rule.source, names.single)
    body += [""] * bool(body and body[-1] and written[0].startswith("#"))
    body += written
    if results:
        body.append(f"return {', '.join(names.many(x.name) for x in results)}")
    kinds = ["list[Tensor]" + " | None" * (x.name not in sure) for x in results]
    returned = ", ".join(kinds) or "None"
    returned = f"tuple[{returned}]" if len(results) > 1 else returned
    return [*head(update, name, returned), *(INDENT + x if x else "" for x in body)]


def _torchs_turn(
    rule: ir.Rule,
    own: Update,
    function: str,
    update: Update,
    spelled: dict[str, str],
    results: tuple[str, ...],
) -> list[str]:
    """The lines of its call."""
    roles = {each.role: each.items for each in update.columns if each.role}
    given = [
        spelled[each.state.name] if each.state else roles.get(each.role, each.items)
        for each in own.given
    ]
    named = [line.strip(" ,") for line in call(own, option(rule, MAXIMIZE))]
    called = f"{function}({', '.join([*given, *(x for x in named if '=' in x)])})"
    listed = ", ".join(spelled[name] for name in results)
    return [f"{listed} = {called}" if results else called]


def _handed(results: str, others: list[str]) -> list[str]:
    """The line that has kernels get what torch returned, in memory that neither a column
    nor what `others` were handed has.
    """
    if not results:
        return []
    taken = f"[*batch, {', '.join(others)}]" if others else "batch"
    return [f"{results} = {KERNELS}.handed({taken}, {results})"]


def _mentioned(part: Program | ir.Rule) -> set[str]:
    """The names that a turn reads or writes."""
    if isinstance(part, Program):
        return {*columns_of(part).tensors}
    return {ref.name for each in part.step for ref in ir.mentions(each)}


# ---- a turn of kernels


def _kernels_turn(
    program: Program,
    number: int,
    update: Update,
    spelled: dict[str, str],
    made: set[str],
    counted: bool,
) -> list[str]:
    """The lines of its call: it makes what is handed on and was not there before."""
    own = {each.state.name for each in update.columns if each.state} | {"p", "grad"}
    tensors = columns_of(program).tensors
    makes = [x for x in tensors if x not in own and x not in made]
    given = [spelled[x] for x in tensors if x not in makes]
    steps = spelled.get("step")
    counts = f"[step.item(){'' if counted else ' + 1'} for step in {steps}]"
    counts = counts if update.counted == "tensor" else ""
    if asked := looked_up(program, update, counts):
        given.append(f"asked=[{', '.join(asked)}]")
    result = f"turn_{number}({', '.join(given)})"
    return [f"{', '.join(spelled[x] for x in makes)} = {result}" if makes else result]


# ---- all turns


def _in_turns(targets: ir.Targets, update: Update, body: list[str]) -> list[str]:
    turns: Turns = targets.kernels
    numbers = range(1, len(turns.programs) + 1)
    named = ", ".join(f"turn_{number}" for number in numbers)
    listed = ", ".join(
        f'"{column.state.name}": {column.items}'
        for column in update.columns
        if column.state and _is_read(column, turns)
    )
    known = f'"p": params, "grad": grads{", " * bool(listed)}{listed}'
    return [
        "def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:",
        '    """Update by kernels and torch in turns the groups that ask for it; return those',
        "    that are left.",
        '    """',
        f"    taken, left = {KERNELS}.apart(optimizer, groups)",
        "    for group, columns in taken:",
        f"        {update.taken_apart} = columns",
        f"        turns = {KERNELS}.of(optimizer, group, {{{known}}})",
        "        if turns is None:",
        "            left.append((group, columns))",
        "            continue",
        f"        {named if len(numbers) > 1 else f'({named},)'} = turns",
        f"        keys = {keys_of(targets.foreach, update, by_shape=True)}",
        "        for batch in _alike(columns, keys):",
        f"            {update.taken_apart} = batch",
        *(INDENT * 3 + line for line in body),
        "    return left",
    ]


def _is_read(column: Column, turns: Turns) -> bool:
    """Whether kernels read or write a state."""
    return any(column.state.name in columns_of(x).tensors for x in turns.programs)
