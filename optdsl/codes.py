"""Every diagnostic code: what it means, the smallest bad spec, and the nearest good one.

Read by `optdsl explain`, and by a test that compiles both specs of each code. A code
belongs to one kind of mistake for ever: one that is no longer given is removed and
never used again. E01 is about reading, E02 names, E03 roles, E04 kinds and shapes,
E05 values, E06 what this version cannot do, W07 what is only doubtful.
"""

from dataclasses import dataclass
from textwrap import indent


@dataclass(frozen=True, slots=True)
class Code:
    """`bad` gives exactly this code and `good` gives none; both are whole specs, or empty
    where no text of a spec can give the code.
    """

    code: str
    title: str
    why: str
    bad: str
    good: str


def explain(code: str) -> str:
    """The code for a person, as plain text.

    Raises:
        KeyError: where there is no such code.
    """
    found = CODES[code]
    parts = [f"{found.code}: {found.title}", found.why]
    if found.bad:
        parts += ["Bad:\n\n" + indent(found.bad, "    ").rstrip()]
        parts += ["Good:\n\n" + indent(found.good, "    ").rstrip()]
    return "\n\n".join(parts) + "\n"


def _spec(body: str, *declarations: str) -> str:
    """A spec with a hyper `lr`, these declarations and this body of the step."""
    head = ["optimizer Example", "", "hyper lr = 0.1", *declarations]
    return "\n".join([*head, "", "step:", indent(body, "    ")]) + "\n"


_PLAIN = _spec("p -= lr*grad")
_MOMENTUM = "buf = 0.9*buf + grad\np -= lr*buf"


def _route(*lines: str) -> str:
    """A spec that chooses among rules."""
    return "\n".join(["optimizer Example", "route:", *map(_inside, lines)]) + "\n"


def _inside(line: str) -> str:
    return f"    {line}"


def _using(used: str, *declarations: str) -> str:
    """The plain rule, with a modifier and these declarations."""
    return _spec("p -= lr*grad", *declarations, used)


