"""Calls of built-in functions and of the spec's own defs."""

from collections.abc import Callable

from .. import ir, syntax, vocabulary
from ..diagnostics import Label, did_you_mean
from .again import check_evaluation, refuse_evaluation
from .kinds import broadcast, select, unknown
from .memories import check_initial
from .names import NOT_HERE
from .over import check_over
from .randoms import check_draw
from .scope import Scope
from .shapes import check_layout, check_parts, refuse_parts
from .whole import check_whole

DEEPEST_CALLS = 20

Check = Callable[[syntax.Expression, Scope], ir.Expr]


def check_call(call: syntax.Call, scope: Scope, check: Check) -> ir.Expr:
    name = call.function.text
    arguments = tuple(check(each, scope) for each in call.arguments)
    if name in scope.functions:
        return _invoke(call, arguments, scope)
    if name not in vocabulary.FUNCTIONS:
        return _no_function(call, scope)
    function = vocabulary.FUNCTIONS[name]
    if name in vocabulary.EXTREMES and len(arguments) == 1:
        function = vocabulary.EXTREMES[name]
    if not _fits(call, function, scope):
        return unknown(call.span)
    if any(each.type.unknown for each in arguments):
        return unknown(call.span)
    match function.group:
        case "reduction" if any(each.name.text == "over" for each in call.keywords):
            return check_over(call, function, arguments, scope)
        case "reduction":
            return _reduction(call, function, arguments, scope)
        case "shape":
            return _shape(call, arguments, scope)
        case "length":
            return _length(call, arguments, scope)
        case "layout" | "made":
            return check_layout(call, function, arguments, scope)
        case "parts":
            return refuse_parts(call, function, scope)
        case "created":
            return _created(call, arguments, scope)
        case "asked":
            return _asked(call, arguments, scope)
        case "remembered":
            return check_initial(call, *arguments, scope)
        case "largest":
            return _largest(call, *arguments, scope)
        case "drawn":
            return check_draw(call, *arguments, scope)
        case "evaluated":
            return refuse_evaluation(call, scope)
        case "item" | "as_tensor" | "viewed":
            return _moved(call, function, arguments, scope)
        case _:
            return _elementwise(call, function, arguments, scope)


def check_parts_of(call: syntax.Call, scope: Scope, check: Check) -> ir.Expr | None:
    """A call that gives several tensors; None, where this is none."""
    function = vocabulary.FUNCTIONS.get(call.function.text)
    if function is None or function.group != "parts":
        return None
    if not _fits(call, function, scope):
        return unknown(call.span)
    arguments = tuple(check(each, scope) for each in call.arguments)
    if any(each.type.unknown for each in arguments):
        return unknown(call.span)
    return check_parts(call, function, arguments, scope)


def check_gradient(call: syntax.Call, scope: Scope, check: Check) -> ir.Expr:
    """The gradient at another place, where it can be taken."""
    if not _fits(call, vocabulary.FUNCTIONS[call.function.text], scope):
        return unknown(call.span)
    x = check(call.arguments[0], scope)
    return unknown(call.span) if x.type.unknown else check_evaluation(call, x, scope)


def _no_function(call: syntax.Call, scope: Scope) -> ir.Expr:
    name = call.function.text
    if name in scope.refused:
        return unknown(call.span)
    hint = ""
    if name in vocabulary.SYNONYMS:
        hint = f"here it is called `{vocabulary.SYNONYMS[name]}`"
    elif name in scope.hypers or name in scope.states or name in scope.locals:
        hint = "this is a value; write `*` for a product"
        scope.misspelled.append(name)
    else:
        hint = did_you_mean(name, [*vocabulary.FUNCTIONS, *scope.functions])
    scope.report("E0204", f"there is no function `{name}`", call.function.span, hint)
    return unknown(call.span)


def _fits(call: syntax.Call, function: vocabulary.Function, scope: Scope) -> bool:
    wanted, given = len(function.arguments), len(call.arguments)
    if not wanted - function.optional <= given <= wanted:
        spelled = f"{function.name}({', '.join(function.arguments)})"
        title = f"`{spelled}` is called with {given} argument{'s' * (given != 1)}"
        scope.report("E0402", title, call.span)
        return False
    seen = set()
    for each in call.keywords:
        name = each.name.text
        if name in seen:
            scope.report("E0402", f"the option `{name}` is given twice", each.name.span)
            return False
        seen.add(name)
        if name in function.keywords:
            continue
        if name == "over" and function.group == "reduction":
            continue
        hint = (
            "did you mean `dim`?"
            if name == "axis"
            else did_you_mean(name, function.keywords)
        )
        title = f"`{function.name}` has no option `{name}`"
        scope.report("E0402", title, each.name.span, hint)
        return False
    return True


