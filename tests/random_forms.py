"""What random specs are made of: declarations, conditions and expressions.

Kinds of expressions: T like the parameter, R a row of it, S a tensor scalar, F and G
flags like T and R, H a host scalar, K one of hypers and numbers alone, J one that comes
off a device, C a host condition. Where parameters are matrices: Q the rows of the
parameter times its rows, U the transpose of T.
"""

import re
from contextlib import contextmanager

from hypothesis import strategies as st

FORMS = {
    "T": (
        "({T} + {T})", "({T} - {T})", "({T} * {T})", "{T}/(1 + abs({T}))", "({H}*{T})",
        "({T}*{H})", "({T} + {H}*{T})", "({T} - {H}*{T}*{T})", "({H}*{T}*{T} + {T})",
        "({T} + {H}*{T}/(1 + {T}**2))", "({H}*{T} + {H}*{T})", "({H} - {T})", "({T} - {H})",
        "{T}/{H}", "-{T}", "({S}*{T})", "({R} + {T})", "({T}*{R})", "({T} - {S})",
        "{H}/(1 + {T}**2)", "{S}/(1 + abs({T}))", "abs({T})", "sqrt(abs({T}) + 1e-3)",
        "{T}**2", "square({T})", "(1 + abs({T}))**0.5", "2**tanh({T})", "tanh({T})",
        "(1 + abs({T}))**tanh({T})", "sigmoid({T})", "sin({T})", "atan({T})", "erf({T})",
        "exp(-abs({T}))", "log1p(abs({T}))", "rsqrt(1 + abs({T}))", "reciprocal(1 + abs({T}))",
        "sign({T})", "round({T})", "atan2({T}, {H} + 1)", "max({T}, {T})", "min({T}, {T})",
        "max({T}, {H})", "min({H}, {T})", "min({T}, {S})", "max({R}, {T})",
        "clamp({T}, -{H}, {H})", "lerp({T}, {T}, {H})", "lerp({T}, {T}, sigmoid({T}))",
        "lerp({H}, {T}, {H})", "lerp({T}, {H}, {H})", "lerp({S}, {T}, sigmoid({S}))",
        "where({F}, {T}, {T})", "where({F}, {T}, 0)", "where({F}, {H}, {H})",
        "({T} if {F} else {T})", "where({G}, {T}, {T})", "where(({T} < {T}*{H}), {T}, {T})",
        "({T} if {C} else {T})", "({C?T})", "full_like({T}, {H})", "({T} + zeros_like({T}))",
        "({F}*{T})", "({T}*{F})", "({T} + {H}*{T}*{F})", "({F}*{T}*{T} - {T})", "({G}*{T})",
        "({J}*{T})", "({T} - {J}*{T})", "{T}/(1 + {J}**2)", "lerp({T}, {T}, {J})",
        "({T}*{J} + {J})", "randn_like({T})", "({T}*rand_like({T}) + {R}*randn_like({R}))",
        "reshape_as(flatten({T}), {T})", "({T} - {H}*reshape_as({T}, {T}))",
        "reshape_as(reshape({T}, (-1,)), {T})", "movedim(movedim({T}, 0, -1), -1, 0)",
        "reshape_as(diag(diag(flatten({T}))), {T})", "(narrow({T}, 0, 0, 1) + {T})",
        "reshape_as(index_select(flatten({T}), 0, argsort(flatten({T}))), {T})",
    ),
    "R": (
        "({R} + {R})", "({R}*{R})", "({H}*{R})", "({S}*{R})", "({R} - {H}*{R}*{R})", "-{R}",
        "sqrt(abs({R}) + 1e-3)", "max({R}, {R})",
        "lerp({R}, {R}, {H})", "({R} if {C} else {R})",
        "mean({T}, dim=-1, keepdim=true)", "max({T}, dim=-1, keepdim=true)",
        "norm({T}, dim=-1, keepdim=true)", "where({G}, {R}, {R})", "{R}/(1 + abs({R}))",
    ),
    "S": (
        "norm({T})", "mean({T})", "mean({T}*{T})", "0.1*sum({T})", "0.1*dot({T}, {T})",
        "max({T})", "min({T})", "({S} + {S})", "({S}*{S})", "({H}*{S})", "({S} - {H}*{S}*{S})",
        "sqrt(abs({S}) + 1e-3)", "max({S}, {S})", "min({S}, {H})", "{S}/(1 + abs({S}))",
        "lerp({S}, {S}, {H})", "({S} if {C} else {S})", "where({S} > {S}, {S}, {S})",
        "({S} if norm({T}) > {H} else {H})", "tanh({S})", "{S}**2",
        "as_tensor({H})", "as_tensor({J})", "({J}*{S})", "({S} + {J})", "(loss + {S})",
        "loss/(1 + {S}**2)",
    ),
    "J": ("item({S})", "({J}*{J})", "({H}*{J})", "({J} - {K})", "max({K}, {J})",
          "{K}/(1 + {J}**2)"),
    "F": ("({T} > {T})", "({T} < {H})", "({T} > {H} and {T} < {T})", "(not {T} > {S})",
          "({F} or {F})", "isfinite({T})", "({H} < {T} <= {T})", "topk({T}, 3)",
          "topk(abs({T}), rounds)", "topk({T}, numel({T})//2)"),
    "G": ("({R} > {R})", "({R} <= {H})"),
    "H": ("({H} + {H})", "({H}*{H})", "max({H}, {H})", "({H} if {C} else {H})",
          "sqrt(abs({H}))", "{H}/(1 + {H})", "(0.5 + {K} % 2)", "(0.5 + {K} // 1)"),
    "K": ("({K} + {K})", "({K}*{K})", "max({K}, {K})", "({K} if {C} else {K})",
          "sqrt(abs({K}))", "{K}/(1 + {K})", "(0.5 + {K} % 1)", "(1 + rounds // 2)",
          "(1 + floor(3*{K}))", "(0.3 if pair[0] == none else pair[0])", "(pair[1] + {K})",
          "(many[1]*{K})", "len(many)", "many[rounds % 2]"),
    "C": ("not {C}", "({C} and {C})", "({C} or {C})", "{H} > {H}", "rounds % 2 == 1"),
}  # fmt: skip
MATRIX_FORMS = {
    "T": ("0.1*({Q} @ ({T}))", "({H}*{T} + {Q} @ ({T}))", "({T} - 0.1*{Q} @ ({T}))",
          "transpose({U})", "(0.5*({T}) @ ({U} @ ({T})))", "transpose(transpose({T}))",
          "({Q} @ ({T}))"),
    "Q": ("0.1*(({T}) @ transpose({T}))", "({Q} + {Q})", "0.1*({Q} @ {Q})",
          "(({T}) @ {U})", "({H}*{Q} + {H}*{Q} @ {Q})", "(-{Q})", "tanh({Q})",
          "max({Q}, {H})", "transpose({Q})", "({Q} - ({T}) @ {U})", "({Q} if {C} else {Q})"),
    "U": ("transpose({T})", "({U} + {U})", "({U} @ {Q})", "({H}*{U})", "({U} - {H}*{U}*{U})"),
}  # fmt: skip
# Of complex numbers, inside `complex:`.
LINEAR_FORMS = (
    "({T} + {T})", "({T} - {T})", "({H}*{T})", "({T}*{H})", "({T} - {H}*{T})", "{T}/{H}",
    "-{T}", "lerp({T}, {T}, {H})", "({T} if {C} else {T})", "({H}*{T} + {H}*{T})",
)  # fmt: skip
# What all parameters of a group, or of the model, make together.
# The gradient taken anew, at the end of a hook.
ANEW = (
    "grad = gradient(p + 0.1*grad)",
    "if flag: grad = gradient(p - 0.1*grad/(1 + abs(grad)))",
    "grad = gradient(p - grad/(1 + norm(grad, over=model))); grad *= 0.5",
    "grad = gradient(p)",
)
TOGETHER = (
    "norm({{T}}, over={0})", "0.1*sum({{T}}, over={0})", "mean({{T}}*{{T}}, over={0})",
    "0.1*dot({{T}}, {{T}}, over={0})", "max({{T}}, over={0})", "min({{S}}, over={0})",
    "0.1*sum({{S}}, over={0})", "{{K}}/sum(numel(p), over={0})",
    "where(any({{F}}, over={0}), {{S}}, {{K}})", "({{K}}*norm({{T}}, over={0}) + {{K}})",
)  # fmt: skip
SHARED = {
    "g0": "state g0: group = 0.5", "k0": "state k0: model = 1", "k1": "state k1: model = eps",
}  # fmt: skip
# Places in a form that a tensor scalar cannot take.
_HOST_ALONE = ("clamp", "full_like", " if {C}", "{H} > {H}")
# Where there are no axes but rows and columns.
SIZED_FORMS = {
    "T": ("reshape(movedim({T}, 1, 0), (size(p, 0), -1))",
          "(inverse_root(({Q}) @ transpose({Q}) + eye(size(p, 0)), 4) @ ({T}))",
          "({T} + {K}*zeros((size(p, 0), size(p, 1))))",
          "({T} - narrow({T}, 0, size(p, 0)//2, 1))",
          "index_select({T}, 0, argsort(diag({Q}), descending=true))"),
    "Q": ("(eye(size(p, 0)) - 0.1*{Q})", "diag(diag({Q}))", "reshape({Q}, (-1, size(p, 0)))",
          "inverse_root(({Q}) @ transpose({Q}) + eye(size(p, 0)), 2)"),
}  # fmt: skip
NUMBERS = ("0.5", "0.1", "0.9", "0.25", "1", "2")
HYPERS = {
    "lr": "hyper lr = 0.1 in (0, 1]", "eps": "hyper eps = 0.5",
    "betas": "hyper betas = (0.9, 0.5) in [0, 1)",
    "flag": "hyper flag = false", "other": "hyper other = true",
    "rounds": "hyper rounds: int = 2 in [0, 5)", "pair": "hyper pair = (none, 0.5)",
    "many": "hyper many: tuple = (0.5, 0.9) in [0, 1)",
}  # fmt: skip
STATES = (
    ("T", "state {} = 0"), ("T", "state {} = 0"), ("T", "state {} = 0.5"),
    ("T", "state {} = p"), ("T", "state {} = grad"), ("T", "state {} = grad*grad"),
    ("S", "state {} = norm(grad)"), ("T", "state {} = randn_like(p)"),
    ("R", "state {} = mean(grad, dim=-1, keepdim=true)"), ("H", "state {}: scalar = 0.5"),
    ("T", "state {}[i in range(2)] = 0"), ("T", "state {}[i in range(2)] = (i + 1)*grad"),
    ("T", "state {}[i in range(1 + len(many)//2)] = p"),
)  # fmt: skip
MATRIX_STATES = (
    ("Q", "state {} = grad @ transpose(grad)"), ("Q", "state {} = 0.5*p @ transpose(p)"),
    ("U", "state {} = transpose(grad)"), ("U", "state {} = transpose(p)"),
    ("Q", "state {} = 0.5*eye(size(p, 0))"),
    ("Q", "state {} = zeros((size(p, 0), size(p, 0)))"),
    ("Q", "state {}[i in range(2)] = (i + 0.5)*eye(size(p, 0))"),
    ("T", "state {}[i in range(ndim(p))] = reshape(grad, (size(p, 0), size(p, 1)))"),
)  # fmt: skip
HYPER_KINDS = {"lr": "K", "eps": "K", "initial(lr)": "K"}
FIRST = {
    "T": "grad", "R": "mean(grad, dim=-1, keepdim=true)", "S": "norm(grad)", "H": "0.5",
    "F": "(grad > 0)", "G": "(mean(grad, dim=-1, keepdim=true) > 0)", "J": "item(norm(grad))",
    "Q": "(grad @ transpose(grad))", "U": "transpose(grad)",
}  # fmt: skip
CONDITIONS = {
    "pre_step": ("other", "lr > 0.05", "ndim(p) > 1"),
    "step": ("other", "t > 1", "first", "lr > 0.05", "ndim(p) > 1", "flag"),
    "post_step": ("other", "t > 1", "lr > 0.05", "flag"),
    "def": ("numel(a) > 4",),
}  # fmt: skip
# The two sides of a branch that a target may decide, which mean the same.
SIDES = (
    ("({H}*{T})", "(as_tensor({H})*{T})"), ("({T} - {H})", "({T} - as_tensor({H}))"),
    ("({T} + {S}*{T})", "({S}*{T} + {T})"), ("lerp({T}, {T}, {K})", "lerp({T}, {T}, {K})"),
    ("{T}/(1 + ({H})**2)", "{T}/(1 + as_tensor({H})**2)"), ("({J} - {T})", "({J} - {T})"),
    ("where({F}, {T}, {H})", "where({F}, {T}, as_tensor({H}))"),
)  # fmt: skip
FLAGS = (
    "capturable", "capturable or differentiable", "differentiable or capturable",
    "not capturable", "capturable and not differentiable", "{C} and capturable",
)  # fmt: skip


