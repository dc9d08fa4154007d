"""Random numbers: a function of the group's seed, of the parameter's place in its group, of
its step count and of the draw, so that they are the same however a rule runs, and again
after a checkpoint.

In: a rule. Out: how the seed of a parameter's update is spelled, and the functions that
draw.
"""

from .. import ir

SEED = "seed"

NEW_SEED = '''

def _new_seed() -> int:
    """Where the random numbers of a group start, from torch's default generator."""
    return int(torch.randint(2**62, ()))
'''
MIXED = '''

def _mixed(*numbers: int) -> int:
    """A seed made of several numbers, each of which changes all of it."""
    seed = 1
    for number in numbers:
        seed = (seed ^ number) * 0x9E3779B97F4A7C15 % 2**63
        seed ^= seed >> 32
    return seed
'''
DRAW = '''

def _{name}(x: Tensor, seed: int, draw: int) -> Tensor:
    """{said}, as many as x has, drawn in float32 on its device."""
    generator = torch.Generator(x.device).manual_seed(_mixed(seed, draw))
    drawn = torch.{called}(
        x.shape, generator=generator, device=x.device, dtype=torch.float32
    )
    return drawn.to(x.dtype)
'''
_DRAWS = {
    "randn_like": ("randn", "Standard normal numbers"),
    "rand_like": ("rand", "Uniform numbers in [0, 1)"),
}


def of_update(rule: ir.Rule, is_new: bool = False) -> str:
    """The seed of a parameter's next update, as `_init_group` knows it; of the first one,
    where its state `is_new`.
    """
    count = 'int(state["step"]) + 1' if rule.counted == "tensor" else 'state["step"]'
    return f'_mixed(group["{SEED}"], at, {"1" if is_new else count})'


def functions(rule: ir.Rule, code: str) -> str:
    """The functions that the code of the file calls."""
    if not rule.random:
        return ""
    written = [
        DRAW.format(name=name, called=called, said=said)
        for name, (called, said) in _DRAWS.items()
        if f"_{name}(" in code
    ]
    return NEW_SEED + MIXED + "".join(written)
