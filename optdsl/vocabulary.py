"""The words of the language: its built-in functions, and the names that are taken.

Functions have torch's names and meanings. `host` is how Python spells the function for
plain numbers; a function without it takes tensors only.
"""

import keyword
from dataclasses import dataclass
from typing import Any

from .meanings import MEANINGS, SHAPES, SOURCES

PARAM, GRAD, COUNT, FIRST, LOSS = "p", "grad", "t", "first", "loss"
GRADIENT = "gradient"
CALLS = "calls"
CAPTURABLE, DIFFERENTIABLE = "capturable", "differentiable"
CONSTANTS = {"inf": "math.inf", "pi": "math.pi"}


@dataclass(frozen=True, slots=True)
class Function:
    """A built-in function. `group` decides its kind and shape:

    elementwise  like its arguments, broadcast; a number where all are numbers
    compared     the same, but a flag
    reduction    a tensor scalar, or with `dim=` its argument without those axes
    created      like its argument
    shape        a number, known without looking at the values
    length       the number of items of a tuple
    asked        a flag, known without looking at the values
    item         the number in a tensor scalar
    as_tensor    a number as a tensor scalar
    viewed       its argument in another layout or precision; may share its memory
    remembered   the number that a hyper was when its group was added
    drawn        random numbers, as many as its argument has
    evaluated    what the closure says of parameters that are moved to its argument
    largest      flags like its argument, true at so many of its largest entries
    layout       a tensor whose sizes are known when it is computed
    made         the same, of a size and the precision of the parameter
    parts        several tensors, called `results`

    `takes` says what the arguments of the last three are: a tensor, an axis, a size,
    several sizes, a number, an order. The last `optional` ones may be left out.
    """

    name: str
    group: str
    arguments: tuple[str, ...] = ("x",)
    host: str = ""
    keywords: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    optional: int = 0
    results: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        """What it computes, in one line."""
        return MEANINGS[self.name if self.group != "reduction" else _reduced(self.name)]

    @property
    def shapes(self) -> str:
        """The shape of its value, for a reader."""
        return SHAPES.get(self.name) or SHAPES[self.group]

    @property
    def source(self) -> str:
        """Where it comes from: what torch, or Python for numbers, calls it."""
        return SOURCES.get(self.name, f"torch.{self.name}")


def _reduced(name: str) -> str:
    return f"{name} of one" if name in ("max", "min") else name


def _elementwise(names: str, host: str = "", arguments: str = "x") -> list[Function]:
    parts = tuple(arguments.split())
    return [
        Function(name, "elementwise", parts, host.format(name))
        for name in names.split()
    ]


def _of_sizes(
    name: str, arguments: str, takes: str, group: str = "layout", **more: Any
) -> Function:
    parts = tuple(arguments.split())
    return Function(name, group, parts, takes=tuple(takes.split()), **more)


FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in [
        *_elementwise(
            "exp expm1 log log1p log2 log10 sin cos tan asin acos atan", "math.{}"
        ),
        *_elementwise("sinh cosh tanh erf floor ceil trunc", "math.{}"),
        *_elementwise("abs round", "{}"),
        *_elementwise("sqrt", "math.{}"),
        *_elementwise("rsqrt square reciprocal sigmoid sign"),
        *_elementwise("atan2", "math.{}", arguments="y x"),
        *_elementwise("pow", arguments="x exponent"),
        *_elementwise("max min", "{}", arguments="x y"),
        *_elementwise("lerp", arguments="start end weight"),
        *_elementwise("clamp", arguments="x min max"),
        *_elementwise("where", arguments="condition x y"),
        Function("isnan", "compared", host="math.isnan"),
        Function("isfinite", "compared", host="math.isfinite"),
        *(
            Function(name, "reduction", keywords=("dim", "keepdim"))
            for name in ("sum", "mean", "norm", "any", "all")
        ),
        Function("dot", "reduction", ("x", "y")),
        Function("zeros_like", "created"),
        Function("ones_like", "created"),
        Function("full_like", "created", ("x", "value")),
        Function("ndim", "shape"),
        Function("numel", "shape"),
        Function("size", "shape", ("x", "dim")),
        Function("finfo_eps", "shape"),
        Function("len", "length", host="len"),
        Function("is_tensor", "asked"),
        Function("is_complex", "asked"),
        Function("is_sparse", "asked"),
        Function("item", "item"),
        Function("as_tensor", "as_tensor"),
        Function("transpose", "viewed"),
        Function("bfloat16", "viewed"),
        Function("initial", "remembered", ("hyper",)),
        Function("randn_like", "drawn"),
        Function("rand_like", "drawn"),
        Function("topk", "largest", ("x", "k")),
        Function(GRADIENT, "evaluated"),
        _of_sizes("reshape", "x sizes", "tensor sizes"),
        _of_sizes("reshape_as", "x y", "tensor tensor"),
        _of_sizes("flatten", "x start", "tensor axis", optional=1),
        _of_sizes("movedim", "x source destination", "tensor axis axis"),
        _of_sizes("narrow", "x dim start length", "tensor axis size size"),
        _of_sizes("index_select", "x dim order", "tensor axis order"),
        _of_sizes("diag", "x", "tensor"),
        _of_sizes("argsort", "x", "tensor", keywords=("descending",)),
        _of_sizes("inverse_root", "x k", "tensor number"),
        _of_sizes("eye", "n", "size", "made"),
        _of_sizes("zeros", "sizes", "sizes", "made"),
        _of_sizes("qr", "x", "tensor", "parts", results=("q", "r")),
        _of_sizes("eigh", "x", "tensor", "parts", results=("values", "vectors")),
        _of_sizes("svd", "x", "tensor", "parts", results=("u", "s", "vh")),
    ]
}
# Functions that look at the axes of their arguments, or make axes.
OF_AXES = frozenset(
    name
    for name, each in FUNCTIONS.items()
    if each.group in ("layout", "made", "parts") or name in ("ndim", "numel", "size")
) | {"transpose"}
# Functions of whole matrices, which several of one shape share a call of.
OF_MATRICES = frozenset({"inverse_root", "qr", "eigh", "svd"})
# `max(x)` and `min(x)` with one argument reduce; with two they compare element by element.
EXTREMES = {
    name: Function(name, "reduction", keywords=("dim", "keepdim"))
    for name in ("max", "min")
}
_INVERSE = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
SYNONYMS = {
    "maximum": "max", "minimum": "min", "clip": "clamp", "power": "pow",
    "ln": "log", "linalg_norm": "norm", "absolute": "abs", "average": "mean",
    "view": "reshape", "view_as": "reshape_as", "take": "index_select", **_INVERSE,
}  # fmt: skip

