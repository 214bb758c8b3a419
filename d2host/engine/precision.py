"""Mixed precision on CUDA and CPU, and which precision suits a processor.

In bf16 the same matrix products take a tenth or half of the time on one processor, and longer than in fp32 on another
that has no instructions for them. So ``auto`` asks the processor, and what it chose is logged and stays with the run.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # configs name precisions, and are read without torch
    import torch

    from d2host import CfgNode

AUTO = "auto"
BF16_INSTRUCTIONS = frozenset({"amx_bf16", "amx_tile", "avx512_bf16"})  # of CPUs, as torch names them


class Precision(str, Enum):
    """What matrix products run in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"

    @property
    def dtype(self) -> torch.dtype:
        """The torch type.

        >>> Precision("bf16").dtype
        torch.bfloat16
        """
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.value]

    def autocast(self, device: torch.device | str) -> torch.autocast:
        """The context to compute in on ``device``; does nothing for fp32."""
        import torch

        return torch.autocast(torch.device(device).type, dtype=self.dtype, enabled=self is not Precision.FP32)

    def grad_scaler(self, device: torch.device | str) -> torch.amp.GradScaler:
        """A loss scaler, active for fp16 only (bf16 has the exponent range of fp32)."""
        import torch

        return torch.amp.GradScaler(torch.device(device).type, enabled=self is Precision.FP16)


def processor_features(device: torch.device | str) -> frozenset[str]:
    """What a processor has, by name: a CPU's instructions as torch finds them, of a GPU ``bf16`` or nothing."""
    import torch

    device = torch.device(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            return frozenset({"bf16"} if torch.cuda.is_bf16_supported(including_emulation=False) else ())
    if hasattr(torch.cpu, "get_capabilities"):
        return frozenset(name for name, there in torch.cpu.get_capabilities().items() if there is True)
    there = {"amx_tile": torch.cpu._is_amx_tile_supported(), "avx512_bf16": torch.cpu._is_avx512_bf16_supported()}
    return frozenset(name for name, found in there.items() if found)  # torch before 2.11


def fast_precisions(device: torch.device | str, features: Collection[str] | None = None) -> tuple[Precision, ...]:
    """The precisions in which a processor multiplies matrices at least as fast as in any wider one, the best first.

    Args:
        device: ``cuda`` in all its forms is a GPU, ``cpu`` a CPU; of any other nothing is known but fp32.
        features: of the processor; None: those of this machine.

    >>> fast_precisions("cpu", {"avx2"}), fast_precisions("cpu", {"avx2", "avx512_bf16"})[0]
    ((<Precision.FP32: 'fp32'>,), <Precision.BF16: 'bf16'>)
    """
    kind = str(device).partition(":")[0]
    features = processor_features(device) if features is None and kind in ("cpu", "cuda") else features or ()
    if kind == "cuda":
        return (*((Precision.BF16,) if "bf16" in features else ()), Precision.FP16, Precision.FP32)
    return (Precision.BF16, Precision.FP32) if BF16_INSTRUCTIONS & {*features} else (Precision.FP32,)


def choose_precision(wanted: str, device: torch.device | str, features: Collection[str] | None = None) -> Precision:
    """The precision that is wanted, or, of ``auto``, the best for the processor; what it means here is logged.

    A precision that the processor has no instructions for is as exact as on any other, and slower: it is used, with a
    warning.

    Args:
        wanted: ``auto`` or a value of :class:`Precision`.
        device, features: see :func:`fast_precisions`.

    >>> choose_precision("auto", "cuda", features={"bf16"})
    <Precision.BF16: 'bf16'>
    """
    logger, fast = logging.getLogger(__name__), fast_precisions(device, features)
    if wanted == AUTO:
        others = "the fastest here" if fast[0] is not Precision.FP32 else "no narrower one is faster here"
        logger.info("Precision %s, %s", fast[0].value, others)
        return fast[0]
    precision = Precision(wanted)
    if precision not in fast:
        logger.warning(
            "This processor (%s) has no instructions for matrix products in %s, which therefore take longer than in "
            "%s: say %s or auto, unless you compare precisions",
            *(device, precision.value, fast[0].value, fast[0].value),
        )
    return precision


def amp_precision(amp: CfgNode, device: torch.device | str) -> Precision:
    """The precision of a config's ``AMP``: ``ENABLED`` (``auto``: where the processor gains by it) and ``DTYPE``."""
    if amp.ENABLED == AUTO:
        return fast_precisions(device)[0]
    return Precision(amp.DTYPE) if amp.ENABLED else Precision.FP32


def settle_precision(cfg: CfgNode) -> None:
    """Replace ``auto`` in ``SOLVER.AMP`` and ``TEST.AMP`` by what it means to process 0, for all alike, in place."""
    from d2host import comm

    for amp in [cfg[name].AMP for name in ("SOLVER", "TEST") if "AMP" in cfg[name]]:
        wanted = AUTO if amp.ENABLED == AUTO else amp.DTYPE if amp.ENABLED else Precision.FP32.value
        precision = comm.all_gather(choose_precision(wanted, cfg.MODEL.DEVICE))[0]
        amp.ENABLED = precision is not Precision.FP32
        if amp.ENABLED:
            amp.DTYPE = precision.value
