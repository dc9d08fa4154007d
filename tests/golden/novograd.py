"""NovoGrad: momentum of gradients that are normed layer by layer.

Ginsburg et al. (2019), Stochastic Gradient Methods with Layer-wise Adaptive Moments for
Training of Deep Networks, https://arxiv.org/abs/1905.11286
Follows NVIDIA's code for Jasper, without its amsgrad: a second moment of zero starts
anew. In pytorch_optimizer it stays, and the first gradient is never averaged.
"""
# Compiled by optdsl from novograd.opt, content 955d5ecd933e.

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

__all__ = ["NovoGrad"]


class NovoGrad(Optimizer):
    """NovoGrad: momentum of gradients that are normed layer by layer.

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        lr (float, optional): learning rate, in [0, inf) (default: 1e-3).
        betas (tuple[float, float], optional): decay of the momentum and the second
            moment, in [0, 1) (default: (0.95, 0.98)).
        eps (float, optional): added to the denominator, in [0, inf) (default: 1e-8).
        weight_decay (float, optional): decay that enters the momentum, in [0, inf)
            (default: 0).
        grad_averaging (bool, optional): make the momentum a mean (default: False).
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
        exp_avg: momentum of the normed gradient (like p).
        exp_avg_sq: mean square norm of the gradient (0-d tensor).

    Raises:
        TypeError: a hyperparameter, of any group, is no number.
        ValueError: it is not allowed.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0,
        grad_averaging: bool = False,
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
            "eps": eps,
            "weight_decay": weight_decay,
            "grad_averaging": grad_averaging,
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
            group.setdefault("lr", 1e-3)
            group.setdefault("betas", (0.95, 0.98))
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 0)
            group.setdefault("grad_averaging", False)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_hypers({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for name in ("lr", "betas", "eps", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("NovoGrad does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("NovoGrad does not support complex parameters")
            state = self.state[p]
            grad = p.grad if not group["maximize"] else -p.grad
            if len(state) == 0:
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(torch.linalg.vector_norm(grad))
            params.append(p)
            grads.append(p.grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])

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
            exp_avg_sqs: list[Tensor] = []
            self._init_group(group, params, grads, exp_avgs, exp_avg_sqs)
            groups.append((group, [params, grads, exp_avgs, exp_avg_sqs]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS:
            left = _by_kernels(self, left)
        for group, columns in left:
            params, grads, exp_avgs, exp_avg_sqs = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = (
                _multi_tensor_novo_grad if use_foreach else _single_tensor_novo_grad
            )
            if group["capturable"]:
                _check_capturable(params)
            if use_foreach and (group["capturable"] or torch.compiler.is_compiling()):
                update = _multi_tensor_novo_grad_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_novo_grad
            update(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                grad_averaging=group["grad_averaging"],
                maximize=group["maximize"],
            )

        return loss


def _check_hypers(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    grad_averaging = group["grad_averaging"]
    _check_number("lr", lr)
    if not 0 <= lr < math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf)")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    _check_number("eps", eps)
    if not 0 <= eps < math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf)")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay < math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf)"
        )
    if grad_averaging not in (False, True):
        raise ValueError(
            f"Invalid grad_averaging: {grad_averaging!r}, expected True or False"
        )
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


def _single_tensor_novo_grad(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    grad_averaging: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    share = 1 - beta1 if grad_averaging else 1

    for p, grad, exp_avg, exp_avg_sq in zip(
        params, grads, exp_avgs, exp_avg_sqs, strict=True
    ):
        grad = grad if not maximize else -grad

        # square = norm(grad)**2
        square = torch.linalg.vector_norm(grad).square()

        # exp_avg_sq = square if exp_avg_sq == 0 else lerp(exp_avg_sq, square, 1 -
        #     beta2)
        exp_avg_sq.copy_(
            torch.where(exp_avg_sq == 0, square, exp_avg_sq.lerp(square, 1 - beta2))
        )

        # normed = grad/(sqrt(exp_avg_sq) + eps)
        normed = grad / (exp_avg_sq.sqrt() + eps)
        if weight_decay != 0:
            # normed += weight_decay*p
            normed.add_(p, alpha=weight_decay)

        # exp_avg = beta1*exp_avg + share*normed
        exp_avg.mul_(beta1).add_(normed, alpha=share)

        # p -= lr*exp_avg
        p.add_(exp_avg, alpha=-lr)


def _multi_tensor_novo_grad(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    grad_averaging: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps, weight_decay = map(float, (lr, eps, weight_decay))
    betas = tuple(map(float, betas))
    beta1, beta2 = betas
    share = 1 - beta1 if grad_averaging else 1

    columns = [params, grads, exp_avgs, exp_avg_sqs]
    for params, grads, exp_avgs, exp_avg_sqs in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # square = norm(grad)**2
        squares = torch._foreach_norm(grads)
        torch._foreach_mul_(squares, squares)

        # exp_avg_sq = square if exp_avg_sq == 0 else lerp(exp_avg_sq, square, 1 -
        #     beta2)
        blends = torch._foreach_lerp(exp_avg_sqs, squares, 1 - beta2)
        wheres = [
            torch.where(exp_avg_sq == 0, square, blend)
            for exp_avg_sq, square, blend in zip(
                exp_avg_sqs, squares, blends, strict=True
            )
        ]
        torch._foreach_copy_(exp_avg_sqs, wheres)

        # normed = grad/(sqrt(exp_avg_sq) + eps)
        roots = torch._foreach_sqrt(exp_avg_sqs)
        sums = torch._foreach_add(roots, eps)
        if grads is given:
            normeds = torch._foreach_div(grads, sums)
        else:
            torch._foreach_div_(grads, sums)
            normeds = grads
        if weight_decay != 0:
            # normed += weight_decay*p
            torch._foreach_add_(normeds, params, alpha=weight_decay)

        # exp_avg = beta1*exp_avg + share*normed
        torch._foreach_mul_(exp_avgs, beta1)
        torch._foreach_add_(exp_avgs, normeds, alpha=share)

        # p -= lr*exp_avg
        torch._foreach_add_(params, exp_avgs, alpha=-lr)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_novo_grad(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    grad_averaging: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    share = 1 - beta1 if grad_averaging else 1

    for p, grad, exp_avg, exp_avg_sq in zip(
        params, grads, exp_avgs, exp_avg_sqs, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg, exp_avg_sq)
        p, exp_avg, exp_avg_sq = (each.clone() for each in kept)

        # square = norm(grad)**2
        square = torch.linalg.vector_norm(grad).square()

        # exp_avg_sq = square if exp_avg_sq == 0 else lerp(exp_avg_sq, square, 1 -
        #     beta2)
        exp_avg_sq = torch.where(
            exp_avg_sq == 0, square, exp_avg_sq.lerp(square, 1 - beta2)
        )

        # normed = grad/(sqrt(exp_avg_sq) + eps)
        normed = grad / (exp_avg_sq.sqrt() + eps)
        if weight_decay != 0:
            # normed += weight_decay*p
            normed = _scaled_add(normed, p, weight_decay)

        # exp_avg = beta1*exp_avg + share*normed
        exp_avg = _scaled_add(exp_avg * beta1, normed, share)

        # p -= lr*exp_avg
        p = _scaled_add(p, exp_avg, -lr)

        for each, new in zip(kept, (p, exp_avg, exp_avg_sq), strict=True):
            each.copy_(new)


def _multi_tensor_novo_grad_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    grad_averaging: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas
    share = 1 - beta1 if grad_averaging else 1

    columns = [params, grads, exp_avgs, exp_avg_sqs]
    for params, grads, exp_avgs, exp_avg_sqs in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # square = norm(grad)**2
        squares = torch._foreach_norm(grads)
        torch._foreach_mul_(squares, squares)

        # exp_avg_sq = square if exp_avg_sq == 0 else lerp(exp_avg_sq, square, 1 -
        #     beta2)
        blends = torch._foreach_lerp(exp_avg_sqs, squares, 1 - beta2)
        wheres = [
            torch.where(exp_avg_sq == 0, square, blend)
            for exp_avg_sq, square, blend in zip(
                exp_avg_sqs, squares, blends, strict=True
            )
        ]
        torch._foreach_copy_(exp_avg_sqs, wheres)

        # normed = grad/(sqrt(exp_avg_sq) + eps)
        roots = torch._foreach_sqrt(exp_avg_sqs)
        sums = torch._foreach_add(roots, eps)
        if grads is given:
            normeds = torch._foreach_div(grads, sums)
        else:
            torch._foreach_div_(grads, sums)
            normeds = grads
        del grads
        if weight_decay != 0:
            # normed += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            torch._foreach_add_(normeds, products)
            del products

        # exp_avg = beta1*exp_avg + share*normed
        torch._foreach_mul_(exp_avgs, beta1)
        products = torch._foreach_mul(normeds, share)
        del normeds
        torch._foreach_add_(exp_avgs, products)
        del products

        # p -= lr*exp_avg
        products = torch._foreach_mul(exp_avgs, -lr)
        torch._foreach_add_(params, products)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["eps"],
        group["weight_decay"],
    ]
    options = [group["maximize"], group["weight_decay"] != 0, group["grad_averaging"]]
    return hypers, options


def _by_kernels(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avgs, exp_avg_sqs = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs],
            numbers=[exp_avg_sqs],
        )
    return launch.run()


_CPU = r"""// NovoGrad in 2 passes over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_t *exp_avg_sq;
    double lr;
    double betas[2];
    double eps;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double exp_avg_sq, beta1, beta2, norm, square, sum__, share;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    // share = 1 - beta1 if grad_averaging else 1
    n.share = grad_averaging ? 1.0 - n.beta1 : 1.0;
    return are_finite(n.share);
}

