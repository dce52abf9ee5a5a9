"""Diff-Tuning beside plain fine-tuning, cell by cell: a set of pictures and a number of training steps.

A gain is log(plain fine-tuning's number / Diff-Tuning's), seed by seed: above 0 Diff-Tuning is better, whatever the scale of the number.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Sequence

import numpy as np

from ...studies.gains import BASELINE, Estimate, Gain, estimate, read_table
from ..numerals import listed, numeral
from ..parts import ALIKE, SPLIT, STEPS, in_a_word, mean_by_seed
from ..seeds import runs, seeds_note, trust
from ..tuning.plane import LOSS_ALIKE

if TYPE_CHECKING:
    import pandas

OURS, PLAIN = "Diff-Tuning", BASELINE
STUDIES = ("sweeps", "pilot")
GUIDED, UNGUIDED = "samples at guidance 1.5", "samples at guidance 1"
NEW, OLD = "loss on new pictures", "loss on old pictures"
OF_GUIDANCE, OF_DATA = {"1.5": GUIDED, "1": UNGUIDED}, {"target": NEW, "source": OLD}
MEASURES = {GUIDED: ALIKE, UNGUIDED: ALIKE, NEW: LOSS_ALIKE, OLD: LOSS_ALIKE}  # less is no difference
TASKS = ("footwear", "digits")
NOISE_END = (8, 9, 10)  # tenths
CELL = ["task", "pictures", "steps", "measure"]


class Cell(NamedTuple):
    """One comparison: of what task, with how many training pictures, after how many steps, by what measure."""

    task: str
    pictures: int
    steps: int
    measure: str

    @property
    def set_name(self) -> str:
        return f"{self.task}, {self.pictures:,}"


def read_gains(*studies: str, folder: Path | None = None) -> pandas.DataFrame:
    """A row for each cell and seed, with its `gain`; where several studies have a cell, the one with the most seeds counts, and of equals the first.

    A run whose samples have not been scored after as many steps as others of its set is left out.
    """
    import pandas

    rows = []
    for study in studies or STUDIES:
        scores, losses = read_table(study, folder), read_table(f"{study}_losses", folder)
        scores = scores[(scores.split == SPLIT) & scores.guidance.isin(OF_GUIDANCE)]
        found = [scores.assign(measure=scores.guidance.map(OF_GUIDANCE), value=scores.fid)]
        losses = losses[losses.data.isin(OF_DATA)]
        found.append(losses.assign(measure=losses.data.map(OF_DATA), value=losses.after))
        table = pandas.concat(found).rename(columns={"training_pictures": "pictures", "step": "steps"})
        table = table.assign(log=np.log(table.value)).pivot_table(index=[*CELL, "seed"], columns="method", values="log")  # mean over tenths
        rows.append((table[PLAIN] - table[OURS]).dropna().rename("gain").reset_index().assign(study=study))
    table = pandas.concat(rows, ignore_index=True)
    return _of_the_fullest_study(_finished(table)).reset_index(drop=True)


def _finished(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of finished runs: others would count at some steps alone."""
    table = table.assign(scored=table.steps.where(table.measure.isin([*OF_GUIDANCE.values()])))
    of_set = ["study", "task", "pictures"]
    last, reached = (table.groupby(keys).scored.transform("max") for keys in (of_set, [*of_set, "seed"]))
    return table[reached == last].drop(columns="scored")


def _of_the_fullest_study(table: pandas.DataFrame) -> pandas.DataFrame:
    """Of each cell the rows of the study with the most seeds; of equals those of the first."""
    table = table.assign(seeds=table.groupby([*CELL, "study"]).seed.transform("nunique"))
    table = table[table.seeds == table.groupby(CELL).seeds.transform("max")].drop(columns="seeds")
    return table[table.study == table.groupby(CELL).study.transform("first")]


def cells(gains: pandas.DataFrame, measure: str, *, steps: int | None = None) -> list[Cell]:
    """The cells of a measure that were run: footwear first, then by pictures and steps."""
    mine = gains[gains.measure == measure]
    if steps is not None:
        mine = mine[mine.steps == steps]
    found = {Cell(*key) for key in mine[CELL].itertuples(index=False, name=None)}
    return sorted(found, key=lambda cell: (TASKS.index(cell.task), cell.pictures, cell.steps))


def gain(gains: pandas.DataFrame, cell: Cell) -> Estimate:
    """The mean over seeds, with its interval."""
    return estimate(_of_cell(gains, cell).gain.to_numpy())


