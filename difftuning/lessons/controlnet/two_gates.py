"""How a ControlNet begins: two gates of zero convolutions, which open one after the other.

Every way into or out of the copied encoder leads through a convolution whose weights start at zero.  The gradient of what lies
before such a convolution W is a multiple of W, hence 0, and that of W itself is not.  So the outputs' zero convolutions move at
step 1; the copy and the zero convolution behind the condition's embedding, which lie before them, at step 2; the embedding, which
lies before both, at step 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ...config import DiffTuningConfig
from ...data.captions import caption_pictures
from ...data.conditions import Kind
from ...data.tasks import Task
from ...models.controlnet import ControlNetAdapter, autoencoder_factor, embedding_channels
from ...models.pretrained import Pretrained
from ...support.surroundings import undisturbed
from ...training.controlnet import Told
from ...training.label_rows import choose_rows
from ...training.objective import Objective
from ...training.streams import training_streams

if TYPE_CHECKING:
    import pandas

# How the names of each part's weights begin; the first that fits counts.
PARTS = {
    "outputs' zero convolutions": ("controlnet_down_blocks", "controlnet_mid_block"),
    "condition's zero convolution": ("controlnet_cond_embedding.conv_out",),
    "rest of the condition's embedding": ("controlnet_cond_embedding",),
    "copied encoder": ("",),
}


@undisturbed
def two_gate_start(base: Pretrained, task: Task, *, kind: Kind = "edge", steps: int = 6, batch_size: int = 16,
                   learning_rate: float = 3e-4, seed: int = 0) -> pandas.DataFrame:  # fmt: skip
    """The norm of each part's gradient in the first steps of a plain ControlNet on `task`: columns step (from 1), part, gradient.

    Draws and losses are those of `fine_tune_controlnet`, at uniform t and without prompts dropped.
    """
    import pandas

    config = DiffTuningConfig(steps=steps, batch_size=batch_size, reconsolidation_power=0.0, label_drop=0.0, seed=seed)
    rows = choose_rows(base, len(task.class_names))
    streams = training_streams(base, task, None, config, rows, (batch_size, 0), Told(base.denoiser, kind, caption_pictures))
    objective = Objective(streams, base.diffusion, seed)
    denoiser = base.copy_denoiser(share_weights=True).float().train()
    ControlNetAdapter(embedding_channels(autoencoder_factor(base)), seed)(denoiser)
    denoiser.to(base.device)
    optimizer, found = torch.optim.AdamW(denoiser.controlnet.parameters(), lr=learning_rate, weight_decay=0.0), []
    for step in range(steps):
        objective.total(objective.losses(denoiser, step, base.device)).backward()
        found += [{"step": step + 1, "part": part, "gradient": norm} for part, norm in gradient_norms(denoiser.controlnet).items()]
        optimizer.step()
        optimizer.zero_grad()
    return pandas.DataFrame(found)


def gradient_norms(controlnet: torch.nn.Module) -> dict[str, float]:
    """The length of the gradient of each part's weights together."""
    squares = dict.fromkeys(PARTS, 0.0)
    for name, weight in controlnet.named_parameters():
        part = next(part for part, beginnings in PARTS.items() if name.startswith(beginnings))
        squares[part] += 0.0 if weight.grad is None else float(weight.grad.square().sum())
    return {part: square**0.5 for part, square in squares.items()}
