"""`fine_tune`: plain fine-tuning and Diff-Tuning, one code path, from a pre-trained model and a task.

Without a bank and at power 0 the very same code is plain fine-tuning.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Callable, Sequence

from torch import Tensor

from ..config import ControlNetConfig, DiffTuningConfig
from ..data.tasks import Task
from ..models.adapters.apply import adapter_of, put_on
from ..models.adapters.options import ADAPTERS, Adapter, name_of
from ..models.pretrained import Pretrained, require_model
from ..support import processes
from ..support.kinds import require_kind
from ..support.options import choose, describe
from ..support.surroundings import undisturbed
from .fine_tuned import FineTuned
from .label_rows import add_rows, choose_rows, extended_names, require_open_rows
from .loop import Callback, require_list, train
from .memory_bank import MemoryBank, require_same_model
from .objective import Objective
from .penalties import RunContext
from .regularizers import REGULARIZERS, Regularizer
from .run import Run
from .streams import Conditioner, split_batch, training_streams

OF_THE_BANK = ("bank_share", "bank_weight", "bank_labels", "retention_power")  # settings


@undisturbed
def fine_tune(pretrained: Pretrained, task: Task, bank: MemoryBank | None = None, config: DiffTuningConfig | None = None, *,
              folder: str | Path, adapter: Adapter | str | None = None, regularizer: Regularizer | str | None = None,
              conditions: Conditioner | None = None, bank_conditions: Conditioner | None = None,
              null_conditions: dict[str, Tensor] | None = None, resume: bool = True, callbacks: Sequence[Callback] = (),
              progress: bool = True) -> FineTuned:  # fmt: skip
    """Fine-tune a copy of `pretrained` on `task`; with a `bank`, by Diff-Tuning.

    Plain fine-tuning is bank=None with reconsolidation_power=0; reconsolidation or retention alone is one of them without the
    other.  Checkpoints, history and the result go to `folder`; the same call goes on where an interrupted one stopped (to more
    `steps` too, or in other parts, by `accumulation`, whose sums differ in their last bits).

    `adapter` trains a part of the weights, or new ones: "bitfit", "lora", "difffit", "adaptformer", "adaptformer_parallel",
    "vpt", or an object with options such as LoRA(rank=16) (models/adapters/options.py).  `regularizer` holds the model near the
    pre-trained one: "l2_sp", "ewc", "distillation", "prior_preservation", or an object such as EWC(weight=10.0)
    (training/regularizers.py); at bank_share=0 only one that reads the bank itself, as "ewc" does, may be given a bank.
    Either may be a function of your own.
    `conditions` gives what the model is told beside the label: (images (n, 3, H, W), class names) -> {name: tensor (n, ...)},
    of target and bank pictures alike unless `bank_conditions` gives the latter's.  A bank picture's name is that of its class,
    or its prompt.  Where a label is dropped, `null_conditions` (each (...)) take the place of those that they name.
    `callbacks` are called with the run's state after each step (training/loop.py); what one `recorded`(task) is part of what the
    folder belongs to.
    """
    config = DiffTuningConfig(steps=1000) if config is None else config
    require_model("pretrained", pretrained)
    require_kind("task", task, Task, "load_task")
    require_kind("config", config, DiffTuningConfig)
    require_list(callbacks)
    adapt, regularize = _chosen(adapter, regularizer)
    if hasattr(regularize, "adjusted"):
        config = regularize.adjusted(config, bank)
    if bank is not None:
        require_kind("bank", bank, MemoryBank, "MemoryBank.load")
        require_same_model(bank.recipe, pretrained, bank.folder)
    _warn_of_empty_classes(task)
    _warn_of_idle_settings(config, bank, ControlNetConfig if pretrained.takes_prompts else DiffTuningConfig)
    if adapt is None and (known := adapter_of(pretrained.denoiser)) is not None:
        warnings.warn(
            f"{pretrained.name} has an adapter, {name_of(known)}: it is trained further, with the label table, and all else stays as it is",
            stacklevel=3,
        )
    rows = choose_rows(pretrained, len(task.class_names), config.label_rows)
    names, first_free = extended_names(pretrained, task, rows)
    require_open_rows(bank, config, rows)
    batch = split_batch(config, bank, unused=regularize is not None and getattr(regularize, "reads_bank", True))
    functions = {"adapter": adapt, "regularizer": regularize, "conditions": conditions, "bank_conditions": bank_conditions}
    record = _record(pretrained, task, bank, config, callbacks, **functions)
    with Run(folder, record, device=pretrained.device, resume=resume, may_differ=config.may_differ) as run:  # before the long encoding
        # what does not fit together raises here
        streams = training_streams(pretrained, task, bank, config, rows, batch, conditions, bank_conditions, null_conditions)
        shared = getattr(adapt, "leaves_base", False)
        denoiser = pretrained.copy_denoiser(share_weights=shared).float()  # small steps and the moving average need float32
        if adapt is not None:
            put_on(denoiser, adapt, config.seed)
        add_rows(denoiser, pretrained, rows, config.seed)
        penalties = [] if regularize is None else regularize(RunContext(pretrained, denoiser, streams, config.seed, bank, progress))
        objective = Objective(streams, pretrained.diffusion, config.seed, penalties)
        state, history = train(denoiser, objective, config, run=run, device=pretrained.device, callbacks=callbacks, progress=progress)
        if "bank_loss" not in history:
            history.insert(2, "bank_loss", float("nan"))
        tuned, name = state.result_model().to(pretrained.device), f"{pretrained.name} tuned on {task.name}"
        model = pretrained.with_denoiser(tuned, label_names=names, first_free_label=first_free, name=name)
        result = FineTuned(model, history, config, rows)
        processes.in_main_process(partial(result.save, run.folder), pretrained.device)
    return result


def _chosen(adapter: Adapter | str | None, regularizer: Regularizer | str | None) -> tuple[Adapter | None, Regularizer | None]:
    """Both as functions; ValueError for an unknown name, and where one was given in the other's place."""
    adapt, regularize = choose("adapter", adapter, ADAPTERS), choose("regularizer", regularizer, REGULARIZERS)
    for role, given, other, table in (("adapter", adapt, "regularizer", REGULARIZERS), ("regularizer", regularize, "adapter", ADAPTERS)):
        if type(given) in map(type, table.values()):
            raise ValueError(f"{given} is no {role}: it goes where the {other} does")
    return adapt, regularize


