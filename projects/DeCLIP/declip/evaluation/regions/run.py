"""An encoder evaluated on labelled regions: several kinds of features, several resolutions, one table at the end."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from d2host import comm
from d2host.engine.errors import ConfigError
from d2host.engine.precision import Precision
from declip.data.region_sets import RegionSet
from declip.evaluation.regions.accuracy import RegionAccuracy
from declip.evaluation.regions.classify import RegionMethod, compare_regions
from declip.evaluation.regions.predictions import saved_predictions
from declip.evaluation.regions.report import write_report
from declip.models.attention import Context, ContextType
from declip.models.encoder import DenseCLIP
from declip.models.zero_shot_classifier import Templates, cached_names


@dataclass(frozen=True)
class RegionOptions:
    """What of a run does not change its numbers, or cuts it short.

    Attributes:
        templates: of the prompts.
        precision: of the image tower.
        images_at_once, max_images, num_workers: as of :func:`declip.evaluation.regions.compare_regions`.
        save_predictions: write ``predictions.jsonl``, a line of JSON for each region and kind of feature.
        cache: folder of class embeddings; None: none.
    """

    templates: Templates = Templates.IMAGENET
    precision: Precision = Precision.FP32
    images_at_once: int = 8
    max_images: int = 0
    save_predictions: bool = False
    num_workers: int = 1
    cache: Path | None = None


def evaluate_regions(
    encoder: DenseCLIP,
    regions: RegionSet,
    contexts: Sequence[ContextType | Context],
    methods: Sequence[RegionMethod],
    sides: Sequence[int],
    folder: Path,
    options: RegionOptions | None = None,
) -> dict[tuple[str, int], RegionAccuracy]:
    """Name every region of a set by dense features at each resolution, and by the class token of its crop.

    Writes the report (:func:`declip.evaluation.regions.report.write_report`) under ``folder``, and logs its table.

    Args:
        encoder: on its device.
        regions: what to classify.
        contexts: how the last block attends.
        methods: where features come from; crops depend neither on the context nor on the side.
        sides: longer sides of the images as the encoder sees them, pixels, multiples of its patch size.

    Returns:
        Accuracies by (features in words, side); none on processes other than 0, which take shares of the images.

    Raises:
        ConfigError: a side is no multiple of the patch size.
        DataError, CheckpointError: as of :func:`declip.evaluation.regions.compare_regions`.
    """
    options, encoder = options or RegionOptions(), encoder.eval()
    passes = passes_over_images(encoder, contexts, methods, sides)
    text = cached_names(encoder, regions.class_names, options.templates, options.cache)
    results: dict[tuple[str, int], RegionAccuracy] = {}
    file = saved_predictions(folder / "predictions.jsonl", regions.class_names)
    with file if options.save_predictions else nullcontext() as saved, options.precision.autocast(text.device):
        for side, some, kinds in passes:
            found = compare_regions(
                encoder,
                regions,
                side,
                contexts=some,
                methods=kinds,
                max_images=options.max_images,
                text=text,
                images_at_once=options.images_at_once,
                num_workers=options.num_workers,
                progress=True,
                save=partial(saved.add, side) if saved else None,
            )
            results |= {(kind.in_words, side): accuracy for kind, accuracy in found.items()}
            if saved:
                saved.write()
    if not comm.is_main_process():
        return {}
    logging.getLogger(__name__).info(
        "Region classification in percent:\n%s", write_report(results, regions.class_names, folder)
    )
    return results


def passes_over_images(
    encoder: DenseCLIP,
    contexts: Sequence[ContextType | Context],
    methods: Sequence[RegionMethod],
    sides: Sequence[int],
) -> list[tuple[int, Sequence[ContextType | Context], Sequence[RegionMethod]]]:
    """What each pass is of: a side, contexts and methods. Crops, which neither matters to, have one of their own.

    Raises:
        ConfigError: a side is no multiple of the patch size.
    """
    for side in sides:
        if side % encoder.patch_size:
            raise ConfigError(f"side {side} is no multiple of the {encoder.patch_size}-pixel patches of {encoder.name}")
    dense = [method for method in methods if method is not RegionMethod.CROPS]
    passes = [(side, contexts, dense) for side in sides if dense]
    if RegionMethod.CROPS in methods:
        passes.append((encoder.image_size, contexts[:1], [RegionMethod.CROPS]))
    return passes
