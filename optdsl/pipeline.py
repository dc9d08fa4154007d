"""The story: text, syntax, ir, lowered ir, Python.

    text --parse--> tree --check--> checked --lower--> lowered --emit--> python

Where a spec uses modifiers, they are woven into its text, which is parsed again; no stage
behind this knows of them.

A target may know less of a rule on the host than the loop does: check and lower run for
each of them. The Python of all is one file.

Each stage is a function of the one before and of nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from . import ir, syntax, vocabulary
from .check import CAPTURABLE, DIFFERENTIABLE, FOREACH, check, check_route
from .diagnostics import Diagnostic, InternalError, Label, OptdslError
from .emit import emit, emit_route
from .emit.complex import means_pairs
from .ir.kernels import Program, Turns
from .kernels import Refusal, program, turns
from .parse import parse
from .passes import defer, distinct, flatten, lower
from .route import check_outline, clashes, is_routed, looked_up
from .source import Source
from .use import alone, check_settings, is_modifier, used, with_defaults


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Every stage of one spec, and what is doubtful about it. The source is the spec with
    the modifiers that it uses.
    """

    source: Source
    tree: syntax.Spec
    checked: ir.Rule
    lowered: ir.Targets
    python: str
    warnings: tuple[Diagnostic, ...]

    @property
    def name(self) -> str:
        """What the class is called."""
        return self.checked.name


@dataclass(frozen=True, slots=True)
class Routed:
    """Every stage of a spec that chooses among rules, and the stages of these."""

    source: Source
    tree: syntax.Spec
    route: ir.Route
    rules: Mapping[str, Artifacts]
    python: str
    warnings: tuple[Diagnostic, ...]

    @property
    def name(self) -> str:
        return self.route.name


def build(
    source: Source,
    use: Sequence[str] = (),
    rules: Sequence[tuple[str, Source]] = (),
) -> Artifacts | Routed:
    """All stages of a spec, with the modifiers that are used beside its own; where it
    chooses among rules, those that are given are not looked for.

    Raises:
        OptdslError: the spec is wrong; it says everything that is.
    """
    tree = _stage(parse, source)
    if is_routed(tree):
        return _stage(_routed, tree, source, use, rules)
    return _built(tree, source, _stage(used, tree, source, use))


def build_any(source: Source, use: Sequence[str] = ()) -> Artifacts:
    """The same; of a modifier, all stages of the plainest rule that uses it."""
    tree = _stage(parse, source)
    if use or not is_modifier(tree):
        return build(source, use)
    return _built(tree, source, _stage(alone, tree, source))


def _built(tree: syntax.Spec, written: Source, source: Source) -> Artifacts:
    if source is not written:
        tree = _stage(parse, source)
    checked, warnings = _stage(check, tree, source)
    lowered = _stage(_targets, tree, checked, source)
    return Artifacts(source, tree, checked, lowered, _stage(emit, lowered), warnings)


def _routed(
    tree: syntax.Spec,
    source: Source,
    use: Sequence[str],
    given: Sequence[tuple[str, Source]],
) -> Routed:
    """A spec that chooses among rules, and the stages of each of them."""
    check_outline(tree, source, use)
    (route,) = tree.of(syntax.Route)
    conditions, mistakes = check_route(route, source)
    rules: dict[str, Artifacts] = {}
    settings: list[tuple[ir.Hyper, ...]] = []
    try:
        chosen = looked_up(route, source, dict(given))
    except OptdslError as error:
        raise OptdslError([*mistakes, *error.diagnostics]) from None
    for each in chosen:
        try:
            of_rule = used(each.tree, each.source)
            rules[each.name] = _built(each.tree, each.source, of_rule)
            mistakes += _anew(rules[each.name].checked, each.case, source)
        except OptdslError as error:
            mistakes += error.diagnostics
    for case in route.cases:
        try:
            if case.rule.text in rules:
                settings.append(_set(rules[case.rule.text], case, source))
        except OptdslError as error:
            mistakes += error.diagnostics
    mistakes += clashes(
        route, {name: each.checked for name, each in rules.items()}, source
    )
    if mistakes:
        raise OptdslError(mistakes)
    lines = tuple(
        ir.Line(case.rule.text, condition, hypers, case.span)
        for case, condition, hypers in zip(
            route.cases, conditions, settings, strict=True
        )
    )
    meant = ir.Route(tree.of(syntax.Header)[0].name.text, tree.doc, lines, source)
    lowered = {name: each.lowered for name, each in rules.items()}
    warnings = tuple(each for rule in rules.values() for each in rule.warnings)
    return Routed(
        source, tree, meant, rules, _stage(emit_route, meant, lowered), warnings
    )


