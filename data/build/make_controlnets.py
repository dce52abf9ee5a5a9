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

from difftuning.models.load_controlnet import WORLD_CONTROLNETS
from difftuning.studies.control_cells import ControlCell
from difftuning.studies.controlnet import shipped_world, tune_cell

METHODS = {"tiny-edge-plain": "plain", "tiny-edge-diff-tuning": "Diff-Tuning"}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, method in METHODS.items():
        make(ControlCell("edge", method, seed=0), CACHE / name, DATA / WORLD_CONTROLNETS[name])
    write_checksums()


def make(cell: ControlCell, folder: Path, saved: Path) -> None:
    """Train what a cell of the study trains, with checkpoints in `folder`, and save the ControlNet alone, its averaged weights."""
    tuned = tune_cell(cell, folder, shipped_world(cell.task))
    controlnet = torch.nn.Module.to(tuned.model.denoiser.controlnet, torch.float16)
    controlnet.save_pretrained(saved)


if __name__ == "__main__":
    main()
