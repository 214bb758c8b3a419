"""nano-diffusion's training: the noise of a noisy scene.

Shape legend
    B  scenes of a batch      s  side of the images, pixels
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanoworld.diffusion import SIDE, create_nano_diffusion, create_scheduler, save_nano_diffusion
from nanoworld.photos import cut_out
from nanoworld.world import Scene

JUDGED_STEPS = (20, 81, 300, 600)  # timesteps at which the noise left is measured


class DenoisingPretraining(nn.Module):
    """Batch in, mean squared error of the predicted noise out.

    Args:
        weights: to start from, see :func:`nanoworld.diffusion.create_nano_diffusion`.

    Source: DDPM (NeurIPS 2020), Eq. 14, with the noise schedule of Stable Diffusion.
    """

    def __init__(self, weights: str = "") -> None:
        super().__init__()
        self.unet = create_nano_diffusion(weights)
        self.scheduler = create_scheduler()

    def forward(self, batch: Sequence[dict]) -> dict[str, Tensor]:
        """``loss_noise``, about 1 for a model that predicts nothing.

        Args:
            batch: B samples of :class:`nanoworld.pretraining.scenes.WholeScenes`.
        """
        device = self.unet.device
        images = torch.stack([sample["image"] for sample in batch]).to(device)
        generators = [torch.Generator().manual_seed(sample["seed"]) for sample in batch]
        timesteps = torch.cat([torch.randint(len(self.scheduler), (1,), generator=each) for each in generators])
        noise = torch.stack([torch.randn(images.shape[1:], generator=each) for each in generators])
        return {"loss_noise": self._error(images, noise.to(device), timesteps.to(device))}

    @torch.no_grad()
    def evaluate(self, scenes: Iterable[Scene]) -> dict[str, float]:
        """``noise_error_T``: mean squared error at some timesteps T."""
        window = lambda scene: (0, 0, len(scene.image), len(scene.image))  # noqa: E731
        images = torch.stack([torch.from_numpy(cut_out(scene.image, window(scene), SIDE).copy()) for scene in scenes])
        images = images.permute(0, 3, 1, 2).to(self.unet.device)
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(self.unet.device)
        steps = {step: torch.full((len(images),), step, device=self.unet.device) for step in JUDGED_STEPS}
        return {f"noise_error_{step}": self._error(images, noise, each).item() for step, each in steps.items()}

    def export(self, path: Path, facts: dict[str, object]) -> Path:
        """Write a folder in the place of a weight file, named as ``path`` without its suffix."""
        return save_nano_diffusion(self.unet, path.with_suffix(""), facts)

    def load(self, path: str) -> None:
        """Take the weights of a folder, or shipped ones by name."""
        self.unet.load_state_dict(create_nano_diffusion(path).state_dict())

    def _error(self, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Images B×3×s×s in 0..255, noise of their shape, B timesteps → a scalar."""
        noisy = self.scheduler.add_noise(images.float() / 127.5 - 1, noise, timesteps)
        predicted = self.unet(noisy, timesteps).sample
        return F.mse_loss(predicted.float(), noise)
