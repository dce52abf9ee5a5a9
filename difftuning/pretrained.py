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
from .dit import DiT
from .files import atomic_path, read_json, sha256, write_json
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
        require_own_model(folder)
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


def require_own_model(folder: Path) -> None:
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
