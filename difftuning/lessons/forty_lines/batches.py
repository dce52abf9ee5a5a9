"""The pictures and the random numbers of `fine_tune`, for a loop that somebody else writes.

A stream of the library has a generator of its own for every step: from it come first t, then the noise, then which labels are
dropped.  Whoever takes the same pictures and asks the same generator in this order has the library's batch, bit for bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, NamedTuple

import torch
from torch import Tensor

from ...config import DiffTuningConfig
from ...data.tasks import Task
from ...models.pretrained import Pretrained
from ...support.random import seeded_generator
from ...training.label_rows import choose_rows
from ...training.memory_bank import MemoryBank
from ...training.streams import split_batch, training_streams


class Batch(NamedTuple):
    """Pictures as they lie in their set: nothing is noised, no label is dropped or replaced."""

    x_0: Tensor  # (n, C, h, w), latents
    labels: Tensor  # int64 (n,), each picture's own row of the label table
    generator: torch.Generator  # for t, then the noise, then which labels are dropped


def library_batches(pretrained: Pretrained, task: Task, bank: MemoryBank, config: DiffTuningConfig) -> Iterator[tuple[Batch, Batch]]:
    """The target's and the bank's batch of every step of `fine_tune(pretrained, task, bank, config)`."""
    rows = choose_rows(pretrained, len(task.class_names), config.label_rows)
    target, retained = training_streams(pretrained, task, bank, config, rows, split_batch(config, bank))
    own = [replace(target, label_drop=0.0), replace(retained, labels=bank.labels, label_drop=0.0)]
    for step in range(config.steps):
        draws = [stream.draw(config.seed, step) for stream in own]
        target_batch, bank_batch = (
            Batch(draw.x_0, draw.labels, seeded_generator(config.seed, stream.name, step)) for stream, draw in zip(own, draws)
        )
        yield target_batch, bank_batch
