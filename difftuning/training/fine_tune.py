"""`fine_tune`: plain fine-tuning and Diff-Tuning, one code path, from a pre-trained model and a task.

Diff-Tuning trains on target pictures whose t is drawn from a distribution that rises
(reconsolidation) and on memory-bank pictures whose t is drawn from one that falls (retention).  Without a bank and at power 0
the very same code is plain fine-tuning.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Callable, Literal, Sequence

import torch
from torch import Tensor

from ..config import P2_GAMMA, DiffTuningConfig
from ..data.latents import encode_latents
from ..data.tasks import Task
from ..diffusion.process import Diffusion, require_finite
from ..diffusion.timestep_weights import (
    min_snr_weight,
    p2_weight,
    reconsolidation_distribution,
    reconsolidation_weighting,
    retention_distribution,
    retention_weighting,
    timestep_distribution,
)
from ..models.adapters.apply import put_on
from ..models.adapters.options import ADAPTERS, Adapter
from ..models.pretrained import Pretrained, require_model
from ..support import processes
from ..support.kinds import require_kind
from ..support.options import choose, describe
from ..support.surroundings import undisturbed
from .fine_tuned import FineTuned
from .label_rows import add_rows, choose_rows, extended_names, require_open_rows
from .loop import Callback, train
from .memory_bank import MemoryBank, require_same_model
from .objective import Objective, Stream
from .regularizers import REGULARIZERS, Regularizer, Setting
from .run import Run

Role = Literal["reconsolidation", "retention"]  # of the target pictures, of the bank
Conditioner = Callable[[Tensor, Sequence[str]], dict[str, Tensor]]
CONDITION_BATCH = 64  # pictures


@undisturbed
def fine_tune(pretrained: Pretrained, task: Task, bank: MemoryBank | None = None, config: DiffTuningConfig | None = None, *,
              folder: str | Path, adapter: Adapter | str | None = None, regularizer: Regularizer | str | None = None,
              conditions: Conditioner | None = None, bank_conditions: Conditioner | None = None,
              null_conditions: dict[str, Tensor] | None = None, resume: bool = True, callbacks: Sequence[Callback] = (),
              progress: bool = True) -> FineTuned:  # fmt: skip
    """Fine-tune a copy of `pretrained` on `task`; with a `bank`, by Diff-Tuning.

    Plain fine-tuning is bank=None with reconsolidation_power=0; reconsolidation or retention
    alone is one of them without the other.  Checkpoints, history and the result go to
    `folder`; the same call goes on where an interrupted one stopped (to more `steps` too, or in other
    parts, by `accumulation`, whose sums differ in their last bits).

    `adapter` trains a part of the weights, or new ones: "bitfit", "lora", "difffit", "adaptformer", "adaptformer_parallel",
    "vpt", or an object with options such as LoRA(rank=16) (models/adapters/options.py).  `regularizer` holds the model near
    the pre-trained one: "l2_sp", "ewc", "distillation", "prior_preservation", or an object such as EWC(weight=10.0)
    (training/regularizers.py); with bank_share=0 it may use a bank that is not replayed.  Either may be a function of your
    own.  `conditions` gives what the model is told
    beside the label: (images (n, 3, H, W), class names) -> {name: tensor (n, ...)}, of target and bank pictures alike unless
    `bank_conditions` gives the latter's.  A bank picture's name is that of its class, or its prompt.  Where a label is
    dropped, `null_conditions` (each (...)) take the place of those that they name.
    """
    config = DiffTuningConfig(steps=1000) if config is None else config
    require_model("pretrained", pretrained)
    require_kind("task", task, Task, "load_task")
    require_kind("config", config, DiffTuningConfig)
    adapt, regularize = choose("adapter", adapter, ADAPTERS), choose("regularizer", regularizer, REGULARIZERS)
    if hasattr(regularize, "adjusted"):
        config = regularize.adjusted(config, bank)
    if bank is not None:
        require_kind("bank", bank, MemoryBank, "MemoryBank.load")
        require_same_model(bank.recipe, pretrained, bank.folder)
    if untaught := set(range(len(task.class_names))) - set(task.labels.tolist()):
        name = task.class_names[min(untaught)]
        warnings.warn(
            f"{task.name} has no picture of {len(untaught)} of its classes, {name!r} first: they will not be learned", stacklevel=3
        )
    rows = choose_rows(pretrained, len(task.class_names), config.label_rows)
    require_open_rows(bank, config, rows)
    batch = split_batch(config, bank, unused=regularize is not None)
    record = {
        "task": task.fingerprint,
        "flip": task.flip,
        "pretrained": pretrained.fingerprint,
        "encoder": pretrained.encoder_fingerprint,
        "bank": None if bank is None else bank.fingerprint,
        **{
            role: describe(value)
            for role, value in (
                ("adapter", adapt),
                ("regularizer", regularize),
                ("conditions", conditions),
                ("bank_conditions", bank_conditions),
            )
            if value
        },
        **asdict(config),
    }
    with Run(folder, record, device=pretrained.device, resume=resume, may_differ=config.may_differ) as run:  # before the long encoding
        # what does not fit together raises here
        streams = training_streams(pretrained, task, bank, config, rows, batch, conditions, bank_conditions, null_conditions or {})
        shared = getattr(adapt, "leaves_base", False)
        denoiser = pretrained.copy_denoiser(share_weights=shared).float()  # small steps and the moving average need float32
        if adapt is not None:
            put_on(denoiser, adapt, config.seed)
        add_rows(denoiser, pretrained, rows, config.seed)
        penalties = [] if regularize is None else regularize(Setting(pretrained, denoiser, streams, config.seed, bank))
        objective = Objective(streams, pretrained.diffusion, config.seed, penalties)
        state, history = train(denoiser, objective, config, run=run, device=pretrained.device, callbacks=callbacks, progress=progress)
        if "bank_loss" not in history:
            history.insert(2, "bank_loss", float("nan"))
        names, first_free = extended_names(pretrained, task, rows)
        model = pretrained.with_denoiser(
            state.result_model().to(pretrained.device),
            label_names=names,
            first_free_label=first_free,
            name=f"{pretrained.name} tuned on {task.name}",
        )
        result = FineTuned(model, history, config, rows)
        processes.in_main_process(partial(result.save, run.folder), pretrained.device)
    return result


def split_batch(config: DiffTuningConfig, bank: MemoryBank | None, *, unused: bool = False) -> tuple[int, int]:
    """Target and bank pictures in each global batch: 26 and 6 of 32 at a share of 0.2; `unused`: none is allowed, too."""
    if bank is None or (unused and config.bank_share == 0):
        return config.batch_size, 0
    from_bank = int(round(config.batch_size * config.bank_share, 6))  # 100 * 0.29 is 28.999999999999996
    if from_bank == 0:
        raise ValueError(
            f"a batch of {config.batch_size} at bank_share {config.bank_share} holds no bank picture: raise one of them, or pass bank=None"
        )
    return config.batch_size - from_bank, from_bank


def timestep_sampling(config: DiffTuningConfig, num_timesteps: int, role: Role) -> tuple[Tensor, Tensor | None]:
    """The distribution that t is drawn from and the weight on the loss (None for 1); float64 (T,)."""
    if role == "reconsolidation":
        distribution, weighting, parameter = reconsolidation_distribution, reconsolidation_weighting, config.reconsolidation_power
    else:
        distribution, weighting, parameter = retention_distribution, retention_weighting, config.retention_power
    if config.weighted:
        return timestep_distribution(num_timesteps, 0), weighting(config.family, num_timesteps, parameter)
    return distribution(config.family, num_timesteps, parameter), None


def training_streams(pretrained: Pretrained, task: Task, bank: MemoryBank | None, config: DiffTuningConfig, rows: Tensor,
                     batch: tuple[int, int], conditions: Conditioner | None = None, bank_conditions: Conditioner | None = None,
                     null_conditions: dict[str, Tensor] | None = None) -> list[Stream]:  # fmt: skip
    """The target stream and, with a bank, the bank's: latents, labels, conditions, timesteps and weights as the method has them."""
    distribution, weight = timestep_sampling(config, pretrained.diffusion.num_timesteps, "reconsolidation")
    eps_weight = _eps_weight(config, pretrained.diffusion)
    null = pretrained.null_label
    encoded = encode_latents(pretrained, task)
    target = Stream("target", encoded["latents"], rows[task.labels], batch[0], distribution, timestep_weight=weight, eps_weight=eps_weight,
                    label_drop=config.label_drop, null_label=null, null_conditions=null_conditions or {})  # fmt: skip
    if conditions is not None:
        names = [task.class_names[label] for label in task.labels.tolist()]
        target.conditions = condition_rows(conditions, task.read, names)
    if "mirrored" in encoded:
        target.mirrored = replace(target, x_0=encoded["mirrored"])
        if conditions is not None:
            target.mirrored.conditions = condition_rows(conditions, lambda places: task.read(places).flip(-1), names)
    if batch[1] == 0:
        return [target]
    own = config.bank_labels == "own"
    labels = bank.labels if own else torch.full_like(bank.labels, null)
    distribution, weight = timestep_sampling(config, pretrained.diffusion.num_timesteps, "retention")
    retained = Stream("bank", bank.latents, labels, batch[1], distribution, weight=config.bank_weight, timestep_weight=weight,
                      eps_weight=eps_weight, label_drop=config.label_drop if own else 0.0, null_label=null,
                      null_conditions=null_conditions or {})  # fmt: skip
    if conditions is not None:
        told = pretrained.label_names if bank.prompts is None else bank.prompts
        names = [told[label] if label < len(told) else "" for label in bank.labels.tolist()]
        retained.conditions = condition_rows(
            bank_conditions or conditions, lambda places: pretrained.decode(bank.latents[places]).cpu(), names
        )
        if not own:  # what goes with the null label
            retained.conditions |= {name: null.expand(len(bank), *null.shape) for name, null in (null_conditions or {}).items()}
    return [target, retained]


def condition_rows(conditions: Conditioner, read: Callable[[Sequence[int]], Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """What `conditions` gives for every picture, {name: (N, ...)}, asked for batch by batch."""
    batches = [range(first, min(first + CONDITION_BATCH, len(names))) for first in range(0, len(names), CONDITION_BATCH)]
    found = [conditions(read(places), [names[place] for place in places]) for places in batches]
    for places, given in zip(batches, found):
        for name, tensor in given.items():
            if len(tensor) != len(places):
                raise ValueError(f"conditions must give a row for each picture: {name!r} has {len(tensor)} rows for {len(places)} pictures")
            require_finite(f"condition {name!r}", tensor)
    return {name: torch.cat([given[name].cpu() for given in found]) for name in found[0]}


def _eps_weight(config: DiffTuningConfig, diffusion: Diffusion) -> Tensor | None:
    if config.loss_weighting == "p2":
        return p2_weight(diffusion.snr, gamma=P2_GAMMA)
    return min_snr_weight(diffusion.snr) if config.loss_weighting == "min_snr" else None
