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
from difftuning.data.tasks import Task, load_source, load_task
from difftuning.evaluation.metrics import extract
from difftuning.models.loading import load_pretrained
from difftuning.support.files import read_json, write_json, write_text
from difftuning.training.checkpoints import copy_into, load_checkpoint, trainable
from difftuning.training.memory_bank import MemoryBank
from difftuning.training.pretrain_text_to_image import pretrain_text_to_image, untrained_text_to_image

NAME = "tiny-text-to-image"
MODEL = DATA / "models" / "tiny_text_to_image"
BANK, BANK_SIZE = DATA / "bank_text_to_image", 1000
SHOWN = 128  # samples on the contact sheet


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
    shutil.rmtree(BANK, ignore_errors=True)
    drawn, names = captions(source, BANK_SIZE, seed=1)
    bank = MemoryBank.sample(model, BANK_SIZE, folder=BANK, labels=drawn)
    images = bank.images(model)
    write_sheet("samples_text_to_image", images[:SHOWN], torch.arange(SHOWN))
    card = {"steps_done": step, **read_json(folder / "run.json"), "samples": follow_prompts(images, drawn, names)}
    write_json(DATA / "models" / "tiny_text_to_image_card.json", card)
    write_checksums()


def captions(source: Task, count: int, seed: int) -> tuple[list[str], list[str]]:
    """Captions of pictures drawn at random from the source, and the names of their classes."""
    chosen = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))[:count]
    names = [source.class_names[label] for label in source.labels[chosen].tolist()]
    return caption_pictures(source.read(chosen), names), names


def follow_prompts(images: torch.Tensor, prompts: list[str], names: list[str]) -> dict[str, float]:
    """Which share of the attributes asked for the bank's pictures have, and how many are nearest to a real picture of the class asked for.

    Beside both stand what chance gives (the prompts of other pictures), and the nearest pictures' classes of held-out real ones.
    """
    real = load_source("heldout")
    others = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(0)).tolist()
    resembled = nearest_classes(images)
    shares = {
        "caption_agreement": caption_agreement(prompts, images),
        "caption_agreement_by_chance": caption_agreement([prompts[i] for i in others], images),
        "class_agreement": _same(resembled, names),
        "class_agreement_by_chance": _same(resembled, [names[i] for i in others]),
        "class_agreement_of_real": _same(nearest_classes(real.images), [real.class_names[label] for label in real.labels.tolist()]),
    }
    return {name: round(float(share.nanmean()), 3) for name, share in shares.items()}


def nearest_classes(images: torch.Tensor) -> list[str]:
    """The class of the shipped training picture of the source that is nearest to each image, in the feature net's eyes."""
    known = load_source()
    nearest = torch.cdist(extract(images).double(), extract(known.images).double()).argmin(1)
    return [known.class_names[label] for label in known.labels[nearest].tolist()]


def _same(found: list[str], names: list[str]) -> torch.Tensor:
    return torch.tensor([one == other for one, other in zip(found, names, strict=True)]).float()


if __name__ == "__main__":
    main()
