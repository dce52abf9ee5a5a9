"""How a bank is sampled: what each sample is told, shard after shard, and damaged shards again.

Every sample's noise comes from (seed, its place) and every shard is one batch, so an interrupted bank resumes, and a damaged
shard is sampled again, to the same bits.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

from ...data.pictures import to_pixels
from ...models.pretrained import Pretrained, require_model
from ...sampling import SamplingStep, label_rows, require_prompts, sample_latents
from ...support.files import save_tensors, sha256, verify
from ...support.lock import FolderLock
from ...support.names import user_path
from ...support.progress import progress_bar
from ...support.random import seeded_generator
from ...support.surroundings import undisturbed
from .manifest import BankRecipe, Manifest

PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


def labels_and_prompts(pretrained: Pretrained, size: int, seed: int, given) -> tuple[Tensor, list[str] | None]:
    """Rows of the label table and None, or places in a list of prompts and that list.

    None given: the source classes over and over, shuffled; each appears equally often, up to one.
    """
    if pretrained.takes_prompts:
        if given is None:
            raise ValueError(f"{pretrained.name} is told what to draw by prompts: give labels=, a prompt for each sample")
        prompts = require_prompts(pretrained, given)
        different = sorted(set(prompts))
        place = {prompt: number for number, prompt in enumerate(different)}
        labels, told = torch.tensor([place[prompt] for prompt in prompts], dtype=torch.int64), different
    elif given is None:
        shuffled = torch.randperm(size, generator=seeded_generator(seed, "bank labels", size))
        labels, told = shuffled % len(pretrained.label_names), None
    else:
        labels, told = label_rows(pretrained, given), None
    if len(labels) != size:
        raise ValueError(f"labels must hold one label for each of the {size} samples, got {len(labels)}")
    return labels, told


def write_shards(pretrained: Pretrained, folder: Path, manifest: Manifest, names: list[str], progress: bool = True) -> None:
    """Sample the shards of these names; the bar moves with every reverse step, as a single shard may take minutes."""
    with progress_bar(None, "memory bank", total=len(names) * manifest.recipe.steps, shown=progress and bool(names)) as bar:
        for name in names:
            latents = _sample_shard(pretrained, manifest, manifest.recipe.shard_names.index(name), lambda step: bar.update())
            if not manifest.shards:  # the folder is claimed when there is something to keep
                manifest.write(folder)
            save_tensors(folder / name, {"latents": latents})
            manifest.shards[name] = sha256(folder / name)
            manifest.write(folder)


def _sample_shard(pretrained: Pretrained, manifest: Manifest, number: int, callback: Callable[[SamplingStep], None]) -> Tensor:
    recipe, prompts = manifest.recipe, manifest.prompts
    labels = manifest.labels[number * recipe.shard_size : (number + 1) * recipe.shard_size]
    half = PRECISION.get(recipe.mixed_precision)
    with nullcontext() if half is None else torch.autocast(pretrained.device.type, half):
        latents = sample_latents(
            pretrained, labels if prompts is None else [prompts[label] for label in labels], steps=recipe.steps,
            sampler=recipe.sampler, guidance=recipe.guidance, generator=seeded_generator(recipe.seed, "bank shard", number),
            batch_size=recipe.shard_size, callback=callback,
        )  # fmt: skip
        if recipe.reencode:
            latents = pretrained.encode(to_pixels(pretrained.decode(latents)) / 127.5 - 1).cpu()
    return latents


@undisturbed
def repair_bank(folder: str | Path, pretrained: Pretrained) -> list[str]:
    """As `MemoryBank.repair`, for a bank that does not load; warns where the bits are not those that were recorded."""
    require_model("pretrained", pretrained)
    folder = user_path(folder)
    manifest = Manifest.read(folder)
    require_same_model(manifest.recipe, pretrained, folder)
    with FolderLock(folder):
        bad, recorded = verify(folder, manifest.shards), dict(manifest.shards)
        write_shards(pretrained, folder, manifest, bad)
    for name in bad:
        if manifest.shards[name] != recorded[name]:
            warnings.warn(
                f"{folder / name} is whole again but differs in bits from the one that was recorded: it was sampled on "
                "another kind of machine, with another number of threads, or another version of torch",
                stacklevel=3,
            )
    return bad


def require_same_model(recipe: BankRecipe, pretrained: Pretrained, folder: Path) -> None:
    """Raise where a bank was sampled from another model than the one at hand."""
    if recipe.latent_shape != tuple(pretrained.latent_shape):
        raise ValueError(f"the bank in {folder} holds latents {recipe.latent_shape}, {pretrained.name} works on {pretrained.latent_shape}")
    if recipe.fingerprint != pretrained.fingerprint:
        raise ValueError(
            f"the bank in {folder} was sampled from another model (weights {recipe.fingerprint[:12]}, "
            f"{pretrained.name} has {pretrained.fingerprint[:12]}), or from this one loaded in another precision (dtype): sample a bank from this one"
        )
