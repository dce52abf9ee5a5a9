"""`Pretrained`: all that is needed to sample, evaluate or fine-tune a model, in one object.

On disk it is a folder of a pipeline of diffusers (`DiTPipeline`, `StableDiffusionPipeline`,
`StableDiffusionControlNetPipeline`; stock diffusers reads it) with one more file, difftuning.json, for what that layout cannot say: label names, free label rows, which
sinusoid frequencies the weights were trained with, and checksums of all other files.
A model with an adapter is two such folders and a difftuning.json of their checksums: base/, the model as it was before,
bit for bit, and adapter/, what was trained (models/adapters/files.py).  Stock diffusers reads it once `merge_adapter` has
made it one model again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import torch
from torch import Tensor, nn

from ..data.pictures import require_pictures, require_range
from ..diffusion.process import Diffusion, require_finite
from ..support.files import atomic_path, is_ours, read_json, sha256, write_json
from ..support.kinds import require_kind
from ..support.names import user_path
from ..support.processes import local_rank
from ..support.quiet import quiet_transformers
from ..support.surroundings import undisturbed
from .adapters.apply import adapter_of, without_adapter
from .adapters.files import write_adapter
from .dit import DiT

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler

DECODED_PIXELS = 2**22  # of pictures that are decoded at a time: 64 of 256x256, or 16 of 512x512, take some 5 GB
CARD, BASE, ADAPTER = "difftuning.json", "base", "adapter"


class Pretrained:
    """A latent diffusion model: denoiser, autoencoder and forward process, on one device.

    Attributes: `denoiser` (x_t, t, labels, **conditions) -> (N, 2C, h, w), or (N, C, h, w) without `learned_variance`; `autoencoder`; `scheduler` (the
    DDIM configuration that fixes the betas); `diffusion` (the tables); `label_names` (index =
    label); `null_label` (the row that means "no label"); `first_free_label` (rows from here up
    to the null row belong to no class yet); `latent_shape` (C, h, w); `takes_prompts` (a
    text-to-image model: told sentences where others are told labels).
    """

    def __init__(self, denoiser: DiT, autoencoder: AutoencoderKL, scheduler: DDIMScheduler, *,
                 label_names: Sequence[str], first_free_label: int | None = None, name: str = "model"):  # fmt: skip
        self.denoiser = denoiser.eval()
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.scheduler = scheduler
        self.diffusion = Diffusion(_betas(scheduler))
        self.label_names = list(label_names)
        self.null_label = denoiser.null_label
        self.first_free_label = len(self.label_names) if first_free_label is None else first_free_label
        self.latent_shape = denoiser.latent_shape
        self.learned_variance = denoiser.learned_variance
        self.takes_prompts = getattr(denoiser, "takes_prompts", False)
        self.name = name
        rows = max(self.first_free_label, len(self.label_names))
        if rows > self.null_label:
            raise ValueError(f"{rows} labels do not fit into a table whose null row is {self.null_label} (num_labels)")

    def __repr__(self) -> str:
        millions = sum(weight.numel() for weight in self.denoiser.parameters()) / 1e6
        shape = "x".join(map(str, self.latent_shape))
        told = "prompts" if self.takes_prompts else f"{len(self.label_names)} classes"
        return f"<Pretrained {self.name}: {millions:.1f} M weights, {told}, latents {shape}, {self.device}>"

    @property
    def device(self) -> torch.device:
        """Where the denoiser's weights lie."""
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the denoiser's weights."""
        return next(self.denoiser.parameters()).dtype

    def to(self, device: str | torch.device) -> Pretrained:
        """Move the model, in place, and return it; ValueError where the machine has no such device."""
        device = checked_device(device)
        if device != self.device:  # other models may share the autoencoder (`with_denoiser`): theirs stays where it is
            self.autoencoder = copy.deepcopy(self.autoencoder).to(device)
            self.denoiser.to(device)
        return self

    @property
    def image_size(self) -> int:
        """Pixels on each side of the square pictures that the model draws."""
        return 2 ** (len(self.autoencoder.config.block_out_channels) - 1) * self.latent_shape[1]

    @undisturbed
    @torch.no_grad()
    def predict(self, x_t: Tensor, t: Tensor, labels: Tensor, **conditions: Tensor) -> Tensor:
        """The denoiser's noise, and variance where it has learned it, float32 (N, C or 2C, h, w), whatever its precision.

        x_t (N, C, h, w), t and labels (N,), each condition (N, ...).
        """
        return self.denoiser(x_t.to(self.dtype), t, labels, **conditions).float()

    @undisturbed
    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] -> scaled latents (N, C, h, w), the posterior's mean."""
        require_pictures("images", images, self.image_size)
        require_range("images", images)
        posterior = self.autoencoder.encode(images.to(self.device, self.autoencoder.dtype)).latent_dist
        return self._finite((posterior.mode() * self.autoencoder.config.scaling_factor).float(), "latents")

    @undisturbed
    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (N, C, h, w) -> images (N, 3, H, W) in [-1, 1]."""
        require_finite("latents", latents)
        latents = latents.to(self.device, self.autoencoder.dtype) / self.autoencoder.config.scaling_factor
        parts = latents.split(max(1, DECODED_PIXELS // self.image_size**2))
        images = torch.cat([self.autoencoder.decode(part).sample.float() for part in parts])
        return self._finite(images, "pictures").clamp(-1, 1)

    def _finite(self, tensor: Tensor, what: str) -> Tensor:
        if not tensor.isfinite().all():
            raise FloatingPointError(
                f"{self.name}'s autoencoder gives {what} of NaN or infinity in {self.autoencoder.dtype}: load it in float32"
            )
        return tensor

    def with_denoiser(self, denoiser: nn.Module, *, label_names: Sequence[str] | None = None,
                      first_free_label: int | None = None, name: str | None = None) -> Pretrained:  # fmt: skip
        """The same autoencoder and forward process around another denoiser."""
        return Pretrained(
            denoiser, self.autoencoder, self.scheduler, label_names=label_names or self.label_names,
            first_free_label=self.first_free_label if first_free_label is None else first_free_label,
            name=name or self.name,
        )  # fmt: skip

    def copy_denoiser(self, *, share_weights: bool = False) -> DiT:
        """A copy to train; `share_weights`, where those that are there will stay as they are: float32 ones are not copied then."""
        shared = [weight for weight in self.denoiser.parameters() if share_weights and weight.dtype == torch.float32]
        memo = {id(weight): nn.Parameter(weight.data, requires_grad=weight.requires_grad) for weight in shared}
        return copy.deepcopy(self.denoiser, memo)

    @property
    def fingerprint(self) -> str:
        """Digest of the denoiser and of the forward process it was trained for; runs and memory banks carry it."""
        process = self.diffusion.betas.float().numpy().tobytes().hex()
        parts = [weights_digest(self.denoiser), *self.denoiser.conventions.values(), process]
        return hashlib.sha256(f"{parts}".encode()).hexdigest()

    @property
    def encoder_fingerprint(self) -> str:
        """Digest of what decides the latents; a decoder may be improved later without touching them."""
        layers = [self.autoencoder.encoder, self.autoencoder.quant_conv]  # some autoencoders have no second one
        parts = [weights_digest(layer) for layer in layers if layer is not None]
        return hashlib.sha256(f"{parts} {self.autoencoder.config.scaling_factor}".encode()).hexdigest()

    @undisturbed
    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write diffusers' folder, replacing only a folder that holds such a model; `dtype` may halve the files."""
        folder = user_path(folder)
        require_own_model(folder)
        dtype = dtype or self.dtype
        if adapter_of(self.denoiser) is not None:
            self._save_with_adapter(folder, dtype)
            return
        # torch's own `to`: diffusers' one logs a warning about precision, whatever the precision
        autoencoder = nn.Module.to(copy.deepcopy(self.autoencoder), "cpu", dtype)
        pipeline = self.denoiser.pipeline(autoencoder, self.scheduler, dtype)
        with atomic_path(folder) as scratch, quiet_transformers():
            pipeline.save_pretrained(scratch, safe_serialization=True)
            for path in scratch.glob("*/config.json"):  # diffusers notes where on this machine a part came from
                write_json(path, {key: value for key, value in read_json(path).items() if key != "_name_or_path"})
            if self.denoiser.label_table is not None:
                index = scratch / "model_index.json"  # where stock diffusers looks for names
                write_json(index, read_json(index) | {"id2label": dict(enumerate(self.label_names))})
            files = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_file())
            card = {
                "name": self.name,
                **self.denoiser.conventions,
                "first_free_label": self.first_free_label,
                "label_names": self.label_names,
                "sha256": {name: sha256(scratch / name) for name in files},
            }
            card["sha256"][CARD] = card_digest(card)
            write_json(scratch / CARD, card)

    @undisturbed
    def save_adapter(self, folder: str | Path) -> None:
        """Write what the adapter trained alone, small, into a new folder: `load_adapter` puts it on the same model again."""
        if adapter_of(self.denoiser) is None:
            raise ValueError(f"{self.name} has no adapter to save")
        folder = user_path(folder)
        is_ours(folder)  # whatever is in it is not
        with atomic_path(folder) as scratch:
            write_adapter(scratch, self.denoiser, self._about(self.with_denoiser(without_adapter(self.denoiser))))

    def _save_with_adapter(self, folder: Path, dtype: torch.dtype) -> None:
        base = self.with_denoiser(without_adapter(self.denoiser).to(dtype))
        with atomic_path(folder) as scratch:
            base.save(scratch / BASE)
            write_adapter(scratch / ADAPTER, self.denoiser, self._about(base))
            files = [f"{part}/{CARD}" for part in (BASE, ADAPTER)]  # these have the checksums of the files beside them
            write_json(scratch / CARD, {"name": self.name, "sha256": {name: sha256(scratch / name) for name in files}})

    def _about(self, base: Pretrained) -> dict[str, object]:
        """What an adapter's card says beside the adapter: the model it belongs on, and what the tuned one calls its labels."""
        names = {"name": self.name, "label_names": self.label_names, "first_free_label": self.first_free_label}
        return {"base": base.fingerprint, **names}


