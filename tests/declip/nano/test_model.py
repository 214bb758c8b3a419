import torch

import declip
from declip.nano.model import CONTEXT_LENGTH, nano_tokenizer


def test_the_tokenizer_knows_every_class_word_spells_others_and_marks_start_and_end():
    tokenizer = nano_tokenizer()
    tokens = tokenizer(["A photo of a red circle in the scene", "zebra"])
    assert tokens.shape == (2, CONTEXT_LENGTH)
    assert tokens[0, 0] == 1 and tokens[0].max() == tokenizer.end and (tokens[0] > 0).sum() == 11
    assert tokens[1].tolist()[:7] == [1, *(tokenizer.ids[letter] for letter in "zebra"), tokenizer.end]


def test_long_texts_keep_their_end():
    tokens = nano_tokenizer()(["red " * 40])
    assert tokens[0, -1] == nano_tokenizer().end


def test_the_model_is_small_and_runs_on_both_sides():
    encoder = declip.build_encoder("nano")
    assert sum(parameter.numel() for parameter in encoder.parameters()) < 4e6
    assert (encoder.image_size, encoder.patch_size, encoder.num_blocks, encoder.embed_dim) == (128, 8, 6, 128)
    assert encoder.encode_text(["a red circle"]).shape == encoder.encode_image(torch.zeros(1, 3, 128, 128)).shape
