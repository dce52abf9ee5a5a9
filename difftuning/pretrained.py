"""`Pretrained`: all that is needed to sample, evaluate or fine-tune a model, in one object.

On disk it is a folder of diffusers' `DiTPipeline` (stock diffusers reads it) with one more
file, difftuning.json, for what that layout cannot say: label names, free label rows, which
sinusoid frequencies the weights were trained with, and checksums of all other files.
"""

from __future__ import annotations

import copy
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import torch
from torch import Tensor, nn

from .diffusion import Diffusion
from .dit import DiT, require_one_embedder
from .files import DamagedFileError, atomic_path, read_json, sha256, world_file, world_files, write_json
from .pictures import require_range

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler

CARD = "difftuning.json"


class Pretrained:
    """A latent diffusion model: denoiser, autoencoder and forward process, on one device.

    Attributes: `denoiser` (x_t, t, labels) -> (N, 2C, h, w); `autoencoder`; `scheduler` (the
    DDIM configuration that fixes the betas); `diffusion` (the tables); `label_names` (index =
    label); `null_label` (the row that means "no label"); `first_free_label` (rows from here up
    to the null row belong to no class yet); `latent_shape` (C, h, w).
    """

    def __init__(self, denoiser: DiT, autoencoder: AutoencoderKL, scheduler: DDIMScheduler, *,
                 label_names: Sequence[str], first_free_label: int | None = None, name: str = "model"):  # fmt: skip
        self.denoiser = denoiser.eval()
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.scheduler = scheduler
        self.diffusion = Diffusion(_betas(scheduler))
        self.label_names = list(label_names)
        self.null_label = len(denoiser.label_table) - 1
        self.first_free_label = len(self.label_names) if first_free_label is None else first_free_label
        self.latent_shape = denoiser.latent_shape
        self.name = name
        if self.first_free_label > self.null_label:
            raise ValueError(f"{self.first_free_label} labels do not fit into a table whose null row is {self.null_label}")

    @property
    def device(self) -> torch.device:
        return self.denoiser.label_table.device

    @property
    def dtype(self) -> torch.dtype:
        return self.denoiser.label_table.dtype

    def to(self, device: str | torch.device) -> Pretrained:
        device = checked_device(device)
        if device != self.device:  # other models may share the autoencoder (`with_denoiser`): theirs stays where it is
            self.autoencoder = copy.deepcopy(self.autoencoder).to(device)
            self.denoiser.to(device)
        return self

    @property
    def image_size(self) -> int:
        """Pixels on each side of the square pictures that the model draws."""
        return 2 ** (len(self.autoencoder.config.block_out_channels) - 1) * self.latent_shape[1]

    @torch.no_grad()
    def predict(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The denoiser's noise and variance, float32 (N, 2C, h, w), whatever its precision; x_t (N, C, h, w), t and labels (N,)."""
        return self.denoiser(x_t.to(self.dtype), t, labels).float()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] -> scaled latents (N, C, h, w), the posterior's mean."""
        size = self.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(
                f"{self.name} takes images of shape (N, 3, {size}, {size}), got {tuple(images.shape)}; "
                f"load_task(..., size={size}) crops and resizes them"
            )
        require_range("images", images)
        posterior = self.autoencoder.encode(images.to(self.device, self.autoencoder.dtype)).latent_dist
        return (posterior.mode() * self.autoencoder.config.scaling_factor).float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (N, C, h, w) -> images (N, 3, H, W) in [-1, 1]."""
        latents = latents.to(self.device, self.autoencoder.dtype) / self.autoencoder.config.scaling_factor
        return self.autoencoder.decode(latents).sample.float().clamp(-1, 1)

    def with_denoiser(self, denoiser: nn.Module, *, label_names: Sequence[str] | None = None,
                      first_free_label: int | None = None, name: str | None = None) -> Pretrained:  # fmt: skip
        """The same autoencoder and forward process around another denoiser."""
        return Pretrained(
            denoiser, self.autoencoder, self.scheduler, label_names=label_names or self.label_names,
            first_free_label=self.first_free_label if first_free_label is None else first_free_label,
            name=name or self.name,
        )  # fmt: skip

    def copy_denoiser(self) -> DiT:
        return copy.deepcopy(self.denoiser)

    @property
    def fingerprint(self) -> str:
        """Digest of the denoiser and of the forward process it was trained for; runs and memory banks carry it."""
        process = self.diffusion.betas.float().numpy().tobytes().hex()
        parts = [weights_digest(self.denoiser), self.denoiser.frequency_shift, self.denoiser.transformer.config.norm_eps, process]
        return hashlib.sha256(f"{parts}".encode()).hexdigest()

    @property
    def encoder_fingerprint(self) -> str:
        """Digest of what decides the latents; a decoder may be improved later without touching them."""
        layers = [self.autoencoder.encoder, self.autoencoder.quant_conv]  # some autoencoders have no second one
        parts = [weights_digest(layer) for layer in layers if layer is not None]
        return hashlib.sha256(f"{parts} {self.autoencoder.config.scaling_factor}".encode()).hexdigest()

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write diffusers' folder, replacing only a folder that holds such a model; `dtype` may halve the files."""
        from diffusers import DiTPipeline

        folder = Path(folder)
        _require_own(folder)
        dtype = dtype or self.dtype
        pipeline = DiTPipeline(
            # torch's own `to`: diffusers' one logs a warning about precision, whatever the precision
            transformer=nn.Module.to(self.denoiser.untied(), "cpu", dtype),
            vae=nn.Module.to(copy.deepcopy(self.autoencoder), "cpu", dtype),
            scheduler=self.scheduler,
        )
        with atomic_path(folder) as scratch:
            pipeline.save_pretrained(scratch, safe_serialization=True)
            for path in scratch.glob("*/config.json"):  # diffusers notes where on this machine a part came from
                write_json(path, {key: value for key, value in read_json(path).items() if key != "_name_or_path"})
            files = [path for path in sorted(scratch.rglob("*")) if path.is_file()]
            card = {
                "name": self.name,
                "frequency_shift": self.denoiser.frequency_shift,
                "first_free_label": self.first_free_label,
                "label_names": self.label_names,
                "sha256": {path.relative_to(scratch).as_posix(): sha256(path) for path in files},
            }
            write_json(scratch / CARD, card)


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
    names, free, shift = card.get("label_names", []), card.get("first_free_label", 0), card.get("frequency_shift", 0)
    wrong = [
        *(["label_names"] if not isinstance(names, list) or not all(isinstance(name, str) for name in names) else []),
        *(["first_free_label"] if not isinstance(free, int) or free < 0 else []),
        *(["frequency_shift"] if shift not in (0, 1) else []),
    ]
    if wrong:
        raise DamagedFileError(f"{path} is damaged ({wrong[0]} is {card[wrong[0]]!r}); restore it, or save the model again")
    return card


