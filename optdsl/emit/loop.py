"""The loop: a module-level function of tensors and floats, one parameter at a time.

In: a lowered rule. Out: the lines of `_single_tensor_<rule>` and of the spec's defs, and
what the class has to collect and to hand over.
"""

from dataclasses import dataclass

from .. import ir
from .body import INDENT, lines
from .expr import Name
from .layout import fit
from .names import Names, plural, snake

MAXIMIZE = "maximize"
ANNOTATIONS = {"float": "float", "int": "int", "bool": "bool", "str": "str"}


@dataclass(frozen=True, slots=True)
class Column:
    """What the loop gets one of for each parameter: `items` is the list's name, `item`
    one of them, `value` what the collecting loop puts in.
    """

    item: str
    items: str
    annotation: str
    value: str


@dataclass(frozen=True, slots=True)
class Loop:
    """What the loop function of a rule looks like to its caller; `names` spells the
    names of the spec in both.
    """

    name: str
    columns: tuple[Column, ...]
    hypers: tuple[ir.Hyper, ...]
    names: Names


def reads_role(rule: ir.Rule, role: ir.Role) -> bool:
    """Whether the step reads `t` or `first`."""
    block = (*rule.prologue, *rule.step)
    return any(ref.role is role for each in block for ref in ir.reads(each))


def shape_of(rule: ir.Rule) -> Loop:
    names = Names(("self", "group", "state", "params", "grads", "closure", "loss"))
    columns = [
        Column(names.own("p"), "params", "list[Tensor]", "p"),
        Column(names.own("grad"), "grads", "list[Tensor]", "p.grad"),
    ]
    for state in rule.states:
        own = names.own(state.name)
        item = names.claim(f"{own}_state") if state.host else own
        value, annotation = f'state["{state.name}"]', "list[Tensor]"
        if state.when is not None:
            value, annotation = f'state.get("{state.name}")', "list[Tensor | None]"
        columns.append(Column(item, names.claim(plural(state.name)), annotation, value))
    if reads_role(rule, ir.Role.FIRST):
        first = names.own("first")
        columns.append(Column(first, names.claim("firsts"), "list[bool]", first))
    if rule.counted:
        step = names.claim("step")
        columns.append(
            Column(step, names.claim("steps"), "list[Tensor]", 'state["step"]')
        )
    used = {ref.name for each in (*rule.prologue, *rule.step) for ref in ir.reads(each)}
    hypers = tuple(each for each in rule.hypers if each.name in used)
    return Loop(f"_single_tensor_{snake(rule.name)}", tuple(columns), hypers, names)


def annotation(hyper: ir.Hyper) -> str:
    if hyper.annotation == "tuple":
        written = f"tuple[{', '.join(['float'] * hyper.type.length)}]"
    else:
        written = ANNOTATIONS[hyper.annotation]
    return f"{written} | None" if hyper.type.optional else written


def emit(rule: ir.Rule) -> list[str]:
    """The lines of the loop function."""
    loop = shape_of(rule)

    def name(ref: ir.Ref) -> str:
        return loop.names.own(ref.name)

    result = [f"def {loop.name}("]
    result += [f"    {each.items}: {each.annotation}," for each in loop.columns]
    result.append("    *,")
    result += [
        f"    {keyword(each, loop)}: {annotation(each)}," for each in loop.hypers
    ]
    result += [f"    {MAXIMIZE}: bool,", ") -> None:"]
    body = lines(rule.prologue, name, rule.source)
    if body:
        body.append("")
    targets = ", ".join(each.item for each in loop.columns)
    lists = ", ".join(each.items for each in loop.columns)
    body.append(f"for {targets} in zip({lists}, strict=True):")
    inner = [f"grad = grad if not {MAXIMIZE} else -grad"]
    inner += _as_real(rule, loop)
    inner += _host_work(rule, loop)
    written = lines(rule.step, name, rule.source)
    inner += ([""] if written[0].startswith("#") else []) + written
    inner += _host_results(rule, loop)
    body += [INDENT + line if line else "" for line in inner]
    result += [INDENT + line if line else "" for line in body]
    return [part for line in result for part in fit(line)]


def keyword(hyper: ir.Hyper, loop: Loop) -> str:
    """What the loop function calls a hyper."""
    return loop.names.own(hyper.name)


