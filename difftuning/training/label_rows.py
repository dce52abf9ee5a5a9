"""Which rows of a label table a task's classes take, how new rows begin, and what they are called."""

from __future__ import annotations

import itertools
import warnings
from typing import Literal

import torch
from torch import Tensor

from ..config import DiffTuningConfig
from ..data.tasks import Task
from ..models.dit import DiT
from ..models.pretrained import Pretrained
from ..support.names import one_form
from ..support.random import seeded_generator
from .memory_bank import MemoryBank

NEW_ROW_NOISE = 0.1  # of the label table's own spread


def choose_rows(pretrained: Pretrained, num_classes: int, choice: Literal["auto", "free", "first"] = "auto") -> Tensor:
    """Rows of the label table for a task's classes; int64 (K,).

    "free": rows that no class has yet; "first": rows 0..K-1, as the published code does;
    "auto": free where they suffice, else first.  All are the null row where there is no table.
    """
    if pretrained.denoiser.label_table is None:  # it hears something else than labels
        return torch.full((num_classes,), pretrained.null_label)
    free = pretrained.null_label - pretrained.first_free_label
    room, fix = (free, "free ones: use label_rows='first'") if choice == "free" else (pretrained.null_label, "in all")
    if num_classes > room:
        raise ValueError(f"{num_classes} classes need as many label rows, {pretrained.name} has {room} {fix}")
    use_free = choice == "free" or (choice == "auto" and num_classes <= free)
    return torch.arange(num_classes) + (pretrained.first_free_label if use_free else 0)


@torch.no_grad()
def add_rows(denoiser: DiT, pretrained: Pretrained, rows: Tensor, seed: int) -> None:
    """Start new label rows as the null row plus a little noise; rows that have a class keep theirs; some denoisers have no table."""
    table = denoiser.label_table
    if table is None:
        return
    new = rows[rows >= pretrained.first_free_label].to(table.device)
    spread = pretrained.denoiser.label_table[: max(pretrained.first_free_label, 2)].std()
    noise = torch.randn(len(new), table.shape[1], generator=seeded_generator(seed, "new label rows", len(new)))
    table[new] = table[pretrained.null_label] + NEW_ROW_NOISE * spread * noise.to(table)


def require_open_rows(bank: MemoryBank | None, config: DiffTuningConfig, rows: Tensor) -> None:
    """ValueError where bank pictures keep labels whose rows the task's classes, `rows`, take."""
    if bank is not None and bank.prompts is None and config.bank_labels == "own" and bool(torch.isin(bank.labels, rows).any()):
        raise ValueError("bank_labels='own' needs the source's label rows, but the task takes them: use label_rows='free'")


def extended_names(pretrained: Pretrained, task: Task, rows: Tensor) -> tuple[list[str], int]:
    """The tuned model's label names, each at its row and no two alike, and its first free row; a warning where a class of the task must be called otherwise."""
    if pretrained.denoiser.label_table is None:
        return pretrained.label_names, pretrained.first_free_label
    first, last = int(rows[0]), int(rows[-1]) + 1
    unnamed = [f"row {row}" for row in range(len(pretrained.label_names), first)]  # a name stands at its row
    before, after = [*pretrained.label_names[:first], *unnamed], pretrained.label_names[last:]
    names, taken = [], {one_form(name) for name in [*before, *after]}
    for name in task.class_names:
        # Labels are looked up by name: one that the source has, too, gets the task's name to it.
        versions = itertools.chain([name, f"{name} ({task.name})"], (f"{name} ({task.name} {n})" for n in itertools.count(2)))
        names.append(next(version for version in versions if version not in taken))
        taken.add(names[-1])
    if renamed := [(own, name) for own, name in zip(task.class_names, names) if own != name]:
        (own, name), more = renamed[0], f" (and {len(renamed) - 1} more)" if len(renamed) > 1 else ""
        warnings.warn(f"the model has a class {own!r} already, so that of {task.name} is called {name!r}{more}", stacklevel=4)
    return [*before, *names, *after], max(pretrained.first_free_label, last)


@torch.no_grad()
def free_rows_as_null(denoiser: DiT, first_free_label: int) -> DiT:
    """Rows that no class has act like "no label", so that a task's labels mean something before tuning, too."""
    table = denoiser.label_table
    table[first_free_label:] = table[-1].clone()
    return denoiser
