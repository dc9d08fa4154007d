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
from .sparse import gathered, scattered

MAXIMIZE = "maximize"
_OF_MATRICES = frozenset({"matmul", "addmm", "mT", "bfloat16"})
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
    """What a function over the parameters looks like to its caller; `names` spells the
    names of the spec in both. `flags` are the options that the step reads.
    """

    name: str
    columns: tuple[Column, ...]
    hypers: tuple[ir.Hyper, ...]
    flags: tuple[str, ...]
    names: Names

    def spell(self, ref: ir.Ref) -> str:
        """What a reference is called; a state that is read as a number is asked for it."""
        if ref.role is ir.Role.COUNT and not ref.type.on_host:
            return self.columns[-1].item
        own = self.names.own(ref.name)
        asked = ref.role is ir.Role.STATE and ref.type.on_host
        return f"{own}.item()" if asked else own


def reads_role(targets: ir.Targets, role: ir.Role) -> bool:
    """Whether the step reads `t` or `first` in any target."""
    blocks = targets.blocks()
    return any(ref.role is role for each in blocks for one in each for ref in ir.reads(one))


def shape_of(
    rule: ir.Rule, targets: ir.Targets, kind: str = "single_tensor"
) -> Loop:
    """What the function of a kind looks like; all kinds of a rule take the same."""
    names = Names(("self", "group", "state", "params", "grads", "closure", "loss"))
    columns = [
        Column(names.own("p"), "params", "list[Tensor]", "p"),
        Column(names.own("grad"), "grads", "list[Tensor]", "p.grad"),
    ]
    for state in rule.states:
        own = names.own(state.name)
        value, annotation = f'state["{state.name}"]', "list[Tensor]"
        if state.when is not None:
            value, annotation = f'state.get("{state.name}")', "list[Tensor | None]"
        columns.append(Column(own, names.claim(plural(state.name)), annotation, value))
    if reads_role(targets, ir.Role.FIRST):
        first = names.own("first")
        columns.append(Column(first, names.claim("firsts"), "list[bool]", first))
    if rule.counted:
        kept_as_int = rule.counted == "int"
        step = names.own("t") if kept_as_int else names.claim("step")
        annotation = "list[int]" if kept_as_int else "list[Tensor]"
        columns.append(
            Column(step, names.claim("steps"), annotation, 'state["step"]')
        )
    read = [
        ref for block in targets.blocks() for each in block for ref in ir.reads(each)
    ]
    used = {ref.name for ref in read if ref.role is not ir.Role.FLAG}
    hypers = tuple(each for each in rule.hypers if each.name in used)
    flags = dict.fromkeys(ref.name for ref in read if ref.role is ir.Role.FLAG)
    name = f"_{kind}_{snake(rule.name)}"
    return Loop(name, tuple(columns), hypers, tuple(flags), names)


def annotation(hyper: ir.Hyper) -> str:
    if hyper.annotation == "tuple":
        items = (hyper.type.item(at) for at in range(hyper.type.length))
        written = ", ".join("float" + " | None" * each.optional for each in items)
        written = f"tuple[{written}]"
    else:
        written = ANNOTATIONS[hyper.annotation]
    return f"{written} | None" if hyper.type.optional else written


def emit(
    rule: ir.Rule, targets: ir.Targets, kind: str = "single_tensor"
) -> list[str]:
    """The lines of a function that runs the rule one parameter at a time."""
    loop = shape_of(rule, targets, kind)
    name = loop.spell
    result = [f"def {loop.name}("]
    result += [f"    {each.items}: {each.annotation}," for each in loop.columns]
    result.append("    *,")
    result += [
        f"    {keyword(each, loop)}: {annotation(each)}," for each in loop.hypers
    ]
    result += [f"    {each}: bool," for each in (*loop.flags, MAXIMIZE)]
    result.append(") -> None:")
    body = lines(rule.prologue, name, rule.source)
    if body:
        body.append("")
    targets = ", ".join(each.item for each in loop.columns)
    lists = ", ".join(each.items for each in loop.columns)
    body.append(f"for {targets} in zip({lists}, strict=True):")
    inner = [f"grad = grad if not {MAXIMIZE} else -grad"]
    inner += gathered(rule, ["p", *_tensors(rule, loop)])
    inner += _as_real(rule, loop)
    inner += _host_work(rule, loop)
    written = lines(rule.step, name, rule.source)
    inner += ([""] if written[0].startswith("#") else []) + written
    inner += scattered(rule)
    body += [INDENT + line if line else "" for line in inner]
    result += [INDENT + line if line else "" for line in body]
    return [part for line in result for part in fit(line)]


def keyword(hyper: ir.Hyper, loop: Loop) -> str:
    """What the loop function calls a hyper."""
    return loop.names.own(hyper.name)


def items(rule: ir.Rule, loop: Loop) -> list[tuple[ir.State, str]]:
    """Each state with the name of its tensor in the loop."""
    columns = loop.columns[2 : 2 + len(rule.states)]
    return [
        (state, each.item) for state, each in zip(rule.states, columns, strict=True)
    ]


def _tensors(rule: ir.Rule, loop: Loop) -> list[str]:
    return [item for state, item in items(rule, loop) if not state.scalar]


def _as_real(rule: ir.Rule, loop: Loop) -> list[str]:
    """Complex parameters as pairs of reals, so that every function has a meaning."""
    if not takes_complex(rule):
        return []
    tensors = [(state, item) for state, item in items(rule, loop) if not state.scalar]
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
    """The count goes up; it is read as a Python number where the rule does so."""
    if rule.counted != "tensor":
        return []
    step = loop.columns[-1].item
    block = (*rule.prologue, *rule.step)
    read = [ref for each in block for ref in ir.reads(each)]
    if any(ref.role is ir.Role.COUNT and ref.type.on_host for ref in read):
        return [f"{step} += 1", f"{loop.names.own('t')} = {step}.item()"]
    return [f"{step} += 1"]


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
                if isinstance(node, ir.Op) and (
                    node.name in _OF_MATRICES
                    or any(key == "dim" for key, _ in node.keywords)
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
