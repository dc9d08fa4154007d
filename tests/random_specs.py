"""Random specs: texts that the checker accepts, with as many ways to share memory and to
overwrite it as fit. An example is small, its statements mention what they assign.

Kinds of expressions: T like the parameter, R a row of it, S a tensor scalar, F and G
flags like T and R, H a host scalar, C a host condition.
"""

import re
from contextlib import contextmanager

from hypothesis import strategies as st
from hypothesis import assume

from optdsl import OptdslError, ir
from optdsl.check import check
from optdsl.parse import parse
from optdsl.source import Source

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
        "({F}*{T})", "({H}*{F} + {T})", "({T} - {F})", "({F} + {F})", "(1 - {F})", "{H}*{F}",
    ),
    "R": (
        "({R} + {R})", "({R}*{R})", "({H}*{R})", "({S}*{R})", "({R} - {H}*{R}*{R})", "-{R}",
        "sqrt(abs({R}) + 1e-3)", "max({R}, {R})", "lerp({R}, {R}, {H})", "({R} if {C} else {R})",
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
    "H": ("({H} + {H})", "({H}*{H})", "max({H}, {H})", "({H} if {C} else {H})", "sqrt({H})",
          "{H}/(1 + {H})"),
    "C": ("not {C}", "({C} and {C})", "({C} or {C})", "{H} > {H}"),
}  # fmt: skip
NUMBERS = ("0.5", "0.1", "0.9", "0.25", "1", "2")
HYPERS = {
    "lr": "hyper lr = 0.1 in (0, 1]", "eps": "hyper eps = 0.5",
    "betas": "hyper betas = (0.9, 0.5) in [0, 1)",
    "flag": "hyper flag = false", "other": "hyper other = true",
}  # fmt: skip
STATES = (
    ("T", "state {} = 0"), ("T", "state {} = 0"), ("T", "state {} = 0.5"), ("T", "state {} = p"),
    ("T", "state {} = grad"), ("T", "state {} = grad*grad"), ("S", "state {} = norm(grad)"),
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


class Author:
    """Writes one spec: `kinds` of the names that may be read here, which of them are
    `writable`, and which values are `pending`: assigned and not read since.
    """

    def __init__(self, draw) -> None:
        self.draw = draw
        self.states: dict[str, tuple[str, str, str]] = {}
        self.defs: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.writable: list[str] = []
        self.pending: set[str] = set()
        self.target, self.made = "", 0

    def below(self, size: int) -> int:
        return self.draw(st.integers(0, size - 1))

    def one(self, options):
        return options[self.below(len(options))]

    # ---- expressions

    def expr(self, kind: str, depth: int) -> str:
        if depth <= 0 or self.below(4) == 3:
            return self.leaf(kind)
        if kind == "T" and self.defs and self.below(6) == 5:
            name = self.one(sorted(self.defs))
            inner = ", ".join(self.expr("T", depth - 1) for _ in range(self.defs[name].count(",") + 1))
            return f"{name}({inner})"
        form = self.one(FORMS[kind])
        if "keepdim" in form and self.place == "def":
            return self.leaf(kind)
        if form == "({C?T})":
            return self.guarded(depth)
        return re.sub(r"\{(\w)\}", lambda found: self.expr(found[1], depth - 1), form)

    def guarded(self, depth: int) -> str:
        """A choice by a flag that some states need."""
        if self.place not in ("step", "post_step"):
            return self.leaf("T")
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

    # ---- statements

    def read(self, text: str) -> str:
        self.pending -= set(re.findall(r"[A-Za-z_]\w*", text))
        return text

    def block(self, size: int, depth: int) -> list[str]:
        return [line for _ in range(size) for line in self.statement(depth)]

    def statement(self, depth: int) -> list[str]:
        options = [self.augment, self.assign, self.alias, self.local, self.swap, self.both]
        if depth:
            options += [self.branch]
        return self.one([*options, self.assign])(depth)

    def assigned(self, name: str, value: str) -> str:
        """The assignment; no value is lost that nothing has read."""
        if name in self.pending and not re.search(rf"\b{name}\b", value):
            value = f"{value} + {self.one(NUMBERS)}*{name}"
        self.read(value)
        self.pending.add(name)
        return f"{name} = {value}"

    def value(self, name: str) -> str:
        kind = self.kinds[name]
        fits = {"T": "TTTTTTTTTRSH", "R": "RRRRRSH", "S": "SSSSSSH", "H": "H"}[kind]
        self.target = name
        value = self.expr(self.one(fits) if name in self.storage else kind, 3)
        self.target = ""
        return value

    def assign(self, depth: int) -> list[str]:
        name = self.one(self.writable)
        return [self.assigned(name, self.value(name))]

    def augment(self, depth: int) -> list[str]:
        name, operator = self.one(self.writable), self.one("+-*/")
        value = self.value(name)
        self.read(f"{name} {value}")
        self.pending.add(name)
        if operator == "/":
            value = f"(1 + {value}**2)"
        return [f"{name} {operator}= {value}"]

    def fresh(self, kind: str) -> str:
        self.made += 1
        return f"x{self.made}"

    def added(self, name: str, kind: str, line: str) -> str:
        self.kinds[name] = kind
        self.writable.append(name)
        return line

    def alias(self, depth: int) -> list[str]:
        """A name, or a state, for what has a name already."""
        old = self.one([name for name, kind in self.kinds.items() if kind in "TRS"])
        same = [name for name in self.writable if self.kinds[name] == self.kinds[old]]
        if same and self.below(2):
            return [self.assigned(self.one(same), old)]
        name = self.fresh(self.kinds[old])
        return [self.added(name, self.kinds[old], self.assigned(name, old))]

    def local(self, depth: int) -> list[str]:
        kind = self.one("TTTTRSH") if self.place != "def" else "T"
        name = self.fresh(kind)
        return [self.added(name, kind, self.assigned(name, self.expr(kind, 2)))]

    def swap(self, depth: int) -> list[str]:
        one, other = self.one(self.writable), self.one(self.writable)
        if one == other or self.kinds[one] != self.kinds[other]:
            return self.assign(depth)
        name, kind = self.fresh(""), self.kinds[one]
        lines = [self.assigned(name, one), self.assigned(one, other), self.assigned(other, name)]
        return [self.added(name, kind, lines[0]), *lines[1:]]

    def condition(self) -> str:
        return "flag" if self.place in ("step", "post_step") and self.below(3) == 2 else self.expr("C", 1)

    def branch(self, depth: int) -> list[str]:
        lines, pending, after = [], set(self.pending), set()
        words = ["if", *self.one([(), ("else",), ("elif", "else"), ("elif",)])]
        for word in words:
            self.pending = set(pending)
            condition = "" if word == "else" else self.condition()
            self.read(condition)
            before = dict(self.kinds), list(self.writable)
            with self.knowing(condition):
                body = self.block(1 + self.below(3), depth - 1)
                body += self.consumed(set(self.kinds) - set(before[0]))
            self.kinds, self.writable = before
            after |= self.pending
            lines += [f"{word} {condition}".strip() + ":", *("    " + line for line in body)]
        self.pending = after if "else" in words else after | pending
        return lines

    def consumed(self, names: set[str]) -> list[str]:
        """What reads the locals of a branch before it ends."""
        waiting = sorted(self.pending & names & {n for n in names if n.startswith("x")})
        self.pending -= names - set(self.states)
        if not waiting:
            return []
        name = next((each for each in self.writable if each in self.storage and self.kinds[each] == "T"), "")
        name = name or next(each for each in self.writable if self.kinds[each] == "T")
        self.pending.add(name)
        return [f"{name} += 0.1*({' + '.join(waiting)})"]

    def both(self, depth: int) -> list[str]:
        """A local that each branch gives another value."""
        kind, condition = self.one("TTTS") if self.place != "def" else "T", self.expr("C", 1)
        name = self.fresh(kind)
        before, after = set(self.pending), set()
        lines = [f"if {self.read(condition)}:"]
        for word in ("", "else:"):
            self.pending = set(before)
            lines += [word] * bool(word)
            lines.append("    " + self.assigned(name, self.expr(kind, self.below(3))))
            after |= self.pending
        self.pending = after
        self.added(name, kind, "")
        return lines

    # ---- blocks

    def enter(self, place: str, names: dict[str, str], writable: list[str]) -> None:
        self.place, self.kinds, self.writable, self.pending = place, names, writable, set()
        self.storage = set(writable) if place != "def" else set()

    def ended(self, name: str) -> list[str]:
        """Statements that let every pending value reach `name`."""
        waiting = sorted((self.pending - set(self.states) - {"p"}) & set(self.kinds))
        if self.place == "pre_step":
            waiting = [each for each in waiting if each != "grad"]
        if not waiting and name in self.pending:
            return []
        return [f"{name} -= 0.1*({' + '.join(waiting or [self.one(NUMBERS)])})"]

    def function(self, name: str) -> str:
        parameters = ["a", "b", "c"][: 1 + self.below(3)]
        self.enter("def", dict.fromkeys(parameters, "T"), list(parameters))
        defs, self.defs = self.defs, {}
        match self.below(4):
            case 0:
                body = " = " + self.one(parameters)
            case 1:
                body = " = " + self.expr("T", 2)
            case 2:
                then, otherwise = self.one(parameters), self.one(parameters)
                body = f":\n    if numel(a) > 4: return {then}\n    else: return {otherwise}"
            case _:
                lines = "".join(f"    {line}\n" for line in self.block(1 + self.below(3), 1))
                body = f":\n{lines}    return {' + '.join(sorted(self.pending)) or 'a'}"
        used = [each for each in parameters if re.search(rf"\b{each}\b", body)]
        self.defs = {**defs, name: ", ".join(used)}
        return f"def {name}({', '.join(used)}){body}"

    def hook(self, place: str, name: str) -> str:
        if place == "pre_step":
            self.enter(place, {"p": "T", "grad": "T", **HYPER_KINDS}, ["p", "grad"])
        else:
            self.enter_step(place)
        body = [*self.block(1 + self.below(3), 1), *self.ended("p")]
        return f"{place} {name}:\n" + "".join(f"    {line}\n" for line in body)

    def enter_step(self, place: str) -> None:
        states = {name: kind for name, (kind, _, guard) in self.states.items() if not guard}
        names = {"p": "T", "grad": "T", **states, **HYPER_KINDS, "t": "H"}
        self.enter(place, names, ["p", "grad", *states, *states])
        self.storage |= set(self.states)

    def step(self) -> str:
        self.enter_step("step")
        body = ["b1, b2 = betas"] * (self.below(3) == 2)
        if body:
            self.kinds |= {"b1": "H", "b2": "H"}
        body += self.block(2 + self.below(5), 2)
        for name, (kind, first, guard) in self.states.items():
            text = "\n".join(body)
            written = re.search(rf"\b{name} .?= ", text)
            if written and re.search(rf"= .*\b{name}\b", text):
                continue
            lines = [self.assigned(name, f"0.9*{name} + {self.one(NUMBERS)}"), f"p -= 0.1*{name}"]
            if guard:
                lines = [f"if {guard}:", *("    " + line for line in lines)]
            body += lines
        body += self.ended("p")
        if not re.search(r"^ *p .?= ", "\n".join(body), re.MULTILINE):
            body.append("p -= 0.1*grad")
        if body[0].startswith("b1") and not re.search(r"\bb[12]\b", "".join(body[1:])):
            body = body[1:]
        return "step:\n" + "".join(f"    {line}\n" for line in body)

    def spec(self) -> str:
        functions = [self.function(f"f{at}") for at in range(self.below(3))]
        for at in range(1 + self.below(3)):
            kind, text = self.one(STATES)
            guard = self.one(("", "", "", "flag"))
            self.states[f"s{at}"] = (kind, text.format(f"s{at}"), guard)
        step = self.step()
        hooks = [self.hook("pre_step", f"before{at}") for at in range(self.one((0, 0, 1, 2)))]
        hooks += [self.hook("post_step", "after")] * (self.below(4) == 3)
        body = "\n".join([step, *hooks])
        for at, text in reversed(list(enumerate(functions))):
            if re.search(rf"\bf{at}\(", body):
                body = f"{text}\n{body}"
        for _, first, guard in reversed(self.states.values()):
            body = first + (f" when {guard}" if guard else "") + "\n" + body
        used = [text for name, text in HYPERS.items() if re.search(rf"\b{name}\b", body)]
        return "\n".join(["optimizer Random", *used, body])


def checked(text: str) -> ir.Rule:
    source = Source("random.opt", text)
    return check(parse(source), source)[0]


@st.composite
def specs(draw) -> str:
    """The text of a valid spec."""
    text = Author(draw).spec()
    try:
        checked(text)
    except OptdslError:
        assume(False)
    return text
