"""Random specs that reduce along axes, each from a seed.

Kinds of expressions: T like the parameter, R what is left of it without its last axis, C
without the one before, M without both, S a tensor scalar, H a host number; F, G, D flags
like T, R and C. C and M stand where there are matrices alone.
"""

import random
import re

FORMS = {
    "T": (
        "({T} + {T})", "({T} - {H}*{T})", "({T}*{R})", "({T} - {R})", "{T}/(1 + abs({R}))",
        "where({G}, {T}, {R})", "where({F}, {T}, {T})", "max({T}, {R})", "tanh({T})",
        "({T} if {Q} else {T})", "({S}*{T})", "{T}/(1 + {S}**2)", "lerp({T}, {T}, {H})",
        "({T}*sqrt(abs({R}) + {H}))", "rsqrt(1 + {T}**2)", "({G}*{T})", "({T} + {R}*{R})",
        "full_like({T}, {H})", "({T} + zeros_like({R}))", "half({T})",
    ),
    "R": (
        "mean({T}, dim=-1, keepdim=true)", "0.1*sum({T}, dim=-1, keepdim=true)",
        "norm({T}, dim=-1, keepdim=true)", "max({T}, dim=-1, keepdim=true)",
        "min({T}, dim=-1, keepdim=true)", "({R} + {R})", "({R}*{S})", "lerp({R}, {R}, {H})",
        "{R}/(1 + abs({R}))", "where({G}, {R}, {H})", "sqrt(abs({R}) + {H})", "tanh({R})**2",
        "({R} if {Q} else {R})", "half({R})", "mean({R}, dim=-1, keepdim=true)",
        "norm({R}, dim=-1, keepdim=true)", "({G}*{R})",
    ),
    "S": (
        "norm({T})", "mean({T})", "0.1*sum({R})", "max({R})", "mean({R}*{R})", "min({T})",
        "({S}*{S})", "{S}/(1 + {S}**2)", "norm({R})", "0.1*dot({T}, {T})", "as_tensor({H})",
        "where(any({F}), {S}, {H})", "where(all({G}), {S}, {H})", "0.1*dot({R}, {R})",
    ),
    "F": ("({T} > {T})", "({T} < {R})", "(not {T} > {S})"),
    "G": ("({R} > {R})", "any({F}, dim=-1, keepdim=true)", "all({F}, dim=-1, keepdim=true)"),
    "H": ("({H} + {H})", "({H}*{H})", "{H}/(1 + {H})", "sqrt({H})", "numel(p)**0.5"),
    "Q": ("lr > 0.05", "ndim(p) > 1", "ndim(p) == 3", "flag", "t > 1", "ndim(p) < 3"),
}  # fmt: skip
OF_MATRICES = {
    "T": (
        "({T}*{C})", "{T}/(1 + abs({C}))", "({R} @ {C})", "({R}*{C} + {T})", "max({T}, {C})",
        "where({D}, {T}, {C})", "({T} + {M})", "({T} - {C}/(1 + {M}**2))",
        "({R} @ {C})/(1 + abs({M}))", "({T}*rsqrt(1 + {R}**2)*rsqrt(1 + {C}**2))",
    ),
    "R": ("({R}*{M})", "{R}/(1 + abs({M}))", "size(p, -1)**0.5*{R}"),
    "C": (
        "mean({T}, dim=-2, keepdim=true)", "0.1*sum({T}, dim=-2, keepdim=true)",
        "norm({T}, dim=-2, keepdim=true)", "max({T}, dim=-2, keepdim=true)",
        "({C} + {C})", "({C}*{M})", "lerp({C}, {C}, {H})", "{C}/(1 + abs({C}))",
        "where({D}, {C}, {M})", "rsqrt(1 + {C}**2)", "({C} if {Q} else {C})",
        "mean({C}, dim=-2, keepdim=true)", "{C}/size(p, -2)",
    ),
    "M": (
        "mean({R}, dim=-2, keepdim=true)", "norm({C}, dim=-1, keepdim=true)",
        "max({C}, dim=-1, keepdim=true)", "mean({T}, dim=(-2, -1), keepdim=true)",
        "max({T}, dim=(-1, -2), keepdim=true)", "({M} + {M})", "({M}*{S})", "tanh({M})",
        "norm({T}, dim=(-2, -1), keepdim=true)",
    ),
    "S": ("0.1*sum({C})", "max({M})", "norm({C})", "mean({M})"),
    "D": ("({C} > {C})", "any({F}, dim=-2, keepdim=true)", "({C} > {M})"),
}  # fmt: skip
STATES = {
    "T": "state {} = 0", "R": "state {} = mean(grad, dim=-1, keepdim=true)",
    "C": "state {} = 0.5*norm(grad, dim=-2, keepdim=true) when ndim(p) > 1",
    "M": "state {} = mean(grad, dim=(-2, -1), keepdim=true) when ndim(p) > 1",
}  # fmt: skip
LEAVES = {
    "T": ("p", "grad"), "R": ("mean(grad, dim=-1, keepdim=true)",), "S": ("norm(grad)",),
    "C": ("mean(grad, dim=-2, keepdim=true)",), "H": ("0.5", "0.1", "0.9", "2", "lr"),
    "M": ("mean(grad, dim=(-2, -1), keepdim=true)",), "F": ("(grad > 0)",),
    "G": ("(mean(grad, dim=-1, keepdim=true) > 0)",), "Q": ("flag", "ndim(p) > 1"),
    "D": ("(mean(p, dim=-2, keepdim=true) > 0)",),
}  # fmt: skip