_ALL = (
    Code(
        "E0100",
        "no such spec",
        "What was asked for is neither a file that can be read nor a name of the library. "
        "A file is named by its path, `./adam.opt`; the library by its plain names, `adam`. "
        "This is about the file, so no text of a spec gives it.",
        "",
        "",
    ),
    Code(
        "E0101",
        "the spec is too large",
        "A spec is an algorithm box, and the largest one that is read has 100,000 "
        "characters. A larger file is most likely some other file. "
        "This is about the file, so no short text of a spec gives it.",
        "",
        "",
    ),
    Code(
        "E0102",
        "the spec is no UTF-8 text",
        "A spec is text in UTF-8, and this file has bytes that are not. Save it as UTF-8 in "
        "the editor, or look whether it is the right file. "
        "This is about the file, so no text of a spec gives it.",
        "",
        "",
    ),
    Code(
        "E0103",
        "a character that the language does not have",
        "Outside texts and comments a spec has letters `A` to `z`, digits and the marks of "
        "arithmetic, and characters that no one can see are refused everywhere. "
        "Powers are written `**`, and lines are indented with spaces.",
        _spec("p -= lr*grad^2"),
        _spec("p -= lr*grad**2"),
    ),
    Code(
        "E0104",
        "a text or docstring is never closed",
        'A text ends with `"` on the line where it began, a docstring with `"""` on the same '
        "line or a later one. Everything after the open quote would be part of the text.",
        '"""Gradient descent.\n' + _PLAIN,
        '"""Gradient descent."""\n' + _PLAIN,
    ),
    Code(
        "E0105",
        "a bracket is never closed",
        "A line goes on as long as a bracket is open, so everything down to the next "
        "declaration belongs to it. Close the bracket that the label points to.",
        _spec("p -= lr*(grad + p"),
        _spec("p -= lr*(grad + p)"),
    ),
    Code(
        "E0106",
        "a bracket closes nothing",
        "Every `)` and `]` closes one that was opened before it. Remove this one, or write "
        "the opening bracket that is missing.",
        _spec("p -= lr*grad)"),
        _PLAIN,
    ),
    Code(
        "E0107",
        "indentation that fits no block",
        "Indentation says which statements belong together, so all lines of a block start at "
        "the same column, and only a line that ends in `:` opens a block.",
        _spec("g = lr*grad\n  p -= g"),
        _spec("g = lr*grad\np -= g"),
    ),
    Code(
        "E0108",
        "a word or sign in the wrong place",
        "The text cannot be read as a declaration or statement from here on. The label says "
        "what could stand in this place.",
        _spec("p -= lr*"),
        _PLAIN,
    ),
    Code(
        "E0109",
        "something nested too deep",
        "No one can read an expression with this many levels, and a sum counts one for each "
        "term; give a part of it a name in a statement of its own. Blocks in blocks, and "
        "defs that call defs, have fewer levels still.",
        _spec("p -= lr*" + "abs(" * 60 + "grad" + ")" * 60),
        _spec("p -= lr*abs(grad)"),
    ),
    Code(
        "E0110",
        "the spec names no optimizer",
        "`optimizer NAME` gives the class its name, and every spec has one. It stands at the "
        "top, after the docstring.",
        "step: p -= 0.1*grad\n",
        "optimizer Example\n\nstep: p -= 0.1*grad\n",
    ),
    Code(
        "E0111",
        "the spec has no step",
        "`step:` is what the optimizer does to each parameter `p` with its gradient `grad`. "
        "Without it nothing would ever move.",
        "optimizer Example\n",
        "optimizer Example\n\nstep: p -= 0.1*grad\n",
    ),
    Code(
        "E0112",
        "a part that may stand once stands twice",
        "A spec is one optimizer, so it has one `optimizer`, one `step:` and at most one each "
        "of `reference`, `positional`, `sparse_grads` and `state t`. Join the two, or remove "
        "one.",
        _PLAIN + "step: p *= 0.9\n",
        _spec("p -= lr*grad\np *= 0.9"),
    ),
    Code(
        "E0113",
        "a modifier where an optimizer is wanted, or the other way round",
        "A file that begins with `optimizer NAME` is a rule: it is compiled. One that begins "
        "with `modifier NAME` is what rules `use`, or what `--use` names on the command line; "
        "alone it makes no class.",
        _PLAIN.replace("optimizer Example", "modifier Example"),
        _using("use cautious"),
    ),
    Code(
        "E0114",
        "a part that does not belong in this file",
        "A modifier says in `before:`, `update:` and `after:` what it does, and in `needs` "
        "which hypers of the rule it reads; it has no `step:` and uses no other. An optimizer "
        "says all that in its step.",
        _using("needs momentum"),
        _using("hyper momentum = 0.9").replace("p -= lr*grad", "p -= lr*momentum*grad"),
    ),
    Code(
        "E0115",
        "a route that leaves parameters over",
        "A route chooses a rule for each parameter, so its last line is `else -> RULE`. There "
        "is no parameter that has no rule: one that is not to be trained needs no gradient.",
        _route("ndim(p) >= 2 -> muon"),
        _route("ndim(p) >= 2 -> muon", "else -> adamw"),
    ),
    Code(
        "E0116",
        "a line of a route that no parameter gets to",
        "The first line whose condition holds has a parameter. A line behind `else`, or behind "
        "the same condition, gets none; nor does a condition choose that is the same for all.",
        _route("else -> adamw", "ndim(p) >= 2 -> muon"),
        _route("ndim(p) >= 2 -> muon", "else -> adamw"),
    ),
    Code(
        "E0201",
        "a name that is not defined",
        "A name is a hyper, a state, `p`, `grad`, `t`, `first`, or a local that was assigned "
        "on an earlier line; in `positional` it is an argument of the constructor. The note "
        "lists all that can be read here.",
        _spec("p -= lr*gard"),
        _PLAIN,
    ),
    Code(
        "E0202",
        "a name that is declared twice",
        "Hypers, states, hooks and defs share one set of names, and built-in functions keep "
        "theirs, so that a name means the same everywhere. Choose another name for one.",
        _spec("p -= lr*grad", "hyper lr = 0.2"),
        _PLAIN,
    ),
    Code(
        "E0203",
        "a name that is taken",
        "Some names have a meaning already: for the language, for Python, for torch, or in "
        "the generated file. The label says which; a small change is enough, as `lambda_` or "
        "`lam` for `lambda`.",
        _spec("p -= lr*(grad + lambda*p)", "hyper lambda = 0.1"),
        _spec("p -= lr*(grad + lam*p)", "hyper lam = 0.1"),
    ),
    Code(
        "E0204",
        "a function that does not exist",
        "Functions are the built-in ones, which have torch's names, and the defs of this "
        "spec. A bracket behind a value calls it; a product is written with `*`.",
        _spec("p -= lr*sgn(grad)"),
        _spec("p -= lr*sign(grad)"),
    ),
    Code(
        "E0206",
        "a hyper or def that is never used",
        "A hyper that nothing reads would be an option of the class that does nothing. "
        "Use it, or remove it.",
        _spec("p -= lr*grad", "hyper weight_decay = 0.1"),
        _spec("p -= lr*(grad + weight_decay*p)", "hyper weight_decay = 0.1"),
    ),
    Code(
        "E0207",
        "a state that is never read or never written",
        "A state costs memory for every parameter because one step hands a value to the next. "
        "One that is only written keeps what no one wants; one only read never changes.",
        _spec("buf = grad\np -= lr*grad", "state buf = 0"),
        _spec(_MOMENTUM, "state buf = 0"),
    ),
    Code(
        "E0208",
        "a local that may have no value",
        "The name is assigned under an `if`, or in a `repeat`, and read where that branch may "
        "not have run, or no round of the loop. Assign it on every path, or before.",
        _spec("if t > 10:\n    scale = 0.5\np -= lr*scale*grad"),
        _spec("scale = 1\nif t > 10:\n    scale = 0.5\np -= lr*scale*grad"),
    ),
    Code(
        "E0209",
        "a value that reaches nothing",
        "Statements run in order, and this value is never read by a later one, so it changes "
        "neither `p` nor a state. This is how weight decay is lost: it is added to `grad` "
        "after `grad` was used. Move the line up, or remove it; one that a single side of "
        "`if capturable:` reads moves into that side.",
        _spec("p -= lr*grad\ngrad += 0.1*p"),
        _spec("grad += 0.1*p\np -= lr*grad"),
    ),
    Code(
        "E0210",
        "a modifier that is not there",
        "Behind `use` stands the name of a modifier of the library, or of a file `NAME.opt` "
        "in the folder of the spec. `optdsl list` prints those of the library.",
        _using("use cautous"),
        _using("use cautious"),
    ),
    Code(
        "E0211",
        "two of one name, of which one is a modifier's",
        "The hypers of a modifier become arguments of the class, its states are kept beside "
        "those of the rule, and its hooks are methods. So no two of them have one name. Often "
        "it means that both do the same, and the modifier is one too many.",
        _using("use decay", "hyper weight_decay = 0.01").replace(
            "p -= lr*grad", "p -= lr*(grad + weight_decay*p)"
        ),
        _using("use decay"),
    ),
    Code(
        "E0212",
        "two that are about the same",
        "A modifier, or a rule, says by `about` what it is about. Two decays, or two masks of "
        "one update, are most likely a mistake: one of them is meant.",
        _using("use decay\nuse fixed_decay"),
        _using("use decay"),
    ),
    Code(
        "E0213",
        "a modifier that asks for what is the rule's",
        "A modifier sees the hypers of a rule that it names by `needs`, and nothing else of "
        "it: else it would only do for one rule. The rule has to have these hypers.",
        _using("use decay").replace("lr", "rate"),
        _using("use decay"),
    ),
    Code(
        "E0214",
        "a rule that is not there",
        "Behind `->` stands the name of a rule of the library, or of a file `NAME.opt` in the "
        "folder of the spec. `optdsl list` prints those of the library.",
        _route("ndim(p) >= 2 -> moun", "else -> adamw"),
        _route("ndim(p) >= 2 -> muon", "else -> adamw"),
    ),
    Code(
        "E0215",
        "a route that names what it cannot have",
        "What stands behind `->` is a rule, with a step of its own. A spec that chooses among "
        "rules is none: name the rules that it names, under conditions of this route. Nor can "
        "a rule of a route take the gradient anew, which asks for all of the model.",
        _route("ndim(p) == 1 -> sgd", "else -> muon_adamw"),
        _route("ndim(p) == 1 -> sgd", "else -> adamw"),
    ),
    Code(
        "E0301",
        "a hyper that is assigned",
        "Hypers belong to the user and to schedulers, so a step only reads them. "
        "Give the new value a name of its own.",
        _spec("lr = lr/t\np -= lr*grad"),
        _spec("rate = lr/t\np -= rate*grad"),
    ),
    Code(
        "E0302",
        "a name of the language that is assigned",
        "`t` and `first` are counted by the optimizer itself, and `inf` and `pi` are "
        "constants. Give the value another name.",
        _spec("t = t + 1\np -= lr/t*grad"),
        _spec("p -= lr/t*grad"),
    ),
    Code(
        "E0303",
        "a state or count outside the step",
        "The states of a parameter and its count `t` come into being in its first step, after "
        "the pre-step hooks. What needs them belongs in `step:`. A hook before the step may "
        "have states of its own that are like `p`, have no `when` and start from `p` and "
        "hypers; `calls` is how often it has run.",
        _spec("p -= lr*grad", "", "pre_step shrink: p *= 1 - 0.1/t"),
        _spec("p *= 1 - 0.1/t\np -= lr*grad"),
    ),
    Code(
        "E0304",
        "an optional state without its condition",
        "A state with `when` exists only where its condition holds. Read and write it under "
        "an `if` with the same condition.",
        _spec(_MOMENTUM, "hyper heavy = true", "state buf = 0 when heavy"),
        _spec(
            "if heavy:\n    buf = 0.9*buf + grad\n    grad = buf\np -= lr*grad",
            "hyper heavy = true",
            "state buf = 0 when heavy",
        ),
    ),
    Code(
        "E0305",
        "a step that never changes the parameter",
        "An optimizer changes `p`; this step assigns to other names only. "
        "It most likely ends in `p -= ...`.",
        _spec("grad *= lr"),
        _spec("grad *= lr\np -= grad"),
    ),
    Code(
        "E0306",
        "a name that cannot be read in this place",
        "A default is a constant; a `require` is about hypers, the options `capturable`, "
        "`differentiable` and `foreach`, and what `p` is, as `ndim(p)` or `is_complex(p)`; a "
        "`when` is about hypers and shapes. A def sees only its arguments. The step reads "
        "`capturable` and `differentiable`, and no other option. "
        "Random numbers are drawn in the step, outside of loops, and in the first value of a "
        "state. Hand the value to the def as one more argument, or move the line into the "
        "step.",
        _spec("p -= scaled(grad)", "def scaled(x) = lr*x"),
        _spec("p -= scaled(grad, lr)", "def scaled(x, rate) = rate*x"),
    ),
    Code(
        "E0307",
        "a `return` too many or too few",
        "`return` is how a def gives its value, and every path through a def ends in one. "
        "Steps and hooks give no value; they assign to `p`, `grad` and states.",
        _spec("p -= lr*grad\nreturn p"),
        _spec("p -= lr*grad"),
    ),
    Code(
        "E0308",
        "a def that calls itself",
        "A def is written out at each call, so it cannot call itself, neither directly nor by "
        "way of another def.",
        _spec("p -= lr*shrink(grad)", "def shrink(x) = shrink(x/2)"),
        _spec("p -= lr*shrink(grad)", "def shrink(x) = x/2"),
    ),
    Code(
        "E0309",
        "a hook that changes nothing",
        "A hook runs for what it changes: `p` or `grad` before the step, `p` or a state after "
        "it. This one assigns to locals only.",
        _spec("p -= lr*grad", "", "pre_step shrink: q = 0.9*p"),
        _spec("p -= lr*grad", "", "pre_step shrink: p = 0.9*p"),
    ),
    Code(
        "E0310",
        "`complex:` inside another block",
        "`complex:` says which statements of the step see complex parameters as complex "
        "numbers. It stands in the step itself, and may hold branches; hooks, defs, branches "
        "and loops cannot hold it.",
        _spec("if lr > 0:\n    complex:\n        grad *= 2\np -= lr*grad"),
        _spec("complex:\n    if lr > 0:\n        grad *= 2\np -= lr*grad"),
    ),
    Code(
        "E0311",
        "what sparse gradients do not allow",
        "With `sparse_grads` the step runs on the entries that a gradient holds, one by one. "
        "They have no rows, columns or axes; a state is like `p`, so that each entry has a "
        "value of it, and does not start from the gradient; hooks, which run on whole "
        "tensors, do not read it.",
        _spec("p -= lr*grad/ndim(p)", "sparse_grads"),
        _spec("p -= lr*grad", "sparse_grads"),
    ),
    Code(
        "E0312",
        "a value of one parameter for all of them",
        "A state of a group or of the model is one number, so what it is given has to be one "
        "as well: made of hypers, of other such states, and of reductions over all the "
        "parameters. A state of the model takes nothing that differs from group to group.",
        _spec(
            "total = total + norm(grad)\np -= lr/total*grad", "state total: model = 0"
        ),
        _spec(
            "total = total + norm(grad, over=model)\np -= lr/total*grad",
            "state total: model = 0",
        ),
    ),
    Code(
        "E0313",
        "a reduction across parameters where not all come by",
        "`over=group` and `over=model` wait until every parameter is there. In a loop, or "
        "under a condition that differs from parameter to parameter, some never come.",
        _spec("if t > 1:\n    grad /= norm(grad, over=model)\np -= lr*grad"),
        _spec(
            "total = norm(grad, over=model)\nif t > 1:\n    grad /= total\np -= lr*grad"
        ),
    ),
    Code(
        "E0314",
        "a modifier of the update where none is proposed",
        "What a rule proposes is what its `p -= ...` takes away, or several of them that "
        "follow each other, or one at the end of each branch. A rule that makes `p` anew, "
        "changes it in a loop or in several places has no such update.",
        _using("use cautious").replace("p -= lr*grad", "p = p - lr*grad"),
        _using("use cautious"),
    ),
    Code(
        "E0315",
        "a point that changes what is another's",
        "`before:` changes `grad` and `p`, `update:` changes `update`, `after:` changes `p`; "
        "each of them states and locals of the modifier. An example needs two files: "
        "`before: update *= 2` in a modifier has this code.",
        "",
        "",
    ),
    Code(
        "E0316",
        "a mode without the other one",
        "A rule that gives other parameters to evaluation than to training says both ways: "
        "`mode eval` turns the parameters of training into those of evaluation, and `mode "
        "train` turns them back. There are no other modes.",
        _spec("p -= lr*grad", "state z = p", "mode eval: p = lerp(p, z, 0.5); z = p"),
        _spec(
            "z -= lr*grad; p -= lr*grad",
            "state z = p",
            "mode train: p = lerp(p, z, 0.5)\nmode eval: p = lerp(p, z, -1)",
        ),
    ),
    Code(
        "E0317",
        "a gradient that cannot be taken anew here",
        "`gradient(x)` has the closure evaluated again, with every parameter moved to its x. "
        "That happens before the first update, so it stands in `pre_step NAME:`, and it is "
        "all that `grad` is given: `grad = gradient(x)`. What is made of it stands in the "
        "lines behind.",
        _spec("grad = gradient(p + grad)\np -= lr*grad"),
        _spec("p -= lr*grad", "pre_step climb: grad = gradient(p + grad)"),
    ),
    Code(
        "E0318",
        "a step that cannot be skipped here",
        "`skip` ends a step before anything is updated. It stands in `pre_step NAME:`, under "
        "an `if` that asks `calls` and hypers, so that it holds for all parameters at once. "
        "Behind it no gradient is taken anew: a closure is of the last batch alone.",
        _spec("if lr == 0: skip\np -= lr*grad"),
        _spec("p -= lr*grad", "pre_step every_other:\n    if calls % 2 == 0: skip"),
    ),
    Code(
        "E0401",
        "a tensor that decides an `if`",
        "`if` is decided by Python before any tensor work, and a tensor's values would have "
        "to be waited for. Choose with `where(condition, a, b)`, or with `max` and `min`. "
        "With `capturable` the step count `t`, scalar states and what `item` gives are tensors "
        "as well, and with `foreach` what `item` gives.",
        _spec("if norm(grad) > 1:\n    grad /= norm(grad)\np -= lr*grad"),
        _spec("grad /= max(1, norm(grad))\np -= lr*grad"),
    ),
    Code(
        "E0402",
        "a call with the wrong arguments",
        "The function takes another number of arguments, or has no option of this name. "
        "The message quotes how it is called.",
        _spec("p -= lr*sign(grad, p)"),
        _spec("p -= lr*sign(grad)"),
    ),
    Code(
        "E0403",
        "shapes that do not fit",
        "The two sides have shapes that do not broadcast for every parameter. A reduction "
        "with `keepdim=true` keeps its axes and fits what it was made of.",
        _spec("p -= lr*grad/mean(abs(grad), dim=-1)"),
        _spec("p -= lr*grad/mean(abs(grad), dim=-1, keepdim=true)"),
    ),
    Code(
        "E0404",
        "a value of the wrong kind",
        "Here stands a number, flag, text, tuple or tensor where another of these is needed. "
        "A comparison makes a flag of a number; `1 if flag else 0` makes a number of a flag; "
        "`!= none` is asked before an optional hyper, or item of a tuple, is used; `item(x)` "
        "is the number in a tensor scalar. A loop takes a whole number of rounds: an `int` "
        "hyper, a size, `floor(...)`.",
        _spec("p -= lr*grad*(t > 10)"),
        _spec("p -= lr*grad*(1 if t > 10 else 0)"),
    ),
    Code(
        "E0405",
        "a name or a result of two kinds",
        "A name or a result has one kind, whichever branch and however many rounds of a loop "
        "ran, and here one way gives a tensor and the other something else. "
        "`zeros_like(grad)` and `full_like(p, 1)` make tensors of numbers.",
        _spec("g = grad if t > 1 else 0\np -= lr*g"),
        _spec("g = grad if t > 1 else zeros_like(grad)\np -= lr*g"),
    ),
    Code(
        "E0406",
        "a tuple that is taken apart wrongly",
        "A tuple is taken apart into as many locals as it has items, and its items count "
        "from 0. Of a `tuple` of any length, only single items can be read. Nothing else "
        "can be taken apart.",
        _spec("a, b, c = betas\np -= lr*a*b*c*grad", "hyper betas = (0.9, 0.99)"),
        _spec("a, b = betas\np -= lr*a*b*grad", "hyper betas = (0.9, 0.99)"),
    ),
    Code(
        "E0407",
        "a scalar state that meets a tensor",
        "`state NAME: scalar` is one number for each parameter, so it starts as a number and "
        "is given numbers; `group` and `model` states start as numbers made of hypers. A "
        "state that is made of tensors is declared without such a word.",
        _spec(
            "total += norm(grad)\np -= lr/total*grad",
            "state total: scalar = norm(grad)",
        ),
        _spec("total += norm(grad)\np -= lr/total*grad", "state total = norm(grad)"),
    ),
    Code(
        "E0408",
        "a calculation that is not for complex numbers",
        "In `complex:` a complex parameter is a tensor of complex numbers, everywhere else "
        "it is a tensor of pairs of reals. Sums of tensors, and their products with scalars, "
        "mean the same for both and differ in their rounding alone. A number that is added, "
        "products of tensors and functions do not, so they stand outside.",
        _spec("complex:\n    v += grad*grad\np -= lr*v", "state v = 0"),
        _spec("v += grad*grad\ncomplex:\n    p -= lr*v", "state v = 0"),
    ),
    Code(
        "E0501",
        "a value that its hyper does not allow",
        "The default lies outside its own range, or a text is none of the choices. In a range "
        "`[` and `]` include the end, `(` and `)` leave it out.",
        _spec("p -= lr*momentum*grad", "hyper momentum = 1 in [0, 1)"),
        _spec("p -= lr*momentum*grad", "hyper momentum = 0.9 in [0, 1)"),
    ),
    Code(
        "E0502",
        "a range that makes no sense",
        "A range has two numbers, the smaller one first, and is about numbers. "
        "Flags, texts and choices have no range.",
        _spec("p -= lr*momentum*grad", "hyper momentum = 0.9 in (1, 0)"),
        _spec("p -= lr*momentum*grad", "hyper momentum = 0.9 in (0, 1)"),
    ),
    Code(
        "E0503",
        "a type that does not fit or is missing",
        "The type of a hyper is seen from its default; where `none` or a text stands it has "
        "to be written. Types are `float`, `int`, `bool`, each with `?` where none is allowed, "
        '`tuple` for one number or more, and choices as `"a" | "b"`.',
        _spec("p -= lr*grad if clip == none else lr*clip*grad", "hyper clip = none"),
        _spec(
            "p -= lr*grad if clip == none else lr*clip*grad",
            "hyper clip: float? = none",
        ),
    ),
    Code(
        "E0504",
        "an unknown place for a state",
        "Behind the colon of a state stands `scalar` for one number per parameter, `group` "
        "or `model` for one number of all of them, or nothing: then its shape is that of its "
        "first value. Nothing stands behind a list of states. The step count is `state t`, or "
        "`state t: int` where it is kept as a plain number.",
        _spec(_MOMENTUM, "state buf: tensor = 0"),
        _spec(_MOMENTUM, "state buf = 0"),
    ),
    Code(
        "E0505",
        "a requirement that the defaults break",
        "`require` is checked when the optimizer is made, so with these defaults no one could "
        "make it without arguments. Change a default, or the condition.",
        _spec("p -= lr*grad", 'require lr < 0.1, "lr is small"'),
        _spec("p -= lr*grad", 'require lr <= 0.1, "lr is small"'),
    ),
    Code(
        "E0506",
        "a number that is too large or too long",
        "Numbers are 64-bit floats, and this one is larger than any of them or has more than "
        "40 characters. Infinity is written `inf`.",
        _spec("p -= min(lr, 1e999)*grad"),
        _spec("p -= min(lr, inf)*grad"),
    ),
    Code(
        "E0507",
        "a setting of a hyper that is not there",
        "`use NAME(hyper=value)` gives a hyper of the modifier another default, and `-> "
        "NAME(hyper=value)` in a route one of the rule. Each of them may be set once, and no "
        "others.",
        _using("use clip_value(max_norm=0.5)"),
        _using("use clip_value(max_value=0.5)"),
    ),
    Code(
        "E0508",
        "a text that is no regular expression",
        '`matches(name, "...")` looks for a regular expression of Python, as `re.search` '
        "does, and this text is none: a bracket may be open, or a sign that repeats may have "
        "nothing before it.",
        _route('matches(name, "embed(") -> adamw', "else -> muon"),
        _route('matches(name, "embed") -> adamw', "else -> muon"),
    ),
    Code(
        "E0601",
        "a part of the language that is not there yet",
        "The language has a meaning for this, and this version of the compiler cannot do it. "
        "Nothing is wrong with the idea; it has to be written another way for now.",
        _spec(
            "total = 0.9*total + 0.1\np -= lr/total*grad",
            "state total: model = 1",
            "sparse_grads",
        ),
        _spec("p -= lr*grad", "sparse_grads"),
    ),
    Code(
        "W0701",
        "a range that allows everything",
        "Every number lies between `-inf` and `inf`, so this range refuses nothing. "
        "Say what makes sense, or leave the range out.",
        _spec("p -= lr*grad*scale", "hyper scale = 1.0 in [-inf, inf]"),
        _spec("p -= lr*grad*scale", "hyper scale = 1.0"),
    ),
    Code(
        "W0702",
        "a condition that never changes",
        "The condition is the same for every hyper and every step, so one branch never runs. "
        "Make it a hyper, or keep only the branch that runs.",
        _spec("if true:\n    p -= lr*grad"),
        _PLAIN,
    ),
    Code(
        "W0703",
        "an option that is never on",
        "No step can be captured whose count is `state t: int`, which draws random numbers, "
        "reads the loss or takes the gradient anew: `capturable` is refused, and what is "
        "written for it never runs. Keep only the other branch. A modifier may have such a "
        "branch, which is left out where the rule, or another modifier, cannot be captured.",
        _spec(
            "if capturable: grad *= 1\np -= lr*grad + randn_like(p)",
        ),
        _spec("p -= lr*grad + randn_like(p)"),
    ),
)

CODES: dict[str, Code] = {each.code: each for each in _ALL}
"""Every code, in order."""
