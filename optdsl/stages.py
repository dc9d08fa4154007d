"""What a block in phases needs to be printed: which names its parameters hand on.

In: a block with `ir.Each` in it. Out: the names that every parameter adds to a list, since
a reduction puts them together; those that wait for a later phase; runs of statements.
"""

from collections.abc import Iterator

from . import ir


def parts(block: ir.Block) -> dict[str, ir.Type]:
    """What parameters give to the reductions in a block, in order."""
    found: dict[str, ir.Type] = {}
    for statement in ir.statements(block):
        if isinstance(statement, ir.Assign) and _is_reduction(statement.value):
            (part,) = statement.value.arguments
            found[part.name] = part.type
    return found


def _is_reduction(value: ir.Expr) -> bool:
    return isinstance(value, ir.Call) and bool(value.over)


def direct_parts(block: ir.Block) -> dict[str, ir.Type]:
    """The same for reductions that stand in the block itself, or in its branches."""
    return parts(tuple(each for each in block if not isinstance(each, ir.Each)))


def loops(block: ir.Block) -> list[ir.Each]:
    """The phases of a block itself: those of groups, or of the parameters of one."""
    return [each for each in block if isinstance(each, ir.Each)]


def phases(block: ir.Block) -> Iterator[ir.Each]:
    """What each parameter does, phase by phase."""
    for each in ir.statements(block):
        if isinstance(each, ir.Each) and each.level == "param":
            yield each


def waiting(every: list[ir.Each]) -> list[tuple[ir.Each, tuple[str, ...]]]:
    """For each of several phases, the names of it that a later one reads."""
    result = []
    for at, phase in enumerate(every):
        later = {
            name for each in every[at + 1 :] for name in read_first(each.body, set())
        }
        names = {
            each.target.name: None
            for each in ir.statements(own(phase))
            if isinstance(each, ir.Assign)
            and each.target.role in (ir.Role.LOCAL, ir.Role.GRAD)
            and each.target.name in later
        }
        result.append((phase, tuple(names)))
    return result


def own(phase: ir.Each) -> ir.Block:
    """What a phase does itself, not the phases inside it."""
    return tuple(each for each in phase.body if not isinstance(each, ir.Each))


def read_first(block: ir.Block, assigned: set[str]) -> Iterator[str]:
    """The names that a block may read before it assigns them; `assigned` grows by those
    that it surely assigns.
    """
    for statement in block:
        match statement:
            case ir.If():
                branches = [{*assigned}, {*assigned}]
                yield from read_first(statement.then, branches[0])
                yield from read_first(statement.otherwise, branches[1])
                assigned |= branches[0] & branches[1]
            case ir.Repeat() | ir.Each():
                yield from read_first(statement.body, {*assigned})
            case _:
                yield from (
                    ref.name for ref in ir.reads(statement) if ref.name not in assigned
                )
                assigned |= ir.assigned((statement,))


def outer(rule: ir.Rule) -> frozenset[str]:
    """The names of tensors that a group, or the model, has one of."""
    inside = {
        name
        for phase in phases(rule.step)
        for name in ir.assigned(phase.body) | ir.unpacked(phase.body)
    }
    names = (ir.assigned(rule.step) | ir.unpacked(rule.step)) - inside
    names |= {each.name for each in rule.shared}
    # What a phase makes of these alone is the same for all its parameters.
    for phase in phases(rule.step):
        for each in ir.statements(phase.body):
            if isinstance(each, ir.Assign) and made_of(each.value, names):
                names.add(each.target.name)
    return frozenset(names)


def made_of(expr: ir.Expr, names: set[str] | frozenset[str]) -> bool:
    """Whether an expression is a tensor that is made of these, and of numbers."""
    tensors = [ref.name for ref in ir.reads(expr) if not ref.type.on_host]
    scalar = expr.type.kind is ir.Kind.SCALAR
    return scalar and bool(tensors) and all(each in names for each in tensors)


def runs(block: ir.Block) -> Iterator[ir.Each | ir.Block]:
    """The block, cut into phases and what stands between them."""
    between: list[ir.Statement] = []
    for statement in block:
        if isinstance(statement, ir.Each):
            if between:
                yield tuple(between)
            yield statement
            between = []
        else:
            between.append(statement)
    if between:
        yield tuple(between)
