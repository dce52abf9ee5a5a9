"""Train the tiny autoencoder on the source and the tasks' training splits; resumable."""

from __future__ import annotations

import argparse
import json
import shutil

import numpy as np
import torch
from autoencoding import build_autoencoder, psnr, standardise_latents, train_autoencoder
from make_data import DATA, write_checksums
from registries import CACHE
from source import KINDS

from difftuning.support.files import write_json, write_text

FOLDER = DATA / "models" / "autoencoder"
PHOTOGRAPHS, TASK_PICTURES = 16_000, 2000  # few photographs suffice; a task counts as if it had so many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    pictures, heldout = training_pictures()
    torch.manual_seed(0)
    autoencoder, work = build_autoencoder(), CACHE / "autoencoder"
    training = {"steps": options.steps, "batch_size": options.batch_size, "learning_rate": options.learning_rate}
    train_autoencoder(autoencoder, pictures, folder=work, **training)
    standardise_latents(autoencoder, pictures[:: max(1, len(pictures) // 5000)])
    autoencoder.save_pretrained(FOLDER)
    quality = {name: round(psnr(autoencoder, images), 2) for name, images in heldout.items()}
    log = (sorted((work / "checkpoints").glob("step-*"))[-1] / "history.csv").read_text(encoding="utf-8")
    write_text(FOLDER / "loss.csv", log)
    trained_on = {"training_pictures": len(pictures), "trained_on": "source, and the tasks' training splits"}
    write_json(FOLDER / "card.json", {**trained_on, **training, "psnr_db_heldout": quality})
    write_checksums()
    print(json.dumps(quality, indent=1))
    shutil.rmtree(work)


def training_pictures() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """uint8 pictures to train on, and held-out ones per source kind and task (validation splits)."""
    with np.load(CACHE / "source_full.npz", allow_pickle=False) as source:
        images, kinds = source["train_images"], source["train_kinds"]
        held, held_kinds = source["heldout_images"], source["heldout_kinds"]
    parts = [images[kinds == 0][:: (kinds == 0).sum() // PHOTOGRAPHS or 1], images[kinds > 0]]
    heldout = {f"source {name}": torch.from_numpy(held[held_kinds == kind]) for kind, name in enumerate(KINDS)}
    for path in sorted((DATA / "tasks").glob("*.npz")):
        with np.load(path, allow_pickle=False) as task:
            parts += [task["train_images"][:TASK_PICTURES]] * max(1, TASK_PICTURES // len(task["train_images"]))
            heldout[path.stem] = torch.from_numpy(task["validation_images"])
    return torch.from_numpy(np.concatenate(parts)), heldout


if __name__ == "__main__":
    main()
