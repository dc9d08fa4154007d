"""A small model in training, as a whole in one process and in halves in two. A process of
the two imports no more than this.
"""

import os
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from optdsl import load_optimizer
from tests.parity import ONLY_SPARSE

Training = tuple[nn.Module, Optimizer]


def small_model(seed: int = 0) -> nn.Module:
    """Two layers without biases, because a rule may take matrices alone."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False)
    )


def backward(model: nn.Module, step: int, optimizer: Optimizer) -> None:
    """Leave the gradients of a step; sparse ones for a rule that takes no others."""
    torch.manual_seed(100 + step)
    model(torch.randn(3, 4)).square().mean().backward()
    if type(optimizer).__name__ in ONLY_SPARSE:
        for p in model.parameters():
            p.grad = p.grad.to_sparse()


def train(one: Training, *steps: int) -> Training:
    model, optimizer = one
    for step in steps:
        optimizer.zero_grad()
        backward(model, step, optimizer)
        optimizer.step()
    return one


def in_halves(
    rank: int, port: int, hypers: dict[str, dict[str, Any]], folder: str
) -> None:
    """What one of two processes does: train the model with each rule, of which it gets the
    hypers, and save what the parameters are as a whole.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for spec, given in hypers.items():
        model = small_model()
        fully_shard(model, mesh=mesh)
        one = model, load_optimizer(spec)(model.parameters(), **given)
        get_optimizer_state_dict(*one)
        train(one, 0, 1, 2)
        saved = get_state_dict(*one)
        new_model = small_model(1)
        fully_shard(new_model, mesh=mesh)
        new = new_model, load_optimizer(spec)(new_model.parameters(), **given)
        set_state_dict(*new, model_state_dict=saved[0], optim_state_dict=saved[1])
        train(new, 3, 4)
        whole = {name: p.full_tensor() for name, p in new_model.named_parameters()}
        if rank == 0:
            torch.save(whole, f"{folder}/{spec}.pt")
    torch.distributed.destroy_process_group()
