"""The story: text, syntax, ir, lowered ir, Python.

    text --parse--> tree --check--> checked --lower--> lowered --emit--> python

Where a spec uses modifiers, they are woven into its text, which is parsed again; no stage
behind this knows of them.

A target may know less of a rule on the host than the loop does: check and lower run for
each of them. The Python of all is one file.

Each stage is a function of the one before and of nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from . import ir, syntax, vocabulary
from .check import CAPTURABLE, DIFFERENTIABLE, FOREACH, check
from .diagnostics import Diagnostic, InternalError, OptdslError
from .emit import emit
from .emit.complex import means_pairs
from .kernels import Refusal, program
from .parse import parse
from .passes import defer, distinct, flatten, lower
from .source import Source
from .use import alone, is_modifier, used


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


def build(source: Source, use: Sequence[str] = ()) -> Artifacts:
    """All stages of a spec, with the modifiers that are used beside its own.

    Raises:
        OptdslError: the spec is wrong; it says everything that is.
    """
    tree = _stage(parse, source)
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
    kernels, no_kernels = None, ""
    try:
        kernels = program(replace(many, pairs=pairs))
    except Refusal as refusal:
        no_kernels = str(refusal)
    return ir.Targets(
        *distinct(rules), why_not=why_not, kernels=kernels, no_kernels=no_kernels
    )


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