REST = """
def rest(x):
    if ndim(x) == 2: return transpose(sum(transpose(x), dim=0, keepdim=true))
    elif ndim(x) == 3: return sum(x, dim=(1, 2), keepdim=true)
    else: return sum(x, dim=(1, 2, 3), keepdim=true)"""


def _first(form: str) -> str:
    """A form where R lacks the first axis and C all others, in place of the last two."""
    form = re.sub(r"\w+\(([^,]+), dim=\(-\d, -\d\), ", r"norm(rest(\1), dim=0, ", form)
    form = re.sub(r"\w+\(([^(,]+), dim=-2, keepdim=true\)", r"tanh(rest(\1))", form)
    form = form.replace("dim=-1", "dim=0").replace("({R} @ {C})", "({R}*{C})")
    return form.replace("size(p, -1)", "size(p, 1)").replace(
        "size(p, -2)", "size(p, 0)"
    )


class Writer:
    """Writes one spec; `names` are those that may be read, by kind, and `guarded` those
    that may where there are matrices. With `last` axes are counted from the end and
    matrices are the last two; otherwise R lacks the first axis, and C all others.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.last = self.random.random() < 0.75
        self.matrices = False
        self.names: dict[str, list[str]] = {"T": ["p", "grad"]}
        self.guarded: dict[str, list[str]] = {"C": [], "M": []}
        self.made = 0

    def expr(self, kind: str, depth: int) -> str:
        if depth <= 0 or self.random.random() < 0.2:
            leaves = map(self._seen, LEAVES[kind])
            return self.random.choice((*self.names.get(kind, []), *leaves))
        forms = [*FORMS.get(kind, ())]
        if self.matrices:
            forms += OF_MATRICES.get(kind, ()) * 2
        form = self._seen(self.random.choice(forms))
        return re.sub(r"\{(\w)\}", lambda hole: self.expr(hole[1], depth - 1), form)

    def _seen(self, form: str) -> str:
        return form if self.last else _first(form)

    def statement(self, depth: int) -> list[str]:
        choice = self.random.random()
        if depth and choice < 0.35:
            return self.branch(depth)
        kind = self.random.choice("TTTRRSCCM" if self.matrices else "TTTRRS")
        states = [name for name in self.names.get(kind, ()) if name != "grad"]
        states = [name for name in states if not name.startswith("x")]
        if states and choice < 0.7:
            name = self.random.choice(states)
            return [f"{name} = {self.expr(kind, 3)} + 0.5*{name}"]
        self.made += 1
        name = f"x{self.made}"
        line = f"{name} = {self.expr(kind, 3)}"
        self.names.setdefault(kind, []).append(name)
        used = f"{name}/(1 + {name}**2)*p" if kind == "S" else f"tanh({name})"
        return [line, f"p -= 0.1*{used}"]

    def branch(self, depth: int) -> list[str]:
        condition = "ndim(p) > 1" if self.random.random() < 0.6 else self.expr("Q", 1)
        names, matrices = self._known(), self.matrices
        lines = [f"if {condition}:"]
        if condition == "ndim(p) > 1":
            self.matrices = True
            for kind, guarded in self.guarded.items():
                self.names[kind] = [*dict.fromkeys([*names.get(kind, ()), *guarded])]
        lines += self.block(depth - 1)
        self.names, self.matrices = names, matrices
        if self.random.random() < 0.4:
            names = self._known()
            lines += ["else:", *self.block(depth - 1)]
            self.names = names
        return lines

    def _known(self) -> dict[str, list[str]]:
        return {kind: [*names] for kind, names in self.names.items()}

    def block(self, depth: int) -> list[str]:
        count = self.random.randint(1, 3)
        return ["    " + x for _ in range(count) for x in self.statement(depth)]

    def spec(self) -> str:
        states = {}
        for at, kind in enumerate(self.random.choices("TRCM", k=3)):
            name = f"{kind.lower()}{at}"
            states[name] = self._seen(STATES[kind]).format(name)
            of = self.guarded if kind in "CM" else self.names
            of.setdefault(kind, []).append(name)
        body = [x for _ in range(self.random.randint(2, 5)) for x in self.statement(2)]
        if self.random.random() < 0.15:
            of = self.expr(self.random.choice("TR"), 2)
            over = self.random.choice(("group", "model"))
            body += [f"y = {of}", f"total = mean(y*y, over={over})"]
            body.append("p -= 0.1*total/(1 + total)*p")
        # Every state is written and read.
        for name in states:
            lines = [f"{name} = 0.5*{name} + 0.1*tanh({name})", f"p -= 0.1*{name}"]
            if name[0] in "cm":
                lines = ["if ndim(p) > 1:", *("    " + x for x in lines)]
            body += lines
        body.append("p -= lr*grad")
        lines = [
            "optimizer Mine",
            "hyper lr = 0.1 in (0, 1]",
            *states.values(),
            "step:",
        ]
        text = "\n".join([*lines, *("    " + x for x in body)]) + "\n"
        more = "\nhyper flag = false" * ("flag" in text)
        defs = "\ndef half(x) = 0.5*x" * ("half(" in text) + REST * ("rest(" in text)
        text = text.replace("optimizer Mine", f"optimizer Mine{more}")
        return '"""A random rule."""\n' + text.replace("\nstep:", f"{defs}\nstep:")


def spec(seed: int) -> str:
    """The text of a random spec; not every one is valid."""
    return Writer(seed).spec()
