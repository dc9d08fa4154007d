"""A small model that routes share out, and what is tried with it: gradients by step, the
classes of MuonAdamW side by side, a state that has been in a file.
"""

import io

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optdsl.optim import AdamW, Muon

WAYS = {
    "loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
SPLIT = """
optimizer Split
route:
    ndim(p) >= 2 -> {}
    else -> {}
"""
PAIRS = [
    ("nadam", "adamw"),  # a number for each parameter
    ("prodigy", "dadapt_sgd"),  # numbers of the model
    ("sophia", "sgdp"),  # a hook that is called
    ("sgld", "lion"),  # random numbers
    ("adafactor", "adafactor(lr=0.1)"),  # twice the same
    ("sgd_sai", "rprop"),
    ("soap", "adopt"),
]


class Block(nn.Module):
    """An embedding, a normalized layer with a nonlinearity, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.norm = nn.LayerNorm(6)
        self.up = nn.Linear(6, 8)
        self.down = nn.Linear(8, 6)
        self.head = nn.Linear(6, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.down(torch.tanh(self.up(self.norm(x))))
        return self.head(x)


def block() -> Block:
    torch.manual_seed(3)
    return Block()


def give(model: nn.Module, step: int) -> Tensor:
    """Set the gradients of a step; the loss."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(11, (4, 5), generator=generator)
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    loss.backward()
    return loss.detach()


def run(model: nn.Module, *optimizers: Optimizer, steps: range = range(5)) -> None:
    for step in steps:
        give(model, step)
        for each in optimizers:
            each.step()


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def hidden(model: nn.Module) -> list[Tensor]:
    return [model.up.weight, model.down.weight]


def others(model: nn.Module) -> list[Tensor]:
    return [
        p for p in model.parameters() if all(p is not each for each in hidden(model))
    ]


def alone(model: nn.Module, **options: object) -> tuple[Optimizer, Optimizer]:
    """What MuonAdamW is, by two optimizers."""
    muon = Muon(hidden(model), lr=0.02, weight_decay=0.01, **options)
    rest = {"lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.01}
    return muon, AdamW(others(model), **rest, **options)


def roundtrip(optimizer: Optimizer) -> dict:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)
