"""A foreach step takes no more memory than torch's for the same rule and options."""

from typing import Any

import pytest
import torch

from benchmarks.peak_memory import RULES, options_of, peak
from optdsl import load_optimizer

CASES = [
    pytest.param(rule, options, id=f"{rule}({options})")
    for rule in RULES
    for options in options_of(rule)
]
# torch negates Rprop's products instead of its gradients, and saves their copy.
KNOWN = {("rprop", "maximize"): 1}


@pytest.mark.parametrize(("rule", "options"), CASES)
def test_foreach_takes_no_more_memory_than_torch_s(
    rule: str, options: dict[str, Any]
) -> None:
    """To a hundredth: a few numbers beside each tensor of 4096."""
    ours = peak(load_optimizer(rule), **options)
    theirs = peak(getattr(torch.optim, RULES[rule]), **options)
    assert ours <= theirs + KNOWN.get((rule, *options), 0) + 0.01
