"""What several methods say about the same images, beside the ground truth where there is one (DeCLIP, Figure 10).

Shape legend
    H, W  image        K  classes
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from declip.data.palette import class_palette
from declip.evaluation.style import OKABE_ITO
from declip.evaluation.visualizer import Segmentation, check_rows, draw
from declip.segmentation import ImageLike, as_rgb
from declip.segmenter import Segmenter
from declip.visualization.dataset import class_colors, labelled_images

TRUTH = "ground truth"


def segmentation_panels(
    images: Sequence[ImageLike],
    methods: Mapping[str, Segmenter],
    class_names: Sequence[str],
    truths: Sequence[np.ndarray] = (),
) -> list[Segmentation]:
    """What methods say about images, and what is true of them, at no more pixels than a figure shows.

    Args:
        images: paths, PIL images, H×W×3 uint8 RGB, or 3×H×W tensors.
        methods: title → segmenter, which is given the classes.
        class_names: K names.
        truths: H×W labels of each image, negative where there is none; empty: not known.

    Raises:
        DataError: an image or a name cannot be used.
    """
    pictures = [as_rgb(image) for image in images]
    panels: list[dict[str, np.ndarray]] = [{} for _ in pictures]
    for title, segmenter in methods.items():
        segmenter.set_classes(class_names)
        for picture, row in zip(pictures, panels, strict=True):
            row[title] = segmenter.segment(picture).labels.astype(np.int64)
    for row, truth in zip(panels, truths, strict=False):
        row[TRUTH] = truth
    return [Segmentation.of(picture, row) for picture, row in zip(pictures, panels, strict=True)]


def segmentation(
    images: Sequence[ImageLike],
    methods: Mapping[str, Segmenter],
    class_names: Sequence[str],
    truths: Sequence[np.ndarray] = (),
    colors: np.ndarray | None = None,
) -> Figure:
    """A figure with a row per image: the image, each method's classes laid over it, and the ground truth.

    Args:
        images, methods, class_names, truths: see :func:`segmentation_panels`.
        colors: of the classes, K×3 in 0..255; None: of up to eight, those that all kinds of colour vision tell apart.

    Raises:
        DataError: see :func:`segmentation_panels`; or there are more images than a figure holds.

    >>> import declip
    >>> from declip.visualization import segmentation
    >>> methods = {name: declip.load_segmenter("nano", name) for name in ("nano-clip", "nano-declip")}
    >>> image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    >>> segmentation([image], methods, ["grass", "sky", "red ball"]).savefig("segmentation.png")
    """
    check_rows(len(images))
    rows = segmentation_panels(images, methods, class_names, truths)
    return draw(rows, class_names, palette(len(class_names)) if colors is None else colors)


def segmentation_of_dataset(
    name: str, methods: Mapping[str, Segmenter], class_names: Sequence[str], count: int = 4
) -> Figure:
    """The same of images of a registered dataset, spread evenly over it, with its colours and ground truth.

    Args:
        name: of the dataset.
        methods: see :func:`segmentation_panels`.
        class_names: K names, in the order of the dataset's labels.
        count: images.

    Raises:
        DataError: see :func:`declip.visualization.dataset.labelled_images`.
    """
    images, truths = zip(*labelled_images(name, count), strict=True)
    return segmentation(images, methods, class_names, truths, class_colors(name))


def palette(num_classes: int) -> np.ndarray:
    """Colours of classes, K×3 in 0..255: of up to eight, those that all kinds of colour vision tell apart."""
    if num_classes <= len(OKABE_ITO):
        return np.asarray([to_rgb(color) for color in OKABE_ITO[:num_classes]], dtype=np.float32) * 255
    return np.asarray(class_palette(num_classes), dtype=np.float32)
