"""Which parameters of the student train, and what becomes of them."""

import copy

import torch
from torch import Tensor, nn

from d2host.engine.errors import ConfigError
from declip.distill.task import DistillationForm
from declip.models.encoder import DenseCLIP

PROBE_SIDE = 4  # tokens per side of the image that shows which parameters get a gradient


def choose_trainable(student: DenseCLIP, form: DistillationForm, last_n_blocks: int = 0) -> None:
    """Set ``requires_grad`` of every parameter of the student.

    The text tower is frozen. Of the image tower, the last blocks train (Table 8; 0: all blocks and the embeddings)
    together with the final norm and projection, except what the losses do not depend on: the last block's
    feed-forward layer under a decoupled context, for instance. That is found out by a backward pass.

    Raises:
        ConfigError: there are fewer blocks.
    """
    if not 0 <= last_n_blocks <= student.num_blocks:
        raise ConfigError(
            f"MODEL.DISTILL.LAST_N_BLOCKS is {last_n_blocks}: '{student.name}' has {student.num_blocks} blocks"
        )
    student.requires_grad_(False)
    visual = student.clip.visual
    visual.requires_grad_(True)
    if last_n_blocks:
        frozen = nn.ModuleList(student.image_tower.blocks[:-last_n_blocks])
        for parameter in (*frozen.parameters(), *_embedding_parameters(student)):
            parameter.requires_grad_(False)
    for parameter in _without_gradient(student, form):
        parameter.requires_grad_(False)


def frozen_copy(student: DenseCLIP) -> DenseCLIP:
    """The student before training, as its own teacher; the text tower, which does not train, is shared."""
    original = copy.deepcopy(student, memo={id(parameter): parameter for parameter in student.text_parameters()})
    return original.requires_grad_(False).eval()


def _embedding_parameters(student: DenseCLIP) -> list[torch.nn.Parameter]:
    """The image tower's parameters before its first block: all that patch embedding alone depends on."""
    side = PROBE_SIDE * student.patch_size
    images = torch.zeros(1, 3, side, side, device=student.pixel_mean.device)
    return _reached(student, student.image_tower.embed(images).x.square().sum())


def _without_gradient(student: DenseCLIP, form: DistillationForm) -> list[torch.nn.Parameter]:
    """Parameters that train but do not enter the losses."""
    side = PROBE_SIDE * student.patch_size
    features = student.encode_dense(torch.ones(1, 3, side, side, device=student.pixel_mean.device))
    learning = [features.content, *(features.context if form is DistillationForm.DECOUPLED else ())]
    reached = {id(parameter) for parameter in _reached(student, sum(each.square().sum() for each in learning))}
    return [parameter for parameter in student.parameters() if parameter.requires_grad and id(parameter) not in reached]


def _reached(student: DenseCLIP, output: Tensor) -> list[torch.nn.Parameter]:
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(output, parameters, allow_unused=True)
    return [parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None]


@torch.no_grad()
def interpolated_state(student: DenseCLIP, original: DenseCLIP, alpha: float) -> dict[str, Tensor]:
    """``alpha * student + (1 - alpha) * original``, tensor by tensor, of what is floating point.

    Args:
        alpha: in (0, 1]; 1 gives the student itself.
    """
    own, other = student.clip.state_dict(), original.clip.state_dict()
    if alpha == 1:
        return own
    return {
        key: torch.lerp(other[key], tensor, alpha) if tensor.is_floating_point() else tensor
        for key, tensor in own.items()
    }
