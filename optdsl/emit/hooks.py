"""Hooks as public methods: over all parameters of all groups, by hand as by the step."""

from collections.abc import Iterable, Iterator

from .. import ir, vocabulary
from ..stages import direct_parts, own, parts, runs, surely
from . import again
from .body import INDENT, lines, one_at_a_time
from .expr import entry, text
from .hook_params import begin, end
from .names import Names, plural

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
        self.names = Names(("self", "group", "param", "state", "fill"))
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
        inner = begin(self.rule, self.hook, phase.body, self.names, self.made)
        inner += [f"{each} = True" for each in self.marks]
        inner += self._lines(phase.body)
        if self.hook in self.rule.pre_steps:
            inner += end(self.rule, phase.body, bool(self.lists))
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
