"""MuonAdamW: Muon for hidden matrices, AdamW for all other parameters.

Jordan (2024), Muon: An optimizer for hidden layers in neural networks,
https://kellerjordan.github.io/posts/muon/, and https://github.com/KellerJordan/Muon:
embeddings, the head, and whatever has less than two axes go to AdamW.

Embeddings and heads are told by their names, so it takes `model.named_parameters()`.
Where a model calls them otherwise, copy this file and say how.
"""
# Compiled by optdsl from muon_adamw.opt, content 6ed4475cc97e.

import math
import re
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
    _get_scalar_dtype,
    _to_scalar,
    _use_grad_for_differentiable,
)

try:
    from optdsl.runtime.kernel import Kernel as _Kernel
    from optdsl.runtime.turns import Turns as _Turns
except ImportError:  # The kernels need it; the other targets do not.
    _Kernel = None

__all__ = ["MuonAdamW"]


class MuonAdamW(Optimizer):
    """MuonAdamW: Muon for hidden matrices, AdamW for all other parameters.

    Which rule is for a parameter:
        ndim(p) == 2 and not matches( name,
            "emb|wte|wpe|(^|\\.)(lm_head|head|classifier|output)\\.weight$" ) ->
            muon(lr=0.02, weight_decay=0.01)
        else -> adamw(lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01)

    Args:
        params (iterable): parameters, named parameters, or dicts of groups.
        muon (dict, optional): hypers of Muon, in place of lr=0.02, weight_decay=0.01,
            momentum=0.95, nesterov=True, ns_coefficients=(3.4445, -4.7750, 2.0315),
            eps=1e-7, ns_steps=5, adjust_lr_fn=None.
        adamw (dict, optional): hypers of AdamW, in place of lr=3e-4, betas=(0.9, 0.95),
            eps=1e-8, weight_decay=0.01, amsgrad=False, decoupled_weight_decay=True.
        maximize (bool, optional): maximize the objective (default: False).
        foreach (bool, optional): update all tensors of a kind by one call; None does so
            where torch.optim does, on CUDA (default: None).
        capturable (bool, optional): a step can be captured in a CUDA graph (default:
            False).
        differentiable (bool, optional): autograd sees through a step (default: False).
        fused (bool, optional): update by kernels that pass over memory as few times as
            can be; None does so where they carry all tensors of a group (default:
            None).

    Raises:
        TypeError: a hyperparameter, of any group, is no number, or of no rule.
        ValueError: it is not allowed, or the parameters have no names.
    """

    _trial = False

    def __init__(
        self,
        params: ParamsT,
        muon: dict[str, Any] | None = None,
        adamw: dict[str, Any] | None = None,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults: dict[str, Any] = {
            "rules": {"muon": {**(muon or {})}, "adamw": {**(adamw or {})}},
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
        }
        self._rules = {name: rule() for name, rule in _RULES.items()}
        super().__init__(params, defaults)
        if fused:
            self._step_supports_amp_scaling = True
            if _Kernel is None:
                warnings.warn(
                    "no fused kernels here: foreach in their place", stacklevel=2
                )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._trial = False
        self._rules = {name: rule() for name, rule in _RULES.items()}
        for rule in self._with_groups():
            rule.complete()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a param group for each rule that the route chooses for its parameters."""
        of_rules = {each: _of_rule(param_group, each) for each in _RULES}
        for name, hypers in _LINES:
            rule = self._rules[name]
            given = {**self.defaults["rules"][name], **of_rules[name]}
            _check_given(name, rule.hypers, given)
            rule.check({**self.defaults, **rule.hypers, **hypers, **given})
        count = len(self.param_groups)
        try:
            for line, group in _split(param_group):
                name, hypers = _LINES[line]
                for each in _RULES:
                    if _of_rule(group, each):
                        del group[each]
                group.update(of_rules[name])
                rule = self._rule(name)
                hypers = {**rule.hypers, **hypers, **self.defaults["rules"][name]}
                super().add_param_group(group)
                del group["rules"]
                rule.add(group, hypers)
        except Exception:
            del self.param_groups[count:]
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load as torch does. Where both sides have the names of parameters, these tell
        which is which, in whatever order they are; and where not, their places.
        """

        def by_names(_: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
            groups = _matched(state_dict, self.param_groups)
            return {**state_dict, "param_groups": groups}

        hooks = [self.register_load_state_dict_pre_hook(by_names)]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _rule(self, name: str) -> Any:
        """A rule with what it works on: its param groups, and the state of all."""
        rule = self._rules[name]
        rule.defaults, rule.state = self.defaults, self.state
        rule.param_groups = [each for each in self.param_groups if each["rule"] == name]
        return rule

    def _with_groups(self, *names: str) -> list[Any]:
        """The rules that have param groups, of all or of some."""
        rules = [self._rule(name) for name in names or _RULES]
        return [rule for rule in rules if rule.param_groups]

    def _is_trial(self) -> bool:
        """Whether a step is to make the state of a new optimizer and change nothing."""
        if torch.compiler.is_compiling() or self.state:
            return False
        return all(
            group.get("lr", 0) == 0
            and not any(p.grad is None or p.grad.any() for p in group["params"])
            for group in self.param_groups
        )

    def _unscale(self) -> bool:
        """Take the scale of a GradScaler out of the gradients; false where one of them
        has overflowed, so that there is no step.
        """
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None and found_inf.item():
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
            for rule in self._with_groups():
                rule.make_state()
            return loss

        if not self._unscale():
            return loss
        for rule in self._with_groups():
            rule.step(loss)
        return loss


_LINES: list[tuple[str, dict[str, Any]]] = [
    ("muon", {"lr": 0.02, "weight_decay": 0.01}),
    ("adamw", {"lr": 3e-4, "betas": (0.9, 0.95), "weight_decay": 0.01}),
]


def _matches(name: str, pattern: str) -> bool:
    """Whether a regular expression is found in a name."""
    return re.search(pattern, name) is not None


def _line(p: Tensor, name: str) -> int:
    """Which line of the route is for a parameter."""
    # ndim(p) == 2 and not matches( name,
    #     "emb|wte|wpe|(^|\.)(lm_head|head|classifier|output)\.weight$" ) ->
    #     muon(lr=0.02, weight_decay=0.01)
    if p.ndim == 2 and not _matches(
        name, r"emb|wte|wpe|(^|\.)(lm_head|head|classifier|output)\.weight$"
    ):
        return 0

    # else -> adamw(lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01)
    return 1


def _split(param_group: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """A param group as one for each line of the route with some of its parameters."""
    given = {**param_group}
    params, names = given.pop("params"), given.pop("param_names", None)
    if isinstance(params, set):
        raise TypeError("parameters have an order, and a set has none")
    params = [params] if isinstance(params, Tensor) else list(params)
    if any(isinstance(each, tuple) for each in params):
        if not all(isinstance(each, tuple) for each in params):
            raise ValueError("some parameters have names, and some have none")
        names = [name for name, _ in params]
        params = [p for _, p in params]
    for p in params:
        if not isinstance(p, Tensor):
            raise TypeError(f"expected tensors as parameters, not {type(p).__name__}")
    if "rule" in given:
        if given["rule"] not in _RULES:
            raise ValueError(f"Invalid rule: {given['rule']!r}, expected {[*_RULES]}")
        first = [name for name, _ in _LINES].index(given["rule"])
        chosen = [first] * len(params)
    else:
        first = len(_LINES) - 1
        if names is None:
            raise ValueError(
                "MuonAdamW asks for the names of parameters: "
                "give it model.named_parameters(), or param groups of such pairs"
            )
        chosen = [_line(*pair) for pair in zip(params, names, strict=True)]

    result = []
    for line in sorted({*chosen}) or [first]:
        places = [at for at, each in enumerate(chosen) if each == line]
        group = {"params": [params[at] for at in places], **given}
        if names is not None:
            group["param_names"] = [names[at] for at in places]
        result.append((line, {**group, "rule": _LINES[line][0]}))
    return result


def _of_rule(param_group: dict[str, Any], rule: str) -> dict[str, Any]:
    """What a param group says of the hypers of a rule, under the name of the rule."""
    given = param_group.get(rule)
    return given if isinstance(given, dict) else {}


def _check_given(name: str, hypers: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise where a rule is given what it does not have."""
    for each in given:
        if each not in hypers:
            has = ", ".join(hypers) or "none"
            raise TypeError(f"{name} has no hyperparameter {each!r}, it has {has}")


def _matched(
    state_dict: dict[str, Any], groups: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The param groups of a state dict for those that are here: by the names of their
    parameters, or as they are, where these are not known.
    """
    saved = state_dict["param_groups"]
    if all("param_names" in group for group in (*saved, *groups)):
        keys = [key for group in saved for key in group["params"]]
        if not any(isinstance(key, str) for key in keys):
            saved = _by_names(saved, groups)
        elif len(saved) == len(groups):
            # torch.distributed.checkpoint has put all but the names in order.
            pairs = zip(saved, groups, strict=True)
            saved = [{**one, "param_names": here["param_names"]} for one, here in pairs]
    for group, here in zip(saved, groups, strict=False):
        if group.get("rule") != here["rule"]:
            there = f"{group.get('rule')!r}, and here {here['rule']!r}"
            raise ValueError(f"a param group of the loaded state dict has rule {there}")
    return saved


def _by_names(
    saved: list[dict[str, Any]], groups: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Saved param groups in the order of those that are here."""
    places = {
        name: (group, key)
        for group in saved
        for name, key in zip(group["param_names"], group["params"], strict=True)
    }
    here = [name for group in groups for name in group["param_names"]]
    if len({*here}) != len(here) or len(places) != sum(
        len(group["params"]) for group in saved
    ):
        return saved  # several parameters of one name
    if differ := sorted({*here} ^ {*places}):
        said = ", ".join(differ[:8])
        raise ValueError(f"loaded state dict has other parameters: {said}")
    result = []
    for group in groups:
        names = group["param_names"]
        of_names = [places[name][0] for name in names] or [group]
        if any(each is not of_names[0] for each in of_names):
            said = ", ".join(names[:8])
            raise ValueError(f"these are of several saved param groups: {said}")
        keys = [places[name][1] for name in names]
        result.append({**of_names[0], "params": keys, "param_names": [*names]})
    return result


class _Muon:
    """Muon, for the param groups of MuonAdamW whose rule is "muon"."""

    hypers: dict[str, Any] = {
        "lr": 1e-3,
        "weight_decay": 0.1,
        "momentum": 0.95,
        "nesterov": True,
        "ns_coefficients": (3.4445, -4.7750, 2.0315),
        "eps": 1e-7,
        "ns_steps": 5,
        "adjust_lr_fn": None,
    }
    defaults: dict[str, Any]
    state: dict[Any, Any]
    param_groups: list[dict[str, Any]]

    def check(self, group: dict[str, Any]) -> None:
        """Raise where a param group asks for what is not allowed."""
        _check_hypers_muon(group)

    def add(self, param_group: dict[str, Any], hypers: dict[str, Any]) -> None:
        """Complete a new param group: these hypers are for what it does not say."""
        _check_hypers_muon({**hypers, **param_group})
        for name, value in hypers.items():
            param_group.setdefault(name, value)
        _check_params(param_group["params"], param_group)
        # What torch's class does not have is in a group only where it is on.
        for name, off in {
            "maximize": False,
            "foreach": None,
            "capturable": False,
            "differentiable": False,
            "fused": None,
        }.items():
            if param_group[name] is off:
                del param_group[name]
        for name in ("lr", "weight_decay", "momentum", "ns_coefficients", "eps"):
            param_group[name] = _as_scalar(param_group[name])

    def complete(self) -> None:
        """Complete the param groups of an older pickle or checkpoint."""
        for group in self.param_groups:
            group.setdefault("lr", 1e-3)
            group.setdefault("weight_decay", 0.1)
            group.setdefault("momentum", 0.95)
            group.setdefault("nesterov", True)
            group.setdefault("ns_coefficients", (3.4445, -4.7750, 2.0315))
            group.setdefault("eps", 1e-7)
            group.setdefault("ns_steps", 5)
            group.setdefault("adjust_lr_fn", None)

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffers: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("Muon does not support sparse gradients")
            if torch.is_complex(p):
                raise RuntimeError("Muon does not support complex parameters")
            state = self.state[p]
            if len(state) == 0:
                state["momentum_buffer"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            momentum_buffers.append(state["momentum_buffer"])

    def make_state(self) -> None:
        """Make the state of all parameters, and no step."""
        for group in self.param_groups:
            self._init_group(group, [], [], [])

    @torch.no_grad()
    def step(self, loss: Any) -> None:
        """Update all param groups."""
        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            momentum_buffers: list[Tensor] = []
            self._init_group(group, params, grads, momentum_buffers)
            groups.append((group, [params, grads, momentum_buffers]))
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS_MUON:
            left = _by_kernels_muon(self, left)
        for group, columns in left:
            params, grads, momentum_buffers = columns
            use_foreach = group.get("foreach") or group.get("fused")
            if group.get("foreach") is None and group.get("fused") is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group.get("differentiable", False)
                )
            update = _multi_tensor_muon if use_foreach else _single_tensor_muon
            if group.get("capturable", False):
                _check_capturable(params)
            if use_foreach and (
                group.get("capturable", False) or torch.compiler.is_compiling()
            ):
                update = _multi_tensor_muon_capturable
            if group.get("differentiable", False):
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_muon
                update = torch.enable_grad()(update)
            update(
                params,
                grads,
                momentum_buffers,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                nesterov=group["nesterov"],
                ns_coefficients=group["ns_coefficients"],
                eps=group["eps"],
                ns_steps=group["ns_steps"],
                adjust_lr_fn=group["adjust_lr_fn"],
                maximize=group.get("maximize", False),
            )


class _AdamW:
    """AdamW, for the param groups of MuonAdamW whose rule is "adamw"."""

    hypers: dict[str, Any] = {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 1e-2,
        "amsgrad": False,
        "decoupled_weight_decay": True,
    }
    defaults: dict[str, Any]
    state: dict[Any, Any]
    param_groups: list[dict[str, Any]]

    def check(self, group: dict[str, Any]) -> None:
        """Raise where a param group asks for what is not allowed."""
        _check_hypers_adamw(group)

    def add(self, param_group: dict[str, Any], hypers: dict[str, Any]) -> None:
        """Complete a new param group: these hypers are for what it does not say."""
        _check_hypers_adamw({**hypers, **param_group})
        for name, value in hypers.items():
            param_group.setdefault(name, value)
        for name in ("lr", "betas", "eps", "weight_decay"):
            param_group[name] = _as_scalar(param_group[name])

    def complete(self) -> None:
        """Complete the param groups of an older pickle or checkpoint."""
        for group in self.param_groups:
            group.setdefault("lr", 1e-3)
            group.setdefault("betas", (0.9, 0.999))
            group.setdefault("eps", 1e-8)
            group.setdefault("weight_decay", 1e-2)
            group.setdefault("amsgrad", False)
            group.setdefault("decoupled_weight_decay", True)
            group.setdefault("maximize", False)
            group.setdefault("foreach", None)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)
            group.setdefault("fused", None)
            for p in group["params"]:
                state = self.state.get(p, {})
                for name in ("step",):
                    if name in state and not isinstance(state[name], Tensor):
                        state[name] = _zero_dim(float(state[name]), group, p)

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        max_exp_avg_sqs: list[Tensor | None],
        steps: list[Tensor],
    ) -> None:
        """Collect what has a gradient, and make the state of new parameters."""
        for p in group["params"]:
            grad = p.grad
            if grad is None:
                continue
            if grad.is_sparse:
                raise RuntimeError("AdamW does not support sparse gradients")
            state = self.state[p]
            if len(state) == 0:
                state["step"] = _zero_dim(0.0, group, p)
                state["exp_avg"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
                state["exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            if group["amsgrad"] and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = torch.zeros_like(
                    p, memory_format=torch.preserve_format
                )
            params.append(p)
            grads.append(grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            max_exp_avg_sqs.append(state.get("max_exp_avg_sq"))
            steps.append(state["step"])

    def make_state(self) -> None:
        """Make the state of all parameters, and no step."""
        for group in self.param_groups:
            self._init_group(group, [], [], [], [], [], [])

    @_use_grad_for_differentiable
    def step(self, loss: Any) -> None:
        """Update all param groups."""
        groups: list[tuple[dict[str, Any], list[list[Any]]]] = []
        waiting = self.param_groups
        if not torch.compiler.is_compiling() and _KERNELS_ADAMW:
            waiting = _KERNELS_ADAMW.repeat(self)
        for group in waiting:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            exp_avgs: list[Tensor] = []
            exp_avg_sqs: list[Tensor] = []
            max_exp_avg_sqs: list[Tensor | None] = []
            steps: list[Tensor] = []
            self._init_group(
                group, params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps
            )
            groups.append(
                (group, [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps])
            )
        left = groups
        if not torch.compiler.is_compiling() and _KERNELS_ADAMW:
            left = _by_kernels_adamw(self, left)
        for group, columns in left:
            params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps = columns
            use_foreach = group["foreach"] or group["fused"]
            if group["foreach"] is None and group["fused"] is None:
                _, use_foreach = _default_to_fused_or_foreach(
                    params, group["differentiable"]
                )
            update = _multi_tensor_adamw if use_foreach else _single_tensor_adamw
            if group["capturable"]:
                _check_capturable(params, steps)
            if group["capturable"] or torch.compiler.is_compiling():
                update = _single_tensor_adamw_capturable
                if use_foreach:
                    update = _multi_tensor_adamw_capturable
            if group["differentiable"]:
                if use_foreach:
                    raise AssertionError("_foreach ops don't support autograd")
                update = _differentiable_adamw
            update(
                params,
                grads,
                exp_avgs,
                exp_avg_sqs,
                max_exp_avg_sqs,
                steps,
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                amsgrad=group["amsgrad"],
                decoupled_weight_decay=group["decoupled_weight_decay"],
                maximize=group["maximize"],
            )


_RULES: dict[str, type] = {
    "muon": _Muon,
    "adamw": _AdamW,
}


def _check_hypers_muon(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    weight_decay = group["weight_decay"]
    momentum = group["momentum"]
    nesterov = group["nesterov"]
    ns_coefficients = group["ns_coefficients"]
    eps = group["eps"]
    ns_steps = group["ns_steps"]
    adjust_lr_fn = group["adjust_lr_fn"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay <= math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf]"
        )
    _check_number("momentum", momentum)
    if not 0 <= momentum <= math.inf:
        raise ValueError(
            f"Invalid momentum: {momentum!r}, expected a number in [0, inf]"
        )
    if nesterov not in (False, True):
        raise ValueError(f"Invalid nesterov: {nesterov!r}, expected True or False")
    _check_numbers("ns_coefficients", ns_coefficients, 3)
    _check_number("eps", eps)
    _check_int("ns_steps", ns_steps)
    if not 0 <= ns_steps < 100:
        raise ValueError(f"Invalid ns_steps: {ns_steps!r}, expected an int in [0, 100)")
    if not (adjust_lr_fn is None or adjust_lr_fn in ("original", "match_rms_adamw")):
        raise ValueError(
            f"Invalid adjust_lr_fn: {adjust_lr_fn!r}, "
            f"expected one of 'original', 'match_rms_adamw', or None"
        )
    if group.get("fused") and group.get("foreach"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group.get("fused") and group.get("differentiable", False):
        raise RuntimeError("`fused` does not support `differentiable`")


def _check_params(params: list[Tensor], group: dict[str, Any]) -> None:
    """Raise where a parameter is none that this rule is for."""
    for p in params:
        if not p.ndim == 2:
            raise ValueError(
                "Muon only supports 2D parameters "
                f"(got a {p.dtype} of shape {tuple(p.shape)})"
            )


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


def _check_int(name: str, value: Any) -> None:
    """Raise where a value is no whole number."""
    if not isinstance(value, int):
        raise TypeError(f"Invalid {name}: {value!r}, expected an int")


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


def _batched(function: Callable[..., Any], *columns: list[Tensor]) -> list[Any]:
    """The function of each row, in one call for all rows of the same shapes."""
    rows = list(zip(*columns, strict=True))
    alike: dict[Any, list[int]] = {}
    for at, row in enumerate(rows):
        alike.setdefault(tuple(each.shape for each in row), []).append(at)
    results: list[Any] = [None] * len(rows)
    for places in alike.values():
        if len(places) == 1:
            results[places[0]] = function(*rows[places[0]])
            continue
        stacked = map(torch.stack, zip(*(rows[at] for at in places), strict=True))
        values = torch.vmap(function)(*stacked)
        if isinstance(values, tuple):
            values = zip(*values, strict=True)
        for at, value in zip(places, values, strict=True):
            results[at] = value
    return results


def _orthogonalized(
    g: Tensor, coefficients: tuple[float, ...], steps: float, eps: float
) -> Tensor:
    a, b, c = coefficients

    # x = transpose(bfloat16(g)) if size(g, 0) > size(g, 1) else bfloat16(g)
    if g.shape[0] > g.shape[1]:
        x = g.bfloat16().mT
    else:
        x = g.bfloat16()

    # x /= max(norm(x), eps)
    x = x / torch.linalg.vector_norm(x).clamp(min=eps)
    for _ in range(steps):
        # gram = x @ transpose(x)
        gram = x @ x.mT

        # x = a*x + (b*gram + c*gram @ gram) @ x
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)

    # return transpose(x) if size(g, 0) > size(g, 1) else x
    return x.mT if g.shape[0] > g.shape[1] else x


def _single_tensor_muon(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
    adjust_lr_fn: str | None,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad

        # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
        momentum_buffer.lerp_(grad, 1 - momentum)

        # update = lerp(grad, momentum_buffer, momentum) if nesterov else
        #     momentum_buffer
        if nesterov:
            update = grad.lerp(momentum_buffer, momentum)
        else:
            update = momentum_buffer

        # rows, columns = (size(p, 0), size(p, 1))
        rows, columns_ = (p.shape[0], p.shape[1])

        # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw" else
        #     sqrt(max(1, rows/columns))
        ratio = (
            0.2 * math.sqrt(max(rows, columns_))
            if adjust_lr_fn == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns_))
        )

        # p *= 1 - lr*weight_decay
        p.mul_(1 - lr * weight_decay)

        # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
        p.add_(
            _orthogonalized(update, ns_coefficients, ns_steps, eps), alpha=-lr * ratio
        )


def _multi_tensor_muon(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
    adjust_lr_fn: str | None,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, weight_decay, momentum, eps = map(float, (lr, weight_decay, momentum, eps))
    ns_coefficients = tuple(map(float, ns_coefficients))

    columns = [params, grads, momentum_buffers]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
        torch._foreach_lerp_(momentum_buffers, grads, 1 - momentum)

        # update = lerp(grad, momentum_buffer, momentum) if nesterov else
        #     momentum_buffer
        if nesterov:
            if grads is given:
                updates = torch._foreach_lerp(grads, momentum_buffers, momentum)
            else:
                torch._foreach_lerp_(grads, momentum_buffers, momentum)
                updates = grads
        else:
            updates = momentum_buffers
        del grads

        # rows, columns = (size(p, 0), size(p, 1))
        rows, columns_ = (params[0].shape[0], params[0].shape[1])

        # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw" else
        #     sqrt(max(1, rows/columns))
        ratio = (
            0.2 * math.sqrt(max(rows, columns_))
            if adjust_lr_fn == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns_))
        )

        # p *= 1 - lr*weight_decay
        torch._foreach_mul_(params, 1 - lr * weight_decay)

        # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
        orthogonalizeds = _batched(
            lambda update: _orthogonalized(update, ns_coefficients, ns_steps, eps),
            updates,
        )
        torch._foreach_add_(params, orthogonalizeds, alpha=-lr * ratio)


def _scaled_add(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    """x.add(y, alpha=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.add(y * scale)
    return x.add(y, alpha=scale)


def _differentiable_muon(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
    adjust_lr_fn: str | None,
    maximize: bool,
) -> None:
    for p, grad, momentum_buffer in zip(params, grads, momentum_buffers, strict=True):
        grad = grad if not maximize else -grad
        kept = (p, momentum_buffer)
        p, momentum_buffer = (each.clone() for each in kept)

        # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
        momentum_buffer = momentum_buffer.lerp(grad, 1 - momentum)

        # update = lerp(grad, momentum_buffer, momentum) if nesterov else
        #     momentum_buffer
        if nesterov:
            update = grad.lerp(momentum_buffer, momentum)
        else:
            update = momentum_buffer

        # rows, columns = (size(p, 0), size(p, 1))
        rows, columns_ = (p.shape[0], p.shape[1])

        # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw" else
        #     sqrt(max(1, rows/columns))
        ratio = (
            0.2 * math.sqrt(max(rows, columns_))
            if adjust_lr_fn == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns_))
        )

        # p *= 1 - lr*weight_decay
        p = p * (1 - lr * weight_decay)

        # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
        p = _scaled_add(
            p, _orthogonalized(update, ns_coefficients, ns_steps, eps), -lr * ratio
        )

        for each, new in zip(kept, (p, momentum_buffer), strict=True):
            each.copy_(new)


def _multi_tensor_muon_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
    adjust_lr_fn: str | None,
    maximize: bool,
) -> None:
    columns = [params, grads, momentum_buffers]
    keys = [p.shape for p in params]
    for params, grads, momentum_buffers in _alike(columns, keys):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)

        # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
        torch._foreach_lerp_(momentum_buffers, grads, 1 - momentum)

        # update = lerp(grad, momentum_buffer, momentum) if nesterov else
        #     momentum_buffer
        if nesterov:
            if grads is given:
                updates = torch._foreach_lerp(grads, momentum_buffers, momentum)
            else:
                torch._foreach_lerp_(grads, momentum_buffers, momentum)
                updates = grads
        else:
            updates = momentum_buffers
        del grads

        # rows, columns = (size(p, 0), size(p, 1))
        rows, columns_ = (params[0].shape[0], params[0].shape[1])

        # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw" else
        #     sqrt(max(1, rows/columns))
        ratio = (
            0.2 * math.sqrt(max(rows, columns_))
            if adjust_lr_fn == "match_rms_adamw"
            else math.sqrt(max(1, rows / columns_))
        )

        # p *= 1 - lr*weight_decay
        torch._foreach_mul_(params, 1 - lr * weight_decay)

        # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
        orthogonalizeds = _batched(
            lambda update: _orthogonalized(update, ns_coefficients, ns_steps, eps),
            updates,
        )
        del updates
        products = torch._foreach_mul(orthogonalizeds, -lr * ratio)
        torch._foreach_add_(params, products)


def _kernel_numbers_1(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["momentum"]]
    options = [group.get("maximize", False), group["nesterov"]]
    return hypers, options


def _kernel_numbers_2(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [group["lr"], group["weight_decay"]]
    options = [group.get("maximize", False), group["adjust_lr_fn"] == "match_rms_adamw"]
    return hypers, options


def _between_muon(
    updates: list[Tensor],
    *,
    ns_coefficients: tuple[float, float, float],
    eps: float,
    ns_steps: int,
) -> list[Tensor]:
    # Numbers, where a group has tensors of one element.
    eps = float(eps)
    ns_coefficients = tuple(map(float, ns_coefficients))

    # orthogonalized(update, ns_coefficients, ns_steps, eps)
    orthogonalizeds = _batched(
        lambda update: _orthogonalized(update, ns_coefficients, ns_steps, eps), updates
    )
    return orthogonalizeds


def _by_kernels_muon(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels and torch in turns the groups that ask for it; return those
    that are left.
    """
    taken, left = _KERNELS_MUON.apart(optimizer, groups)
    for group, columns in taken:
        params, grads, momentum_buffers = columns
        turns = _KERNELS_MUON.of(
            optimizer,
            group,
            {"p": params, "grad": grads, "momentum_buffer": momentum_buffers},
        )
        if turns is None:
            left.append((group, columns))
            continue
        turn_1, turn_2 = turns
        keys = [p.shape for p in params]
        for batch in _alike(columns, keys):
            params, grads, momentum_buffers = batch
            updates = turn_1(params, grads, momentum_buffers)
            orthogonalizeds = _between_muon(
                updates,
                ns_coefficients=group["ns_coefficients"],
                eps=group["eps"],
                ns_steps=group["ns_steps"],
            )
            orthogonalizeds = _KERNELS_MUON.handed(batch, orthogonalizeds)
            turn_2(
                params,
                orthogonalizeds,
                asked=[[p.shape[0] for p in params], [p.shape[1] for p in params]],
            )
    return left


_CPU_1 = r"""// Muon, turn 1, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    momentum_buffer_t *momentum_buffer;
    update_t *update;
    double momentum;
};

// What is worked out once a tensor.
struct Numbers {};

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::grad, &Row::momentum_buffer, &Row::update);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            const real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real momentum_buffer = load(row.momentum_buffer[i]);
            real update = 0;
            // momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
            momentum_buffer = lerp_(momentum_buffer, grad, real(1.0 - row.momentum));
            // update = lerp(grad, momentum_buffer, momentum) if nesterov else
            //     momentum_buffer
            update = nesterov ? lerp_(grad, momentum_buffer, real(row.momentum)) :
                momentum_buffer;
            store(row.momentum_buffer[i], momentum_buffer);
            store(row.update[i], update);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_muon(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.grad = (grad_t *)table->columns[1][at];
        row.momentum_buffer = (momentum_buffer_t *)table->columns[2][at];
        row.update = (update_t *)table->columns[3][at];
        const double *hyper = table->hypers + 1 * table->group[at];
        row.momentum = *hyper++;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""


_CUDA_1 = r"""# Muon, turn 1, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, elements, gradient, keep, lerp, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "momentum_buffer_t", "update_t")
OPTIONS = ("maximize", "nesterov")


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, found_inf, grad_scale,
    grad_t: tl.constexpr,
    momentum_buffer_t: tl.constexpr,
    update_t: tl.constexpr,
    maximize: tl.constexpr,
    nesterov: tl.constexpr,
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
    of = hypers + 1 * tl.load(group + row)
    momentum = tl.load(of + 0)
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    momentum_buffer_at = column(
        columns, rows, row, 2, momentum_buffer_t, aligned
    ) + begin
    update_at = column(columns, rows, row, 3, update_t, aligned) + begin
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    momentum_buffer = elements(momentum_buffer_at, i, left, real)
    # momentum_buffer = lerp(momentum_buffer, grad, 1 - momentum)
    momentum_buffer = lerp(momentum_buffer, grad, (1.0 - momentum).to(real))
    # update = lerp(grad, momentum_buffer, momentum) if nesterov else
    #     momentum_buffer
    update = (
        lerp(grad, momentum_buffer, momentum.to(real)) if nesterov else momentum_buffer
    )
    keep(momentum_buffer_at, i, left, momentum_buffer)
    keep(update_at, i, left, update)


def launch(x):
    x.each_chunk(pass_1)
"""


_CPU_2 = r"""// Muon, turn 2, in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    orthogonalized_t *orthogonalized;
    double lr;
    double weight_decay;
    double size_0;
    double size_1;
};

// What is worked out once a tensor.
struct Numbers {
    double rows_, columns, ratio;
};

static void numbers_1(const Row &row, Numbers &n) {
    // rows, columns = (size(p, 0), size(p, 1))
    n.rows_ = row.size_0;
    n.columns = row.size_1;
    // ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw"
    //     else sqrt(max(1, rows/columns))
    n.ratio = adjust_lr_fn_is_match_rms_adamw ? 0.2 * sqrt_(max_(n.rows_, n.columns)) :
        sqrt_(max_(1.0, n.rows_ / n.columns));
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::orthogonalized);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            const real orthogonalized = load(row.orthogonalized[i]);
            // p *= 1 - lr*weight_decay
            p = p * real(1.0 - row.lr * row.weight_decay);
            // p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
            p = p - real(row.lr * n.ratio) * orthogonalized;
            store(row.p[i], p);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_muon(const Table *table) {
    std::vector<Row> rows(table->rows);
    std::vector<Numbers> numbers(table->rows, Numbers{});
    for (int64_t at = 0; at < table->rows; ++at) {
        Row &row = rows[at];
        row.numel = table->numel[at];
        row.next = &row + (at + 1 < table->rows);
        row.p = (p_t *)table->columns[0][at];
        row.orthogonalized = (orthogonalized_t *)table->columns[1][at];
        const double *hyper = table->hypers + 2 * table->group[at];
        row.lr = *hyper++;
        row.weight_decay = *hyper++;
        row.size_0 = table->asked[at];
        row.size_1 = table->asked[1 * table->rows + at];
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    for (int64_t at = 0; at < table->rows; ++at)
        numbers_1(rows[at], numbers[at]);
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    return 0;
}
"""


_CUDA_2 = r"""# Muon, turn 2, in one pass over memory.

import triton
import triton.language as tl

from optdsl.runtime.arithmetic import column, double, elements, keep, larger, overflowed

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "orthogonalized_t")
OPTIONS = ("maximize", "adjust_lr_fn_is_match_rms_adamw")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    rows, asked, numbers, found_inf,
    adjust_lr_fn_is_match_rms_adamw: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    size_0 = tl.load(asked + 0 * rows + row)
    size_1 = tl.load(asked + 1 * rows + row)
    # rows, columns = (size(p, 0), size(p, 1))
    rows_ = size_0
    columns_ = size_1
    # ratio = 0.2*sqrt(max(rows, columns)) if adjust_lr_fn == "match_rms_adamw"
    #     else sqrt(max(1, rows/columns))
    ratio = (
        0.2 * tl.sqrt(larger(rows_, columns_))
        if adjust_lr_fn_is_match_rms_adamw
        else tl.sqrt(larger(double(1.0), rows_ / columns_))
    )
    tl.store(n + 0 * rows, ratio)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf,
    p_t: tl.constexpr,
    orthogonalized_t: tl.constexpr,
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
    of = hypers + 2 * tl.load(group + row)
    lr = tl.load(of + 0)
    weight_decay = tl.load(of + 1)
    ratio = tl.load(n + 0 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    orthogonalized_at = column(columns, rows, row, 1, orthogonalized_t, aligned) + begin
    p = elements(p_at, i, left, real)
    orthogonalized = elements(orthogonalized_at, i, left, real)
    # p *= 1 - lr*weight_decay
    p = p * (1.0 - lr * weight_decay).to(real)
    # p -= lr*ratio*orthogonalized(update, ns_coefficients, ns_steps, eps)
    p = p - (lr * ratio).to(real) * orthogonalized
    keep(p_at, i, left, p)


def launch(x):
    x.numbers = x.new(1 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""


_KERNELS_MUON = _Kernel and _Turns(
    _Kernel(
        "step_muon",
        _CPU_1,
        _kernel_numbers_1,
        elements=("p", "grad", "momentum_buffer", "update"),
        options=("maximize", "nesterov"),
        cuda=_CUDA_1,
    ),
    _Kernel(
        "step_muon",
        _CPU_2,
        _kernel_numbers_2,
        elements=("p", "orthogonalized"),
        options=("maximize", "adjust_lr_fn_is_match_rms_adamw"),
        cuda=_CUDA_2,
    ),
)


def _check_hypers_adamw(group: dict[str, Any]) -> None:
    """Raise where a param group asks for what is not allowed, or is not here."""
    lr = group["lr"]
    betas = group["betas"]
    eps = group["eps"]
    weight_decay = group["weight_decay"]
    amsgrad = group["amsgrad"]
    decoupled_weight_decay = group["decoupled_weight_decay"]
    foreach = group["foreach"]
    capturable = group["capturable"]
    _check_number("lr", lr)
    if not 0 <= lr <= math.inf:
        raise ValueError(f"Invalid lr: {lr!r}, expected a number in [0, inf]")
    _check_numbers("betas", betas, 2)
    if not all(0 <= each < 1 for each in betas):
        raise ValueError(f"Invalid betas: {betas!r}, expected 2 numbers in [0, 1)")
    _check_number("eps", eps)
    if not 0 <= eps <= math.inf:
        raise ValueError(f"Invalid eps: {eps!r}, expected a number in [0, inf]")
    _check_number("weight_decay", weight_decay)
    if not 0 <= weight_decay <= math.inf:
        raise ValueError(
            f"Invalid weight_decay: {weight_decay!r}, expected a number in [0, inf]"
        )
    if amsgrad not in (False, True):
        raise ValueError(f"Invalid amsgrad: {amsgrad!r}, expected True or False")
    if decoupled_weight_decay not in (False, True):
        raise ValueError(
            f"Invalid decoupled_weight_decay: {decoupled_weight_decay!r}, "
            f"expected True or False"
        )
    if not isinstance(betas[0], Tensor) == isinstance(betas[1], Tensor):
        raise ValueError(f"betas are two numbers or two tensors (got betas={betas!r})")
    if (
        foreach
        and (isinstance(lr, Tensor) or isinstance(betas[0], Tensor))
        and not capturable
    ):
        raise ValueError(
            "tensors need capturable "
            f"(got foreach={foreach!r}, lr={lr!r}, betas={betas!r}, "
            f"capturable={capturable!r})"
        )
    if group["fused"] and group["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together")
    if group["fused"] and group["differentiable"]:
        raise RuntimeError("`fused` does not support `differentiable`")


def _zero_dim(value: float, group: dict[str, Any], p: Tensor) -> Tensor:
    """A number as a tensor: on the CPU, unless steps are to be captured, or kernels on
    the parameter's device read it.
    """
    near = group["capturable"]
    if _KERNELS_ADAMW:
        near = near or _KERNELS_ADAMW.has_numbers_near(group, p)
    device = p.device if near else None
    return torch.tensor(value, dtype=_get_scalar_dtype(), device=device)


def _single_tensor_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        t = step.item()
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
            if max_exp_avg_sq is not None:
                max_exp_avg_sq = torch.view_as_real(max_exp_avg_sq)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg.lerp_(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            torch.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
        second = max_exp_avg_sq if amsgrad else exp_avg_sq

        # denom = sqrt(second)/(1 - beta2**t)**0.5 + eps
        denom = second.sqrt().div_((1 - beta2**t) ** 0.5).add_(eps)

        # p -= lr/(1 - beta1**t) * exp_avg/denom
        p.addcdiv_(exp_avg, denom, value=-lr / (1 - beta1**t))


def _multi_tensor_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    # Numbers, where a group has tensors of one element.
    lr, eps, weight_decay = map(float, (lr, eps, weight_decay))
    betas = tuple(map(float, betas))
    beta1, beta2 = betas

    columns = [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps]
    keys = [step.item() for step in steps]
    for params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps in _alike(
        columns, keys
    ):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, torch.ones_like(steps[0]), alpha=1)
        t = steps[0].item()
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            if grads is given:
                grads = torch._foreach_add(grads, params, alpha=weight_decay)
            else:
                torch._foreach_add_(grads, params, alpha=weight_decay)
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
            max_exp_avg_sqs = [
                each if each is None else torch.view_as_real(each)
                for each in max_exp_avg_sqs
            ]
            given = grads

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)
        del grads
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            torch._foreach_maximum_(max_exp_avg_sqs, exp_avg_sqs)

        # second = max_exp_avg_sq if amsgrad else exp_avg_sq
        seconds = max_exp_avg_sqs if amsgrad else exp_avg_sqs

        # denom = sqrt(second)/(1 - beta2**t)**0.5 + eps
        denoms = torch._foreach_sqrt(seconds)
        torch._foreach_div_(denoms, (1 - beta2**t) ** 0.5)
        torch._foreach_add_(denoms, eps)

        # p -= lr/(1 - beta1**t) * exp_avg/denom
        torch._foreach_addcdiv_(params, exp_avgs, denoms, value=-lr / (1 - beta1**t))


def _scaled_addcmul(x: Tensor, y: Tensor, z: Tensor, scale: Any) -> Tensor:
    """x.addcmul(y, z, value=scale), with a gradient for scale."""
    if isinstance(scale, Tensor) and scale.requires_grad:
        return x.addcmul(y * scale, z)
    return x.addcmul(y, z, value=scale)


def _differentiable_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        kept = (p, exp_avg, exp_avg_sq, max_exp_avg_sq, step)
        p, exp_avg, exp_avg_sq, max_exp_avg_sq, step = (
            each if each is None else each.clone() for each in kept
        )
        step = step + 1
        is_complex = torch.is_complex(p)
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p = p * (1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = _scaled_add(grad, p, weight_decay)
        if is_complex:
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
            if max_exp_avg_sq is not None:
                max_exp_avg_sq = torch.view_as_real(max_exp_avg_sq)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg = exp_avg.lerp(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq = _scaled_addcmul(exp_avg_sq * beta2, grad, grad, 1 - beta2)
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            max_exp_avg_sq = torch.maximum(max_exp_avg_sq, exp_avg_sq)
        second = max_exp_avg_sq if amsgrad else exp_avg_sq

        # minus_rate = -(lr/(1 - beta1**as_tensor(t)))
        minus_rate = -(lr / (1 - beta1**step))

        # p += exp_avg/(sqrt(second)/(sqrt(1 - beta2**as_tensor(t))*minus_rate) +
        #     eps/minus_rate)
        p = p.addcdiv(
            exp_avg,
            second.sqrt() / ((1 - beta2**step).sqrt() * minus_rate) + eps / minus_rate,
        )
        if is_complex:
            p, exp_avg, exp_avg_sq = map(
                torch.view_as_complex, (p, exp_avg, exp_avg_sq)
            )
            if max_exp_avg_sq is not None:
                max_exp_avg_sq = torch.view_as_complex(max_exp_avg_sq)

        for each, new in zip(
            kept, (p, exp_avg, exp_avg_sq, max_exp_avg_sq, step), strict=True
        ):
            if each is not None:
                each.copy_(new)


def _single_tensor_adamw_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    for p, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, step in zip(
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, strict=True
    ):
        grad = grad if not maximize else -grad
        step += 1
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            p.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            grad = grad.add(p, alpha=weight_decay)
        if torch.is_complex(p):
            p, grad, exp_avg, exp_avg_sq = map(
                torch.view_as_real, (p, grad, exp_avg, exp_avg_sq)
            )
            if max_exp_avg_sq is not None:
                max_exp_avg_sq = torch.view_as_real(max_exp_avg_sq)

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        exp_avg.lerp_(grad, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            torch.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
        second = max_exp_avg_sq if amsgrad else exp_avg_sq

        # minus_rate = -(lr/(1 - beta1**as_tensor(t)))
        minus_rate = -(lr / (1 - beta1**step))

        # p += exp_avg/(sqrt(second)/(sqrt(1 - beta2**as_tensor(t))*minus_rate) +
        #     eps/minus_rate)
        p.addcdiv_(
            exp_avg,
            second.sqrt()
            .div_((1 - beta2**step).sqrt() * minus_rate)
            .add_(eps / minus_rate),
        )


def _multi_tensor_adamw_capturable(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    max_exp_avg_sqs: list[Tensor | None],
    steps: list[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> None:
    beta1, beta2 = betas

    columns = [params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps]
    for params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps in _alike(columns):
        given = grads
        if maximize:
            grads = torch._foreach_neg(grads)
        torch._foreach_add_(steps, 1)
        if weight_decay != 0 and decoupled_weight_decay:
            # p *= 1 - lr*weight_decay
            torch._foreach_mul_(params, 1 - lr * weight_decay)
        elif weight_decay != 0:
            # grad += weight_decay*p
            products = torch._foreach_mul(params, weight_decay)
            if grads is given:
                grads = torch._foreach_add(grads, products)
            else:
                torch._foreach_add_(grads, products)
            del products
        if torch.is_complex(params[0]):
            params = [torch.view_as_real(each) for each in params]
            grads = [torch.view_as_real(each) for each in grads]
            exp_avgs = [torch.view_as_real(each) for each in exp_avgs]
            exp_avg_sqs = [torch.view_as_real(each) for each in exp_avg_sqs]
            max_exp_avg_sqs = [
                each if each is None else torch.view_as_real(each)
                for each in max_exp_avg_sqs
            ]
            given = grads

        # exp_avg = lerp(exp_avg, grad, 1 - beta1)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)

        # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
        torch._foreach_mul_(exp_avg_sqs, beta2)
        products = torch._foreach_mul(grads, 1 - beta2)
        torch._foreach_addcmul_(exp_avg_sqs, products, grads)
        del grads, products
        if amsgrad:
            # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
            torch._foreach_maximum_(max_exp_avg_sqs, exp_avg_sqs)

        # second = max_exp_avg_sq if amsgrad else exp_avg_sq
        seconds = max_exp_avg_sqs if amsgrad else exp_avg_sqs

        # minus_rate = -(lr/(1 - beta1**as_tensor(t)))
        powers = torch._foreach_pow(beta1, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        torch._foreach_reciprocal_(powers)
        torch._foreach_mul_(powers, lr)
        minus_rates = torch._foreach_neg(powers)

        # p += exp_avg/(sqrt(second)/(sqrt(1 - beta2**as_tensor(t))*minus_rate) +
        #     eps/minus_rate)
        roots = torch._foreach_sqrt(seconds)
        powers = torch._foreach_pow(beta2, steps)
        torch._foreach_neg_(powers)
        torch._foreach_add_(powers, 1)
        root_2s = torch._foreach_sqrt(powers)
        products = torch._foreach_mul(root_2s, minus_rates)
        torch._foreach_div_(roots, products)
        reciprocals = torch._foreach_reciprocal(minus_rates)
        torch._foreach_mul_(reciprocals, eps)
        torch._foreach_add_(roots, reciprocals)
        torch._foreach_addcdiv_(params, exp_avgs, roots)


def _kernel_numbers(group: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """What kernels read of a group, and what they are built for."""
    hypers = [
        group["lr"],
        group["betas"][0],
        group["betas"][1],
        group["eps"],
        group["weight_decay"],
    ]
    options = [
        group["maximize"],
        group["weight_decay"] != 0,
        group["decoupled_weight_decay"],
        group["amsgrad"],
    ]
    return hypers, options


def _by_kernels_adamw(optimizer: Optimizer, groups: list[Any]) -> list[Any]:
    """Update by kernels the groups that ask for it; return those that are left."""
    launch = _KERNELS_ADAMW.launch(optimizer)
    for group, columns in groups:
        params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps = columns
        launch.add(
            group,
            columns,
            elements=[params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs],
            numbers=[steps],
        )
    return launch.run()


_CPU = r"""// AdamW in one pass over memory.

// A tensor: its columns, and what its group says.
struct Row {
    int64_t numel;
    const Row *next;
    p_t *p;
    const grad_t *grad;
    exp_avg_t *exp_avg;
    exp_avg_sq_t *exp_avg_sq;
    max_exp_avg_sq_t *max_exp_avg_sq;
    step_t *step;
    double lr;
    double betas[2];
    double eps;
    double weight_decay;
};

// What is worked out once a tensor.
struct Numbers {
    double t, beta1, beta2, power, quotient;
};

// Once a tensor; false where a number that Python raises for comes out.
static bool numbers_1(const Row &row, Numbers &n) {
    // beta1, beta2 = betas
    n.beta1 = row.betas[0];
    n.beta2 = row.betas[1];
    // (1 - beta2**t)**0.5
    n.power = std::pow(1.0 - std::pow(n.beta2, n.t), 0.5);
    // lr/(1 - beta1**t)
    n.quotient = row.lr / (1.0 - std::pow(n.beta1, n.t));
    return are_finite(n.power, n.quotient);
}

static void pass_1(const Row row, const Numbers n, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += BLOCK) {
        const int64_t to = end_of_block(at, end);
        ask(at, to, row, &Row::p, &Row::grad, &Row::exp_avg, &Row::exp_avg_sq,
            &Row::max_exp_avg_sq);
        #pragma omp simd
        for (int64_t i = at; i < to; ++i) {
            real p = load(row.p[i]);
            real grad = (maximize ? -1 : 1) * real(load(row.grad[i]));
            real exp_avg = load(row.exp_avg[i]);
            real exp_avg_sq = load(row.exp_avg_sq[i]);
            real max_exp_avg_sq = has_max_exp_avg_sq ? load(row.max_exp_avg_sq[i]) : 0;
            if (weight_decay_is_not_0 && decoupled_weight_decay) {
                // p *= 1 - lr*weight_decay
                p = p * real(1.0 - row.lr * row.weight_decay);
            } else if (weight_decay_is_not_0) {
                // grad += weight_decay*p
                grad = grad + real(row.weight_decay) * p;
            }
            // exp_avg = lerp(exp_avg, grad, 1 - beta1)
            exp_avg = lerp_(exp_avg, grad, real(1.0 - n.beta1));
            // exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
            exp_avg_sq = real(n.beta2) * exp_avg_sq + real(1.0 - n.beta2) * grad * grad;
            if (amsgrad) {
                // max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
                max_exp_avg_sq = max_(max_exp_avg_sq, exp_avg_sq);
            }
            // second = max_exp_avg_sq if amsgrad else exp_avg_sq
            const real second = amsgrad ? max_exp_avg_sq : exp_avg_sq;
            // denom = sqrt(second)/(1 - beta2**t)**0.5 + eps
            const real denom = sqrt_(second) * real(1.0 / n.power) + real(row.eps);
            // p -= lr/(1 - beta1**t) * exp_avg/denom
            p = p - real(n.quotient) * exp_avg / denom;
            store(row.p[i], p);
            store(row.exp_avg[i], exp_avg);
            store(row.exp_avg_sq[i], exp_avg_sq);
            if (has_max_exp_avg_sq) store(row.max_exp_avg_sq[i], max_exp_avg_sq);
        }
    }
}

// 0, or 1 where nothing was changed since the host has to work it out.
extern "C" int step_adamw(const Table *table) {
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
        row.max_exp_avg_sq = (max_exp_avg_sq_t *)table->columns[4][at];
        row.step = (step_t *)table->columns[5][at];
        const double *hyper = table->hypers + 5 * table->group[at];
        row.lr = *hyper++;
        row.betas[0] = *hyper++;
        row.betas[1] = *hyper++;
        row.eps = *hyper++;
        row.weight_decay = *hyper++;
        numbers[at].t = load(*row.step) + 1;
    }
    const std::vector<Chunk> chunks = chunks_of(*table);
    if (!each_row(*table, 0, rows, numbers, numbers_1)) return 1;
    each_chunk(*table, chunks, [&](const Chunk &x, int64_t) {
        pass_1(rows[x.row], numbers[x.row], x.begin, x.end);
    });
    for (int64_t at = 0; at < table->rows; ++at) {
        store(*rows[at].step, numbers[at].t);
    }
    return 0;
}
"""


_CUDA = r"""# AdamW in one pass over memory.

import triton
import triton.language as tl
from triton.language.extra import libdevice

from optdsl.runtime.arithmetic import (
    column,
    double,
    elements,
    gradient,
    if_there,
    keep,
    keep_number,
    larger,
    lerp,
    number,
    overflowed,
)

# What kernels are built for: the types of columns, and options.
TYPES = ("p_t", "grad_t", "exp_avg_t", "exp_avg_sq_t", "max_exp_avg_sq_t", "step_t")
OPTIONS = ("maximize", "weight_decay_is_not_0", "decoupled_weight_decay", "amsgrad")


@triton.jit(do_not_specialize=["rows"])
def numbers_1(
    columns, rows, group, hypers, numbers, found_inf,
    step_t: tl.constexpr,
):
    if overflowed(found_inf):
        return
    row = tl.program_id(0)
    n = numbers + row
    of = hypers + 5 * tl.load(group + row)
    lr = tl.load(of + 0)
    betas_0 = tl.load(of + 1)
    betas_1 = tl.load(of + 2)
    t = number(columns, rows, row, 5, step_t) + 1
    # beta1, beta2 = betas
    beta1 = betas_0
    beta2 = betas_1
    # (1 - beta2**t)**0.5
    power = libdevice.pow(1.0 - libdevice.pow(beta2, t), double(0.5))
    # lr/(1 - beta1**t)
    quotient = lr / (1.0 - libdevice.pow(beta1, t))
    tl.store(n + 0 * rows, beta1)
    tl.store(n + 1 * rows, beta2)
    tl.store(n + 2 * rows, power)
    tl.store(n + 3 * rows, quotient)
    keep_number(columns, rows, row, 5, step_t, t)


@triton.jit(do_not_specialize=["rows"])
def pass_1(
    columns, rows, row_of, starts, numel, group, hypers, numbers, found_inf, grad_scale,
    p_t: tl.constexpr,
    grad_t: tl.constexpr,
    exp_avg_t: tl.constexpr,
    exp_avg_sq_t: tl.constexpr,
    max_exp_avg_sq_t: tl.constexpr,
    maximize: tl.constexpr,
    weight_decay_is_not_0: tl.constexpr,
    decoupled_weight_decay: tl.constexpr,
    amsgrad: tl.constexpr,
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
    eps = tl.load(of + 3)
    weight_decay = tl.load(of + 4)
    beta1 = tl.load(n + 0 * rows)
    beta2 = tl.load(n + 1 * rows)
    power = tl.load(n + 2 * rows)
    quotient = tl.load(n + 3 * rows)
    p_at = column(columns, rows, row, 0, p_t, aligned) + begin
    grad_at = column(columns, rows, row, 1, grad_t, aligned) + begin
    exp_avg_at = column(columns, rows, row, 2, exp_avg_t, aligned) + begin
    exp_avg_sq_at = column(columns, rows, row, 3, exp_avg_sq_t, aligned) + begin
    max_exp_avg_sq_at = column(columns, rows, row, 4, max_exp_avg_sq_t, aligned) + begin
    max_exp_avg_sq_left = if_there(columns, rows, row, 4, left)
    p = elements(p_at, i, left, real)
    grad = gradient(grad_at, i, left, maximize, grad_scale, real)
    exp_avg = elements(exp_avg_at, i, left, real)
    exp_avg_sq = elements(exp_avg_sq_at, i, left, real)
    max_exp_avg_sq = elements(max_exp_avg_sq_at, i, max_exp_avg_sq_left, real)
    if weight_decay_is_not_0 and decoupled_weight_decay:
        # p *= 1 - lr*weight_decay
        p = p * (1.0 - lr * weight_decay).to(real)
    elif weight_decay_is_not_0:
        # grad += weight_decay*p
        grad = grad + weight_decay.to(real) * p
    # exp_avg = lerp(exp_avg, grad, 1 - beta1)
    exp_avg = lerp(exp_avg, grad, (1.0 - beta1).to(real))
    # exp_avg_sq = beta2*exp_avg_sq + (1 - beta2)*grad*grad
    exp_avg_sq = beta2.to(real) * exp_avg_sq + (1.0 - beta2).to(real) * grad * grad
    if amsgrad:
        # max_exp_avg_sq = max(max_exp_avg_sq, exp_avg_sq)
        max_exp_avg_sq = larger(max_exp_avg_sq, exp_avg_sq)
    # second = max_exp_avg_sq if amsgrad else exp_avg_sq
    second = max_exp_avg_sq if amsgrad else exp_avg_sq
    # denom = sqrt(second)/(1 - beta2**t)**0.5 + eps
    denom = tl.sqrt(second) / power.to(real) + eps.to(real)
    # p -= lr/(1 - beta1**t) * exp_avg/denom
    p = p - quotient.to(real) * exp_avg / denom
    keep(p_at, i, left, p)
    keep(exp_avg_at, i, left, exp_avg)
    keep(exp_avg_sq_at, i, left, exp_avg_sq)
    keep(max_exp_avg_sq_at, i, max_exp_avg_sq_left, max_exp_avg_sq)


def launch(x):
    x.numbers = x.new(4 * x.rows)
    x.each_row(numbers_1)
    x.each_chunk(pass_1)
"""


_KERNELS_ADAMW = _Kernel and _Kernel(
    "step_adamw",
    _CPU,
    _kernel_numbers,
    elements=("p", "grad", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    numbers=("step",),
    optional=("max_exp_avg_sq",),
    options=("maximize", "weight_decay_is_not_0", "decoupled_weight_decay", "amsgrad"),
    elementwise=True,
    cuda=_CUDA,
    scaled=True,
)
