import time

import open_clip
import pytest
import torch

import declip
from catseg.modeling.meta_arch import CATSeg
from d2host.engine.errors import DataError
from declip.evaluation.zero_shot import Vocabulary
from declip.models.templates import LONGEST_TEXT, Templates, check_texts
from declip.models.zero_shot_classifier import ClassEmbeddings, cached_names, embed_names
from declip.questions import check_class_names


@pytest.fixture(scope="module")
def encoder():
    return declip.build_encoder("nano", "nano-clip").eval()


DOORS = {
    "tokenize": lambda encoder, texts: encoder.tokenize(texts),
    "encode_text": lambda encoder, texts: encoder.encode_text(texts),
    "embed_names": lambda encoder, texts: embed_names(encoder, texts, Templates.NAME),
    "cached_names": lambda encoder, texts: cached_names(encoder, texts, Templates.NAME, None),
    "ClassEmbeddings": lambda encoder, texts: ClassEmbeddings(Templates.NAME)(encoder, texts),
    "Vocabulary": lambda encoder, texts: Vocabulary.of(texts),
    "set_classes": lambda encoder, texts: check_class_names(texts),
    "set_vocabulary": lambda encoder, texts: CATSeg.set_vocabulary(torch.nn.Identity(), texts),
}
NO_TEXTS = {
    "a plain string": "grass",
    "an empty string": "",
    "nothing": [],
    "null": None,
    "a number": 3,
    "one of them empty": ["grass", ""],
    "one of them blank": ["grass", " \t\n"],
    "one of them null": ["grass", None],
    "one of them a number": ["grass", 3],
    "one of them bytes": [b"grass"],
    "one of them a list": [["grass"]],
    "half a character": ["grass", "caf\ud83d"],
    "a hundred kilobytes": ["grass", "x" * 100_000],
    "a hundred kilobytes of words": ["a " * 50_000],
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", NO_TEXTS)
def test_what_is_no_list_of_texts_is_refused_at_every_door(encoder, door, kind):
    with pytest.raises(DataError, match=r"(texts|class names|classes of the vocabulary)\b"):
        DOORS[door](encoder, NO_TEXTS[kind])


ODD = ["🦊", "犬", "naïve café", "{}", "{0}", "{name}", "%s", "$x$", "a" * LONGEST_TEXT, "\x00", "<b>&amp;</b>", "it's"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("texts", [ODD, tuple(ODD), (text for text in ODD)], ids=["list", "tuple", "generator"])
def test_odd_names_are_taken_as_they_are(encoder, door, texts):
    texts = [text for text in list(texts) or ODD if "a" * 1900 not in text or "set" in door]
    result = DOORS[door](encoder, texts)
    if isinstance(result, torch.Tensor):
        assert len(result) == len(texts) and result.isfinite().all()


@pytest.mark.parametrize("templates", list(Templates))
@pytest.mark.parametrize("name", ["{}", "{0}", "{", "}", "{name}", "%s", "\\1"])
def test_templates_put_braces_in_as_they_are(templates, name):
    assert all(name in fill(name) for fill in templates.functions)


@pytest.mark.parametrize("letter", ["x", "ab", "é", "🦊", "1", "a ", "&amp;", "'"])
def test_the_longest_text_is_tokenized_at_once(letter):
    text = (letter * LONGEST_TEXT)[:LONGEST_TEXT]
    start = time.perf_counter()
    assert open_clip.get_tokenizer("ViT-B-16")(check_texts([text])).shape == (1, 77)
    assert time.perf_counter() - start < 2


def test_a_hundred_thousand_names_take_no_squares():
    names = [f"thing {index}" for index in range(100_000)]
    start = time.perf_counter()
    assert len(Vocabulary.of(names).names) == 100_000
    with pytest.raises(DataError, match="100,000 class names, synonyms included, are too many"):
        check_class_names(names)
    assert time.perf_counter() - start < 5


NO_TOKENS = [torch.ones(5, dtype=torch.long), torch.ones(2, 5), torch.ones(0, 24, dtype=torch.long), torch.tensor(3)]


@pytest.mark.parametrize("tokens", NO_TOKENS)
def test_what_is_no_token_ids_is_refused(encoder, tokens):
    with pytest.raises(DataError, match="are no token ids"):
        encoder.encode_text(tokens)


def test_prompts_of_detectors_are_63_sentences_about_the_name():
    prompts = [fill("traffic_light/Lamp.") for fill in Templates.DETECTION.functions]
    assert len({*prompts}) == Templates.DETECTION.num_prompts == 63
    assert all("traffic light or lamp" in prompt and prompt.endswith(".") for prompt in prompts)
    starts = [prompt.split()[0] for prompt in prompts]
    assert (starts.count("There"), starts.count("itap"), starts.count("This")) == (2, 3, 58)


def test_prompts_of_detectors_have_the_article_of_the_name():
    first = Templates.DETECTION.functions[0]
    assert [first(name) for name in ("cat", "Apple")] == [
        "There is a cat in the scene.",
        "There is an apple in the scene.",
    ]
