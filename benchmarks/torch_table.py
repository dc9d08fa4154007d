"""The table of torch's classes in the README: for each, how many of the tests that hold
our class against torch's passed, of those that ran.

    python -m benchmarks.torch_table [--all]

Runs tests/test_torch_*.py and counts. With --all every combination of options and dtypes
is tried, which takes a quarter of an hour and more; without it, a sample.
"""

import argparse
import inspect
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from optdsl import resources

ROOT = Path(__file__).parent.parent
CLASSES = {
    "adadelta": "Adadelta", "adafactor": "Adafactor", "adagrad": "Adagrad",
    "adam": "Adam", "adamw": "AdamW", "adamax": "Adamax", "asgd": "ASGD", "muon": "Muon",
    "nadam": "NAdam", "radam": "RAdam", "rmsprop": "RMSprop", "rprop": "Rprop",
    "sgd": "SGD", "sparse_adam": "SparseAdam",
}  # fmt: skip
Belongs = Callable[[str, str, str], bool]
COLUMNS: dict[str, Belongs] = {
    "loop, same bits": lambda file, test, case: file == "bits",
    "foreach": lambda file, test, case: file == "foreach",
    "`maximize`": lambda file, test, case: "maximize" in case,
    "`capturable`": lambda file, test, case: "captur" in test + case,
    "`differentiable`": lambda file, test, case: "differentiable" in file + test,
    "`state_dict` both ways": lambda file, test, case: "goes_on_from_what" in test,
    "inputs of `optim_db`": lambda file, test, case: (
        test == "test_same_bits_in_torch_s_configurations"
        or test == "test_refuses_what_torch_says_is_to_be_refused"
    ),
    "hooks, schedulers, scaler, compile": lambda file, test, case: (
        file in ("hooks", "schedulers", "scaler", "compile")
    ),
}


class Counted:
    """A plugin of pytest that counts what passed and what ran, by class and column."""

    def __init__(self) -> None:
        self.passed: Counter[tuple[str, str]] = Counter()
        self.ran: Counter[tuple[str, str]] = Counter()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        params = getattr(getattr(item, "callspec", None), "params", {})
        spec = params.get("spec")
        if spec not in CLASSES or report.skipped:
            return
        if report.when != "call" and not report.failed:
            return
        file = item.path.stem.removeprefix("test_torch_")
        case = item.callspec.id
        for column, belongs in COLUMNS.items():
            if belongs(file, item.originalname, case):
                self.ran[spec, column] += 1
                self.passed[spec, column] += report.passed

    def cell(self, spec: str, column: str) -> str:
        ran = self.ran[spec, column]
        return f"{self.passed[spec, column]}/{ran}" if ran else "-"


def lines(path: Path | str) -> int:
    return len(Path(path).read_text(encoding="utf-8").splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--all", action="store_true", help="every combination")
    if parser.parse_args().all:
        os.environ["OPTDSL_EXAMPLES"] = "1"
    counted = Counted()
    files = sorted((ROOT / "tests").glob("test_torch_*.py"))
    pytest.main(["-q", "--no-header", *map(str, files)], plugins=[counted])
    head = ["class", *COLUMNS, "lines of the spec", "lines of torch's file"]
    print("\n| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))
    for spec, name in CLASSES.items():
        cells = [counted.cell(spec, column) for column in COLUMNS]
        theirs = lines(inspect.getsourcefile(getattr(torch.optim, name).__init__))
        cells += [str(lines(resources.library()[spec])), str(theirs)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
