import numpy as np
import pytest
import torch
import torch.nn.functional as F

from declip import build_encoder
from declip.evaluation.zero_shot import Protocol, Vocabulary, ZeroShotSegmenter
from declip.evaluation.zero_shot import segmenter as segmenter_module
from declip.models.attention import ContextType
from declip.models.windows import WindowGrid

VOCABULARY = Vocabulary.of(["red ring; scarlet ring", "grass", "background", "blue star, navy star"])


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return build_encoder("nano", "random", context="qk").eval()


def build(encoder, **settings):
    torch.manual_seed(3)
    embeddings = F.normalize(torch.randn(len(VOCABULARY.names), encoder.embed_dim), dim=1)
    protocol = Protocol(**{"short_side": 0, "window": 32, "stride": 16, **settings})
    return ZeroShotSegmenter(encoder, embeddings, VOCABULARY, protocol, windows_at_once=3)


def sample(height, width, seed=0):
    image = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed))
    return {"image": image, "height": height + 9, "width": width - 5}


@torch.no_grad()
def plainly(segmenter, inputs):
    """Every probability of every pixel at once."""
    encoder, protocol = segmenter.encoder, segmenter.protocol
    image = encoder.normalize(inputs["image"])
    grid = WindowGrid.of(image.shape[-2:], protocol.window, protocol.stride, encoder.patch_size)
    windows = [encoder.encode_dense(window[None]).content for window in grid.cut(image)]
    cosines = torch.einsum("bchw,nc->bnhw", F.normalize(torch.cat(windows), dim=1), segmenter.embeddings)
    rows, columns = grid.way_back((inputs["height"], inputs["width"]), image.device)
    names = (protocol.logit_scale * (rows @ grid.lay_out(cosines) @ columns.T)).softmax(dim=0)
    owners = torch.tensor(VOCABULARY.owners)
    classes = torch.stack([names[owners == k].max(dim=0).values for k in range(len(VOCABULARY.synonyms))])
    best, labels = classes.max(dim=0)
    labels[best < protocol.threshold] = VOCABULARY.background
    return labels


@pytest.mark.parametrize("chunk_pixels", [1, 2**23])
@pytest.mark.parametrize("threshold", [0.0, 0.22])
def test_labels_are_the_most_probable_classes_whatever_the_chunks(encoder, monkeypatch, threshold, chunk_pixels):
    monkeypatch.setattr(segmenter_module, "CHUNK_PIXELS", chunk_pixels)
    segmenter = build(encoder, threshold=threshold, logit_scale=3.0)
    inputs = sample(41, 70)
    labels, expected = segmenter([inputs])[0]["sem_seg"], plainly(segmenter, inputs)
    assert (labels == expected).double().mean() > 0.999
    assert (expected == VOCABULARY.background).any() == (threshold > 0) or threshold == 0


def test_images_of_a_batch_do_not_influence_one_another(encoder):
    segmenter = build(encoder)
    inputs = [sample(41, 70, 1), sample(48, 33, 2), sample(41, 70, 3)]
    together = segmenter(inputs)
    for output, each in zip(together, inputs, strict=True):
        alone = segmenter([each])[0]["sem_seg"]
        assert output["sem_seg"].shape == (each["height"], each["width"])
        assert (output["sem_seg"] == alone).double().mean() > 0.999


def test_context_types_are_compared_together_as_they_are_alone(encoder):
    segmenter, inputs = build(encoder, threshold=0.1), [sample(41, 70), sample(48, 33)]
    contexts = (ContextType.VANILLA, ContextType.MASKCLIP, ContextType.QK)
    together = segmenter.by_context(inputs, contexts)
    assert tuple(together) == contexts
    torch.testing.assert_close(together[ContextType.QK], segmenter(inputs))
    for context in contexts:
        alone = ZeroShotSegmenter(
            build_as(encoder, context), segmenter.embeddings, VOCABULARY, segmenter.protocol, windows_at_once=3
        )
        for output, expected in zip(together[context], alone(inputs), strict=True):
            assert (output["sem_seg"] == expected["sem_seg"]).double().mean() > 0.999


def build_as(encoder, context):
    other = build_encoder("nano", "random", context=context.value).eval()
    other.load_state_dict(encoder.state_dict())
    return other


def test_synonyms_belong_to_their_class():
    assert VOCABULARY.names[:3] == ["red ring", "scarlet ring", "grass"]
    assert VOCABULARY.owners == [0, 0, 1, 2, 3, 3] and VOCABULARY.background == 2
    assert Vocabulary.of(["grass"]).background is None


def test_one_stitched_window_is_the_whole_image(encoder):
    inputs = [sample(41, 70), sample(48, 33)]
    plain = build(encoder, window=0, threshold=0.1)(inputs)
    stitched = build(encoder, window=0, threshold=0.1, stitch=True)(inputs)
    for one, other in zip(plain, stitched, strict=True):
        assert (one["sem_seg"] == other["sem_seg"]).double().mean() > 0.999


def test_stitched_windows_give_labels_of_every_image_under_every_context(encoder):
    inputs, contexts = [sample(41, 70), sample(48, 33), sample(41, 70, 3)], (ContextType.QK, ContextType.VANILLA)
    together = build(encoder, stitch=True).by_context(inputs, contexts)
    for context in contexts:
        for output, each in zip(together[context], inputs, strict=True):
            alone = build(encoder, stitch=True).by_context([each], (context,))[context][0]["sem_seg"]
            assert output["sem_seg"].shape == (each["height"], each["width"])
            assert (output["sem_seg"] == alone).double().mean() > 0.999
    assert not torch.equal(together[contexts[0]][0]["sem_seg"], build(encoder)(inputs)[0]["sem_seg"])


SIZES = [(480, 640), (1, 1), (2000, 1), (1, 2000), (37, 500), (3, 40_000), (3000, 4000), (1000, 20_000)]


@pytest.mark.parametrize("settings", [{}, {"window": 0}, {"short_side": 0}, {"short_side": 0, "window": 0}])
@pytest.mark.parametrize("size", SIZES)
def test_what_the_model_sees_is_bounded_whatever_the_image(encoder, size, settings):
    protocol = Protocol(**settings)
    sample = build(encoder, **protocol.__dict__).mapper.resize(np.zeros((*size, 3), np.uint8))
    assert (sample["height"], sample["width"]) == size
    height, width = sample["image"].shape[1:]
    patches = -(-height // encoder.patch_size) * -(-width // encoder.patch_size)
    most = 2**15 if protocol.window else 2**13
    most = 8 * (protocol.short_side // encoder.patch_size) ** 2 if protocol.short_side else most
    assert patches <= 1.05 * most
    assert max(height, width) <= 8 * (protocol.short_side or encoder.patch_size * 2**7.5)
    if size == (480, 640):
        assert (height, width) == ((448, 597) if protocol.short_side else size)


def test_what_a_segmenter_keeps_is_where_its_embeddings_are(encoder):
    embeddings = torch.empty(len(VOCABULARY.names), encoder.embed_dim, device="meta")
    segmenter = ZeroShotSegmenter(encoder, embeddings, VOCABULARY, Protocol())
    assert {name: kept.device.type for name, kept in segmenter.named_buffers(recurse=False)} == {
        "embeddings": "meta",
        "owners": "meta",
    }
