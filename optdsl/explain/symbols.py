"""The letters that names are written with: `p` is theta, `beta1` has an index, `lr` is
gamma, as in torch's documentation.

In: the names of a scope. Out: a letter for each, no two the same.
"""

import re
from collections.abc import Iterable

from .. import vocabulary
from .formula import Letter
from .latex import upright

_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ",
    "eta": "η", "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ",
    "nu": "ν", "xi": "ξ", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "chi": "χ",
    "psi": "ψ", "omega": "ω",
}  # fmt: skip
_SPELLED = {"lambd": "lambda", "lam": "lambda", "eps": "epsilon"}
# What papers call the names that every optimizer has; the first letter that is free.
_CUSTOM = {
    vocabulary.PARAM: ("theta",),
    vocabulary.GRAD: ("g",),
    "lr": ("gamma", "eta"),
    "weight_decay": ("lambda",),
    "momentum": ("mu",),
}
_INDEXED = re.compile(r"([A-Za-z]+?)_?(\d+)")
_QUALIFIED = re.compile(r"([A-Za-z]+?)_(\w+)")


def letters(names: Iterable[str]) -> dict[str, Letter]:
    """A letter for each name: names that are letters first, then the customary ones, and
    the name itself where its letter is taken.
    """
    # An index counts as one only where no other name has its letter: `d0` beside a
    # state `d` would be what `d` starts with.
    names = sorted(dict.fromkeys(names), key=lambda name: bool(_own(name).below))
    wishes = {name: [_own(name)] for name in names if name not in _CUSTOM}
    wishes |= {
        name: [_letter(each) for each in _CUSTOM[name]]
        for name in names
        if name in _CUSTOM
    }
    found: dict[str, Letter] = {}
    for name, wished in wishes.items():
        taken = {(each.latex, each.below) for each in found.values()}
        free = (
            each
            for each in wished
            if (each.latex, each.below) not in taken
            and not (each.below == "0" and (each.latex, "") in taken)
        )
        found[name] = next(free, Letter(name, upright(name)))
    return found


def _own(name: str) -> Letter:
    if _base(name):
        return _letter(name)
    if (match := _INDEXED.fullmatch(name)) and _base(match[1]):
        letter = _letter(match[1])
        return Letter(letter.plain + match[2], letter.latex, match[2])
    match = _QUALIFIED.fullmatch(name)
    if match and _SPELLED.get(match[1], match[1]) in _GREEK:
        letter = _letter(match[1])
        return Letter(f"{letter.plain}_{match[2]}", letter.latex, upright(match[2]))
    return Letter(name, upright(name))


def _base(name: str) -> bool:
    return len(name) == 1 or _SPELLED.get(name, name) in _GREEK


def _letter(name: str) -> Letter:
    name = _SPELLED.get(name, name)
    if name in _GREEK:
        return Letter(_GREEK[name], f"\\{name}")
    return Letter(name, name)
