"""The memory bank: pictures sampled once from the pre-trained model, replayed while fine-tuning.

On disk: manifest.json and shards of safetensors.  Every sample's noise comes from (seed,
its place) and every shard is one batch, so an interrupted bank resumes, and a damaged
shard is sampled again, to the same bits.
"""

from __future__ import annotations

import json
import math
import warnings
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Callable, Sequence

import torch
from torch import Tensor

from ..config import BankConfig, Sampler
from ..models.pretrained import Pretrained, require_model, weights_digest
from ..sampling import SamplingStep, label_rows, require_prompts, sample_latents
from ..support import processes
from ..support.files import (
    DamagedFileError,
    checksum_list,
    is_ours,
    load_tensors,
    read_json,
    require_space,
    save_tensors,
    sha256,
    verify,
    write_json,
)
from ..support.lock import FolderLock
from ..support.names import user_path
from ..support.progress import progress_bar
from ..support.random import seeded_generator
from ..support.surroundings import undisturbed

MANIFEST = "manifest.json"
PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class BankRecipe(BankConfig):
    """Everything that decides a bank's content; two equal recipes give the same bank."""

    fingerprint: str  # of the model that was sampled
    autoencoder: str  # digest of the one that re-encoded it; empty where none did
    latent_shape: tuple[int, int, int]
    labels: str  # digest of the labels it was sampled under

    @property
    def shard_names(self) -> list[str]:
        return [f"shard-{number:05d}.safetensors" for number in range(math.ceil(self.size / self.shard_size))]


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
        return _digest(self.latents, self.labels, prompts=self.prompts)

    @classmethod
    @undisturbed
    def sample(cls, pretrained: Pretrained, size: int, *, folder: str | Path, seed: int = 0,
               labels: Tensor | Sequence[int] | Sequence[str] | None = None, sampler: Sampler = "ddim", steps: int = 50, guidance: float = 1.5,
               resume: bool = True, reencode: bool = False, mixed_precision: str = "no", shard_size: int = 250,
               progress: bool = True) -> MemoryBank:  # fmt: skip
        """Sample `size` latents into `folder`, or finish a bank begun there, or open the finished one.

        `labels`: one for each sample; by default the source classes in equal shares, in random
        order.  A text-to-image model needs prompts in their place.  `reencode` stores what remains after 8-bit pictures, as a bank kept as image
        files would (the published code's way).  `mixed_precision` ("bf16", on a GPU "fp16") is for more speed; a model that is
        loaded in another dtype counts as another model.
        """
        if processes.count() > 1:
            raise ValueError("a bank is sampled by one process: sample it first (`difftuning bank`), then start the others with it")
        config = BankConfig(
            size=size, seed=seed, sampler=sampler, steps=steps, guidance=guidance, shard_size=shard_size, reencode=reencode,
            mixed_precision=mixed_precision,
        )  # fmt: skip
        require_model("pretrained", pretrained)
        folder, size, steps, guidance = user_path(folder), config.size, config.steps, config.guidance
        if not (folder / MANIFEST).is_file():
            require_space(folder, 4 * math.prod(pretrained.latent_shape) * size)
        labels, prompts = _labels_and_prompts(pretrained, size, config.seed, labels)
        if len(labels) != size:
            raise ValueError(f"labels must hold one label for each of the {size} samples, got {len(labels)}")
        sample_latents(pretrained, [], steps=steps, sampler=sampler, guidance=guidance)  # what is wrong is said here
        shape = tuple(pretrained.latent_shape)
        autoencoder = weights_digest(pretrained.autoencoder) if reencode else ""
        recipe = BankRecipe(
            **asdict(config),
            fingerprint=pretrained.fingerprint,
            autoencoder=autoencoder,
            latent_shape=shape,
            labels=_digest(labels, prompts=prompts),
        )
        if _missing(_stored(folder, recipe, resume), recipe):
            with FolderLock(folder):
                manifest = _stored(folder, recipe, resume=True) or _new_manifest(recipe, labels, prompts)
                missing = _missing(manifest, recipe)
                require_space(folder, 4 * math.prod(shape) * config.shard_size * len(missing))
                _write_shards(pretrained, folder, recipe, manifest, missing, progress)
        return cls.load(folder)

    @classmethod
    @undisturbed
    def load(cls, folder: str | Path) -> MemoryBank:
        """Open a finished bank; every shard's checksum is verified and a bad one is named."""
        folder = user_path(folder)
        manifest, recipe = _read_manifest(folder)
        if absent := _missing(manifest, recipe):
            raise DamagedFileError(f"the bank in {folder} is unfinished ({absent[0]} is next): call MemoryBank.sample again to go on")
        if bad := verify(folder, manifest["shards"]):
            raise DamagedFileError(
                f"{folder / bad[0]} is missing, cut off or altered: repair it with `difftuning bank --repair` or difftuning.training.memory_bank.repair_bank(folder, pretrained)"
            )
        latents = torch.cat([load_tensors(folder / name)["latents"] for name in recipe.shard_names])
        return cls(folder, recipe, latents, torch.tensor(manifest["labels"]), manifest.get("prompts"))

    def verify(self) -> list[str]:
        """Names of the shards on disk that are missing, cut off or altered."""
        return verify(self.folder, _read_manifest(self.folder)[0]["shards"])

    def repair(self, pretrained: Pretrained) -> list[str]:
        """Sample just the bad shards again, to the same bits on the same machine; returns their names."""
        return repair_bank(self.folder, pretrained)

    @undisturbed
    def images(self, pretrained: Pretrained, indices: Tensor | slice = slice(None)) -> Tensor:
        """Pictures (n, 3, H, W) of some of the bank's samples, to look at."""
        require_model("pretrained", pretrained)
        return torch.cat([pretrained.decode(part).cpu() for part in self.latents[indices].split(250)])


