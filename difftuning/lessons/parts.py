"""What a choice does to tuning: losses along the chain and scores of samples, method by method (lessons 04 and 05).

The runs are those of the study "parts": every method with the same steps, pictures and starting noise.  Sets and both ways of
guidance count alike: a verdict is that of the mean over them, seed by seed, or says that they contradict each other.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Iterable, Mapping, NamedTuple, Sequence

import numpy as np

from ..studies.gains import Estimate, Gain, estimate, read_table
from .seeds import runs, seeds_note, trust

if TYPE_CHECKING:
    import pandas

RUNS = {"footwear": 2000, "digits": 200}  # training pictures of each task
STEPS, SPLIT, GUIDANCES = 800, "test", ("1", "1.5")
SIDES = ("target", "source")  # new and old pictures, both held out
TENTHS = range(1, 11)
ALIKE, KEPT = 0.05, 0.1  # less is no difference: of a distance, and of a rise in the loss on old pictures
UNCLEAR, NOT_CLEAR = "no clear difference", "not clearly different"  # what SAME means beside an interval: too small, or within it
BETTER, WORSE, SAME, MIXED, NOT_MEASURED = "better", "worse", "about the same", "mixed", "–"


class Parts(NamedTuple):
    """Scores of samples (a row for each task, method, seed and guidance), losses along the chain (for each tenth and kind of pictures, too),
    and the Frechet distance of real pictures by task."""

    scores: pandas.DataFrame
    losses: pandas.DataFrame
    floors: Mapping[str, float] = {}

    @property
    def tasks(self) -> list[str]:
        """Those of `RUNS` that the tables hold."""
        return [task for task in RUNS if (self.losses.task == task).any()]

    def present(self, methods: Iterable[str]) -> list[str]:
        """Those methods that the tables hold, in this order."""
        held = set(self.losses.method)
        return [method for method in methods if method in held]


def read_parts(study: str = "parts", folder: Path | None = None) -> Parts:
    """The tables of the study, or of another that has such runs, after `STEPS` steps; scores on the test split.

    A seed that some method of its set lacks is left out, so that all means are over the same seeds.
    """
    scores, losses = (_whole_seeds(of_runs(read_table(name, folder))) for name in (study, f"{study}_losses"))
    floors = read_table("floors", folder)
    floors = floors[(floors.pictures == "training pictures") & (floors.training_pictures >= scores.samples.max())]  # as many as samples
    scores = scores[is_test(scores) & (scores.step == STEPS)]
    return Parts(scores, losses[losses.data.isin(SIDES) & (losses.step == STEPS)], floors.groupby("task").fid.first().to_dict())


def of_runs(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of `RUNS`."""
    return table[table.task.map(RUNS).astype("Int64").astype(str) == table.training_pictures.astype(str)]


def _whole_seeds(table: pandas.DataFrame) -> pandas.DataFrame:
    having = table.groupby(["task", "seed"]).method.transform("nunique")
    return table[having == table.groupby("task").method.transform("nunique")]


def is_test(scores: pandas.DataFrame) -> pandas.Series:
    """Which scores count: on the test split, under one of `GUIDANCES`."""
    return scores.guidance.isin(GUIDANCES) & (scores.split == SPLIT)


def ratios(parts: Parts, task: str, data: str, method: str, tenths: Sequence[int] = TENTHS) -> Estimate:
    """The logarithm of loss after / loss before, its mean over these tenths: an estimate over seeds."""
    return estimate(_log_ratios(parts, task, data, method, tenths).to_numpy())


def ratio(parts: Parts, task: str, data: str, method: str, tenths: Sequence[int] = TENTHS) -> float:
    """Loss after / loss before: the geometric mean over tenths and seeds."""
    return float(np.exp(ratios(parts, task, data, method, tenths).mean))


def score(parts: Parts, task: str, method: str, guidance: str) -> Estimate:
    """Frechet distance of a method's samples; lower is better."""
    return estimate(_distances(parts, task, method, guidance).to_numpy())


