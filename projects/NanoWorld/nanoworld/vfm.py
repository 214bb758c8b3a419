"""nano-VFM: a vision transformer of timm's, small enough to train on a laptop, without text or labels."""

from timm.models.vision_transformer import VisionTransformer

from d2host.engine.checkpoint_file import describe_mismatch
from d2host.engine.errors import CheckpointError
from declip.weights.files import read_state_dict
from nanoworld.weights import shipped_weights

VFM_NAME = "nano-vfm"


def create_nano_vfm(weights: str = "") -> VisionTransformer:
    """nano-VFM: 128-px images, 8-px patches, 6 blocks of width 96.

    timm's ``jax`` initialisation lets blocks weigh as much as the patch embedding from the start; under the default, a
    training of minutes leaves features that hardly tell more than the colours of a patch.

    Args:
        weights: ``nano-vfm`` (shipped) or a file's path; empty: random.

    Raises:
        CheckpointError: the file is missing or of another model.
    """
    model = VisionTransformer(
        img_size=128,
        patch_size=8,
        embed_dim=96,
        depth=6,
        num_heads=3,
        num_classes=0,
        dynamic_img_size=True,
        weight_init="jax",
    )
    model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    if weights:
        state = read_state_dict(shipped_weights(weights) or weights)
        differences = describe_mismatch(model.state_dict(), state)
        if differences:
            raise CheckpointError(f"{weights} is not of teacher '{VFM_NAME}': {differences}")
        model.load_state_dict(state)
    return model