def _takes(
    element: str, argument: ir.Expr, name: str, scope: Scope, host: bool = True
) -> bool:
    """Whether an argument is of an element, and no host scalar where that cannot be."""
    type_ = argument.type
    if type_.element == element and not type_.optional and (host or not type_.on_host):
        return True
    hint = "it may be none; ask `!= none` first" if type_.optional else ""
    if not host and type_.on_host:
        hint = "expected a tensor"
    elif type_.element == "flag" and element == "number":
        chosen = "1 if flag else 0" if type_.on_host else "where(flags, 1, 0)"
        hint = f"a flag is no number; choose one: `{chosen}`"
    title = f"`{name}` cannot take a {type_}"
    scope.report("E0404", title, argument.span, hint)
    return False


def _elementwise(
    call: syntax.Call, function: vocabulary.Function, arguments: tuple, scope: Scope
) -> ir.Expr:
    name = function.name
    if name == "where":
        if not _takes("flag", arguments[0], name, scope):
            return unknown(call.span)
        if arguments[0].type.on_host:
            title = "`where` chooses by a tensor"
            help = "`a if condition else b` chooses by a host scalar"
            scope.report("E0404", title, arguments[0].span, help=help)
            return unknown(call.span)
        return select(*arguments, call.span, scope)
    if not all(_takes("number", each, name, scope) for each in arguments):
        return unknown(call.span)
    element = "flag" if function.group == "compared" else "number"
    type_ = broadcast(list(arguments), call.span, scope, element)
    if type_ is None:
        return unknown(call.span)
    if type_.on_host:
        return _on_host(call, function, arguments, type_, scope)
    if name == "lerp" and arguments[0].type.on_host and arguments[1].type.on_host:
        scope.report(
            "E0404", "`lerp` needs a tensor to start from or to end at", call.span
        )
        return unknown(call.span)
    if name == "clamp" and not (
        arguments[1].type.on_host and arguments[2].type.on_host
    ):
        help = "`max(x, low)` and `min(x, high)` take tensors"
        scope.report(
            "E0404", "the limits of `clamp` are host scalars", call.span, help=help
        )
        return unknown(call.span)
    return ir.Call(name, arguments, type_, call.span)


def _on_host(
    call: syntax.Call,
    function: vocabulary.Function,
    arguments: tuple,
    type_: ir.Type,
    scope: Scope,
) -> ir.Expr:
    """The same for numbers, in the operators of Python."""

    def number(text: str) -> ir.Const:
        return ir.Const(text, ir.NUMBER, call.span)

    def binary(operator: str, left: ir.Expr, right: ir.Expr) -> ir.Binary:
        return ir.Binary(operator, left, right, ir.NUMBER, call.span)

    match function.name, arguments:
        case "rsqrt", (x,):
            return binary("**", x, ir.Unary("-", number("0.5"), ir.NUMBER, call.span))
        case "square", (x,):
            return binary("**", x, number("2"))
        case "reciprocal", (x,):
            return binary("/", number("1"), x)
        case "pow", (x, exponent):
            return binary("**", x, exponent)
        case "lerp", (start, end, weight):
            return binary("+", start, binary("*", weight, binary("-", end, start)))
        case "clamp", (x, low, high):
            inner = ir.Call("max", (x, low), ir.NUMBER, call.span)
            return ir.Call("min", (inner, high), ir.NUMBER, call.span)
    if function.host:
        return ir.Call(function.name, arguments, type_, call.span)
    scope.report(
        "E0404", f"`{function.name}` takes tensors", call.span, "this is a number"
    )
    return unknown(call.span)