def log_score(parts: Parts, task: str, method: str, guidance: str) -> Estimate:
    """The logarithm of the Frechet distance: an estimate over seeds."""
    return estimate(np.log(_distances(parts, task, method, guidance)).to_numpy())


def distance_saved(parts: Parts, task: str, method: str, other: str, guidance: str) -> Estimate:
    """log(other's distance / the method's), seed by seed: above 0 the method's samples are better."""
    return estimate(_saved(parts, task, method, other, guidance).to_numpy())


def mean_saved(parts: Parts, method: str, other: str, tasks: Iterable[str] = (), guidances: Iterable[str] = GUIDANCES) -> Estimate:
    """`distance_saved`, its mean over sets (or these of them) and ways of guidance: an estimate over the seeds that have all of them."""
    cells = itertools.product(tasks or parts.tasks, guidances)
    return estimate(mean_by_seed([_saved(parts, task, method, other, guidance) for task, guidance in cells]).to_numpy())


def loss_saved(parts: Parts, task: str, method: str, other: str) -> Estimate:
    """log(other's loss on old pictures / the method's), its mean over the chain, seed by seed: above 0 the method keeps more."""
    return estimate(_loss_saved(parts, task, method, other).to_numpy())


def rise_avoided(parts: Parts, task: str, method: str, other: str, tenths: Sequence[int] = TENTHS, least: float = -np.inf) -> Estimate:
    """The share of another method's rise in the loss on old pictures that this one avoids, seed by seed; the rise is its mean over these tenths.

    `least`: a smaller rise counts as this one, for a share of next to nothing says nothing.
    """
    return estimate(_avoided(parts, task, method, other, tenths, least).to_numpy())


def mean_avoided(parts: Parts, method: str, other: str, least: float = -np.inf, instead: str | None = None) -> Estimate:
    """`rise_avoided`, its mean over sets: an estimate over the seeds that have all of them.

    `instead`: how much more that is than what this third method avoids, seed by seed.
    """
    shares = [_avoided(parts, task, method, other, TENTHS, least) for task in parts.tasks]
    if instead:
        shares = [(own - _avoided(parts, task, instead, other, TENTHS, least)).dropna() for own, task in zip(shares, parts.tasks)]
    return estimate(mean_by_seed(shares).to_numpy())


def new_samples(parts: Parts, method: str, other: str = "plain") -> str:
    """Are a method's samples better than another's, on average over sets and ways of guidance?  See `mean_in_a_word`."""
    cells = itertools.product(parts.tasks, GUIDANCES)
    return mean_in_a_word([_saved(parts, task, method, other, guidance) for task, guidance in cells], ALIKE)


def old_pictures(parts: Parts, method: str, other: str = "plain", least: float = -np.inf) -> str:
    """Are old pictures kept better than under another method, on average over sets?  See `mean_in_a_word`, and `rise_avoided` for `least`."""
    return mean_in_a_word([_avoided(parts, task, method, other, TENTHS, least) for task in parts.tasks], KEPT)


def old_losses(parts: Parts, method: str, other: str = "plain") -> str:
    """Is the loss on old pictures itself lower than under another method, on average over sets?  See `mean_in_a_word`, and `loss_saved`."""
    return mean_in_a_word([_loss_saved(parts, task, method, other) for task in parts.tasks], ALIKE)


def mean_in_a_word(cells: Sequence[pandas.Series], margin: float) -> str:
    """The words "better", "worse" or "about the same" of the mean over cells, seed by seed; "mixed" where that is the same, yet some cells are
    better and some worse; a dash where nothing was measured.
    """
    mean = estimate(mean_by_seed(cells).to_numpy())
    if not mean.seeds:
        return NOT_MEASURED
    word, each = _one_word(mean, margin), {_one_word(estimate(cell.to_numpy()), margin) for cell in cells if len(cell)}
    return MIXED if word == SAME and {BETTER, WORSE} <= each else word


