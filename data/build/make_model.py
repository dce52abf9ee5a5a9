"""Put the pre-trained DiT into data/: weights in half precision, loss curve, how transfer grew, sample sheets, a memory bank.

make assets                                # trains it in three stages (make_dit.py), the last two with a cool-down
python data/build/make_model.py            # also from the newest checkpoint of an unfinished last stage
"""

from __future__ import annotations

import csv
import io
import itertools
import shutil
from dataclasses import fields
from typing import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL
from make_data import DATA, contact_sheet, write_checksums
from registries import CACHE

from difftuning.config import PretrainingConfig
from difftuning.data.tasks import load_source, load_task
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import sample
from difftuning.support.files import read_json, write_json, write_text
from difftuning.training.checkpoints import copy_into, load_checkpoint, trainable
from difftuning.training.label_rows import free_rows_as_null
from difftuning.training.memory_bank import MemoryBank
from difftuning.training.pretrain import untrained

STAGES = [CACHE / name for name in ("first", "second", "third")]
BANK_SIZE = 1000
CURVE_STEP = 50  # losses are averaged over so many steps


def main() -> None:
    records = [read_json(stage / "run.json") for stage in STAGES]
    config = PretrainingConfig(**{field.name: records[-1][field.name] for field in fields(PretrainingConfig)})
    autoencoder = AutoencoderKL.from_pretrained(DATA / "models" / "autoencoder")
    source = load_task(CACHE / "source_full.npz")
    model = untrained(source, autoencoder, config, name="tiny")
    steps, tensors, histories = zip(*(load_checkpoint(stage) for stage in STAGES))
    copy_into(trainable(model.denoiser), tensors[-1]["ema"])
    free_rows_as_null(model.denoiser, model.first_free_label)
    model.save(DATA / "models" / "tiny", dtype=torch.float16)
    model = load_pretrained(DATA / "models" / "tiny")
    names = [stage.name for stage in STAGES]
    curves = [line for name, history in zip(names, histories) for line in loss_curve(name, history)]
    write_text(DATA / "models" / "tiny_loss.csv", "stage,step,loss\n" + "".join(curves))
    write_text(DATA / "models" / "tiny_transfer.csv", transfer_curve(steps))
    write_json(
        DATA / "models" / "tiny_card.json", {name: {"steps_done": done, **record} for name, done, record in zip(names, steps, records)}
    )
    sample_sheets(model)
    shutil.rmtree(DATA / "bank", ignore_errors=True)
    MemoryBank.sample(model, BANK_SIZE, folder=DATA / "bank", seed=0, labels=bank_labels(source.labels, config.class_balance))
    write_checksums()


def transfer_curve(steps: Sequence[int]) -> str:
    """The stages' losses per tenth, by the steps of the whole pre-training; `steps` is how many each stage took."""
    lines = ["step,pictures,tenth,loss"]
    for stage, before in zip(STAGES, itertools.accumulate(steps, initial=0)):
        for line in (stage / "transfer.csv").read_text(encoding="utf-8").splitlines():
            step, rest = line.split(",", 1)
            lines.append(f"{int(step) + before},{rest}")
    return "\n".join(lines) + "\n"


def bank_labels(labels: torch.Tensor, power: float) -> torch.Tensor:
    """Classes in the proportions in which the model has learned them: n^power for a class of n pictures; int64 (BANK_SIZE,)."""
    shares = torch.bincount(labels).double() ** power
    return torch.multinomial(shares, BANK_SIZE, replacement=True, generator=torch.Generator().manual_seed(0))


def loss_curve(name: str, history: str) -> list[str]:
    """Lines of the loss's mean over every `CURVE_STEP` steps."""
    losses = np.array([float(row["source_loss"]) for row in csv.DictReader(io.StringIO(history))])
    means = losses[: len(losses) // CURVE_STEP * CURVE_STEP].reshape(-1, CURVE_STEP).mean(1)
    return [f"{name},{(place + 1) * CURVE_STEP},{loss:.5f}\n" for place, loss in enumerate(means)]


def sample_sheets(model: Pretrained) -> None:
    """128 samples of each source kind, evenly over its classes, at guidance 1.5 and without labels."""
    kind_of = load_source().kind_of
    for kind in dict.fromkeys(kind_of.values()):
        classes = torch.tensor([label for label, own in kind_of.items() if own == kind])
        labels = classes[torch.linspace(0, len(classes) - 1, 128).long()]
        write_sheet(f"samples_{kind}", sample(model, labels, guidance=1.5, seed=0), labels)
    nulls = torch.full((128,), model.null_label)
    write_sheet("samples_without_label", sample(model, nulls, guidance=1.0, seed=0), nulls)


def write_sheet(name: str, images: torch.Tensor, labels: torch.Tensor) -> None:
    grey = ((images.mean(1) + 1) * 127.5).round().to(torch.uint8)
    contact_sheet(DATA / "contact_sheets" / f"{name}.png", grey.numpy(), labels.numpy())


if __name__ == "__main__":
    main()
