"""One step by Triton's kernels: which groups they carry, and what they are handed.

In: the groups that an optimizer has collected. Out: those that are left to other targets.
Nothing here waits for the device, so that a step can be captured in a CUDA graph.
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor

from .again import Plan
from .carried import dtypes
from .device_tables import Copies, Rows, Values, is_capturing, is_tensor, parts_of
from .launch import Batch, Entry, Launch
from .triton_text import is_there, may_run, module, on, runs_on

if TYPE_CHECKING:
    from .kernel import Hypers, Kernel

Left = list[tuple[dict[str, Any], Any]]
CPU = torch.device("cpu")


class DeviceKernel:
    """The Triton kernels of a generated file, beside those for the CPU.

    Args:
        text: the module that has them.
        kernel: what the file says of its kernels, whatever they run on.
    """

    block = 2048
    """How many elements a program takes."""

    def __init__(self, text: str, kernel: "Kernel") -> None:
        self.text = text
        self.hypers: Hypers = kernel.hypers
        self.elements = kernel.elements
        self.numbers = kernel.numbers
        self.scratch = kernel.scratch
        self.counts = kernel.counts
        self.kinds = kernel.kinds
        self.together, self.elementwise = kernel.together, kernel.elementwise
        self.view, self.least = kernel.view, kernel.least
        self.reduced = kernel.reduced
        self.grads = kernel.grads
        self.plans: WeakKeyDictionary[Any, Plan] = WeakKeyDictionary()
        self.known: WeakKeyDictionary[Any, dict] = WeakKeyDictionary()
        self.scaled: WeakSet[Any] = WeakSet()

    def launch(self, optimizer: Any, device: torch.device) -> "DeviceLaunch":
        """A step of an optimizer."""
        return DeviceLaunch(self, optimizer, device, [])

    def on_device(self, launch: Launch) -> Left:
        """Nothing more: what a launch of these has is there already."""
        return []

    def has_scale(self, optimizer: Any) -> bool:
        """Whether the gradients of this step have a scale that is left to kernels."""
        return optimizer in self.scaled and hasattr(optimizer, "found_inf")

    def numbers_of(self, group: dict[str, Any]) -> tuple[tuple, tuple[int, ...]]:
        """As for the CPU, but a hyper that is a tensor of the device stays one."""
        hypers, options = self.hypers(group)
        values = tuple(map(_number, hypers))
        said = [*options]
        at = len(said) - len(self.counts)
        chosen, counts = tuple(map(bool, said[:at])), tuple(map(int, said[at:]))
        if self.together:
            return (*values, *map(float, chosen)), counts
        return values, (*chosen, *counts)


def _number(hyper: Any) -> Any:
    if is_tensor(hyper) and hyper.device.type != "cpu":
        return hyper
    return 0.0 if hyper is None else float(hyper)


def is_asked_for(group: dict[str, Any]) -> bool:
    """Whether a group is to be updated by Triton's kernels: where it says `fused`."""
    return bool(group.get("fused")) and not group.get("differentiable")


def run(launch: Launch) -> Left:
    """Update what is for Triton's kernels, and take it out of a launch; what is left of
    it. A captured step is for no others. Rows that have to be in one launch are left where
    they are not all on one device.
    """
    mine: dict[torch.device, list[Entry]] = {}
    others: list[Entry] = []
    left: list[Entry] = []
    for entry in launch.entries:
        asked = is_asked_for(entry.group) and may_run()
        for device, part in _by_device(entry) if asked else [(CPU, entry)]:
            if asked and (device != CPU or runs_on(device)):
                mine.setdefault(device, []).append(part)
            elif part.group.get("capturable"):
                left.append(part)
            else:
                others.append(part)
    launch.entries = others
    kernel: DeviceKernel | None = launch.kernel.device
    result = [entry.back for entry in left]
    is_apart = launch.kernel.together and (
        len(mine) > 1 or others or left or launch.left
    )
    for device, entries in mine.items():
        if kernel and not is_apart and runs_on(device) and is_there(device):
            result += DeviceLaunch(kernel, launch.optimizer, device, entries).run()
        else:
            result += [entry.back for entry in entries]
    return _unscaled(kernel, launch.optimizer, result)


def _by_device(entry: Entry) -> Iterable[tuple[torch.device, Entry]]:
    devices = [x.device for x in entry.elements[0]]
    if len({*devices}) == 1:
        return [(devices[0], entry)]
    return [
        (device, entry.only([at for at, each in enumerate(devices) if each == device]))
        for device in dict.fromkeys(devices)
    ]


# ---- a GradScaler


def reads_scale(kernel: "Kernel", optimizer: Any) -> bool:
    """Whether kernels take the scale of a GradScaler out of all gradients of a step by
    themselves, and do not take a step that overflowed.
    """
    if kernel.device is None or torch.compiler.is_compiling():
        return False
    kernel.device.scaled.discard(optimizer)
    if not kernel.scaled:
        return False
    device, groups = optimizer.found_inf.device, optimizer.param_groups
    if not runs_on(device) or not is_there(device):
        return False
    if not all(map(is_asked_for, groups)):
        return False
    params = (p for group in groups for p in group["params"] if p.grad is not None)
    if not all(p.device == device for p in params):
        return False
    kernel.device.scaled.add(optimizer)
    return True


