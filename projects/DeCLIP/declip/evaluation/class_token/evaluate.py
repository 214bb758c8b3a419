"""What an encoder's class token knows of whole images.

Shape legend
    I  images        T  texts, or classes        C  width of the shared image-text space
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms

from d2host.engine.loading import list_loader
from d2host.engine.tensors import check_finite
from declip.data.image_list import ImageRecord
from declip.data.whole_images import CaptionedImages, LabelledImages
from declip.evaluation.class_token.retrieval import retrieval_recall
from declip.models.encoder import DenseCLIP
from declip.models.zero_shot_classifier import Templates, embed_names

TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class ClassTokenSets:
    """What to evaluate on.

    Attributes:
        captions: for retrieval; None: none.
        classes: for classification; None: none.
    """

    captions: CaptionedImages | None = None
    classes: LabelledImages | None = None


@torch.no_grad()
def evaluate_class_token(
    encoder: DenseCLIP,
    sets: ClassTokenSets,
    *,
    max_images: int = 0,
    templates: Templates = Templates.IMAGENET,
    images_at_once: int = 64,
    num_workers: int = 0,
) -> dict[str, float]:
    """Zero-shot classification and image-text retrieval by the class tokens of whole images.

    Images are seen as CLIP does: the shorter side resized to the encoder's own, and the centre cut out. Captions that
    are the same text are one, which belongs to all their images.

    Args:
        encoder: in evaluation mode, on its device.
        sets: what to evaluate on.
        max_images: only so many of each; 0: all.
        templates: of the prompts for classes.
        images_at_once: encoded together.
        num_workers: processes that load.

    Returns:
        Percent: ``top1``, ``top5`` of classes; ``image_to_text_R@1`` (5, 10) and ``text_to_image_R@1`` of captions.

    Raises:
        DataError: an image cannot be read.
        CheckpointError: embeddings are not finite.
    """
    results: dict[str, float] = {}
    loading = {"images_at_once": images_at_once, "num_workers": num_workers}
    if sets.classes:
        shown = sets.classes.first(max_images)
        text = embed_names(encoder, shown.class_names, templates)
        found = retrieval_recall(
            embed_images(encoder, shown.images, **loading), text, [[label] for label in shown.labels], at=(1, 5)
        )
        results |= {"top1": found["R@1"], "top5": found["R@5"]}
    if sets.captions:
        shown = sets.captions.first(max_images)
        texts = list(dict.fromkeys(caption for captions in shown.captions for caption in captions))
        place = {text: index for index, text in enumerate(texts)}
        owned = [[place[caption] for caption in captions] for captions in shown.captions]
        owners: list[list[int]] = [[] for _ in texts]
        for image, captions in enumerate(owned):
            for caption in set(captions):
                owners[caption].append(image)
        images = embed_images(encoder, shown.images, **loading)
        pieces = [texts[first : first + TEXTS_AT_ONCE] for first in range(0, len(texts), TEXTS_AT_ONCE)]
        embedded = torch.cat([F.normalize(encoder.encode_text(piece).float(), dim=1) for piece in pieces])
        check_finite(embedded, "the embeddings of captions")
        for name, recalls in {
            "image_to_text": retrieval_recall(images, embedded, owned),
            "text_to_image": retrieval_recall(embedded, images, owners),
        }.items():
            results |= {f"{name}_{key}": value for key, value in recalls.items()}
    return results


def embed_images(
    encoder: DenseCLIP, images: Sequence[ImageRecord], images_at_once: int = 64, num_workers: int = 0
) -> Tensor:
    """Class tokens of whole images, I×C unit vectors, float32."""
    dataset = _CentreViews(images, encoder.image_size)
    embeddings = []
    for batch in list_loader(dataset, num_workers, batch_size=images_at_once, shuffle=False):
        views = torch.stack([sample["image"] for sample in batch]).to(encoder.pixel_mean.device).float()
        embeddings.append(F.normalize(encoder.encode_image(encoder.normalize(views)).float(), dim=1))
        check_finite(embeddings[-1], f"the class tokens of {batch[0]['file_name']} and others")
    return torch.cat(embeddings)


class _CentreViews(Dataset):
    """The centre of each image, as a square of a side."""

    def __init__(self, images: Sequence[ImageRecord], side: int) -> None:
        self.images, self.side = images, side

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        image = self.images[index].read(self.side)
        resized = transforms.resize(image, [self.side], transforms.InterpolationMode.BICUBIC, antialias=True)
        return {"image": transforms.center_crop(resized, [self.side]), "file_name": self.images[index].path}
