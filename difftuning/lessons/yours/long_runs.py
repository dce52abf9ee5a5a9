"""The lesson's training again, twice as long and with three seeds: the loss on held-out, learned and old pictures as it goes on.

python -m difftuning.lessons.yours.long_runs     # writes data/results/own_pictures.csv: a quarter of an hour of one core
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from ... import __version__
from ...config import DiffTuningConfig
from ...data.tasks import Task, load_task
from ...evaluation.chain_of_forgetting import loss_ratio
from ...models.loading import load_pretrained
from ...models.pretrained import Pretrained
from ...studies.gains import read_table
from ...studies.tables import write_rows
from ...support.progress import progress_bar
from ...support.world import data_folder, world_version
from ...training.fine_tune import fine_tune
from ...training.memory_bank import MemoryBank
from ..quickstart.own_pictures import example_folder
from .answers import BEFORE, LEARNED, OURS, PLAIN, YOURS
from .pictures import old_pictures, split

if TYPE_CHECKING:
    import pandas

TABLE = "own_pictures"
MARKS, SEEDS, TENTHS = (20, 40, 80, 160, 320), range(3), range(50, 1000, 100)
POWER = {PLAIN: 0.0, OURS: 1.0}  # of the new pictures' weights


def measured(pretrained: Pretrained, task: Task, bank: MemoryBank, folder: Path) -> Iterator[dict]:
    """A row for each method, seed, mark, kind of pictures and tenth."""
    learn, held_out = split(task)
    old, old_labels = old_pictures(pretrained)
    for seed, method in progress_bar(list(itertools.product(SEEDS, POWER)), "long runs"):
        for steps in MARKS:
            config = DiffTuningConfig(steps=steps, learning_rate=1e-3, reconsolidation_power=POWER[method], seed=seed)
            memories = bank if method == OURS else None
            tuned = fine_tune(pretrained, learn, memories, config, folder=folder / f"{method} {seed}", progress=False)
            kinds = {YOURS: held_out, LEARNED: learn}
            shown = {name: (part.images, tuned.rows[part.labels]) for name, part in kinds.items()} | {BEFORE: (old, old_labels)}
            for data, (images, labels) in shown.items():
                ratios = loss_ratio(pretrained, tuned.model, images, labels, TENTHS)["ratio"].tolist()
                run = {"method": method, "seed": seed, "world": world_version(), "code": __version__, "step": steps, "data": data}
                yield from (run | {"tenth": tenth, "ratio": ratio} for tenth, ratio in enumerate(ratios, 1))


def read_long_runs() -> pandas.DataFrame:
    """The shipped table: columns method, seed, step, data, tenth, ratio (loss after / before)."""
    return read_table(TABLE)


def main() -> None:
    pretrained, bank = load_pretrained("tiny"), MemoryBank.load(data_folder() / "bank")
    with tempfile.TemporaryDirectory() as folder:
        task = load_task(example_folder(Path(__file__).resolve().parents[3] / "notebooks" / "own_pictures"), size=pretrained.image_size)
        rows = list(measured(pretrained, task, bank, Path(folder)))
    write_rows(data_folder() / "results" / f"{TABLE}.csv", rows)


if __name__ == "__main__":
    main()
