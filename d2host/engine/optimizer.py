"""AdamW and its parameter groups."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import AdamW

from d2host.engine.errors import ConfigError

if TYPE_CHECKING:
    from d2host import CfgNode

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.LocalResponseNorm)


@dataclass(frozen=True)
class OptimizerOptions:
    """How parameters are optimised.

    Attributes:
        lr: base learning rate.
        weight_decay: of everything else than:
        weight_decay_norm: scales and shifts of normalisation layers.
        weight_decay_embed: embedding tables.
        lr_multipliers: factors on ``lr`` by prefix of the parameter's name; the longest matching prefix counts.
        no_decay: names that are never decayed.
        betas, eps: of AdamW.
    """

    lr: float
    weight_decay: float = 0.0
    weight_decay_norm: float = 0.0
    weight_decay_embed: float = 0.0
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    no_decay: Collection[str] = ()
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    @classmethod
    def from_config(cls, cfg: "CfgNode", **more: Any) -> "OptimizerOptions":
        """From what ``cfg.SOLVER`` says for every training, and ``more`` of the attributes."""
        solver = cfg.SOLVER
        return cls(solver.BASE_LR, solver.WEIGHT_DECAY, betas=tuple(solver.BETAS), eps=solver.EPS, **more)


def build_optimizer(model: nn.Module, options: OptimizerOptions) -> AdamW:
    """AdamW over the parameters that train, one group per (learning rate, weight decay).

    >>> optimizer = build_optimizer(nn.Linear(2, 1), OptimizerOptions(lr=0.1, weight_decay=0.01, no_decay=["bias"]))
    >>> [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    [(0.1, 0.01), (0.1, 0.0)]

    Raises:
        ConfigError: nothing trains.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for short_name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{short_name}" if module_name else short_name
            key = (options.lr * _multiplier(name, options.lr_multipliers), _decay(name, module, options))
            groups.setdefault(key, []).append(parameter)
    if not groups:
        raise ConfigError(
            f"no parameter trains: every one of {type(model).__name__} has requires_grad False, so choose another "
            "policy of what trains"
        )
    parameters = [{"params": group, "lr": lr, "weight_decay": decay} for (lr, decay), group in groups.items()]
    return AdamW(parameters, lr=options.lr, betas=options.betas, eps=options.eps, fused=True)


def _multiplier(name: str, multipliers: Mapping[str, float]) -> float:
    matching = [prefix for prefix in multipliers if name.startswith(prefix)]
    return multipliers[max(matching, key=len)] if matching else 1.0


def _decay(name: str, module: nn.Module, options: OptimizerOptions) -> float:
    if name in options.no_decay:
        return 0.0
    if isinstance(module, NORMS):
        return options.weight_decay_norm
    if isinstance(module, nn.Embedding):
        return options.weight_decay_embed
    return options.weight_decay
