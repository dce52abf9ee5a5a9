"""Early stopping: a callback that scores the averaged weights on held-out pictures, keeps the best, and ends the run.

Scores and best weights are part of the run's checkpoints, so that an interrupted run ends where it would have.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..config import DiffTuningConfig
from ..data.latents import encode_latents
from ..data.tasks import Task
from ..diffusion.timestep_weights import timestep_distribution
from ..models.pretrained import Pretrained, require_model
from ..support.kinds import require_kind
from ..support.settings import COUNT, require_within
from ..support.surroundings import undisturbed
from .label_rows import choose_rows
from .loop import TrainingState
from .objective import Objective, Stream

BATCH = 64  # pictures, at most, in each pass of a check


class EarlyStopping:
    """Ends a run after `patience` checks without a lower validation loss; its result carries the best averaged weights.

    The validation loss is the training loss at uniform t on `draws` pictures of `validation` (a split that is neither trained
    nor tested on), with the same noise at each check, every `every` steps.  Pass it in `fine_tune(..., callbacks=[...])`,
    built from the same model and settings; a new one for each run.  It is part of what the run's folder belongs to.

    ValueError for numbers below 1, a first check that would never come, and, in `fine_tune`, other classes than the task's or its
    own pictures.
    """

    @undisturbed
    def __init__(self, pretrained: Pretrained, validation: Task, config: DiffTuningConfig, *, every: int = 100, patience: int = 5,
                 draws: int = 256):  # fmt: skip
        require_model("pretrained", pretrained)
        require_kind("validation", validation, Task, "load_task")
        require_kind("config", config, DiffTuningConfig)
        for name, value in (("every", every), ("patience", patience), ("draws", draws)):
            require_within(name, value, COUNT)
        if every > config.steps:
            raise ValueError(f"a check every {every} steps never comes in {config.steps}: check sooner, or train longer")
        rows = choose_rows(pretrained, len(validation.class_names), config.label_rows)
        latents = encode_latents(pretrained, validation)["latents"]
        batches = -(-draws // BATCH)
        law = timestep_distribution(pretrained.diffusion.num_timesteps, 0)
        stream = Stream("validation", latents, rows[validation.labels], -(-draws // batches), law, null_label=pretrained.null_label)
        self.objective = Objective([stream], pretrained.diffusion, config.seed)
        self.validation, self.every, self.patience, self.batches = validation, every, patience, batches
        self.device = pretrained.device
        self.losses: dict[int, float] = {}  # step -> validation loss of each check of this run so far

    def recorded(self, task: Task) -> dict[str, dict[str, Any]]:
        """What of it decides a run on `task`, for the run's record; ValueError as in `require_other_pictures`."""
        require_other_pictures(self.validation, task)
        draws = self.batches * self.objective.streams[0].batch
        return {
            "early_stopping": {"validation": self.validation.fingerprint, "every": self.every, "patience": self.patience, "draws": draws}
        }

    def __call__(self, state: TrainingState) -> None:
        if state.step % self.every:
            return
        earlier = validation_losses(state)
        steps, losses = [*earlier, state.step], [*earlier.values(), self.loss(state.ema_model())]
        best = min(range(len(losses)), key=losses.__getitem__)
        if best == len(losses) - 1:
            state.chosen = {name: tensor.clone() for name, tensor in state.average.tensors.items()}
        state.stop = len(losses) - 1 - best >= self.patience
        state.notes["validation_steps"] = torch.tensor(steps)
        state.notes["validation_losses"] = torch.tensor(losses, dtype=torch.float64)
        self.losses = validation_losses(state)

    @torch.no_grad()
    def loss(self, model: nn.Module) -> float:
        """The validation loss of a denoiser."""
        losses = [self.objective.losses(model, i, self.device)["validation"] for i in range(self.batches)]
        return float(torch.stack(losses).mean())


def require_other_pictures(validation: Task, task: Task) -> None:
    """ValueError where validation pictures are of other classes than the task's, or are those that it trains on."""
    if validation.class_names != task.class_names:
        alone = sorted({*validation.class_names} ^ {*task.class_names})
        wrong = f"only one has {alone[0]!r}" if alone else "their order differs"
        raise ValueError(f"the validation pictures, {validation.name}, must have the classes of {task.name}: {wrong}")
    if validation.fingerprint == task.fingerprint:
        raise ValueError(f"the validation pictures are the training pictures, {task.name}: their loss falls on; take others")


def validation_losses(state: TrainingState) -> dict[int, float]:
    """Step -> validation loss of each check so far."""
    steps, losses = (state.notes.get(f"validation_{kind}", torch.empty(0)).tolist() for kind in ("steps", "losses"))
    return dict(zip(steps, losses))
