"""The loop: a module-level function of tensors and floats, one parameter at a time.

In: a lowered rule. Out: the lines of its function.
"""

from .. import ir
from .body import INDENT, lines, one_at_a_time
from .complex import Run, runs
from .layout import fit
from .sparse import gathered, scattered
from .update import MAXIMIZE, Update, asks_count, head

KIND = "single_tensor"


def emit(rule: ir.Rule, update: Update, suffix: str = "") -> list[str]:
    """The lines of a function that runs the rule one parameter at a time."""
    name = update.one
    single = one_at_a_time(name)
    body = lines(rule.prologue, name, rule.source, single)
    body += [""] * bool(body)
    body.append(f"for {update.items} in zip({update.lists}, strict=True):")
    inner = [f"grad = grad if not {MAXIMIZE} else -grad"]
    inner += gathered(rule, [each.item for each in update.kept])
    inner += _count(rule, update)
    several = list(runs(rule, update))
    is_complex = "torch.is_complex(p)"
    if sum(bool(run.changed) for run in several) > 1:
        inner.append(f"is_complex = {is_complex}")
        is_complex = "is_complex"
    for run in several:
        inner += viewed(run, update, is_complex)
        written = lines(run.block, name, rule.source, single)
        inner += [""] * written[:1][0].startswith("#") if written else []
        inner += written
    inner += scattered(rule)
    body += [INDENT + line if line else "" for line in inner]
    result = [
        *head(update, update.function(KIND) + suffix),
        *(INDENT + line if line else "" for line in body),
    ]
    return [part for line in result for part in fit(line)]


def viewed(run: Run, update: Update, is_complex: str) -> list[str]:
    """Complex tensors in the form that the next statements see them in."""
    if not (run.changed or run.optional):
        return []
    own = update.names.own
    several = [each.state.name for each in update.columns if each.listed]
    single = [own(each) for each in run.changed if each not in several]
    joined = ", ".join(single)
    result = [f"if {is_complex}:"]
    if len(single) == 1:
        result.append(f"    {joined} = torch.{run.view}({joined})")
    elif single:
        result.append(f"    {joined} = map(torch.{run.view}, ({joined}))")
    for each in (*run.changed, *run.optional):
        name, viewed = own(each), f"torch.{run.view}(each)"
        if each in several:
            if each in run.optional:
                viewed = f"each if each is None else {viewed}"
            result.append(f"    {name} = [{viewed} for each in {name}]")
        elif each in run.optional:
            result.append(f"    if {name} is not None:")
            result.append(f"        {name} = torch.{run.view}({name})")
    return result


def _count(rule: ir.Rule, update: Update) -> list[str]:
    """The count goes up; it is read as a Python number where the rule does so."""
    if rule.counted != "tensor":
        return []
    step = update.step.item
    if asks_count(rule):
        return [f"{step} += 1", f"{update.names.own('t')} = {step}.item()"]
    return [f"{step} += 1"]
