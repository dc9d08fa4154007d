"""The same equations over lists of tensors: a module-level function that calls torch's
`_foreach` functions.

In: a rule that `flatten` has been through. Out: the lines of its function. Parameters of
one device and dtype, about which the host knows the same (their count, their shape),
are updated together, so that the host's work reads as it does in the loop.
"""

from collections.abc import Iterator

from .. import ir
from .body import INDENT, lines
from .complex import Run, runs
from .layout import fit
from .lists import GIVEN, Lists
from .sparse import gathered_lists, scattered_lists
from .update import MAXIMIZE, Column, Update, asked, asks_count, head

KIND = "multi_tensor"
ALIKE = '''

def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]
'''


def emit(
    rule: ir.Rule, update: Update, suffix: str = "", captured: bool = False
) -> list[str]:
    """The lines of a function that runs the rule on all parameters of a batch at once."""
    names = Lists(update)
    body = [] if captured else as_numbers(update)
    body += lines(rule.prologue, names.host, rule.source, names.single)
    body += [""] * bool(body)
    body += _batches(rule, update)
    given = [f"{GIVEN} = grads"] * consumes(rule.step)
    inner = [*given, f"if {MAXIMIZE}:", "    grads = torch._foreach_neg(grads)"]
    gathered = gathered_lists(rule, [each.items for each in update.kept])
    inner += [*gathered, *given] if gathered else []
    inner += count(rule, update, captured, True, asks_count(rule))
    several = list(runs(rule, update))
    is_complex = "torch.is_complex(params[0])"
    if sum(bool(run.changed) for run in several) > 1:
        inner.append(f"is_complex = {is_complex}")
        is_complex = "is_complex"
    for run in several:
        seen = viewed(run, names, is_complex)
        inner += seen
        if seen and "grad" in run.changed:
            inner += [INDENT + each for each in given]
        written = lines(run.block, names.host, rule.source, names.single)
        inner += [""] * written[:1][0].startswith("#") if written else []
        inner += written
    inner += scattered_lists(rule)
    body += [INDENT + line if line else "" for line in inner]
    result = [
        *head(update, update.function(KIND) + suffix),
        *(INDENT + line if line else "" for line in body),
    ]
    return [part for line in result for part in fit(line)]


def consumes(block: ir.Block) -> bool:
    """Whether a call writes into gradients where they are copies."""
    return any(
        isinstance(each, ir.Assign) and getattr(each.value, "may_consume", False)
        for each in ir.statements(block)
    )


def as_numbers(update: Update) -> list[str]:
    """Hypers as numbers, where a group may have tensors."""
    own = update.names.own
    floats = [
        own(each.name)
        for each in update.hypers
        if each.annotation == "float" and not each.type.optional
    ]
    tuples = [
        own(each.name)
        for each in update.hypers
        if each.annotation == "tuple" and not each.type.nones
    ]
    joined = ", ".join(floats)
    result = [f"{each} = tuple(map(float, {each}))" for each in tuples]
    if len(floats) == 1:
        result.insert(0, f"{joined} = float({joined})")
    elif floats:
        result.insert(0, f"{joined} = map(float, ({joined}))")
    reason = "# Numbers, where a group has tensors of one element."
    return [reason, *result] if result else []


# ---- batches


def _batches(rule: ir.Rule, update: Update) -> list[str]:
    """The loop over parameters that are updated together."""
    *before, alike = _alike(rule, update)
    return [*before, f"for {update.taken_apart} in {alike}:"]


def batched(rule: ir.Rule, update: Update) -> list[str]:
    """The lines that add the batches of a group to a list of them."""
    *before, alike = _alike(rule, update)
    return [*before, f"batches.append((group, {alike}))"]


def _alike(rule: ir.Rule, update: Update) -> list[str]:
    """Lines, the last of which is the list of batches."""
    columns = f"columns = [{update.lists}]"
    if keys := keys_of(rule, update):
        return [columns, f"keys = {keys}", "_alike(columns, keys)"]
    return [columns, "_alike(columns)"]


