"""Do a wider model or a broader source meet the premise better?  Short pre-trainings, each then tuned plainly on both tasks.

    python -m difftuning.studies.levers     # writes data/results/levers.csv; ten ratios and a verdict for each

Every pre-training is far shorter than the shipped model's and sees the shipped sample of the source, so what counts is the
difference between two of them, not how far any is from the criterion.  The same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import DiffTuningConfig, PretrainingConfig
from ..data.tasks import Task, load_source, load_task, spread_evenly
from ..evaluation.chain_of_forgetting import losses_by_tenth
from ..models.loading import load_pretrained
from ..support.world import data_folder, world_version
from ..training.fine_tune import fine_tune
from ..training.pretrain import pretrain
from .grid import LEARNING_RATES
from .premise import DEVELOPMENT, PICTURES, judge
from .snr_scale import HELD_OUT
from .tables import Row, write_rows

if TYPE_CHECKING:
    from ..models.pretrained import Pretrained

TUNING_STEPS = 800
PRETRAINING = PretrainingConfig(steps=4000, cooldown_steps=1000)
WIDER = PretrainingConfig(steps=4000, cooldown_steps=1000, width=256, num_heads=8)  # heads of 32 channels, as before


def every_second_class(source: Task) -> Task:
    """Half of the source's breadth: the pictures of the classes with an even number."""
    return source.subset((source.labels % 2 == 0).nonzero().flatten())


def ratio_rows(pretrained: Pretrained, name: str, folder: Path) -> list[Row]:
    """The held-out loss of a development task in each tenth of the chain, before and after plain fine-tuning."""
    task, held_out = load_task(name).subset(range(PICTURES)), load_task(name, split="validation")
    held_out = held_out.subset(spread_evenly(len(held_out), HELD_OUT))
    before = losses_by_tenth(pretrained, held_out.images, torch.full_like(held_out.labels, pretrained.null_label))
    config = DiffTuningConfig(steps=TUNING_STEPS, learning_rate=LEARNING_RATES["plain"], reconsolidation_power=0.0)
    tuned = fine_tune(pretrained, task, None, config, folder=folder)
    after = losses_by_tenth(tuned.model, held_out.images, tuned.rows[held_out.labels])
    ratios = (after / before).tolist()
    print(f"{folder.parent.name:14} {name:9}  " + " ".join(f"{ratio:.2f}" for ratio in ratios), judge(ratios), flush=True)
    values = zip(range(1, 11), before.tolist(), after.tolist())
    return [
        {"task": name, "step": TUNING_STEPS, "tenth": tenth, "before": f"{old:.6f}", "after": f"{new:.6f}"} for tenth, old, new in values
    ]


def main() -> None:
    """Pre-train each, tune it on both development tasks, print the ratios and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/levers"), help="for checkpoints; default: runs/levers")
    parser.add_argument("--table", type=Path, default=None, help="default: results/levers.csv of the tiny world")
    given = parser.parse_args()
    source, autoencoder = load_source(), load_pretrained("tiny").autoencoder
    trials = {
        "as shipped": (source, PRETRAINING),
        "256 channels": (source, WIDER),
        "half the kinds": (every_second_class(source), PRETRAINING),
    }
    rows = list[Row]()
    for trial, (pictures, config) in trials.items():
        folder = given.folder / trial
        pretrain(pictures, autoencoder, config, folder=folder / "source")
        pretrained = load_pretrained(folder / "source" / "model")
        run = {"trial": trial, "pretraining_steps": config.steps, "width": config.width, "world": world_version()}
        rows += [run | row for name in DEVELOPMENT for row in ratio_rows(pretrained, name, folder / name)]
    write_rows(given.table or data_folder() / "results" / "levers.csv", rows)


if __name__ == "__main__":
    main()
