"""Type stubs of the library, so that an editor completes the arguments of a class.

In: lowered rules. Out: the text of optdsl/optim/__init__.pyi.
"""

from collections.abc import Iterable

from .. import ir, vocabulary
from .expr import text
from .loop import annotation

_HEAD = '''"""The library as classes. Written from specs/ by `make bless`."""

from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import Optimizer, ParamsT
'''
_FLAGS = {
    "maximize": "bool = False",
    "capturable": "bool = False",
    "differentiable": "bool = False",
}


def stub(rules: Iterable[ir.Rule]) -> str:
    """The stubs of several rules, one class each."""
    return _HEAD + "".join(_class(rule) for rule in rules)


def _class(rule: ir.Rule) -> str:
    lines = [
        "",
        "",
        f"class {rule.name}(Optimizer):",
        "    def __init__(",
        "        self,",
    ]
    lines.append("        params: ParamsT,")
    for hyper in rule.hypers:
        default = text(hyper.default, lambda ref: ref.name)
        lines.append(f"        {hyper.name}: {annotation(hyper)} = {default},")
    lines.append("        *,")
    for flag in vocabulary.FLAGS:
        lines.append(f"        {flag}: {_FLAGS.get(flag, 'bool | None = None')},")
    lines += ["    ) -> None: ..."]
    lines.append(
        "    def step(self, closure: Callable[[], Any] | None = None) -> Any: ..."
    )
    lines += [
        f"    def {hook.name}(self) -> None: ..."
        for hook in (*rule.pre_steps, *rule.post_steps)
    ]
    return "\n".join(lines) + "\n"
