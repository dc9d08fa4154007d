"""Hooks as public methods: over all parameters of all groups, by hand as by the step."""

from collections.abc import Iterable, Iterator

from .. import ir, vocabulary
from ..stages import direct_parts, own, parts, read_first, runs, surely
from ..vocabulary import GRAD
from . import again
from .body import INDENT, lines, one_at_a_time
from .collect import made_early, without_update
from .expr import PRECEDENCE, entry, text
from .names import Names, plural
from .signature import option
from .sparse import refusal
from .update import entries

TRAIN = "train_mode"
IN_MODE = f"""        if not all(group["{TRAIN}"] for group in self.param_groups):
            raise RuntimeError("a step is for train mode: call train() before it")
"""

_WHEN = {
    "pre": "Runs by itself before every step; a call by hand does the same once.",
    "post": "Runs by itself after every step; a call by hand does the same once.",
    "call": "Runs when it is called, over all parameters with {}.",
    "train": "Turn the parameters into those of training, if they are not yet.",
    "eval": "Turn the parameters into those to evaluate, if they are not yet.",
}

_AGAIN = "Runs by itself before every step; a call by hand evaluates the closure."


def hook_methods(rule: ir.Rule) -> list[str]:
    """The lines of all hook methods."""
    result: list[str] = []
    for hook in rule.pre_steps:
        result += ["", *_method(hook, rule, "pre")]
    for hook in rule.post_steps:
        result += ["", *_method(hook, rule, "post")]
    for hook in rule.on_calls:
        result += ["", *_method(hook, rule, "call")]
    for hook in rule.modes:
        result += ["", *_method(hook, rule, hook.name)]
    return result


def _method(hook: ir.Hook, rule: ir.Rule, when: str) -> list[str]:
    stateful = {ir.Role.STATE, ir.Role.COUNT} & {
        ref.role for each in hook.body for ref in ir.mentions(each)
    }
    what = "a gradient and a state" if stateful else "a gradient"
    said = _AGAIN if again.takes(hook) else _WHEN[when]
    doc = [f'"""{said.format(what)}"""']
    if ir.skips(hook):
        doc = [doc[0][:-3], "", "Returns:", "    Whether the step goes on.", '"""']
    body = _Method(hook, rule).body()
    in_mode = hook in rule.modes
    result = "bool" if ir.skips(hook) else "None"
    return [
        "@torch.no_grad()" if in_mode else "@_use_grad_for_differentiable",
        f"def {hook.name}({again.parameters(hook)}) -> {result}:",
        *_indented([*doc, *body]),
    ]


