"""Runs of a second: of the loop alone (`run`), of fine-tuning (`tune`)."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from difftuning.config import DiffTuningConfig, TrainingConfig
from difftuning.diffusion.process import Diffusion
from difftuning.diffusion.timestep_weights import timestep_distribution
from difftuning.training.fine_tune import fine_tune
from difftuning.training.fine_tuned import FineTuned
from difftuning.training.label_rows import choose_rows
from difftuning.training.loop import train
from difftuning.training.objective import Objective, Stream
from difftuning.training.run import Run
from difftuning.training.streams import split_batch, training_streams

CPU = torch.device("cpu")


class Net(nn.Module):
    """Takes what a DiT takes, in a tenth of a millisecond."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.mix, self.labels = nn.Conv2d(4, 8, 3, padding=1), nn.Embedding(6, 8)

    def forward(self, x_t, t, labels):
        return self.mix(x_t) + self.labels(labels)[:, :, None, None] * (t[:, None, None, None] / 1000)


def objective(seed: int = 0) -> Objective:
    latents = torch.randn(20, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    labels, law = torch.arange(20) % 5, timestep_distribution(1000, 1)
    target = Stream("target", latents, labels, 10, law, label_drop=0.1, null_label=5)
    bank = Stream("bank", latents.flip(0), torch.full((20,), 5), 2, law.flip(0), weight=0.1)
    return Objective([target, bank], Diffusion(), seed)


def run(folder: Path | None, *, module: nn.Module | None = None, callbacks=(), record=None, **options):
    config = TrainingConfig(**{"steps": 12, "checkpoint_every": 5, "learning_rate": 1e-2, **options})
    module = Net() if module is None else module
    with nullcontext() if folder is None else Run(folder, record or {}, device=CPU, may_differ=config.may_differ) as kept:
        return train(module, objective(), config, run=kept, device=CPU, callbacks=callbacks, progress=False)


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


def assert_same(one, other) -> None:
    """Bit by bit: weights, averages and every loss of the history."""
    (state, history), (state_2, history_2) = one, other
    assert torch.equal(weights(state.module), weights(state_2.module))
    assert all(torch.equal(tensor, state_2.average.tensors[name]) for name, tensor in state.average.tensors.items())
    assert history.drop(columns="seconds").equals(history_2.drop(columns="seconds"))


PLAIN = {"reconsolidation_power": 0.0}


def tune(pretrained, task, bank, folder, *, callbacks=(), resume=True, **options) -> FineTuned:
    config = DiffTuningConfig(**{"steps": 12, "checkpoint_every": 5, "learning_rate": 1e-3, **options})
    return fine_tune(pretrained, task, bank, config, folder=folder, callbacks=callbacks, resume=resume, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def streams_of(pretrained, task, bank, **options):
    config = DiffTuningConfig(steps=1, **options)
    rows = choose_rows(pretrained, len(task.class_names), config.label_rows)
    return training_streams(pretrained, task, bank, config, rows, split_batch(config, bank))