def require_model(role: str, value: object) -> None:
    """TypeError where `value` is a name, a folder or a tuned result in a model's place."""
    require_kind(role, value, Pretrained, "load_pretrained")


def card_digest(card: dict) -> str:
    """SHA-256 of what difftuning.json says, its own checksum aside."""
    files = {name: digest for name, digest in card["sha256"].items() if name != CARD}
    return hashlib.sha256(json.dumps(card | {"sha256": files}, sort_keys=True).encode()).hexdigest()


def require_own_model(folder: Path) -> None:
    """Raise where saving to `folder`, which replaces it, would take anything with it that is not a model's."""
    if not folder.exists():
        return
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} if folder.is_dir() else {folder.name}
    weights = r"(transformer|unet|controlnet|text_encoder|vae|scheduler)/([\w.-]+\.safetensors|[\w.-]*config\.json|[\w.-]+\.index\.json)"
    stock = rf"{weights}|tokenizer/(\w+\.json|merges\.txt)|model_index\.json"
    adapter = rf"{ADAPTER}/(\w+\.safetensors|adapter_config\.json|{CARD})"
    parts = re.compile(rf"{CARD}|({BASE}/)?({stock}|{CARD})|{adapter}")
    foreign = sorted(name for name in found if not parts.fullmatch(name))
    if foreign or (found and not {"model_index.json", f"{BASE}/model_index.json"} & found):
        raise FileExistsError(
            f"{folder} holds something that is not a model ({', '.join((foreign or sorted(found))[:3])}); choose another folder"
        )


def checked_device(device: str | torch.device) -> torch.device:
    """The device, "cuda" being this process's own GPU, or a ValueError in one line where this machine has no such thing."""
    if str(device) == "cuda" and torch.cuda.is_available():
        device = f"cuda:{local_rank()}"
    try:
        there = torch.zeros(1, device=device)
        there.item()  # "meta" keeps shapes without numbers
        return there.device
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:
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
        return torch.linspace(config.beta_start, config.beta_end, config.num_train_timesteps, dtype=torch.float64, device="cpu")
    return scheduler.betas.double()
