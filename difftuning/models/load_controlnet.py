"""`load_controlnet`: a ControlNet that is kept by itself, as diffusers' ControlNetModel saves it, beside a base."""

from __future__ import annotations

from pathlib import Path

from ..support.hub import is_hub_id, snapshot
from ..support.names import user_path
from ..support.quiet import quiet_transformers, require_transformers
from ..support.surroundings import undisturbed
from ..support.world import world_file, world_files
from .controlnet import require_matching_factor
from .loading import load_component
from .pretrained import Pretrained, require_model
from .text_to_image import TextToImage

FILES, LEFT_OUT = ["config.json", "*.safetensors"], ["*.fp16.safetensors"]
OF_THE_UNET = ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim")
WORLD_CONTROLNETS = {
    "tiny-edge-plain": "models/controlnet_edge_plain",
    "tiny-edge-diff-tuning": "models/controlnet_edge_diff_tuning",
}


@undisturbed
def load_controlnet(base: Pretrained, source: str | Path) -> Pretrained:
    """A text-to-image `base` with the ControlNet in `source`, in the base's precision; `sample_controlnet` draws with it.

    `source`: "tiny-edge-plain" or "tiny-edge-diff-tuning", which lesson 08 tuned on shoes for the base "tiny-text-to-image"; a
    folder of diffusers' ControlNetModel; or a hub id such as "lllyasviel/sd-controlnet-canny".  The other way round,
    `model.denoiser.controlnet.save_pretrained(folder)` writes such a folder.  A ControlNet that the base has is replaced in the result;
    the base stays as it is and shares its weights.

    ValueError where the base takes no prompts, or the ControlNet is made for another UNet or autoencoder; FileNotFoundError, DamagedFileError.
    """
    require_model("base", base)
    if not base.takes_prompts:
        raise ValueError(f"a ControlNet needs a text-to-image base (UNet and text encoder), {base.name} is told labels")
    folder = _folder(source)
    require_transformers()
    with quiet_transformers():
        from diffusers import ControlNetModel

        own = base.denoiser
        controlnet = load_component(ControlNetModel, folder, own.unet.dtype).requires_grad_(False).to(base.device)
    for name in OF_THE_UNET:
        theirs, ours = (_plain(part.config[name]) for part in (controlnet, own.unet))
        if theirs != ours:
            raise ValueError(f"the ControlNet in {folder} was made for another UNet than {base.name}'s: {name} is {theirs}, not {ours}")
    model = base.with_denoiser(TextToImage(own.unet, own.text_encoder, own.tokenizer, controlnet))
    require_matching_factor(model)
    return model


def _folder(source: str | Path) -> Path:
    if source in WORLD_CONTROLNETS:
        place = WORLD_CONTROLNETS[source]
        world_files(place)  # verifies every file
        return world_file(f"{place}/config.json").parent
    folder = user_path(source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} is no folder of a ControlNet: it has no config.json (a whole pipeline is load_pretrained's)")
        return folder
    if not is_hub_id(str(source)):
        known = ", ".join(map(repr, WORLD_CONTROLNETS))
        raise FileNotFoundError(
            f"no ControlNet {str(source)!r}: give {known}, an existing folder or a hub id such as 'lllyasviel/sd-controlnet-canny'"
        )
    return snapshot(str(source), FILES, LEFT_OUT)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value