def _reduction(
    call: syntax.Call, function: vocabulary.Function, arguments: tuple, scope: Scope
) -> ir.Expr:
    name = function.name
    element = "flag" if name in ("any", "all") else "number"
    if not all(_takes(element, each, name, scope, host=False) for each in arguments):
        return unknown(call.span)
    axes = keepdim = None
    for each in call.keywords:
        if each.name.text == "dim":
            axes = _axes(each.value, scope)
            if axes is None:
                return unknown(call.span)
        elif isinstance(each.value, syntax.Constant) and each.value.word != "none":
            keepdim = each.value.word == "true"
        else:
            scope.report("E0404", "`keepdim` is true or false", each.value.span)
            return unknown(call.span)
    if keepdim is not None and axes is None:
        scope.report("E0402", "`keepdim` needs `dim`", call.span)
        return unknown(call.span)
    whole = broadcast(list(arguments), call.span, scope, element)
    if whole is None:
        return unknown(call.span)
    type_ = ir.Type(ir.Kind.SCALAR, element)
    if axes is not None:
        if whole.kind is ir.Kind.SCALAR:
            scope.report("E0404", "a tensor scalar has no axes", call.span)
            return unknown(call.span)
        shape = whole.shape.reduced(axes, bool(keepdim))
        type_ = ir.Type(ir.Kind.TENSOR, element, shape)
    return ir.Call(name, arguments, type_, call.span, axes, bool(keepdim))


def _axes(expr: syntax.Expression, scope: Scope) -> tuple[int, ...] | None:
    axes = []
    for item in expr.items if isinstance(expr, syntax.Tuple) else (expr,):
        negative = isinstance(item, syntax.Unary) and item.operator == "-"
        number = item.operand if negative else item
        written = number.text if isinstance(number, syntax.Number) else ""
        if not written.isdigit() or len(written) > 2:
            hint = "an axis is a whole number, or several in brackets: `dim=(-2, -1)`"
            scope.report(
                "E0404", "an axis is known when the spec is read", item.span, hint
            )
            return None
        axes.append(-int(written) if negative else int(written))
    if len(set(axes)) < len(axes):
        scope.report("E0404", "an axis is named twice", expr.span)
        return None
    return tuple(axes)


def _shape(call: syntax.Call, arguments: tuple, scope: Scope) -> ir.Expr:
    name = call.function.text
    if arguments[0].type.kind is not ir.Kind.TENSOR:
        _takes("tensor", arguments[0], name, scope, host=False)
        return unknown(call.span)
    if name != "size":
        return ir.Call(name, arguments, ir.NUMBER, call.span)
    if not is_literal(call.arguments[1]):
        good = check_whole(arguments[1], scope, "axis")
        call_ = ir.Call(name, arguments, ir.NUMBER, call.span)
        return call_ if good else unknown(call.span)
    axes = _axes(call.arguments[1], scope)
    if axes is None or len(axes) != 1:
        return unknown(call.span)
    return ir.Call(name, arguments[:1], ir.NUMBER, call.span, axes)


def _largest(call: syntax.Call, x: ir.Expr, k: ir.Expr, scope: Scope) -> ir.Expr:
    name = call.function.text
    if not _takes("number", x, name, scope, host=False):
        return unknown(call.span)
    if x.type.kind is not ir.Kind.TENSOR:
        scope.report("E0404", f"`{name}` takes a tensor", x.span)
        return unknown(call.span)
    if not check_whole(k, scope, "number of entries"):
        return unknown(call.span)
    if isinstance(k, ir.Unary):
        scope.report("E0404", "a number of entries is at least 0", k.span)
        return unknown(call.span)
    type_ = ir.Type(ir.Kind.TENSOR, "flag", x.type.shape)
    return ir.Call(name, (x, k), type_, call.span)


def is_literal(expr: syntax.Expression) -> bool:
    """Whether a number stands there as it is."""
    negative = isinstance(expr, syntax.Unary) and expr.operator == "-"
    return isinstance(expr.operand if negative else expr, syntax.Number)


def _length(call: syntax.Call, arguments: tuple, scope: Scope) -> ir.Expr:
    (given,) = arguments
    if given.type.element != "tuple":
        counted = given.type.kind is ir.Kind.TENSOR
        help = "`numel(x)` counts the numbers of a tensor" if counted else ""
        title = f"`len` cannot take a {given.type}"
        scope.report("E0404", title, given.span, "expected a tuple", help=help)
        return unknown(call.span)
    return ir.Call("len", arguments, ir.NUMBER, call.span)


