import torch

import declip
from declip.data.class_lists import first_synonym, load_class_list
from nanoworld.model import CONTEXT_LENGTH, nano_tokenizer


def test_the_tokenizer_knows_every_class_word_and_marks_start_and_end():
    tokenizer = nano_tokenizer()
    tokens = tokenizer(["A photo of a red circle in the scene"])
    assert tokens.shape == (1, CONTEXT_LENGTH)
    assert tokens[0, 0] == 1 and tokens[0].max() == tokenizer.end and (tokens[0] > 0).sum() == 11


def test_other_words_are_two_buckets_each_and_stay_apart():
    tokenizer, names = nano_tokenizer(), {first_synonym(name) for name in load_class_list("ade20k_150")}
    assert (tokenizer(["zebra"]) > 0).sum() == 4
    assert len({tuple(row.tolist()) for row in tokenizer(sorted(names))}) == len(names)


def test_long_texts_keep_their_end():
    tokens = nano_tokenizer()(["red " * 40])
    assert tokens[0, -1] == nano_tokenizer().end


def test_the_model_is_small_and_runs_on_both_sides():
    encoder = declip.build_encoder("nano", "random")
    assert sum(parameter.numel() for parameter in encoder.parameters()) < 1.6e6
    assert (encoder.image_size, encoder.patch_size, encoder.num_blocks, encoder.embed_dim) == (128, 8, 6, 128)
    assert encoder.encode_text(["a red circle"]).shape == encoder.encode_image(torch.zeros(1, 3, 128, 128)).shape
