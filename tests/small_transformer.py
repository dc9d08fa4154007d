"""A small transformer, what it is trained on, and the plain loop that trainers are held
against: one that says all that they do to a model, a learning rate and an optimizer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import GPT2Config, GPT2LMHeadModel

Batch = dict[str, Tensor]
WORDS, LENGTH, SIZE = 40, 12, 4  # SIZE: of a batch


def transformer(only_matrices: bool = False) -> GPT2LMHeadModel:
    """Two layers that start the same each time; without dropout, whose numbers would
    depend on what else a trainer draws.
    """
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=WORDS,
            n_positions=LENGTH,
            n_embd=16,
            n_layer=2,
            n_head=2,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    model.loss_type = "ForCausalLM"
    for p in model.parameters():
        p.requires_grad_(p.ndim == 2 or not only_matrices)
    return model


def sentences(count: int, seed: int = 1) -> list[Batch]:
    """Walks through the words in steps of one, two or three: something to be learnt."""
    random = torch.Generator().manual_seed(seed)
    start = torch.randint(WORDS, (count, 1), generator=random)
    steps = torch.randint(1, 4, (count, LENGTH), generator=random)
    words = (start + steps.cumsum(1)) % WORDS
    return [{"input_ids": each, "labels": each} for each in words]


def batches(of: list[Batch]) -> list[Batch]:
    return [
        {name: torch.stack([one[name] for one in some]) for name in some[0]}
        for some in (of[at : at + SIZE] for at in range(0, len(of), SIZE))
    ]


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


@dataclass
class Curve:
    """The loss of each step, and that of each evaluation."""

    losses: list[float] = field(default_factory=list)
    evaluated: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class PlainLoop:
    """How a trainer trains.

    `counts` says that the losses of the batches of one step are sums over the words that
    are predicted, divided by the words of all of them, and logged as one. `by_groups` says
    that gradients are clipped in the order of the param groups, which their norm shows in
    its last bits.
    """

    scheduler: LRScheduler | None = None
    evaluates_every: int = 0
    accumulates: int = 1
    counts: bool = False
    by_groups: bool = False
    halves: torch.dtype | None = None  # what the model calculates in where it can
    scaler: GradScaler = field(default_factory=lambda: GradScaler("cpu", enabled=False))

    def run(
        self,
        model: nn.Module,
        optimizer: Any,
        data: list[Batch],
        held_out: list[Batch],
    ) -> Curve:
        curve = Curve()
        for step, some in enumerate(self._steps(data), 1):
            if hasattr(optimizer, "train"):
                optimizer.train()
            model.train()
            losses = self._backward(model, some)
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self._clipped(model, optimizer), 1.0)
            self.scaler.step(optimizer)
            self.scaler.update()
            if self.scheduler is not None:
                self.scheduler.step()
            optimizer.zero_grad()
            logged = [sum(losses)] if self.counts else losses
            curve.losses += [each.item() for each in logged]
            if self.evaluates_every and step % self.evaluates_every == 0:
                curve.evaluated.append(evaluated(model, optimizer, held_out))
        return curve

    def _clipped(self, model: nn.Module, optimizer: Any) -> list[nn.Parameter]:
        if not self.by_groups:
            return [*model.parameters()]
        return [p for group in optimizer.param_groups for p in group["params"]]

    def _steps(self, data: list[Batch]) -> Iterator[list[Batch]]:
        every = batches(data)
        for at in range(0, len(every), self.accumulates):
            yield every[at : at + self.accumulates]

    def _backward(self, model: nn.Module, some: list[Batch]) -> list[Tensor]:
        words = sum(each["labels"][:, 1:].numel() for each in some)
        losses = []
        for batch in some:
            more = {"num_items_in_batch": torch.tensor(words)} if self.counts else {}
            with torch.autocast("cpu", self.halves, enabled=self.halves is not None):
                loss = model(**batch, **more).loss.float()
            share = loss if self.counts else loss / len(some)
            self.scaler.scale(share).backward()
            losses.append(loss.detach())
        return losses


def evaluated(model: nn.Module, optimizer: Optimizer, held_out: list[Batch]) -> float:
    """The loss of one batch, in eval mode."""
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    model.eval()
    (batch,) = batches(held_out)
    with torch.no_grad():
        return model(**batch).loss.item()