static void pass_1(
    const Row row, const Numbers n, int64_t begin, int64_t end, double *sums) {
    double norm = 0;
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::grad);
        #pragma omp simd reduction(+: norm)
        for (int64_t i = at; i < to; ++i) {
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            // norm(grad)
            norm += square_(double(grad));
        }
    }
    sums[0] = norm;
}

static void numbers_2(const Row &row, Numbers &n) {
    // square = norm(grad)**2
    n.square = std::pow(n.norm, 2.0);
    // exp_avg_sq = square if exp_avg_sq == 0 else lerp(exp_avg_sq, square, 1 -
    //     beta2)
    n.exp_avg_sq = n.exp_avg_sq == 0.0 ? n.square : lerp_(n.exp_avg_sq, n.square, 1.0 -
        n.beta2);
    // sqrt(exp_avg_sq) + eps
    n.sum__ = sqrt_(n.exp_avg_sq) + row.eps;
}

static void pass_2(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            // normed = grad/(sqrt(exp_avg_sq) + eps)
            real normed = grad * real(1.0 / n.sum__);
            if (weight_decay_is_not_0) {
                // normed += weight_decay*p
                normed = normed + real(row.weight_decay) * p;
            }
            // exp_avg = beta1*exp_avg + share*normed
            exp_avg = real(n.beta1) * exp_avg + real(n.share) * normed;
            // p -= lr*exp_avg
            p = p - real(row.lr) * exp_avg;
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_novo_grad(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.exp_avg = (exp_avg_t *)table->columns[2][at];
        row.exp_avg_sq = (exp_avg_sq_t *)table->columns[3][at];
        const double *hyper = table->hypers + 5 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        numbers[at].exp_avg_sq = load(*row.exp_avg_sq);
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    std::vector<double> parts(1 * chunks.size());
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t at) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end, &parts[1 * at]);
    });
    const auto sums = gathered<1>(
        *table, chunks, parts, {0},
        {added});
    for (int64_t at = 0; at < table->rows; ++at) {
        numbers[at].norm = std::sqrt(sums[1 * at + 0]);
    }
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_2(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_2(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].exp_avg_sq, numbers[at].exp_avg_sq);
    }
    return 0;
}
"""

_CUDA = r"""# NovoGrad in 2 passes over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    keep,
    keep_number,
    lerp,
    number,
    overflowed,
    square,
    sum_of,
    total,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "exp_avg_t", "exp_avg_sq_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "grad_averaging")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    exp_avg_sq_t: tl.constexpr,
    grad_averaging: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 5 * tl.load(group + row)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    exp_avg_sq = number(columns, rows, row, 3, exp_avg_sq_t)
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    # share = 1 - beta1 if grad_averaging else 1
    share = 1.0 - beta1 if grad_averaging else double(1.0)
    tl.store(n + 0 * rows, beta2)
    tl.store(n + 1 * rows, exp_avg_sq)
    tl.store(n + 2 * rows, beta1)
    tl.store(n + 3 * rows, share)