def _anew(rule: ir.Rule, case: syntax.Case, source: Source) -> list[Diagnostic]:
    """The mistake of a rule that moves parameters which are not its own."""
    if not rule.evaluates:
        return []
    title = f"`{case.rule.text}` takes the gradient anew"
    help = "the closure is of the whole model, a rule of a route has a part of it"
    return [Diagnostic("E0215", title, source, Label(case.rule.span), help=help)]


def _set(rule: Artifacts, case: syntax.Case, source: Source) -> tuple[ir.Hyper, ...]:
    """The hypers that a line of a route sets, with their new defaults."""
    check_settings(rule.tree, case.settings, case.rule, source)
    changed = with_defaults(rule.tree, rule.source, case.settings, source)
    if changed is rule.source:
        return ()
    checked, _ = check(parse(changed), changed)
    names = [each.name.text for each in case.settings]
    return tuple(each for each in checked.hypers if each.name in names)


def _targets(tree: syntax.Spec, checked: ir.Rule, source: Source) -> ir.Targets:
    """The rule lowered for each target. A spec that speaks of `capturable` has to be
    so; another one may do without.

    Raises:
        OptdslError: what the spec says for one target is wrong.
    """
    asked = {each.text for each in syntax.walk(tree) if isinstance(each, syntax.Name)}
    called = {
        each.function.text
        for each in syntax.walk(tree)
        if isinstance(each, syntax.Call)
    }
    many, pure = checked, checked
    if "item" in called or asked & {"capturable", "differentiable"}:
        many, pure = (
            check(tree, source, mode)[0] for mode in (FOREACH, DIFFERENTIABLE)
        )
    captured, why_not = checked, ""
    if checked.counted == "int":
        captured, why_not = None, "its step count is a plain number"
    elif checked.random:
        captured, why_not = None, "it draws random numbers"
    elif checked.reads_loss:
        captured, why_not = None, "its step reads the loss"
    elif checked.evaluates:
        captured, why_not = None, "its step takes the gradient anew"
    elif any(map(ir.counts, checked.pre_steps)):
        captured, why_not = None, "its hooks count their runs"
    elif waits := sorted(called & vocabulary.OF_MATRICES):
        captured, why_not = None, f"`{waits[0]}` waits for what the device computes"
    elif "item" in called or asked & {"t", "capturable"} or _reads_scalars(checked):
        try:
            captured = check(tree, source, CAPTURABLE)[0]
        except OptdslError as error:
            if "capturable" in asked:
                raise
            first = error.diagnostics[0]
            where = f"line {first.line}"
            if first.file != source.name:
                where += f" of {PurePath(first.file).name}"
            captured, why_not = None, f"{first.message} ({where})"
    rules = [
        lower(checked),
        flatten(lower(defer(many))),
        lower(pure, in_place=False),
    ]
    if captured:
        alone = lower(captured)
        rules += [
            alone,
            flatten(alone, captured=True),
            lower(captured, in_place=False),
        ]
    pairs = all(map(means_pairs, rules))
    rules = [replace(each, pairs=pairs) for each in rules]
    kernels, no_kernels = _kernels(replace(many, pairs=pairs))
    of_turns = kernels.parts if isinstance(kernels, Turns) else ()
    between = [flatten(lower(defer(x))) for x in of_turns if isinstance(x, ir.Rule)]
    rules = distinct([*rules, *between])
    if between:
        lowered = iter(rules[-len(between) :])
        parts = (next(lowered) if isinstance(x, ir.Rule) else x for x in of_turns)
        kernels = replace(kernels, parts=tuple(parts))
    rules = rules[: len(rules) - len(between)]
    return ir.Targets(*rules, why_not=why_not, kernels=kernels, no_kernels=no_kernels)


def _kernels(rule: ir.Rule) -> tuple[Program | Turns | None, str]:
    """The kernels of a rule, or what it has that none carries."""
    reasons = []
    for each in (program, turns):
        try:
            return each(rule), ""
        except Refusal as refusal:
            reasons.append(str(refusal))
    return None, reasons[0]


def _reads_scalars(rule: ir.Rule) -> bool:
    return any(each.scalar for each in rule.states)


def _stage(run: Callable, *inputs: Any) -> Any:
    """A stage's result; what it raises beside a diagnostic is a bug of the compiler."""
    try:
        return run(*inputs)
    except (OptdslError, InternalError):
        raise
    except Exception as error:
        raise InternalError(run.__name__, repr(error)) from error


def compile_source(
    text: str, filename: str = "spec.opt", use: Sequence[str] = ()
) -> str:
    """The Python source of the optimizer that a spec describes.

    Args:
        text: the spec.
        filename: what messages and the header of the file call it.
        use: modifiers of the library, as for `load_optimizer`.

    Raises:
        OptdslError: the spec is wrong; it says everything that is.
    """
    return build(Source(filename, text), tuple(use)).python