BASE = "base_"
"""What a group calls the first value of a hyper, before the hyper's name."""

FLAGS = ("maximize", "foreach", "capturable", "differentiable", "fused")

_SPEC_WORDS = (
    "optimizer modifier about needs use reference hyper positional named require state "
    "sparse_grads only def pre_step post_step on_call step if elif else repeat for complex "
    "return skip and or not in when true false none"
).split()
# The words of a generated file that a name of the spec would hide.
_FILE_WORDS = (
    "self params closure group groups defaults torch math Tensor Optimizer ParamsT "
    "Any Callable float int bool str tuple dict list isinstance len zip map super print "
    "eval exec ValueError RuntimeError"
).split()
# What a param group and a state hold beside the spec's own names.
_TORCH_KEYS = ("params", "param_names", "initial_lr", "max_lr", "min_lr", "step")
# Attributes of torch.optim.Optimizer, and what trainers call on one.
METHODS = (
    "add_param_group load_state_dict state_dict zero_grad step state defaults param_groups "
    "register_step_pre_hook register_step_post_hook register_state_dict_pre_hook "
    "register_state_dict_post_hook register_load_state_dict_pre_hook "
    "register_load_state_dict_post_hook profile_hook_step share_memory train eval "
    "grad_scale found_inf OptimizerPreHook OptimizerPostHook"
).split()


_FILE_FUNCTIONS = (
    "check_", "is_number", "as_scalar", "zero_dim", "to_scalar", "get_scalar_dtype",
    "get_capturable_supported_devices", "use_grad_for_differentiable", "capturable_",
    "single_tensor_", "multi_tensor_", "as_float", "mixed", "new_seed",
    "randn_like", "rand_like", "as_loss", "topk", "batched", "precise", "stacked",
    "kernel_numbers", "by_kernels",
)  # fmt: skip
"""What the generated file's own functions are called, after an underscore."""


def calls_key(hook: str) -> str:
    """Under which name a group keeps how often a hook has run."""
    return f"{hook}_{CALLS}"


def why_no_def(name: str) -> str:
    """Why a def may not have this name, or '' where it may."""
    if name.startswith(_FILE_FUNCTIONS):
        return "the generated file has a function of this name"
    return why_reserved(name)


def why_reserved(name: str) -> str:
    """Why a spec may not declare this name, or '' where it may."""
    if name.startswith("_"):
        return "names that start with an underscore belong to the generated file"
    if name in _SPEC_WORDS:
        return "it is a word of the language"
    if name in (PARAM, GRAD, COUNT, FIRST, LOSS, CALLS) or name in CONSTANTS:
        return "the language gives it a meaning of its own"
    if keyword.iskeyword(name) or name in ("match", "case", "type"):
        return "it is a word of Python"
    if name in FLAGS:
        return "every optimizer has this option already"
    if name in _TORCH_KEYS:
        return "torch keeps something else under this name"
    if name in _FILE_WORDS or name in ("None", "True", "False"):
        return "the generated file uses it"
    return ""
