"""What was written down before the pilot and before the study of baselines (expected.md, expected_methods.md in data/results), and what came.

Each function gives its predictions in the order of the file: what was said -> (was it right, what was found).  None: the runs for it are not made yet.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Iterable, Mapping

import numpy as np

from .gains import BASELINE, at_mark, by_seed, gain_at_own_best, loss_gain, lower_or_higher, mean_lower, paired_gain
from .grid import FEW, SETS
from .premise import criterion_ratios, unmet

if TYPE_CHECKING:
    import pandas

Found = Mapping[str, tuple[bool | None, str]]

OURS, GUIDED, DOMAIN = "Diff-Tuning", "1.5", "domain 1.5"
ALONE, RETENTION, OWN_LABELS = "reconsolidation only", "retention only", "Diff-Tuning, own labels"
SMALL, LARGE = ([f"{task}, {count:,} pictures" for task, count in SETS if (count < 1000) == few] for few in (True, False))
SHOES = [f"footwear, {count:,} pictures" for count in (2000, 10_000)]
NOT_RUN = (None, "not run yet")
RIGHT = {True: "yes", False: "no", None: "–"}  # how a table says it


def pilot_found(table: pandas.DataFrame, losses: pandas.DataFrame, parts: pandas.DataFrame) -> Found:
    """`table`, `losses`: the pilot; `parts`: scores of the study of that name, which has the controls."""
    last = 1600  # the last step that all sets are scored at
    sets = {name: (table[table.set == name], losses[losses.set == name]) for name in [*LARGE, *SMALL]}
    guided, free = ({name: 100 * paired_gain(mine, OURS, way, last).lower for name, (mine, _) in sets.items()} for way in (GUIDED, "1"))
    own_best = {name: 100 * gain_at_own_best(mine, OURS).lower for name, (mine, _) in sets.items()}
    source = {name: 100 * loss_gain(of_losses, OURS, "source", last).lower for name, (_, of_losses) in sets.items()}
    few = {name: _worst_at_the_data_end(losses[losses.set == name], last) for name in SMALL}
    copied = {name: _copied(table[table.set == name], last) for name in SMALL}
    missed = unmet(criterion_ratios(losses))
    return {
        "the premise: little falls near the data, 35 % or more near the noise, on both tasks": (not missed, "; ".join(missed) or "met"),
        "many pictures, guidance 1.5: the distance is 5 to 20 % lower": (all(5 <= guided[name] <= 20 for name in LARGE), _each(guided, LARGE)),
        "many pictures, without guidance: less than 10 % between the two": (all(abs(free[name]) < 10 for name in LARGE), _each(free, LARGE)),
        "10,000 shoes gain less than 2,000": (guided[SHOES[1]] < guided[SHOES[0]], _each(guided, SHOES)),
        "few pictures: plain tuning raises the loss near the data, Diff-Tuning by 20 % at most": (
            all(plain > 1 and ours <= 1.2 for plain, ours in few.values()),
            ", ".join(f"to {plain:.1f} and {ours:.1f} times ({_short(name)})" for name, (plain, ours) in few.items())),
        "few pictures: fewer copies": (
            all(ours < plain for plain, ours in copied.values()),
            ", ".join(f"{plain:.1%} and {ours:.1%} ({_short(name)})" for name, (plain, ours) in copied.items())),
        "the loss on old pictures is lower by 20 % or more on every set": (min(source.values()) >= 20, _each(source)),
        "reconsolidation alone brings at most half of the gain": _half_alone(sets, guided, last),
        "retention alone keeps the old pictures as well, and no more": _retention(sets, last),
        "own labels do better than null labels under guidance": _own_labels(sets, guided, last),
        "Domain Guidance gives plain tuning a part of what Diff-Tuning gains": _domain(sets, last),
        "each at its own best, the gain is about half": (
            all(0.25 <= own_best[name] / guided[name] <= 0.75 for name in sets), f"{_each(own_best)}, for {_each(guided)} at guidance 1.5"),
        "swapped weightings and a bank of noise are worse than plain tuning": _controls(parts),
    }  # fmt: skip


def _each(percent: Mapping[str, float], names: Iterable[str] | None = None) -> str:
    return ", ".join(f"{percent[name]:z.0f} % ({_short(name)})" for name in names or percent)


def _short(name: str) -> str:
    """A set's name without a word that all of them have."""
    return name.replace(" pictures", "")


def _worst_at_the_data_end(losses: pandas.DataFrame, step: int) -> tuple[float, float]:
    """The highest loss after / before in the first three tenths, for plain fine-tuning and for Diff-Tuning."""
    rows = losses[(losses.data == "target") & (losses.step == step) & (losses.tenth <= 3)]
    ratio = (rows.after / rows.before).groupby([rows.method, rows.tenth]).mean()
    return float(ratio[BASELINE].max()), float(ratio[OURS].max())


def _copied(table: pandas.DataFrame, step: int) -> tuple[float, float]:
    shares = table[(table.step == step) & (table.guidance == GUIDED)].groupby("method").copied.mean()
    return shares[BASELINE], shares[OURS]


def _guided(sets, method: str, step: int) -> dict[str, float]:
    """A method's gain at guidance 1.5 in per cent, on the sets on which it was run."""
    gains = {name: 100 * paired_gain(mine, method, GUIDED, step).lower for name, (mine, _) in sets.items()}
    return {name: gain for name, gain in gains.items() if not math.isnan(gain)}


