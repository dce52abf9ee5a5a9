"""Diffusion transfer learning by Diff-Tuning (Zhong et al., NeurIPS 2024), to learn, reproduce and use.

Images are (N, 3, H, W) float32 in [-1, 1]; timesteps are 0-based, 0 = least noise; labels
are int64 rows of a model's label table.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for editors; at run time a name's file is imported when it is first used
    from .chain import denoiser_replacement, loss_ratio, zero_shot_denoising
    from .data import Task, list_tasks, load_task
    from .diffusion import Diffusion, hybrid_loss, ideal_denoiser
    from .dit import convert_original_dit
    from .finetuning import DiffTuningConfig, FineTuned, fine_tune, load_fine_tuned
    from .loading import load_pretrained
    from .memory import MemoryBank
    from .metrics import evaluate
    from .pretrained import Pretrained
    from .sampling import sample
    from .schedules import (
        loss_weights,
        min_snr_weight,
        p2_weight,
        reconsolidation_weight,
        retention_weight,
        timestep_distribution,
    )

__version__ = "0.1.0"

_NAMES = {
    "schedules": (
        "retention_weight", "reconsolidation_weight", "timestep_distribution", "loss_weights", "p2_weight", "min_snr_weight",
    ),
    "diffusion": ("Diffusion", "hybrid_loss", "ideal_denoiser"),
    "dit": ("convert_original_dit",),
    "loading": ("load_pretrained",),
    "pretrained": ("Pretrained",),
    "data": ("Task", "load_task", "list_tasks"),
    "memory": ("MemoryBank",),
    "finetuning": ("DiffTuningConfig", "FineTuned", "fine_tune", "load_fine_tuned"),
    "sampling": ("sample",),
    "metrics": ("evaluate",),
    "chain": ("zero_shot_denoising", "denoiser_replacement", "loss_ratio"),
}  # fmt: skip
_FILES = {name: file for file, names in _NAMES.items() for name in names}

__all__ = [*_FILES, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_FILES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
