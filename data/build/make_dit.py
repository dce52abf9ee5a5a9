"""Pre-train the tiny DiT in stages, and write down how its transfer grows.

    python data/build/make_dit.py first --steps 15124
    python data/build/make_dit.py second --start build-cache/first/model --steps 20000 --cooldown-steps 6000
    python data/build/make_dit.py third --start build-cache/second/model --steps 36000 --cooldown-steps 9000

A stage lives in build-cache/NAME and goes on where it was stopped.  Every `--measure-every` steps the averaged model's
loss is measured in the ten parts of the chain: on held-out source pictures and on the validation pictures of the
development tasks, all without labels.  NAME/transfer.csv is what lesson 02 draws.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from make_data import DATA
from registries import CACHE

from difftuning.config import PretrainingConfig
from difftuning.data.tasks import Task, load_source, load_task, spread_evenly
from difftuning.evaluation.chain_of_forgetting import losses_by_tenth
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.training.loop import TrainingState
from difftuning.training.pretrain import pretrain, untrained

PICTURES, EACH = 250, 2  # of each set; timesteps in each tenth of the chain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--start", type=Path, help="folder of the model whose weights this stage starts from")
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--cooldown-steps", type=int, default=0)
    parser.add_argument("--warmup-steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure-every", type=int, default=4000)
    options = vars(parser.parse_args())
    folder, start, every = CACHE / options.pop("name"), options.pop("start"), options.pop("measure_every")
    config = PretrainingConfig(**options, checkpoint_every=1000)
    autoencoder = AutoencoderKL.from_pretrained(DATA / "models" / "autoencoder")
    source = load_task(CACHE / "source_full.npz")
    frame = untrained(source, autoencoder, config, name="tiny")
    sets = {"source": load_source("heldout")} | {name: load_task(name, split="validation") for name in ("footwear", "digits")}
    measure = transfer_curve(folder / "transfer.csv", every, frame, sets)
    pretrain(source, autoencoder, config, folder=folder, start=start and load_pretrained(start), callbacks=[measure])


def transfer_curve(path: Path, every: int, frame: Pretrained, sets: dict[str, Task]):
    """A callback that appends the averaged model's loss per tenth of the chain to a table."""
    chosen = {name: task.subset(spread_evenly(len(task), PICTURES)).images for name, task in sets.items()}

    def measure(state: TrainingState) -> None:
        if state.step % every:
            return
        model = frame.with_denoiser(state.ema_model())
        for name, images in chosen.items():
            nulls = torch.full((len(images),), model.null_label)
            losses = losses_by_tenth(model, images, nulls, each=EACH)
            with open(path, "a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([state.step, name, tenth + 1, f"{loss:.6f}"] for tenth, loss in enumerate(losses.tolist()))

    return measure


if __name__ == "__main__":
    main()
