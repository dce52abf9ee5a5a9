"""What the runs of lesson 07 answer, in words that follow the tables."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Sequence

import numpy as np

from ...studies.gains import Gain
from ..expectations import expectations_table
from ..numerals import all_of, listed, numeral, out_of
from ..parts import (
    ALIKE,
    BETTER,
    GUIDANCES,
    KEPT,
    SAME,
    UNCLEAR,
    Parts,
    in_a_word,
    log_score,
    mean_avoided,
    mean_saved,
    ratio,
    rise_avoided,
)
from .effects import HARMED, HELPED, LEAST_RISE, TRADE, UNCHANGED, beside_full, less, measured, pair, with_diff_tuning
from .learning import forgets_less_at_equal_loss
from .variants import FULL

if TYPE_CHECKING:
    import pandas

    from ..tuning.plane import Study

HOW_MANY = ("all of them", "more than half of them", "half of them or fewer", "none of them")
SAVED = {"less than a quarter": 0.25, "about half": 0.75, "more than three quarters": np.inf}  # up to


def helped_in_words(parts: Parts) -> str:
    """Which of `HOW_MANY` adapters Diff-Tuning helps."""
    count, total = len(_judged(parts, HELPED)), len(measured(parts))
    return HOW_MANY[0] if count == total else HOW_MANY[3] if not count else HOW_MANY[1] if 2 * count > total else HOW_MANY[2]


def saved_in_words(share: float) -> str:
    """Which of `SAVED` a share of the memory is."""
    return next(words for words, most in SAVED.items() if share < most)


def verdicts(parts: Parts) -> pandas.DataFrame:
    """A row for all weights and each adapter, in words: alone beside plain tuning of all weights, and what Diff-Tuning adds."""
    import pandas

    alone, added = "alone, beside plain tuning of all weights", "with Diff-Tuning, beside the same without"
    rows = {}
    for name in [FULL, *measured(parts)]:
        own = ("–", "–") if name == FULL else beside_full(parts, name)
        then = with_diff_tuning(parts, name)
        rows[name] = {
            (alone, "new samples"): own[0], (alone, "old pictures"): own[1],
            (added, "new samples"): then.new, (added, "old pictures"): then.old, (added, "so"): then.verdict,
        }  # fmt: skip
    return pandas.DataFrame(rows).T.replace(SAME, UNCLEAR)


def forgets_less(parts: Parts) -> list[str]:
    """The adapters that, alone, keep old pictures better than plain tuning of all weights."""
    return [name for name in measured(parts) if beside_full(parts, name).old == BETTER]


def avoided_in_words(parts: Parts) -> str:
    """How much of the forgetting the adapters avoid by themselves; beside it, Diff-Tuning of all weights."""
    names = measured(parts)
    shares = {name: _avoided(parts, name) for name in [*names, "Diff-Tuning"]}
    mean = float(np.mean([shares[name] for name in names]))
    least, most = (pick(names, key=shares.__getitem__) for pick in (min, max))
    return (
        f"By our rule, of the rise in the loss on old pictures under plain tuning of all weights, an adapter alone avoids {100 * mean:.0f} % on average, "
        f"{least} the least and {most} the most. Diff-Tuning of all weights avoids {100 * shares['Diff-Tuning']:.0f} %."
    )


def small_rises_in_words(parts: Parts) -> str:
    """Where the loss on old pictures is higher with Diff-Tuning than without, and yet too little to count; nothing where that is nowhere."""
    more = _small_rises(parts)
    if not more:
        return ""
    names, tasks = _in_which(parts, more)
    return (
        f"On {' and '.join(tasks)} Diff-Tuning lets the loss on old pictures rise a little further with {numeral(len(names))} of the "
        f"adapters, by {100 * max(more.values()):.1f} % at most: too little to count by our rule."
    )


def gains_in_words(parts: Parts) -> str:
    """Markdown, one bold sentence: by how much Diff-Tuning lowers the adapters' Frechet distance, and with how many clearly, for each guidance."""
    told = []
    for guidance in reversed(GUIDANCES):
        gains = [mean_saved(parts, *reversed(pair(name)), guidances=[guidance]) for name in measured(parts)]
        clear = [in_a_word([gain], ALIKE) for gain in gains].count(BETTER)
        least, most = (Gain(*pick(gains, key=lambda gain: gain.mean)).lower for pick in (min, max))
        told.append(f"{100 * least:.0f} to {100 * most:.0f} % at guidance {guidance}, clearly with {_all_of(clear, gains)}")
    return f"**Diff-Tuning lowers the adapters' Frechet distance by {'; by '.join(told)}.**"


def _small_rises(parts: Parts) -> dict[tuple[str, str], float]:
    """By how much more the loss on old pictures rises with Diff-Tuning, where that is too little to count: (adapter, task) -> change."""

    def alike(task: str, name: str) -> bool:
        return in_a_word([rise_avoided(parts, task, *reversed(pair(name)), least=LEAST_RISE)], KEPT) == SAME

    changes = {
        (name, task): float(np.subtract(*(ratio(parts, task, "source", method) for method in reversed(pair(name)))))
        for name, task in itertools.product(measured(parts), parts.tasks)
        if alike(task, name)
    }
    return {which: change for which, change in changes.items() if change > 0}


def _in_which(parts: Parts, more: dict[tuple[str, str], float]) -> tuple[list[str], list[str]]:
    """The adapters and the sets that are among the keys."""
    names, tasks = ([each for each in all_ if each in set(which)] for all_, which in zip((measured(parts), parts.tasks), zip(*more)))
    return names, tasks


