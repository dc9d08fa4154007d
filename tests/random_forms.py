"""What random specs are made of: declarations, conditions and expressions.

Kinds of expressions: T like the parameter, R a row of it, S a tensor scalar, F and G
flags like T and R, H a host scalar, C a host condition.
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
    ),
    "F": ("({T} > {T})", "({T} < {H})", "({T} > {H} and {T} < {T})", "(not {T} > {S})",
          "({F} or {F})", "isfinite({T})", "({H} < {T} <= {T})"),
    "G": ("({R} > {R})", "({R} <= {H})"),
    "H": ("({H} + {H})", "({H}*{H})", "max({H}, {H})", "({H} if {C} else {H})",
          "sqrt(abs({H}))", "{H}/(1 + {H})"),
    "C": ("not {C}", "({C} and {C})", "({C} or {C})", "{H} > {H}"),
}  # fmt: skip
NUMBERS = ("0.5", "0.1", "0.9", "0.25", "1", "2")
HYPERS = {
    "lr": "hyper lr = 0.1 in (0, 1]", "eps": "hyper eps = 0.5",
    "betas": "hyper betas = (0.9, 0.5) in [0, 1)",
    "flag": "hyper flag = false", "other": "hyper other = true",
}  # fmt: skip
STATES = (
    ("T", "state {} = 0"), ("T", "state {} = 0"), ("T", "state {} = 0.5"),
    ("T", "state {} = p"), ("T", "state {} = grad"), ("T", "state {} = grad*grad"),
    ("S", "state {} = norm(grad)"),
    ("R", "state {} = mean(grad, dim=-1, keepdim=true)"), ("H", "state {}: scalar = 0.5"),
)  # fmt: skip
HYPER_KINDS = {"lr": "H", "eps": "H"}
FIRST = {
    "T": "grad", "R": "mean(grad, dim=-1, keepdim=true)", "S": "norm(grad)", "H": "0.5",
    "F": "(grad > 0)", "G": "(mean(grad, dim=-1, keepdim=true) > 0)",
}  # fmt: skip
CONDITIONS = {
    "pre_step": ("other", "lr > 0.05", "ndim(p) > 1"),
    "step": ("other", "t > 1", "first", "lr > 0.05", "ndim(p) > 1", "flag"),
    "post_step": ("other", "t > 1", "lr > 0.05", "flag"),
    "def": ("numel(a) > 4",),
}  # fmt: skip


class Phrases:
    """Draws expressions: `kinds` of the names that may be read here, and the `target`
    that they should mention.
    """

    def __init__(self, draw) -> None:
        self.draw = draw
        self.place, self.target = "step", ""
        self.states: dict[str, tuple[str, str, str]] = {}  # kind, declaration, guard
        self.defs: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.writable: list[str] = []

    def below(self, size: int) -> int:
        return self.draw(st.integers(0, size - 1))

    def one(self, options):
        return options[self.below(len(options))]

    def expr(self, kind: str, depth: int) -> str:
        if depth <= 0 or self.below(4) == 3:
            return self.leaf(kind)
        if kind == "T" and self.defs and self.below(6) == 5:
            name = self.one(sorted(self.defs))
            inner = ", ".join(
                self.expr("T", depth - 1) for _ in range(self.defs[name].count(",") + 1)
            )
            return f"{name}({inner})"
        form = self.one(FORMS[kind])
        if "keepdim" in form and self.place == "def":
            return self.leaf(kind)
        if form == "({C?T})" and self.place in ("step", "post_step"):
            return self.guarded(depth)
        form = form.replace("C?T", "T")
        return re.sub(r"\{(\w)\}", lambda found: self.expr(found[1], depth - 1), form)

    def guarded(self, depth: int) -> str:
        """A choice by a flag that some states need."""
        with self.knowing("flag"):
            then = self.expr("T", depth - 1)
        return f"({then} if flag else {self.expr('T', depth - 1)})"

    def leaf(self, kind: str) -> str:
        names = [name for name, each in self.kinds.items() if each == kind]
        if self.kinds.get(self.target) == kind and self.below(2):
            return self.target
        if kind == "H":
            return self.one([*NUMBERS, *names])
        if names:
            return self.one(names)
        if kind == "C":
            return self.one(CONDITIONS[self.place])
        tensor = next(name for name, each in self.kinds.items() if each == "T")
        return FIRST[kind].replace("grad", tensor)

    @contextmanager
    def knowing(self, condition: str):
        """With the states that exist where a condition holds."""
        guarded = {
            name: kind for name, (kind, _, guard) in self.states.items()
            if guard and guard == condition and self.place in ("step", "post_step")
        }  # fmt: skip
        before = dict(self.kinds), list(self.writable)
        self.kinds |= guarded
        self.writable += guarded
        yield
        self.kinds, self.writable = before
