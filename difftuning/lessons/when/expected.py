"""What was written down before these runs (data/results/expected.md, expected_methods.md), and what came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Mapping

from ...studies.gains import Gain, estimate
from ...studies.grid import FEW, SOME
from ..expectations import decided, expectations_table
from ..knobs import KNOBS, compared
from ..numerals import listed
from ..parts import ALIKE, BETTER, SAME, STEPS, WORSE, Parts, change_in_words, mean_saved, new_samples
from .answers import size_trend
from .branches import LITTLE, MOST, Split
from .index import known_before
from .runs import GUIDED, NEW, OURS, TASKS, by_pictures

if TYPE_CHECKING:
    import pandas

FORETOLD_TAU = (0.5, 1)


def expected(gains: pandas.DataFrame, sweeps: Parts, errors: pandas.DataFrame, branches: Iterable[Split] = ()) -> pandas.DataFrame:
    """A row for each prediction: was it right, and what was found.  `errors`: of `prediction_errors`; `branches`: of `splits`."""
    best = {family: _best_tau(sweeps, values) for family, values in KNOBS["tau"].lines.items()}
    other = {value: set(words) != {SAME} for value, words in compared(sweeps, "bank size").items() if float(value) >= 100}
    most = {knob: compared(sweeps, knob).get(value, ("–", "–")) for knob, value in (("bank share", "0.4"), ("bank weight", "1"))}
    trades = {knob: new == WORSE and old == BETTER for knob, (new, old) in most.items()}
    trends = {task: size_trend(gains, task, NEW) for task in TASKS}
    shoes = {pictures: Gain(*one) for pictures, one in by_pictures(gains, "footwear", GUIDED).items() if pictures in (2000, 10_000)}
    told = known_before(errors) in ("index", "both")
    rows = {
        "a tau from 0.5 to 1 is best in both families": (
            _right_tau(sweeps, best), ", ".join(_told_tau(sweeps, family, tau) for family, tau in best.items())),
        "from 100 on the bank's size does not matter": (
            not any(other.values()), ", ".join(f"{'another' if moved else 'the same'} at {value}" for value, moved in other.items())),
        "more share or weight: worse new samples, more of the old kept": (
            all(trades.values()), ", ".join(f"{'true' if so else 'false'} for the {knob}" for knob, so in trades.items())),
        "the gain in loss on new pictures falls with their number": (
            set(trends.values()) == {"falls"}, ", ".join(f"{trend} ({task})" for task, trend in trends.items())),
        "the gain in samples is smaller with 10,000 shoes than with 2,000": (
            _smaller(gains), listed(f"lower by {gain.percent} with {pictures:,}" for pictures, gain in shoes.items())),
        "the index does not tell the gain in samples": (None if told else True, "it does better than the mean, on two tasks" if told else "no better than the mean"),
    }  # fmt: skip
    return expectations_table(rows | of_branches(branches))


def _smaller(gains: pandas.DataFrame) -> bool | None:
    """Is the gain in guided samples smaller with 10,000 shoes than with 2,000?  Asked seed by seed; None where that is not clear."""
    mine = gains[(gains.task == "footwear") & (gains.measure == GUIDED) & (gains.steps == STEPS)]
    by_seed = mine.pivot_table(index="seed", columns="pictures", values="gain").reindex(columns=[2000, 10_000])
    return decided(estimate((by_seed[2000] - by_seed[10_000]).dropna().to_numpy()))


def of_branches(branches: Iterable[Split]) -> dict[str, tuple[bool, str]]:
    """What was expected of the null branch of a model without a bank, where it was run."""
    found = {one.set_name: one for one in branches if one.null_without_bank.seeds}
    shoes, digits = (found.get(f"{task}, {pictures:,} pictures") for task, pictures in (SOME, FEW))
    rows = {}
    if shoes:
        half = "on 2,000 shoes the null branch of a model without a bank brings half of what Diff-Tuning's brings"
        rows[half] = LITTLE <= shoes.share_without_bank < MOST, _null_branches(shoes)
    if digits:
        helps = max(digits.null.mean, digits.null_without_bank.mean) > ALIKE
        rows["on 200 digits no null branch helps"] = not helps, _null_branches(digits)
    return rows


def _null_branches(one: Split) -> str:
    return f"Diff-Tuning's {change_in_words(one.null)}, that without a bank {change_in_words(one.null_without_bank)}"


def _right_tau(parts: Parts, best: Mapping[str, float]) -> bool | None:
    """None where a value elsewhere has the lowest mean, and is not clearly better than the default."""
    elsewhere = {family: tau for family, tau in best.items() if tau not in FORETOLD_TAU}
    return not elsewhere or (False if any(_clearly_better(parts, *one) for one in elsewhere.items()) else None)


def _clearly_better(parts: Parts, family: str, tau: float) -> bool:
    values = KNOBS["tau"].lines[family]
    return new_samples(parts, values[tau], values[1]) == BETTER


def _told_tau(parts: Parts, family: str, tau: float) -> str:
    sure = tau in FORETOLD_TAU or _clearly_better(parts, family, tau)
    return f"{tau:g}{'' if sure else ', not clearly better than 1'} ({family})"


def _best_tau(parts: Parts, values: dict[float, str]) -> float:
    """The value with the best samples, mean over sets and ways of guidance."""
    held = [tau for tau, method in values.items() if parts.present([method])]
    return max(held, key=lambda tau: mean_saved(parts, values[tau], OURS).mean)
