"""An adapter in a folder by itself: what was trained, and the digest of the model that it belongs on.

difftuning.json                                  which adapter, its options, the model's digest, label names, checksums
weights.safetensors                              all trained weights by name but LoRA's: label table, biases, added modules
adapter_config.json, adapter_model.safetensors   LoRA's, in peft's own format
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...support.files import DamagedFileError, checksum_list, load_tensors, read_json, save_tensors, sha256, verify, write_json
from ...support.names import in_order
from ...support.options import with_options
from .apply import put_on
from .lora import WEIGHTS as PEFT_WEIGHTS
from .lora import is_lora, read_peft, write_peft
from .options import ADAPTERS, name_of

CARD, WEIGHTS = "difftuning.json", "weights.safetensors"


def write_adapter(folder: Path, denoiser: nn.Module, about: dict[str, Any]) -> None:
    """Write a denoiser's adapter into a new folder; `about` goes into its card."""
    folder.mkdir(parents=True)
    trained = {name: weight for name, weight in denoiser.named_parameters() if weight.requires_grad}
    factors = {name: weight for name, weight in trained.items() if is_lora(name)}
    save_tensors(folder / WEIGHTS, {name: weight for name, weight in trained.items() if name not in factors})
    if factors:
        write_peft(folder, denoiser, factors)
    files = {path.name: sha256(path) for path in in_order(folder.iterdir())}
    card = {"adapter": name_of(denoiser.adapter), "options": asdict(denoiser.adapter), **about, "sha256": files}
    write_json(folder / CARD, card)


def read_card(folder: Path) -> dict[str, Any]:
    """The card, once every file that it lists was found to be as it was written."""
    if not (folder / CARD).is_file():
        raise FileNotFoundError(f"no adapter in {folder}: it has no {CARD}")
    card = read_json(folder / CARD)
    try:
        files = checksum_list(folder / CARD, card["sha256"])
        with_options(card["adapter"], ADAPTERS, card["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{folder / CARD} does not describe an adapter ({error}); restore it") from error
    for name in verify(folder, files):
        raise DamagedFileError(f"{folder / name} is missing, cut off or altered; restore it")
    return card


@torch.no_grad()
def read_onto(denoiser: nn.Module, folder: Path, card: dict[str, Any]) -> None:
    """Put the folder's adapter on a denoiser, in place, with the weights that it was trained to."""
    put_on(denoiser, with_options(card["adapter"], ADAPTERS, card["options"]), seed=0)
    tensors: dict[str, Tensor] = load_tensors(folder / WEIGHTS)
    if PEFT_WEIGHTS in card["sha256"]:
        tensors |= read_peft(folder)
    own = {name: weight for name, weight in denoiser.named_parameters() if weight.requires_grad}
    for name in own.keys() | tensors.keys():
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape:
            raise ValueError(f"the adapter in {folder} does not fit the model: {name!r} is on one side only or of another shape")
        own[name].copy_(tensors[name])