def _half_alone(sets, guided: Mapping[str, float], step: int) -> tuple[bool | None, str]:
    alone = _guided(sets, ALONE, step)
    right = all(gain <= guided[name] / 2 for name, gain in alone.items())
    return (right, f"{_each(alone)}, for {_each(guided, alone)} with the bank") if alone else NOT_RUN


def _retention(sets, step: int) -> tuple[bool | None, str]:
    found = {}
    for name, (mine, losses) in sets.items():
        if RETENTION in set(mine.method):
            source = [100 * loss_gain(losses, method, "source", step).lower for method in (RETENTION, OURS)]
            found[name] = *source, 100 * paired_gain(mine, RETENTION, GUIDED, step).lower
    right = all(abs(alone - ours) < 5 and distance < 5 for alone, ours, distance in found.values())
    told = (
        f"old {alone:.0f} for {ours:.0f} %, distance {distance:.0f} % ({_short(name)})" for name, (alone, ours, distance) in found.items()
    )
    return (right, "; ".join(told)) if found else NOT_RUN


def _own_labels(sets, guided: Mapping[str, float], step: int) -> tuple[bool | None, str]:
    own = _guided(sets, OWN_LABELS, step)
    right = all(gain > guided[name] for name, gain in own.items())
    return (right, f"{_each(own)}, for {_each(guided, own)} with null labels") if own else NOT_RUN


def _domain(sets, step: int) -> tuple[bool, str]:
    """The distance under both ways of guidance; "a part": lower than plain at guidance 1.5, and not as low as Diff-Tuning there."""
    found = {}
    for name, (mine, _) in sets.items():
        scores = {method: by_seed(mine, method) for method in (BASELINE, OURS)}
        plain, domain = (at_mark(scores[BASELINE], way, step) for way in (GUIDED, DOMAIN))
        found[name] = [float(np.mean(each)) for each in (plain, domain, at_mark(scores[OURS], GUIDED, step))]
    right = all(ours < domain < plain for plain, domain, ours in found.values())
    return right, "; ".join(f"plain {p:.2f}, with it {d:.2f}, Diff-Tuning {o:.2f} ({_short(name)})" for name, (p, d, o) in found.items())


def _controls(parts: pandas.DataFrame) -> tuple[bool, str]:
    found = {
        f"{method}, {name}, guidance {way}": 100 * paired_gain(parts[parts.set == name], method, way, 800).lower
        for method in ("weightings swapped", "bank of noise")
        for name in parts.set.unique()
        for way in ("1", GUIDED)
    }
    better = {name: gain for name, gain in found.items() if gain > 0}
    return not better, f"{len(found) - len(better)} of {len(found)} are" + (f"; better: {_each(better)}" if better else "")


def baselines_found(table: pandas.DataFrame, losses: pandas.DataFrame) -> Found:
    """The study of baselines after 800 steps: scores at guidance 1.5, held-out losses, means over its sets."""
    step, names = 800, list(table.set.unique())

    def score(method: str, sets=names) -> float:
        return mean_lower(paired_gain(table[table.set == name], method, GUIDED, step) for name in sets)

    def loss(method: str, data: str, sets=names) -> float:
        return mean_lower(loss_gain(losses[losses.set == name], method, data, step) for name in sets)

    def told(*methods: str, what=score, **how) -> str:
        return ", ".join(f"{method} {lower_or_higher(what(method, **how))}" for method in methods)

    rivals = [method for method in table.method.unique() if method not in (BASELINE, OURS)]
    hard = {place: score(f"hard threshold {place}") for place in ("0.25", "0.5", "0.75")}
    kept = {method: loss(method, "source") for method in rivals}
    nearest = min(rivals, key=lambda method: abs(kept[method] - loss(OURS, "source")))
    few = [f"{FEW[0]}, {FEW[1]:,} pictures"]
    ours, prior, distilled, stopped = OURS, "prior preservation", "distillation", "early stopping"
    return {
        "of the old pictures prior preservation keeps as much as Diff-Tuning, nearest of all, with worse new samples": (
            nearest == prior and score(prior) < score(ours), f"nearest to Diff-Tuning is {nearest}; samples: {told(ours, prior)}"),
        "distillation does as well as replaying the bank": (
            abs(score(distilled) - score(ours)) < 0.05 and abs(loss(distilled, "source") - loss(ours, "source")) < 0.05,
            f"samples: {told(ours, distilled)}; old pictures: {told(ours, distilled, what=loss, data='source')}"),
        "L2-SP and EWC keep the old pictures at the price of the new": (
            all(kept[method] > 0.02 and loss(method, "target") < 0 for method in ("L2-SP", "EWC")),
            f"old: {told('L2-SP', 'EWC', what=loss, data='source')}; new: {told('L2-SP', 'EWC', what=loss, data='target')}"),
        "on 200 digits early stopping gains in loss on new pictures, and loses in distance": (
            loss(stopped, "target", few) > 0 > score(stopped, few),
            f"loss {lower_or_higher(loss(stopped, 'target', few))}, distance {lower_or_higher(score(stopped, few))}"),
        "P2 and Min-SNR change little": (max(abs(score(method)) for method in ("P2", "Min-SNR")) < 0.1, told("P2", "Min-SNR")),
        "hard thresholds are worse than the smooth schedule, 0.5 least so": (
            max(hard.values()) == hard["0.5"] < score(ours),
            ", ".join(f"{place} {lower_or_higher(gain)}" for place, gain in {"smooth": score(ours), **hard}.items())),
    }  # fmt: skip
