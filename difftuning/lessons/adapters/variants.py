"""The adapters that lesson 07 shows, as in the study, and denoisers with them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

from ...models.adapters.apply import apply_adapter
from ...studies.methods import ADAPTED

if TYPE_CHECKING:
    from ...models.adapters.options import Adapter
    from ...models.dit import DiT

FULL = "all weights"
SHOWN: dict[str, Adapter | None] = {
    name: None if name == FULL else ADAPTED[name].adapter
    for name in (FULL, "BitFit", "LoRA, rank 8", "DiffFit", "AdaptFormer, sequential", "AdaptFormer, parallel", "VPT-Deep")
}


def adapted(build: Callable[[], DiT]) -> dict[str, DiT]:
    """A denoiser with each of `SHOWN` on it."""
    return {name: with_adapter(build(), name) for name in SHOWN}


def with_adapter(denoiser: DiT, name: str) -> DiT:
    """The denoiser with one of `SHOWN` on it, what is trained by it requiring a gradient."""
    adapter = SHOWN[name]
    return denoiser.requires_grad_(True) if adapter is None else apply_adapter(denoiser, adapter)
