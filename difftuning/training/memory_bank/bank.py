"""`MemoryBank`: sampled into a folder (manifest.json and shards of safetensors), opened from it, verified."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Sequence

import torch
from torch import Tensor

from ...config import BankConfig, Sampler
from ...models.pretrained import Pretrained, require_model, weights_digest
from ...sampling import sample_latents
from ...support import processes
from ...support.files import DamagedFileError, load_tensors, require_space, verify
from ...support.lock import FolderLock
from ...support.names import user_path
from ...support.surroundings import undisturbed
from .manifest import MANIFEST, BankRecipe, Manifest, digest
from .shards import labels_and_prompts, repair_bank, write_shards


class MemoryBank:
    """Latents (N, C, h, w) with the source labels (N,) they were sampled under.

    Of a text-to-image model the labels are places in `prompts`, which is None for others.
    """

    def __init__(self, folder: Path, recipe: BankRecipe, latents: Tensor, labels: Tensor, prompts: list[str] | None = None):
        if latents.ndim != 4 or labels.shape != latents.shape[:1]:
            raise ValueError(f"a bank is latents (N, C, h, w) and labels (N,), got {tuple(latents.shape)} and {tuple(labels.shape)}")
        if broken := int((~latents.isfinite()).flatten(1).any(1).sum()):
            raise ValueError(
                f"{broken} of {len(latents)} samples of the bank in {folder} hold NaN or infinity: sample it anew, in another folder"
            )
        self.folder, self.recipe = folder, recipe
        self.latents, self.labels, self.prompts = latents, labels, prompts

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.latents.shape[1:]))
        told = "classes" if self.prompts is None else "prompts"
        return f"<MemoryBank {self.folder}: {len(self)} samples of {len(self.labels.unique())} {told}, latents {shape}>"

    def __len__(self) -> int:
        return len(self.latents)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of latents, labels and prompts; a fine-tuning run carries it."""
        return digest(self.latents, self.labels, prompts=self.prompts)

    @classmethod
    @undisturbed
    def sample(cls, pretrained: Pretrained, size: int, *, folder: str | Path, seed: int = 0,
               labels: Tensor | Sequence[int] | Sequence[str] | None = None, sampler: Sampler = "ddim", steps: int = 50, guidance: float = 1.5,
               resume: bool = True, reencode: bool = False, mixed_precision: str = "no", shard_size: int = 250,
               progress: bool = True) -> MemoryBank:  # fmt: skip
        """Sample `size` latents into `folder`, or finish a bank begun there, or open the finished one.

        `labels`: one for each sample; by default the source classes in equal shares, in random order.  A text-to-image model
        needs prompts in their place.  `reencode` stores what remains after 8-bit pictures, as a bank kept as image files would
        (the published code's way).  `mixed_precision` ("bf16", on a GPU "fp16") is for more speed; a model that is loaded in
        another dtype counts as another model.
        """
        if processes.count() > 1:
            raise ValueError("a bank is sampled by one process: sample it first (`difftuning bank`), then start the others with it")
        config = BankConfig(
            size=size, seed=seed, sampler=sampler, steps=steps, guidance=guidance, shard_size=shard_size, reencode=reencode,
            mixed_precision=mixed_precision,
        )  # fmt: skip
        require_model("pretrained", pretrained)
        folder = user_path(folder)
        if not (folder / MANIFEST).is_file():
            require_space(folder, 4 * math.prod(pretrained.latent_shape) * config.size)
        labels, prompts = labels_and_prompts(pretrained, config.size, config.seed, labels)
        sample_latents(pretrained, [], steps=config.steps, sampler=sampler, guidance=config.guidance)  # what is wrong is said here
        recipe = BankRecipe(
            **asdict(config), fingerprint=pretrained.fingerprint, latent_shape=tuple(pretrained.latent_shape),
            autoencoder=weights_digest(pretrained.autoencoder) if reencode else "", labels=digest(labels, prompts=prompts),
        )  # fmt: skip
        begun = Manifest(recipe, labels.tolist(), prompts)
        if begun.stored(folder, resume=resume).missing:
            with FolderLock(folder):
                manifest = begun.stored(folder, resume=True)  # another process may have been here in between
                write_shards(pretrained, folder, manifest, manifest.missing, progress)
        return cls.load(folder)

    @classmethod
    @undisturbed
    def load(cls, folder: str | Path) -> MemoryBank:
        """Open a finished bank; every shard's checksum is verified and a bad one is named."""
        folder = user_path(folder)
        manifest = Manifest.read(folder)
        if absent := manifest.missing:
            raise DamagedFileError(f"the bank in {folder} is unfinished ({absent[0]} is next): call MemoryBank.sample again to go on")
        if bad := verify(folder, manifest.shards):
            raise DamagedFileError(
                f"{folder / bad[0]} is missing, cut off or altered: repair it with `difftuning bank --repair` or difftuning.training.memory_bank.repair_bank(folder, pretrained)"
            )
        latents = torch.cat([load_tensors(folder / name)["latents"] for name in manifest.recipe.shard_names])
        return cls(folder, manifest.recipe, latents, torch.tensor(manifest.labels), manifest.prompts)

    def verify(self) -> list[str]:
        """Names of the shards on disk that are missing, cut off or altered."""
        return verify(self.folder, Manifest.read(self.folder).shards)

    def repair(self, pretrained: Pretrained) -> list[str]:
        """Sample just the bad shards again, to the same bits on the same machine; returns their names."""
        return repair_bank(self.folder, pretrained)

    @undisturbed
    def images(self, pretrained: Pretrained, indices: Tensor | slice = slice(None)) -> Tensor:
        """Pictures (n, 3, H, W) of some of the bank's samples, to look at."""
        require_model("pretrained", pretrained)
        return torch.cat([pretrained.decode(part).cpu() for part in self.latents[indices].split(250)])
