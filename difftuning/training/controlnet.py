"""`fine_tune_controlnet`: a text-to-image base learns to obey condition pictures, by `fine_tune` and nothing else.

The base is frozen and a ControlNet is trained beside it, on target pictures with their captions and the conditions found in
them.  Diff-Tuning's two terms are those of any model: target timesteps rise in probability (reconsolidation), and the
base's own samples, with their prompts and the conditions found in them, are replayed at falling ones (retention).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Literal, Sequence

import torch
from torch import Tensor

from ..config import DiffTuningConfig
from ..data.captions import caption_pictures
from ..data.conditions import Kind, annotate
from ..data.tasks import Task
from ..models.controlnet import ControlNetAdapter, autoencoder_factor, embedding_channels, require_matching_factor
from ..models.pretrained import Pretrained, require_model
from ..models.text_to_image import TextToImage
from ..support.kinds import require_kind
from ..support.options import choose, describe
from ..support.surroundings import undisturbed
from .fine_tune import fine_tune
from .fine_tuned import FineTuned
from .loop import Callback
from .memory_bank import MemoryBank
from .regularizers import EWC, REGULARIZERS, Distillation, Regularizer

Captioner = Callable[[Tensor, Sequence[str]], Sequence[str]]
DEFAULTS = {"steps": 1000, "label_drop": 0.5, "bank_labels": "own"}  # half of the prompts, as ControlNet's authors dropped


@undisturbed
def fine_tune_controlnet(base: Pretrained, task: Task, bank: MemoryBank | None = None, config: DiffTuningConfig | None = None, *,
                         kind: Kind = "edge", folder: str | Path, captions: Captioner = caption_pictures,
                         annotator: str | os.PathLike | None = None, bank_control: Literal["own", "blank"] = "own",
                         channels: Sequence[int] | None = None, regularizer: Regularizer | str | None = None,
                         resume: bool = True, callbacks: Sequence[Callback] = (), progress: bool = True) -> FineTuned:  # fmt: skip
    """Train a ControlNet for conditions of a `kind` (data/conditions.py) on `task`; with a `bank`, by Diff-Tuning.

    A plain ControlNet is bank=None with reconsolidation_power=0.  All settings mean what they mean in `fine_tune`:
    `label_drop` is the share of prompts replaced by the empty one (0.5 where no config is given), `bank_labels` "null" replays
    the bank under the empty prompt, "own" under its own prompts.  `bank_control` "own" finds the conditions of bank pictures
    in them, "blank" shows black ones.

    `captions` (images (n, 3, H, W) in [-1, 1], class names) -> n prompts; the default measures words in pictures of one object
    on an even ground (data/captions.py), `name_pictures` there takes the class's name alone.  `annotator` is `annotate`'s,
    `channels` those of the condition's embedding (the published ones that fit the autoencoder).  A base that has a
    ControlNet already goes on with that.

    The result's model samples by `sample_controlnet`, and its folder is one of stock StableDiffusionControlNetPipeline.
    Raises ValueError, before any work, for a base that takes no prompts, an unknown kind, an embedding that does not
    shrink pictures as the autoencoder does; and what `fine_tune` raises.
    """
    require_model("base", base)
    require_kind("task", task, Task, "load_task")
    if not base.takes_prompts:
        raise ValueError(f"a ControlNet needs a text-to-image base (UNet and text encoder), {base.name} is told labels")
    annotate(kind, torch.zeros(0, 3, base.image_size, base.image_size), annotator=annotator)  # an unknown kind raises here
    if bank_control not in ("own", "blank"):
        raise ValueError(f"bank_control must be 'own' or 'blank', got {bank_control!r}")
    if channels is not None or base.denoiser.controlnet is not None:
        require_matching_factor(base, channels)
    if isinstance(choose("regularizer", regularizer, REGULARIZERS), (EWC, Distillation)):
        raise ValueError("ewc and distillation ask the frozen base, which has no ControlNet: take 'l2_sp' or 'prior_preservation'")
    config = DiffTuningConfig(**DEFAULTS) if config is None else config
    require_kind("config", config, DiffTuningConfig)
    adapter = ControlNetAdapter(tuple(channels or embedding_channels(autoencoder_factor(base))), config.seed)
    say = Told(base.denoiser, kind, captions, annotator)
    replay = Told(base.denoiser, "blank" if bank_control == "blank" else kind, None, annotator)
    return fine_tune(
        base, task, bank, config, folder=folder, adapter=adapter, regularizer=regularizer, conditions=say,
        bank_conditions=None if bank is None else replay, null_conditions={"text": base.denoiser.tokens([""])[0]},
        resume=resume, callbacks=callbacks, progress=progress,
    )  # fmt: skip


@dataclass(frozen=True, repr=False)
class Told:
    """What a ControlNet is told of pictures: their captions as tokens, and their conditions as 8-bit numbers, a quarter of the memory."""

    denoiser: TextToImage
    kind: str  # or "blank"
    captions: Captioner | None = None  # None: the names are captions already
    annotator: str | os.PathLike | None = None

    def __call__(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Images (n, 3, H, W), names -> {"text": int64 (n, L), "control": uint8 (n, 3, H, W)}."""
        prompts = names if self.captions is None else self.captions(images, names)
        if len(prompts) != len(images):
            raise ValueError(f"captions must give a prompt for each picture: {len(prompts)} prompts for {len(images)} pictures")
        if self.kind == "blank":
            control = torch.zeros(images.shape, dtype=torch.uint8)
        else:
            control = (annotate(self.kind, images, annotator=self.annotator) * 255).round().to(torch.uint8)
        return {"text": self.denoiser.tokens(prompts), "control": control}

    def __repr__(self) -> str:  # stands in the run's record
        captions = "prompts" if self.captions is None else describe(self.captions)
        return f"{self.kind} {captions}" + (f" {self.annotator}" if self.annotator else "")
