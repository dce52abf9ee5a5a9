"""Diffusion transfer learning by Diff-Tuning (Zhong et al., NeurIPS 2024), to learn, reproduce and use.

Images are (N, 3, H, W) float32 in [-1, 1]; timesteps are 0-based, 0 = least noise; labels
are int64 rows of a model's label table.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for editors; at run time a name's file is imported when it is first used
    from .config import ControlNetConfig, DiffTuningConfig
    from .data.conditions import annotate
    from .data.tasks import Task, list_tasks, load_task
    from .diffusion.ideal import ideal_denoiser
    from .diffusion.losses import hybrid_loss
    from .diffusion.process import Diffusion
    from .diffusion.timestep_weights import (
        loss_weights,
        min_snr_weight,
        p2_weight,
        reconsolidation_weight,
        retention_weight,
        timestep_distribution,
    )
    from .evaluation.agreement import condition_agreement, sudden_convergence_step
    from .evaluation.chain_of_forgetting import denoiser_replacement, loss_ratio, zero_shot_denoising
    from .evaluation.metrics import evaluate
    from .evaluation.transferability import transferability
    from .models.adapters.apply import apply_adapter, merge_adapter, parameter_share
    from .models.conversion import convert_original_dit
    from .models.load_controlnet import load_controlnet
    from .models.loading import load_adapter, load_pretrained
    from .models.pretrained import Pretrained
    from .sampling import sample, sample_controlnet
    from .training.controlnet import fine_tune_controlnet
    from .training.early_stopping import EarlyStopping
    from .training.fine_tune import fine_tune
    from .training.fine_tuned import FineTuned, load_fine_tuned
    from .training.memory_bank import MemoryBank

__version__ = "0.1.0"

_NAMES = {
    "config": ("ControlNetConfig", "DiffTuningConfig"),
    "diffusion.timestep_weights": (
        "retention_weight", "reconsolidation_weight", "timestep_distribution", "loss_weights", "p2_weight", "min_snr_weight",
    ),
    "diffusion.process": ("Diffusion",),
    "diffusion.losses": ("hybrid_loss",),
    "diffusion.ideal": ("ideal_denoiser",),
    "data.tasks": ("Task", "load_task", "list_tasks"),
    "data.conditions": ("annotate",),
    "models.conversion": ("convert_original_dit",),
    "models.adapters.apply": ("apply_adapter", "merge_adapter", "parameter_share"),
    "models.load_controlnet": ("load_controlnet",),
    "models.loading": ("load_adapter", "load_pretrained"),
    "models.pretrained": ("Pretrained",),
    "sampling": ("sample", "sample_controlnet"),
    "training.memory_bank": ("MemoryBank",),
    "training.fine_tune": ("fine_tune",),
    "training.controlnet": ("fine_tune_controlnet",),
    "training.early_stopping": ("EarlyStopping",),
    "training.fine_tuned": ("FineTuned", "load_fine_tuned"),
    "evaluation.metrics": ("evaluate",),
    "evaluation.transferability": ("transferability",),
    "evaluation.chain_of_forgetting": ("zero_shot_denoising", "denoiser_replacement", "loss_ratio"),
    "evaluation.agreement": ("condition_agreement", "sudden_convergence_step"),
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
