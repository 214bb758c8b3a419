"""AdamW and its parameter groups."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import AdamW

from d2host.engine.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from d2host import CfgNode

MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # what AdamW remembers of a parameter
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


def restore_optimizer(optimizer: AdamW, saved: Mapping[str, Any], path: str | Path) -> None:
    """Give an optimizer the moments of a checkpoint; learning rates, decays and the like stay its own.

    Args:
        optimizer: of :func:`build_optimizer`.
        saved: the ``state_dict`` of one.
        path: of the checkpoint, for messages.

    Raises:
        CheckpointError: other parameters train, or the moments cannot be used.
    """
    groups, moments = saved.get("param_groups"), saved.get("state")
    try:
        given, own = ([len(group["params"]) for group in some] for some in (groups, optimizer.param_groups))
    except (TypeError, KeyError):
        given, own = None, []
    if given is not None and given != own:
        raise CheckpointError(
            f"{path} is of a run in which other parameters train: its optimizer has groups of {given} parameters, that "
            f"of the config {own}; give the config it was made with, or the file as MODEL.WEIGHTS of a new run"
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if (
        not isinstance(moments, dict)
        or given is None
        or not all(
            index in range(len(parameters)) and _fits(moment, parameters[index]) for index, moment in moments.items()
        )
    ):
        raise CheckpointError(f"the optimizer's state in {path} does not fit the model's parameters: give another")
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _fits(moment: Any, parameter: nn.Parameter) -> bool:
    """Whether it is what AdamW remembers of the parameter, finite."""
    if not isinstance(moment, dict) or moment.keys() != MOMENTS:
        return False
    shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    tensors = all(isinstance(tensor, Tensor) for tensor in moment.values())
    return tensors and all(moment[key].shape == shapes[key] and moment[key].isfinite().all() for key in shapes)


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