class _Method:
    """Prints one hook: a loop over all groups and parameters for each of its phases."""

    def __init__(self, hook: ir.Hook, rule: ir.Rule) -> None:
        self.hook = hook
        self.mode = hook.name if hook in rule.modes else None
        self.rule = rule
        self.names = Names(("self", "group", "param", "state"))
        self.lists = {name: self.names.claim(plural(name)) for name in parts(hook.body)}
        self.plain = one_at_a_time(self.name)
        self.marks: list[str] = []
        self.made: set[str] = set()

    def body(self) -> list[str]:
        block = self.hook.body
        if not any(isinstance(each, ir.Each) for each in block):
            whole = ir.Each("param", block, self.hook.span)
            block = (ir.Each("group", (whole,), self.hook.span),)
        outside = [each for each in block if not isinstance(each, ir.Each)]
        self.of_model = {ref.name for each in outside for ref in ir.reads(each)}
        wide = [each for each in self.rule.of_group if each.name in self.of_model]
        counts = ir.counts(self.hook)
        result = ["group = self.param_groups[0]"] if wide or counts else []
        result += self._hypers(wide)
        result += self._counted() if counts else []
        if ir.skips(self.hook):
            return [*result, *self._around(block, "return True"), "return True"]
        return result + self._around(block, "return")

    def _counted(self) -> list[str]:
        """The lines that count this run."""
        calls = self.names.own(vocabulary.CALLS)
        key = vocabulary.calls_key(self.hook.name)
        return [
            f'{calls} = group["{key}"] + 1',
            "for group in self.param_groups:",
            f'    group["{key}"] = {calls}',
        ]

    def name(self, ref: ir.Ref) -> str:
        if ref.name in self.lists:
            return self.lists[ref.name]
        asked = ref.role is ir.Role.STATE and ref.type.on_host
        return entry(self.names.own(ref.name) + ".item()" * asked, ref, self.name)

    def single(self, statement: ir.Statement) -> Iterator[str]:
        match statement:
            case ir.Assign(_, ir.Call(arguments=(place,)) as call) if ir.is_evaluation(
                call
            ):
                yield f"self.{again.METHOD}({self.name(place)}, {again.CLOSURE})"
            case ir.Assign(target, value) if target.name in self.lists:
                yield f"{self.lists[target.name]}.append({text(value, self.name)})"
            case ir.Skip():
                yield "return False"
            case _:
                yield from self.plain(statement)

    def _lines(self, block: ir.Block) -> list[str]:
        return lines(block, self.name, self.rule.source, self.single)

    def _hypers(self, hypers: Iterable[ir.Hyper]) -> list[str]:
        own = self.names.own
        return [f'{own(each.name)} = group["{each.name}"]' for each in hypers]

    def _around(self, block: ir.Block, leave: str) -> list[str]:
        """Phases and what stands between them; that is left out where no parameter has a
        gradient.
        """
        result: list[str] = []
        collected = direct_parts(block)
        for run in runs(block):
            if isinstance(run, tuple):
                result += ["", *self._lines(run)]
                continue
            fresh = [each for each in collected if each in ir.assigned((run,))]
            result += [f"{self.lists[each]} = []" for each in fresh]
            known = [self.lists[each] for each in fresh if each in _by_all(run)]
            unsure = bool(fresh) and not known
            if unsure:
                known.append(self.names.claim("met"))
                self.marks += known
                result.append(f"{known[0]} = False")
            result += self._group(run) if run.level == "group" else self._params(run)
            if unsure:
                self.marks.pop()
            for each in known[:1]:
                result += [f"if not {each}:", f"    {leave}"]
        return result

    def _group(self, phase: ir.Each) -> list[str]:
        read = {ref.name for ref in ir.mentions(phase)} - self.of_model
        body = self._hypers(each for each in self.rule.of_group if each.name in read)
        if self.mode is not None:
            body = [*_once(self.mode), *body]
        body += self._around(phase.body, "continue")
        return ["for group in self.param_groups:", *_indented(body)]

    def _params(self, phase: ir.Each) -> list[str]:
        refs = [*ir.mentions(phase)]
        roles, used = {ref.role for ref in refs}, {ref.name for ref in refs}
        if GRAD in surely(phase.body) and GRAD not in read_first(phase.body, set()):
            roles.discard(ir.Role.GRAD)
        inner = _begin(self.rule, self.names, roles, used, self.hook, self.made)
        inner += [f"{each} = True" for each in self.marks]
        inner += self._lines(phase.body)
        hands_on = self.hook in self.rule.pre_steps
        inner += _end(self.rule, phase.body, hands_on, bool(self.lists))
        return ['for param in group["params"]:', *_indented(inner)]


def _by_all(phase: ir.Each) -> set[str]:
    """The names that every parameter of a phase gives a value, whatever a group has."""
    names = surely(own(phase))
    inner = (each for each in phase.body if isinstance(each, ir.Each))
    return names.union(*map(_by_all, inner))


def _once(mode: str) -> list[str]:
    """The lines that leave a group which is in a mode already."""
    is_train = mode == "train"
    return [
        f'if {"" if is_train else "not "}group["{TRAIN}"]:',
        "    continue",
        f'group["{TRAIN}"] = {is_train}',
    ]


def _indented(body: list[str]) -> list[str]:
    return [INDENT + line if line else "" for line in body]


