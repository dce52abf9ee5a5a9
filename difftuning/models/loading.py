"""`load_pretrained`: the tiny models, folders of diffusers' pipelines, hub ids; safetensors only, checked before use.

`load_adapter` puts on such a model what an adapter's folder holds.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Sequence

import torch

from ..support.files import DamagedFileError, checksum_list, one_line, read_json, verify
from ..support.hub import is_hub_id, snapshot
from ..support.names import in_order, user_path
from ..support.quiet import quiet_transformers, require_transformers
from ..support.surroundings import undisturbed
from ..support.world import world_file, world_files
from .adapters.files import read_card, read_onto
from .controlnet import require_matching_factor
from .dit import DiT, require_one_embedder
from .pretrained import ADAPTER, BASE, CARD, Pretrained, card_digest, checked_device, require_model
from .text_to_image import TextToImage

LARGE = 10**8  # weights: more are not meant for a CPU
HUB_FILES = ["*.json", "*/*.safetensors", "*/merges.txt"]
HUB_LEFT_OUT = ["safety_checker/*", "*.fp16.safetensors", "*.non_ema.safetensors"]  # beside the same weights in float32, averaged
STABLE_DIFFUSION = "unet text_encoder tokenizer vae scheduler controlnet safety_checker feature_extractor image_encoder".split()  # parts
WORLD_MODELS = {"tiny": "models/tiny", "tiny-text-to-image": "models/tiny_text_to_image"}


@undisturbed
def load_pretrained(source: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Pretrained:
    """A model of the tiny world ("tiny", "tiny-text-to-image"), a folder of one of diffusers' pipelines, or a hub id ("owner/name@revision" for another than the main one).

    Pipelines: DiTPipeline, StableDiffusionPipeline, StableDiffusionControlNetPipeline with one ControlNet (ValueError where it has more).

    `dtype` defaults to float32, whatever precision the files have.  Weights are read from
    safetensors alone, and checked where difftuning.json has checksums.  A folder without difftuning.json is taken for DiT-XL/2's lineage when it
    has that size (frequency_shift 0, norm_eps 1e-6), for one trained with diffusers otherwise.
    """
    chosen, device = device, checked_device("cpu" if device is None else device)
    dtype = dtype or torch.float32
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a precision of torch such as torch.bfloat16, got {dtype!r}")
    folder = _model_folder(source)

    from diffusers import AutoencoderKL, DDIMScheduler  # some seconds, which a wrong name need not wait for

    card = _read_card(folder / CARD) if (folder / CARD).is_file() else {}
    _require_checksums(folder, card.get("sha256", {}))
    if (folder / BASE).is_dir():
        return _adapted(load_pretrained(folder / BASE, device=device, dtype=dtype), folder / ADAPTER, read_card(folder / ADAPTER))
    denoiser = _load_text_to_image(folder, dtype) if (folder / "unet").is_dir() else _load_dit(folder, dtype, card)
    autoencoder = load_component(AutoencoderKL, folder / "vae", dtype)
    options = {"clip_sample": False} if denoiser.takes_prompts else {}  # what clips there is made for pixels; stock pipelines warn of it
    scheduler = _built(DDIMScheduler, folder / "scheduler", "scheduler_config.json", **options)
    names = card.get("label_names") or ([] if denoiser.label_table is None else _imagenet_names(folder, denoiser.null_label))
    model = Pretrained(
        denoiser, autoencoder, scheduler, label_names=names,
        first_free_label=card.get("first_free_label"), name=card.get("name", str(source)),
    )  # fmt: skip
    if denoiser.takes_prompts and denoiser.controlnet is not None:
        require_matching_factor(model)
    if chosen is None and torch.cuda.is_available() and sum(weight.numel() for weight in denoiser.parameters()) > LARGE:
        warnings.warn(f"{model.name} is on the CPU, and this machine has a GPU: pass device='cuda'", stacklevel=3)
    return model.to(device)


def _load_dit(folder: Path, dtype: torch.dtype, card: dict) -> DiT:
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    config = _read_config(folder / "transformer" / "config.json")
    options = {}
    if "frequency_shift" not in card:
        published = config.get("num_attention_heads") == 16 and config.get("num_layers") == 28
        card["frequency_shift"] = 0 if published else 1
        options = {"norm_eps": 1e-6} if published else {}
    transformer = load_component(DiTTransformer2DModel, folder / "transformer", dtype, **options)
    require_one_embedder(transformer)
    if transformer.config.out_channels != 2 * transformer.config.in_channels:
        raise ValueError(
            f"{folder} has no learned variance ({transformer.config.out_channels} output channels): difftuning works with models that have"
        )
    return DiT(transformer, frequency_shift=card["frequency_shift"])


def _load_text_to_image(folder: Path, dtype: torch.dtype) -> TextToImage:
    _require_read_parts(folder)
    require_transformers()
    with quiet_transformers():
        from diffusers import ControlNetModel, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        unet = load_component(UNet2DConditionModel, folder / "unet", dtype)
        text_encoder = load_component(CLIPTextModel, folder / "text_encoder", dtype)
        controlnet = load_component(ControlNetModel, folder / "controlnet", dtype) if (folder / "controlnet").is_dir() else None
        tokenizer = _built(CLIPTokenizer, folder / "tokenizer", "tokenizer_config.json")
    return TextToImage(unet, text_encoder, tokenizer, controlnet)


def _require_read_parts(folder: Path) -> None:
    """ValueError where a pipeline has a part that would be left out and changes what it draws, such as a second ControlNet or text encoder."""
    for name, part in read_json(folder / "model_index.json").items():
        kind = part[1] if isinstance(part, list) and len(part) == 2 else None  # else a setting; [null, null] where it has none
        if kind is not None and (name not in STABLE_DIFFUSION or (name == "controlnet" and kind != "ControlNetModel")):
            raise ValueError(
                f"{folder} has a {kind} ({name}): of text-to-image pipelines those with one text encoder and at most one ControlNetModel "
                "are read; save it without the others"
            )


@undisturbed
def load_adapter(pretrained: Pretrained, folder: str | Path) -> Pretrained:
    """A copy of `pretrained` with the adapter in `folder`: what `save_adapter` wrote, a model saved with one, or a run's folder.

    ValueError where it was trained on another model; FileNotFoundError where there is no adapter.
    """
    require_model("pretrained", pretrained)
    folder = user_path(folder)
    folder = next((place for place in (folder / "model" / ADAPTER, folder / ADAPTER) if place.is_dir()), folder)
    card = read_card(folder)
    if card["base"] != pretrained.fingerprint:
        raise ValueError(
            f"the adapter in {folder} was trained on another model than {pretrained.name} (weights {card['base'][:12]}, not "
            f"{pretrained.fingerprint[:12]}), or on this one in another precision (dtype): load the one that it belongs on"
        )
    return _adapted(pretrained.with_denoiser(pretrained.copy_denoiser()), folder, card)


def _adapted(model: Pretrained, folder: Path, card: dict) -> Pretrained:
    read_onto(model.denoiser, folder, card)
    names = {name: card[name] for name in ("label_names", "first_free_label", "name")}
    return model.with_denoiser(model.denoiser, **names)


def _read_card(path: Path) -> dict:
    """difftuning.json, its entries of the right kind."""
    card = read_json(path)
    right = {
        "name": lambda name: isinstance(name, str),
        "sha256": lambda digests: isinstance(digests, dict),
        "label_names": lambda names: isinstance(names, list) and all(isinstance(name, str) for name in names),
        "first_free_label": lambda row: type(row) is int and row >= 0,
        "frequency_shift": lambda shift: shift in (0, 1),
    }
    for name, is_right in right.items():
        if name in card and not is_right(card[name]):
            raise DamagedFileError(f"{path} is damaged ({name} is {card[name]!r:.80}); restore it, or save the model again")
    own = card.get("sha256", {}).pop(CARD, None)  # folders of earlier versions have none
    if own is not None and own != card_digest(card):
        raise DamagedFileError(f"{path} was altered since it was saved; restore it, or save the model again")
    return card


def _require_checksums(folder: Path, checksums: dict[str, str]) -> None:
    """Raise where a file that difftuning.json lists is not as it was saved; of missing weights `load_component` knows more to say."""
    for name in verify(folder, checksum_list(folder / CARD, checksums)):
        path = folder / name
        if path.is_file() or path.suffix != ".safetensors":
            raise DamagedFileError(f"{path} is missing or does not match its checksum in {CARD}; restore both, or save the model again")


def _model_folder(source: str | Path) -> Path:
    if source in WORLD_MODELS:
        place = WORLD_MODELS[source]
        world_files(place)  # verifies every file
        return world_file(f"{place}/model_index.json").parent
    folder = user_path(source)
    if folder.is_dir():
        if not any((place / "model_index.json").is_file() for place in (folder, folder / BASE)):
            raise FileNotFoundError(f"{folder} is no folder of a pipeline: it has no model_index.json{_instead(folder)}")
        return folder
    if not is_hub_id(str(source)):
        raise FileNotFoundError(f"no model {str(source)!r}: give 'tiny', an existing folder or a hub id such as 'facebook/DiT-XL-2-256'")
    return snapshot(str(source), HUB_FILES, HUB_LEFT_OUT)


def _instead(folder: Path) -> str:
    """What the folder of a run is good for: it has its model inside, or is not finished."""
    if (folder / "model").is_dir():
        return f"; it is a finished run: give {folder / 'model'}"
    return "; it is an unfinished run: the command that began it goes on" if (folder / "checkpoints").is_dir() else ""


def load_component(model_class, folder: Path, dtype: torch.dtype, **options):
    """diffusers' `from_pretrained`, safetensors only, with errors that name the file."""
    weights = in_order(folder.glob("*.safetensors"))
    variant = _variant(weights)
    if not weights:
        pickled = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt"))
        found = f"only {pickled[0]}, a pickle, which is never loaded" if pickled else "no safetensors weights"
        raise FileNotFoundError(
            f"{folder} has {found}; save the model with safe_serialization=True, or turn the published DiT's .pt file into one with "
            "convert_original_dit; on the hub, a conversion may wait as a pull request ('owner/name@refs/pr/1')"
        )
    model, info = _built(
        model_class, folder, "config.json", use_safetensors=True, variant=variant, dtype=dtype, output_loading_info=True, **options
    )
    unused = [name for name in info["unexpected_keys"] if name.endswith((".weight", ".bias"))]  # tables are computed anew
    if alone := sorted([*unused, *info["missing_keys"]]):
        raise DamagedFileError(
            f"config.json and the weights in {folder} do not fit: only one of them has {alone[0]!r}; restore both, or save the model again"
        )
    diverged = next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)
    if diverged is not None:
        raise DamagedFileError(
            f"the weights in {folder} hold NaN or infinity in {dtype} ({diverged!r}): training has diverged, or the file is damaged; restore it"
        )
    return model


