"""In how many cells Diff-Tuning wins, under each protocol; and copies of training pictures.

The paper's protocol: guidance 1.5, the last step, the same for all.  Best against best: each method at the guidance and the number of steps
that suit it best on validation pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Mapping

import numpy as np

from ...studies.gains import Estimate, at_mark, best_setting, by_seed, estimate, read_table
from ..parts import BETTER, SAME, SPLIT, UNCLEAR, WORSE
from .runs import GUIDED, MEASURES, OURS, PLAIN, STUDIES, TASKS, Cell, called, cells, gain

if TYPE_CHECKING:
    import pandas

WAYS = (
    "samples, the paper's protocol", "samples, each at its own best",
    "samples at guidance 1.5, any steps", "samples at guidance 1, any steps", "loss on new pictures, any steps", "loss on old pictures, any steps",
)  # fmt: skip

FEW_COPIES = 0.01  # of the samples: fewer are "hardly any"


def own_best(*studies: str, folder: Path | None = None) -> dict[tuple[str, int], Estimate]:
    """Set -> gain in Frechet distance with each method at the guidance and the number of steps that suit it best on validation pictures."""
    import pandas

    table = pandas.concat([read_table(study, folder) for study in studies or STUDIES], ignore_index=True)
    table = table[table.method.isin((PLAIN, OURS))]
    found = {}
    for key, mine in table.groupby(["task", "training_pictures"]):
        if set(mine.method) == {PLAIN, OURS}:
            plain, ours = (np.log(at_mark(by_seed(mine, name), *best_setting(mine, name))) for name in (PLAIN, OURS))
            found[key] = estimate((plain - ours).dropna().to_numpy())
    return dict(sorted(found.items(), key=lambda item: (TASKS.index(item[0][0]), item[0][1])))


def copies(*studies: str, folder: Path | None = None) -> dict[tuple[str, int, int], tuple[float, float]]:
    """Set and steps -> the share of samples at guidance 1.5 that repeat a training picture: plain fine-tuning's and Diff-Tuning's."""
    shares: dict[tuple[str, int, int], tuple[float, float]] = {}
    for study in studies or STUDIES:
        table = read_table(study, folder)
        table = table[(table.split == SPLIT) & (table.guidance == "1.5")]
        means = table.pivot_table(index=["task", "training_pictures", "step"], columns="method", values="copied")[[PLAIN, OURS]].dropna()
        shares = {tuple(key): tuple(pair) for key, pair in zip(means.index, means.to_numpy().tolist())} | shares
    return shares


def sets_with_copies(copied: Mapping[tuple[str, int, int], tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The pairs of `copies` by the set's name, of the sets where more than hardly any samples are copies; after the most steps."""
    return {
        f"{task}, {pictures:,} pictures": pair
        for (task, pictures, _), pair in sorted(copied.items(), key=lambda item: (TASKS.index(item[0][0]), *item[0][1:]))
        if max(pair) >= FEW_COPIES
    }


def counts(gains: pandas.DataFrame, best: dict[tuple[str, int], Estimate]) -> pandas.DataFrame:
    """In how many cells Diff-Tuning is better, not clearly different and worse: a row for each way of judging."""
    import pandas

    columns = {BETTER: BETTER, SAME: UNCLEAR, WORSE: WORSE}
    rows = {WAYS[0]: [called(gain(gains, cell), GUIDED) for cell in paper_cells(gains)]}
    rows[WAYS[1]] = [called(found, GUIDED) for found in best.values()]
    for way, measure in zip(WAYS[2:], MEASURES):
        rows[way] = [called(gain(gains, cell), measure) for cell in cells(gains, measure)]
    table = {way: {told: words.count(word) for word, told in columns.items()} | {"cells": len(words)} for way, words in rows.items()}
    return pandas.DataFrame(table).T


def paper_cells(gains: pandas.DataFrame, measure: str = GUIDED) -> list[Cell]:
    """A set's last number of steps at which it was measured, by default its samples at guidance 1.5."""
    return list({(cell.task, cell.pictures): cell for cell in cells(gains, measure)}.values())
