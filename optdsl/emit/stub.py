"""Type stubs of the library, so that an editor completes the arguments of a class.

In: lowered rules. Out: the text of optdsl/optim/__init__.pyi.
"""

from collections.abc import Iterable

from .. import ir
from . import again
from .signature import parameters

_HEAD = '''"""The library as classes. Written from specs/ by `make bless`."""

from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import Optimizer, ParamsT
'''


def stub(rules: Iterable[ir.Rule]) -> str:
    """The stubs of several rules, one class each."""
    classes = "".join(map(_class, rules))
    head = _HEAD
    if "math." in classes:
        head = head.replace("from collections", "import math\nfrom collections", 1)
    return head + classes


def _class(rule: ir.Rule) -> str:
    lines = [
        "",
        f"class {rule.name}(Optimizer):",
        "    def __init__(",
        "        self,",
    ]
    lines.append("        params: ParamsT,")
    lines += [f"        {each}" for each in parameters(rule)]
    lines += ["    ) -> None: ..."]
    lines.append(
        "    def step(self, closure: Callable[[], Any] | None = None) -> Any: ..."
    )
    lines += [
        f"    def {hook.name}({again.parameters(hook)}) -> None: ..."
        for hook in rule.hooks
    ]
    return "\n".join(lines) + "\n"