def _warn_of_empty_classes(task: Task) -> None:
    if empty := set(range(len(task.class_names))) - set(task.labels.tolist()):
        name = task.class_names[min(empty)]
        warnings.warn(f"{task.name} has no picture of {len(empty)} of its classes, {name!r} first: they will not be learned", stacklevel=4)


def _warn_of_idle_settings(config: DiffTuningConfig, bank: MemoryBank | None, usual: type[DiffTuningConfig]) -> None:
    """Of what is neither `usual` nor 0, which says what is so without a bank."""
    idle = [each.name for each in fields(usual) if each.name in OF_THE_BANK and getattr(config, each.name) not in (0, each.default)]
    if bank is None and idle:
        warnings.warn(
            f"without a bank {' and '.join(idle)} do{'es' * (len(idle) == 1)} nothing: pass a bank, or leave that out", stacklevel=4
        )


def _record(pretrained: Pretrained, task: Task, bank: MemoryBank | None, config: DiffTuningConfig, callbacks: Sequence[Callback],
            **functions: Callable | None) -> dict:  # fmt: skip
    """What decides the result: the run's folder belongs to it."""
    record = {
        "task": task.fingerprint,
        "flip": task.flip,
        "pretrained": pretrained.fingerprint,
        "encoder": pretrained.encoder_fingerprint,
        "bank": None if bank is None else bank.fingerprint,
        **{role: describe(function) for role, function in functions.items() if function},
        **asdict(config),
    }
    for callback in callbacks:
        if hasattr(callback, "recorded"):
            record |= callback.recorded(task)
    return record
