"""What a rule of the library is held against: a class that a person wrote, and settings
that show every term of it.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

Hypers = Mapping[str, Any]
FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Reference:
    """`cls` takes the hypers of the spec by their names. Each of the `settings` are
    hypers for both; `states` has our name and theirs for each state that is called
    otherwise, or None for one that they do not keep. Where the rule takes no other
    parameters, `shapes` names those of tests/parity.py that it does take; `one_group` where
    theirs knows no groups. The learning rates are `falling`, from step to step, where the
    rule knows what they were at first. The methods `by_hand` are called after some steps.
    Where the rule is `random`, the groups have seeds.
    """

    cls: type[Optimizer]
    settings: tuple[Hypers, ...]
    states: Mapping[str, str | None] = field(default_factory=dict)
    shapes: tuple[str, ...] = ()
    one_group: bool = False
    falling: bool = False
    by_hand: tuple[str, ...] = ()
    random: bool = False


def references() -> dict[str, Reference]:
    """The reference of each spec that has one here: `REFERENCE` in the module of its name."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        module = importlib.import_module(f"tests.handwritten.{path.stem}")
        if hasattr(module, "REFERENCE"):
            found[path.stem] = module.REFERENCE
    return found