_AXES = re.compile(r"dim=|ndim|numel|\{[RGQU]\}|reshape|flatten|movedim|narrow|select")
# A matrix that is taken apart, and one that the parts make again.
PARTS = (
    ("T", "{x}, {y} = qr({T})", "{x} @ {y}"),
    ("T", "{x}, {y}, {z} = svd({T})", "({x}*{y}) @ {z}"),
    ("Q", "{x}, {y} = eigh(({Q}) @ transpose({Q}))", "({y}*{x}) @ transpose({y})"),
    ("Q", "{y}, {z} = eigh(({Q}) @ transpose({Q}))", "{z} @ diag(2*{y}) @ transpose({z})"),
)  # fmt: skip


class Phrases:
    """Draws expressions: `kinds` of the names that may be read here, and the `target`
    that they should mention. Where the spec is to be `captured`, no count and no state
    decides what the host does; `matrix` says that parameters are matrices here, or batches
    of some, where they are not `sized`; `linear` that they may be complex numbers.
    Without `axes` nothing depends on shapes.
    """

    def __init__(self, draw, axes: bool = True) -> None:
        self.draw, self.axes = draw, axes
        self.place, self.target = "step", ""
        self.captured = self.matrix = self.sized = self.linear = self.looped = False
        self.states: dict[str, tuple[str, str, str]] = {}  # kind, declaration, guard
        self.defs: dict[str, str] = {}
        self.numeric: list[str] = []  # calls of defs, forms of a number of numbers
        self.kinds: dict[str, str] = {}
        self.writable: list[str] = []
        self.indices: list[str] = []  # of the loops around

    def below(self, size: int) -> int:
        return self.draw(st.integers(0, size - 1))

    def one(self, options):
        return options[self.below(len(options))]

    def expr(self, kind: str, depth: int) -> str:
        if depth <= 0 or self.below(4) == 3:
            return self.leaf(kind)
        if kind == "T" and self.defs and not self.linear and self.below(6) == 5:
            name = self.one(sorted(self.defs))
            inner = ", ".join(
                self.expr("T", depth - 1) for _ in range(self.defs[name].count(",") + 1)
            )
            return f"{name}({inner})"
        if kind == "H" and self.numeric and self.below(6) == 5:
            return self.filled(self.one(self.numeric), depth - 1)
        form = self.one(self.forms(kind))
        if self.place == "def" and re.search(
            r"keepdim|rounds|pair|many|size\(p|\{J\}|as_tensor", form
        ):
            return self.leaf(kind)
        if "rand" in form and (self.looped or self.not_here()):
            return self.leaf(kind)
        if "loss" in form and self.not_here():
            return self.leaf(kind)
        if form == "({C?T})" and self.place in ("step", "post_step"):
            return self.guarded(depth)
        return self.filled(form.replace("C?T", "T"), depth - 1)

    def not_here(self) -> bool:
        """Whether what is known to a step that is not captured is not known here."""
        return self.place != "step" or self.captured

    def forms(self, kind: str) -> tuple[str, ...]:
        if self.linear and kind == "T":
            return LINEAR_FORMS
        forms = FORMS.get(kind, ())
        if not self.axes:
            return tuple(each for each in forms if not _AXES.search(each))
        forms = (*forms, *MATRIX_FORMS.get(kind, ())) if self.matrix else forms
        sized = self.sized and self.place != "def"
        return (*forms, *SIZED_FORMS.get(kind, ())) if sized else forms

    def filled(self, form: str, depth: int, drawn: dict[str, str] | None = None) -> str:
        """The form with its holes filled; those of a kind that is `drawn`, with that."""
        if self.captured and any(each in form for each in _HOST_ALONE):
            form = form.replace("{H}", "{K}")
        fill = drawn or {}
        return re.sub(
            r"\{(\w)\}",
            lambda hole: fill.get(hole[1]) or self.expr(hole[1], depth),
            form,
        )

    def guarded(self, depth: int) -> str:
        """A choice by a flag that some states need."""
        with self.knowing("flag"):
            then = self.expr("T", depth - 1)
        return f"({then} if flag else {self.expr('T', depth - 1)})"

    def leaf(self, kind: str) -> str:
        same = {"H": "HK"}.get(kind, kind)
        names = [name for name, each in self.kinds.items() if each in same]
        if self.kinds.get(self.target) == kind and self.below(2):
            return self.target
        if kind in "HK":
            return self.one([*NUMBERS, *names])
        if names:
            return self.one(names)
        if kind == "C":
            conditions = CONDITIONS[self.place]
            if self.captured:
                conditions = [each for each in conditions if each != "t > 1"]
            if not self.axes:
                conditions = [each for each in conditions if not _AXES.search(each)]
            return self.one(conditions or ["0.5 > 0.25"])
        tensor = next(name for name, each in self.kinds.items() if each == "T")
        return FIRST[kind].replace("grad", tensor)

    def refs(self, state: str) -> list[str]:
        """What can be read of a state: itself, or those of a list, by the indices of the
        loops around as well.
        """
        if "[i in" not in self.states[state][1]:
            return [state]
        return [f"{state}[{at}]" for at in ("0", "1", *self.indices)]

    @contextmanager
    def knowing(self, condition: str):
        """With the states that exist where a condition holds."""
        guarded = {
            ref: kind for name, (kind, _, guard) in self.states.items()
            if guard and guard == condition and self.place in ("step", "post_step")
            for ref in self.refs(name)
        }  # fmt: skip
        before = dict(self.kinds), list(self.writable)
        self.kinds |= guarded
        self.writable += guarded
        yield
        self.kinds, self.writable = before
