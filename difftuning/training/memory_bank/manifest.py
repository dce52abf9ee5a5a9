"""manifest.json: everything that decides a bank's content, and which of its shards are done."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor

from ...config import BankConfig
from ...support.files import DamagedFileError, checksum_list, is_ours, read_json, sha256, write_json

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class BankRecipe(BankConfig):
    """Everything that decides a bank's content; two equal recipes give the same bank."""

    fingerprint: str  # of the model that was sampled
    autoencoder: str  # digest of the one that re-encoded it; empty where none did
    latent_shape: tuple[int, int, int]
    labels: str  # digest of the labels it was sampled under

    @property
    def shard_names(self) -> list[str]:
        """The files that the bank is made of, in order."""
        return [f"shard-{number:05d}.safetensors" for number in range(math.ceil(self.size / self.shard_size))]

    @property
    def entries(self) -> dict:
        """What is written down; full precision is not, as the first banks did not name it."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("mixed_precision", "no")}

    @property
    def digest(self) -> str:
        return sha256(json.dumps(self.entries, sort_keys=True))


@dataclass
class Manifest:
    """The recipe, the samples' labels in order, and the checksums of the shards that are done."""

    recipe: BankRecipe
    labels: list[int]
    prompts: list[str] | None = None  # of a text-to-image model: the labels are places in them
    shards: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """The shards that have not been sampled yet."""
        return [name for name in self.recipe.shard_names if name not in self.shards]

    def write(self, folder: Path) -> None:
        told = {} if self.prompts is None else {"prompts": self.prompts}
        entries = {"recipe": self.recipe.entries, "sha256": self.recipe.digest, "labels": self.labels, **told, "shards": self.shards}
        write_json(folder / MANIFEST, entries)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"no memory bank in {folder}: it has no {MANIFEST}")
        found = read_json(path)
        try:
            entries = found["recipe"]
            if entries.keys() | {"mixed_precision"} != {each.name for each in fields(BankRecipe)}:  # no other has a default here
                raise ValueError("its recipe has other entries")
            recipe = BankRecipe(**entries | {"latent_shape": tuple(entries["latent_shape"])})
            if found["sha256"] != recipe.digest:
                raise ValueError("its recipe was altered")
            manifest = cls(recipe, found["labels"], found.get("prompts"), checksum_list(path, found["shards"]))
            if not manifest.shards.keys() <= set(recipe.shard_names):
                raise ValueError("it lists shards that the bank does not have")
            if digest(torch.tensor(manifest.labels), prompts=manifest.prompts) != recipe.labels:
                raise ValueError("its labels were altered")
            return manifest
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise DamagedFileError(f"{path} is damaged or no bank manifest ({error}); restore it, or delete the folder") from error

    def stored(self, folder: Path, *, resume: bool) -> Manifest:
        """This bank's manifest as it lies in `folder`, itself where nothing does; anything else there raises."""
        if not is_ours(folder, MANIFEST) or not (found := Manifest.read(folder)).shards:
            return self
        if not resume:
            raise FileExistsError(f"{folder} already holds a bank: resume=True goes on with it, or choose another folder")
        old, new = asdict(found.recipe), asdict(self.recipe)
        different = [f"{name} was {old[name]!r}, is {new[name]!r}" for name in new if old[name] != new[name]]
        if different:
            raise ValueError(f"{folder} holds another bank ({'; '.join(different)}); choose another folder")
        return found


def digest(*tensors: Tensor, prompts: list[str] | None = None) -> str:
    """Of tensors' bytes, in any precision, and of prompts where there are some."""
    parts = [tensor.cpu().contiguous().view(torch.uint8).numpy() for tensor in tensors]  # numpy has no bfloat16
    return sha256(*parts, *([] if prompts is None else [json.dumps(prompts)]))
