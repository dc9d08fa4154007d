"""Routes: from a spec that chooses among rules to those rules.

In: the tree and the text of a spec with a `route:`. Out: the rules that it names, read, and
which of its lines each of them is for; or OptdslError with every mistake.
"""

from .. import syntax
from .outline import check_outline, clashes
from .reading import Chosen, looked_up

__all__ = ["Chosen", "check_outline", "clashes", "is_routed", "looked_up"]


def is_routed(tree: syntax.Spec) -> bool:
    """Whether a spec chooses among rules, and says none itself."""
    return bool(tree.of(syntax.Route))
