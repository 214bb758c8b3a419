import json
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2host.engine.errors import CheckpointError, ConfigError
from d2host.engine.precision import Precision
from declip.teachers.diffusion import DiffusionOptions, load_diffusion
from declip.teachers.diffusion.loading import EXTRA
from tests.tiny_diffusion import save_pixel_diffusion, save_tiny_diffusion, tiny_unet, tiny_vae


@pytest.fixture
def folder(tmp_path):
    return save_tiny_diffusion(tmp_path / "tiny")


def image_of(model, grid=(2, 3)):
    return torch.randint(0, 256, (3, grid[0] * model.pixels, grid[1] * model.pixels)).float()


def test_a_folder_is_loaded_with_its_weights_prompt_and_noise(folder):
    model = load_diffusion(str(folder))
    for part, module in (("unet", model.unet), ("vae", model.vae)):
        state = load_file(folder / part / "diffusion_pytorch_model.safetensors")
        own = module.state_dict()
        assert own.keys() <= state.keys() and all(torch.equal(own[name], state[name]) for name in own)
    assert torch.equal(model.prompt[0], load_file(folder / "empty_prompt.safetensors")["embedding"])
    assert int(model.timestep) == 81  # entry 45 of the 50 of DDIM, whatever sampler the folder names
    image = image_of(model)
    assert torch.equal(model(image, (2, 3), "a"), load_diffusion(str(folder))(image, (2, 3), "a"))
    assert model(image, (2, 3), "a").shape == (6, 6)


def test_precision_and_options_are_those_asked_for(folder):
    model = load_diffusion(str(folder), precision=Precision.BF16, options=DiffusionOptions(cells=4, timestep=10))
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}
    assert (model.pixels, int(model.timestep)) == (8, 781)


def test_random_weights_need_configs_alone(folder):
    for file in [*folder.glob("*/*.safetensors"), folder / "empty_prompt.safetensors"]:
        file.unlink()
    with pytest.raises(CheckpointError, match=r"unet of diffusion model .* cannot be loaded"):
        load_diffusion(str(folder))
    assert load_diffusion(str(folder), "random").prompt.shape == (1, 77, 6)


def test_a_model_of_pixels_has_no_vae(tmp_path):
    model = load_diffusion(str(save_pixel_diffusion(tmp_path)), options=DiffusionOptions(cells=4))
    assert (model.vae, model.prompt, model.pixels) == (None, None, 4)


@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_the_empty_prompt_is_that_of_the_models_own_text_encoder(folder):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    (folder / "empty_prompt.safetensors").unlink()
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=7)
    tokenizer.save_pretrained(folder / "tokenizer")
    config = {"vocab_size": 3, "hidden_size": 6, "intermediate_size": 8, "num_hidden_layers": 1}
    encoder = CLIPTextModel(CLIPTextConfig(num_attention_heads=2, max_position_embeddings=7, eos_token_id=1, **config))
    encoder.eval().save_pretrained(folder / "text_encoder")
    prompt = load_diffusion(str(folder)).prompt
    with torch.no_grad():
        torch.testing.assert_close(prompt, encoder(torch.tensor([[0, 1, 1, 1, 1, 1, 1]]))[0])


def test_the_extra_is_named_where_packages_are_missing(folder, monkeypatch):
    monkeypatch.setattr("declip.teachers.diffusion.loading.find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"needs packages \(diffusers missing\): pip install -e .\.\[diffusion\]"):
        load_diffusion(str(folder))
    present = lambda package: None if package == "transformers" else object()  # noqa: E731
    monkeypatch.setattr("declip.teachers.diffusion.loading.find_spec", present)
    (folder / "empty_prompt.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"the empty prompt of .* needs packages .transformers missing") as caught:
        load_diffusion(str(folder))
    assert str(caught.value).endswith(EXTRA)


def damaged(folder):
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")


def another_unet(folder):
    state = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    del state["conv_in.weight"]
    save_file(state, folder / "unet/diffusion_pytorch_model.safetensors", metadata={"format": "pt"})


def another_class(folder):
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps({**config, "_class_name": "UNet1DModel"}))


def another_prompt(folder):
    save_file({"embedding": torch.randn(5, 7)}, folder / "empty_prompt.safetensors")


def no_scheduler(folder):
    (folder / "scheduler/scheduler_config.json").unlink()


REFUSED = {
    "damaged weights": (damaged, CheckpointError, "unet of diffusion model .* cannot be loaded"),
    "weights are missing": (another_unet, CheckpointError, "unet of .* does not fit its config.json .1 missing keys"),
    "class of the UNet": (another_class, ConfigError, "has a UNet of class UNet1DModel: known are UNet2DModel, "),
    "width of the prompt": (another_prompt, ConfigError, r"has shape \(5, 7\), but its UNet takes L×6"),
    "no scheduler": (no_scheduler, ConfigError, "scheduler of diffusion model .* cannot be had"),
    "another VAE": (
        lambda folder: tiny_vae(3).save_pretrained(folder / "vae"),
        ConfigError,
        "its VAE gives 3 channels: take both from one model",
    ),
    "no attention": (
        lambda folder: tiny_unet(up_block_types=("UpBlock2D",) * 2).save_pretrained(folder / "unet"),
        ConfigError,
        "has no self-attention on its way up",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_serve_is_refused(case, folder):
    change, kind, sentence = REFUSED[case]
    change(folder)
    with pytest.raises(kind, match=sentence):
        load_diffusion(str(folder))


@pytest.mark.parametrize("name", ["gone", "/gone/away", "a/b/c"])
def test_names_of_nothing_are_refused(name):
    with pytest.raises(ConfigError, match=f"diffusion model '{name}' is unknown: give a folder, owner/name on the hub"):
        load_diffusion(name)