def mean_over(gains: pandas.DataFrame, of: Sequence[Cell]) -> Gain:
    """The mean over cells, seed by seed, of the seeds that have all of them."""
    return Gain(*estimate(mean_by_seed([_of_cell(gains, cell).set_index("seed").gain for cell in of]).to_numpy()))


def _of_cell(gains: pandas.DataFrame, cell: Cell) -> pandas.DataFrame:
    return gains[(gains[CELL] == list(cell)).all(axis=1)]


def by_pictures(gains: pandas.DataFrame, task: str, measure: str, steps: int = STEPS) -> dict[int, Estimate]:
    """Training pictures -> gain."""
    return {cell.pictures: gain(gains, cell) for cell in cells(gains, measure, steps=steps) if cell.task == task}


def by_steps(gains: pandas.DataFrame, task: str, pictures: int, measure: str) -> dict[int, Estimate]:
    """Training steps -> gain."""
    return {cell.steps: gain(gains, cell) for cell in cells(gains, measure) if (cell.task, cell.pictures) == (task, pictures)}


def sets(gains: pandas.DataFrame, measure: str = GUIDED) -> list[tuple[str, int]]:
    """The sets that have a cell of this measure."""
    return list(dict.fromkeys((cell.task, cell.pictures) for cell in cells(gains, measure)))


def called(found: Estimate, measure: str) -> str:
    """ "better", "worse" or "about the same": beyond the measure's margin, and with three seeds or more beyond the interval, too."""
    return in_a_word([found], MEASURES[measure])


def lower(found: Estimate) -> float:
    """By how many per cent Diff-Tuning's number is lower than plain fine-tuning's; below 0 it is higher."""
    return 100 * Gain(*found).lower


def what_was_run(gains: pandas.DataFrame) -> str:
    """What was run, and how far it is to be trusted."""
    counts = gains.groupby(CELL).seed.nunique()
    of_tasks = " and ".join(f"{listed(sorted({n for task, n in sets(gains) if task == name}))} of {name}" for name in TASKS)
    return f"Training pictures: {of_tasks}; {runs(counts)} of each method: {trust(counts)}."


class Lost(NamedTuple):
    """A run whose training became unstable."""

    method: str
    pictures: int
    task: str
    seed: int

    def __str__(self) -> str:
        return f"{self.method} on {self.pictures:,} pictures of {self.task} (seed {self.seed})"


def lost_runs(*studies: str, folder: Path | None = None) -> list[Lost]:
    """The runs that denoise new pictures at the noise end worse than the untouched model does, after some step; all others improve on it there."""
    found: dict[Lost, None] = {}
    for study in studies or STUDIES:
        losses = read_table(f"{study}_losses", folder)
        losses = losses[(losses.data == "target") & losses.tenth.isin(NOISE_END) & losses.method.isin((PLAIN, OURS))].assign(
            ratio=lambda rows: rows.after / rows.before
        )
        worst = losses.groupby(["method", "training_pictures", "task", "seed", "step"]).ratio.mean()
        found |= dict.fromkeys(Lost(*key[:4]) for key in worst[worst > 1].index)
    return list(found)


def on_course(gains: pandas.DataFrame, lost: Sequence[Lost]) -> pandas.DataFrame:
    """The gains without those of lost runs and of the runs that they would be compared with."""
    out = {(run.task, run.pictures, run.seed) for run in lost}
    return gains[[key not in out for key in zip(gains.task, gains.pictures, gains.seed)]]


def lost_of(gains: pandas.DataFrame, cell: Cell, lost: Sequence[Lost]) -> set[int]:
    """The seeds of a cell whose run was lost; of all its set's, where the cell is of no number of steps."""
    rows = gains[(gains.task == cell.task) & (gains.pictures == cell.pictures)]
    rows = rows[(rows.steps == cell.steps) & (rows.measure == cell.measure)] if cell.steps else rows
    return {run.seed for run in lost if (run.task, run.pictures) == (cell.task, cell.pictures)} & set(rows.seed)


def lost_in_words(lost: Sequence[Lost]) -> str:
    """That some runs became unstable, and still count."""
    if not lost:
        return "No run became unstable."
    many = len(lost) > 1
    return (
        f"{numeral(len(lost)).capitalize()} run{'s' * many} became unstable, and at the noise end {'their' if many else 'its'} loss rose above the untouched model's: "
        f"{listed(map(str, lost))}. {'They count' if many else 'It counts'} like all others, unless said otherwise."
    )


def seeds_footnote(gains: pandas.DataFrame) -> str:
    """A figure's footnote."""
    return seeds_note(gains.groupby(CELL).seed.nunique())