def mean_by_seed(cells: Sequence[pandas.Series]) -> pandas.Series:
    """By seed, the mean over the cells that were measured, of the seeds that have all of these."""
    import pandas

    return pandas.concat([cell for cell in cells if len(cell)] or list(cells), axis=1, join="inner").mean(axis=1)


def in_a_word(gains: Iterable[Estimate], margin: float) -> str:
    """The words "better", "worse" or "about the same" where all gains agree; "partly better", "partly worse" or "mixed" where they do not.

    A gain that was not measured says nothing.
    """
    words = {_one_word(gain, margin) for gain in gains if gain.seeds}
    if len(words) < 2:
        return words.pop() if words else SAME
    return MIXED if {BETTER, WORSE} <= words else "partly better" if BETTER in words else "partly worse"


def in_a_table(word: str) -> str:
    """A word where a number is not beside it: runs that differ from seed to seed show no more than that no difference is clear."""
    return UNCLEAR if word == SAME else word


def change_in_words(gain: Estimate, margin: float = ALIKE) -> str:
    """Of log(other's number / a method's): "23 % lower", "4 % higher", or that the two are about the same."""
    if in_a_word([gain], margin) == SAME:
        return SAME
    change = 100 * Gain(*gain).lower
    return f"{change:.0f} % lower" if change > 0 else f"{-change:.0f} % higher"


def seeds(parts: Parts) -> tuple[int, int]:
    """The least and the most seeds of any method on any set."""
    counts = parts.scores.groupby(["task", "method"]).seed.nunique()
    return int(counts.min()), int(counts.max())


def runs_in_words(parts: Parts) -> str:
    """What was run, and how far it is to be trusted: said once, early in a lesson."""
    sets = ", ".join(f"{RUNS[task]:,} pictures of {task}" for task in parts.tasks)
    counts = seeds(parts)
    chance = trust(counts)
    return f"Each method has {runs(counts)} of {STEPS} steps on each set: {sets}. {chance[0].upper()}{chance[1:]}."


def seeds_in_words(parts: Parts) -> str:
    """A figure's footnote: "one run each", "3 seeds, 95 % intervals", ..."""
    return seeds_note(seeds(parts))


def _one_word(gain: Estimate, margin: float) -> str:
    """Beyond the margin, and with three seeds or more beyond the interval, too."""
    bound = gain.half_width if gain.has_interval else 0
    if not abs(gain.mean) > max(margin, bound):
        return SAME
    return BETTER if gain.mean > 0 else WORSE


def _saved(parts: Parts, task: str, method: str, other: str, guidance: str) -> pandas.Series:
    ours, theirs = (np.log(_distances(parts, task, name, guidance)) for name in (method, other))
    return (theirs - ours).dropna()


def _loss_saved(parts: Parts, task: str, method: str, other: str) -> pandas.Series:
    ours, theirs = (_log_ratios(parts, task, "source", name) for name in (method, other))
    return (theirs - ours).dropna()


def _avoided(parts: Parts, task: str, method: str, other: str, tenths: Sequence[int], least: float) -> pandas.Series:
    ours, theirs = ((np.exp(_log_ratios(parts, task, "source", name, tenths)) - 1).clip(least) for name in (method, other))
    return (1 - ours / theirs).dropna()


def _log_ratios(parts: Parts, task: str, data: str, method: str, tenths: Sequence[int] = TENTHS) -> pandas.Series:
    rows = parts.losses[(parts.losses.task == task) & (parts.losses.data == data) & (parts.losses.method == method)]
    rows = rows[rows.tenth.isin(list(tenths))]
    return np.log(rows.after / rows.before).groupby(rows.seed).mean()


def _distances(parts: Parts, task: str, method: str, guidance: str) -> pandas.Series:
    rows = parts.scores[(parts.scores.task == task) & (parts.scores.method == method) & (parts.scores.guidance == guidance)]
    return rows.set_index("seed").fid