@undisturbed
def repair_bank(folder: str | Path, pretrained: Pretrained) -> list[str]:
    """As `MemoryBank.repair`, for a bank that does not load; warns where the bits are not those that were recorded."""
    require_model("pretrained", pretrained)
    folder = user_path(folder)
    manifest, recipe = _read_manifest(folder)
    require_same_model(recipe, pretrained, folder)
    with FolderLock(folder):
        bad, recorded = verify(folder, manifest["shards"]), dict(manifest["shards"])
        _write_shards(pretrained, folder, recipe, manifest, bad)
    for name in bad:
        if manifest["shards"][name] != recorded[name]:
            warnings.warn(
                f"{folder / name} is whole again but differs in bits from the one that was recorded: it was sampled on "
                "another kind of machine, with another number of threads, or another version of torch",
                stacklevel=3,
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


def _labels_and_prompts(pretrained: Pretrained, size: int, seed: int, given) -> tuple[Tensor, list[str] | None]:
    """Rows of the label table and None, or places in a list of prompts and that list."""
    if not pretrained.takes_prompts:
        return _source_labels(pretrained, size, seed) if given is None else label_rows(pretrained, given), None
    if given is None:
        raise ValueError(f"{pretrained.name} is told what to draw by prompts: give labels=, a prompt for each sample")
    prompts = require_prompts(pretrained, given)
    different = sorted(set(prompts))
    place = {prompt: number for number, prompt in enumerate(different)}
    return torch.tensor([place[prompt] for prompt in prompts], dtype=torch.int64), different


def _source_labels(pretrained: Pretrained, size: int, seed: int) -> Tensor:
    """The source classes over and over, shuffled: each appears equally often, up to one."""
    classes = len(pretrained.label_names)
    return torch.arange(size)[torch.randperm(size, generator=seeded_generator(seed, "bank labels", size))] % classes


def _write_shards(
    pretrained: Pretrained, folder: Path, recipe: BankRecipe, manifest: dict, names: list[str], progress: bool = True
) -> None:
    """Sample shard after shard; the bar moves with every reverse step, as a single shard may take minutes."""
    with progress_bar(None, "memory bank", total=len(names) * recipe.steps, shown=progress and bool(names)) as bar:
        for name in names:
            _write_shard(pretrained, folder, recipe, manifest, name, lambda step: bar.update())


def _write_shard(
    pretrained: Pretrained, folder: Path, recipe: BankRecipe, manifest: dict, name: str, callback: Callable[[SamplingStep], None]
) -> None:
    number = recipe.shard_names.index(name)
    part = slice(number * recipe.shard_size, min((number + 1) * recipe.shard_size, recipe.size))
    labels, prompts, half = torch.tensor(manifest["labels"][part]), manifest.get("prompts"), PRECISION.get(recipe.mixed_precision)
    if prompts is not None:
        labels = [prompts[label] for label in labels.tolist()]
    with nullcontext() if half is None else torch.autocast(pretrained.device.type, half):
        latents = sample_latents(
            pretrained, labels, steps=recipe.steps, sampler=recipe.sampler, guidance=recipe.guidance,
            generator=seeded_generator(recipe.seed, "bank shard", number), batch_size=recipe.shard_size, callback=callback,
        )  # fmt: skip
        if recipe.reencode:
            pixels = ((pretrained.decode(latents) + 1) * 127.5).round()
            latents = pretrained.encode(pixels / 127.5 - 1).cpu()
    if not manifest["shards"]:  # the folder is claimed when there is something to keep
        write_json(folder / MANIFEST, manifest)
    save_tensors(folder / name, {"latents": latents})
    manifest["shards"][name] = sha256(folder / name)
    write_json(folder / MANIFEST, manifest)


def _stored(folder: Path, recipe: BankRecipe, resume: bool) -> dict | None:
    """The manifest in `folder` if it is of this very bank, None where there is nothing; anything else raises."""
    if not is_ours(folder, MANIFEST) or not (found := _read_manifest(folder))[0]["shards"]:
        return None
    if not resume:
        raise FileExistsError(f"{folder} already holds a bank: resume=True goes on with it, or choose another folder")
    manifest, stored = found
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
        entries = manifest["recipe"]
        if entries.keys() | {"mixed_precision"} != {each.name for each in fields(BankRecipe)}:  # no other has a default here
            raise ValueError("its recipe has other entries")
        recipe = BankRecipe(**entries | {"latent_shape": tuple(entries["latent_shape"])})
        if manifest["sha256"] != _recipe_digest(recipe):
            raise ValueError("its recipe was altered")
        if not set(checksum_list(path, manifest["shards"])) <= set(recipe.shard_names):
            raise ValueError("it lists shards that the bank does not have")
        if _digest(torch.tensor(manifest["labels"]), prompts=manifest.get("prompts")) != recipe.labels:
            raise ValueError("its labels were altered")
        return manifest, recipe
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise DamagedFileError(f"{path} is damaged or no bank manifest ({error}); restore it, or delete the folder") from error


def _missing(manifest: dict | None, recipe: BankRecipe) -> list[str]:
    """The shards that have not been sampled yet."""
    return [name for name in recipe.shard_names if manifest is None or name not in manifest["shards"]]


def _digest(*tensors: Tensor, prompts: list[str] | None = None) -> str:
    parts = [tensor.cpu().contiguous().view(torch.uint8).numpy() for tensor in tensors]  # numpy has no bfloat16
    return sha256(*parts, *([] if prompts is None else [json.dumps(prompts)]))


def _new_manifest(recipe: BankRecipe, labels: Tensor, prompts: list[str] | None) -> dict:
    """The manifest of a bank without shards; `sha256` is the recipe's own checksum, `prompts` stand in a text-to-image model's alone."""
    plain = _entries(recipe) | {"latent_shape": list(recipe.latent_shape)}
    told = {} if prompts is None else {"prompts": prompts}
    return {"recipe": plain, "sha256": _recipe_digest(recipe), "labels": labels.tolist(), **told, "shards": {}}


def _entries(recipe: BankRecipe) -> dict:
    """What of a recipe is written down; full precision is not, as the first banks did not name it."""
    return {name: value for name, value in asdict(recipe).items() if (name, value) != ("mixed_precision", "no")}


def _recipe_digest(recipe: BankRecipe) -> str:
    return sha256(json.dumps(_entries(recipe), sort_keys=True))
