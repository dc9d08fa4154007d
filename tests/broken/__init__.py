"""Optimizers that are each broken by one mistake, and what verify has to say of them."""

from dataclasses import dataclass

from torch.optim import Optimizer

from . import gradients, groups, numbers, options, sound, states


@dataclass(frozen=True, slots=True)
class Broken:
    """`check` is the row that has to fail; `against_twin` where only the sound twin tells,
    since the mistake is in a formula.
    """

    cls: type[Optimizer]
    twin: type[Optimizer]
    check: str
    against_twin: bool = False


AS_REFERENCE = "it steps as its reference"
BROKEN = (
    Broken(gradients.DecayTooLate, sound.Momentum, "weight decay matters"),
    Broken(
        gradients.MaximizedDecay,
        sound.Momentum,
        "maximizing is minimizing the negative",
    ),
    Broken(
        gradients.DifferenceOfSigns,
        sound.Momentum,
        "maximizing is minimizing the negative",
    ),
    Broken(
        gradients.OverwrittenGrad,
        sound.Momentum,
        "p.grad keeps its bits and is the same object",
    ),
    Broken(
        gradients.ReplacedGrad,
        sound.Momentum,
        "p.grad keeps its bits and is the same object",
    ),
    Broken(
        gradients.MissingIsZero,
        sound.Momentum,
        "a parameter without gradient keeps its value and state",
    ),
    Broken(
        gradients.CountedByGroup,
        sound.Adam,
        "a parameter whose first gradient is late steps as if it were fresh",
    ),
    Broken(
        gradients.NothingOverNothing,
        sound.Unit,
        "zero gradients keep everything finite",
    ),
    Broken(
        gradients.OverFirstRate,
        sound.Momentum,
        "lr 0 at the first step keeps everything finite and the next step works",
    ),
    Broken(gradients.AnchorBeforeHook, sound.Anchored, AS_REFERENCE, True),
    Broken(
        groups.BetasOfFirstGroup,
        sound.Adam,
        "a hyper of a group is obeyed in that group alone",
    ),
    Broken(
        groups.RateOfConstructor,
        sound.Momentum,
        "a hyper of a group is obeyed in that group alone",
    ),
    Broken(groups.AveragedByGroup, sound.Momentum, "two equal groups are one"),
    Broken(groups.DecayWithoutRate, sound.Adam, "a group with lr 0 does not move"),
    Broken(groups.ListOfRates, sound.Momentum, "a group can be added later"),
    Broken(
        groups.CarriedOver,
        sound.Momentum,
        "the order of groups and parameters does not matter",
    ),
    Broken(
        groups.CountedByParameter,
        sound.Adam,
        "a parameter steps the same beside others",
    ),
    Broken(
        groups.CheckedAtFirst, sound.Momentum, "a bad value is refused in every group"
    ),
    Broken(
        states.MadeAtOnce,
        sound.Momentum,
        "state is made lazily and only for parameters with a gradient",
    ),
    Broken(
        states.AliasedMomentum,
        sound.Momentum,
        "no state shares memory with p, grad or another state",
    ),
    Broken(
        states.KeptOutside, sound.Momentum, "save, load, continue gives the same bits"
    ),
    Broken(
        states.NotOnlyTensors, sound.Adam, "save, load, continue gives the same bits"
    ),
    Broken(states.CastOnLoad, sound.Momentum, "a state keeps its dtype on load"),
    Broken(
        states.ForgetsOnCopy,
        sound.Momentum,
        "a copy (deepcopy, pickle) goes on with the same bits",
    ),
    Broken(options.SwallowsAnything, sound.Momentum, "an unknown option is refused"),
    Broken(options.DeadAmsgrad, sound.Adam, "options have an effect"),
    Broken(options.EpsInsideRoot, sound.Adam, AS_REFERENCE, True),
    Broken(options.CorrectedTooLate, sound.Adam, AS_REFERENCE, True),
    Broken(options.CoupledDecay, sound.Adam, AS_REFERENCE, True),
    Broken(options.SquaredTwice, sound.Adam, AS_REFERENCE, True),
    Broken(
        options.CrashesWithOption,
        sound.Adam,
        "each option steps with each shape and dtype",
    ),
    Broken(numbers.Flat, sound.Momentum, "shapes: empty, 0-d, 4-d, non-contiguous"),
    Broken(
        numbers.WrongOrder, sound.Momentum, "shapes: empty, 0-d, 4-d, non-contiguous"
    ),
    Broken(numbers.UnitInPlace, sound.Unit, "bfloat16 stays near float32"),
    Broken(
        numbers.ClosureWithoutGrad,
        sound.Momentum,
        "a closure is run once, with gradients on, and its loss returned",
    ),
    Broken(
        numbers.ClosureTwice,
        sound.Momentum,
        "a closure is run once, with gradients on, and its loss returned",
    ),
    Broken(
        numbers.LossIsLost,
        sound.Momentum,
        "a closure is run once, with gradients on, and its loss returned",
    ),
    Broken(numbers.ListsWithoutDecay, sound.Lists, "foreach and the loop agree"),
    Broken(numbers.Detached, sound.Differentiable, "differentiable and the loop agree"),
)
