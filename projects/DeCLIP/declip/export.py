"""Encoders for other programs: open_clip, the Hugging Face hub, torch.export, ONNX.

Shape legend
    B     images                       C  width of the shared image-text space
    h, w  grid of patches              S  side of the images, pixels
"""

import importlib.util
import io
import json
import tempfile
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn

from d2host.engine.atomic import replacing
from d2host.engine.errors import CheckpointError, ConfigError
from d2host.engine.tensors import check_finite
from declip.models.encoder import DenseCLIP
from declip.models.weights import save_encoder

EXPORTED = {"open_clip_model.safetensors", "open_clip_config.json", "README.md"}  # files of an export for open_clip
LONGEST_SIDE = 4096  # pixels of an exported program's images
MOST_IMAGES = 1024  # that an exported program takes at once
TOLERANCE = 1e-3  # of an exported program against the original, relative to the largest feature

CARD = """---
library_name: open_clip
tags: [clip, declip, zero-shot, dense-prediction]
---

# DeCLIP weights of {name}

DeCLIP (CVPR 2025, https://arxiv.org/abs/2505.04410), context type `{context}`, attention scale `{scale}`.

- **Dense features**: `declip.build_encoder("{name}", weights="open_clip_model.safetensors").encode_dense(images)`.
- **open_clip** loads this folder, too (`open_clip.create_model("local-dir:<folder>")`), but runs the last block as CLIP
  has it: image embeddings are those of a fine-tuned CLIP, and its patch tokens are not DeCLIP's dense features.
"""


class DenseProgram(nn.Module):
    """Images in 0..255 in, dense features out: what is exported.

    Args:
        encoder: its context type and attention scale become part of the program.
    """

    def __init__(self, encoder: DenseCLIP) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """B×3×S×S RGB in 0..255 → B×C×h×w, comparable with the text tower's embeddings."""
        return self.encoder.encode_dense(self.encoder.normalize(images)).content


def export_open_clip(encoder: DenseCLIP, folder: str | Path) -> Path:
    """Write a folder that open_clip and the Hugging Face hub understand: weights, configuration, card.

    Nothing is uploaded. An existing folder is replaced only by a whole new one, and only if it is an export.

    Raises:
        ConfigError: open_clip does not know the model.
        CheckpointError: the folder cannot be written, or holds something else.
    """
    folder = Path(folder)
    model_cfg = open_clip.get_model_config(encoder.name)
    if model_cfg is None:
        raise ConfigError(f"open_clip has no model '{encoder.name}' to load the export with: write .pt2 or .onnx")
    if folder.exists() and not (folder.is_dir() and {each.name for each in folder.iterdir()} in (set(), EXPORTED)):
        raise CheckpointError(f"{folder} exists and is no export, or holds more than one: give a new folder")
    preprocess = {
        "mean": encoder.pixel_mean.flatten().tolist(),
        "std": encoder.pixel_std.flatten().tolist(),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "size": [encoder.image_size] * 2,
    }
    facts = {"name": encoder.name, "context": encoder.context.value, "scale": encoder.attention_scale.value}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            export = Path(temporary) / folder.name
            save_encoder(encoder, export / "open_clip_model.safetensors")
            config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
            (export / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            (export / "README.md").write_text(CARD.format(**facts), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(temporary) / "replaced")
            export.rename(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} could not be written ({error}): free space or choose another path") from error
    return folder


def export_program(module: nn.Module, side: int, path: str | Path, dynamic_batch: bool = True) -> float:
    """Write a module of images B×3×S×S as a ``torch.export`` program (``.pt2``) or as ONNX (``.onnx``).

    The side is fixed. The program is run on other images and compared with the module.

    Args:
        module: in evaluation mode; it maps B×3×S×S in 0..255 to one tensor.
        side: S.
        path: its suffix chooses the format.
        dynamic_batch: whether the batch size stays free; otherwise it is 1.

    Returns:
        Largest difference between program and module, relative to the largest output.

    Raises:
        ConfigError: the suffix is unknown, the side impossible, or ONNX is not installed.
        CheckpointError: the model's output is not finite or the program's differs, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".pt2", ".onnx"):
        raise ConfigError(f"{path} is neither a .pt2 (torch.export) nor an .onnx file: choose one of the suffixes")
    if not 0 < side <= LONGEST_SIDE:
        raise ConfigError(f"images of {side} pixels cannot be exported for: give a side from 1 to {LONGEST_SIDE}")
    if path.suffix == ".onnx":
        missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(f'ONNX needs packages ({", ".join(missing)} missing): pip install -e ".[onnx]"')
    module = module.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    counts = (2, 3) if dynamic_batch else (1, 1)
    example, probe = (torch.rand(count, 3, side, side, generator=generator) * 255 for count in counts)
    shapes = ({0: torch.export.Dim("batch", min=1, max=MOST_IMAGES)},) if dynamic_batch else None
    with torch.no_grad():
        expected = module(probe)  # before tracing, so that what the module keeps for later calls is real
        check_finite(expected / expected.abs().max(), "what the model makes of an image")
        program = torch.export.export(module, (example,), dynamic_shapes=shapes)
    try:
        with replacing(path) as temporary:
            if path.suffix == ".pt2":
                content = io.BytesIO()  # where the disk is full, torch's own writer of files aborts the process
                torch.export.save(program, content)
                temporary.write_bytes(content.getbuffer())
                output = torch.export.load(temporary).module()(probe)
            else:
                output = _write_onnx(program, example, probe, temporary)
            difference = ((output - expected).abs().max() / expected.abs().max()).item()
            if not difference <= TOLERANCE:
                raise CheckpointError(f"the exported program differs from the model by {difference:.1e}: not written")
    except OSError as error:
        raise CheckpointError(f"{path} could not be written ({error}): free space or choose another path") from error
    return difference


def _write_onnx(program: torch.export.ExportedProgram, example: Tensor, probe: Tensor, path: Path) -> Tensor:
    """Write ONNX, weights within, and run it on ``probe``."""
    import onnxruntime

    options = {"dynamo": True, "external_data": False, "input_names": ["images"], "output_names": ["output"]}
    torch.onnx.export(program, (example,), str(path), verbose=False, **options)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": probe.numpy()})[0])
