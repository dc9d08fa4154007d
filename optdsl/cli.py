"""The command line: compile, check, show, verify, bench, list, explain, cache.

Exit codes: 0, 1 where a spec is wrong, a file differs or an optimizer fails, 2 for wrong
usage.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from . import codes, resources
from .diagnostics import Diagnostic, OptdslError, did_you_mean, render
from .dump import dump
from .emit import DEVICES, WAYS, kernel_text, update_text
from .explain import coverage, in_latex
from .explain import explain as explain_rule
from .find import find, library_name, read
from .parse import parse
from .pipeline import Artifacts, Routed, build, build_any
from .write import Refused, check_target, write

_STYLES = {
    "error": {"fg": "red", "bold": True},
    "warning": {"fg": "yellow", "bold": True},
    "frame": {"fg": "blue", "bold": True},
    "caret": {"fg": "red", "bold": True},
    "other": {"fg": "blue", "bold": True},
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="optdsl")
def main() -> None:
    """Compile optimizers written as a paper writes them to torch.optim classes."""


def _print(diagnostics: Iterable[Diagnostic]) -> None:
    for each in diagnostics:
        click.echo(
            render(each, lambda text, style: click.style(text, **_STYLES[style])),
            err=True,
        )
        click.echo(err=True)


_using = click.option(
    "--use",
    "use",
    metavar="MODIFIER",
    multiple=True,
    help="Beside those that the spec uses; as `clip_value(max_value=0.5)`; may be repeated.",
)


def _build_all(
    specs: Iterable[str | Path],
    use: tuple[str, ...],
    make: Callable[..., Artifacts | Routed] = build,
) -> list[Artifacts | Routed]:
    """Every spec built, or exit 1 after all diagnostics of all of them."""
    built, failed = [], False
    for spec in specs:
        try:
            artifacts = make(find(spec), use)
        except OptdslError as error:
            _print(error.diagnostics)
            failed = True
        else:
            _print(artifacts.warnings)
            built.append(artifacts)
    if failed:
        sys.exit(1)
    return built


@main.command("compile")
@click.argument("specs", nargs=-1, required=True)
@click.option("-o", "--output", help="A file, a folder, or - for standard output.")
@click.option(
    "--check", is_flag=True, help="Write nothing; exit 1 where a file differs."
)
@click.option(
    "--force", is_flag=True, help="Overwrite files that optdsl did not write."
)
@_using
def compile_(
    specs: tuple[str, ...],
    output: str | None,
    check: bool,
    force: bool,
    use: tuple[str, ...],
) -> None:
    """Write the Python source of each of SPECS, files or names of the library.

    momentum.opt becomes momentum.py in this folder. A file that optdsl did not write, or
    that was edited since, is left alone without --force.
    """
    if output == "-" and check:
        raise click.UsageError("--check compares files; leave out `-o -`")
    targets = [] if output == "-" else _targets(specs, output)
    built = _build_all(specs, use)
    if output == "-":
        for each in built:
            click.echo(each.python, nl=False)
        return
    pages = list(zip(targets, (each.python for each in built), strict=True))
    if check:
        different = [path for path, text in pages if _differs(path, text)]
        for path in different:
            click.echo(f"{path} differs from what its spec compiles to", err=True)
        sys.exit(1 if different else 0)
    _write_all(pages, force)


def _write_all(pages: list[tuple[Path, str]], force: bool) -> None:
    try:
        for path, text in pages:
            if not force:
                check_target(path, text)
        for path, text in pages:
            write(path, text)
            click.echo(f"wrote {path}", err=True)
    except Refused as reason:
        click.echo(f"error: {reason}; --force overwrites it", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"error: cannot write {error.filename}: {error.strerror}", err=True)
        sys.exit(1)


def _targets(specs: tuple[str, ...], output: str | None) -> list[Path]:
    """Where each spec is written."""
    is_folder = output is not None and (output.endswith("/") or Path(output).is_dir())
    if output is not None and not is_folder:
        if len(specs) > 1:
            raise click.UsageError(f"{len(specs)} specs need a folder: `-o {output}/`")
        return [Path(output)]
    folder = Path(output or "")
    targets = [folder / f"{_stem(spec)}.py" for spec in specs]
    for target in targets:
        if targets.count(target) > 1:
            raise click.UsageError(f"two specs would both be written to {target}")
    return targets


def _stem(spec: str) -> str:
    try:
        return library_name(spec) or Path(spec).stem
    except OptdslError:
        return spec


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") != text
    except (OSError, UnicodeDecodeError):
        return True


@main.command()
@click.argument("specs", nargs=-1, required=True)
@_using
def check(specs: tuple[str, ...], use: tuple[str, ...]) -> None:
    """Print everything that is wrong with SPECS: files, folders, names of the library.

    A modifier is tried with the plainest rule.
    """
    files: list[str | Path] = []
    for spec in specs:
        folder = Path(spec)
        files += sorted(folder.glob("*.opt")) if folder.is_dir() else [spec]
    if not files:
        raise click.UsageError(f"no `.opt` file in {', '.join(specs)}")
    built = _build_all(files, use, build_any)
    click.echo(f"{_count(len(built), 'spec')}, no mistakes", err=True)


@main.command()
@click.argument("spec")
@click.option(
    "--stage",
    type=click.Choice(
        ["spec", "tree", "checked", "lowered", *WAYS, *DEVICES, "python"]
    ),
    default="python",
    show_default=True,
    help="The spec with what it uses, what is read, what it means, what torch is asked "
    "to do; the functions that do "
    "it, one way or another; its kernels in C++ or Triton; the whole Python file.",
)
@_using
def show(spec: str, stage: str, use: tuple[str, ...]) -> None:
    """Print a stage of SPEC, a file or a name of the library."""
    (artifacts,) = _build_all([spec], use)
    click.echo(_stage(artifacts, stage), nl=False)


def _stage(artifacts: Artifacts | Routed, stage: str) -> str:
    """A stage as text; of a spec that chooses among rules, where it has none of its own,
    that of each rule.
    """
    if stage == "spec":
        return artifacts.source.text.rstrip("\n") + "\n"
    if stage == "python":
        return artifacts.python
    if stage == "tree":
        return dump(artifacts.tree) + "\n"
    if isinstance(artifacts, Routed):
        shown = (
            f"# {name}\n\n{_stage(each, stage)}"
            for name, each in artifacts.rules.items()
        )
        return "\n".join(shown)
    if stage in DEVICES:
        return kernel_text(artifacts.lowered, stage)
    if stage in WAYS:
        return update_text(artifacts.lowered, stage)
    return dump(getattr(artifacts, stage)) + "\n"


@main.command()
@click.argument("subjects", nargs=-1, metavar="SPEC...")
@click.option(
    "--all", "all_", is_flag=True, help="Every rule and route of the library."
)
@click.option(
    "--against", metavar="SPEC", help="What it has to equal; else what the spec names."
)
@click.option(
    "--map",
    "renamed",
    metavar="THEIRS=OURS",
    multiple=True,
    help="A state that the reference calls otherwise; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@_using
def verify(
    subjects: tuple[str, ...],
    all_: bool,
    against: str | None,
    renamed: tuple[str, ...],
    as_json: bool,
    use: tuple[str, ...],
) -> None:
    """Judge optimizers: files, names of the library, or package.module:Class.

    A class needs no spec. Each is held against its reference, each of its targets against
    the interpreter, and all of it against what every optimizer has to do. Prints the
    smallest case that fails; exits 1 where one does.
    """
    if all_ == bool(subjects):
        raise click.UsageError("name what to verify, or say --all")
    if against is not None and (all_ or len(subjects) > 1):
        raise click.UsageError("--against is for one optimizer")
    pairs = [each.partition("=")[::2] for each in renamed]
    if not all(theirs and ours for theirs, ours in pairs):
        raise click.UsageError("--map takes THEIRS=OURS, two names of states")
    sys.path.insert(0, os.getcwd())
    from .verify import NoSubject
    from .verify.table import report, show

    try:
        names = subjects or [*resources.library(), *resources.routes()]
        reports = report(names, against, dict(pairs), use)
    except OptdslError as error:
        _print(error.diagnostics)
        sys.exit(1)
    except NoSubject as reason:
        raise click.UsageError(str(reason)) from None
    if as_json:
        click.echo(json.dumps([each.as_json() for each in reports], indent=1))
    else:
        show(reports)
    sys.exit(1 if any(each.failed for each in reports) else 0)


@main.command()
@click.argument("specs", nargs=-1, required=True)
@click.option(
    "--shapes",
    type=click.Choice(["gpt2", "many", "large", "resnet50", "groups"]),
    multiple=True,
    help="Which tensors; may be repeated. Without --model: gpt2 and many.",
)
@click.option("--model", metavar="PACKAGE.MODULE:FACTORY", help="A module of your own.")
@click.option("--set", "settings", metavar="HYPER=JSON", multiple=True)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16", "float64"]),
    help="Of all parameters; else those of the model, or float32.",
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True
)
@click.option("--threads", type=click.IntRange(1), help="Of the CPU.")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--compile", "compiled", is_flag=True, help="Measure torch.compile as well."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Write a bar chart.")
@_using
def bench(
    specs: tuple[str, ...],
    shapes: tuple[str, ...],
    model: str | None,
    settings: tuple[str, ...],
    threads: int | None,
    as_json: bool,
    plot: str | None,
    **options: object,
) -> None:
    """Measure a step of SPECS, files or names of the library, one way or another.

    All ways step in turn in one run, beside torch's class where the spec names one, and
    beside a plain loop that moves as many bytes.
    """
    sys.path.insert(0, os.getcwd())
    from .bench.run import BenchError, run

    try:
        run(specs, shapes, model, settings, threads, as_json, plot, **options)
    except OptdslError as error:
        _print(error.diagnostics)
        sys.exit(1)
    except BenchError as reason:
        raise click.UsageError(str(reason)) from None


@main.command("list")
@click.option(
    "--markdown",
    is_flag=True,
    help="A table in Markdown: lines, bytes of state, paper, targets.",
)
def list_(markdown: bool) -> None:
    """Print the rules of the library, its routes and its modifiers, a line each."""
    library = {name: build(read(path)) for name, path in resources.library().items()}
    if markdown:
        explained = {name: explain_rule(each) for name, each in library.items()}
        click.echo(coverage.table(explained), nl=False)
        return
    routes = {name: build(read(path)) for name, path in resources.routes().items()}
    rows = [
        (name, each.name, each.tree.doc.strip().split("\n")[0])
        for name, each in (library | routes).items()
    ]
    rows += [
        (name, "modifier", parse(read(path)).doc.strip().split("\n")[0])
        for name, path in resources.modifiers().items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, cls, doc in rows:
        click.echo(f"{name:{widths[0]}}  {cls:{widths[1]}}  {doc}")


@main.command()
@click.argument("name")
@click.option("--latex", "as_latex", is_flag=True, help="Print the equations in LaTeX.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
@_using
def explain(name: str, as_latex: bool, as_json: bool, use: tuple[str, ...]) -> None:
    """Explain a rule or a diagnostic.

    NAME is a code, as E0201: why, a bad spec, the nearest good one. Or a file or a name
    of the library: the equations, what a parameter keeps and a step moves in memory, what
    kind of work each statement is, what the options switch on, and what runs it.
    """
    if re.fullmatch("[A-Za-z][0-9]{3,5}", name):
        if as_latex or as_json or use:
            raise click.UsageError("--latex, --json and --use are for rules")
        click.echo(_explained_code(name))
        return
    artifacts = _of_name(name, use)
    from .explain import page, routes

    if isinstance(artifacts, Routed):
        explained = routes.explain_route(artifacts)
        latex, shown = routes.route_in_latex, routes.route_page
    else:
        explained = explain_rule(artifacts)
        latex, shown = in_latex, page.page
    if as_latex:
        click.echo(latex(explained))
    elif as_json:
        click.echo(json.dumps(explained.as_json(), indent=1))
    else:
        # A terminal without Greek letters is no reason to print nothing.
        encoding = sys.stdout.encoding or "utf-8"
        written = shown(explained).encode(encoding, "backslashreplace")
        click.echo(written.decode(encoding))


def _explained_code(code: str) -> str:
    if code.upper() in codes.CODES:
        return codes.explain(code.upper())
    hint = did_you_mean(code.upper(), codes.CODES) or f"one of {', '.join(codes.CODES)}"
    raise click.UsageError(f"there is no code {code}; {hint}")


def _of_name(name: str, use: tuple[str, ...]) -> Artifacts | Routed:
    """What a file, or a name of the library, is built to."""
    try:
        library_name(name)
    except OptdslError as error:
        near = did_you_mean(name.upper(), codes.CODES)
        hint = near or error.diagnostics[0].help
        raise click.UsageError(f"there is no code and no rule {name}; {hint}") from None
    (artifacts,) = _build_all([name], use)
    return artifacts


@main.command("cache")
@click.option("--clear", is_flag=True, help="Remove all kernels, and nothing else.")
def cache_(clear: bool) -> None:
    """Print where compiled kernels are kept, how many, and their size.

    OPTDSL_CACHE_DIR names another folder. What is removed is built again when it is
    next needed.
    """
    from .runtime import cache

    folder = cache.folder()
    if folder is None:
        click.echo(
            "there is no home to keep kernels in; OPTDSL_CACHE_DIR names a folder"
        )
    elif clear:
        try:
            files, size = cache.clear()
        except OSError as error:
            click.echo(
                f"error: cannot remove {error.filename}: {error.strerror}", err=True
            )
            sys.exit(1)
        click.echo(f"removed {_count(files, 'file')}, {size:,} bytes, from {folder}")
    else:
        kept = cache.contents()
        size = sum(each.bytes for each in kept)
        click.echo(f"{folder}\n{_count(len(kept), 'kernel')}, {size:,} bytes")
        if reason := cache.distrusted():
            click.echo(f"kernels are not kept there: it {reason}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