def _asked(call: syntax.Call, arguments: tuple, scope: Scope) -> ir.Expr:
    name, (asked,) = call.function.text, arguments
    if scope.place not in ("require", "sparse"):
        hint = "only `require` and `sparse_grads when` ask for it"
        scope.report("E0306", f"`{name}` cannot be called here", call.span, hint)
        return unknown(call.span)
    if name == "is_tensor":
        good = asked.type.on_host and asked.type.element == "number"
        hint = "expected a hyper, or an item of one"
    else:
        good = asked.type.kind is ir.Kind.TENSOR
        hint = "expected `p`"
    if not good:
        title = f"`{name}` cannot take a {asked.type}"
        scope.report("E0404", title, asked.span, hint)
        return unknown(call.span)
    return ir.Call(name, arguments, ir.FLAG, call.span)


def _moved(
    call: syntax.Call, function: vocabulary.Function, arguments: tuple, scope: Scope
) -> ir.Expr:
    """A number from a tensor scalar, a tensor scalar from a number, or a tensor in
    another layout or precision.
    """
    (given,), name = arguments, function.name
    if name == "item" and scope.place in ("require", "when", "sparse"):
        hint = "what a tensor holds is known in the step alone"
        scope.report("E0306", "`item` cannot be called here", call.span, hint)
        return unknown(call.span)
    if not _takes("number", given, name, scope, host=name == "as_tensor"):
        return unknown(call.span)
    kind = given.type.kind
    if name == "item":
        if kind is not ir.Kind.SCALAR:
            help = "reduce it first, as `norm(x)` does"
            scope.report("E0404", "`item` takes a tensor scalar", given.span, help=help)
            return unknown(call.span)
        on_device = scope.mode.items_on_device and scope.place in ("step", "def")
        on_device = on_device or scope.mode.counts_on_device
        return given if on_device else ir.Call(name, arguments, ir.NUMBER, call.span)
    if name == "as_tensor":
        if kind is not ir.Kind.HOST:
            return given
        return ir.Call(name, arguments, ir.SCALAR, call.span)
    if kind is not ir.Kind.TENSOR:
        scope.report("E0404", f"`{name}` takes a tensor", given.span)
        return unknown(call.span)
    shape = ir.ANY_SHAPE if name == "transpose" else given.type.shape
    type_ = ir.Type(ir.Kind.TENSOR, "number", shape)
    return ir.Call(name, arguments, type_, call.span)


def _created(call: syntax.Call, arguments: tuple, scope: Scope) -> ir.Expr:
    name = call.function.text
    if arguments[0].type.on_host:
        _takes("tensor", arguments[0], name, scope, host=False)
        return unknown(call.span)
    if len(arguments) == 2 and arguments[1].type != ir.NUMBER:
        scope.report(
            "E0404", "the value of `full_like` is a host scalar", arguments[1].span
        )
        return unknown(call.span)
    type_ = ir.Type(arguments[0].type.kind, "number", arguments[0].type.shape)
    return ir.Call(name, arguments, type_, call.span)


def _invoke(call: syntax.Call, arguments: tuple, scope: Scope) -> ir.Expr:
    function = scope.functions[call.function.text]
    wanted, given = len(function.parameters), len(arguments)
    if scope.place in ("default", "require", "sparse"):
        title = f"the def `{function.name.text}` cannot be called here"
        scope.report("E0306", title, call.span, NOT_HERE[scope.place])
        return unknown(call.span)
    if call.keywords:
        scope.report(
            "E0402", "the arguments of a def have no names", call.keywords[0].span
        )
        return unknown(call.span)
    if given != wanted:
        other = Label(function.name.span, f"takes {wanted}")
        title = f"`{function.name.text}` is called with {given} argument{'s' * (given != 1)}"
        scope.report("E0402", title, call.span, others=(other,))
        return unknown(call.span)
    if any(each.type.unknown for each in arguments):
        return unknown(call.span)
    if function.name.text in scope.calling:
        title = f"`{function.name.text}` calls itself"
        scope.report("E0308", title, call.function.span)
        return unknown(call.span)
    if len(scope.calling) >= DEEPEST_CALLS:
        title = f"defs call each other more than {DEEPEST_CALLS} levels deep"
        scope.report("E0109", title, call.function.span)
        return unknown(call.span)
    types = tuple(each.type for each in arguments)
    made = scope.instantiate(function, types, scope)
    if made.type.unknown:
        return unknown(call.span)
    for parameter, argument in zip(function.parameters, arguments, strict=True):
        if parameter.text in scope.counts.get((function.name.text, types), ()):
            check_whole(argument, scope)
    return ir.Invoke(made.name, arguments, made.type, call.span)
