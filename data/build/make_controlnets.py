"""Tune lesson 08's two ControlNets on the edges of shoes, plainly and by Diff-Tuning, and put them into data/, in half precision.

python data/build/make_controlnets.py                  # two minutes each on one core; an interrupted run goes on where it stopped
python data/build/make_controlnets.py --steps 2000     # longer than the study's

The other settings are those of the study's runs on edge with seed 0 (difftuning/studies/control_cells.py).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from make_data import DATA, write_checksums
from registries import CACHE

from difftuning.config import DiffTuningConfig
from difftuning.lessons.controlnet.tuned import TUNED
from difftuning.studies.control_cells import CONTROL_METHODS, ControlCell
from difftuning.studies.controlnet import LABEL_DROP, shipped_world
from difftuning.training.controlnet import fine_tune_controlnet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=ControlCell.steps, help="of training; default: %(default)s")
    steps = parser.parse_args().steps
    for method, name in TUNED.items():
        make(replace(ControlCell("edge", method, seed=0), steps=steps), CACHE / f"{name}_{steps}", DATA / "models" / name)
    write_checksums()


def make(cell: ControlCell, folder: Path, saved: Path) -> None:
    """Train what a cell of the study trains, with checkpoints in `folder`, and save the averaged weights."""
    world, method = shipped_world(cell.task), CONTROL_METHODS[cell.method]
    config = DiffTuningConfig(
        steps=cell.steps, batch_size=cell.batch_size, learning_rate=cell.learning_rate, label_drop=LABEL_DROP, seed=cell.seed, **method.options
    )  # fmt: skip
    tuned = fine_tune_controlnet(
        world.base, world.training.subset(range(cell.training_pictures)), world.bank if method.replays else None, config, kind=cell.kind,
        folder=folder, bank_control=method.bank_control,
    )  # fmt: skip
    tuned.model.save(saved, dtype=torch.float16)


if __name__ == "__main__":
    main()
