"""Which runs the ControlNet study has: conditions x methods x seeds, and before it the settings that are tried on one condition."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from ..data.conditions import KINDS, Kind
from ..support.world import world_version
from .tables import Row


@dataclass(frozen=True)
class ControlMethod:
    """Settings of DiffTuningConfig beside the defaults, whether the bank is replayed, and under which conditions."""

    options: dict[str, Any] = field(default_factory=dict)
    replays: bool = True
    bank_control: Literal["own", "blank"] = "own"


CONTROL_METHODS: dict[str, ControlMethod] = {
    "plain": ControlMethod({"reconsolidation_power": 0.0}, replays=False),
    "Diff-Tuning": ControlMethod({"bank_labels": "own"}),
    "reconsolidation only": ControlMethod(replays=False),
    "Diff-Tuning, null prompts": ControlMethod({"bank_labels": "null"}),
    "Diff-Tuning, black conditions": ControlMethod({"bank_labels": "own"}, bank_control="blank"),
}
MAIN = ("plain", "Diff-Tuning")


@dataclass(frozen=True)
class ControlCell:
    """One run of the study, four minutes of one core in the tiny world; everything in it ends up in its rows."""

    kind: Kind
    method: str
    seed: int
    learning_rate: float = 3e-4  # this and the next two were chosen by `control_rates`, on the validation split
    batch_size: int = 16
    training_pictures: int = 2000  # the first of the training split
    task: str = "footwear"
    called: str = "shoe"  # by the prompts, whichever the class: the base knows this word, and neither sandals nor sneakers
    split: Literal["validation", "test"] = "test"  # where it is measured
    steps: int = 800
    check_every: int = 20
    checked: int = 32  # pictures at each check, unguided
    check_sampling_steps: int = 8
    samples: int = 200  # at the end, guided
    sampling_steps: int = 10
    guidance: float = 1.5
    loss_pictures: int = 60  # of each held-out set

    @property
    def file_name(self) -> str:
        """What the run's files are called; no ending."""
        settings = f"{self.training_pictures}pictures-lr{self.learning_rate:g}-batch{self.batch_size}-{self.split}"
        return f"{self.task}-{self.kind}-{self.method}-{settings}-seed{self.seed}".replace(" ", "_").replace(",", "")

    @property
    def identity(self) -> Row:
        """The columns that every row of this run begins with."""
        return asdict(self) | {"world": world_version()}


IDENTITY = [each.name for each in fields(ControlCell)] + ["world"]


def control_cells() -> list[ControlCell]:
    """The study, seed by seed, so that an unfinished one compares something; the bank's options on edge alone, parts with three seeds."""
    cells = []
    for seed in range(5):
        methods = [*MAIN, *(["reconsolidation only"] if seed < 3 else [])]
        cells += [ControlCell(kind, method, seed) for kind in KINDS for method in methods]
        cells += [ControlCell("edge", method, seed) for method in list(CONTROL_METHODS)[3:] if seed < 3]
    return cells


def control_rates() -> list[ControlCell]:
    """Learning rate, batch and target size, one at a time on edge: what comes before the study, on the validation split."""
    cells = []
    for method in MAIN:
        usual = ControlCell("edge", method, 0, split="validation")
        changes = [{}, {"learning_rate": 1e-4}, {"learning_rate": 1e-3}, {"batch_size": 8}, {"training_pictures": 500}]
        cells += [replace(usual, **change) for change in changes]
    return cells
