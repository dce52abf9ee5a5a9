"""The memory bank: pictures sampled once from the pre-trained model, replayed while fine-tuning.

On disk: manifest.json and shards of safetensors.  Every sample's noise comes from (seed,
its place) and every shard is one batch, so an interrupted bank resumes, and a damaged
shard is sampled again, to the same bits.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from . import processes
from .checkpoints import require_unused
from .files import DamagedFileError, load_tensors, read_json, require_space, save_tensors, sha256, write_json
from .objective import seeded_generator
from .pretrained import Pretrained, weights_digest
from .progress import progress_bar
from .sampling import Sampler, label_rows, sample_latents
from .settings import plain

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class BankRecipe:
    """Everything that decides a bank's content; two equal recipes give the same bank."""

    size: int
    seed: int
    sampler: Sampler
    steps: int
    guidance: float
    shard_size: int
    reencode: bool
    fingerprint: str  # of the model that was sampled
    autoencoder: str  # digest of the one that re-encoded it; empty where none did
    latent_shape: tuple[int, int, int]
    labels: str  # digest of the labels it was sampled under

    @property
    def shard_names(self) -> list[str]:
        return [f"shard-{number:05d}.safetensors" for number in range(math.ceil(self.size / self.shard_size))]


class MemoryBank:
    """Latents (N, C, h, w) with the source labels (N,) they were sampled under."""

    def __init__(self, folder: Path, recipe: BankRecipe, latents: Tensor, labels: Tensor):
        self.folder, self.recipe = folder, recipe
        self.latents, self.labels = latents, labels

    def __len__(self) -> int:
        return len(self.latents)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of latents and labels; a fine-tuning run carries it."""
        return _digest(self.latents, self.labels)

    @classmethod
    def sample(cls, pretrained: Pretrained, size: int, *, folder: str | Path, seed: int = 0,
               labels: Tensor | list | None = None, sampler: Sampler = "ddim", steps: int = 50, guidance: float = 1.5,
               resume: bool = True, reencode: bool = False, shard_size: int = 250, progress: bool = True) -> MemoryBank:  # fmt: skip
        """Sample `size` latents into `folder`, or finish a bank begun there, or open the finished one.

        `labels`: one for each sample; by default the source classes in equal shares, in random
        order.  `reencode` stores what remains after 8-bit pictures, as a bank kept as image
        files would (the published code's way).  For less precision and more speed, call it under
        `torch.autocast` (a model that is loaded in another dtype counts as another model), and
        again so to go on or to repair: the manifest does not keep it.
        """
        if processes.count() > 1:
            raise ValueError("a bank is sampled by one process: sample it first (`difftuning bank`), then start the others with it")
        size, seed, steps, shard_size = (
            plain(name, "int", value) for name, value in (("size", size), ("seed", seed), ("steps", steps), ("shard_size", shard_size))
        )
        folder, guidance = Path(folder), plain("guidance", "float", guidance)
        if size < 1 or shard_size < 1:
            raise ValueError(f"size and shard_size must be at least 1, got {size} and {shard_size}")
        if not (folder / MANIFEST).is_file():
            require_space(folder, 4 * math.prod(pretrained.latent_shape) * size)
        labels = _source_labels(pretrained, size, seed) if labels is None else label_rows(pretrained, labels)
        if len(labels) != size:
            raise ValueError(f"labels must hold one label for each of the {size} samples, got {len(labels)}")
        sample_latents(pretrained, labels[:0], steps=steps, sampler=sampler, guidance=guidance)  # wrong ones must not claim the folder
        shape = tuple(pretrained.latent_shape)
        autoencoder = weights_digest(pretrained.autoencoder) if reencode else ""
        recipe = BankRecipe(
            size, seed, sampler, steps, guidance, shard_size, reencode, pretrained.fingerprint, autoencoder, shape, _digest(labels)
        )
        manifest = _stored(folder, recipe, resume) or _new_manifest(recipe, labels)
        missing = [name for name in recipe.shard_names if name not in manifest["shards"]]
        if missing:
            require_space(folder, 4 * math.prod(shape) * shard_size * len(missing))
            write_json(folder / MANIFEST, manifest)
        for name in progress_bar(missing, "memory bank", shown=progress and bool(missing)):
            _write_shard(pretrained, folder, recipe, manifest, name)
        return cls.load(folder)

    @classmethod
    def load(cls, folder: str | Path) -> MemoryBank:
        """Open a finished bank; every shard's checksum is verified and a bad one is named."""
        folder = Path(folder)
        manifest, recipe = _read_manifest(folder)
        absent = [name for name in recipe.shard_names if name not in manifest["shards"]]
        if absent:
            raise DamagedFileError(f"the bank in {folder} is unfinished ({absent[0]} is next): call MemoryBank.sample again to go on")
        bad = _bad_shards(folder, manifest)
        if bad:
            raise DamagedFileError(
                f"{folder / bad[0]} is missing, cut off or altered: repair it with `difftuning bank --repair` or difftuning.memory.repair_bank(folder, pretrained)"
            )
        latents = torch.cat([load_tensors(folder / name)["latents"] for name in recipe.shard_names])
        return cls(folder, recipe, latents, torch.tensor(manifest["labels"]))

    def verify(self) -> list[str]:
        """Names of the shards on disk that are missing, cut off or altered."""
        return _bad_shards(self.folder, _read_manifest(self.folder)[0])

    def repair(self, pretrained: Pretrained) -> list[str]:
        """Sample just the bad shards again, to the same bits on the same machine; returns their names."""
        return repair_bank(self.folder, pretrained)

    def images(self, pretrained: Pretrained, indices: Tensor | slice = slice(None)) -> Tensor:
        """Pictures (n, 3, H, W) of some of the bank's samples, to look at."""
        return torch.cat([pretrained.decode(part).cpu() for part in self.latents[indices].split(250)])


def repair_bank(folder: str | Path, pretrained: Pretrained) -> list[str]:
    """As `MemoryBank.repair`, for a bank that does not load; warns where the bits are not those that were recorded."""
    folder = Path(folder)
    manifest, recipe = _read_manifest(folder)
    require_same_model(recipe, pretrained, folder)
    bad = _bad_shards(folder, manifest)
    for name in bad:
        recorded = manifest["shards"][name]
        _write_shard(pretrained, folder, recipe, manifest, name)
        if manifest["shards"][name] != recorded:
            warnings.warn(
                f"{folder / name} is whole again but differs in bits from the one that was recorded: it was sampled on "
                "another kind of machine, with another number of threads, or another version of torch",
                stacklevel=2,
            )
    return bad


def require_same_model(recipe: BankRecipe, pretrained: Pretrained, folder: Path) -> None:
    """Raise where a bank was sampled from another model than the one at hand."""
    if tuple(recipe.latent_shape) != tuple(pretrained.latent_shape):
        raise ValueError(
            f"the bank in {folder} holds latents {tuple(recipe.latent_shape)}, {pretrained.name} works on {tuple(pretrained.latent_shape)}"
        )
    if recipe.fingerprint != pretrained.fingerprint:
        raise ValueError(
            f"the bank in {folder} was sampled from another model (weights {recipe.fingerprint[:12]}, "
            f"{pretrained.name} has {pretrained.fingerprint[:12]}), or from this one loaded in another precision (dtype): sample a bank from this one"
        )


def _source_labels(pretrained: Pretrained, size: int, seed: int) -> Tensor:
    """The source classes over and over, shuffled: each appears equally often, up to one."""
    classes = len(pretrained.label_names)
    return torch.arange(size)[torch.randperm(size, generator=seeded_generator(seed, "bank labels", size))] % classes


def _write_shard(pretrained: Pretrained, folder: Path, recipe: BankRecipe, manifest: dict, name: str) -> None:
    number = recipe.shard_names.index(name)
    part = slice(number * recipe.shard_size, min((number + 1) * recipe.shard_size, recipe.size))
    labels = torch.tensor(manifest["labels"][part])
    latents = sample_latents(
        pretrained, labels, steps=recipe.steps, sampler=recipe.sampler, guidance=recipe.guidance,
        generator=seeded_generator(recipe.seed, "bank shard", number), batch_size=recipe.shard_size,
    )  # fmt: skip
    if recipe.reencode:
        pixels = ((pretrained.decode(latents) + 1) * 127.5).round()
        latents = pretrained.encode(pixels / 127.5 - 1).cpu()
    save_tensors(folder / name, {"latents": latents})
    manifest["shards"][name] = sha256(folder / name)
    write_json(folder / MANIFEST, manifest)


def _stored(folder: Path, recipe: BankRecipe, resume: bool) -> dict | None:
    """The manifest in `folder` if it is of this very bank, None where there is nothing; anything else raises."""
    if not (folder / MANIFEST).is_file():
        return require_unused(folder)
    if not resume:
        raise FileExistsError(f"{folder} already holds a bank: resume=True goes on with it, or choose another folder")
    manifest, stored = _read_manifest(folder)
    old, new = asdict(stored), asdict(recipe)
    different = [f"{name} was {old[name]!r}, is {new[name]!r}" for name in new if old[name] != new[name]]
    if different:
        raise ValueError(f"{folder} holds another bank ({'; '.join(different)}); choose another folder")
    return manifest


def _read_manifest(folder: Path) -> tuple[dict, BankRecipe]:
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"no memory bank in {folder}: it has no {MANIFEST}")
    manifest = read_json(path)
    try:
        recipe = BankRecipe(**manifest["recipe"] | {"latent_shape": tuple(manifest["recipe"]["latent_shape"])})
        if not set(manifest["shards"]) <= set(recipe.shard_names):
            raise ValueError("it lists shards that the bank does not have")
        if manifest["sha256"] != _recipe_digest(recipe):
            raise ValueError("its recipe was altered")
        if _digest(torch.tensor(manifest["labels"])) != recipe.labels:
            raise ValueError("its labels were altered")
        return manifest, recipe
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise DamagedFileError(f"{path} is damaged or no bank manifest ({error}); restore it, or delete the folder") from error


def _bad_shards(folder: Path, manifest: dict) -> list[str]:
    shards = manifest["shards"].items()
    return [name for name, digest in shards if not (folder / name).is_file() or sha256(folder / name) != digest]


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def _new_manifest(recipe: BankRecipe, labels: Tensor) -> dict:
    """The manifest of a bank without shards; `sha256` is the recipe's own checksum."""
    plain = asdict(recipe) | {"latent_shape": list(recipe.latent_shape)}
    return {"recipe": plain, "sha256": _recipe_digest(recipe), "labels": labels.tolist(), "shards": {}}


def _recipe_digest(recipe: BankRecipe) -> str:
    return hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()