def keys_of(rule: ir.Rule, update: Update, by_shape: bool = False) -> str:
    """What the host knows of each parameter and asks for, or nothing; their shapes, where
    it asks for these or batches are to be `by_shape`.
    """
    facts = dict(_facts(rule, update))
    param = update.columns[0]
    if by_shape:
        facts.pop(f"{param.item}.ndim", None)
        facts = {f"{param.item}.shape": param} | facts
    if not facts:
        return ""
    read = dict.fromkeys(facts.values())
    one = ", ".join(facts)
    one = one if len(facts) == 1 else f"({one})"
    items = ", ".join(each.item for each in read)
    lists = ", ".join(each.items for each in read)
    lists = lists if len(read) == 1 else f"zip({lists}, strict=True)"
    return lists if one == items else f"[{one} for {items} in {lists}]"


def _facts(rule: ir.Rule, update: Update) -> Iterator[tuple[str, object]]:
    """What the host asks about each parameter, with the column that it asks."""
    made = [each for state in rule.own for each in state.asked]
    nodes = _nodes(rule, [*rule.prologue, *rule.step, *made])
    read = asked((*rule.prologue, *rule.step))
    shapes = {each.function for each in nodes if isinstance(each, ir.Call)}
    param = update.columns[0]
    if shapes & {"size", "numel"}:
        yield f"{param.item}.shape", param
    elif "ndim" in shapes:
        yield f"{param.item}.ndim", param
    for each in update.columns[2:]:
        if each.state is not None:
            fact = ir.Role.STATE, each.state.name
        else:
            fact = each.role, "t" if each is update.step else "first"
        if fact in read:
            yield _as_fact(each), each


def _nodes(rule: ir.Rule, roots: list[ir.Node]) -> list[ir.Node]:
    """What is below some nodes, and in the defs that they ask for numbers."""
    bodies = {each.name: each.body for each in rule.functions}
    found: list[ir.Node] = []
    while roots:
        below = list(ir.walk(roots.pop()))
        found += below
        for each in below:
            if isinstance(each, ir.Invoke) and each.type.on_host:
                roots += bodies[each.function]
    return found


def _as_fact(column: Column) -> str:
    """One thing of a column as the host knows it."""
    if not column.annotation.startswith("list[Tensor"):
        return column.item
    number = f"{column.item}.item()"
    if "None" not in column.annotation:
        return number
    return f"None if {column.item} is None else {number}"


def count(
    rule: ir.Rule, update: Update, captured: bool, goes_up: bool, asked: bool
) -> list[str]:
    """The step counts, one more each. Where they lie on the CPU, torch takes a number
    apart for each tensor, and another tensor once.
    """
    alike = [update.first, update.step if rule.counted == "int" else None]
    first = [f"{each.item} = {each.items}[0]" for each in alike if each is not None]
    if rule.counted != "tensor":
        return first
    steps = update.step.items
    one = "1" if captured else f"torch.ones_like({steps}[0]), alpha=1"
    result = [*first, *[f"torch._foreach_add_({steps}, {one})"] * goes_up]
    if asked:
        result.append(f"{update.names.own('t')} = {steps}[0].item()")
    return result


def viewed(run: Run, names: Lists, is_complex: str) -> list[str]:
    """Complex tensors in the form that the next statements see them in."""
    if not (run.changed or run.optional):
        return []
    result = [f"if {is_complex}:"]
    for name in (*run.changed, *run.optional):
        viewed = f"torch.{run.view}(each)"
        if name in run.optional:
            viewed = f"each if each is None else {viewed}"
        many, column = names.many(name), names.columns.get(name)
        result.append(f"    {many} = [{viewed} for each in {many}]")
        if column is not None and column.listed:
            result[-1] = (
                f"    {many} = [[{viewed} for each in {column.item}] "
                f"for {column.item} in {many}]"
            )
    return result
