"""Type stubs of the library, so that an editor completes the arguments of a class.

In: lowered rules. Out: the text of optdsl/optim/__init__.pyi.
"""

from collections.abc import Iterable, Mapping

from .. import ir
from . import again, route
from .route import Rules
from .signature import parameters

_HEAD = '''"""The library as classes. Written from specs/ by `make bless`."""

from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import Optimizer, ParamsT
'''


def stub(rules: Iterable[ir.Rule], routes: Mapping[str, Rules]) -> str:
    """The stubs of several rules, and of routes among rules by their names, one class
    each.
    """
    classes = "".join(
        _class(
            each.name,
            parameters(each),
            [f"{hook.name}({again.parameters(hook)})" for hook in each.hooks],
        )
        for each in rules
    )
    for name, each in routes.items():
        classes += _class(name, route.parameters(each), _methods(each))
    head = _HEAD
    if "math." in classes:
        head = head.replace("from collections", "import math\nfrom collections", 1)
    return head + classes


def _methods(rules: Rules) -> list[str]:
    return [f"{name}(self)" for name in route.hook_names(rules)]


def _class(name: str, parameters: list[str], hooks: Iterable[str]) -> str:
    lines = [
        "",
        f"class {name}(Optimizer):",
        "    def __init__(",
        "        self,",
    ]
    lines.append("        params: ParamsT,")
    lines += [f"        {each}" for each in parameters]
    lines += ["    ) -> None: ..."]
    lines.append(
        "    def step(self, closure: Callable[[], Any] | None = None) -> Any: ..."
    )
    lines += [f"    def {each} -> None: ..." for each in hooks]
    return "\n".join(lines) + "\n"