def _begin(
    rule: ir.Rule,
    names: Names,
    roles: set,
    used: set[str],
    hook: ir.Hook,
    made: set[str],
) -> list[str]:
    """The lines that give a phase of a hook what it reads of a parameter; `made` grows by
    the states that they make.
    """
    in_mode = hook in rule.modes
    before = hook in rule.pre_steps
    by_hand = in_mode or hook in rule.on_calls
    stateful = ir.Role.STATE in roles or ir.Role.COUNT in roles
    # A parameter has an entry once it has stepped, unless all of its states are optional.
    early = ir.early(rule)
    entered = rule.counted or any(
        state.when is None for state in rule.own if before or state not in early
    )
    missing = ["param.grad is None"] * (not in_mode)
    if stateful and entered and not before:
        missing.append(_never_updated(rule))
    result = [f"if {' or '.join(missing)}:", "    continue"] if missing else []
    real = rule.pairs
    as_real = "torch.view_as_real({0}) if torch.is_complex({0}) else {0}"
    makes = [each for each in early if before and each.name in used - made]
    if makes and rule.sparse is None:
        result += refusal(rule, "param.grad")
    if ir.Role.PARAM in roles:
        result.append(f"p = {as_real.format('param') if real else 'param'}")
    if ir.Role.GRAD in roles:
        asked = option(rule, "maximize")
        result.append(f"grad = param.grad if not {asked} else -param.grad")
        if real:
            result += [
                "if torch.is_complex(grad):",
                "    grad = torch.view_as_real(grad)",
            ]
    if stateful:
        result.append(
            f"state = self.state{'[param]' if entered else '.get(param, {})'}"
        )
    for state in rule.own:
        if state.name in used:
            own = names.own(state.name)
            if state.index is not None:
                result += _entries(state, own, names, real)
                continue
            if state in makes:
                result += made_early(state, rule, "param")
                made.add(state.name)
            value = (
                f'state["{state.name}"]'
                if state.when is None
                else f'state.get("{state.name}")'
            )
            if real and not state.scalar:
                there = f"{own} is not None and " * (state.when is not None)
                result.append(f"{own} = {value}")
                result.append(f"if {there}torch.is_complex({own}):")
                result.append(f"    {own} = torch.view_as_real({own})")
            else:
                result.append(f"{own} = {value}")
            if by_hand and state.when is not None:
                wanted = text(state.when, _of_group, PRECEDENCE["and"])
                result += [f"if {wanted} and {own} is None:", "    continue"]
    if ir.Role.COUNT in roles:
        read = ".item()" if rule.counted == "tensor" else ""
        result.append(f't = state["step"]{read}')
    return result


def _never_updated(rule: ir.Rule) -> str:
    """The condition that a parameter has no states but those of hooks before the step."""
    if not ir.early(rule):
        return "param not in self.state"
    return f"self.state.get(param, {{}}).keys() <= {without_update(rule)}"


def _of_group(ref: ir.Ref) -> str:
    """What a condition of a state reads, before the names of the hook are there."""
    match ref.role:
        case ir.Role.HYPER:
            return f'group["{ref.name}"]'
    return "param"


def _entries(state: ir.State, own: str, names: Names, real: bool) -> list[str]:
    """The lines that collect a list of states."""
    listed = entries(state, names.copy().claim(state.index.name))
    result = [f"{own} = {listed}"]
    if real:
        asked = "each is not None and torch.is_complex(each)"
        viewed = f"torch.view_as_real(each) if {asked} else each"
        result.append(f"{own} = [{viewed} for each in {own}]")
    return result


def _end(rule: ir.Rule, body: ir.Block, hands_on: bool, reduces: bool) -> list[str]:
    """The lines that hand a gradient on. A number that other parameters were reduced to
    may be more precise than this one, which where it has no axes would become so too.
    """
    result = []
    if "grad" in ir.assigned(body) and hands_on:
        if rule.pairs:
            result += [
                "if torch.is_complex(param):",
                "    grad = torch.view_as_complex(grad)",
            ]
        asked = option(rule, "maximize")
        given = f"grad if not {asked} else -grad"
        if reduces:
            given = f"({given}).to(param.grad.dtype)"
        result.append(f"param.grad = {given}")
    return result
