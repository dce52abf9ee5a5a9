"""Regularizers by name: further terms of the loss that keep a fine-tuned model near the pre-trained one.

A regularizer is a function of the run's `RunContext` (penalties.py) that returns penalties, each a named column of the history.  A new one is
a dataclass of its options here, its equation in diffusion/regularizers.py, its penalties in penalties.py, and a line in
`REGULARIZERS`.  One whose `reads_bank` is False has no use for a bank that the run does not replay; the others, and functions without the word,
may read one.  Free of torch, so that the command line can read the options.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Callable, Literal

from ..config import DiffTuningConfig
from ..support.settings import COUNT, POSITIVE, Setting, check_settings, setting, settings_of

if TYPE_CHECKING:
    from .memory_bank import MemoryBank
    from .objective import Penalty
    from .penalties import RunContext


Regularizer = Callable[["RunContext"], "list[Penalty]"]


@dataclass(frozen=True, kw_only=True)
class L2SP:
    """The distance of the trained weights from where they began, new ones (label rows, an adapter's) included."""

    reads_bank = False  # by itself: a bank that is not replayed is no use to it
    weight: float = setting(1e-3, within=POSITIVE)  # of 1e-4 to 1e-1 the best on 200 digits (the paper: 1e-3 to 1)

    def __post_init__(self):
        check_settings(self)

    def __call__(self, context: RunContext) -> list[Penalty]:
        from .penalties import distance_penalty

        return [distance_penalty(context, self.weight)]


@dataclass(frozen=True, kw_only=True)
class EWC:
    """The same distance, each weight by how much the pre-trained model's own pictures need it.

    The Fisher information is estimated on `samples` of the bank's latents under their own labels (each tenth without one), at
    uniform t.  A run without a bank draws as many from the pre-trained model first.
    """

    weight: float = setting(1e4, within=POSITIVE)  # of 1e3, 1e4, 1e5 the best on 200 digits (study regularizer_weights)
    samples: int = setting(200, "pictures that EWC's Fisher information is estimated on", COUNT)
    sampling_steps: int = setting(25, "by which EWC draws them where there is no bank", COUNT)

    def __post_init__(self):
        check_settings(self)

    def __call__(self, context: RunContext) -> list[Penalty]:
        from .penalties import fisher_penalty

        return [fisher_penalty(context, self.weight, samples=self.samples, sampling_steps=self.sampling_steps)]


On = Literal["auto", "bank", "target"]


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The predicted noise stays what the frozen model predicts.

    On the bank's pictures of each batch, as they are: there the frozen model knows what it is asked.  The trained model's
    answer is at hand, so only the frozen one's costs a pass.  (bank_weight=0 leaves the bank to distillation alone.)
    Without a bank, on target pictures under the null label, as the frozen model has no row for a new class: a pass of both.
    """

    reads_bank = False  # but the pictures that the run replays
    weight: float = setting(1.0, within=POSITIVE)
    on: On = setting("auto", "pictures of distillation; auto: the bank's where the run replays one, else the target's")

    def __post_init__(self):
        check_settings(self)

    def __call__(self, context: RunContext) -> list[Penalty]:
        from .penalties import distillation_penalty

        return [distillation_penalty(context, self.weight, on=self.on)]


@dataclass(frozen=True, kw_only=True)
class PriorPreservation:
    """DreamBooth's prior preservation (Ruiz et al., CVPR 2023, eq. 2): the bank at uniform t under its own labels, weight 1.

    No further term but other settings of the bank's stream, which it replaces; the target's stay as they are given
    (reconsolidation_power=0 is DreamBooth's loss, 1 combines it with reconsolidation).
    """

    weight: float = setting(1.0, within=POSITIVE)

    def __post_init__(self):
        check_settings(self)

    def adjusted(self, config: DiffTuningConfig, bank: MemoryBank | None) -> DiffTuningConfig:
        """The run's settings with this in them."""
        if bank is None or config.bank_share == 0:
            raise ValueError("prior_preservation replays pictures of the pre-trained model: pass a bank, with bank_share above 0")
        if config.family != "official":
            raise ValueError(f"prior_preservation draws t uniformly, which family {config.family!r} cannot: take family='official'")
        own = {"bank_weight": self.weight, "bank_labels": "own", "retention_power": 0.0}
        for each in fields(config):
            if each.name in own and getattr(config, each.name) not in (each.default, own[each.name]):
                instead = " (its own weight is what counts)" if each.name == "bank_weight" else ""
                raise ValueError(
                    f"prior_preservation takes {each.name} {own[each.name]}, not {getattr(config, each.name)}: leave that out{instead}"
                )
        return replace(config, **own)

    def __call__(self, context: RunContext) -> list[Penalty]:
        return []


REGULARIZERS: dict[str, Any] = {
    "l2_sp": L2SP(),
    "ewc": EWC(),
    "distillation": Distillation(),
    "prior_preservation": PriorPreservation(),
}


def settings() -> dict[str, Setting]:
    """All options of all regularizers, as text."""
    found = {name: each for regularizer in REGULARIZERS.values() for name, each in settings_of(type(regularizer)).items()}
    return found | {"weight": Setting("float", "its own", "of the regularizer's term in the loss")}
