"""fvcore's checkpointers, reading tensors only."""

from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer
from torch import nn

from d2host.embedded import comm
from d2host.engine.tensors import check_state_dict, load_pickled

__all__ = ["DetectionCheckpointer", "PeriodicCheckpointer"]


class DetectionCheckpointer(Checkpointer):
    """Saves on process 0 only; loads without running code from the file.

    Args:
        model: what is saved and loaded.
        save_dir: directory of the checkpoints.
        save_to_disk: default: only on process 0.
        checkpointables: further objects with ``state_dict`` and ``load_state_dict``.
    """

    def __init__(self, model: nn.Module, save_dir: str = "", *, save_to_disk: bool | None = None, **checkpointables):
        save_to_disk = comm.is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)

    def _load_file(self, filename: str) -> dict:
        loaded = load_pickled(self.path_manager.get_local_path(filename))
        content = loaded if isinstance(loaded, dict) and "model" in loaded else {"model": loaded}
        return {**content, "model": check_state_dict(content["model"], filename, self.model.state_dict())}
