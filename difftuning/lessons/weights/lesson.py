"""Everything that lesson 04 imports, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...config import DiffTuningConfig
from ...data.tasks import load_source, load_task, spread_evenly
from ...evaluation.chain_of_forgetting import chain_tenths
from ...support.options import require_choice
from ...support.world import data_folder
from ...training.label_rows import add_rows, choose_rows
from ...training.memory_bank import MemoryBank
from ...training.streams import training_streams
from ..explorers import explore, precompute
from ..filmstrip import filmstrip
from ..knob_figures import knob_figure
from ..parts import ratio, read_parts, runs_in_words
from ..parts_figures import loss_figure, samples_figure, score_figure
from ..parts_words import compared_with, margin_in_words, where_sets_differ
from ..predictions import predict
from .answers import (
    answer_in_words,
    behind_the_losses,
    heavier_along_the_chain,
    heavier_in_words,
    losses_in_words,
    picked_or_multiplied,
    recap_in_words,
    swapped_in_words,
    tau_in_words,
)
from .balance import balance
from .dashboard import weights_explorer
from .figures import chain_figure, length_curves, picks_figure, weightings_figure
from .gradient_noise import moment_ratio, squared_lengths
from .schedules import known_share, picks_by_known_share, scaled_schedule, strip

if TYPE_CHECKING:
    from ...data.tasks import Task
    from ...models.pretrained import Pretrained

__all__ = [
    "answer_in_words", "balance", "behind_the_losses", "chain_figure", "compared_with", "explore", "filmstrip", "first_picture",
    "gradient_lengths", "heavier_along_the_chain", "heavier_in_words", "knob_figure", "known_share", "length_curves", "load_source",
    "loss_figure", "losses_in_words", "margin_in_words", "moment_ratio", "picked_or_multiplied", "picks_by_known_share", "picks_figure",
    "precompute", "predict", "ratio", "read_parts", "recap_in_words", "runs_in_words", "samples_figure", "scaled_schedule", "score_figure",
    "spread_evenly", "strip", "swapped_in_words", "tau_in_words", "weightings_figure", "weights_explorer",
    "where_sets_differ",
]  # fmt: skip


def first_picture(task: Task, class_name: str) -> Tensor:
    """The first picture of a class; (3, H, W)."""
    require_choice("class", class_name, task.class_names)
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