@triton.jit(do_not_specialize=["rows", "chunks"])
def pass_1(
    columns, rows, chunks, row_of, starts, numel, parts, found_inf, grad_scale,
    grad_t: tl.constexpr,
    maximize: tl.constexpr,
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
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    # norm(grad)
    norm = total(square(grad.to(tl.float64)), i, left)
    tl.store(parts + 0 * chunks + chunk, norm)


@triton.jit(do_not_specialize=["rows", "chunks"])
def numbers_2(
    columns, rows, chunks, starts, group, hypers, numbers, parts, found_inf,
    exp_avg_sq_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 5 * tl.load(group + row)
    eps = tl.load(of + 3)
    beta2 = tl.load(n + 0 * rows)
    exp_avg_sq = tl.load(n + 1 * rows)
    begin, end = tl.load(starts + row), tl.load(starts + row + 1)
    # norm(grad)
    norm = tl.sqrt(sum_of(parts + 0 * chunks, begin, end))
    # square = norm(grad)**2
    square_ = libdevice.pow(norm, double(2.0))
    # exp_avg_sq = square if exp_avg_sq == 0 else lerp(exp_avg_sq, square, 1 -
    #     beta2)
    exp_avg_sq = tl.where(
        exp_avg_sq == 0.0, square_, lerp(exp_avg_sq, square_, 1.0 - beta2)
    )
    # sqrt(exp_avg_sq) + eps
    sum_ = tl.sqrt(exp_avg_sq) + eps
    tl.store(n + 4 * rows, sum_)
    keep_number(columns, rows, row, 3, exp_avg_sq_t, exp_avg_sq)


@triton.jit(do_not_specialize=["rows"])
def pass_2(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
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
    n = numbers + row
    of = hypers + 5 * tl.load(group + row)
    lr = tl.load(of + 0)
    weight_decay = tl.load(of + 4)
    beta1 = tl.load(n + 2 * rows)
    share = tl.load(n + 3 * rows)
    sum_ = tl.load(n + 4 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    # normed = grad/(sqrt(exp_avg_sq) + eps)
    normed = grad / sum_.to(real)
    if weight_decay_is_not_0:
        # normed += weight_decay*p
        normed = normed + weight_decay.to(real) * p
    # exp_avg = beta1*exp_avg + share*normed
    exp_avg = beta1.to(real) * exp_avg + share.to(real) * normed
    # p -= lr*exp_avg
    p = p - lr.to(real) * exp_avg
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)


def launch(x):
    x.numbers = x.new(5 * x.rows)
    x.each_row(numbers_1)
    x.parts = x.new(1 * x.chunks)
    x.each_chunk(pass_1)
    x.each_row(numbers_2)
    x.each_chunk(pass_2)
"""

_KERNELS = _Kernel and _Kernel(
    "step_novo_grad",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg"),
    numbers=("exp_avg_sq",),
    options=("maximize", "weight_decay_is_not_0", "grad_averaging"),
    cuda=_CUDA,
)
