"""Sophia: momentum over a diagonal of the Hessian, clipped entry by entry.

Liu, Li, Hall, Liang and Ma (2023), Sophia: A Scalable Stochastic Second-order Optimizer
for Language Model Pre-training, https://arxiv.org/abs/2305.14342
The authors' SophiaG, https://github.com/Liuhong99/Sophia. Every few steps, the gradient
of a loss over labels that the model drew itself goes into `update_hessian()`:

    optimizer.zero_grad()
    cross_entropy(logits, Categorical(logits=logits).sample()).backward()
    optimizer.update_hessian()

decay: Weight decay apart from the gradient, times the learning rate.

Loshchilov and Hutter (2017), Decoupled Weight Decay Regularization,
https://arxiv.org/abs/1711.05101
As in torch's AdamW: before the step, and times lr as a scheduler has set it.
"""
# Compiled by optdsl from sophia.opt, content ffcf25b9ebba.

import math
import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    ParamsT,
    _default_to_fused_or_foreach,
    _get_capturable_supported_devices,
    _to_scalar,
    _use_grad_for_differentiable,
)

try:
    from optdsl.runtime.kernel import Kernel as _Kernel
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None

__all__ = ["Sophia"]


class Sophia(Optimizer):
    """Sophia: momentum over a diagonal of the Hessian, clipped entry by entry.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, of an entry that is clipped, in [0, inf)
            (default: 1e-4).
        betas (tuple[float, float], optional): decay of the momentum and of the Hessian,
            in [0, 1) (default: (0.965, 0.99)).
        rho (float, optional): the larger, the fewer entries are clipped, in [0, inf)
            (default: 0.04).
        batch_size (float, optional): tokens that a gradient is the mean over, in [0,
            inf) (default: 5120).
        weight_decay (float, optional): share of a weight that decays, times lr, in [0,
            inf) (default: 0.1).
        eps (float, optional): added to the denominator, in (0, inf) (default: 1e-15).
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): update by kernels that pass over memory as few times as
            can be; None does so where they carry all tensors of a group (default:
            None).

    State of a parameter, made at its first step with a gradient:
        exp_avg: momentum (like p).
        hessian: squares of the gradients of drawn labels (like p).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.965, 0.99),
        rho: float = 0.04,
        batch_size: float = 5120,
        weight_decay: float = 0.1,
        eps: float = 1e-15,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "rho": rho,
            "batch_size": batch_size,
            "weight_decay": weight_decay,
            "eps": eps,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        _check_hypers(defaults)
        super().__init__(params, defaults)
        if fused:
            self._step_supports_amp_scaling = True
            if _KERNELS is None:
                warnings.warn(
                    "no fused kernels here: foreach in their place", stacklevel=2
                )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._trial = False
        for group in self.param_groups:
            group.setdefault("lr", 1e-4)
            group.setdefault("betas", (0.965, 0.99))
            group.setdefault("rho", 0.04)
            group.setdefault("batch_size", 5120)
            group.setdefault("weight_decay", 0.1)
            group.setdefault("eps", 1e-15)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "betas", "rho", "batch_size", "weight_decay", "eps"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        hessians: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Sophia does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["hessian"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            hessians.append(state["hessian"])

    def _is_trial(self) -> bool:
        """Whether a step is to make the state of a new optimizer and change nothing."""
        if torch.compiler.is_compiling() or self.state:
            return False
        return all(
            group["lr"] == 0
            and not any(p.grad is None or p.grad.any() for p in group["params"])
            for group in self.param_groups
        )

    def _unscale(self) -> bool:
        """Take the scale of a GradScaler out of the gradients; false where one of them
        has overflowed, so that there is no step.
        """
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            if _KERNELS and _KERNELS.reads_scale(self):
                return True  # kernels do so, and do not wait for the device
            if found_inf.item():
                return False
        scale = getattr(self, "grad_scale", None)
        if scale is not None:
            groups = self.param_groups
            grads = [p.grad for group in groups for p in group["params"]]
            torch._foreach_div_([x for x in grads if x is not None], scale.item())
        return True

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Perform a single optimization step.

        Args:
            closure (Callable, optional): reevaluates the model and returns the loss.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        if self._trial:
            self._trial = False
            self.state.clear()
        if self._is_trial():
            # torch.distributed.checkpoint asks for the state; the first step is to
            #     come.
            self._trial = True
            for group in self.param_groups:
                self._init_group(group, [], [], [], [])
            return loss

        if not self._unscale():
            return loss

        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        waiting = self.param_groups
        if not torch.compiler.is_compiling() and _KERNELS:
            waiting = _KERNELS.repeat(self)
        for group in waiting:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            exp_avgs: list[Tensor] = []
            hessians: list[Tensor] = []
            self._init_group(group, params, grads, exp_avgs, hessians)
            groups.append((group, [params, grads, exp_avgs, hessians]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, exp_avgs, hessians = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_sophia if use_foreach else _single_tensor_sophia
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_sophia_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_sophia
            update(
                params,
                grads,
                exp_avgs,
                hessians,
                lr=group["lr"],
                betas=group["betas"],
                rho=group["rho"],
                batch_size=group["batch_size"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=group["maximize"],
            )

        return loss

    @_use_grad_for_differentiable
    def update_hessian(self) -> None:
        """Runs when it is called, over all parameters with a gradient and a state."""
        for group in self.param_groups:
            betas = group["betas"]
            for param in group["params"]:
                if param.grad is None or param not in self.state:
                    continue
                grad = param.grad if not group["maximize"] else -param.grad
                if torch.is_complex(grad):
                    grad = torch.view_as_real(grad)
                state = self.state[param]
                hessian = state["hessian"]
                if torch.is_complex(hessian):
                    hessian = torch.view_as_real(hessian)
                # hessian = lerp(hessian, grad*grad, 1 - betas[1])
                hessian.lerp_(grad * grad, 1 - betas[1])


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    rho = group["rho"]
    batch_size = group["batch_size"]
    weight_decay = group["weight_decay"]
    eps = group["eps"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    _check_number("rho", rho)
    if not 0 <= rho < math.inf:
        raise ValueError(f"Invalid rho: {rho!r}, expected a number in [0, inf)")
    _check_number("batch_size", batch_size)
    if not 0 <= batch_size < math.inf:
        raise ValueError(
            f"Invalid batch_size: {batch_size!r}, expected a number in [0, inf)"
        )
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    _check_number("eps", eps)
    if not 0 < eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in (0, inf)")
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")


def _check_number(name: str, value: Any) -> None:
    """Raise where a value is no number, nor a tensor of one element."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"Invalid {name}: {value!r}, expected one number")
    if not isinstance(value, (Real, Tensor)):
        raise TypeError(f"Invalid {name}: {value!r}, expected a number")


