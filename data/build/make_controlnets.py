"""Tune lesson 08's two ControlNets on the edges of shoes, plainly and by Diff-Tuning, and put them into data/, in half precision.

python data/build/make_controlnets.py     # four minutes each on one core; an interrupted run goes on where it stopped

The settings are those of the study's runs on edge with seed 0 (difftuning/studies/control_cells.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from make_data import DATA, write_checksums
from registries import CACHE

from difftuning.config import DiffTuningConfig
from difftuning.data.captions import CaptionAs
from difftuning.models.load_controlnet import WORLD_CONTROLNETS
from difftuning.studies.control_cells import CONTROL_METHODS, ControlCell
from difftuning.studies.controlnet import LABEL_DROP, shipped_world
from difftuning.training.controlnet import fine_tune_controlnet

METHODS = {"tiny-edge-plain": "plain", "tiny-edge-diff-tuning": "Diff-Tuning"}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, method in METHODS.items():
        make(ControlCell("edge", method, seed=0), CACHE / name, DATA / WORLD_CONTROLNETS[name])
    write_checksums()


def make(cell: ControlCell, folder: Path, saved: Path) -> None:
    """Train what a cell of the study trains, with checkpoints in `folder`, and save the ControlNet alone, its averaged weights."""
    world, method = shipped_world(cell.task), CONTROL_METHODS[cell.method]
    config = DiffTuningConfig(
        steps=cell.steps, batch_size=cell.batch_size, learning_rate=cell.learning_rate, label_drop=LABEL_DROP, seed=cell.seed, **method.options
    )  # fmt: skip
    tuned = fine_tune_controlnet(
        world.base, world.training.subset(range(cell.training_pictures)), world.bank if method.replays else None, config, kind=cell.kind,
        folder=folder, captions=CaptionAs(cell.called), bank_control=method.bank_control,
    )  # fmt: skip
    controlnet = torch.nn.Module.to(tuned.model.denoiser.controlnet, torch.float16)
    controlnet.save_pretrained(saved)


if __name__ == "__main__":
    main()
