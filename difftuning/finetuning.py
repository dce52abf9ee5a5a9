"""`fine_tune`: plain fine-tuning and Diff-Tuning, one code path, from a pre-trained model and a task.

Diff-Tuning trains on target pictures under a law that rises with t (reconsolidation) and
on memory-bank pictures under one that falls (retention).  Without a bank and at power 0
the very same code is plain fine-tuning.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Sequence

import torch
from torch import Tensor

from . import checkpoints, processes
from .data import Task
from .diffusion import Diffusion
from .dit import DiT
from .files import DamagedFileError, atomic_path, read_json, sha256, write_json
from .latents import encode_latents
from .loading import load_pretrained
from .memory import MemoryBank, require_same_model
from .objective import Objective, Stream, seeded_generator
from .pretrained import CARD, Pretrained, require_own_model
from .schedules import Family, family_distribution, family_weights, min_snr_weight, p2_weight, timestep_distribution
from .training import Callback, TrainingConfig, parse_history, require_finite, train

if TYPE_CHECKING:
    import pandas

NEW_ROW_NOISE = 0.1  # of the label table's own spread
P2_GAMMA = 0.5  # the published code's choice


@dataclass(frozen=True, kw_only=True)
class DiffTuningConfig(TrainingConfig):
    """The method's settings; the defaults are the published code's (paper: Algorithm 1).

    `reconsolidation_power` and `retention_power` are the parameter of `family`: the power
    (official), tau (paper) or the threshold (threshold, sigmoid).
    """

    bank_share: float = 0.2  # of the global batch, rounded down: 6 of 32
    bank_weight: float = 0.1  # of the retention loss; the paper's formula has 1
    reconsolidation_power: float = 1.0
    retention_power: float = 1.0
    family: Family = "official"
    weighted: bool = False  # uniform t and loss weights in place of sampling t
    loss_weighting: Literal["none", "p2", "min_snr"] = "none"
    label_drop: float = 0.1
    bank_labels: Literal["null", "own"] = "null"
    label_rows: Literal["auto", "free", "first"] = "auto"

    def __post_init__(self):
        super().__post_init__()
        for name in ("bank_share", "label_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name in ("bank_weight", "reconsolidation_power", "retention_power"):
            require_finite(name, getattr(self, name))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")


_CHOICES = {
    "family": ("official", "paper", "threshold", "sigmoid"),
    "loss_weighting": ("none", "p2", "min_snr"),
    "bank_labels": ("null", "own"),
    "label_rows": ("auto", "free", "first"),
}


@dataclass
class FineTuned:
    """A fine-tuned model: `model` carries the averaged (EMA) weights and is a `Pretrained` like any other.

    `rows[k]` is the label that stands for the task's class k; names work as labels too.
    """

    model: Pretrained
    history: pandas.DataFrame  # step, target_loss, bank_loss (nan without a bank), seconds
    config: DiffTuningConfig
    rows: Tensor  # int64 (K,)

    def save(self, folder: str | Path) -> None:
        """Write model/ (diffusers' folder), history.csv and result.json, replacing only what a fine-tuning has left."""
        folder = Path(folder)
        _require_own(folder)
        require_own_model(folder / "model")
        targets = [folder / name for name in ("result.json", "history.csv", "model")]
        with atomic_path(targets[0]) as result, atomic_path(targets[1]) as history, atomic_path(targets[2]) as model:  # all or none
            self.history.to_csv(history, index=False, na_rep="nan")
            self.model.save(model)
            files = dict(zip(_CHECKED, (sha256(history), sha256(model / CARD))))
            write_json(result, {"config": asdict(self.config), "rows": self.rows.tolist(), "sha256": files})


_CHECKED = ("history.csv", f"model/{CARD}")  # the card has the checksums of the model's other files


def _require_own(folder: Path) -> None:
    """Raise where `folder` holds anything that no fine-tuning, finished or killed, has left."""
    record = folder / checkpoints.RECORD
    mine = "task" in read_json(record) if record.is_file() else (folder / "history.csv").is_file()
    left = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    if not mine or left - {"history.csv", "model", "result.json", "checkpoints", checkpoints.RECORD}:
        checkpoints.require_unused(folder)


def load_fine_tuned(folder: str | Path, *, device: str | torch.device | None = None) -> FineTuned:
    """Open what `fine_tune` left in its folder, or what `FineTuned.save` wrote."""
    folder = Path(folder).absolute()  # model/ must never be taken for a hub id
    if not (folder / "result.json").is_file():
        raise FileNotFoundError(f"no finished fine-tuning in {folder}: it has no result.json")
    again = ", or call fine_tune again, which writes it anew" if checkpoints.list_checkpoints(folder) else ""
    record = read_json(folder / "result.json")
    try:
        config, rows = DiffTuningConfig(**record["config"]), torch.tensor(record["rows"], dtype=torch.int64)
        files = {name: record["sha256"][name] for name in _CHECKED}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{folder / 'result.json'} does not describe a fine-tuning ({error}); restore it{again}") from error
    for name, digest in files.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            raise DamagedFileError(f"{folder / name} is missing, cut off or altered; restore it{again}")
    try:
        model = load_pretrained(folder / "model", device=device)
    except (DamagedFileError, FileNotFoundError) as error:
        raise DamagedFileError(f"{error}{again}") from error
    if rows.ndim != 1 or not len(rows) or not 0 <= int(rows.min()) <= int(rows.max()) < model.null_label:
        raise DamagedFileError(f"{folder / 'result.json'} is damaged (rows is {record['rows']!r:.80}); restore it{again}")
    return FineTuned(model, parse_history((folder / "history.csv").read_text()), config, rows)


def fine_tune(pretrained: Pretrained, task: Task, bank: MemoryBank | None = None, config: DiffTuningConfig | None = None, *,
              folder: str | Path, resume: bool = True, callbacks: Sequence[Callback] = (), progress: bool = True) -> FineTuned:  # fmt: skip
    """Fine-tune a copy of `pretrained` on `task`; with a `bank`, by Diff-Tuning.

    Plain fine-tuning is bank=None with reconsolidation_power=0; reconsolidation or retention
    alone is one of them without the other.  Checkpoints, history and the result go to
    `folder`; the same call goes on where an interrupted one stopped (to more `steps` too).
    """
    config = config or DiffTuningConfig(steps=1000)
    folder = Path(folder)
    if bank is not None:
        require_same_model(bank.recipe, pretrained, bank.folder)
    if untaught := set(range(len(task.class_names))) - set(task.labels.tolist()):
        name = task.class_names[min(untaught)]
        warnings.warn(
            f"{task.name} has no picture of {len(untaught)} of its classes, {name!r} first: they will not be learned", stacklevel=2
        )
    rows = choose_rows(pretrained, len(task.class_names), config.label_rows)
    _require_open_rows(bank, config, rows)
    batch = split_batch(config, bank)
    record = {
        "task": task.fingerprint,
        "flip": task.flip,
        "pretrained": pretrained.fingerprint,
        "encoder": pretrained.encoder_fingerprint,
        "bank": None if bank is None else bank.fingerprint,
        **asdict(config),
    }
    check = partial(checkpoints.check_run, folder, record, resume=resume, may_differ=config.may_differ)
    processes.in_main_process(check, pretrained.device)  # before the long encoding
    streams = training_streams(pretrained, task, bank, config, rows, batch)  # what does not fit together raises here
    denoiser = pretrained.copy_denoiser().float()  # small steps and the moving average need float32
    add_rows(denoiser, pretrained, rows, config.seed)
    objective = Objective(streams, pretrained.diffusion, config.seed)
    state, history = train(
        denoiser, objective, config, folder=folder, device=pretrained.device, record=record, resume=resume,
        callbacks=callbacks, progress=progress,
    )  # fmt: skip
    if bank is None:
        history.insert(2, "bank_loss", float("nan"))
    names, first_free = _names(pretrained, task, rows)
    model = pretrained.with_denoiser(
        state.ema_model().to(pretrained.device),
        label_names=names,
        first_free_label=first_free,
        name=f"{pretrained.name} tuned on {task.name}",
    )
    result = FineTuned(model, history, config, rows)
    processes.in_main_process(partial(result.save, folder), pretrained.device)
    return result


def split_batch(config: DiffTuningConfig, bank: MemoryBank | None) -> tuple[int, int]:
    """Target and bank pictures in each global batch: 26 and 6 of 32 at a share of 0.2."""
    if bank is None:
        return config.batch_size, 0
    from_bank = int(round(config.batch_size * config.bank_share, 6))  # 100 * 0.29 is 28.999999999999996
    if from_bank == 0:
        raise ValueError(
            f"a batch of {config.batch_size} at bank_share {config.bank_share} holds no bank picture: raise one of them, or pass bank=None"
        )
    return config.batch_size - from_bank, from_bank


def timestep_law(config: DiffTuningConfig, num_timesteps: int, *, descending: bool = False) -> tuple[Tensor, Tensor | None]:
    """The law t is drawn from and the weight on the loss (None for 1), of the bank if `descending`; float64 (T,)."""
    parameter = config.retention_power if descending else config.reconsolidation_power
    if config.weighted:
        uniform = timestep_distribution(num_timesteps, 0)
        return uniform, family_weights(config.family, num_timesteps, parameter, descending=descending)
    return family_distribution(config.family, num_timesteps, parameter, descending=descending), None


def choose_rows(pretrained: Pretrained, num_classes: int, choice: Literal["auto", "free", "first"] = "auto") -> Tensor:
    """Rows of the label table for a task's classes; int64 (K,).

    "free": rows that no class has yet; "first": rows 0..K-1, as the published code does;
    "auto": free where they suffice, else first.
    """
    free = pretrained.null_label - pretrained.first_free_label
    if choice == "free" and num_classes > free:
        raise ValueError(f"{num_classes} classes need free label rows, {pretrained.name} has {free}: use label_rows='first'")
    if num_classes > pretrained.null_label:
        raise ValueError(f"{num_classes} classes do not fit into a label table of {pretrained.null_label} rows")
    use_free = choice == "free" or (choice == "auto" and num_classes <= free)
    return torch.arange(num_classes) + (pretrained.first_free_label if use_free else 0)


@torch.no_grad()
def add_rows(denoiser: DiT, pretrained: Pretrained, rows: Tensor, seed: int) -> None:
    """Start new label rows as the null row plus a little noise; rows that have a class keep theirs."""
    table = denoiser.label_table
    new = rows[rows >= pretrained.first_free_label].to(table.device)
    spread = pretrained.denoiser.label_table[: max(pretrained.first_free_label, 2)].std()
    noise = torch.randn(len(new), table.shape[1], generator=seeded_generator(seed, "new label rows", len(new)))
    table[new] = table[pretrained.null_label] + NEW_ROW_NOISE * spread * noise.to(table)


def training_streams(pretrained: Pretrained, task: Task, bank: MemoryBank | None, config: DiffTuningConfig, rows: Tensor,
                     batch: tuple[int, int]) -> list[Stream]:  # fmt: skip
    """The target stream and, with a bank, the bank's: latents, labels, laws and weights as the method has them."""
    law, importance = timestep_law(config, pretrained.diffusion.num_timesteps)
    eps_weight = _eps_weight(config, pretrained.diffusion)
    null = pretrained.null_label
    encoded = encode_latents(pretrained, task)
    streams = [
        Stream("target", encoded["latents"], rows[task.labels], batch[0], law, importance=importance, eps_weight=eps_weight,
               label_drop=config.label_drop, null_label=null, mirrored=encoded.get("mirrored"))
    ]  # fmt: skip
    if bank is not None:
        own = config.bank_labels == "own"
        labels = bank.labels if own else torch.full_like(bank.labels, null)
        law, importance = timestep_law(config, pretrained.diffusion.num_timesteps, descending=True)
        streams.append(
            Stream("bank", bank.latents, labels, batch[1], law, weight=config.bank_weight, importance=importance,
                   eps_weight=eps_weight, label_drop=config.label_drop if own else 0.0, null_label=null)
        )  # fmt: skip
    return streams


def _eps_weight(config: DiffTuningConfig, diffusion: Diffusion) -> Tensor | None:
    if config.loss_weighting == "p2":
        return p2_weight(diffusion.snr, gamma=P2_GAMMA)
    return min_snr_weight(diffusion.snr) if config.loss_weighting == "min_snr" else None


def _require_open_rows(bank: MemoryBank | None, config: DiffTuningConfig, rows: Tensor) -> None:
    if bank is not None and config.bank_labels == "own" and bool(torch.isin(bank.labels, rows).any()):
        raise ValueError("bank_labels='own' needs the source's label rows, but the task takes them: use label_rows='free'")


def _names(pretrained: Pretrained, task: Task, rows: Tensor) -> tuple[list[str], int]:
    first, last = int(rows[0]), int(rows[-1]) + 1
    unnamed = [f"row {row}" for row in range(len(pretrained.label_names), first)]  # a name stands at its row
    before, after = [*pretrained.label_names[:first], *unnamed], pretrained.label_names[last:]
    names: list[str] = []
    for name in task.class_names:
        # Labels are looked up by name: one that the source has, too, gets the task's name to it.
        versions = itertools.chain([name, f"{name} ({task.name})"], (f"{name} ({task.name} {n})" for n in itertools.count(2)))
        names.append(next(version for version in versions if version not in {*before, *names, *after}))
    return [*before, *names, *after], max(pretrained.first_free_label, last)
