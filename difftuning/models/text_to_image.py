"""Stable Diffusion's denoiser: a UNet that hears a prompt through CLIP's text encoder, and a ControlNet's picture where it has one.

Rombach et al., CVPR 2022; Zhang, Rao and Agrawala, ICCV 2023 (ControlNet).  The parts are diffusers' and transformers' own
classes, so that stock pipelines read what is saved here, and the other way round.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Iterable, Sequence

import torch
from torch import Tensor, nn

from ..diffusion.process import Diffusion, matched_snr_scale, scale_snr
from ..support.quiet import quiet_transformers, require_transformers
from .dit import require_square
from .tokenizer import build_tokenizer

if TYPE_CHECKING:
    from diffusers import DDIMScheduler
    from transformers import CLIPTokenizer

EMBEDDED_AT_ONCE = 250  # prompts


class TextToImage(nn.Module):
    """A text-conditional denoiser without learned variance, over diffusers' `UNet2DConditionModel`.

    It is told prompts in place of labels (`takes_prompts`): its one label, the null label 0, says nothing.
    `controlnet` (diffusers' `ControlNetModel`) sees the picture `control` and adds to what the UNet's decoder hears.
    """

    learned_variance = False
    label_table = None
    null_label = 0
    takes_prompts = True
    conventions: dict[str, float] = {}
    adapter: object | None = None  # a ControlNet is a part of the model, and none of models/adapters goes onto it
    before_adapter: dict[str, Tensor] = {}

    def __init__(self, unet: nn.Module, text_encoder: nn.Module, tokenizer: CLIPTokenizer, controlnet: nn.Module | None = None):
        super().__init__()
        self.unet, self.text_encoder, self.tokenizer, self.controlnet = unet, text_encoder, tokenizer, controlnet

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, *, text: Tensor | None = None,
                control: Tensor | None = None) -> Tensor:  # fmt: skip
        """Latents (N, C, h, w), timesteps int or int64 (N,) -> noise (N, C, h, w), in the weights' precision.

        `text` is the prompts' embedding, float (N, L, D), or their tokens, int64 (N, L); `control` the ControlNet's
        pictures (N, 3, H, W), float in [0, 1] or uint8.
        """
        if text is None:
            raise ValueError("a text-to-image model is told what to draw: give prompts, or conditions with their embedding 'text'")
        if (control is None) != (self.controlnet is None):
            raise ValueError("a ControlNet needs condition pictures ('control'), and they need a model that has one")
        dtype = self.unet.dtype
        t = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        text = text.to(dtype) if text.is_floating_point() else self.text_encoder(text)[0]
        x_t, residuals = x_t.to(dtype), {}
        if self.controlnet is not None:
            picture = control.to(dtype) if control.is_floating_point() else (control.float() / 255).to(dtype)
            down, middle = self.controlnet(x_t, t, encoder_hidden_states=text, controlnet_cond=picture, return_dict=False)
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return self.unet(x_t, t, encoder_hidden_states=text, **residuals).sample

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the latents that it denoises."""
        config = self.unet.config
        return config.in_channels, config.sample_size, config.sample_size

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """Prompts as token numbers, int64 (N, L); longer ones are cut off at L."""
        length = self.tokenizer.model_max_length
        if not len(prompts):
            return torch.empty(0, length, dtype=torch.int64)
        return self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids  # fmt: skip

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """The text encoder's last hidden states, (N, L, D), on its device; a prompt that comes again is encoded once."""
        different = list(dict.fromkeys(prompts))
        tokens = self.tokens(different).to(self.text_encoder.device)
        encoded = [self.text_encoder(part)[0] for part in tokens.split(EMBEDDED_AT_ONCE) if len(part)]
        place = {prompt: number for number, prompt in enumerate(different)}
        if not encoded:
            return torch.empty(0, tokens.shape[1], self.text_encoder.config.hidden_size, device=tokens.device)
        return torch.cat(encoded)[[place[prompt] for prompt in prompts]]

    def pipeline(self, autoencoder: nn.Module, scheduler: DDIMScheduler, dtype: torch.dtype):
        """Stock diffusers' pipeline around the weights, or copies where they are elsewhere or in another precision, on the CPU: what is saved."""
        with quiet_transformers():
            from diffusers import StableDiffusionControlNetPipeline, StableDiffusionPipeline

            parts = {"unet": self.unet, "text_encoder": self.text_encoder, "controlnet": self.controlnet}
            copies = {name: _on_cpu(part, dtype) for name, part in parts.items() if part is not None}
            kind = StableDiffusionPipeline if self.controlnet is None else StableDiffusionControlNetPipeline
            return kind(
                **copies, vae=autoencoder, tokenizer=self.tokenizer, scheduler=scheduler,
                safety_checker=None, feature_extractor=None, requires_safety_checker=False,
            )  # fmt: skip


def _on_cpu(part: nn.Module, dtype: torch.dtype) -> nn.Module:
    if part.device.type == "cpu" and part.dtype == dtype:
        return part
    return nn.Module.to(copy.deepcopy(part), "cpu", dtype)  # torch's own `to`: diffusers' one logs a warning about precision


def build_text_to_image(captions: Iterable[str], *, widths: Sequence[int] = (64, 128), num_heads: int = 4, text_width: int = 64,
                        text_layers: int = 2, max_tokens: int = 16, latent_shape: tuple[int, int, int] = (4, 8, 8)) -> TextToImage:  # fmt: skip
    """A freshly initialised small Stable Diffusion whose vocabulary is made of the captions' words.

    The UNet has one level for each of `widths`, the first with cross-attention (the middle has it, too).
    """
    channels, _, side = latent_shape
    require_square(latent_shape, 2 ** (len(widths) - 1))
    require_transformers()
    tokenizer = build_tokenizer(captions, max_tokens=max_tokens)
    with quiet_transformers():
        from diffusers import UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=text_width, intermediate_size=4 * text_width, num_hidden_layers=text_layers,
                num_attention_heads=num_heads, max_position_embeddings=max_tokens, bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            )
        )  # fmt: skip
        deeper = len(widths) - 1
        unet = UNet2DConditionModel(
            sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=tuple(widths),
            norm_num_groups=min(32, widths[0] // 2), cross_attention_dim=text_width,
            attention_head_dim=num_heads,  # which diffusers takes for the number of heads
            down_block_types=("CrossAttnDownBlock2D", *["DownBlock2D"] * deeper),
            up_block_types=(*["UpBlock2D"] * deeper, "CrossAttnUpBlock2D"),
        )  # fmt: skip
    return TextToImage(unet, text_encoder, tokenizer)


def matched_scheduler(side: int) -> DDIMScheduler:
    """Stable Diffusion's sampling conventions over the linear schedule, its SNR times (32 / side)^2: as much noise for small latents as for DiT's 32x32."""
    from diffusers import DDIMScheduler

    betas = scale_snr(Diffusion().betas, matched_snr_scale(side))
    return DDIMScheduler(trained_betas=betas.tolist(), clip_sample=False, set_alpha_to_one=False, steps_offset=1)
