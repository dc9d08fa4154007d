"""Random specs: texts that the checker accepts, with as many ways to share memory and to
overwrite it as fit. An example is small, its statements mention what they assign.
"""

import re

from built import built
from hypothesis import assume
from hypothesis import strategies as st
from random_forms import (
    ANEW,
    FLAGS,
    HYPER_KINDS,
    HYPERS,
    MATRIX_STATES,
    NUMBERS,
    PARTS,
    SHARED,
    SIDES,
    STATES,
    TOGETHER,
    Phrases,
)

from optdsl import OptdslError

OUTERMOST = 2
"""The depth of a statement that stands in the step itself."""


class Author(Phrases):
    """Writes one spec. Of the names that may be read here some are `writable`; `pending`
    are the values that were assigned and not read since.
    """

    def __init__(self, draw, axes: bool = True) -> None:
        super().__init__(draw, axes)
        self.pending: set[str] = set()
        self.storage: set[str] = set()
        self.made = 0
        self.together = False

    # ---- statements

    def read(self, text: str) -> str:
        self.pending -= set(re.findall(r"[A-Za-z_]\w*", text))
        return text

    def block(self, size: int, depth: int) -> list[str]:
        return [line for _ in range(size) for line in self.statement(depth)]

    def statement(self, depth: int) -> list[str]:
        options = [
            self.augment,
            self.assign,
            self.alias,
            self.local,
            self.swap,
            self.both,
        ]
        if depth:
            options += [self.branch, self.loop]
            if self.place == "step":
                options += [self.matrices] * self.axes
                options += [self.sides] * 2 * self.captured
                options += [self.taken_apart] * 2 * self.sized
                options += [self.numbers] * self.axes
                if depth == OUTERMOST:
                    options += (
                        [self.gathered] * 3 if self.together else [self.complex_numbers]
                    )
        return self.one([*options, self.assign])(depth)

    def assigned(self, name: str, value: str) -> str:
        """The assignment; no value is lost that nothing has read."""
        if name in self.pending and not re.search(rf"\b{name}\b", value):
            value = f"{value} + {self.one(NUMBERS)}*{name}"
        self.read(value)
        self.wait(name)
        return f"{name} = {value}"

    def wait(self, name: str) -> None:
        """The value has to be read; one of a list always is, by the next step."""
        if not name.endswith("]"):
            self.pending.add(name)

    def value(self, name: str) -> str:
        kind = self.kinds[name]
        fits = {"T": "TTTTTTTTTRSH", "R": "RRRRRSH", "S": "SSSSSSH"}.get(kind, kind)
        fits = fits if self.axes else fits.replace("R", "T")
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
        self.wait(name)
        if operator == "/":
            value = f"(1 + {value}**2)"
        return [f"{name} {operator}= {value}"]

    def fresh(self) -> str:
        self.made += 1
        return f"x{self.made}"

    def added(self, name: str, kind: str) -> None:
        self.kinds[name] = kind
        self.writable.append(name)

    def alias(self, depth: int) -> list[str]:
        """A name, or a state, for what has a name already."""
        old = self.one([name for name, kind in self.kinds.items() if kind in "TRSQU"])
        same = [name for name in self.writable if self.kinds[name] == self.kinds[old]]
        if same and self.below(2):
            return [self.assigned(self.one(same), old)]
        return self.bound(self.kinds[old], old)

    def bound(self, kind: str, value: str) -> list[str]:
        """A new local with this value."""
        name = self.fresh()
        line = self.assigned(name, value)
        self.added(name, kind)
        return [line]

    def local(self, depth: int) -> list[str]:
        kinds = "TTTTSHJK" + "R" * self.axes + "QQU" * self.matrix
        kind = self.one(kinds) if self.place != "def" else "T"
        return self.bound(kind, self.expr(kind, 2))

    def swap(self, depth: int) -> list[str]:
        one, other = self.one(self.writable), self.one(self.writable)
        if one == other or self.kinds[one] != self.kinds[other]:
            return self.assign(depth)
        lines = self.bound(self.kinds[one], one)
        kept = lines[0].split()[0]
        return [*lines, self.assigned(one, other), self.assigned(other, kept)]

    def condition(self) -> str:
        return (
            "flag"
            if self.place in ("step", "post_step") and self.below(3) == 2
            else self.expr("C", 1)
        )

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
            lines += [
                f"{word} {condition}".strip() + ":",
                *("    " + line for line in body),
            ]
        self.pending = after if "else" in words else after | pending
        return lines

    def inner(self, depth: int) -> list[str]:
        """A block whose locals are gone after it, and have been read."""
        before = dict(self.kinds), list(self.writable)
        body = self.block(1 + self.below(3), depth - 1)
        body += self.consumed(set(self.kinds) - set(before[0]))
        self.kinds, self.writable = before
        return ["    " + line for line in body]

    def loop(self, depth: int) -> list[str]:
        """A few rounds, which hand values on from one to the next."""
        rounds = ["2", "3", "1"]
        if self.place == "def":
            rounds += ["numel(a)//numel(a)"] * self.axes
        else:
            rounds += ["0", "rounds", "rounds // 2 + 1"]
            rounds += ["min(2, numel(p))"] * self.axes
        count, before = self.one(rounds), set(self.pending)
        if self.below(2):
            return self.counted(depth, before)
        outer, self.looped = self.looped, True
        body = self.inner(depth)
        self.looped = outer
        self.pending |= before
        return [f"repeat {self.read(count)}:", *body]

    def counted(self, depth: int, pending: set[str]) -> list[str]:
        """Rounds that have numbers, and that read or write one of each list."""
        index = f"k{depth}"
        kinds, writable = dict(self.kinds), list(self.writable)
        self.kinds[f"({index} + 1)"] = "K"
        for name in [each for each in self.kinds if each.endswith("[0]")]:
            self.added(name.replace("[0]", f"[{index}]"), self.kinds[name])
        self.indices.append(index)
        body = self.inner(depth)
        self.indices.pop()
        self.kinds, self.writable = kinds, writable
        self.pending |= pending
        return [f"for {index} in range({self.one('212')}):", *body]

    def matrices(self, depth: int) -> list[str]:
        """Statements where the parameter is known to have rows and columns."""
        before, self.matrix = self.matrix, True
        pending = set(self.pending)
        body = self.inner(depth)
        self.matrix = before
        self.pending |= pending
        return ["if ndim(p) > 1:", *body]

    def taken_apart(self, depth: int) -> list[str]:
        """A matrix taken apart, and a local that is made of its parts."""
        kind, apart, together = self.one(PARTS)
        names = {each: self.fresh() for each in "xyz"}
        for each, name in names.items():
            apart = apart.replace(f"{{{each}}}", name)
            together = together.replace(f"{{{each}}}", name)
        line = self.read(self.filled(apart, 1))
        if self.below(3) == 2:
            together = f"({together} + {self.leaf(kind)})"
        return [line, *self.bound(kind, together)]

    def complex_numbers(self, depth: int) -> list[str]:
        """Statements in which complex parameters are no pairs of reals."""
        lines, self.linear = ["complex:"], True
        tensors = [name for name in self.writable if self.kinds[name] == "T"]
        for name in (self.one(tensors) for _ in range(1 + self.below(3))):
            lines.append(f"    {self.assigned(name, self.expr('T', 3))}")
        self.linear = False
        return lines

    def sides(self, depth: int) -> list[str]:
        """A local with a value for each side of a branch that a target may decide."""
        forms = list(self.one(SIDES))
        if self.below(2):
            forms.reverse()
        drawn = {kind: self.expr(kind, 1) for kind in "HKTSFJ"}
        values = [self.filled(form, 0, drawn) for form in forms]
        condition = self.filled(self.one(FLAGS), 1)
        name = self.fresh()
        self.read(" ".join((condition, *values)))
        self.pending.add(name)
        self.added(name, "T")
        if self.below(2):
            return [f"{name} = {values[0]} if {condition} else {values[1]}"]
        lines = (f"    {name} = {value}" for value in values)
        return [f"if {condition}:", next(lines), "else:", next(lines)]

    def gathered(self, depth: int) -> list[str]:
        """A number that parameters make together, as a local or in a shared state."""
        name = self.one(["", "", *SHARED])
        if not name:
            return self.bound("S", self.across(self.one(("group", "model"))))
        over = "group" if name.startswith("g") else "model"
        value = self.one(
            (
                f"0.9*{name} + 0.1*{{}}",
                f"max({name}, {{}})",
                f"min({name}, 0.5 + {{}}**2)",
            )
        ).format(self.across(over, shared=True))
        self.read(value)
        return [f"{name} = {value}"]

    def across(self, over: str, shared: bool = False) -> str:
        forms = [each for each in TOGETHER if self.axes or "numel" not in each]
        if shared:  # what is around the reduction is of the group, or of the model
            forms = [each for each in forms if "where" not in each]
        form = self.one(forms).format(over)
        drawn = {"K": self.one(NUMBERS)} if shared else {}
        return self.filled(form, 1, drawn)

    def numbers(self, depth: int) -> list[str]:
        """Two numbers of one parameter out of a tuple."""
        one, other = self.fresh(), self.fresh()
        line = f"{one}, {other} = (0.1*numel(p), {self.expr('K', 1)} + ndim(p))"
        self.read(line)
        for name in (one, other):
            self.pending.add(name)
            self.added(name, "K")
        return [line]

    def consumed(self, names: set[str]) -> list[str]:
        """What reads the locals of a branch before it ends."""
        waiting = sorted(each for each in self.pending & names if each.startswith("x"))
        self.pending -= names - set(self.states)
        waiting = [
            each if self.kinds[each] not in "QU" else f"norm({each})"
            for each in waiting
        ]
        if not waiting:
            return []
        tensors = [each for each in self.writable if self.kinds[each] == "T"]
        name = next((each for each in tensors if each in self.storage), tensors[0])
        self.wait(name)
        return [f"{name} += 0.1*({' + '.join(waiting)})"]

    def both(self, depth: int) -> list[str]:
        """A local that each branch gives another value."""
        kind, condition = (
            self.one("TTTS") if self.place != "def" else "T",
            self.expr("C", 1),
        )
        name = self.fresh()
        before, after = set(self.pending), set()
        lines = [f"if {self.read(condition)}:"]
        for word in ("", "else:"):
            self.pending = set(before)
            lines += [word] * bool(word)
            lines.append("    " + self.assigned(name, self.expr(kind, self.below(3))))
            after |= self.pending
        self.pending = after
        self.added(name, kind)
        return lines

    # ---- blocks

    def enter(self, place: str, names: dict[str, str], writable: list[str]) -> None:
        self.place, self.kinds, self.writable, self.pending = (
            place,
            names,
            writable,
            set(),
        )
        self.storage = set(writable) if place != "def" else set()

    def ended(self, name: str) -> list[str]:
        """Statements that let every pending value reach `name`."""
        waiting = sorted((self.pending - set(self.states) - {"p"}) & set(self.kinds))
        if self.place == "pre_step":
            waiting = [each for each in waiting if each != "grad"]
        waiting = [
            each if self.kinds[each] not in "QU" else f"norm({each})"
            for each in waiting
        ]
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
            case 2 if self.axes:
                then, otherwise = self.one(parameters), self.one(parameters)
                body = f":\n    if numel(a) > 4: return {then}\n    else: return {otherwise}"
            case _:
                lines = "".join(
                    f"    {line}\n" for line in self.block(1 + self.below(3), 1)
                )
                body = f":\n{lines}    return {' + '.join(sorted(self.pending)) or 'a'}"
        used = [each for each in parameters if re.search(rf"\b{each}\b", body)]
        self.defs = {**defs, name: ", ".join(used)}
        return f"def {name}({', '.join(used)}){body}"

    def number(self, name: str) -> str:
        """A def of numbers, which are tensors where a count or a state is."""
        self.enter("def", {"u": "H", "v": "H"}, [])
        forms = (
            "({H} + {H})",
            "({H}*{H})",
            "max({H}, {H})",
            "sqrt(abs({H}))",
            "{H}/(1 + {H}**2)",
        )
        body = self.filled(self.one(("{H}*u", "u/(1 + {H}**2)")), 0)
        for _ in range(self.below(3)):
            body = self.filled(self.one(forms), 0, {"H": f"({body})"})
        used = [each for each in ("u", "v") if re.search(rf"\b{each}\b", body)]
        self.numeric.append(f"{name}({', '.join(['{H}'] * len(used))})")
        return f"def {name}({', '.join(used)}) = {body}"

    def hook(self, place: str, name: str) -> str:
        if place == "pre_step":
            self.enter(place, {"p": "T", "grad": "T", **HYPER_KINDS}, ["p", "grad"])
        else:
            self.enter_step(place)
        body = [*self.block(1 + self.below(3), 1), *self.ended("p")]
        if self.together and place == "pre_step":
            body.append("grad /= 1 + norm(grad, over=model)")
        if place == "pre_step" and self.below(4) == 3:
            body.append(self.one(ANEW))
        phase = "on_call" if name == "by_hand" else place
        return f"{phase} {name}:\n" + "".join(f"    {line}\n" for line in body)

    def enter_step(self, place: str) -> None:
        states = {
            ref: kind
            for name, (kind, _, guard) in self.states.items()
            if not guard
            for ref in self.refs(name)
        }
        names = {"p": "T", "grad": "T", **states, **HYPER_KINDS, "t": "H"}
        self.enter(place, names, ["p", "grad", *states, *states])
        self.storage |= {ref for name in self.states for ref in self.refs(name)}

    def step(self) -> str:
        self.enter_step("step")
        if self.together:
            self.kinds |= dict.fromkeys(SHARED, "S")
        if self.below(3) == 2:
            self.kinds |= {"b1": "H", "b2": "H"}
        body = self.block(2 + self.below(5), OUTERMOST)
        for name, (kind, _, guard) in self.states.items():
            text = "\n".join(body)
            written = re.search(rf"\b{name}(\[\w+\])? .?= ", text)
            if written and re.search(rf"= .*\b{name}\b", text):
                continue
            one = self.refs(name)[-1]
            used = f"norm({one})" if kind in "QU" else one
            lines = [
                self.assigned(one, f"0.9*{one} + {self.one(NUMBERS)}"),
                f"p -= 0.1*{used}",
            ]
            if guard:
                lines = [f"if {guard}:", *("    " + line for line in lines)]
            body += lines
        body += self.shared_ones("\n".join(body))
        body += self.ended("p")
        if not re.search(r"^ *p .?= ", "\n".join(body), re.MULTILINE):
            body.append("p -= 0.1*grad")
        if re.search(r"\bb[12]\b", "".join(body)):
            body.insert(0, "b1, b2 = betas")
        return "step:\n" + "".join(f"    {line}\n" for line in body)

    def shared_ones(self, text: str) -> list[str]:
        """What reads and writes the shared states that are used."""
        lines = []
        for name in SHARED:
            if not re.search(rf"\b{name}\b", text):
                continue
            if not re.search(rf"^ *{name} = ", text, re.MULTILINE):
                over = "group" if name.startswith("g") else "model"
                lines.append(f"{name} = 0.9*{name} + 0.1*norm(grad, over={over})")
            lines.append(f"p -= 0.01*{name}*grad")
        return lines

    def can_start(self, kind: str, text: str) -> bool:
        # Complex numbers start as copies, captured ones not at random.
        if "rand" in text:
            return self.axes and not self.captured
        return kind != "R" or self.axes

    def spec(self) -> str:
        self.captured = self.below(2) == 1
        self.matrix = self.sized = self.axes and self.below(4) == 3
        self.together = self.below(4) == 3
        functions = [self.function(f"f{at}") for at in range(self.below(3))]
        numbers = [self.number(f"n{at}") for at in range(self.below(2))]
        for at in range(1 + self.below(3)):
            states = (*STATES, *MATRIX_STATES * self.matrix)
            kind, text = self.one([each for each in states if self.can_start(*each)])
            guard = self.one(("", "", "", "flag"))
            self.states[f"s{at}"] = (kind, text.format(f"s{at}"), guard)
        step = self.step()
        hooks = [
            self.hook("pre_step", f"before{at}") for at in range(self.one((0, 0, 1, 2)))
        ]
        hooks += [self.hook("post_step", "after")] * (self.below(4) == 3)
        hooks += [self.hook("post_step", "by_hand")] * (self.below(4) == 3)
        body = "\n".join([step, *hooks])
        for text in (*numbers, *functions[::-1]):
            if f"{text.split('(')[0].removeprefix('def ')}(" in body:
                body = f"{text}\n{body}"
        for name, declaration in SHARED.items():
            if re.search(rf"\b{name}\b", body):
                body = f"{declaration}\n{body}"
        for _, first, guard in reversed(self.states.values()):
            body = first + (f" when {guard}" if guard else "") + "\n" + body
        used = [
            text for name, text in HYPERS.items() if re.search(rf"\b{name}\b", body)
        ]
        if self.matrix:
            used.append('require ndim(p) == 2, "matrices"')
        return "\n".join(["optimizer Random", *used, body])


@st.composite
def specs(draw, axes: bool = True) -> str:
    """The text of a valid spec; without `axes`, of one that asks for no shapes."""
    text = Author(draw, axes).spec()
    try:
        built(text)
    except OptdslError:
        assume(False)
    return text
