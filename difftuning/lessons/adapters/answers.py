"""What the runs of lesson 07 answer, in words that follow the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from ..parts import ALIKE, BETTER, GUIDANCES, Parts, distance_saved, loss_saved, rise_avoided
from .effects import HARMED, HELPED, TRADE, UNCHANGED, beside_full, less, measured, pair, with_diff_tuning
from .memory import FULL

if TYPE_CHECKING:
    import pandas

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")
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
    return pandas.DataFrame(rows).T


def forgets_less(parts: Parts) -> list[str]:
    """The adapters that, alone, keep old pictures better than plain tuning of all weights, in every set."""
    return [name for name in measured(parts) if beside_full(parts, name).old == BETTER]


def avoided_in_words(parts: Parts) -> str:
    """How much of the forgetting the adapters avoid by themselves; beside it, Diff-Tuning of all weights."""
    names = measured(parts)
    shares = {name: _avoided(parts, name) for name in [*names, "Diff-Tuning"]}
    mean = float(np.mean([shares[name] for name in names]))
    least, most = (pick(names, key=shares.__getitem__) for pick in (min, max))
    return (
        f"Of the rise in the loss on old pictures under plain tuning of all weights, an adapter alone avoids {100 * mean:.0f} % on average, "
        f"{least} the least and {most} the most. Diff-Tuning of all weights avoids {100 * shares['Diff-Tuning']:.0f} %."
    )


def answer_in_words(parts: Parts) -> str:
    """The lesson's answer in Markdown: one bold sentence, which speaks of adapters alone and of Diff-Tuning on top."""
    return f"**{_alone(parts)}; {_on_top(parts)}.**"


def _alone(parts: Parts) -> str:
    names, kept = measured(parts), forgets_less(parts)
    if not kept:
        return f"Training few weights does not prevent forgetting by itself: {_of(kept, names)} forgets less than tuning all weights"
    prevented = f"Training few weights prevents some forgetting: {_of(kept, names)} {_verb(kept, 'forget')} less than tuning all weights"
    paid = [name for name in kept if less(beside_full(parts, name).new)]
    if not paid:
        return f"{prevented}, at no cost to the new samples"
    payers = ("each" if len(kept) > 1 else "it") if len(paid) == len(kept) else f"{NUMBERS[len(paid)]} of them"
    return f"{prevented}, but {payers} {_verb(paid[:1] if payers in ('each', 'it') else paid, 'pay')} for it with worse new samples"


def _on_top(parts: Parts) -> str:
    names = measured(parts)
    counts = {verdict: len(_judged(parts, verdict)) for verdict in (HELPED, TRADE, UNCHANGED, HARMED)}
    said = {HELPED: "helps {}", TRADE: "is a trade for {}", UNCHANGED: "makes no difference to {}", HARMED: "harms {}"}
    *first, last = (said[verdict].format(_all_of(count, names)) for verdict, count in counts.items() if count or verdict == HELPED)
    still = "still " if counts[HELPED] else ""
    return f"Diff-Tuning on top {still}{' and '.join(filter(None, [', '.join(first), last]))}"


def undominated(parts: Parts) -> list[str]:
    """The methods, with and without Diff-Tuning, that no other beats in both new samples and old pictures; means over the sets."""
    methods = [method for name in [FULL, *measured(parts)] for method in pair(name)]
    sides = {method: (_gain(parts, method, "plain"), _kept(parts, method)) for method in methods}
    beaten = {one for one in methods for other in methods if other != one and all(b >= a for a, b in zip(sides[one], sides[other]))}
    return sorted((method for method in methods if method not in beaten), key=lambda method: -sides[method][0])


def choices_in_words(parts: Parts) -> str:
    """Markdown: `undominated`, from the best new samples to the best kept old pictures."""
    called = {"plain": f"{FULL}, plainly", "Diff-Tuning": f"{FULL} + Diff-Tuning"}
    first, *rest = (called.get(method, method) for method in undominated(parts))
    best = f"**{first}** has the best new samples on average over our two sets"
    if not rest:
        return f"{best}, and keeps most of the old, too."
    return f"{best}. Those that keep more of the old, each at the least cost to the new samples: {'; '.join(rest)}."


def expected(parts: Parts) -> pandas.DataFrame:
    """What was written down before any run (data/results/expected_methods.md), and what came."""
    import pandas

    names = measured(parts)
    gained = {name: _gain(parts, *reversed(pair(name))) for name in [FULL, *names]}
    by_score = sorted(names, key=lambda name: -_gain(parts, name, "plain"))
    first, last = {"DiffFit", "AdaptFormer, sequential", "AdaptFormer, parallel"}, {"VPT-Deep", "LoRA, rank 8", "LoRA, rank 16"}
    rows = {
        "Diff-Tuning helps every adapter": _all([with_diff_tuning(parts, name).verdict == HELPED for name in names]),
        "its samples gain less than those of all weights": _all([gained[name] < gained[FULL] for name in names]),
        "alone, DiffFit and AdaptFormer have the best samples": (set(by_score[:3]) == first, ", ".join(by_score[:3])),
        "alone, VPT-Deep and LoRA have the worst": (set(by_score[-3:]) == last, ", ".join(by_score[-3:])),
        "on 200 digits each, alone, has samples as good as Diff-Tuning of all weights": _all(
            [_gain(parts, name, "Diff-Tuning", ["digits"]) > -ALIKE for name in names]
        ),
    }  # fmt: skip
    return pandas.DataFrame({said: {"right": "yes" if right else "no", "found": found} for said, (right, found) in rows.items()}).T


def _all(truths: list[bool]) -> tuple[bool, str]:
    return all(truths), f"{NUMBERS[sum(truths)]} of {len(truths)}"


def _judged(parts: Parts, verdict: str) -> list[str]:
    return [name for name in measured(parts) if with_diff_tuning(parts, name).verdict == verdict]


def _avoided(parts: Parts, method: str) -> float:
    return float(np.mean([rise_avoided(parts, task, method, "plain").mean for task in parts.tasks]))


def _kept(parts: Parts, method: str) -> float:
    """log(loss on old pictures under plain tuning of all weights / under the method), the mean over sets."""
    return float(np.mean([loss_saved(parts, task, method, "plain").mean for task in parts.tasks]))


def _gain(parts: Parts, method: str, other: str, tasks: Sequence[str] = ()) -> float:
    """log(other's distance / the method's), the mean over sets and ways of guidance."""
    cells = [(task, guidance) for task in tasks or parts.tasks for guidance in GUIDANCES]
    return float(np.mean([distance_saved(parts, task, method, other, guidance).mean for task, guidance in cells]))


def _of(some: Sequence[str], names: Sequence[str]) -> str:
    """ "all seven adapters", "two of the seven adapters", ..."""
    total = NUMBERS[len(names)]
    if len(some) == len(names):
        return f"all {total} adapters"
    return f"{NUMBERS[len(some)]} of the {total} adapters"


def _all_of(count: int, names: Sequence[str]) -> str:
    return f"all {NUMBERS[count]}" if count == len(names) else NUMBERS[count] if count else "none of them"


def _verb(subjects: Sequence[str], verb: str) -> str:
    return f"{verb}s" if len(subjects) == 1 else verb