def _require_own(folder: Path) -> None:
    """Raise where saving to `folder`, which replaces it, would take anything with it that is not a model's."""
    if not folder.exists():
        return
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} if folder.is_dir() else {folder.name}
    parts = re.compile(r"(transformer|vae|scheduler)/([\w.-]+\.safetensors|[\w.-]*config\.json|[\w.-]+\.index\.json)")
    foreign = sorted(name for name in found if name not in ("model_index.json", CARD) and not parts.fullmatch(name))
    if foreign or (found and "model_index.json" not in found):
        raise FileExistsError(
            f"{folder} holds something that is not a model ({', '.join((foreign or sorted(found))[:3])}); choose another folder"
        )


def _require_checksums(folder: Path, checksums: dict[str, str]) -> None:
    """Raise where a file that difftuning.json lists is not as it was saved; of missing weights `load_component` knows more to say."""
    if not isinstance(checksums, dict):
        raise DamagedFileError(f"{folder / CARD} is damaged (sha256 is {checksums!r}); restore it, or save the model again")
    for name, digest in checksums.items():
        path = folder / name
        if sha256(path) != digest if path.is_file() else path.suffix != ".safetensors":
            raise DamagedFileError(f"{path} is missing or does not match its checksum in {CARD}; restore it, or save the model again")


def checked_device(device: str | torch.device) -> torch.device:
    """The device, or a ValueError in one line where this machine has no such thing."""
    try:
        device = torch.device(device)
        return torch.empty(0, device=device).device  # with its number: "cuda" is "cuda:0"
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        have = ["cpu", *(["cuda"] if torch.cuda.is_available() else []), *(["mps"] if torch.backends.mps.is_available() else [])]
        raise ValueError(f"device {str(device)!r} is not there; this machine has {', '.join(have)}") from error


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over names, shapes and float32 values; tied weights count once, half-precision files alike."""
    digest = hashlib.sha256()
    for name, tensor in module.named_parameters():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


def _betas(scheduler: DDIMScheduler) -> Tensor:
    """The scheduler's betas, in float64 where its configuration lets them be computed anew."""
    config = scheduler.config
    if config.get("prediction_type", "epsilon") != "epsilon":
        raise ValueError(f"the model predicts {config.prediction_type!r}; difftuning works with models that predict the noise (epsilon)")
    plain = config.get("trained_betas") is None and not config.get("rescale_betas_zero_snr", False)
    if plain and config.beta_schedule == "linear":
        return torch.linspace(config.beta_start, config.beta_end, config.num_train_timesteps, dtype=torch.float64)
    return scheduler.betas.double()


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
