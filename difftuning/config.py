"""Every setting of pre-training, fine-tuning, a memory bank and a study, as dataclasses that check their values.

Nothing here needs torch: the command line and TOML files read names, types, defaults and help off the fields.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .support.settings import AMOUNT, COUNT, FRACTION, POSITIVE, SHARE, check_settings, setting
from .support.world import world_version

Family = Literal["official", "paper", "threshold", "sigmoid", "swapped"]  # swapped: a control
Sampler = Literal["ddim", "ddpm", "dpm++"]
LossWeighting = Literal["none", "p2", "min_snr"]
BankLabels = Literal["null", "own"]
LabelRows = Literal["auto", "free", "first"]
Precision = Literal["no", "bf16", "fp16"]
P2_GAMMA = 0.5  # the published code's choice
CLASS_BALANCE = "classes are drawn in proportion to their size to this power: 0 all classes alike, 1 all pictures alike"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train, whatever is trained; the defaults are the published Diff-Tuning ones."""

    steps: int = setting(within=COUNT)
    batch_size: int = setting(32, "global: over all processes and accumulation parts", COUNT)
    learning_rate: float = setting(1e-4, within=POSITIVE)
    weight_decay: float = setting(0.0, within=AMOUNT)
    warmup_steps: int = setting(0, "the learning rate rises linearly over the first ones", AMOUNT)
    cooldown_steps: int = setting(0, "and falls linearly over the last ones", AMOUNT)
    ema_decay: float = setting(0.9999, within=SHARE)
    ema_warmup: bool = setting(True, "min(decay, (1+n)/(10+n)): short runs would return the first weights otherwise")
    clip_norm: float | None = setting(None, within=POSITIVE)
    accumulation: int = setting(1, "parts the global batch is cut into, to save memory", COUNT)
    mixed_precision: Precision = "no"
    checkpoint_every: int = setting(500, within=COUNT)
    keep_checkpoints: int = setting(2, within=COUNT)
    seed: int = 0

    def __post_init__(self):
        check_settings(self)

    @property
    def may_differ(self) -> tuple[str, ...]:
        """Fields that may change when a run is resumed; `steps` may not with a cool-down, which counts from the end.

        `accumulation` is what one raises when memory ran out.  It gives the same gradients up to rounding: the bits are those
        of an undisturbed run only where it stays.
        """
        return ("checkpoint_every", "keep_checkpoints", "accumulation", *(["steps"] if self.cooldown_steps == 0 else []))

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0: it rises over the warm-up, stays, and falls over the cool-down."""
        rise = (step + 1) / (self.warmup_steps + 1)
        fall = (self.steps - step) / (self.cooldown_steps + 1)
        return self.learning_rate * min(1.0, rise, fall)


@dataclass(frozen=True, kw_only=True)
class DiffTuningConfig(TrainingConfig):
    """The method's settings; the defaults are the published code's (paper: Algorithm 1).

    `reconsolidation_power` and `retention_power` are the parameter of `family`: the power
    (official), tau (paper) or the threshold (threshold, sigmoid).  Where t is sampled, each term's weights are scaled to
    mean 1, in all families.  `weighted` leaves those of paper, threshold and sigmoid as they are, so that the
    balance of the two terms is another at any tau but 1: the paper's formulas are family="paper", weighted=True, bank_weight=1.
    """

    bank_share: float = setting(0.2, "of the global batch, rounded down: 6 of 32; 0: the bank is there for a regularizer alone", SHARE)
    bank_weight: float = setting(0.1, "of the retention loss; the paper's formula has 1", AMOUNT)
    reconsolidation_power: float = setting(1.0, within=AMOUNT)
    retention_power: float = setting(1.0, within=AMOUNT)
    family: Family = "official"
    weighted: bool = setting(False, "uniform t and loss weights in place of sampling t, as the paper writes it; see the class")
    loss_weighting: LossWeighting = "none"
    label_drop: float = setting(0.1, within=SHARE)
    bank_labels: BankLabels = "null"
    label_rows: LabelRows = "auto"


@dataclass(frozen=True, kw_only=True)
class ControlNetConfig(DiffTuningConfig):
    """The same settings with a ControlNet's defaults: half of the prompts are left out, as its authors did, and the bank keeps its own."""

    label_drop: float = 0.5
    bank_labels: BankLabels = "own"


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(TrainingConfig):
    """The tiny DiT and how it was trained; uniform timesteps, labels dropped once per sample."""

    steps: int = 12_000
    batch_size: int = 64
    learning_rate: float = 7e-4
    warmup_steps: int = 300
    ema_decay: float = 0.9995
    width: int = setting(160, "a multiple of 4 and of num_heads", COUNT)
    num_heads: int = setting(5, within=COUNT)
    num_layers: int = setting(6, within=COUNT)
    num_labels: int = setting(1000, "rows beside the null row, more than the source needs: the rest is for tasks", COUNT)
    label_drop: float = setting(0.1, within=SHARE)
    snr_scale: float | None = setting(
        None, "times the linear schedule's SNR; none: (32 / side of the latents)^2, as it was made for 32", POSITIVE
    )
    p2_gamma: float = setting(0.0, "loss weight 1 / (1 + SNR)^gamma (Choi et al., CVPR 2022); 0: all timesteps alike", "[0, 2]")
    class_balance: float = setting(0.75, CLASS_BALANCE, FRACTION)


