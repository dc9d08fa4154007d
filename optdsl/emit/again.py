"""The gradient taken anew within a step: the closure evaluated again, with the parameters
moved to where a hook wants the gradient.

In: a rule. Out: the lines that ask for a closure, and the method that evaluates it.
"""

from .. import ir

CLOSURE = "closure"
METHOD = "_take_gradients_at"
_METHOD = '''
    def _take_gradients_at(
        self, places: list[Tensor], closure: Callable[[], Any]
    ) -> None:
        """Evaluate the closure with the parameters that have a gradient moved to these
        places, and leave them with their old values and the gradients that it found.
        """
        every = [p for group in self.param_groups for p in group["params"]]
        moved = [p for p in every if p.grad is not None]
        values = [p.detach().clone() for p in moved]
        try:
            for p, place in zip(moved, places, strict=True):
                {0}.copy_(place)
            # What the closure clears or adds to is not what the model has now.
            for p in every:
                p.grad = None
            with torch.enable_grad():
                closure()
        finally:
            for p, value in zip(moved, values, strict=True):
                p.copy_(value)
        found = [p.grad for p in moved]
        for p in every:
            p.grad = None
        for p, grad in zip(moved, found, strict=True):
            p.grad = grad
        if all(grad is None for grad in found):
            raise RuntimeError("the closure has to call backward, each time it is called")
'''
_AS_REAL = "(torch.view_as_real(p) if torch.is_complex(p) else p)"


def method(rule: ir.Rule) -> str:
    """The method that takes gradients at other places."""
    if not rule.evaluates:
        return ""
    return _METHOD.format(_AS_REAL if rule.pairs else "p")


def asks_for_closure(rule: ir.Rule) -> list[str]:
    """The lines of `step` that refuse to go on without a closure."""
    if not rule.evaluates:
        return []
    return [
        f"if {CLOSURE} is None:",
        "    raise RuntimeError(",
        f'        "{rule.name} takes the gradient twice in a step: call step(closure), "',
        '        "with a closure that clears gradients, calls backward and returns the loss"',
        "    )",
    ]


def takes(hook: ir.Hook) -> bool:
    """Whether a hook takes the gradient anew."""
    return any(ir.is_evaluation(node) for each in hook.body for node in ir.walk(each))


def parameters(hook: ir.Hook) -> str:
    """What the method of a hook is given."""
    return f"self, {CLOSURE}: Callable[[], Any]" if takes(hook) else "self"
