"""Which pictures lesson 10 measures on: held out of the reader's folder, and known to the model before."""

from __future__ import annotations

from torch import Tensor

from ...data.tasks import Task, spread_evenly
from ...evaluation.transferability import held_out_source
from ...models.pretrained import Pretrained
from ...sampling import sample

EVERY = 5  # pictures, of which one is held out


def split(task: Task) -> tuple[Task, Task]:
    """Four fifths to learn from and one to measure on: the fifth picture, the tenth, ..."""
    held = set(range(EVERY - 1, len(task), EVERY))
    if not held:
        raise ValueError(f"{task.name} has {len(task)} pictures: {EVERY} are needed, to hold one out")
    return task.subset([place for place in range(len(task)) if place not in held]), task.subset(sorted(held))


def old_pictures(pretrained: Pretrained, count: int = 40, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures (count, 3, H, W) of what the model knows, and their labels: held-out pictures of the tiny world's source for the tiny model.

    Any other model draws them itself, of labels spread over its table: what it was trained on is not here.
    """
    if (source := held_out_source(pretrained)) is not None:
        some = spread_evenly(len(source), count)
        return source.read(some), source.labels[some]
    labels = spread_evenly(len(pretrained.label_names), count)
    return sample(pretrained, labels, guidance=1.5, seed=seed), labels
