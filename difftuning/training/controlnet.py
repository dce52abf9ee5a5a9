"""`fine_tune_controlnet`: a text-to-image base learns to obey condition pictures, by `fine_tune` and nothing else.

The base is frozen and a ControlNet is trained beside it, on target pictures with their captions and the conditions found in
them.  Diff-Tuning's two terms are those of any model: target timesteps rise in probability (reconsolidation), and the
base's own samples, with their prompts and the conditions found in them, are replayed at falling ones (retention).
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Literal, Sequence

import torch
from torch import Tensor

from ..config import ControlNetConfig, DiffTuningConfig
from ..data.captions import caption_pictures
from ..data.conditions import Kind, annotate, annotate_task
from ..data.tasks import Task
from ..models.controlnet import ControlNetAdapter, autoencoder_factor, embedding_channels, require_matching_factor
from ..models.pretrained import Pretrained, require_model
from ..models.text_to_image import TextToImage
from ..support.kinds import require_kind
from ..support.options import choose, describe
from ..support.settings import COUNT, plain, require_within
from ..support.surroundings import undisturbed
from .fine_tune import fine_tune
from .fine_tuned import FineTuned
from .loop import Callback
from .memory_bank import MemoryBank
from .regularizers import EWC, REGULARIZERS, Distillation, Regularizer
from .streams import condition_rows

Captioner = Callable[[Tensor, Sequence[str]], Sequence[str]]


@undisturbed
def fine_tune_controlnet(base: Pretrained, task: Task, bank: MemoryBank | None = None, config: DiffTuningConfig | None = None, *,
                         kind: Kind = "edge", folder: str | Path, captions: Captioner = caption_pictures,
                         annotator: str | os.PathLike | None = None, bank_control: Literal["own", "blank"] = "own",
                         channels: Sequence[int] | None = None, regularizer: Regularizer | str | None = None,
                         resume: bool = True, callbacks: Sequence[Callback] = (), progress: bool = True) -> FineTuned:  # fmt: skip
    """Train a ControlNet for conditions of a `kind` (data/conditions.py) on `task`; with a `bank`, by Diff-Tuning.

    A plain ControlNet is bank=None with reconsolidation_power=0.  All settings mean what they mean in `fine_tune`:
    `label_drop` is the share of prompts replaced by the empty one, `bank_labels` "null" replays the bank under the empty prompt,
    "own" under its own prompts; `ControlNetConfig` has them with the defaults that suit a ControlNet.  `bank_control` "own" finds the conditions of bank pictures
    in them, "blank" shows black ones.

    `captions` (images (n, 3, H, W) in [-1, 1], class names) -> n prompts; the default measures words in pictures of one object
    on an even ground (data/captions.py), `name_pictures` there takes the class's name alone.  `annotator` is `annotate`'s,
    `channels` those of the condition's embedding (the published ones that fit the autoencoder).  A base that has a
    ControlNet already goes on with that.

    "ewc" is refused: at the start only a ControlNet's zero convolutions have a gradient, so its Fisher information would hold back
    just what has to move, and nothing else.  So is "distillation" to a base without ControlNet: it would ask that conditions
    change nothing, and where that is wanted, under black ones, `bank_control` "blank" replays the base's own pictures already.

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
    for each in channels or ():
        require_within("channels", plain("channels", "int", each), COUNT)
    if channels is not None or base.denoiser.controlnet is not None:
        require_matching_factor(base, channels)
    regularize = choose("regularizer", regularizer, REGULARIZERS)
    if isinstance(regularize, EWC) or (isinstance(regularize, Distillation) and base.denoiser.controlnet is None):
        raise ValueError("ewc and distillation ask the frozen base, which knows no conditions: take 'l2_sp' or 'prior_preservation'")
    config = ControlNetConfig(steps=1000) if config is None else config
    require_kind("config", config, DiffTuningConfig)
    config = DiffTuningConfig(**asdict(config))  # as the record and the result have it
    adapter = ControlNetAdapter(tuple(channels or embedding_channels(autoencoder_factor(base))), config.seed)
    say = Told(base.denoiser, kind, captions, annotator)
    replay = Told(base.denoiser, "blank" if bank_control == "blank" else kind, None, annotator)
    return fine_tune(
        base, task, bank, config, folder=folder, adapter=adapter, regularizer=regularize, conditions=say,
        bank_conditions=None if bank is None else replay, null_conditions={"text": base.denoiser.tokens([""])[0]},
        resume=resume, callbacks=callbacks, progress=progress,
    )  # fmt: skip


@dataclass(frozen=True, repr=False)
class Told:
    """What a ControlNet is told of pictures: their captions as tokens, and their conditions, which are kept for the next run as latents are."""

    denoiser: TextToImage
    kind: str  # or "blank"
    captions: Captioner | None = None  # None: the names are captions already
    annotator: str | os.PathLike | None = None

    def of_task(self, pictures: Task, names: Sequence[str]) -> list[dict[str, Tensor]]:
        """{"text": int64 (N, L), "control": uint8 (N, 3, H, W)} of the pictures, and of their mirror images where the task allows flips.

        Bytes take a quarter of the memory, and the model hears them as the numbers in [0, 1] that they stand for.
        """
        if self.captions is None:
            tables = [{"text": self.denoiser.tokens(names)} for _ in range(1 + pictures.flip)]
        else:
            tables = condition_rows(self._caption, pictures, names)
        if self.kind == "blank":
            black = torch.zeros(1, 3, pictures.image_size, pictures.image_size, dtype=torch.uint8).expand(len(pictures), -1, -1, -1)
            controls = {"conditions": black, "mirrored": black}
        else:
            controls = annotate_task(self.kind, pictures, annotator=self.annotator, device=self.denoiser.unet.device)
        return [table | {"control": controls[view]} for table, view in zip(tables, ("conditions", "mirrored"))]

    def _caption(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        prompts = self.captions(images, names)
        if len(prompts) != len(images):
            raise ValueError(f"captions must give a prompt for each picture: {len(prompts)} prompts for {len(images)} pictures")
        return {"text": self.denoiser.tokens(prompts)}

    def __repr__(self) -> str:  # stands in the run's record
        captions = "prompts" if self.captions is None else describe(self.captions)
        return f"{self.kind} {captions}" + (f" {self.annotator}" if self.annotator else "")
