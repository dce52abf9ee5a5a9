"""Every setting of pre-training, fine-tuning, a memory bank and a study, as dataclasses that check their values.

Nothing here needs torch: the command line and TOML files read names, types, defaults and help off the fields.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Sequence, get_args

from .support.settings import plain, setting
from .support.world import world_version

Family = Literal["official", "paper", "threshold", "sigmoid", "swapped"]  # swapped: a control
Sampler = Literal["ddim", "ddpm", "dpm++"]
LossWeighting = Literal["none", "p2", "min_snr"]
BankLabels = Literal["null", "own"]
LabelRows = Literal["auto", "free", "first"]
PRECISIONS = ("no", "bf16", "fp16")
P2_GAMMA = 0.5  # the published code's choice


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train, whatever is trained; the defaults are the published Diff-Tuning ones."""

    steps: int
    batch_size: int = setting(32, "global: over all processes and accumulation parts")
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    warmup_steps: int = setting(0, "the learning rate rises linearly over the first ones")
    cooldown_steps: int = setting(0, "and falls linearly over the last ones")
    ema_decay: float = 0.9999
    ema_warmup: bool = setting(True, "min(decay, (1+n)/(10+n)): short runs would return the first weights otherwise")
    clip_norm: float | None = None
    accumulation: int = setting(1, "parts the global batch is cut into, to save memory")
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    seed: int = 0

    def __post_init__(self):
        _make_plain(self)
        for name in ("steps", "batch_size", "accumulation", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("weight_decay", "warmup_steps", "cooldown_steps"):
            _require_finite(name, getattr(self, name))
        _require_share("ema_decay", self.ema_decay)
        _require_choice("mixed_precision", self.mixed_precision, PRECISIONS)

    @property
    def may_differ(self) -> tuple[str, ...]:
        """Fields that a resumed run may have otherwise; a cool-down is planned towards its last step.

        `accumulation` is what one raises when memory ran out.  It gives the same gradients up to rounding: the bits are those
        of an undisturbed run only where it stays.
        """
        return ("checkpoint_every", "keep_checkpoints", "accumulation", *(["steps"] if self.cooldown_steps == 0 else []))

    def learning_rate_at(self, step: int) -> float:
        rise = (step + 1) / (self.warmup_steps + 1)
        fall = (self.steps - step) / (self.cooldown_steps + 1)
        return self.learning_rate * min(1.0, rise, fall)


@dataclass(frozen=True, kw_only=True)
class DiffTuningConfig(TrainingConfig):
    """The method's settings; the defaults are the published code's (paper: Algorithm 1).

    `reconsolidation_power` and `retention_power` are the parameter of `family`: the power
    (official), tau (paper) or the threshold (threshold, sigmoid).
    """

    bank_share: float = setting(0.2, "of the global batch, rounded down: 6 of 32; 0: the bank is there for a regularizer alone")
    bank_weight: float = setting(0.1, "of the retention loss; the paper's formula has 1")
    reconsolidation_power: float = 1.0
    retention_power: float = 1.0
    family: Family = "official"
    weighted: bool = setting(False, "uniform t and loss weights in place of sampling t")
    loss_weighting: LossWeighting = "none"
    label_drop: float = 0.1
    bank_labels: BankLabels = "null"
    label_rows: LabelRows = "auto"

    def __post_init__(self):
        super().__post_init__()
        for name in ("bank_share", "label_drop"):
            _require_share(name, getattr(self, name))
        for name in ("bank_weight", "reconsolidation_power", "retention_power"):
            _require_finite(name, getattr(self, name))
        for name, choices in _CHOICES.items():
            _require_choice(name, getattr(self, name), choices)


_CHOICES = {
    "family": get_args(Family),
    "loss_weighting": get_args(LossWeighting),
    "bank_labels": get_args(BankLabels),
    "label_rows": get_args(LabelRows),
}


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig(TrainingConfig):
    """The tiny DiT and how it was trained; uniform timesteps, labels dropped once per sample."""

    steps: int = 12_000
    batch_size: int = 64
    learning_rate: float = 7e-4
    warmup_steps: int = 300
    ema_decay: float = 0.9995
    width: int = 160
    num_heads: int = 5
    num_layers: int = 6
    num_labels: int = setting(1000, "rows beside the null row, more than the source needs: the rest is for tasks")
    label_drop: float = 0.1
    snr_scale: float | None = setting(None, "times the linear schedule's SNR; none: (32 / side of the latents)^2, as it was made for 32")
    p2_gamma: float = setting(0.0, "loss weight 1 / (1 + SNR)^gamma (Choi et al., CVPR 2022); 0: all timesteps alike")
    class_balance: float = setting(0.75, "classes are drawn in proportion to their size to this power")

    def __post_init__(self):
        super().__post_init__()
        _require_positive(self, "width", "num_heads", "num_layers", "num_labels")
        if self.width % self.num_heads or self.width % 4:
            raise ValueError(f"width must be a multiple of 4 and of num_heads {self.num_heads}, got {self.width}")
        _require_balance(self.class_balance)
        if self.snr_scale is not None and not 0 < self.snr_scale < float("inf"):
            raise ValueError(f"snr_scale must be positive, got {self.snr_scale}")
        if not 0 <= self.p2_gamma <= 2:
            raise ValueError(f"p2_gamma must be between 0 and 2, got {self.p2_gamma}")
        _require_share("label_drop", self.label_drop)


@dataclass(frozen=True, kw_only=True)
class TextToImageConfig(TrainingConfig):
    """The tiny Stable Diffusion and how it was trained; uniform timesteps."""

    steps: int = 20_000
    batch_size: int = 64
    learning_rate: float = 5e-4
    warmup_steps: int = 300
    ema_decay: float = 0.9995
    width: int = setting(64, "channels of the UNet's first level; the second has twice as many")
    num_heads: int = 4
    text_width: int = 64
    text_layers: int = 2
    max_tokens: int = setting(16, "tokens of a prompt, start and end included")
    label_drop: float = setting(0.15, "share of captions replaced by the empty one")
    class_balance: float = setting(0.75, "classes are drawn in proportion to their size to this power")

    def __post_init__(self):
        super().__post_init__()
        _require_positive(self, "width", "num_heads", "text_width", "text_layers")
        if self.max_tokens < 3:
            raise ValueError(f"max_tokens must be at least 3: start, end and a word; got {self.max_tokens}")
        _require_share("label_drop", self.label_drop)
        _require_balance(self.class_balance)


@dataclass(frozen=True, kw_only=True)
class BankConfig:
    """What to sample a memory bank by, whatever the model."""

    size: int
    seed: int = 0
    sampler: Sampler = "ddim"
    steps: int = 50
    guidance: float = 1.5
    shard_size: int = setting(250, "samples in a file")
    reencode: bool = setting(False, "go through 8-bit pictures, as the published code does")
    mixed_precision: Literal["no", "bf16", "fp16"] = setting("no", "the model's operations in half precision where that is enough")

    def __post_init__(self):
        _make_plain(self)
        if self.size < 1 or self.shard_size < 1:
            raise ValueError(f"size and shard_size must be at least 1, got {self.size} and {self.shard_size}")
        _require_choice("mixed_precision", self.mixed_precision, PRECISIONS)


GUIDANCES = {f"{strength:g}": (strength, False) for strength in (1.0, 1.1, 1.25, 1.5, 2.0)}  # strength, and is the source model the guide?
GUIDANCES["domain 1.5"] = (1.5, True)


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
    replaced: tuple[float, ...] = ()  # fractions of the last reverse steps left to the source model, after the last step

    @property
    def file_name(self) -> str:
        few = "" if self.training_pictures == "all" else f"-{self.training_pictures}pictures"
        name = f"{self.task}{few}-{self.method}-lr{self.learning_rate:g}-seed{self.seed}"
        return name.replace(" ", "_").replace(",", "")

    @property
    def identity(self) -> dict[str, Any]:
        """The columns that every row of this run begins with."""
        own = {key: value for key, value in asdict(self).items() if key not in ("steps", "scored", "guidances", "replaced")}
        return own | {"world": world_version()}


def _make_plain(config: Any) -> None:
    """Numbers of any library become Python's own, so that they can be written down."""
    for each in fields(config):
        object.__setattr__(config, each.name, plain(each.name, each.type, getattr(config, each.name)))


def _require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _require_finite(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")


def _require_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")


def _require_balance(value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"class_balance must be between 0 (classes alike) and 1 (pictures alike), got {value}")


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")
