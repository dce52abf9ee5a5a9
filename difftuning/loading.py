"""`load_pretrained`: the tiny model, folders of diffusers' `DiTPipeline`, hub ids; safetensors only, checked before use."""

from __future__ import annotations

from pathlib import Path

import torch

from .dit import DiT, require_one_embedder
from .files import DamagedFileError, read_json, sha256, world_file, world_files
from .pretrained import CARD, Pretrained, checked_device


def load_pretrained(source: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Pretrained:
    """The tiny world's model ("tiny"), a folder in diffusers' DiTPipeline layout, or a hub id.

    `dtype` defaults to float32, whatever precision the files have.  Weights are read from
    safetensors alone, and checked where difftuning.json has checksums.  A folder without difftuning.json is taken for DiT-XL/2's lineage when it
    has that size (frequency_shift 0, norm_eps 1e-6), for one trained with diffusers otherwise.
    """
    from diffusers import AutoencoderKL, DDIMScheduler
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    device = checked_device("cpu" if device is None else device)
    dtype = dtype or torch.float32
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a precision of torch such as torch.bfloat16, got {dtype!r}")
    folder = _model_folder(source)
    card = _read_card(folder / CARD) if (folder / CARD).is_file() else {}
    _require_checksums(folder, card.get("sha256", {}))
    config = read_json(folder / "transformer" / "config.json")
    options = {}
    if "frequency_shift" not in card:
        published = config.get("num_attention_heads") == 16 and config.get("num_layers") == 28
        card["frequency_shift"] = 0 if published else 1
        options = {"norm_eps": 1e-6} if published else {}
    transformer = load_component(DiTTransformer2DModel, folder / "transformer", dtype, **options)
    autoencoder = load_component(AutoencoderKL, folder / "vae", dtype)
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    require_one_embedder(transformer)
    if transformer.config.out_channels != 2 * transformer.config.in_channels:
        raise ValueError(
            f"{folder} has no learned variance ({transformer.config.out_channels} output channels): difftuning works with models that have"
        )
    denoiser = DiT(transformer, frequency_shift=card["frequency_shift"])
    names = card.get("label_names") or _imagenet_names(folder, len(denoiser.label_table) - 1)
    model = Pretrained(
        denoiser, autoencoder, scheduler, label_names=names,
        first_free_label=card.get("first_free_label"), name=card.get("name", str(source)),
    )  # fmt: skip
    return model.to(device)


def _read_card(path: Path) -> dict:
    """difftuning.json, its entries of the right kind."""
    card = read_json(path)
    right = {
        "label_names": lambda names: isinstance(names, list) and all(isinstance(name, str) for name in names),
        "first_free_label": lambda row: isinstance(row, int) and row >= 0,
        "frequency_shift": lambda shift: shift in (0, 1),
    }
    for name, is_right in right.items():
        if name in card and not is_right(card[name]):
            raise DamagedFileError(f"{path} is damaged ({name} is {card[name]!r}); restore it, or save the model again")
    return card


def _require_checksums(folder: Path, checksums: dict[str, str]) -> None:
    """Raise where a file that difftuning.json lists is not as it was saved; of missing weights `load_component` knows more to say."""
    if not isinstance(checksums, dict):
        raise DamagedFileError(f"{folder / CARD} is damaged (sha256 is {checksums!r}); restore it, or save the model again")
    for name, digest in checksums.items():
        path = folder / name
        if sha256(path) != digest if path.is_file() else path.suffix != ".safetensors":
            raise DamagedFileError(f"{path} is missing or does not match its checksum in {CARD}; restore it, or save the model again")


def _model_folder(source: str | Path) -> Path:
    if source == "tiny":
        world_files("models/tiny")  # verifies every file
        return world_file("models/tiny/model_index.json").parent
    folder = Path(source)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise FileNotFoundError(f"{folder} is no DiTPipeline folder: it has no model_index.json")
        return folder
    if folder.is_absolute() or str(source).count("/") != 1:
        raise FileNotFoundError(f"no model {str(source)!r}: give 'tiny', an existing folder or a hub id such as 'facebook/DiT-XL-2-256'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(source), allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(f"no folder {str(source)!r} here, and the hub did not give one ({type(error).__name__})") from error


def load_component(model_class, folder: Path, dtype: torch.dtype, **options):
    """diffusers' `from_pretrained`, safetensors only, with errors that name the file."""
    from safetensors import SafetensorError, safe_open

    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt"))
        found = f"only {pickled[0]}, a pickle, which is never loaded" if pickled else "no safetensors weights"
        raise FileNotFoundError(
            f"{folder} has {found}; save the model with safe_serialization=True, or turn the published DiT's .pt file into one with convert_original_dit"
        )
    for path in weights:
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise DamagedFileError(f"{path} is damaged ({error}); restore or download it again") from error
    try:
        model, info = model_class.from_pretrained(folder, use_safetensors=True, dtype=dtype, output_loading_info=True, **options)
    except (ValueError, RuntimeError) as error:
        raise DamagedFileError(
            f"{folder}: config.json and the weights do not fit each other; restore both, or save the model again"
        ) from error
    unused = [name for name in info["unexpected_keys"] if name.endswith((".weight", ".bias"))]  # tables are computed anew
    if unused:
        raise DamagedFileError(
            f"config.json in {folder} has no place for the weight {sorted(unused)[0]!r}; restore it or save the model again"
        )
    if info["missing_keys"]:
        raise DamagedFileError(f"the weights in {folder} lack {sorted(info['missing_keys'])[0]!r}; save the model again or restore it")
    return model


def _imagenet_names(folder: Path, num_labels: int) -> list[str]:
    """Names from model_index.json's id2label, as facebook/DiT-XL-2-256 has them; else the numbers."""
    id2label = read_json(folder / "model_index.json").get("id2label", {})
    if not isinstance(id2label, dict):
        raise DamagedFileError(f"{folder / 'model_index.json'} is damaged (id2label is {id2label!r}); restore it")
    return [str(id2label.get(str(label), label)) for label in range(num_labels)]