def _items(rule: ir.Rule, loop: Loop) -> list[tuple[ir.State, str]]:
    """Each state with the name of its tensor in the loop."""
    columns = loop.columns[2 : 2 + len(rule.states)]
    return [
        (state, each.item) for state, each in zip(rule.states, columns, strict=True)
    ]


def _as_real(rule: ir.Rule, loop: Loop) -> list[str]:
    """Complex parameters as pairs of reals, so that every function has a meaning."""
    if not takes_complex(rule):
        return []
    tensors = [(state, item) for state, item in _items(rule, loop) if not state.host]
    always = ["p", "grad", *(item for state, item in tensors if state.when is None)]
    joined = ", ".join(always)
    result = [
        "if torch.is_complex(p):",
        f"    {joined} = map(torch.view_as_real, ({joined}))",
    ]
    for state, item in tensors:
        if state.when is not None:
            result += [f"    if {item} is not None:"]
            result += [f"        {item} = torch.view_as_real({item})"]
    return result


def _host_work(rule: ir.Rule, loop: Loop) -> list[str]:
    """The states and the count that are read as Python numbers."""
    result = []
    for state, item in _items(rule, loop):
        if state.host:
            missing = f" if {item} is not None else None" if state.when else ""
            result.append(f"{loop.names.own(state.name)} = {item}.item(){missing}")
    if rule.counted:
        step = loop.columns[-1].item
        result.append(f"{step} += 1")
        if reads_role(rule, ir.Role.COUNT):
            result.append(f"t = {step}.item()")
    return result


def _host_results(rule: ir.Rule, loop: Loop) -> list[str]:
    result = []
    for state, item in _items(rule, loop):
        if state.host:
            fill = f"{item}.fill_({loop.names.own(state.name)})"
            result += (
                [f"if {item} is not None:", INDENT + fill] if state.when else [fill]
            )
    return result


def takes_complex(rule: ir.Rule) -> bool:
    """Whether the rule means the same for pairs of reals: it looks at no axis or shape,
    and its states start like the parameter or the gradient.
    """
    for block in (
        *ir.blocks(rule),
        tuple(ir.Return(each.initial, each.span) for each in rule.states),
    ):
        for statement in block:
            for node in ir.walk(statement):
                if isinstance(node, ir.Call) and node.function in (
                    "ndim",
                    "size",
                    "numel",
                ):
                    return False
                if isinstance(node, ir.Op) and any(
                    key == "dim" for key, _ in node.keywords
                ):
                    return False
    shapes = [each.when for each in rule.states if each.when is not None]
    if any(isinstance(node, ir.Call) for when in shapes for node in ir.walk(when)):
        return False
    return all(
        each.initial.type.on_host or starts_as_copy(each.initial)
        for each in rule.states
    )


def starts_as_copy(initial: ir.Expr) -> bool:
    """Whether a state starts as `p`, as `grad`, or as zeros like them."""
    if isinstance(initial, ir.Op) and initial.name == "zeros_like":
        initial = initial.arguments[0]
    return isinstance(initial, ir.Ref) and initial.role in (ir.Role.PARAM, ir.Role.GRAD)


def functions(rule: ir.Rule) -> list[str]:
    """The lines of the spec's defs, as functions that change nothing."""
    result: list[str] = []
    for function in rule.functions:
        names = Names()

        def name(ref: ir.Ref, names: Names = names) -> str:
            return names.own(ref.name)

        parameters = ", ".join(
            f"{name(each)}: {_annotated(each.type)}" for each in function.parameters
        )
        result += ["", ""]
        result += fit(
            f"def _{function.name}({parameters}) -> {_annotated(function.type)}:"
        )
        body = _equation(function, rule, name)
        result += [
            part for line in body for part in (fit(INDENT + line) if line else [""])
        ]
    return [*result, ""] if result else []


def _equation(function: ir.Function, rule: ir.Rule, name: Name) -> list[str]:
    """The body of a def; one that is a single expression is quoted with its name."""
    (*_, last) = function.body
    if rule.source.cut(last.span).startswith("return"):
        return lines(function.body, name, rule.source)
    equation = rule.source.cut(function.span).removeprefix("def ")
    return [f"# {equation}", *lines(function.body, name, rule.source, last.span)]


def _annotated(type_: ir.Type) -> str:
    if not type_.on_host:
        return "Tensor"
    written = {"flag": "bool", "text": "str", "tuple": "tuple[float, ...]"}
    return written.get(type_.element, "float") + (" | None" if type_.optional else "")