def _check_numbers(name: str, values: Any, size: int, nones: Any = ()) -> None:
    """Raise where a value is no tuple of numbers; those at `nones` may be None."""
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"Invalid {name}: {values!r}, expected {size} numbers")
    if len(values) != size:
        raise ValueError(f"Invalid {name}: {values!r}, expected {size} numbers")
    for at, value in enumerate(values):
        if not (value is None and at in nones):
            _check_number(name, value)


def _as_scalar(value: Any) -> Any:
    """A tensor of one element without its axes; anything else as it is."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_as_scalar, value))
    return _to_scalar(value)


def _check_capturable(params: list[Tensor], *kept: list[Tensor | None]) -> None:
    """Raise where a step cannot be captured; a compiler looks after this by itself."""
    if torch.compiler.is_compiling():
        return
    devices = _get_capturable_supported_devices()
    for p, *scalars in zip(params, *kept, strict=True):
        if p.device.type not in devices:
            raise AssertionError(f"If capturable=True, params must be on {devices}")
        if any(each is not None and each.device != p.device for each in scalars):
            raise AssertionError("capturable=True, but a state is on another device")


def _alike(columns: list[list[Any]], keys: list[Any] | None = None) -> list[Any]:
    """The rows of the columns in batches of one device, one dtype and one key."""
    batches: dict[Any, list[Any]] = {}
    for at, row in enumerate(zip(*columns, strict=True)):
        kind = (row[0].device, row[0].dtype, keys and keys[at])
        batches.setdefault(kind, []).append(row)
    return [list(map(list, zip(*rows, strict=True))) for rows in batches.values()]


def _single_tensor_sophia(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    hessians: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    rho: float,
    batch_size: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg, hessian in zip(
        params, grads, exp_avgs, hessians, strict=True
    ):
        grad = grad if not maximize else -grad
        if torch.is_complex(p):
            p, grad, exp_avg, hessian = map(
                torch.view_as_real, (p, grad, exp_avg, hessian)
            )
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)

        # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
        exp_avg.lerp_(grad, 1 - betas[0])

        # ratio = min(abs(exp_avg)/(rho*batch_size*hessian + eps), 1)
        ratio = (
            exp_avg.abs().div_((hessian * (rho * batch_size)).add_(eps)).clamp_(max=1)
        )

        # p -= lr*sign(exp_avg)*ratio
        p.addcmul_(exp_avg.sign(), ratio, value=-lr)


def _multi_tensor_sophia(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    hessians: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    rho: float,
    batch_size: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, rho, batch_size, weight_decay, eps = map(
        float, (lr, rho, batch_size, weight_decay, eps)
    )
    betas = tuple(map(float, betas))

    columns = [params, grads, exp_avgs, hessians]
    for params, grads, exp_avgs, hessians in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            hessians = [torch.view_as_real(each) for each in hessians]
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)

        # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
        torch._foreach_lerp_(exp_avgs, grads, 1 - betas[0])
        del grads

        # ratio = min(abs(exp_avg)/(rho*batch_size*hessian + eps), 1)
        ratios = torch._foreach_abs(exp_avgs)
        products = torch._foreach_mul(hessians, rho * batch_size)
        torch._foreach_add_(products, eps)
        torch._foreach_div_(ratios, products)
        del products
        torch._foreach_clamp_max_(ratios, 1)

        # p -= lr*sign(exp_avg)*ratio
        signs = torch._foreach_sign(exp_avgs)
        torch._foreach_addcmul_(params, signs, ratios, value=-lr)


def _scaled_addcmul(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcmul(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcmul(y * scale, z)
    return x.addcmul(y, z, value=scale)


def _differentiable_sophia(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    hessians: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    rho: float,
    batch_size: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    for p, grad, exp_avg, hessian in zip(
        params, grads, exp_avgs, hessians, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg, hessian)
        p, exp_avg, hessian = (each.clone() for each in kept)
        is_complex = torch.is_complex(p)
        if is_complex:
            p, grad, exp_avg, hessian = map(
                torch.view_as_real, (p, grad, exp_avg, hessian)
            )
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)

        # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
        exp_avg = exp_avg.lerp(grad, 1 - betas[0])

        # ratio = min(abs(exp_avg)/(rho*batch_size*hessian + eps), 1)
        ratio = (exp_avg.abs() / (hessian * (rho * batch_size) + eps)).clamp(max=1)

        # p -= lr*sign(exp_avg)*ratio
        p = _scaled_addcmul(p, exp_avg.sign(), ratio, -lr)
        if is_complex:
            p, exp_avg, hessian = map(torch.view_as_complex, (p, exp_avg, hessian))

        for each, new in zip(kept, (p, exp_avg, hessian), strict=True):
            each.copy_(new)


def _multi_tensor_sophia_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    hessians: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    rho: float,
    batch_size: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    columns = [params, grads, exp_avgs, hessians]
    for params, grads, exp_avgs, hessians in _alike(columns):
        if maximize:
            grads = torch._foreach_neg(grads)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            hessians = [torch.view_as_real(each) for each in hessians]
        if weight_decay != 0:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)

        # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
        torch._foreach_lerp_(exp_avgs, grads, 1 - betas[0])
        del grads

        # ratio = min(abs(exp_avg)/(rho*batch_size*hessian + eps), 1)
        ratios = torch._foreach_abs(exp_avgs)
        products = torch._foreach_mul(hessians, rho * batch_size)
        torch._foreach_add_(products, eps)
        torch._foreach_div_(ratios, products)
        del products
        torch._foreach_clamp_max_(ratios, 1)

        # p -= lr*sign(exp_avg)*ratio
        signs = torch._foreach_sign(exp_avgs)
        products = torch._foreach_mul(signs, -lr)
        torch._foreach_addcmul_(params, products, ratios)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["rho"],
        group["batch_size"],
        group["weight_decay"],
        group["eps"],
    ]
    options = [group["maximize"], group["weight_decay"] != 0]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avgs, hessians = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs, hessians],
            numbers=[],
        )
    return launch.run()


_CPU = r"""// Sophia in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    hessian_t *hessian;
    double lr;
    double betas[2];
    double rho;
    double batch_size;
    double weight_decay;
    double eps;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg, &Row::hessian);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            const real hessian = load(row.hessian[i]);
            if (weight_decay_is_not_0) {
                // p *= 1 - lr*weight_decay
                p = p * real(1.0 - row.lr * row.weight_decay);
            }
            // exp_avg = lerp(exp_avg, grad, 1 - betas[0])
            exp_avg = lerp_(exp_avg, grad, real(1.0 - row.betas[0]));
            // ratio = min(abs(exp_avg)/(rho*batch_size*hessian + eps), 1)
            const real ratio = min_(abs_(exp_avg) / (real(row.rho * row.batch_size) *
                hessian + real(row.eps)), real(1.0));
            // p -= lr*sign(exp_avg)*ratio
            p = p - real(row.lr) * sign_(exp_avg) * ratio;
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_sophia(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.exp_avg = (exp_avg_t *)table->columns[2][at];
        row.hessian = (hessian_t *)table->columns[3][at];
        const double *hyper = table->hypers + 7 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.rho = *hyper++;
        row.batch_size = *hyper++;
        row.weight_decay = *hyper++;
        row.eps = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""

_CUDA = r"""# Sophia in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import (
    column,
    elements,
    gradient,
    keep,
    lerp,
    overflowed,
    sign,
    smaller,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "exp_avg_t", "hessian_t")
OPTIONS = ("maximize", "weight_decay_is_not_0")


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    hessian_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    real: tl.constexpr,
    aligned: tl.constexpr,
    BLOCK: tl.constexpr,
):
    if overflowed(found_inf):
        return
    chunk = tl.program_id(0)
    row = tl.load(row_of + chunk)
    begin = (chunk - tl.load(starts + row)) * BLOCK
    left = tl.load(numel + row) - begin
    i = tl.arange(0, BLOCK)
    of = hypers + 7 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    rho = tl.load(of + 3)
    batch_size = tl.load(of + 4)
    weight_decay = tl.load(of + 5)
    eps = tl.load(of + 6)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    hessian_at = column(columns, rows, row, 3, hessian_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    hessian = elements(hessian_at, i, left, real)
    if weight_decay_is_not_0:
        # p *= 1 - lr*weight_decay
        p = p * (1.0 - lr * weight_decay).to(real)
    # exp_avg = lerp(exp_avg, grad, 1 - betas[0])
    exp_avg = lerp(exp_avg, grad, (1.0 - betas_0).to(real))
    # ratio = min(abs(exp_avg)/(rho*batch_size*hessian + eps), 1)
    ratio = smaller(
        tl.abs(exp_avg) / ((rho * batch_size).to(real) * hessian + eps.to(real)), 1.0
    )
    # p -= lr*sign(exp_avg)*ratio
    p = p - lr.to(real) * sign(exp_avg) * ratio
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)


def launch(x):
    x.each_chunk(pass_1)
"""

_KERNELS = _Kernel and _Kernel(
    "step_sophia",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg", "hessian"),
    options=("maximize", "weight_decay_is_not_0"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
