"""What lesson 07 says of its tables in plain prose: each claim, and whether they bear it out."""

from __future__ import annotations

import itertools
from typing import Callable

import numpy as np

from ..parts import ALIKE, GUIDANCES, KEPT, SAME, Parts, distance_saved, in_a_word, ratio, score
from ..tuning.plane import SAMPLES, Study, View
from .answers import expected, guidance_gains
from .effects import LEAST_RISE, measured, pair
from .learning import at_equal_loss, at_equal_samples

SHOES, DIGITS = "footwear", "digits"
AS_GOOD = ("LoRA, rank 8", "LoRA, rank 16", "AdaptFormer, sequential", "AdaptFormer, parallel")  # with Diff-Tuning, as all weights plainly
BEHIND = ("BitFit", "DiffFit", "VPT-Deep")  # LoRA's samples are better


def unfounded(parts: Parts, study: Study) -> list[str]:
    """The claims that do not hold; none, if the lesson may stay as it is."""
    return [claim for claim, holds in CLAIMS.items() if not holds(parts, study)]


def _levels(parts: Parts, study: Study, task: str) -> list:
    return [at_equal_loss(parts, study, task, name) for name in measured(parts)]


def _new_loss(parts: Parts, method: str) -> float:
    return ratio(parts, SHOES, "target", method)


def _lowered(parts: Parts, guidance: str) -> float:
    """By which share Diff-Tuning lowers the adapters' distances: the mean over adapters and sets."""
    saved = [distance_saved(parts, task, *reversed(pair(name)), guidance).mean for name in measured(parts) for task in parts.tasks]
    return float(1 - np.exp(-np.mean(saved)))


def _everywhere(parts: Parts, better: str, worse: str, factor: float = 1) -> bool:
    """Are one method's distances below another's, in every set and under both ways of guidance?"""
    return all(
        score(parts, task, better, way).mean < factor * score(parts, task, worse, way).mean for task in parts.tasks for way in GUIDANCES
    )


def _guided_shoes_are_as_good(parts: Parts, study: Study) -> bool:
    gains = [distance_saved(parts, SHOES, pair(name)[1], "plain", "1.5") for name in AS_GOOD]
    kept = all(ratio(parts, SHOES, "source", pair(name)[1]) < 1.05 for name in AS_GOOD)
    return kept and all(gain.mean > ALIKE and in_a_word([gain], ALIKE) == SAME for gain in gains)


CLAIMS: dict[str, Callable[[Parts, Study], bool]] = {
    "5 %, a tenth, 5 %": lambda parts, study: (ALIKE, KEPT, LEAST_RISE) == (0.05, 0.1, 0.05),
    "guidance lowers the distance hardly without Diff-Tuning, and by far more with it": lambda parts, study: (
        -0.1 < guidance_gains(parts)[0] < 0.1 < 0.3 < guidance_gains(parts)[1]
    ),
    "with all weights on digits guidance makes samples worse with Diff-Tuning, and better without": lambda parts, study: (
        score(parts, DIGITS, "Diff-Tuning", "1.5").mean > (1 + ALIKE) * score(parts, DIGITS, "Diff-Tuning", "1").mean
        and score(parts, DIGITS, "plain", "1.5").mean < (1 - ALIKE) * score(parts, DIGITS, "plain", "1").mean
    ),
    "Diff-Tuning lowers the adapters' distance far at guidance 1.5, and a little at 1": lambda parts, study: (
        _lowered(parts, "1") < 0.2 and _lowered(parts, "1.5") > 0.4
    ),
    "on footwear plain tuning reaches the loss of every adapter on new pictures": lambda parts, study: all(
        level.reached for level in _levels(parts, study, SHOES)
    ),
    "which lies between its losses after 120 and after 400 steps": lambda parts, study: all(
        _new_loss(study.at[400], "plain") < _new_loss(parts, name) < _new_loss(study.at[120], "plain") for name in measured(parts)
    ),
    "plain tuning was measured after five numbers of steps": lambda parts, study: sorted(study.at) == [120, 400, 800, 1600, 3200],
    "by samples, plain tuning forgets more than twice as much as those adapters with Diff-Tuning that can be compared": lambda parts, study: (
        all(
            level is None or level.rise < 0.5 * level.plain
            for task in parts.tasks
            for name in measured(parts)
            for level in [at_equal_samples(parts, study, View(task, SAMPLES), pair(name)[1])]
        )
    ),
    "on digits it reaches that of none": lambda parts, study: not any(level.reached for level in _levels(parts, study, DIGITS)),
    "alone, every adapter draws worse than plain tuning of all weights": lambda parts, study: all(
        _everywhere(parts, "plain", name) for name in measured(parts)
    ),
    "and worse than that has drawn after 400 steps, the first at which samples were drawn": lambda parts, study: all(
        score(study.at[400], task, "plain", way).mean < score(parts, task, name, way).mean
        for task, way, name in itertools.product(parts.tasks, GUIDANCES, measured(parts))
    ),
    "on footwear LoRA and AdaptFormer forget 1 to 4 % with Diff-Tuning": lambda parts, study: (
        {round(100 * (ratio(parts, SHOES, "source", pair(name)[1]) - 1)) for name in AS_GOOD} <= {1, 2, 3, 4}
    ),
    "guided shoes of LoRA and AdaptFormer with Diff-Tuning are better in the mean, perhaps by chance, and hardly anything is forgotten": (
        _guided_shoes_are_as_good
    ),
    "after 120 steps plain tuning of all weights has already forgotten more than any adapter": lambda parts, study: all(
        ratio(study.at[120], task, "source", "plain") > ratio(parts, task, "source", name)
        for task in parts.tasks
        for name in measured(parts)
    ),
    "by Diff-Tuning no adapter gains less in samples than all weights": lambda parts, study: (
        expected(parts).found.iloc[1].startswith("none of")
    ),
    "only one of the written predictions was right": lambda parts, study: expected(parts).right.tolist() == ["yes"] + ["no"] * 4,
    "Diff-Tuning of all weights keeps more of the old, yet less than any adapter with it": lambda parts, study: all(
        ratio(parts, task, "source", name) < ratio(parts, task, "source", "Diff-Tuning") < ratio(parts, task, "source", "plain")
        for task in parts.tasks
        for name in measured(parts)
    ),
    "DiffFit draws as BitFit does": lambda parts, study: all(
        _everywhere(parts, one, other, 1 + ALIKE) for one, other in itertools.permutations(("BitFit", "DiffFit"))
    ),
    "LoRA draws better than BitFit, DiffFit and VPT": lambda parts, study: all(
        _everywhere(parts, name, other) for name in ("LoRA, rank 8", "LoRA, rank 16") for other in BEHIND
    ),
}
