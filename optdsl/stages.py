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


def reduced(block: ir.Block) -> dict[str, ir.Type]:
    """Those of them that are reduced, and no places that parameters are moved to."""
    places = {
        each.value.arguments[0].name
        for each in ir.statements(block)
        if isinstance(each, ir.Assign) and ir.is_evaluation(each.value)
    }
    return {name: kind for name, kind in parts(block).items() if name not in places}


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
            each.name: None
            for each in ir.targets(own(phase))
            if each.role in (ir.Role.LOCAL, ir.Role.GRAD) and each.name in later
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


def surely(block: ir.Block) -> set[str]:
    """The names that a block assigns, whichever way it takes."""
    names: set[str] = set()
    for statement in block:
        match statement:
            case ir.If(_, then, otherwise):
                names |= surely(then) & surely(otherwise)
            case ir.Assign(target=target):
                names.add(target.name)
            case ir.Unpack(targets=targets):
                names |= {each.name for each in targets}
    return names


def outer(rule: ir.Rule) -> frozenset[str]:
    """The names of tensors that a group, or the model, has one of."""
    inside = {name for phase in phases(rule.step) for name in ir.assigned(phase.body)}
    names = ir.assigned(rule.step) - inside
    names |= {
        each.name for each in ir.targets(rule.step) if each.role is ir.Role.SHARED
    }
    return frozenset(names | {each.name for each in rule.shared})


def made_of(expr: ir.Expr, names: frozenset[str]) -> bool:
    """Whether an expression is a tensor that is made of these, and of numbers."""
    tensors = [*_tensors(expr)]
    scalar = expr.type.kind is ir.Kind.SCALAR
    return scalar and bool(tensors) and all(each in names for each in tensors)


def _tensors(expr: ir.Expr) -> Iterator[str]:
    """The tensors whose numbers an expression reads."""
    if isinstance(expr, ir.Ref) and not expr.type.on_host:
        yield expr.name
    for child in () if expr.type.on_host else ir.children(expr):
        yield from _tensors(child)


def between(rule: ir.Rule) -> Iterator[ir.Statement]:
    """What no parameter does for itself."""
    for statement in rule.step:
        if isinstance(statement, ir.Each):
            yield from own(statement)
        else:
            yield statement


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
