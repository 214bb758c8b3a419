"""Mixed precision on CUDA and CPU."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # configs name precisions, and are read without torch
    import torch


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
