"""What verify finds in the optimizers of pytorch_optimizer.

    pip install 'optdsl[survey]'
    python benchmarks/survey_pytorch_optimizer.py [--only NAME ...] [--json FILE]

Judges each class in a process of its own, so that one that crashes or hangs costs a row,
and prints a Markdown table: each property, how many classes it was judged of, how many
lack it, and some of these. `--json` keeps every row of every class. Takes minutes.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

LIMIT = 180  # seconds that one class may take
NAMES = 6  # how many classes a row of the table names

# What a constructor needs beside parameters.
GIVEN: dict[str, dict[str, Any]] = {
    "bsam": {"num_data": 10},
    "ranger21": {"num_iterations": 100},
}
# What each group has to say: that it is for the rule of the class, not for its fallback.
GROUPS = {
    name: {"use_muon": True}
    for name in ("muon", "adamuon", "adago", "normuon", "muonclip")
}


def judge(name: str) -> dict[str, Any]:
    """The report of one class, in this process."""
    import torch
    from pytorch_optimizer import load_optimizer

    from optdsl.verify import NoSubject, verify
    from optdsl.verify.subject import of_class

    torch.set_num_threads(1)
    cls = load_optimizer(name)
    try:
        subject = of_class(cls, cls.__name__, GIVEN.get(name))
        if name in GROUPS:
            own = [
                each for each in subject.hypers if not each.name.startswith("adamw_")
            ]
            subject = replace(subject, group=GROUPS[name], hypers=tuple(own))
        report = verify(subject)
        if len(report.rows) == 1:
            raise NoSubject(report.rows[0].detail)
        return dict(report.as_json())
    except NoSubject as reason:
        return {"subject": cls.__name__, "not judged": str(reason)}


def judged_apart(name: str) -> dict[str, Any]:
    """The report of one class, from a process of its own."""
    command = [sys.executable, __file__, "--judge", name]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {"subject": name, "not judged": f"more than {LIMIT} seconds"}
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        return {"subject": name, "not judged": last}
    return json.loads(ran.stdout.splitlines()[-1])


def table(reports: list[dict[str, Any]]) -> str:
    """Properties in the order of verify, with counts and some names."""
    judged = [each for each in reports if "rows" in each]
    lines = [
        "| property | judged | lack it | not applicable | among them |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for check in [row["check"] for row in judged[0]["rows"][1:]] if judged else []:
        rows = {
            each["subject"]: row["outcome"]
            for each in judged
            for row in each["rows"]
            if row["check"] == check
        }
        failed = [name for name, outcome in rows.items() if outcome == "fail"]
        outside = sum(outcome == "not applicable" for outcome in rows.values())
        if outside == len(rows):
            continue
        named = ", ".join(failed[:NAMES]) + (", ..." if len(failed) > NAMES else "")
        counts = f"{len(rows) - outside} | {len(failed)} | {outside}"
        lines.append(f"| {check} | {counts} | {named} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--judge", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.judge:
        with contextlib.redirect_stdout(sys.stderr):  # some classes print
            report = judge(arguments.judge)
        print(json.dumps(report))
        return
    import pytorch_optimizer

    start, reports = time.perf_counter(), []
    for name in arguments.only or pytorch_optimizer.get_supported_optimizers():
        reports.append(judged_apart(name))
        said = reports[-1].get("not judged") or f"{reports[-1]['failed']} fail"
        print(f"{name}: {said}", file=sys.stderr)
        if arguments.json:
            arguments.json.write_text(json.dumps(reports, indent=1))
    print(table(reports))
    outside = [each for each in reports if "rows" not in each]
    minutes = (time.perf_counter() - start) / 60
    print(f"\n{len(reports) - len(outside)} classes judged in {minutes:.0f} minutes.")
    for each in outside:
        print(f"Not judged: {each['subject']} ({each['not judged']}).")


if __name__ == "__main__":
    main()
