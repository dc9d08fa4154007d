"""The measurements that a command asks for, as a table, JSON or a chart."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..find import find
from ..pipeline import Routed, build
from .measure import Measured, measure
from .shapes import NAMED, NoShapes, of_model
from .table import chart_formats, plot, show


class BenchError(Exception):
    """What was asked for cannot be measured; says why."""


def run(
    specs: Sequence[str],
    shapes: Sequence[str],
    model: str | None,
    settings: Sequence[str],
    threads: int | None,
    as_json: bool,
    chart: str | None,
    *,
    dtype: str | None,
    device: str,
    rounds: int,
    compiled: bool,
    use: Sequence[str] = (),
) -> None:
    """Measure and print. What is compiled is built anew, in a folder of
    this run.

    Raises:
        OptdslError: a spec is wrong.
        BenchError: there is no such model, device or hyper, or no matplotlib.
    """
    for spec in specs:
        built = build(find(spec), use)
        if isinstance(built, Routed):
            names = ", ".join(built.rules)
            raise BenchError(f"{spec} chooses among rules; measure these: {names}")
    try:
        chosen = [NAMED[each] for each in shapes]
        if model is not None:
            chosen.append(of_model(model))
        chosen = chosen or [NAMED["gpt2"], NAMED["many"]]
        torch.empty(0, device=device)
    except (NoShapes, RuntimeError, AssertionError) as error:
        raise BenchError(str(error).split("\n")[0]) from None
    hypers = dict(map(_setting, settings))
    if chart is not None:
        _check_chart(Path(chart))
    if threads is not None:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OPTDSL_CACHE_DIR"] = os.path.join(folder, "kernels")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(folder, "compiled")
        found: list[Measured] = []
        for spec in specs:
            for each in chosen:
                made = _measured(
                    spec, each, dtype, device, rounds, compiled, hypers, use
                )
                found.append(_cold_only(made, found))
    if as_json:
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=1))
    else:
        show(found)
    if chart is not None:
        try:
            plot(found, Path(chart))
        except OSError as error:
            raise BenchError(f"cannot write {chart}: {error.strerror}") from None


def _cold_only(made: Measured, before: Sequence[Measured]) -> Measured:
    """The same, without the first step of kernels that a table before has built."""
    if (made.rule, made.dtype) not in {(each.rule, each.dtype) for each in before}:
        return made
    rows = (
        dataclasses.replace(row, first=None) if row.way == "fused" else row
        for row in made.rows
    )
    return dataclasses.replace(made, rows=tuple(rows))


def _check_chart(path: Path) -> None:
    """Before minutes of measuring: whether a chart can be written there.

    Raises:
        BenchError: it cannot.
    """
    try:
        formats = chart_formats()
    except ImportError:
        raise BenchError("a chart needs matplotlib, which is not here") from None
    if path.suffix[1:].lower() not in formats:
        known = ", ".join(sorted(formats))
        raise BenchError(f"no chart is written as {path.name}; there are {known}")
    if not path.parent.is_dir():
        raise BenchError(f"there is no folder {path.parent}")


def _measured(
    spec: str,
    shapes: Any,
    dtype: str | None,
    device: str,
    rounds: int,
    compiled: bool,
    hypers: dict[str, Any],
    use: Sequence[str],
) -> Measured:
    try:
        return measure(
            spec,
            shapes,
            dtype=None if dtype is None else getattr(torch, dtype),
            device=device,
            rounds=rounds,
            compiled=compiled,
            hypers=hypers,
            use=use,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise BenchError(f"{spec}: {error}") from None


def _setting(written: str) -> tuple[str, Any]:
    name, sign, value = written.partition("=")
    try:
        if sign:
            read = json.loads(value)
            return name, tuple(read) if isinstance(read, list) else read
    except ValueError:
        pass
    raise BenchError(f"--set takes HYPER=JSON, as momentum=0.9, not {written!r}")
