"""Hugging Face's Trainer, Accelerate and Lightning train with our classes as a plain loop
does, bit by bit, by the code of docs/trainers.md.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from optdsl import from_string, load_optimizer
from optdsl.resources import PACKAGE

os.environ["HF_HUB_OFFLINE"] = "1"  # read when it is imported
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
lightning = pytest.importorskip("lightning")

from accelerate import Accelerator  # noqa: E402
from accelerate.optimizer import AcceleratedOptimizer  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.plugins import MixedPrecision  # noqa: E402
from small_transformer import (  # noqa: E402
    SIZE,
    Curve,
    PlainLoop,
    batches,
    sentences,
    trainable,
    transformer,
)
from transformers import Trainer, TrainingArguments  # noqa: E402

pytestmark = [
    pytest.mark.skipif(
        torch.accelerator.is_available(),
        reason="trainers would take the accelerator, the plain loop is on the CPU",
    ),
    # Of torch, to whoever pins memory without an accelerator, as Trainer does by default.
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning"),
    # Of torch, to Lightning, which reads its trees in an older way.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    # Of Lightning, about data that are small, and that no other process loads (on a
    # machine of more than two cores).
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning"),
    # Of Lightning, to whoever has no TensorBoard.
    pytest.mark.filterwarnings("ignore:Starting from v1.9.0, `tensorboardX`"),
]

STEPS = 12
PAGE = (PACKAGE.parent / "docs" / "trainers.md").read_text(encoding="utf-8")
(MATRICES_BY_MUON,) = re.findall(r"^```opt\n(.*?)^```$", PAGE, re.M | re.S)


@dataclass(frozen=True)
class Case:
    """A class of the library, or of a text, with its options; whether it takes matrices
    alone, and whether it asks for the names of parameters.
    """

    spec: str
    use: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=lambda: {"lr": 0.01})
    only_matrices: bool = False
    asks_names: bool = False
    text: str = ""

    @property
    def rule(self) -> type[Optimizer]:
        if self.text:
            return from_string(self.text)
        return load_optimizer(self.spec, use=self.use)

    @property
    def has_modes(self) -> bool:
        return hasattr(self.rule, "eval")

    def model(self) -> nn.Module:
        return transformer(self.only_matrices)

    def __str__(self) -> str:
        return "-".join((self.spec, *self.use))


SCHEDULE_FREE = Case("schedule_free_adamw")
BY_NAMES = Case("muon_adamw", options={"adamw": {"lr": 0.01}}, asks_names=True)
BY_AXES = Case("matrices_by_muon", options={}, text=MATRICES_BY_MUON)
ROUTED = [BY_NAMES, BY_AXES]
CASES = [
    SCHEDULE_FREE,
    Case("adamw"),
    Case("adamw", use=("ema",)),
    Case("prodigy", options={"d0": 1e-3}),
    Case("muon", only_matrices=True),
    *ROUTED,
]
WAYS = {"kernels": {}, "foreach": {"foreach": True}, "loop": {"foreach": False}}
every_case = pytest.mark.parametrize("case", CASES, ids=str)
routed = pytest.mark.parametrize("case", ROUTED, ids=str)
every_way = pytest.mark.parametrize("way", [*WAYS])
both_modes = pytest.mark.parametrize("case", [SCHEDULE_FREE, CASES[1]], ids=str)


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """In a folder of its own, with the kernels that are the default; what Accelerate keeps
    for a process is forgotten.
    """
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


def known(case: Case, way: str, steps: int = STEPS) -> dict[str, Any]:
    """What the page takes for granted, with data for so many steps."""
    data, held_out = sentences(steps * SIZE), sentences(SIZE, seed=2)
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


def by_trainer(model: nn.Module, case: Case, way: str) -> Optimizer:
    """With the groups that Trainer makes, what decays, and biases and norms, which do not;
    with one where it makes none.
    """
    options = {**case.options, **WAYS[way]}
    if case.asks_names:
        return case.rule(trainable(model), **options)
    every = [p for _, p in trainable(model)]
    groups = [
        {"params": [p for p in every if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return case.rule(groups, **options)


def page_of(case: Case) -> str:
    """The code that trains: by the class, or by the function that gives it names."""
    by_class, by_function = snippets("Hugging Face Trainer")
    if not case.asks_names:
        return by_class
    known, trains = by_class.split("trainer = Trainer(")
    kept = trains.split("trainer.train()")[1]
    return f"{known}{by_function}{kept}"


def curve_of(trainer: Trainer) -> Curve:
    history = trainer.state.log_history
    return Curve(
        [each["loss"] for each in history if "loss" in each],
        [each["eval_loss"] for each in history if "eval_loss" in each],
    )


def made_by(case: Case, there: dict[str, Any]) -> Any:
    """What Trainer is to call."""
    if not case.asks_names:
        return there["Rule"]
    make = run(snippets("Hugging Face Trainer")[1].split("\n\n\n")[0], there)["make"]
    return lambda: make


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
        "use_cpu": True,
    }
    return Trainer(
        there["model"],
        TrainingArguments("runs", **(arguments | more)),
        train_dataset=there["train_set"],
        eval_dataset=there["held_out"],
        optimizer_cls_and_kwargs=(made_by(case, there), there["options"]),
    )


def plain_of(case: Case, way: str = "kernels", **more: Any) -> Curve:
    """What a plain loop gets where Trainer does as `trainer_of` says."""
    model, there = case.model(), known(case, way)
    loop = PlainLoop(counts=True, **more)
    data = there["train_set"], there["held_out"]
    return loop.run(model, by_trainer(model, case, way), *data)


@every_way
@every_case
def test_trainer_trains_as_a_plain_loop(case: Case, way: str) -> None:
    found = run(page_of(case), known(case, way))
    plain = plain_of(case, way, evaluates_every=4)
    assert curve_of(found["trainer"]) == plain
    assert len(plain.losses) == STEPS and plain.losses[-1] < plain.losses[0]


@pytest.mark.parametrize("way", ["called", "made before"])
@pytest.mark.parametrize("case", [SCHEDULE_FREE, CASES[3], BY_NAMES], ids=str)
def test_trainer_takes_an_optimizer_with_names(case: Case, way: str) -> None:
    code = page_of(replace(case, asks_names=True))
    if way == "made before":
        called = "optimizer_cls_and_kwargs=(lambda: make, options)"
        assert called in code
        code = code.replace(called, "optimizers=(make(model, **options), None)")
    there = run(code, known(case, "kernels"))
    model = case.model()
    optimizer = case.rule(trainable(model), **case.options)
    for ours, other in zip(
        there["trainer"].optimizer.param_groups, optimizer.param_groups, strict=True
    ):
        assert ours["param_names"] == other["param_names"]
    loop = PlainLoop(counts=True, evaluates_every=4)
    data = there["train_set"], there["held_out"]
    assert curve_of(there["trainer"]) == loop.run(model, optimizer, *data)


def test_trainer_gives_no_names_to_a_class() -> None:
    there = known(BY_NAMES, "kernels")
    with pytest.raises(ValueError, match="asks for the names of parameters"):
        run(snippets("Hugging Face Trainer")[0], there)


@routed
def test_trainer_scales_the_rate_of_each_rule(case: Case) -> None:
    trainer = trainer_of(case, lr_scheduler_type="linear")
    trainer.train()
    model, there = case.model(), known(case, "kernels")
    optimizer = by_trainer(model, case, "kernels")
    rates = {each["rule"]: each["lr"] for each in optimizer.param_groups}
    assert rates == {"muon": 0.02, "adamw": 0.01}
    falling = LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    loop = PlainLoop(falling, counts=True)
    data = there["train_set"], there["held_out"]
    assert curve_of(trainer) == loop.run(model, optimizer, *data)
    assert curve_of(trainer) != plain_of(case)


@every_case
def test_trainer_accumulates_as_a_plain_loop(case: Case) -> None:
    trainer = trainer_of(case, max_steps=STEPS // 2, gradient_accumulation_steps=2)
    trainer.train()
    assert curve_of(trainer) == plain_of(case, accumulates=2)


@every_way
@both_modes
def test_trainer_in_bfloat16_trains_as_a_plain_loop(case: Case, way: str) -> None:
    trainer = trainer_of(case, way, bf16=True)
    trainer.train()
    plain = plain_of(case, way, halves=torch.bfloat16)
    assert curve_of(trainer) == plain
    assert plain.losses != plain_of(case, way).losses


@pytest.mark.parametrize("step", [6, 8])
@every_case
def test_trainer_goes_on_from_a_checkpoint(case: Case, step: int) -> None:
    """Saved behind a step (6), and behind an evaluation (8)."""
    more = {"eval_strategy": "steps", "eval_steps": 4}
    whole = trainer_of(case, save_strategy="steps", save_steps=2, **more)
    whole.train()
    saved = f"runs/checkpoint-{step}"
    in_it = torch.load(f"{saved}/optimizer.pt", weights_only=True)["param_groups"]
    if case.has_modes:
        assert [each["train_mode"] for each in in_it] == [step == 6] * len(in_it)
    again = trainer_of(case, **more)
    again.train(resume_from_checkpoint=saved)
    assert curve_of(again) == curve_of(whole)


def test_trainer_reads_the_options_and_its_own_weight_decay() -> None:
    case = Case("adamw", options={"lr": 0.25, "weight_decay": 0.5})
    trainer = trainer_of(case, learning_rate=0.125, adam_beta1=0.5, optim="sgd")
    trainer.create_optimizer()
    groups = trainer.optimizer.param_groups
    assert [type(trainer.optimizer), len(groups)] == [case.rule, 2]
    assert [each["lr"] for each in groups] == [0.25, 0.25]
    assert [each["betas"] for each in groups] == [(0.9, 0.999)] * 2
    assert [each["weight_decay"] for each in groups] == [0.1, 0.0]


def test_trainer_knows_no_class_by_the_name_of_optim() -> None:
    with pytest.raises(ValueError, match="is not a valid OptimizerNames"):
        trainer_of(SCHEDULE_FREE, optim="optdsl.optim.ScheduleFreeAdamW")


@pytest.mark.parametrize("steps", [8, 10])
def test_the_best_model_is_loaded_in_eval_mode(steps: int) -> None:
    """Trainer evaluates behind the last step, whether `eval_steps` asks for it or not."""
    trainer = trainer_of(
        SCHEDULE_FREE,
        max_steps=steps,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="steps",
        save_steps=4,
        load_best_model_at_end=True,
        greater_is_better=True,  # so that it is not the last
    )
    trainer.train()
    evaluated = curve_of(trainer).evaluated
    assert trainer.evaluate()["eval_loss"] == evaluated[0] == max(evaluated)


@both_modes
def test_what_trainer_keeps_is_what_was_evaluated(case: Case) -> None:
    found = run(snippets("Hugging Face Trainer")[0], known(case, "kernels"))
    last = curve_of(found["trainer"]).evaluated[-1]
    kept = transformer().from_pretrained("runs/kept")
    with torch.no_grad():
        (batch,) = batches(found["held_out"])
        assert kept(**batch).loss.item() == last


# ---- Accelerate


def stepped(optimizer: Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=4)


def plain_by_rate(case: Case, way: str, **more: Any) -> Curve:
    """A plain loop with the rate of the page, for Accelerate and Lightning."""
    model, there = case.model(), known(case, way)
    optimizer = case.rule(trainable(model), **there["options"])
    loop = PlainLoop(stepped(optimizer), **more)
    return loop.run(model, optimizer, there["train_set"], there["held_out"])


@every_way
@every_case
def test_accelerate_trains_as_a_plain_loop(case: Case, way: str) -> None:
    found = run(snippets("Accelerate")[0], known(case, way))
    plain = plain_by_rate(case, way, accumulates=2)
    assert found["losses"] == plain.losses
    assert len(plain.losses) == STEPS and plain.losses[-1] < plain.losses[0]
    optimizer = found["optimizer"]
    assert isinstance(optimizer, AcceleratedOptimizer)
    assert isinstance(optimizer.optimizer, case.rule)
    if case.has_modes:
        assert not any(each["train_mode"] for each in optimizer.param_groups)


@both_modes
def test_accelerate_in_bfloat16_trains_as_a_plain_loop(case: Case) -> None:
    there = known(case, "kernels")
    code = snippets("Accelerate")[0]
    code = code.replace("steps=2", 'steps=2, mixed_precision="bf16"')
    plain = plain_by_rate(case, "kernels", accumulates=2, halves=torch.bfloat16)
    assert run(code, there)["losses"] == plain.losses


@pytest.mark.parametrize("mode", ["train", "eval"])
@every_case
def test_accelerate_goes_on_from_a_checkpoint(case: Case, mode: str) -> None:
    there = known(case, "kernels")

    def begun() -> tuple[Accelerator, nn.Module, AcceleratedOptimizer]:
        accelerator = Accelerator()
        model = case.model()
        optimizer = case.rule(trainable(model), **case.options)
        return accelerator, *accelerator.prepare(model, optimizer)

    def go(model: nn.Module, optimizer: AcceleratedOptimizer, some: list) -> Curve:
        return PlainLoop().run(model, optimizer, some, there["held_out"])

    half = STEPS // 2 * SIZE
    accelerator, model, optimizer = begun()
    go(model, optimizer, there["train_set"][:half])
    getattr(optimizer, mode)()
    accelerator.save_state("runs/half")
    rest = go(model, optimizer, there["train_set"][half:])
    accelerator, model, optimizer = begun()
    accelerator.load_state("runs/half")
    assert go(model, optimizer, there["train_set"][half:]) == rest


# ---- Lightning


def watched(model: nn.Module) -> Curve:
    """The losses that a model is going to return, in training and in evaluation."""
    curve = Curve()

    def note(module: nn.Module, _: Any, output: Any) -> None:
        kept = curve.losses if module.training else curve.evaluated
        kept.append(output.loss.item())

    model.register_forward_hook(note)
    return curve


EPOCH = 4  # steps of Lightning, which evaluates behind each epoch


@every_way
@every_case
def test_lightning_trains_as_a_plain_loop(case: Case, way: str) -> None:
    there = known(case, way, EPOCH)
    curve = watched(there["model"])
    run("\n".join(snippets("Lightning")), there)
    model = case.model()
    optimizer = case.rule(trainable(model), **there["options"])
    loop = PlainLoop(stepped(optimizer), by_groups=True, evaluates_every=EPOCH)
    plain = loop.run(model, optimizer, there["train_set"] * 3, there["held_out"])
    first, *evaluated = curve.evaluated  # Lightning tries an evaluation at the start
    assert curve.losses == plain.losses and evaluated == plain.evaluated
    assert len(plain.losses) == 3 * EPOCH and plain.losses[-1] < first
    for ours, other in zip(
        there["model"].parameters(), model.parameters(), strict=True
    ):
        assert torch.equal(ours, other)


def fitted(
    case: Case, epochs: int, ckpt_path: str | None = None, **more: Any
) -> tuple[lightning.Trainer, Curve]:
    """By the module and the callback of the page, with other words to the trainer."""
    there = known(case, "kernels", EPOCH)
    curve = watched(there["model"])
    modes, module = snippets("Lightning")
    run(modes + module.split("\n\n\n")[0], there)
    given = {"callbacks": [there["Modes"]()], "gradient_clip_val": 1.0, "logger": False}
    given |= {"num_sanity_val_steps": 0, "enable_checkpointing": False}
    given |= {"enable_model_summary": False}  # it warns that it counts no bfloat16
    trainer = lightning.Trainer(max_epochs=epochs, **(given | more))
    loaders = there["loader"], there["held_out_loader"]
    trainer.fit(there["Training"](), *loaders, ckpt_path=ckpt_path)
    return trainer, curve


def plain_epochs(case: Case, **more: Any) -> Curve:
    """Three of them."""
    model, there = case.model(), known(case, "kernels", EPOCH)
    optimizer = case.rule(trainable(model), **case.options)
    loop = PlainLoop(stepped(optimizer), by_groups=True, **more)
    return loop.run(model, optimizer, there["train_set"] * 3, there["held_out"])


@every_case
def test_lightning_accumulates_as_a_plain_loop(case: Case) -> None:
    _, curve = fitted(case, 3, accumulate_grad_batches=2)
    assert curve == plain_epochs(case, accumulates=2, evaluates_every=EPOCH // 2)


@both_modes
def test_lightning_in_bfloat16_trains_as_a_plain_loop(case: Case) -> None:
    _, curve = fitted(case, 3, precision="bf16-mixed")
    plain = plain_epochs(case, evaluates_every=EPOCH, halves=torch.bfloat16)
    assert curve.losses == plain.losses


def growing() -> GradScaler:
    """It doubles its scale until gradients overflow in float16, some steps later."""
    return GradScaler("cpu", init_scale=2.0**14, growth_interval=1)


def in_float16(scaler: GradScaler) -> MixedPrecision:
    """Which Lightning itself has for CUDA alone."""
    return MixedPrecision("16-mixed", "cpu", scaler)


@both_modes
def test_lightning_in_float16_trains_as_a_plain_loop(case: Case) -> None:
    scaler = growing()
    _, curve = fitted(case, 3, plugins=[in_float16(scaler)])
    more = {"halves": torch.float16, "scaler": growing()}
    plain = plain_epochs(case, evaluates_every=EPOCH, **more)
    assert curve.losses == plain.losses and plain.losses[-1] < plain.losses[0]
    assert scaler.get_scale() < 2.0 ** (14 + 3 * EPOCH), "no step overflowed"


def test_lightning_clips_no_gradients_that_fused_unscales() -> None:
    """As with torch's fused classes. It asks for nothing where kernels are the default."""
    case = Case("adamw", options={"fused": True})
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        fitted(case, 1, plugins=[in_float16(growing())])


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty:UserWarning")
@pytest.mark.parametrize("evaluates", [True, False])
@every_case
def test_lightning_goes_on_from_a_checkpoint(case: Case, evaluates: bool) -> None:
    """Saved behind an evaluation, or behind a step."""

    def words() -> dict[str, Any]:
        modes = run(snippets("Lightning")[0], {})["Modes"]()
        saver = ModelCheckpoint("runs", filename="{epoch}", save_top_k=-1)
        given = {} if evaluates else {"limit_val_batches": 0}
        return given | {"callbacks": [modes, saver], "enable_checkpointing": True}

    _, whole = fitted(case, 3, **words())
    saved = torch.load("runs/epoch=1.ckpt", weights_only=True)["optimizer_states"][0]
    if case.has_modes:
        modes = [each["train_mode"] for each in saved["param_groups"]]
        assert modes == [not evaluates]
    _, again = fitted(case, 3, ckpt_path="runs/epoch=1.ckpt", **words())
    assert again == Curve(whole.losses[2 * EPOCH :], whole.evaluated[2:])


@every_case
def test_lightning_without_the_callback_evaluates_what_it_trains(case: Case) -> None:
    _, curve = fitted(case, 3, callbacks=[])
    plain = plain_epochs(case, evaluates_every=EPOCH)
    assert (curve.evaluated == plain.evaluated) is not case.has_modes


def test_the_wrapper_of_lightning_has_the_modes() -> None:
    trainer, _ = fitted(SCHEDULE_FREE, 1)
    wrapper = trainer.lightning_module.optimizers()
    assert wrapper is not trainer.optimizers[0]
    evaluated = [p.clone() for p in trainer.lightning_module.parameters()]
    wrapper.train()
    assert [each["train_mode"] for each in trainer.optimizers[0].param_groups] == [True]
    wrapper.eval()
    for p, before in zip(trainer.lightning_module.parameters(), evaluated, strict=True):
        torch.testing.assert_close(p, before)
