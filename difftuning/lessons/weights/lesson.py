"""Everything that lesson 04 imports, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...config import DiffTuningConfig
from ...data.tasks import load_source, load_task, spread_evenly
from ...evaluation.chain_of_forgetting import chain_tenths
from ...support.world import data_folder
from ...training.fine_tune import training_streams
from ...training.label_rows import add_rows, choose_rows
from ...training.memory_bank import MemoryBank
from ..exercises import grade
from ..explorers import explore, precompute
from ..filmstrip import filmstrip
from ..parts import loss_figure, ratio, read_parts, score, score_figure
from ..predictions import predict
from .balance import balance, two_families
from .dashboard import weights_explorer
from .figures import chain_figure, draws_figure, length_curves, weight_curves, weightings_figure
from .gradient_noise import moment_ratio, squared_lengths
from .schedules import draws_by_known_share, known_share, scaled_schedule, strip

if TYPE_CHECKING:
    from ...data.tasks import Task
    from ...models.pretrained import Pretrained
    from ..parts import Parts

__all__ = [
    "balance", "chain_figure", "draws_by_known_share", "draws_figure", "explore", "filmstrip", "first_picture", "grade",
    "gradient_lengths", "known_share", "length_curves", "load_source", "loss_figure", "moment_ratio", "precompute", "predict", "ratio",
    "read_parts", "scaled_schedule", "score", "score_figure", "spread_evenly", "strip", "swapped_in_words", "two_families",
    "weight_curves", "weightings_figure", "weights_explorer",
]  # fmt: skip

SWAPPED = ("better than Diff-Tuning's", "between the two", "about the same as plain fine-tuning's", "worse than plain fine-tuning's")
ALIKE = 0.05  # a score this near to plain's is about the same


def swapped_in_words(parts: Parts) -> str:
    """Which of `SWAPPED` the scores say about the swapped curves: the geometric mean over both tasks, against plain fine-tuning."""

    def against_plain(method: str) -> float:
        gaps = [np.log(score(parts, task, method).mean / score(parts, task, "plain").mean) for task in parts.scores.task.unique()]
        return float(np.mean(gaps))

    swapped, ours = against_plain("weightings swapped"), against_plain("Diff-Tuning")
    if abs(swapped) < ALIKE:
        return SWAPPED[2]
    return SWAPPED[3] if swapped > 0 else SWAPPED[1] if swapped > ours else SWAPPED[0]


def first_picture(task: Task, class_name: str) -> Tensor:
    """The first picture of a class; (3, H, W)."""
    if class_name not in task.class_names:
        raise ValueError(f"the source has no class {class_name!r}, but {', '.join(task.class_names[:8])}, ...")
    return task.read([int((task.labels == task.class_names.index(class_name)).nonzero()[0])])[0]


def gradient_lengths(pretrained: Pretrained, task_name: str, *, each: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """The middle of each tenth of the chain (10,), and squared gradient lengths (10, n) of single "target" and "bank" pictures there.

    The model is as fine-tuning begins: pre-trained, with fresh label rows for the task.
    """
    task, bank = load_task(task_name), MemoryBank.load(data_folder() / "bank")
    rows = choose_rows(pretrained, len(task.class_names))
    denoiser = pretrained.copy_denoiser()
    add_rows(denoiser, pretrained, rows, seed)
    tenths = chain_tenths(pretrained.diffusion.num_timesteps)  # four timesteps in each
    lengths = {}
    for stream in training_streams(pretrained, task, bank, DiffTuningConfig(steps=1, seed=seed), rows, (26, 6)):
        found = squared_lengths(denoiser, stream.x_0, stream.labels, tenths.flatten(), pretrained.diffusion, each=each, seed=seed)
        lengths[stream.name] = found.reshape(10, -1)
    return tenths.to(torch.float32).mean(1), lengths
