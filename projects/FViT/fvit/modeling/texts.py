"""The embeddings of class names, made once of a frozen text tower."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, inference_mode, nn, no_grad

from declip.models.encoder import DenseCLIP
from declip.models.templates import Templates
from declip.models.zero_shot_classifier import cached_names


class ClassTexts(nn.Module):
    """The mean direction of a name's prompts, kept for the vocabulary that was asked for last.

    Args:
        templates: what names are put into.
        folder: that keeps embeddings from run to run; None: none does.

    >>> import declip
    >>> texts = ClassTexts(Templates.DETECTION)
    >>> texts(declip.build_encoder("nano", "nano-clip"), ["red ring", "background"]).shape
    torch.Size([2, 128])
    """

    def __init__(self, templates: Templates, folder: str | Path | None = None) -> None:
        super().__init__()
        self.templates, self.folder = templates, folder
        self._kept: dict[tuple, Tensor] = {}

    def forward(self, encoder: DenseCLIP, names: Sequence[str]) -> Tensor:
        """N names → N×C unit vectors, float32, without gradient."""
        parameters = encoder.text_parameters()
        state = [(id(parameter), parameter.device, parameter._version) for parameter in parameters]
        key = (*names, *state)
        if key not in self._kept:
            with inference_mode(False), no_grad():  # training takes part in what evaluation has embedded
                self._kept = {key: cached_names(encoder, names, self.templates, self.folder)}
        return self._kept[key]
