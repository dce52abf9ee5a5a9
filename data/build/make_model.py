"""Put the pre-trained DiT into data/: weights in half precision, loss curve, sample sheets, a memory bank.

make assets                                # trains it: without a loss weight first, then with P2's
python data/build/make_model.py            # also from the newest checkpoint of an unfinished run
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import fields

import numpy as np
import torch
from diffusers import AutoencoderKL
from make_data import DATA, contact_sheet, write_checksums
from registries import CACHE
from source import KINDS

from difftuning.config import PretrainingConfig
from difftuning.data.tasks import load_task
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import sample
from difftuning.training.checkpoints import copy_into, load_checkpoint, trainable
from difftuning.training.label_rows import free_rows_as_null
from difftuning.training.memory_bank import MemoryBank
from difftuning.training.pretrain import untrained

FIRST, RUN = CACHE / "dit-first", CACHE / "dit"
BANK_SIZE = 1000
CURVE_STEP = 50  # losses are averaged over so many steps


def main() -> None:
    record = json.loads((RUN / "run.json").read_text(encoding="utf-8"))
    config = PretrainingConfig(**{field.name: record[field.name] for field in fields(PretrainingConfig)})
    autoencoder = AutoencoderKL.from_pretrained(DATA / "models" / "autoencoder")
    source = load_task(CACHE / "source_full.npz")
    model = untrained(source, autoencoder, config, name="tiny")
    step, tensors, history = load_checkpoint(RUN)
    copy_into(trainable(model.denoiser), tensors["ema"])
    free_rows_as_null(model.denoiser, model.first_free_label)
    model.save(DATA / "models" / "tiny", dtype=torch.float16)
    model = load_pretrained(DATA / "models" / "tiny")
    first = json.loads((FIRST / "run.json").read_text(encoding="utf-8"))
    curves = loss_curve("unweighted", (FIRST / "history.csv").read_text(encoding="utf-8")) + loss_curve("P2", history)
    (DATA / "models" / "tiny_loss.csv").write_text("loss_weight,step,loss\n" + "".join(curves), encoding="utf-8", newline="\n")
    card = {"first": first, "then": {"steps_done": step, **record}}
    (DATA / "models" / "tiny_card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8", newline="\n")
    sample_sheets(model)
    shutil.rmtree(DATA / "bank", ignore_errors=True)
    MemoryBank.sample(model, BANK_SIZE, folder=DATA / "bank", seed=0, labels=bank_labels(source.labels, config.class_balance))
    write_checksums()


def bank_labels(labels: torch.Tensor, power: float) -> torch.Tensor:
    """Classes in the proportions in which the model has learned them: n^power for a class of n pictures; int64 (BANK_SIZE,)."""
    law = torch.bincount(labels).double() ** power
    return torch.multinomial(law, BANK_SIZE, replacement=True, generator=torch.Generator().manual_seed(0))


def loss_curve(name: str, history: str) -> list[str]:
    """Lines of the loss's mean over every `CURVE_STEP` steps."""
    losses = np.array([float(row["source_loss"]) for row in csv.DictReader(io.StringIO(history))])
    means = losses[: len(losses) // CURVE_STEP * CURVE_STEP].reshape(-1, CURVE_STEP).mean(1)
    return [f"{name},{(place + 1) * CURVE_STEP},{loss:.5f}\n" for place, loss in enumerate(means)]


def sample_sheets(model: Pretrained) -> None:
    """128 samples of each source kind, evenly over its classes, at guidance 1.5 and without labels."""
    kinds = {
        "photograph": range(0, 7),
        "icon": range(7, len(model.label_names) - 26),
        "letter": range(len(model.label_names) - 26, len(model.label_names)),
    }
    assert list(kinds) == KINDS
    for kind, classes in kinds.items():
        labels = torch.tensor(classes)[torch.linspace(0, len(classes) - 1, 128).long()]
        write_sheet(f"samples_{kind}", sample(model, labels, guidance=1.5, seed=0), labels)
    nulls = torch.full((128,), model.null_label)
    write_sheet("samples_without_label", sample(model, nulls, guidance=1.0, seed=0), nulls)


def write_sheet(name: str, images: torch.Tensor, labels: torch.Tensor) -> None:
    grey = ((images.mean(1) + 1) * 127.5).round().to(torch.uint8)
    contact_sheet(DATA / "contact_sheets" / f"{name}.png", grey.numpy(), labels.numpy())


if __name__ == "__main__":
    main()