def guidance_in_words(parts: Parts) -> str:
    """What guidance does to the adapters' samples, without Diff-Tuning and with it."""
    alone, tuned = (f"{100 * abs(gain):.0f} %{' more' if gain < 0 else ' less'}" for gain in guidance_gains(parts))
    return (
        f"With guidance {GUIDANCES[1]} in place of {GUIDANCES[0]}, the adapters' Frechet distance is, on average over adapters and sets, {alone} "
        f"without Diff-Tuning and {tuned} with it."
    )


def guidance_gains(parts: Parts) -> list[float]:
    """By which share guidance lowers the adapters' distances: the mean over adapters and sets, without Diff-Tuning and with it."""
    gains = []
    for methods in zip(*map(pair, measured(parts))):
        unguided, guided = (
            np.mean([log_score(parts, task, method, guidance).mean for task in parts.tasks for method in methods]) for guidance in GUIDANCES
        )
        gains.append(float(1 - np.exp(guided - unguided)))
    return gains


def answer_in_words(parts: Parts, study: Study) -> str:
    """The lesson's answer in Markdown: one bold sentence, which speaks of adapters alone and of Diff-Tuning on top."""
    return f"**{_alone(parts, study)}; {_on_top(parts)}.**"


def _alone(parts: Parts, study: Study) -> str:
    names, kept = measured(parts), forgets_less(parts)
    if not kept:
        return f"Training few weights does not prevent forgetting by itself: {out_of(0, len(names), 'adapters')} forgets less than tuning all weights"
    amount = "much" if np.mean([_avoided(parts, name) for name in names]) > 0.5 else "some"
    equal = [name for name in forgets_less_at_equal_loss(parts, study) if name in kept]
    paid = [name for name in kept if less(beside_full(parts, name).new)]
    learned = "even" if equal == kept else f"{numeral(len(equal))} of them even" if equal else "but none of them"
    drawn = f"but {numeral(len(paid))} of them {_verb(paid, 'draw')}" if paid else "and none draws"
    drawn = drawn if paid != kept else "but each draws" if len(kept) > 1 else "but it draws"
    return (
        f"Training few weights prevents {amount} of the forgetting: {out_of(len(kept), len(names), 'adapters')} {_verb(kept, 'forget')} less than tuning "
        f"all weights, {learned} where as much is learned by the loss on new pictures, {drawn} worse new samples"
    )


def _on_top(parts: Parts) -> str:
    names = measured(parts)
    counts = {verdict: len(_judged(parts, verdict)) for verdict in (HELPED, TRADE, UNCHANGED, HARMED)}
    said = {HELPED: "helps {}", TRADE: "is a trade for {}", UNCHANGED: "makes no difference to {}", HARMED: "harms {}"}
    said = [said[verdict].format(_all_of(count, names)) for verdict, count in counts.items() if count or verdict == HELPED]
    still = "still " if counts[HELPED] else ""
    more = _small_rises(parts) if counts[HELPED] else {}
    few, tasks = _in_which(parts, more) if more else ([], [])
    spared = f" by our rule, though on {' and '.join(tasks)} {numeral(len(few))} {_verb(few, 'keep')} a little less" if few else ""
    return f"Diff-Tuning on top {still}{listed(said)}{spared}"


def expected(parts: Parts) -> pandas.DataFrame:
    """What was written down before any run (data/results/expected_methods.md), and what came."""
    names = measured(parts)
    gained = {name: _gain(parts, *reversed(pair(name))) for name in [FULL, *names]}
    by_score = sorted(names, key=lambda name: -_gain(parts, name, "plain"))
    first, last = {"DiffFit", "AdaptFormer, sequential", "AdaptFormer, parallel"}, {"VPT-Deep", "LoRA, rank 8", "LoRA, rank 16"}
    rows = {
        "Diff-Tuning helps every adapter": _all([with_diff_tuning(parts, name).verdict == HELPED for name in names]),
        "the samples of every adapter gain less by it than those of all weights do": _all([gained[name] < gained[FULL] for name in names]),
        "alone, DiffFit and AdaptFormer have the best samples": (set(by_score[:3]) == first, ", ".join(by_score[:3])),
        "alone, VPT-Deep and LoRA have the worst": (set(by_score[-3:]) == last, ", ".join(by_score[-3:])),
        "on 200 digits every adapter, alone, has samples as good as Diff-Tuning of all weights": _all(
            [_gain(parts, name, "Diff-Tuning", ["digits"]) > -ALIKE for name in names]
        ),
    }  # fmt: skip
    return expectations_table(rows)


def _all(truths: list[bool]) -> tuple[bool, str]:
    count, total = sum(truths), len(truths)
    return all(truths), all_of(count, total) if all(truths) else f"{numeral(count)} of the {numeral(total)}"


def _judged(parts: Parts, verdict: str) -> list[str]:
    return [name for name in measured(parts) if with_diff_tuning(parts, name).verdict == verdict]


def _avoided(parts: Parts, method: str) -> float:
    return mean_avoided(parts, method, "plain", LEAST_RISE).mean


def _gain(parts: Parts, method: str, other: str, tasks: Sequence[str] = ()) -> float:
    """log(other's distance / the method's), the mean over sets and ways of guidance."""
    return mean_saved(parts, method, other, tasks).mean


def _all_of(count: int, names: Sequence[str]) -> str:
    return all_of(count, len(names)) if count else "none of them"


def _verb(subjects: Sequence[str], verb: str) -> str:
    return f"{verb}s" if len(subjects) == 1 else verb
