"""Hugging Face's Trainer, Accelerate and Lightning train with our classes as a plain loop
does, bit by bit, by the code of docs/trainers.md.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from optdsl import load_optimizer
from optdsl.resources import PACKAGE

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
lightning = pytest.importorskip("lightning")

from accelerate import Accelerator  # noqa: E402
from accelerate.optimizer import AcceleratedOptimizer  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402
from small_transformer import (  # noqa: E402
    SIZE,
    Batch,
    Curve,
    PlainLoop,
    batches,
    evaluated,
    sentences,
    trainable,
    transformer,
)
from transformers import Trainer, TrainingArguments  # noqa: E402

# Of torch, to whoever pins memory without an accelerator, as trainers do by default.
pytestmark = pytest.mark.filterwarnings(
    "ignore:'pin_memory' argument is set as true:UserWarning"
)

STEPS = 12
PAGE = (PACKAGE.parent / "docs" / "trainers.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Case:
    """A class with its options, and whether it takes matrices alone."""

    spec: str
    use: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=lambda: {"lr": 0.01})
    only_matrices: bool = False

    @property
    def rule(self) -> type[Optimizer]:
        return load_optimizer(self.spec, use=self.use)

    @property
    def has_modes(self) -> bool:
        return hasattr(self.rule, "eval")

    def model(self) -> nn.Module:
        return transformer(self.only_matrices)

    def __str__(self) -> str:
        return "-".join((self.spec, *self.use))


SCHEDULE_FREE = Case("schedule_free_adamw")
CASES = [
    SCHEDULE_FREE,
    Case("adamw"),
    Case("adamw", use=("ema",)),
    Case("prodigy", options={"d0": 1e-3}),
    Case("muon", only_matrices=True),
]
WAYS = {"kernels": {}, "foreach": {"foreach": True}, "loop": {"foreach": False}}
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_way = pytest.mark.parametrize("way", [*WAYS])
both_modes = pytest.mark.parametrize("case", [SCHEDULE_FREE, CASES[1]], ids=str)


@pytest.fixture(autouse=True)
def as_users_run_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """In a folder of its own, without a network, with the kernels that are the default;
    what Accelerate keeps for a process is forgotten.
    """
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    monkeypatch.delenv("OPTDSL_FUSED", raising=False)
    monkeypatch.chdir(tmp_path)
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def snippets(section: str) -> list[str]:
    """The code of a section of the page."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def run(code: str, known: dict[str, Any]) -> dict[str, Any]:
    """What the code of the page leaves behind."""
    exec(compile(code, "docs/trainers.md", "exec"), known)
    return known


def known(case: Case, way: str) -> dict[str, Any]:
    """What the page takes for granted."""
    data, held_out = sentences(STEPS * SIZE), sentences(SIZE, seed=2)
    return {
        "torch": torch,
        "Rule": case.rule,
        "options": {**case.options, **WAYS[way]},
        "model": case.model(),
        "train_set": data,
        "held_out": held_out,
        "loader": torch.utils.data.DataLoader(data, batch_size=SIZE),
        "held_out_loader": torch.utils.data.DataLoader(held_out, batch_size=SIZE),
    }


def test_the_page_begins_with_a_class_of_the_tests() -> None:
    found = run(PAGE.split("```python\n")[1].split("```")[0], {})
    assert found["Rule"] is SCHEDULE_FREE.rule
    assert found["options"] == SCHEDULE_FREE.options


# ---- Hugging Face Trainer


def decaying(model: nn.Module, case: Case, way: str) -> Optimizer:
    """With the groups that Trainer makes: what decays, and biases and norms, which do not."""
    every = trainable(model)
    groups = [
        {"params": [p for p in every if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return case.rule(groups, **case.options, **WAYS[way])


def curve_of(trainer: Trainer) -> Curve:
    history = trainer.state.log_history
    return Curve(
        [each["loss"] for each in history if "loss" in each],
        [each["eval_loss"] for each in history if "eval_loss" in each],
    )


def trainer_of(case: Case, way: str = "kernels", **more: Any) -> Trainer:
    """As that of the page, with other arguments beside its own."""
    there = known(case, way)
    arguments = {
        "max_steps": STEPS,
        "per_device_train_batch_size": SIZE,
        "weight_decay": 0.1,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "train_sampling_strategy": "sequential",
        "report_to": "none",
        "save_strategy": "no",
    }
    return Trainer(
        there["model"],
        TrainingArguments("runs", **(arguments | more)),
        train_dataset=there["train_set"],
        eval_dataset=there["held_out"],
        optimizer_cls_and_kwargs=(there["Rule"], there["options"]),
    )


def plain_of(case: Case, way: str = "kernels", **more: Any) -> Curve:
    """What a plain loop gets where Trainer does as `trainer_of` says."""
    model, there = case.model(), known(case, way)
    loop = PlainLoop(counts=True, **more)
    data = there["train_set"], there["held_out"]
    return loop.run(model, decaying(model, case, way), *data)


@every_way
@every_case
def test_trainer_trains_as_a_plain_loop(case: Case, way: str) -> None:
    found = run(snippets("Hugging Face Trainer")[0], known(case, way))
    plain = plain_of(case, way, evaluates_every=4)
    assert curve_of(found["trainer"]) == plain
    assert len(plain.losses) == STEPS and plain.losses[-1] < plain.losses[0]
