"""Train the tiny text-to-image base (a small Stable Diffusion on captioned pictures) and put it into data/.

python data/build/make_text_to_image.py                    # trains it, or goes on where it stopped; then puts it in
python data/build/make_text_to_image.py --from-checkpoint  # puts in the newest checkpoint of an unfinished run

It needs build-cache/source_full.npz (make_data.py) and data/models/autoencoder (make_autoencoder.py).
"""

from __future__ import annotations

import argparse
import shutil

import torch
from diffusers import AutoencoderKL
from make_data import DATA, write_checksums
from make_model import loss_curve, write_sheet
from registries import CACHE

from difftuning.config import TextToImageConfig
from difftuning.data.captions import caption_agreement, caption_pictures
from difftuning.data.tasks import Task, load_task
from difftuning.models.loading import load_pretrained
from difftuning.models.pretrained import Pretrained
from difftuning.sampling import sample
from difftuning.support.files import read_json, write_json, write_text
from difftuning.training.checkpoints import copy_into, load_checkpoint, trainable
from difftuning.training.memory_bank import MemoryBank
from difftuning.training.pretrain_text_to_image import pretrain_text_to_image, untrained_text_to_image

NAME = "tiny-text-to-image"
MODEL = DATA / "models" / "tiny_text_to_image"
BANK, BANK_SIZE = DATA / "bank_text_to_image", 1000
SHOWN = 128  # samples on the contact sheet, whose agreement with their captions the card tells
GUIDANCE = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from-checkpoint", action="store_true", help="of an unfinished run, which may go on meanwhile")
    parser.add_argument("--steps", type=int, default=TextToImageConfig.steps, help="default: %(default)s")
    given = parser.parse_args()
    config, folder = TextToImageConfig(steps=given.steps), CACHE / "text-to-image"
    source = load_task(CACHE / "source_full.npz")
    autoencoder = AutoencoderKL.from_pretrained(DATA / "models" / "autoencoder")
    if given.from_checkpoint:
        model = untrained_text_to_image(source, autoencoder, config, name=NAME)
        copy_into(trainable(model.denoiser), load_checkpoint(folder)[1]["ema"])
    else:
        model = pretrain_text_to_image(source, autoencoder, config, folder=folder, name=NAME)
    step, _, history = load_checkpoint(folder)
    model.save(MODEL, dtype=torch.float16)
    model = load_pretrained(MODEL)
    write_text(DATA / "models" / "tiny_text_to_image_loss.csv", "loss_weight,step,loss\n" + "".join(loss_curve("unweighted", history)))
    card = {"steps_done": step, **read_json(folder / "run.json"), **show(model, captions(source, SHOWN, seed=0))}
    write_json(DATA / "models" / "tiny_text_to_image_card.json", card)
    shutil.rmtree(BANK, ignore_errors=True)
    MemoryBank.sample(model, BANK_SIZE, folder=BANK, labels=captions(source, BANK_SIZE, seed=1))
    write_checksums()


def captions(source: Task, count: int, seed: int) -> list[str]:
    """Captions of pictures drawn at random from the source."""
    chosen = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:count]
    return caption_pictures(source.read(chosen), [source.class_names[label] for label in source.labels[chosen].tolist()])


def show(model: Pretrained, prompts: list[str]) -> dict[str, float]:
    """A contact sheet of samples, and which share of the attributes asked for they have."""
    images = sample(model, prompts, guidance=GUIDANCE, seed=0)
    write_sheet("samples_text_to_image", images, torch.arange(len(prompts)))
    agreement = caption_agreement(prompts, images)
    return {"guidance": GUIDANCE, "caption_agreement": round(float(agreement[~agreement.isnan()].mean()), 4)}


if __name__ == "__main__":
    main()
