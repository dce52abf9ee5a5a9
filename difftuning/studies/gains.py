"""Result tables read, and what they say: means over seeds, paired gains over plain fine-tuning, trends, intervals.

Runs of one seed share sampling noise, pictures to learn from and starting weights, so methods are compared
seed by seed: the gain of a seed is log(plain / ours), and its mean over seeds has a 95 % interval.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Iterable, NamedTuple

import numpy as np

from ..evaluation.chain_of_forgetting import DATA_END
from ..support.names import user_path
from ..support.world import data_folder, world_version

if TYPE_CHECKING:
    import pandas

BASELINE = "plain"
BY_SOURCE = "domain"  # Domain Guidance, by the untouched model: a method of its own
AIM = 0.2  # of the gain on each development task
STUDIES = (
    "regularizer_weights", "learning_rates", "pilot", "parts", "main", "adapters", "baselines", "sweeps", "controlnet_rates", "controlnet",
)  # fmt: skip
# table -> what builds it; tables that belong together begin alike
BUILT_BY = {name: f"difftuning study {name} --results data/results/{name}.csv" for name in STUDIES} | {
    "floors": "python -m difftuning.studies.report",
    "transferability": "python -m difftuning.studies.report",
    "snr_scale": "python -m difftuning.studies.snr_scale",
    "levers": "python -m difftuning.studies.levers",
    "planar": "python -m difftuning.lessons.ideal.planar",
    "transfer": "python -m difftuning.lessons.ideal.transfer",
    "bank_coverage": "python -m difftuning.lessons.bank.coverage",
    "own_pictures": "python -m difftuning.lessons.yours.long_runs",
    "condition_information": "python -m difftuning.lessons.controlnet.information",
}


SAYS_NOTHING = ("not measured", "one seed decides nothing", "two seeds decide nothing")  # of as many seeds
LEAST_SEEDS = 3  # for an interval to be shown: that of two is wider than anything that it could be held against


class Estimate(NamedTuple):
    """Mean over seeds and half-width of its 95 % interval (Student's t); nan for one seed.

    Runs that diverged have no number: they are counted, and no part of the mean.
    """

    mean: float
    half_width: float
    seeds: int
    diverged: int = 0

    @property
    def has_interval(self) -> bool:
        """Whether the interval is worth showing."""
        return self.seeds >= LEAST_SEEDS

    def text(self, digits: int = 2, unit: str = "") -> str:
        """ "1.23 ± 0.04", without an interval that says nothing, or "–" where nothing was measured."""
        if not self.seeds:
            return self._noted("–")
        spread = f" ± {self.half_width:.{digits}f}" if self.has_interval else ""
        return self._noted(f"{self.mean:z.{digits}f}{spread}{unit}")

    def _noted(self, text: str) -> str:
        return f"{text}, {self.diverged} diverged" if self.diverged else text

    @property
    def percent(self) -> str:
        """As percentages, with as many digits as the interval needs."""
        return Estimate(100 * self.mean, 100 * self.half_width, self.seeds, self.diverged).text(self._digits, " %")

    @property
    def _digits(self) -> int:
        """Of a percentage: "± 0" would claim too much."""
        return 0 if not self.has_interval or self.half_width >= 0.005 else 1 if self.half_width >= 0.0005 else 2


class Gain(Estimate):
    """log(plain fine-tuning's number / a method's), over seeds: above 0 the method's is lower, and half as much weighs as twice as much."""

    @property
    def lower(self) -> float:
        """By which share the method's number is lower than plain fine-tuning's; below 0 it is higher."""
        return float(1 - np.exp(-self.mean))

    @property
    def ends(self) -> tuple[float, float]:
        """The interval's two ends as such shares."""
        low, high = (float(1 - np.exp(-(self.mean + sign * self.half_width))) for sign in (-1, 1))
        return low, high

    @property
    def percent(self) -> str:
        """ "32 % (-17 to 62)": by how much lower, and between which ends of the interval."""
        if not self.seeds:
            return self._noted("–")
        shown = [f"{100 * share:z.{self._digits}f}" for share in (self.lower, *self.ends)]
        return self._noted(f"{shown[0]} %" + (f" ({shown[1]} to {shown[2]})" if self.has_interval else ""))


def estimate(values: np.ndarray) -> Estimate:
    """Mean and interval of one value for each seed, infinite where its run diverged; no values are an estimate of 0 seeds."""
    from scipy.stats import t

    values = np.asarray(values, dtype=float)
    finite = values[np.isfinite(values)]
    n = len(finite)
    half = float(t.ppf(0.975, n - 1) * np.std(finite, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return Estimate(float(np.mean(finite)) if n else float("nan"), half, n, int(np.isinf(values).sum()))


def read_table(name: str, folder: Path | None = None) -> pandas.DataFrame:
    """A committed result table by name ("pilot", "pilot_losses", ...), its rows of this world; guidance and world are names.

    `set` names a study's task and its number of training pictures: "digits, 2,000 pictures".
    `FileNotFoundError` says how to build a table that is not there.
    """
    import pandas

    path = (user_path(folder) if folder else data_folder() / "results") / f"{name}.csv"
    how = next((command for known, command in BUILT_BY.items() if name.startswith(known)), "a study")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: build it with `{how}`")
    table = pandas.read_csv(path, encoding="utf-8-sig", dtype={"guidance": str, "world": str, "code": str})
    mine = table[table.world == world_version()].reset_index(drop=True)
    if mine.empty:
        raise FileNotFoundError(f"{path} has no rows of world {world_version()}: build it with `{how}`")
    if "training_pictures" in mine:
        mine["set"] = [f"{task}, {count:,} pictures" for task, count in zip(mine.task, mine.training_pictures)]
    return mine


def gain_of(logs: pandas.Series) -> Gain:
    """The gain of log(plain / ours) by seed."""
    return Gain(*estimate(logs.dropna().to_numpy()))


def gain_over(plain: pandas.Series, ours: pandas.Series) -> Gain:
    """The gain of the seeds that both have."""
    with np.errstate(divide="ignore"):  # where a run diverged
        return gain_of(np.log(plain / ours))


def by_set(table: pandas.DataFrame) -> list[tuple[str, pandas.DataFrame]]:
    """Each set's name and rows: by task, and of one task the smaller sets first."""
    return sorted(table.groupby("set", sort=False), key=lambda each: (each[0].partition(",")[0], len(each[0]), each[0]))


def by_seed_and_set(rows: pandas.DataFrame, method: str, value: str) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Plain fine-tuning's and a method's values, a row for each seed and a column for each set: the sets that both have, the seeds that have all of these."""
    plain, ours = (rows[rows.method == name].pivot_table(index="seed", columns="set", values=value) for name in (BASELINE, method))
    sets = plain.columns.intersection(ours.columns)
    plain, ours = plain[sets].dropna(), ours[sets].dropna()
    seeds = plain.index.intersection(ours.index)
    return plain.loc[seeds], ours.loc[seeds]


def mean_gain(table: pandas.DataFrame, method: str, guidance: str, step: int, score: str = "fid") -> Gain:
    """The mean of `paired_gain` over the sets that the method has, seed by seed, of the seeds that have all of them."""
    here = table[(table.guidance == guidance) & (table.step == step) & (table.split == "test")]
    return _over_sets(here.assign(log=np.log(here[score])), method)


def mean_loss_gain(losses: pandas.DataFrame, method: str, data: str, step: int) -> Gain:
    """The same of `loss_gain`."""
    here = losses[(losses.data == data) & (losses.step == step)]
    return _over_sets(here.assign(log=np.log(here.after)), method)


def _over_sets(rows: pandas.DataFrame, method: str) -> Gain:
    plain, ours = by_seed_and_set(rows, method, "log")
    return gain_of((plain - ours).mean(axis=1))


def mean_lower(gains: Iterable[Gain]) -> float:
    """`lower` of the mean of several gains."""
    return Gain(float(np.mean([gain.mean for gain in gains])), float("nan"), 1).lower


def by_seed(table: pandas.DataFrame, method: str, score: str = "fid", split: str = "test") -> pandas.DataFrame:
    """One method's scores against a split, of one set's rows: a row for each seed, a column for each (guidance, step)."""
    mine = table[(table.method == method) & (table.split == split)]
    return mine.pivot_table(index="seed", columns=["guidance", "step"], values=score)


def at_mark(scores: pandas.DataFrame, guidance: str, step: int) -> pandas.Series:
    """One column of `by_seed`, empty where nothing has been measured."""
    return scores[guidance, step].dropna() if (guidance, step) in scores else scores.iloc[:0].sum(axis=1)


def paired_gain(table: pandas.DataFrame, method: str, guidance: str, step: int, score: str = "fid") -> Gain:
    """Gain over plain fine-tuning at the same guidance and step, of one set's rows."""
    return gain_over(*(at_mark(by_seed(table, name, score), guidance, step) for name in (BASELINE, method)))


def best_setting(table: pandas.DataFrame, method: str, score: str = "fid") -> tuple[str, int]:
    """The (guidance, step) of a method's lowest mean score on the validation split, of one set's rows."""
    guidance, step = settings(table, method, score).idxmin()
    return guidance, int(step)


def settings(table: pandas.DataFrame, method: str, score: str = "fid") -> pandas.Series:
    """A method's mean score on the validation split by (guidance, step), of one set's rows.

    Only settings that the most seeds have compete, and Domain Guidance does not.
    """
    scores = by_seed(table[~table.guidance.str.startswith(BY_SOURCE)], method, score, split="validation")
    return scores.loc[:, scores.count() == scores.count().max()].mean()


def gain_at_own_best(table: pandas.DataFrame, method: str, score: str = "fid") -> Gain:
    """Gain over plain fine-tuning on the test split, each at the guidance and step that suit it best on the validation split."""
    return gain_over(*(at_mark(by_seed(table, name, score), *best_setting(table, name, score)) for name in (BASELINE, method)))


def gain_at_the_data_end(replacement: pandas.DataFrame, method: str, score: str = "fid", *, beyond_null: bool = False) -> Estimate:
    """What a method's samples gain when the source model takes over their last reverse steps, of one set's rows.

    How many steps, from none to the fraction `DATA_END`, is chosen on the other seeds: a fraction chosen on the seed that it is
    then judged on would look better than it is.  The source model knows neither class
    nor guidance; `beyond_null` subtracts what the tuned model's own null label gains in the same way, which is due to
    their absence.  What is left has been lost at the data end, as far as the score sees it.
    """
    rows = replacement[(replacement.method == method) & (replacement.fraction <= DATA_END)]
    whole = rows[rows.fraction == 0].groupby("seed")[score].first()

    def gains(by: str) -> pandas.Series:
        scores = rows[rows.by == by].pivot_table(index="seed", columns="fraction", values=score)
        scores[0.0] = whole  # nobody takes over nothing, so the table has it once
        return (whole - _best_by_others(scores)) / whole

    found = gains("source") - gains("own null label") if beyond_null else gains("source")
    return estimate(found.dropna().to_numpy())


def _best_by_others(scores: pandas.DataFrame) -> pandas.Series:
    """Each row's score in the column that is best on the mean of the other rows; nothing where there are no others."""
    found = scores.iloc[:0].sum(axis=1)
    for seed in scores.index if len(scores) > 1 else []:
        found[seed] = scores.loc[seed, scores.drop(seed).mean().idxmin()]
    return found


def loss_gain(losses: pandas.DataFrame, method: str, data: str, step: int) -> Gain:
    """Gain over plain fine-tuning in the loss on held-out "target" or "source" pictures, of one set's rows.

    The loss is the geometric mean over the tenths of the chain.  Unlike a distance between sets of pictures it cannot
    be lowered by repeating training pictures.
    """
    here = losses[(losses.data == data) & (losses.step == step)].assign(log=lambda rows: np.log(rows.after))
    return gain_over(*(np.exp(here[here.method == name].groupby("seed").log.mean()) for name in (BASELINE, method)))


def verdict(gain: Gain) -> str:
    """In words, what a gain with its interval allows to say."""
    if not gain.has_interval:
        return SAYS_NOTHING[gain.seeds]
    if gain.mean - gain.half_width > 0:
        return f"better than plain, by {AIM:.0%} or more" if gain.lower >= AIM else f"better than plain, by less than {AIM:.0%}"
    return "worse than plain" if gain.mean + gain.half_width < 0 else "undecided: the interval holds 0"


def lower_or_higher(share: float) -> str:
    """Of a share by which something is lower: "12 % lower", "3 % higher", "the same in the mean", or from twice plain fine-tuning's on "2.9 times plain's"."""
    if share <= -1:
        return f"{1 - share:.2g} times plain's"
    percent = f"{abs(100 * share):.0f} %"
    return "the same in the mean" if percent == "0 %" else f"{percent} {'lower' if share > 0 else 'higher'}"


class Trend(Estimate):
    """Spearman's rank correlation, over seeds."""

    @property
    def verdict(self) -> str:
        if not self.has_interval:
            return SAYS_NOTHING[self.seeds]
        if self.mean - self.half_width > 0:
            return "rises"
        return "falls" if self.mean + self.half_width < 0 else "no trend"

    def __str__(self) -> str:
        return f"rank correlation {self.mean:+.2f} ± {self.half_width:.2f} over {self.seeds} seeds: {self.verdict}"


def trend(table: pandas.DataFrame, place: str, value: str) -> Trend:
    """Does `value` rise with `place` (a timestep, a number of pictures)?  One rank correlation for each seed, 0 where nothing changes; their mean and interval."""
    from scipy.stats import spearmanr

    by_seed = [rows for _, rows in table.groupby("seed")]
    correlations = np.array([spearmanr(rows[place], rows[value]).statistic if rows[value].nunique() > 1 else 0.0 for rows in by_seed])
    return Trend(*estimate(correlations))
