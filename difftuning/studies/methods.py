"""What the studies compare, by the names that their tables have: each method is what `fine_tune` is told beside the task."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Callable

from ..config import DiffTuningConfig
from ..data.tasks import Task
from ..models.adapters.options import VPT, Adapter, AdaptFormer, BitFit, DiffFit, LoRA
from ..models.pretrained import Pretrained
from ..training.early_stopping import EarlyStopping
from ..training.loop import Callback
from ..training.regularizers import EWC, L2SP, Distillation, PriorPreservation, Regularizer
from .banks import (
    BankOf,
    bank_as_small,
    bank_of_far_classes,
    bank_of_noise,
    bank_of_real_pictures,
    bank_of_target_pictures,
    first_pictures,
    shipped_bank,
)


@dataclass(frozen=True)
class Method:
    """Settings of DiffTuningConfig beside the defaults, the bank for a task (None: no bank), and the rest of `fine_tune`'s seam."""

    options: dict[str, Any] = field(default_factory=dict)
    bank: BankOf | None = shipped_bank
    adapter: Adapter | None = None
    regularizer: Regularizer | None = None
    stopping: Callable[[Pretrained, Task, DiffTuningConfig], Callback] | None = None  # the task: its validation split
    rate_of: str = "Diff-Tuning"  # the method whose learning rate it takes (choices.py)


def _powers(parameter: float) -> dict[str, float]:
    """One parameter, tau or a threshold, for both weightings."""
    return {"reconsolidation_power": parameter, "retention_power": parameter}


UNIFORM = {"reconsolidation_power": 0.0}  # t of the target pictures
PLAIN = Method(UNIFORM, bank=None, rate_of="plain")

MAIN = {"plain": PLAIN, "Diff-Tuning": Method()}
# The comparison itself first, then its variant and its parts.
PILOT = MAIN | {
    "Diff-Tuning, own labels": Method({"bank_labels": "own"}),
    "reconsolidation only": Method(bank=None),
    "retention only": Method(UNIFORM),
}
PARTS = PILOT | {
    "Diff-Tuning, weight 1": Method({"bank_weight": 1.0}),
    "weighted, not sampled": Method({"weighted": True}),
    "bank of 100": Method(bank=first_pictures(100)),
    "bank of far classes": Method(bank=bank_of_far_classes),
    "bank as small, all classes": Method(bank=bank_as_small),
    "bank of noise": Method(bank=bank_of_noise),
    "bank of real pictures": Method(bank=bank_of_real_pictures),
    "bank of target pictures": Method(bank=bank_of_target_pictures),
    "weightings swapped": Method({"family": "swapped"}),  # a control that should not work
}

_ADAPTERS = {  # each once plainly and once with Diff-Tuning; the first of a kind has tried the learning rate for the others
    "BitFit": (BitFit(), "BitFit"),
    "LoRA, rank 8": (LoRA(rank=8), "LoRA, rank 8"),
    "LoRA, rank 16": (LoRA(rank=16), "LoRA, rank 8"),
    "DiffFit": (DiffFit(), "DiffFit"),
    "AdaptFormer, sequential": (AdaptFormer(), "AdaptFormer, sequential"),
    "AdaptFormer, parallel": (AdaptFormer(parallel=True), "AdaptFormer, sequential"),
    "VPT-Deep": (VPT(), "VPT-Deep"),
}
ADAPTED = {
    name + ending: replace(method, adapter=adapter, rate_of=first)
    for name, (adapter, first) in _ADAPTERS.items()
    for ending, method in {"": PLAIN, " + Diff-Tuning": Method()}.items()
}

# The bank at hand for the Fisher information alone; and in each batch, for the frozen model's answers alone.
_EWC = Method(UNIFORM | {"bank_share": 0.0}, regularizer=EWC(), rate_of="EWC")
_DISTILLED = Method(
    UNIFORM | {"retention_power": 0.0, "bank_weight": 0.0, "bank_labels": "own"}, regularizer=Distillation(), rate_of="distillation"
)
BASELINES = {
    "early stopping": replace(PLAIN, stopping=EarlyStopping),
    "L2-SP": replace(PLAIN, regularizer=L2SP(), rate_of="L2-SP"),
    "EWC": _EWC,
    "distillation": _DISTILLED,
    "prior preservation": Method(UNIFORM, regularizer=PriorPreservation(), rate_of="prior preservation"),
    "P2": replace(PLAIN, options=UNIFORM | {"loss_weighting": "p2"}, rate_of="P2"),
    "Min-SNR": replace(PLAIN, options=UNIFORM | {"loss_weighting": "min_snr"}, rate_of="Min-SNR"),
    **{f"hard threshold {place:g}": Method({"family": "threshold"} | _powers(place)) for place in (0.25, 0.5, 0.75)},
}
REGULARIZER_WEIGHTS = {
    f"{name}, weight {weight:g}": replace(method, regularizer=replace(method.regularizer, weight=weight), rate_of="plain")
    for name, method, weights in (
        ("EWC", _EWC, (1e3, 1e4, 1e5)),
        ("L2-SP", BASELINES["L2-SP"], (1e-4, 1e-3, 1e-2, 1e-1)),
        ("distillation", _DISTILLED, (0.1, 1.0, 10.0)),
    )
    for weight in weights
}

# One factor at a time; the default of each (tau 1, share 0.2, weight 0.1, a bank of 1000) is "Diff-Tuning".
SWEPT = {
    **{f"tau {tau:g}, official": Method(_powers(tau)) for tau in (0.0, 0.5, 2.0)},
    **{f"tau {tau:g}, paper": Method({"family": "paper"} | _powers(tau)) for tau in (0.5, 1.0, 2.0)},
    **{f"bank of {count}": Method(bank=first_pictures(count)) for count in (30, 100, 300)},
    **{f"bank share {share:g}": Method({"bank_share": share}) for share in (0.1, 0.4)},
    **{f"Diff-Tuning, weight {weight:g}": Method({"bank_weight": weight}) for weight in (0.03, 0.3, 1.0)},
}

METHODS: dict[str, Method] = PARTS | ADAPTED | BASELINES | REGULARIZER_WEIGHTS | SWEPT