def _built(kind: type, folder: Path, config: str, **options):
    """diffusers' `from_pretrained` of a local folder; what it makes of a damaged configuration can be any error, or none for hours."""
    _read_config(folder / config)
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except MemoryError:
        raise
    except Exception as error:
        raise DamagedFileError(
            f"{folder / config} makes no {kind.__name__} of what lies beside it ({one_line(error)}); restore both, or save the model again"
        ) from error


def _is_whole(value: object) -> bool:
    return type(value) is int and 0 < value < 2**16


_RIGHT = {  # entries that a model is built from without a word, whatever they are
    "num_layers": _is_whole,
    "layers_per_block": _is_whole,
    "sample_size": _is_whole,
    "patch_size": _is_whole,
    "norm_num_groups": _is_whole,
    "norm_eps": lambda value: isinstance(value, float) and 0 <= value < 1,
    "scaling_factor": lambda value: isinstance(value, (int, float)) and 0 < value < 1e9,
    "id2label": lambda value: isinstance(value, dict),
}


def _read_config(path: Path) -> dict:
    """A part's configuration, its numbers possible ones."""
    config = read_json(path)
    wrong = next((name for name, is_right in _RIGHT.items() if name in config and not is_right(config[name])), None)
    if wrong is None and config.get("sample_size", 0) % config.get("patch_size", 1):
        wrong = "sample_size"
    if wrong is not None:
        raise DamagedFileError(f"{path} is damaged ({wrong} is {config[wrong]!r:.80}); restore it")
    return config


def _variant(weights: Sequence[Path]) -> str | None:
    """ "fp16" where there are only files such as diffusion_pytorch_model.fp16.safetensors; diffusers takes none unless told."""
    marks = [re.fullmatch(r"[^.]+\.(\w+)(-\d+-of-\d+)?\.safetensors", path.name) for path in weights]
    return marks[0][1] if marks and all(marks) else None


def _imagenet_names(folder: Path, num_labels: int) -> list[str]:
    """Names from model_index.json's id2label, as facebook/DiT-XL-2-256 has them; else the numbers."""
    id2label = _read_config(folder / "model_index.json").get("id2label", {})
    return [str(id2label.get(str(label), label)) for label in range(num_labels)]