@dataclass(frozen=True, kw_only=True)
class TextToImageConfig(TrainingConfig):
    """The tiny Stable Diffusion and how it was trained; uniform timesteps."""

    steps: int = 10_000
    batch_size: int = 64
    learning_rate: float = 5e-4
    warmup_steps: int = 300
    ema_decay: float = 0.9995
    width: int = setting(64, "channels of the UNet's first level; the second has twice as many", COUNT)
    num_heads: int = setting(4, within=COUNT)
    text_width: int = setting(64, within=COUNT)
    text_layers: int = setting(2, within=COUNT)
    max_tokens: int = setting(16, "tokens of a prompt: start, end and one word at least", "[3, inf)")
    label_drop: float = setting(0.15, "share of captions replaced by the empty one", SHARE)
    class_balance: float = setting(0.75, CLASS_BALANCE, FRACTION)


@dataclass(frozen=True, kw_only=True)
class BankConfig:
    """What to sample a memory bank by, whatever the model."""

    size: int = setting(within=COUNT)
    seed: int = 0
    sampler: Sampler = "ddim"
    steps: int = 50
    guidance: float = 1.5
    shard_size: int = setting(250, "samples in a file", COUNT)
    reencode: bool = setting(False, "go through 8-bit pictures, as the published code does")
    mixed_precision: Precision = setting("no", "the model's operations in half precision where that is enough")

    def __post_init__(self):
        check_settings(self)


GUIDANCES = {f"{strength:g}": (strength, False) for strength in (1.0, 1.1, 1.25, 1.5, 2.0)}  # strength, and is the source model the guide?
GUIDANCES["domain 1.5"] = (1.5, True)


MARKS = ("steps", "scored", "guidances", "replaced")  # of a study's cell: when and what to measure, which does not change the run


@dataclass(frozen=True)
class StudyCell:
    """One run of a study; everything in it ends up in its rows."""

    task: str
    method: str
    seed: int
    learning_rate: float
    steps: tuple[int, ...]  # where the held-out loss is measured; the last is where training ends
    training_pictures: int | Literal["all"] = "all"  # the first of the training split: smaller sets are parts of larger ones
    samples: int = 500
    sampler: Sampler = "ddim"
    sampling_steps: int = 12
    loss_pictures: int = 200  # of each held-out set, for the loss along the chain
    scored: tuple[int, ...] | None = None  # those of the steps where samples are scored; None: all
    guidances: tuple[str, ...] = tuple(GUIDANCES)
    replaced: tuple[float, ...] = ()  # fractions of the last reverse steps left to the source model, at each mark

    @property
    def file_name(self) -> str:
        """What the run's files are called: task, pictures, method, learning rate and seed; no ending."""
        few = "" if self.training_pictures == "all" else f"-{self.training_pictures}pictures"
        name = f"{self.task}{few}-{self.method}-lr{self.learning_rate:g}-seed{self.seed}"
        return re.sub(r"[^\w.+-]+", "_", name)

    @property
    def identity(self) -> dict[str, Any]:
        """The columns that every row of this run begins with."""
        own = {key: value for key, value in asdict(self).items() if key not in MARKS}
        return own | {"world": world_version()}
