"""What F-ViT adds to DeCLIP: the training of its detector."""

from declip.plugins import Plugin


def _training():
    from fvit.trainer import TRAINING

    return TRAINING


PLUGIN = Plugin(trainings={"FViT": _training})
