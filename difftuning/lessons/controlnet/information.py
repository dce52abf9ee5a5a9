"""How well each condition alone predicts the picture, on the two development tasks.

    python -m difftuning.lessons.controlnet.information     # rebuilds data/results/condition_information.csv, in a minute

A table of shares of the validation pictures' variance: 1 would be the picture itself.
"""

from __future__ import annotations

from typing import Any, Sequence

from ...data.conditions import KINDS
from ...data.tasks import load_task
from ...evaluation.condition_information import condition_information
from ...studies.tables import write_rows
from ...support.progress import progress_bar
from ...support.world import data_folder, world_version

TABLE = "condition_information.csv"
TASKS = ("footwear", "digits")
PICTURES = 2000  # of the training split, those that the studies train on; measured on the whole validation split


def information_rows(tasks: Sequence[str] = TASKS, pictures: int = PICTURES) -> list[dict[str, Any]]:
    """A row for each task and condition: which share of the validation pictures' variance it explains, and the class."""
    rows = []
    for task, kind in progress_bar([(task, kind) for task in tasks for kind in KINDS], "conditions", shown=True):
        whole, held_out = load_task(task), load_task(task, split="validation")
        training = whole.subset(range(min(pictures, len(whole))))
        found = condition_information(kind, training, held_out)
        row = {"world": world_version(), "task": task, "condition": kind, "training_pictures": len(training), "pictures": len(held_out)}
        rows.append(row | {f"explained_by_{name}": f"{share:.4f}" for name, share in found.items()})
    return rows


if __name__ == "__main__":
    write_rows(data_folder() / "results" / TABLE, information_rows())
