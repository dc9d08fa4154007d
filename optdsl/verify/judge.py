"""All checks over one optimizer, and where it has one, over its reference."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

from . import subject as subjects
from .checks import AGAINST, CHECKS, Check
from .checks.reference import against as compare
from .outcome import Outcome, failed, not_applicable, words
from .report import Report, Row
from .study import Studied, study
from .subject import NoSubject, Subject

Progress = Callable[[str, int, int], None]


def verify(
    subject: Subject | type[Optimizer] | str,
    against: Subject | type[Optimizer] | str | None = None,
    renamed: Mapping[str, str] | None = None,
    progress: Progress | None = None,
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

    Raises:
        OptdslError: the spec is wrong, or there is none.
        NoSubject: there is no such class, it needs more than parameters, or it steps with
            no parameter that is tried.
    """
    subject = _subject(subject)
    if against is None and subject.reference:
        reference = subjects.of_path(subject.reference)
    else:
        reference = None if against is None else _subject(against)
    with _undisturbed():
        return Report(subject.name, tuple(_rows(subject, reference, renamed or {}, progress)))


def _subject(given: Subject | type[Optimizer] | str) -> Subject:
    if isinstance(given, Subject):
        return given
    return subjects.of_text(given) if isinstance(given, str) else subjects.of_class(given)


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


def _rows(
    subject: Subject, reference: Subject | None, renamed: Mapping[str, str],
    progress: Progress | None,
) -> Iterator[Row]:  # fmt: skip
    count = len(CHECKS) + len(AGAINST)
    names = [each.name for each in CHECKS] + [*AGAINST.values()]

    def tell(at: int) -> None:
        if progress is not None:
            progress(names[at], at, count)

    tell(0)
    studied = study(subject)
    known = None if reference is None else study(reference)
    for at, check in enumerate(CHECKS):
        tell(at)
        outcome = _outcome(check, studied)
        if outcome.failed and check.of_the_rule and known is not None:
            outcome = _excused(outcome, check, known)
        yield Row(check.name, outcome.verdict, outcome.detail)
    for at, (flag, name) in enumerate(AGAINST.items()):
        tell(len(CHECKS) + at)
        if known is None:
            outcome = not_applicable("it names no reference")
        else:
            outcome = compare(studied, known, renamed, flag)
        yield Row(name, outcome.verdict, outcome.detail)


def _outcome(check: Check, studied: Studied) -> Outcome:
    try:
        return check.judge(studied)
    except Exception as error:
        refused = studied.subject.refuses(error)
        return not_applicable(words(error)) if refused else failed(words(error))


def _excused(outcome: Outcome, check: Check, reference: Studied) -> Outcome:
    """A rule is not at fault for what its reference does as well."""
    theirs = _outcome(check, reference)
    if not theirs.failed:
        return outcome
    return not_applicable(f"{reference.subject.name} does the same: {theirs.detail}")


__all__ = ["NoSubject", "verify"]
