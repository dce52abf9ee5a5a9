"""Our table: every set by every measure, with intervals, and the copies beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

from ...studies.gains import Estimate, Gain
from .counting import paper_cells
from .runs import NEW, OLD, Lost, gain, lost_of, on_course

if TYPE_CHECKING:
    import pandas


def our_table(
    gains: pandas.DataFrame,
    best: Mapping[tuple[str, int], Estimate],
    copied: Mapping[tuple[str, int, int], tuple[float, float]],
    lost: Sequence[Lost] = (),
) -> pandas.DataFrame:
    """A row for each set, after the last number of steps at which it was scored: by how many per cent Diff-Tuning's number is lower.

    `best`: of `counting.own_best`, `copied`: of `counting.copies`.  A set with a `lost` run has a dagger, and the gains
    of its other runs; its best setting, which that run had a part in, is left out.
    """
    import pandas

    rows = {}
    for cell in paper_cells(gains):
        plain, ours = copied[cell.task, cell.pictures, cell.steps]
        unsteady = bool(lost_of(gains, cell, lost))
        kept = on_course(gains, lost) if unsteady else gains
        rows[f"{cell.set_name} pictures{' †' * unsteady}"] = {
            "steps": f"{cell.steps:,}",
            "distance, guidance 1.5": Gain(*gain(kept, cell)).percent,
            "distance, own best": "–" if unsteady else Gain(*best[cell.task, cell.pictures]).percent,
            "loss on new pictures": Gain(*gain(kept, cell._replace(measure=NEW))).percent,
            "loss on old pictures": Gain(*gain(kept, cell._replace(measure=OLD))).percent,
            "copies: plain, Diff-Tuning": f"{100 * plain:.0f} %, {100 * ours:.0f} %",
        }
    return pandas.DataFrame(rows).T
