"""Which branch of guidance the difference comes from: tuned models mixed (table "branches"; studies/branches.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...studies.branches import GUIDANCE, NO_BANK, NONE, UNTOUCHED
from ...studies.gains import Estimate, estimate, read_table
from ..parts import ALIKE, SAME, change_in_words, in_a_word
from ..seeds import seeds_note
from .runs import OURS, PLAIN

if TYPE_CHECKING:
    import pandas

NULL = "the null branch makes the difference"
MOST, LITTLE = 2 / 3, 1 / 3  # of the gain of both branches
NAMES = {
    PLAIN: "plain tuning",
    NO_BANK: NO_BANK,
    OURS: OURS,
    UNTOUCHED: "the untouched model",
    NONE: "no guidance",
}


class Split(NamedTuple):
    """log(distance before / distance after) on a set as one branch, or both, come from Diff-Tuning's model in place of plain fine-tuning's.

    `null_without_bank`: the null branch from a model tuned with the rising weights and no bank; of 0 seeds where it was not run.
    """

    set_name: str
    both: Estimate
    labels: Estimate
    null: Estimate
    null_without_bank: Estimate

    @property
    def share_without_bank(self) -> float:
        """Of what Diff-Tuning's null branch brings, what that of the model without a bank brings."""
        return self.null_without_bank.mean / self.null.mean


def branches_table(folder: Path | None = None) -> pandas.DataFrame:
    """Frechet distance at guidance 1.5, the mean over seeds: who answers under the labels by who answers under the null label."""
    table = read_table("branches", folder)
    table = table.assign(labels=table.labels_by.map(NAMES), guide=table.guided_by.map(NAMES))
    mean = table.pivot_table(index=["set", "labels"], columns="guide", values="fid", sort=False)
    order = [name for name in NAMES.values() if name in mean.columns]
    mean = mean[order].reindex(order, level="labels")
    return mean.rename_axis(index=[None, None], columns=f"guided, at {GUIDANCE:g}, by:")


def splits(folder: Path | None = None) -> list[Split]:
    """The gain of each set, and what each branch brings by itself."""
    return [_split(name, rows) for name, rows in read_table("branches", folder).groupby("set", sort=False)]


def _split(name: str, rows: pandas.DataFrame) -> Split:
    log = np.log(rows.pivot_table(index="seed", columns=["labels_by", "guided_by"], values="fid"))
    start = log[PLAIN, PLAIN]
    ends = ((OURS, OURS), (OURS, PLAIN), (PLAIN, OURS), (PLAIN, NO_BANK))
    return Split(name, *(estimate((start - log[end]).dropna().to_numpy() if end in log else np.array([])) for end in ends))


def branches_in_words(folder: Path | None = None) -> str:
    """Markdown: one bold sentence, which branch makes the difference on each set; below, what the exchange of both and of each alone does to the distance."""
    found = {_split(name, rows): rows for name, rows in read_table("branches", folder).groupby("set", sort=False)}
    bold = "; ".join(f"on {one.set_name} {decisive(one)}{made_by(one)}" for one in found)
    lines = "\n".join(
        f"- *{one.set_name}*: both branches {change_in_words(one.both)}; "
        f"the labels' branch alone {change_in_words(one.labels)}, the null branch alone {change_in_words(one.null)}"
        + (f", that of {NO_BANK} {change_in_words(one.null_without_bank)}. " if one.null_without_bank.seeds else ". ")
        + _best_mixture(rows)
        for one, rows in found.items()
    )
    return f"**{bold[0].upper()}{bold[1:]} ({seeds_note(one.both.seeds for one in found)}).**\n\n{lines}"


def _best_mixture(rows: pandas.DataFrame) -> str:
    """Whose labels, guided by whom, give the lowest distance, the mean over seeds; `rows` of one set."""
    mean = rows.groupby(["labels_by", "guided_by"], sort=False).fid.mean()
    labels, guide = mean.idxmin()
    guided = "without guidance" if guide == NONE else f"guided by {NAMES[guide]}"
    return f"The best of all {len(mean)} mixtures: labels by {NAMES[labels]}, {guided} ({mean.min():.2f})."


def decisive(one: Split) -> str:
    """Which branch brings at least `MOST` of what both bring, where the other brings less than `LITTLE` of it."""
    if in_a_word([one.both], ALIKE) == SAME:
        return "the two models' samples are about the same"
    labels, null = one.labels.mean / one.both.mean, one.null.mean / one.both.mean
    if null >= MOST and labels < LITTLE:
        return NULL
    if labels >= MOST and null < LITTLE:
        return "the labels' branch makes the difference"
    return "neither branch makes the difference alone"


def made_by(one: Split) -> str:
    """Where the null branch makes the difference: is it the bank that has made it so, or do the rising weights alone?"""
    if not one.null_without_bank.seeds or decisive(one) != NULL:
        return ""
    share = one.share_without_bank
    maker = (
        "the rising weights alone have" if share >= MOST else "the bank has" if share < LITTLE else "rising weights and bank together have"
    )
    return f", and {maker} made it so"
