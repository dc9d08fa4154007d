"""All checks over one optimizer, and where it has one, over its reference."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch.optim import Optimizer

from . import subject as subjects
from .checks import AGAINST, CHECKS, Check
from .checks.reference import against as compare
from .outcome import FAIL, PASS, Outcome, failed, not_applicable, words
from .report import Report, Row
from .study import Studied, study
from .subject import NoSubject, Subject

STEPS = "a parameter of some kind steps"
Progress = Callable[[str, int, int], None]


def verify(
    subject: Subject | type[Optimizer] | str,
    against: Subject | type[Optimizer] | str | None = None,
    renamed: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    use: Sequence[str] = (),
) -> Report:
    """Judge an optimizer.

    Args:
        subject: a class, the name of a rule of the library, a path of a `.opt` file, or
            `package.module:Class`.
        against: the optimizer that it has to equal; without it, the one that its spec
            names, if any.
        renamed: our name for each state that the reference calls otherwise.
        progress: called before each check with its name, its number and how many there
            are.
        use: modifiers, where the subject is a spec, as for `load_optimizer`.

    Returns:
        A row a check; one row alone where the optimizer steps with no parameter at all.

    Raises:
        OptdslError: the spec is wrong, or there is none.
        NoSubject: there is no such class, or it needs more than parameters; `against`
            is such a class, or steps with no parameter that is tried.
    """
    subject = _subject(subject, use)
    with _undisturbed():
        reference = _reference(subject, against)
        rows = _rows(subject, reference, renamed or {}, progress)
        return Report(subject.name, tuple(rows))


def _subject(
    given: Subject | type[Optimizer] | str, use: Sequence[str] = ()
) -> Subject:
    if isinstance(given, str):
        return subjects.of_text(given, use)
    if use:
        raise NoSubject("modifiers are for specs")
    return given if isinstance(given, Subject) else subjects.of_class(given)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Warnings of the optimizers are no findings; the caller's random numbers go on."""
    state = torch.get_rng_state()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_rng_state(state)


def _reference(
    subject: Subject, against: Subject | type[Optimizer] | str | None
) -> Studied | str:
    """The optimizer that the subject has to equal; or why there is none. Only one that
    was asked for has to be there.
    """
    if against is not None:
        reference = _subject(against)
        try:
            return _beside(subject, reference)
        except NoSubject as reason:
            raise NoSubject(f"{reference.name}: {reason}") from None
    if not subject.reference:
        return "it names no reference"
    return _of_path(subject, subject.reference)


def _of_path(subject: Subject, path: str) -> Studied | str:
    """The optimizer that a spec names; or why there is none."""
    try:
        return _beside(subject, subjects.of_path(path))
    except NoSubject as reason:
        return str(reason)


def _beside(subject: Subject, reference: Subject) -> Studied:
    """A reference that is called by hand where the subject is."""
    shared = (name for name in subject.by_hand if hasattr(reference.cls, name))
    return study(replace(reference, by_hand=tuple(shared)))


def _rows(
    subject: Subject, reference: Studied | str, renamed: Mapping[str, str],
    progress: Progress | None,
) -> Iterator[Row]:  # fmt: skip
    names = [STEPS, *(each.name for each in CHECKS), *AGAINST.values()]

    def tell(name: str) -> None:
        if progress is not None:
            progress(name, names.index(name), len(names))

    tell(STEPS)
    try:
        studied = study(subject)
    except NoSubject as reason:
        yield Row(STEPS, FAIL, str(reason))
        return
    yield Row(STEPS, PASS, _taken(studied))
    for check in CHECKS:
        tell(check.name)
        outcome = _outcome(studied, lambda check=check: check.judge(studied))
        if outcome.failed and check.of_the_rule:
            beneath = reference
            if subject.beneath and not isinstance(reference, Studied):
                beneath = _of_path(subject, subject.beneath)
            if isinstance(beneath, Studied):
                outcome = _excused(outcome, check, beneath)
        yield Row(check.name, outcome.verdict, outcome.detail)
    for flag, name in AGAINST.items():
        tell(name)
        if isinstance(reference, str):
            outcome = not_applicable(reference)
        else:
            outcome = _outcome(
                studied, lambda flag=flag: compare(studied, reference, renamed, flag)
            )
        yield Row(name, outcome.verdict, outcome.detail)


def _taken(studied: Studied) -> str:
    taken = [name for name, trial in studied.shapes.items() if trial.went]
    dtypes = [str(each)[6:] for each, trial in studied.dtypes.items() if trial.went]
    return f"{', '.join(taken)}; {', '.join(dtypes)}; gradients {studied.layout}"


def _outcome(studied: Studied, judge: Callable[[], Outcome]) -> Outcome:
    """What a check finds; an exception of the optimizer outside of any case is a finding
    as well.
    """
    try:
        return judge()
    except Exception as error:
        refused = studied.subject.refuses(error)
        return not_applicable(words(error)) if refused else failed(words(error))


def _excused(outcome: Outcome, check: Check, reference: Studied) -> Outcome:
    """A rule, with modifiers or without, is not at fault for what its reference does as
    well.
    """
    theirs = _outcome(reference, lambda: check.judge(reference))
    if not theirs.failed:
        return outcome
    return not_applicable(f"{reference.subject.name} does the same: {theirs.detail}")