def _unscaled(kernel: DeviceKernel | None, optimizer: Any, left: Left) -> Left:
    """The same groups, without the scale in their gradients; none where one overflowed.
    What kernels leave is seldom, so that this waits for the device.
    """
    if not left or kernel is None or not kernel.has_scale(optimizer):
        return left
    if optimizer.found_inf.item():
        return []
    scale = getattr(optimizer, "grad_scale", None)
    if scale is not None:
        grads = (p.grad for group, _ in left for p in group["params"])
        torch._foreach_div_([x for x in grads if x is not None], scale.item())
    return left


# ---- a launch


class DeviceLaunch(Launch):
    """Runs groups whose parameters are all on one device, as those on the CPU are run: in
    batches, of which the next step may take the tables over.
    """

    def __init__(
        self,
        kernel: DeviceKernel,
        optimizer: Any,
        device: torch.device,
        entries: list[Entry],
    ) -> None:
        super().__init__(kernel, optimizer)  # type: ignore[arg-type]
        self.entries = entries
        self.given = [entry.back for entry in entries]
        self.device = device
        of_devices = kernel.known.setdefault(optimizer, {})
        self.known = of_devices.setdefault(device, {"copy": Copies(device)})

    def _dtypes(self, entry: Entry) -> list[set[torch.dtype | None]]:
        """As on the CPU. Counts and other numbers that a checkpoint has brought to the CPU
        move to the device, unless the step is to be captured.
        """
        if not entry.group.get("capturable") and not is_capturing(self.device):
            for x in (x for column in entry.numbers for x in column):
                if type(x) is Tensor and x.is_cpu and self.device.type != "cpu":
                    x.data = x.data.to(self.device)
        return dtypes(entry, self.kernel, lambda x: x.device == self.device)

    def step(self, batch: Batch) -> bool:
        from .handed import Handed  # it needs Triton

        kernels = module(self.kernel.text)
        kinds = self.kernel.kinds(batch.types, batch.options)
        if any(len({*each} - {None}) > 1 for each in kinds):
            return False  # entries of one list are of one type
        count = len(batch.tables) - len(self.kernel.numbers)
        scratch = [*(_scratch(batch, count, self.device) for _ in self.kernel.scratch)]
        pointers = [
            *batch.tables[:count],
            *(each for _, each in scratch),
            *batch.tables[count:],
        ]
        with on(self.device):
            rows, values = self._tables(batch, pointers)
            for at, hyper in enumerate(batch.hypers):
                if is_tensor(hyper):
                    values.hypers[at].copy_(hyper)
            scale = (None, None)
            if self.kernel.has_scale(self.optimizer):
                optimizer = self.optimizer
                scale = optimizer.found_inf, getattr(optimizer, "grad_scale", None)
            names = kernels.TYPES, kernels.OPTIONS
            counts = len(self.kernel.elements), len(self.kernel.scratch)
            tables = rows, values, scale
            handed = Handed(names, batch, kinds, *counts, *tables, self.device)
            return kernels.launch(handed) is not False

    def _tables(self, batch: Batch, pointers: list[array]) -> tuple[Rows, Values]:
        """The tables of the step before, as far as nothing has changed. A captured step
        has values of its own, since later ones may be freed when it is replayed.
        """
        known, copy, block = self.known, self.known["copy"], self.kernel.block
        sizes = batch.numel, batch.shapes, batch.of_groups
        layout = (_stream(self.device), block, *sizes)
        rows, values = known.get("rows"), known.get("values")
        if known.get("layout") != layout:
            rows, values = Rows.of(batch, block, copy), None
        parts = parts_of(batch, pointers)
        each = len(pointers) - len(self.kernel.numbers)
        if is_capturing(self.device):
            copy.held.append(rows.numel)
            return rows, Values.of(parts, each * rows.rows, copy)
        if values is None or values.known != parts:
            values = Values.of(parts, each * rows.rows, copy)
        known |= {"layout": layout, "rows": rows, "values": values}
        return rows, values


def _stream(device: torch.device) -> int:
    """Tables are copied on the stream that reads them."""
    if device.type == "cpu":
        return 0
    return torch.cuda.current_stream(device).cuda_stream


def _scratch(batch: Batch, elements: int, device: torch.device) -> tuple[Tensor, array]:
    """Memory for what one pass hands on to another, and where it is for each row."""
    precise = {torch.float64, torch.complex128} & {*batch.types[:elements]}
    real = torch.float64 if precise else torch.float32
    size = real.itemsize
    lengths: Sequence[int] = [-(-size * each // 16) * 16 for each in batch.numel]
    *starts, total = accumulate(lengths, initial=0)
    whole = torch.empty(total // size, dtype=real, device=device)
    base = whole.data_ptr()
    return whole, array("q", (base + start for start in starts))
