"""Are Diff-Tuning's samples nearer to the target, or do they reach more of it?  Precision and recall, from the pilot's last scored step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...studies.gains import read_table
from ..numerals import all_of, numeral, out_of
from ..parts import SPLIT
from .runs import OURS, PLAIN

if TYPE_CHECKING:
    import pandas

SCORES = ("precision", "recall")
WAYS = ("1.5", "1")  # guidance; without it
LEAST = 0.01  # a smaller difference counts as none


def variety(guidance: str = "1.5", folder: Path | None = None) -> pandas.DataFrame:
    """Precision and recall of plain fine-tuning and of Diff-Tuning on each set, means over the seeds that both have; columns (score, method)."""
    table = read_table("pilot", folder)
    table = table[
        (table.split == SPLIT) & (table.guidance == guidance) & (table.step == table.step.max()) & table.method.isin((PLAIN, OURS))
    ]
    by_seed = table.pivot_table(index=["set", "seed"], columns="method", values=list(SCORES), sort=False).dropna()
    columns = [(score, method) for score in SCORES for method in (PLAIN, OURS)]
    return by_seed.groupby("set", sort=False).mean()[columns].rename_axis(index=None, columns=[None, None])


def variety_in_words(folder: Path | None = None) -> str:
    """Markdown, one sentence: on how many sets Diff-Tuning's precision is higher, and on how many its recall is lower, with guidance and without."""
    counts = []
    for guidance in WAYS:
        found = variety(guidance, folder)
        counts.append([(sign * (found[score][OURS] - found[score][PLAIN]) > LEAST).sum() for score, sign in zip(SCORES, (1, -1))])
    (more, less), (more_without, less_without) = counts
    return (
        f"**At guidance {WAYS[0]} Diff-Tuning's samples are more precise than plain fine-tuning's on {out_of(more, len(found), 'sets')}, and less varied on {all_of(less, len(found))}; "
        f"without guidance they are more precise on {numeral(more_without)}, and less varied on {numeral(less_without)}.**"
    )
