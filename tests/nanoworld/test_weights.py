"""The shipped weights do what their cards say, on scenes that neither training nor the cards have seen."""

import pytest
import torch

import declip
from declip.models.attention import ContextType
from declip.teachers.foundation import FoundationTeacher
from nanoworld.evaluation import close_up_accuracy, evaluate_affinities, scenes_of
from nanoworld.vocabulary import CLASSES, STUFF
from nanoworld.weights import DIFFUSION, FOLDER, SHIPPED, shipped_diffusion, shipped_weights

SERIES = 77  # of scenes


@pytest.fixture(scope="module")
def scenes():
    return scenes_of(SERIES, 20)


def pixel_accuracy(encoder, scenes):
    """Share of patches of things whose nearest class name is right."""
    text = torch.nn.functional.normalize(encoder.encode_text([f"a photo of a {name}" for name in CLASSES]), dim=1)
    right = total = 0
    for scene in scenes:
        image = torch.from_numpy(scene.image).permute(2, 0, 1)[None]
        content = encoder.encode_dense(encoder.normalize(image)).content[0]
        labels = torch.from_numpy(scene.class_map(CLASSES))[4::8, 4::8].long()
        things = labels >= len(STUFF)
        found = torch.einsum("chw,tc->thw", content, text).argmax(dim=0)
        right, total = right + (found == labels)[things].sum().item(), total + things.sum().item()
    return right / total


def test_all_fit_into_twelve_megabytes_and_have_a_card():
    files = [*map(shipped_weights, SHIPPED), *shipped_diffusion(DIFFUSION).rglob("*.safetensors")]
    assert len(files) == 4 and sum(file.stat().st_size for file in files) <= 12_000_000
    for name in (*SHIPPED, DIFFUSION):
        card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        for fact in ("Data", "Command", "Time", "Metrics", "Seed", "Licence"):
            assert f"| {fact} |" in card, f"the card of {name} does not tell: {fact}"


@torch.no_grad()
def test_nano_clip_names_close_ups(scenes):
    accuracy = close_up_accuracy(declip.build_encoder("nano", weights="nano-clip").eval(), scenes)
    assert accuracy["closeup_acc"] > 75 and accuracy["closeup_acc_things"] > 60


@torch.no_grad()
def test_nano_vfm_tells_segments_apart_better_than_nano_clip(scenes):
    teacher = FoundationTeacher("nano-vfm")
    clip = declip.build_encoder("nano", weights="nano-clip", context="vanilla").eval()
    vfm = evaluate_affinities(lambda images: teacher(teacher.normalize(images)), scenes)
    own = evaluate_affinities(lambda images: clip.encode_dense(clip.normalize(images)).content, scenes)
    assert vfm["affinity_auroc"] > 0.995 and vfm["affinity_auroc"] > own["affinity_auroc"]
    assert vfm["alike_within"] > 80 and vfm["alike_across"] < 3


@torch.no_grad()
def test_patches_of_things_are_named_by_nano_declip_as_nano_clip_cannot(scenes):
    original = declip.build_encoder("nano", weights="nano-clip", context="qk").eval()
    distilled = declip.build_encoder("nano", weights="nano-declip").eval()
    assert distilled.context is ContextType.QK
    assert pixel_accuracy(original, scenes) < 0.1 < 0.4 < pixel_accuracy(distilled, scenes)


def test_nano_diffusion_knows_most_of_the_noise_and_completes_affinities(scenes):
    pytest.importorskip("diffusers")
    from declip.teachers.diffusion import DiffusionOptions, load_diffusion
    from nanoworld.pretraining.denoising import DenoisingPretraining

    assert DenoisingPretraining(DIFFUSION).eval().evaluate(scenes[:4])["noise_error_300"] < 0.2
    diffusion = load_diffusion(DIFFUSION, options=DiffusionOptions(cells=4))
    attention = diffusion(torch.rand(3, 32, 48) * 255, grid=(8, 12), noise="")
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(96))
