"""The lesson's training again, twice as long and with three seeds: the loss on held-out, learned and old pictures as it goes on.

python -m difftuning.lessons.yours.long_runs     # writes data/results/own_pictures.csv: a quarter of an hour of one core
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Iterator

from ... import __version__
from ...config import DiffTuningConfig
from ...data.tasks import Task, load_task
from ...evaluation.chain_of_forgetting import loss_ratio
from ...models.loading import load_pretrained
from ...models.pretrained import Pretrained
from ...studies.tables import write_rows
from ...support.progress import progress_bar
from ...support.world import data_folder, world_version
from ...training.fine_tune import fine_tune
from ...training.memory_bank import MemoryBank
from ..quickstart.own_pictures import SHIPPED
from .answers import BEFORE, LEARNED, OURS, PLAIN, YOURS
from .pictures import old_pictures, split

TABLE = "own_pictures"
MARKS, SEEDS, TENTHS = (20, 40, 80, 160, 320), range(3), range(50, 1000, 100)
POWER = {PLAIN: 0.0, OURS: 1.0}  # of the new pictures' weights


def measured(pretrained: Pretrained, task: Task, bank: MemoryBank, folder: Path) -> Iterator[dict]:
    """A row for each method, seed, mark, kind of pictures and tenth."""
    learn, held_out = split(task)
    pictures = {YOURS: (held_out.images, held_out.labels), LEARNED: (learn.images, learn.labels)}
    old = old_pictures(pretrained)
    for seed, method in progress_bar(list(itertools.product(SEEDS, POWER)), "long runs"):
        for steps in MARKS:
            config = DiffTuningConfig(steps=steps, learning_rate=1e-3, reconsolidation_power=POWER[method], seed=seed)
            memories = bank if method == OURS else None
            tuned = fine_tune(pretrained, learn, memories, config, folder=folder / f"{method} {seed}", progress=False)
            shown = {data: (images, tuned.rows[labels]) for data, (images, labels) in pictures.items()} | {BEFORE: old}
            for data, (images, labels) in shown.items():
                ratios = loss_ratio(pretrained, tuned.model, images, labels, TENTHS)["ratio"].tolist()
                run = {"method": method, "seed": seed, "world": world_version(), "code": __version__, "step": steps, "data": data}
                yield from (run | {"tenth": tenth, "ratio": ratio} for tenth, ratio in enumerate(ratios, 1))


def main() -> None:
    """Train on the folder that ships, and write the table: columns method, seed, step, data, tenth and ratio, the loss after / before."""
    pretrained, bank = load_pretrained("tiny"), MemoryBank.load(data_folder() / "bank")
    with tempfile.TemporaryDirectory() as folder:
        task = load_task(Path(__file__).resolve().parents[3] / "notebooks" / SHIPPED, size=pretrained.image_size)
        rows = list(measured(pretrained, task, bank, Path(folder)))
    write_rows(data_folder() / "results" / f"{TABLE}.csv", rows)


if __name__ == "__main__":
    main()
