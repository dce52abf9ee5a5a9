"""The criterion that the tiny world has to meet: does the method's premise hold?  It never asks which method wins.

The premise: near the data the pre-trained model is as good on new pictures as tuning could make it, near pure noise tuning
has much to change.  So plain fine-tuning should hardly lower the held-out loss in the first tenths of the chain and lower it
more and more towards the last.  Until that is so, six of the eight tasks stay frozen: no study touches them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Iterable, Sequence

from ..data.tasks import list_tasks
from ..support.world import data_folder, world_version
from .tables import kept_rows

if TYPE_CHECKING:
    import pandas

AT_MOST = (0.03, 0.05, 0.08)  # the fall of the held-out loss in tenths 1 to 3 under plain fine-tuning
AT_LEAST = 0.35  # its mean fall over tenths 7 to 10
RANK_CORRELATION = 0.95  # of the fall with the tenth
DEVELOPMENT = ("footwear", "digits")  # tasks on which everything is tried and chosen
COMPARED = ("plain", "reconsolidation only", "Diff-Tuning")
PICTURES, STEPS = 2000, (800, 1600)


@dataclass(frozen=True)
class Verdict:
    """Which parts of the criterion a row of ten ratios (after / before) meets."""

    data_end: bool
    noise_end: bool
    growing: bool

    @property
    def met(self) -> bool:
        """Whether all three parts hold."""
        return self.data_end and self.noise_end and self.growing

    def __str__(self) -> str:
        parts = {"data end": self.data_end, "noise end": self.noise_end, "growing": self.growing}
        return "met" if self.met else "not met: " + ", ".join(name for name, holds in parts.items() if not holds)


def judge(ratios: Sequence[float]) -> Verdict:
    """The criterion on one row of ten loss ratios after / before, from the data end to the noise end."""
    from scipy.stats import spearmanr

    falls = [1 - ratio for ratio in ratios]
    return Verdict(
        data_end=all(fall <= most for fall, most in zip(falls, AT_MOST)),
        noise_end=sum(falls[6:]) / 4 >= AT_LEAST,
        growing=float(spearmanr(range(10), falls).statistic) >= RANK_CORRELATION,
    )


def criterion_ratios(losses: pandas.DataFrame) -> pandas.DataFrame:
    """Held-out loss after / before of the criterion's runs in a table of losses: a row for each run and step, a column for each tenth."""
    wanted = (losses.seed == 0) & (losses.training_pictures == PICTURES) & losses.step.isin(STEPS) & losses.method.isin(COMPARED)
    rows = losses[wanted & losses.data.isin(["validation", "source"])]
    rows = rows.assign(ratio=rows.after / rows.before)
    return rows.pivot_table(index=["data", "task", "step", "method"], columns="tenth", values="ratio", sort=False)


def measured_ratios(losses: Path) -> pandas.DataFrame:
    """`criterion_ratios` of this world's rows of a file; FileNotFoundError where it has none."""
    import pandas

    kept = kept_rows(losses)
    if not kept:
        raise FileNotFoundError(f"{losses} has no rows of world {world_version()}: measure them first")
    table = pandas.DataFrame(kept).astype(dict.fromkeys(("before", "after"), float) | dict.fromkeys(("tenth", "step", "seed"), int))
    return criterion_ratios(table[table.training_pictures != "all"].astype({"training_pictures": int}))


def unmet(ratios: pandas.DataFrame) -> list[str]:
    """What stands against the criterion, run by run of plain fine-tuning on the validation pictures; [] where it is met."""
    found = []
    for task, step in itertools.product(DEVELOPMENT, STEPS):
        run = ("validation", task, step, "plain")
        verdict = str(judge(ratios.loc[run].to_list())) if run in ratios.index else "not measured"
        found += [f"{task} after {step} steps {verdict}"] * (verdict != "met")
    return found


def require_premise(tasks: Iterable[str], losses: Path | None = None) -> None:
    """ValueError where these tasks hold frozen ones, and the pilot's losses do not meet the criterion in this world."""
    frozen = sorted(set(tasks) & set(list_tasks()) - set(DEVELOPMENT))
    if not frozen:
        return
    try:
        against = unmet(measured_ratios(losses or data_folder() / "results" / "pilot_losses.csv"))
    except FileNotFoundError as error:
        against = [str(error)]
    if against:
        raise ValueError(
            f"{', '.join(frozen)} stay frozen until the pilot meets the criterion in world {world_version()} "
            f"(python -m difftuning.studies.criterion): {against[0]}"
        )
